"""Turns what was measured into medians, ratios and warnings, as a table and as JSON.

Pure: it starts nothing and reads no clock. A number is never left out for being bad: it is shown
with its warning beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from loadtest.measure import CpuUse, LoadResult, Memory
from loadtest.workloads import Workload

BUSY_ENOUGH = 0.90
"""Below it the proxy's core waited for the load, and the figures are not its best."""
ERRORS_MATTER = 0.01
"""Of all requests: beyond it the cost of the answered ones says little."""
SHARED_TOO_MUCH = 0.05
"""Of the core's time that others than the peer took: beyond it the round was disturbed."""
TARGET = 0.55
"""Spooky's CPU time a request, at most this much of Hypercorn's (get1k, 10 x 10)."""
RIVALS = ("hypercorn", "caddy", "envoy")


@dataclass(frozen=True, slots=True)
class Round:
    """One peer measured once."""

    load: LoadResult
    cpu: CpuUse
    idle: Memory
    """Before the first load."""
    connection_bytes: float
    """Memory (PSS) that an idle connection adds."""

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a request; infinite when none was answered."""
        return self.cpu.cpu_s / self.load.requests * 1e6 if self.load.requests else float("inf")

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return self.load.requests / self.load.elapsed_s


@dataclass(frozen=True, slots=True)
class Summary:
    """A peer's rounds, each figure by its median."""

    cpu_us: float
    cpu_us_lowest: float
    cpu_us_highest: float
    per_second: float
    p50_ms: float
    p99_ms: float
    tree_share: float
    other_share: float
    client_us: float
    idle_rss: float
    idle_pss: float
    connection_bytes: float
    errors: int
    error_share: float
    """Of the requests that were answered or failed."""
    warnings: tuple[str, ...]
    """Why the figures are doubtful."""


def summarise(rounds: Sequence[Round]) -> Summary:
    """The medians of a peer's rounds (at least one), with what makes them doubtful."""
    costs = [r.cpu_us for r in rounds]
    tree_share = median(r.cpu.tree_share for r in rounds)
    other_share = median(r.cpu.other_share for r in rounds)
    errors = sum(sum(r.load.errors.values()) for r in rounds)
    error_share = errors / max(1, errors + sum(r.load.requests for r in rounds))
    return Summary(
        cpu_us=median(costs),
        cpu_us_lowest=min(costs),
        cpu_us_highest=max(costs),
        per_second=median(r.per_second for r in rounds),
        p50_ms=median(r.load.p50_ms for r in rounds),
        p99_ms=median(r.load.p99_ms for r in rounds),
        tree_share=tree_share,
        other_share=other_share,
        client_us=median(r.load.client_cpu_s / max(r.load.requests, 1) * 1e6 for r in rounds),
        idle_rss=median(r.idle.rss for r in rounds),
        idle_pss=median(r.idle.pss for r in rounds),
        connection_bytes=median(r.connection_bytes for r in rounds),
        errors=errors,
        error_share=error_share,
        warnings=_warnings(tree_share, other_share, error_share),
    )


def _warnings(tree_share: float, other_share: float, error_share: float) -> tuple[str, ...]:
    warnings = []
    if error_share > ERRORS_MATTER:
        warnings.append(f"{error_share:.0%} of the requests failed")
    if tree_share + other_share < BUSY_ENOUGH:
        warnings.append(f"core only {tree_share + other_share:.1%} busy")
    if other_share > SHARED_TOO_MUCH:
        warnings.append(f"others took {other_share:.0%} of the core")
    return tuple(warnings)


def table(summaries: Mapping[str, Summary]) -> str:
    """A line per peer, cheapest first."""
    head = (
        "peer", "CPU us/req", "(low - high)", "req/s", "p50 ms", "p99 ms", "busy", "RSS MiB",
        "PSS MiB", "KiB/conn", "client us", "errors", "",
    )  # fmt: skip
    ordered = sorted(summaries.items(), key=lambda item: item[1].cpu_us)
    return aligned([head, *(_row(name, summary) for name, summary in ordered)])


def _row(name: str, s: Summary) -> tuple[str, ...]:
    return (
        name,
        f"{s.cpu_us:.0f}",
        f"({s.cpu_us_lowest:.0f} - {s.cpu_us_highest:.0f})",
        f"{s.per_second:.0f}",
        f"{s.p50_ms:.2f}",
        f"{s.p99_ms:.2f}",
        f"{s.tree_share:.0%}",
        f"{s.idle_rss / 2**20:.1f}",
        f"{s.idle_pss / 2**20:.1f}",
        f"{s.connection_bytes / 2**10:.1f}",
        f"{s.client_us:.0f}",
        f"{s.errors} !" if s.errors else "0",
        "; ".join(s.warnings),
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first and the last to the left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *middle, last = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, last]).rstrip())
    return "\n".join(lines)


def ratios(summaries: Mapping[str, Summary]) -> dict[str, float]:
    """Spooky's CPU time a request over each rival's, for the rivals that were measured."""
    ours = summaries.get("spooky")
    if ours is None:
        return {}
    return {name: ours.cpu_us / summaries[name].cpu_us for name in RIVALS if name in summaries}


def verdict(summaries: Mapping[str, Summary], workload: Workload) -> str | None:
    """The line about the target; None when this run is not the one that the target is for."""
    shape = (workload.name, workload.connections, workload.streams)
    ratio = ratios(summaries).get("hypercorn")
    if shape != ("get1k", 10, 10) or ratio is None:
        return None
    line = f"spooky / hypercorn = {ratio:.2f}, at most {TARGET:.2f} wanted"
    doubts = [f"{name}: {w}" for name in ("spooky", "hypercorn") for w in summaries[name].warnings]
    word = "MET" if ratio <= TARGET else "MISSED"
    return f"target {word}: {line}" + (f" (in doubt: {'; '.join(doubts)})" if doubts else "")


def as_json(
    about: Mapping[str, object],
    rounds: Mapping[str, Sequence[Round]],
    summaries: Mapping[str, Summary],
    workload: Workload,
) -> dict[str, object]:
    """Everything about a run: where and what was run, each round, the medians, the ratios."""
    return {
        **about,
        "workload": asdict(workload),
        "peers": {
            name: {
                "median": asdict(summary),
                "rounds": [asdict(r) | {"cpu_us": r.cpu_us} for r in rounds[name]],
            }
            for name, summary in summaries.items()
        },
        "ratios": ratios(summaries),
        "target": verdict(summaries, workload),
    }
