"""The demo as its reader runs it: with `--once`, and until Ctrl-C."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.processes import START_S, Program, wait_until

pytestmark = pytest.mark.e2e

RUN_S = 60.0
STOP_S = 15.0
SERVED = re.compile(
    r"^61 of 61 requests answered over HTTP/3, by backend: blue (\d+), red (\d+)$", re.MULTILINE
)

Demo = Callable[..., Program]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Start the demo; whatever it has started itself is gone after the test."""
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        command = [sys.executable, "-m", "spooky", "demo", *arguments]
        started.append(Program("the demo", command, tmp_path / "demo.log"))
        return started[-1]

    yield start
    for program in started:
        # Spooky leads a session of its own, which the end of the demo's group does not reach.
        rest = below(program) if program.is_running() else []
        program.kill()
        for process in rest:
            if process.is_running():
                process.kill()


def below(program: Program) -> list[psutil.Process]:
    return psutil.Process(program.process.pid).children(recursive=True)


def check_served(log: str) -> None:
    served = SERVED.search(log)
    assert served, log
    assert int(served[1]) > 0
    assert int(served[2]) > 0
    assert int(served[1]) + int(served[2]) == 61


@pytest.mark.parametrize(("arguments", "variable"), [(["--once"], "0"), ([], "1"), ([], "true")])
def test_once(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str
) -> None:
    monkeypatch.setenv("DEMO_ONCE", variable)
    program = demo(*arguments)
    assert program.wait(RUN_S) == 0, program.log()
    check_served(program.log())
    assert "Ctrl-C" not in program.log()


def test_a_variable_that_says_neither_yes_nor_no(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_ONCE", "maybe")
    program = demo()
    assert program.wait(RUN_S) == 2
    assert "DEMO_ONCE is maybe in the environment: set it to 1 or 0" in program.log()


def test_an_interrupt_ends_it_and_all_that_it_started(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMO_ONCE", raising=False)
    program = demo()
    program.wait_until(lambda: "Ctrl-C to stop" in program.log(), START_S + RUN_S, "it serves")
    check_served(program.log())
    processes = below(program)
    # The master and two workers, at least.
    assert len(processes) >= 3, processes
    program.process.send_signal(signal.SIGINT)
    assert program.wait(STOP_S) == 0, program.log()
    wait_until(
        lambda: not any(process.is_running() for process in processes),
        STOP_S,
        f"none of {processes} is left",
    )
    assert "Traceback" not in program.log()
