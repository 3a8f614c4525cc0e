"""What of a scenario is drawn: latency, throughput, losses, CPU time, memory, descriptors.

Pure. Clients and sampler beat once a second, not at the same moment: what a second cost is the CPU
time read in it over the answers told of in it, so single seconds waver, and their mean does not.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from loadtest.crowd import Beat
from loadtest.plots import Chart
from loadtest.timeline import Sample


def charts(groups: Mapping[str, Sequence[Beat]], samples: Sequence[Sample]) -> list[Chart]:
    """All charts of a scenario, over the seconds since its first sample."""
    start = samples[0].at
    rates = {
        name: [(beat.at - start, beat.requests / beat.seconds) for beat in beats if beat.seconds]
        for name, beats in groups.items()
    }
    lost = {
        name: [(beat.at - start, float(sum(beat.lost.values()))) for beat in beats]
        for name, beats in groups.items()
    }
    memory = [(one.at - start, one.pss / 2**20) for one in samples]
    descriptors = [(one.at - start, float(one.descriptors)) for one in samples]
    return [
        *(_latency(name, beats, start) for name, beats in groups.items()),
        Chart("Throughput", "requests a second", rates),
        Chart("Lost", "requests", lost),
        Chart("CPU time", "us a request, all processes", {"CPU": _costs(groups, samples)}),
        Chart("Memory", "MiB, proportional set size of all processes", {"PSS": memory}),
        Chart("Descriptors", "open in all processes", {"descriptors": descriptors}),
    ]


def _latency(name: str, beats: Sequence[Beat], start: float) -> Chart:
    answered = [beat for beat in beats if beat.requests]
    lines = {
        "p50": [(beat.at - start, beat.p50_ms) for beat in answered],
        "p90": [(beat.at - start, beat.p90_ms) for beat in answered],
        "p99": [(beat.at - start, beat.p99_ms) for beat in answered],
    }
    return Chart(f"Latency of {name}", "ms", lines)


def _costs(
    groups: Mapping[str, Iterable[Beat]], samples: Sequence[Sample]
) -> list[tuple[float, float]]:
    """CPU time between two samples over the requests of the beats that ended between them."""
    start = samples[0].at
    answered: dict[int, int] = defaultdict(int)
    for beats in groups.values():
        for beat in beats:
            answered[int(beat.at - start)] += beat.requests
    spent: dict[int, float] = defaultdict(float)
    for before, after in pairwise(samples):
        spent[int(after.at - start)] += max(0.0, after.cpu_s - before.cpu_s)
    return [
        (float(second), spent[second] / count * 1e6)
        for second, count in sorted(answered.items())
        if count and second in spent
    ]
