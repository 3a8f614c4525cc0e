"""Runs the rounds: starts a peer, weighs it, loads it, ends it, and goes on to the next.

The peers take turns within each round, so that a machine that is slow for a while is slow for
all. A peer that cannot be measured is not tried again, and the others are measured all the same.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.measure import CpuUse, LoadResult, cpu_between, read_clock, read_memory
from loadtest.origin import Site, backend, write_certificate
from loadtest.peers import Peer
from loadtest.processes import Cores, free_port, running, talking
from loadtest.report import Round
from loadtest.session import answers
from loadtest.workloads import Workload

IDLE_CONNECTIONS = 200
WARMUP_S = 1.5
START_TIMEOUT_S = 60.0
SETTLE_S = 0.5
"""Between opening the idle connections and weighing them: acknowledgements and tickets pass."""
LOG_LINES = 15


class NotMeasuredError(Exception):
    """A peer did not start, or the load on it did not run; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    peers: tuple[Peer, ...]
    workload: Workload
    rounds: int
    seconds: float
    """Of load that are measured, for each peer in each round."""
    cores: Cores


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a plan: the rounds of each peer, and why one has fewer than planned."""

    rounds: dict[str, list[Round]]
    failures: dict[str, str]


def run(plan: Plan, folder: Path, progress: Callable[[int, Peer, Round], None]) -> Outcome:
    """Run all rounds, with the files of all processes in `folder`."""
    outcome = Outcome({peer.name: [] for peer in plan.peers}, {})
    certificate, key = write_certificate(folder)
    port = free_port()
    with running(backend(folder, port), plan.cores.others, folder / "backend.log"):
        for number in range(1, plan.rounds + 1):
            for peer in plan.peers:
                if peer.name in outcome.failures:
                    continue
                home = folder / f"{peer.name}-{number}"
                home.mkdir()
                site = Site(home, certificate, key, free_port(), port, free_port())
                try:
                    measured = _measure(peer, site, plan)
                except NotMeasuredError as error:
                    outcome.failures[peer.name] = str(error)
                    continue
                outcome.rounds[peer.name].append(measured)
                progress(number, peer, measured)
    return outcome


def _measure(peer: Peer, site: Site, plan: Plan) -> Round:
    log = site.folder / "output.log"
    with running(peer.launch(site), plan.cores.proxy, log) as process:
        try:
            wait_for_answer(process, site.port)
            idle = read_memory(process)
            connection_bytes = _weigh_connections(process, site.port, plan.cores)
            load, cpu = _load(process, site.port, plan)
        except (NotMeasuredError, psutil.NoSuchProcess) as error:
            output = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            raise NotMeasuredError("\n    ".join([str(error), *output])) from error
    return Round(load, cpu, idle, connection_bytes)


def wait_for_answer(process: psutil.Process, port: int) -> None:
    """Return once it answers; raise `NotMeasuredError` if it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(port, timeout_s=2.0):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise NotMeasuredError("it ended instead of serving")
        if time.monotonic() > deadline:
            raise NotMeasuredError(f"it answered no request within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.05)


def _weigh_connections(process: psutil.Process, port: int, cores: Cores) -> float:
    """Octets of memory that an idle connection adds."""
    before = read_memory(process)
    arguments = (str(port), str(IDLE_CONNECTIONS))
    with talking("loadtest.idle", *arguments, cores=cores.others) as client:
        expect(client, "ready")
        time.sleep(SETTLE_S)
        after = read_memory(process)
        client.communicate()
    return (after.pss - before.pss) / IDLE_CONNECTIONS


def _load(process: psutil.Process, port: int, plan: Plan) -> tuple[LoadResult, CpuUse]:
    (core,) = plan.cores.proxy
    workload = plan.workload
    arguments = (
        str(port), "--workload", workload.name, "--connections", str(workload.connections),
        "--streams", str(workload.streams), "--warmup", str(WARMUP_S),
        "--seconds", str(plan.seconds),
    )  # fmt: skip
    with talking("loadtest.client", *arguments, cores=plan.cores.others) as client:
        expect(client, "begin")
        before = read_clock(process, core)
        expect(client, "end")
        after = read_clock(process, core)
        result = LoadResult(**json.loads(line(client)))
    return result, cpu_between(before, after)


def expect(client: "subprocess.Popen[str]", word: str) -> None:
    """Read a line of a load generator; NotMeasuredError when it is another one."""
    if (said := line(client)) != word:
        raise NotMeasuredError(f"the load generator said {said!r} where {word!r} was due")


def line(client: "subprocess.Popen[str]") -> str:
    """Read a line of a load generator; empty when it has ended."""
    assert client.stdout is not None
    return client.stdout.readline().strip()
