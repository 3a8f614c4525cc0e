"""Judges a scenario: what was lost, what it cost, and whether something leaks.

Pure: it starts nothing and reads no clock. The rule of a leak: the first quarter of the time is
for warming up; of memory (PSS) and of descriptors, the median of the last quarter must not be above
that of the second by more than is allowed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from loadtest.crowd import Beat
from loadtest.timeline import Sample

LEAK_SHARE = 0.05
LEAK_BYTES = 4 << 20
LEAK_DESCRIPTORS = 8
SHORTEST_S = 50.0
"""Below it a quarter has too few samples, and the warming up is not over after one."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a scenario."""

    requests: int
    repeated: int
    lost: dict[str, int]
    seconds: float
    cpu_us: float
    """CPU time of the whole tree for a request; infinite when none was answered."""
    pss_first: int
    pss_most: int
    pss_last: int
    descriptors_most: int
    leaks: tuple[str, ...]

    @property
    def is_bad(self) -> bool:
        """Something was lost, or leaks, or nothing was measured."""
        return bool(self.lost or self.leaks or not self.requests)


def judge(beats: Iterable[Beat], samples: Sequence[Sample], *, is_settled: bool) -> Judgement:
    """Add it all up. `is_settled`: the load is the same all the time, so that growth is a leak."""
    lost: Counter[str] = Counter()
    requests = repeated = 0
    for beat in beats:
        requests += beat.requests
        repeated += beat.repeated
        lost.update(beat.lost)
    cpu_s = samples[-1].cpu_s - samples[0].cpu_s
    return Judgement(
        requests=requests,
        repeated=repeated,
        lost=dict(lost),
        seconds=samples[-1].at - samples[0].at,
        cpu_us=cpu_s / requests * 1e6 if requests else float("inf"),
        pss_first=samples[0].pss,
        pss_most=max(one.pss for one in samples),
        pss_last=samples[-1].pss,
        descriptors_most=max(one.descriptors for one in samples),
        leaks=find_leaks(samples) if is_settled else (),
    )


def find_leaks(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Say what grew, by the rule above; nothing when the time was too short to tell."""
    if samples[-1].at - samples[0].at < SHORTEST_S:
        return ()
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    found = []
    before, after = median(one.pss for one in second), median(one.pss for one in last)
    if after - before > max(LEAK_BYTES, LEAK_SHARE * before):
        found.append(f"memory grew from {before / 2**20:.1f} to {after / 2**20:.1f} MiB")
    before = median(one.descriptors for one in second)
    after = median(one.descriptors for one in last)
    if after - before > LEAK_DESCRIPTORS:
        found.append(f"descriptors grew from {before:.0f} to {after:.0f}")
    return tuple(found)


def describe(found: Judgement) -> str:
    """The judgement in a few lines."""
    lost = ", ".join(f"{count} x {reason}" for reason, count in found.lost.items())
    rate = found.requests / found.seconds
    first, most, last = (
        f"{octets / 2**20:.1f}" for octets in (found.pss_first, found.pss_most, found.pss_last)
    )
    lines = [
        f"{found.requests} requests in {found.seconds:.0f} s, {rate:.0f} a second",
        f"lost: {sum(found.lost.values())}" + (f" ({lost})" if lost else ""),
        f"rejected before anything was done with them, and asked again: {found.repeated}",
        f"cost: {found.cpu_us:.0f} us of CPU time a request, all processes",
        f"memory (PSS): {first} MiB at first, {most} at most, {last} at last",
        f"descriptors: {found.descriptors_most} at most",
    ]
    return "\n".join([*lines, *(f"LEAK: {leak}" for leak in found.leaks)])
