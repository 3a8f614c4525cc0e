"""`make bench`: what a request costs, Spooky beside its rivals on the same machine in one run.

Every peer gets one worker on a core of its own; the client and the backend share the others.
Results go to standard output and to .bench/DATE-WORKLOAD.json. Whether the target is met is only
said. Exit code: 0 measured, 1 a peer was not measured or failed too often, 2 wrong usage.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from loadtest.peers import PEERS, ROOT, Peer
from loadtest.processes import share_cores
from loadtest.report import (
    ERRORS_MATTER,
    Round,
    Summary,
    as_json,
    ratios,
    summarise,
    table,
    verdict,
)
from loadtest.run import IDLE_CONNECTIONS, Plan, run
from loadtest.workloads import WORKLOADS, Workload


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print its report; the exit code."""
    plan, absent = _plan(arguments)
    started = datetime.now(UTC)
    print(_title(plan), flush=True)
    with tempfile.TemporaryDirectory(prefix="spooky-bench-") as folder:
        outcome = run(plan, Path(folder), _print_progress)
    rounds = {name: measured for name, measured in outcome.rounds.items() if measured}
    summaries = {name: summarise(measured) for name, measured in rounds.items()}
    for name, reason in (absent | outcome.failures).items():
        print(f"NOT MEASURED: {name}: {reason}")
    _print_report(summaries, plan.workload)
    path = ROOT / ".bench" / f"{started:%Y-%m-%dT%H%M%SZ}-{plan.workload.name}.json"
    path.parent.mkdir(exist_ok=True)
    document = as_json(_about(plan, started), rounds, summaries, plan.workload)
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {path.relative_to(ROOT)}")
    return (
        1
        if outcome.failures or any(s.error_share > ERRORS_MATTER for s in summaries.values())
        else 0
    )


def _plan(arguments: Sequence[str] | None) -> tuple[Plan, dict[str, str]]:
    """What to run, and why some of what was asked for cannot be."""
    parser = argparse.ArgumentParser(prog="loadtest.bench", description="Compare HTTP/3 proxies.")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated: %(default)s")
    parser.add_argument("--workload", choices=WORKLOADS, default="get1k")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="measured per peer and round")
    parser.add_argument("--connections", type=int, help="instead of the workload's own")
    parser.add_argument("--streams", type=int, help="requests in flight on each connection")
    options = parser.parse_args(arguments)
    names = options.peers.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)} (there are: {', '.join(PEERS)})")
    peers = [PEERS[name] for name in names]
    plan = Plan(
        peers=tuple(peer for peer in peers if peer.version is not None),
        workload=WORKLOADS[options.workload].shaped(options.connections, options.streams),
        rounds=options.rounds,
        seconds=options.seconds,
        cores=share_cores(),
    )
    absent = {
        peer.name: f"not installed (pip install {peer.package})"
        for peer in peers
        if peer.version is None
    }
    return plan, absent


def _title(plan: Plan) -> str:
    load, cores = plan.workload, plan.cores
    shape = f"{load.connections} connections x {load.streams} at a time"
    lines = [
        f"{load.what}, {shape}, {plan.rounds} rounds of {plan.seconds:g} s",
        f"proxy on core {_cores(cores.proxy)}, client and backend on {_cores(cores.others)}",
    ]
    if not cores.separate:
        lines.append("WARNING: one core serves all, so the proxy waits for its client")
    return "\n".join(lines)


def _cores(cores: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cores)))


def _print_progress(number: int, peer: Peer, measured: Round) -> None:
    errors = f", ERRORS {dict(measured.load.errors)}" if measured.load.errors else ""
    print(
        f"  round {number}: {peer.name} {measured.cpu_us:.0f} us/req, "
        f"{measured.per_second:.0f} req/s, core {measured.cpu.tree_share:.0%} busy{errors}",
        flush=True,
    )


def _print_report(summaries: Mapping[str, Summary], workload: Workload) -> None:
    if not summaries:
        return
    print(f"\n{workload.what}: medians; memory per connection over {IDLE_CONNECTIONS} idle ones")
    print(table(summaries))
    for rival, ratio in ratios(summaries).items():
        print(f"spooky / {rival}: {ratio:.2f} of its CPU time a request")
    if line := verdict(summaries, workload):
        print(line)


def _about(plan: Plan, started: datetime) -> dict[str, object]:
    return {
        "started": started.isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "proxy_cores": sorted(plan.cores.proxy),
            "load_cores": sorted(plan.cores.others),
        },
        "versions": {peer.name: peer.version for peer in plan.peers},
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "idle_connections": IDLE_CONNECTIONS,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
