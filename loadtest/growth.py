"""`make growth`: how the cost of a request grows with what there is of something.

Two kinds of measure. The whole of Spooky under load, one thing at a time larger: CPU time a request
of all its processes. And the two decisions by themselves, without sockets: which route, which
backend. Those must not grow worse than logarithmically: a factor of ten more must not add more than
the factor of ten before it did (`worse_than_logarithmic`). Exit code: 0 measured and so, 1 not.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import psutil

from loadtest import picks
from loadtest.measure import cpu_between, read_clock, read_memory
from loadtest.processes import Cores, share_cores, talking
from loadtest.report import aligned
from loadtest.run import NotMeasuredError, expect, line
from loadtest.stand import Layout, share, stand
from loadtest.workloads import WORKLOADS, Workload
from spooky.policy.balance import TYPES
from spooky.policy.routing import RouteTable, Rule

GET = WORKLOADS["get1k"]
DECISION_SIZES = (10, 100, 1000, 10_000)
NOISE_SHARE = 0.25
"""Of the cost at the smallest size: caches of the processor alone add about so much."""
NOISE_US = 0.3
ROUNDS = 7
LOOKUPS = 2000
IDLE_WORKERS = 4
SETTLE_S = 3.0
WARMUP_S = 1.5
WARMUP_PER_BACKEND_S = 0.01
"""The first request to each backend opens a connection to it, which is another matter."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: a size of one thing, with everything else as usual."""

    axis: str
    size: int
    layout: Layout
    workload: Workload
    in_flight: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a point cost."""

    cpu_us: float
    p50_ms: float
    lost: int
    start_s: float
    pss: int
    """Before the load."""
    background: float
    """CPU ms a second before the load: what looks after backends goes on without requests."""


def _point(axis: str, size: int) -> Point:
    usual = Point(axis, size, Layout(), GET.shaped(10, 4), 40)
    match axis:
        case "connections":
            # One request at a time on each: many on one share datagrams, which is another matter.
            return replace(usual, workload=GET.shaped(size, 1), in_flight=min(size, 40))
        case "streams":
            return replace(usual, workload=GET.shaped(4, size), in_flight=4 * size)
        case "octets of reply":
            return replace(usual, workload=replace(GET.shaped(4, 2), reply_bytes=size), in_flight=8)
        case "fields":
            return replace(usual, workload=replace(GET.shaped(10, 4), fields=size))
        case "backends":
            return replace(usual, layout=Layout(backends=size, is_crowded=True))
        case "routes":
            return replace(usual, layout=Layout(routes=size))
        case _:
            return replace(usual, layout=Layout(workers=size))


AXES = {
    "connections": (1, 100, 1000, 5000),
    "streams": (1, 10, 100),
    "octets of reply": (1 << 10, 64 << 10, 1 << 20),
    "fields": (0, 10, 50, 100),
    "backends": (1, 10, 100, 1000),
    "routes": (10, 1000, 10_000),
    "workers": (1, 2),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the tables; the exit code."""
    parser = argparse.ArgumentParser(prog="loadtest.growth", description="How cost grows.")
    short = [axis.split()[-1] for axis in AXES]
    parser.add_argument("--only", help=f"comma-separated: decisions, memory, {', '.join(short)}")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured per point")
    options = parser.parse_args(arguments)
    everything = ["decisions", "memory", *short]
    wanted = options.only.split(",") if options.only else everything
    if unknown := [name for name in wanted if name not in everything]:
        parser.error(f"no such thing: {', '.join(unknown)} (there are: {', '.join(everything)})")
    cores = share_cores()
    worse = _decisions() if "decisions" in wanted else []
    if "memory" in wanted:
        print(f"{IDLE_WORKERS} workers, idle, all processes: {base_memory(cores):.1f} MiB (PSS)")
    points = [
        _point(axis, size)
        for axis, sizes in AXES.items()
        if axis.split()[-1] in wanted
        for size in sizes
    ]
    failed = _print_points(points, cores, options.seconds) if points else 0
    return int(bool(worse or failed))


def _decisions() -> list[str]:
    """Print what routing and balancing cost by themselves; those that grow too fast."""
    print("a decision by itself: CPU us, by how many routes or backends there are")
    rows: list[tuple[str, list[tuple[int, float]]]] = [
        ("route", [(size, routing_us(size)) for size in DECISION_SIZES])
    ]
    for name in TYPES:
        settings = picks.Settings(name)
        costs = [(size, picks.measure(settings, size)[0]) for size in picks.SIZES]
        rows.append((f"backend, {name}", costs))
    print(f"{'':28}" + "".join(f"{size:>9,}" for size in DECISION_SIZES))
    worse = []
    for name, costs in rows:
        print(f"{name:28}" + "".join(f"{us:>9.2f}" for _, us in costs), flush=True)
        if worse_than_logarithmic([us for _, us in costs]):
            worse.append(name)
    print("grow worse than logarithmically: " + (", ".join(worse) or "none"))
    return worse


