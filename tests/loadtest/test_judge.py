"""The arithmetic of a scenario's judgement, on samples made up for it."""

from dataclasses import replace

import pytest

from loadtest.crowd import Beat
from loadtest.judge import Judgement, describe, find_leaks, judge
from loadtest.timeline import Sample

MIB = 1 << 20
BEAT = Beat(1.0, 1.0, 500, 0, 10, 1.0, 2.0, 3.0, 4.0, {})


def samples(
    seconds: int, growth: float = 0.0, descriptors: float = 0.0, warm_up: float = 0.0
) -> list[Sample]:
    """One a second: 100 MiB and 50 descriptors, growing by so much in a second."""
    return [
        Sample(
            at=1000.0 + at,
            cpu_s=0.1 * at,
            pss=int((100 + growth * at + warm_up * min(at, seconds // 4)) * MIB),
            descriptors=int(50 + descriptors * at),
            processes=3,
        )
        for at in range(seconds + 1)
    ]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (samples(100), ()),
        (samples(100, warm_up=2.0), ()),
        (samples(100, growth=0.05), ()),
        (samples(100, growth=0.2), ("memory",)),
        (samples(100, descriptors=0.1), ()),
        (samples(100, descriptors=0.5), ("descriptors",)),
        (samples(100, growth=1.0, descriptors=1.0), ("memory", "descriptors")),
        (samples(40, growth=5.0, descriptors=5.0), ()),
    ],
)
def test_a_leak_is_growth_after_the_warming_up(seen: list[Sample], words: tuple[str, ...]) -> None:
    assert tuple(leak.split()[0] for leak in find_leaks(seen)) == words


def test_growth_under_a_growing_load_is_no_leak() -> None:
    seen = samples(100, growth=1.0)
    assert judge([BEAT], seen, is_settled=False).leaks == ()
    assert judge([BEAT], seen, is_settled=True).leaks != ()


def test_the_beats_of_all_groups_are_added_up() -> None:
    other = replace(BEAT, requests=300, repeated=2, lost={"status 502": 3})
    found = judge([BEAT, other, other], samples(10), is_settled=True)
    assert (found.requests, found.repeated) == (1100, 4)
    assert found.lost == {"status 502": 6}
    assert found.cpu_us == pytest.approx(1e6 / 1100)
    assert "lost: 6 (6 x status 502)" in describe(found)


WELL = judge([BEAT], samples(10), is_settled=True)


@pytest.mark.parametrize(
    ("found", "is_bad"),
    [
        (WELL, False),
        (replace(WELL, lost={"stream reset": 1}), True),
        (replace(WELL, leaks=("memory",)), True),
        (replace(WELL, requests=0), True),
    ],
)
def test_a_loss_a_leak_and_silence_are_bad(found: Judgement, is_bad: bool) -> None:
    assert found.is_bad is is_bad
