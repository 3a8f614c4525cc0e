"""Starting the tiny master and waiting for what it does."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def wait_for(question: Callable[[], T | None], what: str, seconds: float = 15.0) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Master:
    """A master started in a process of its own, and its children as the system shows them."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        with (folder / "stdout").open("ab") as output, (folder / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.master.tiny", str(folder)],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def children(self) -> dict[str, int]:
        """Titles and pids of the processes under the master."""
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[" ".join(child.cmdline()).strip()] = child.pid
        return found

    def pids(self) -> set[int]:
        """All processes under the master: two of one title are one among its `children`."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return {child.pid for child in psutil.Process(self.pid).children()}
        return set()

    def says(self, text: str, times: int = 1) -> None:
        wait_for(lambda: self.stderr().count(text) >= times, f"{text!r} in:\n{self.stderr()}")

    def is_up(self) -> "Master":
        self.says("generation 1 serves")
        return self

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def ends(self, seconds: float = 15.0) -> int:
        return self.process.wait(seconds)


def configure(folder: Path, **settings: Any) -> None:
    draft = folder / "config.draft"
    draft.write_text(json.dumps(settings))
    draft.replace(folder / "config.json")


@contextlib.contextmanager
def master(
    folder: Path, environment: dict[str, str] | None = None, **settings: Any
) -> Iterator[Master]:
    """Run a master for a while; none of its processes outlives the block."""
    settings.setdefault("ports", [free_port()])
    configure(folder, **settings)
    running = Master(folder, environment)
    try:
        yield running
    finally:
        family = [running.pid]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [one.pid for one in psutil.Process(running.pid).children(recursive=True)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.wait(10)