def worse_than_logarithmic(costs: Sequence[float]) -> bool:
    """Whether costs, in us, at sizes each ten times the one before, grow faster than a logarithm.

    That would add the same each time; noise and the processor's caches get an allowance.
    """
    allowance = NOISE_US + NOISE_SHARE * costs[0]
    steps = [after - before for before, after in pairwise(costs)]
    most = max(0.0, steps[0]) + allowance
    return any(step > most for step in steps[1:])


def routing_us(size: int) -> float:
    """CPU us of a look-up among so many routes, half of them with a host; the smallest of some."""
    hosts = [f"shop-{n}.example.com" for n in range(size // 2)]
    rules = [Rule(host, f"/part-{n}/", n) for n, host in enumerate(hosts)]
    rules += [Rule(None, f"/all/part-{n}/", n) for n in range(size - len(rules))]
    table = RouteTable(rules)
    asked = [(hosts[n * 7 % len(hosts)], b"/all/part-%d/a/b" % (n % size)) for n in range(LOOKUPS)]
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for host, path in asked:
            table.find(host, path)
        best = min(best, time.process_time() - began)
    return best / LOOKUPS * 1e6


def base_memory(cores: Cores) -> float:
    """MiB (PSS) of all processes with four workers that have served one request and are idle."""
    with (
        tempfile.TemporaryDirectory(prefix="spooky-growth-") as folder,
        stand(Path(folder), cores, Layout(workers=IDLE_WORKERS)) as spooky,
    ):
        time.sleep(SETTLE_S)
        return read_memory(spooky.master).pss / 2**20


def _print_points(points: Sequence[Point], cores: Cores, seconds: float) -> int:
    """Measure each point and print the table; how many failed or lost requests."""
    head = "|size|CPU us/req|x first|p50 ms|lost|idle ms/s|start s|MiB|"
    rows: list[tuple[str, ...]] = [tuple(head.split("|"))]
    first: dict[str, float] = {}
    failed = 0
    for point in points:
        try:
            cost = measure(point, cores, seconds)
        except NotMeasuredError as error:
            failed += 1
            rows.append((point.axis, f"{point.size:,}", *[""] * 7, f"NOT MEASURED: {error}"))
            continue
        print(f"  {point.axis} {point.size:,}: {cost.cpu_us:.0f} us", flush=True)
        failed += cost.lost > 0
        ratio = cost.cpu_us / first.setdefault(point.axis, cost.cpu_us)
        rows.append(
            (
                point.axis,
                f"{point.size:,}",
                f"{cost.cpu_us:.0f}",
                f"{ratio:.2f}",
                f"{cost.p50_ms:.1f}",
                str(cost.lost),
                f"{cost.background:.0f}",
                f"{cost.start_s:.1f}",
                f"{cost.pss / 2**20:.0f}",
                "",
            )
        )
    print("the whole of Spooky under load")
    print(aligned(rows))
    return failed


def measure(point: Point, cores: Cores, seconds: float) -> Cost:
    """Start Spooky as the point wants it, load it, and say what a request cost."""
    workers = point.layout.workers
    where = cores.others if workers == 1 else share(cores, workers)
    arguments = (
        json.dumps(asdict(point.workload)), "--in-flight", str(point.in_flight),
        "--warmup", str(WARMUP_S + point.layout.backends * WARMUP_PER_BACKEND_S),
        "--seconds", str(seconds), "--quiet",
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="spooky-growth-") as folder,
        stand(Path(folder), cores, point.layout) as spooky,
    ):
        (core, *_) = cores.proxy
        pss = read_memory(spooky.master).pss
        background = _background(spooky.master, core)
        with talking("loadtest.crowd", str(spooky.site.port), *arguments, cores=where) as crowd:
            expect(crowd, "begin")
            before = read_clock(spooky.master, core)
            expect(crowd, "end")
            cpu = cpu_between(before, read_clock(spooky.master, core))
            told = json.loads(line(crowd))
    requests = told["requests"]
    return Cost(
        cpu_us=cpu.cpu_s / requests * 1e6 if requests else float("inf"),
        p50_ms=told["p50_ms"],
        lost=sum(told["lost"].values()),
        start_s=spooky.start_s,
        pss=pss,
        background=background,
    )


def _background(master: psutil.Process, core: int) -> float:
    """CPU ms a second of all processes without a request."""
    began, before = time.monotonic(), read_clock(master, core)
    time.sleep(SETTLE_S)
    used = cpu_between(before, read_clock(master, core)).cpu_s
    return used / (time.monotonic() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())
