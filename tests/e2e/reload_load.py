"""Reloads under load: starts the client programs, reloads as often as asked, adds up.

A reload counts as done when the log says that the next generation serves. Never decides what is
tolerable: that is the test's.
"""

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.operator import command
from tests.e2e.processes import POLL_S, START_S, Program
from tests.e2e.reload_clients import Load, program_of
from tests.e2e.reload_sessions import STACKS
from tests.e2e.reload_tally import Tally, outlived, table
from tests.e2e.spooky_process import SpookyProcess

END_S = 60.0
SERVES = re.compile(r"generation (\d+) serves")


@dataclass(slots=True)
class Report:
    """What came of a run."""

    tallies: list[Tally] = field(default_factory=list)
    reloads: list[float] = field(default_factory=list)
    """When each was done, by the monotonic clock."""
    took: list[float] = field(default_factory=list)
    """Seconds from the signal to the log line."""
    complaints: Counter[str] = field(default_factory=Counter)
    """What Spooky itself logged as wrong."""

    def losses(self) -> list[str]:
        """Say all that must not be."""
        return [loss for tally in self.tallies for loss in tally.losses()]

    def outlived(self) -> Counter[int]:
        """Count the long streams by how many reloads they saw pass."""
        return Counter(
            outlived(span, self.reloads) for tally in self.tallies for span in tally.spans
        )

    def __str__(self) -> str:
        seen = ", ".join(f"{count} saw {n}" for n, count in sorted(self.outlived().items()))
        slowest = max(self.took, default=0.0)
        lines = [
            table(self.tallies),
            f"reloads done: {len(self.reloads)}, the slowest in {slowest:.2f} s",
            f"long streams by reloads: {seen or 'none'}",
        ]
        lines += [f"log: {count} x {line}" for line, count in self.complaints.most_common()]
        return "\n".join([*lines, *(self.losses() or ["nothing lost"])])


def generation(spooky: SpookyProcess) -> int:
    """Say which generation took over last, by the log; 1 before any did."""
    found = SERVES.findall(spooky.log())
    return int(found[-1]) if found else 1


def reload(spooky: SpookyProcess) -> float:
    """Reload and wait until the next generation serves; return the seconds that it took."""
    before, start = generation(spooky), time.monotonic()
    spooky.signal(signal.SIGHUP)
    spooky.program.wait_until(lambda: generation(spooky) > before, START_S, "a reload")
    return time.monotonic() - start


@contextmanager
def _clients(spooky: SpookyProcess, load: Load) -> Iterator[list[Program]]:
    programs: list[Program] = []
    try:
        for stack in STACKS:
            output = spooky.folder / f"clients-{stack}.log"
            programs.append(Program(stack, program_of(stack, spooky.target, load), output))
        for program in programs:
            program.wait_until(lambda p=program: "ready" in p.log(), START_S, "ready")  # type: ignore[misc]
        yield programs
    finally:
        for program in programs:
            program.kill()


def _tally(program: Program) -> Tally:
    status = program.wait(END_S)
    assert status == 0, f"{program.name} ended with {status}: {program.log()[-3000:]}"
    return Tally.from_json(json.loads(program.log().splitlines()[-1]))


def _complaints(spooky: SpookyProcess) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in spooky.log().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("level") in {"warning", "error", "critical"}:
            found[re.sub(r"\d+", "N", str(record.get("message", line)))] += 1
    return found


def upgrade(spooky: SpookyProcess) -> float:
    """The same by an upgrade, which ends with another master."""
    start = time.monotonic()
    said = command("-s", "upgrade", "-p", str(spooky.settings["pid"]))
    assert said.status == 0, said
    # Perhaps after a line which says that it takes its time.
    assert "upgraded: generation" in said.text, said
    return time.monotonic() - start


def run(
    spooky: SpookyProcess,
    reloads: int,
    interval_s: float,
    load: Load,
    act: Callable[[SpookyProcess], float] = reload,
) -> Report:
    """Reload that often, one beginning each `interval_s`, under `load` of each stack."""
    report = Report()
    with _clients(spooky, load) as programs:
        due = time.monotonic()
        for _ in range(reloads):
            due = max(due + interval_s, time.monotonic())
            while time.monotonic() < due:
                time.sleep(POLL_S)
            report.took.append(act(spooky))
            report.reloads.append(time.monotonic())
        for program in programs:
            program.process.send_signal(signal.SIGTERM)
        report.tallies = [_tally(program) for program in programs]
    report.complaints = _complaints(spooky)
    return report
