"""Who does worse than the others."""

import pytest

from spooky.policy.deviation import DeviationSettings, outliers
from spooky.policy.tally import Tally

BOTH = DeviationSettings(
    success_rate_stdev_factor=1.9, latency_factor=3, minimum_requests=100, minimum_backends=5
)


def answered(successes: int, errors: int = 0, each_us: int = 10_000) -> Tally:
    answers = successes + errors
    return Tally(successes, errors, begun=answers, answer_time_us=answers * each_us)


WELL = [answered(200)] * 5


@pytest.mark.parametrize(
    ("window", "found"),
    [
        pytest.param(WELL, [], id="all alike"),
        pytest.param([*WELL[:4], answered(150, 50)], [4], id="one fails often"),
        pytest.param([*WELL[:4], answered(199, 1)], [], id="too little to matter"),
        pytest.param([*WELL[:4], answered(50, 49)], [], id="too few requests"),
        pytest.param([*WELL[:3], answered(150, 50)], [], id="too few backends"),
        pytest.param([answered(100, 100)] * 5, [], id="all fail alike"),
        pytest.param([*WELL[:4], Tally(successes=100, resets=100)], [4], id="any failure counts"),
        pytest.param([*WELL[:4], answered(200, each_us=40_000)], [4], id="one is slow"),
        pytest.param([*WELL[:4], answered(200, each_us=29_000)], [], id="within the factor"),
        pytest.param(
            [*[answered(200, each_us=200)] * 4, answered(200, each_us=4_000)],
            [],
            id="slower by less than is noticed",
        ),
        pytest.param([Tally(timeouts=200)] * 5, [], id="nobody answers"),
        pytest.param(
            [*WELL[:4], Tally(200, begun=100, answer_time_us=100 * 40_000)],
            [4],
            id="the mean is that of the answers that began",
        ),
    ],
)
def test_outliers(window: list[Tally], found: list[int]) -> None:
    assert list(outliers(dict(enumerate(window)), BOTH)) == found


def test_the_threshold_is_envoys() -> None:
    """Success rates 1, 1, 1, 1, 0.5: mean 0.9, standard deviation 0.2, so 0.52 at factor 1.9."""
    rates = dict(enumerate([*[answered(100)] * 4, answered(50, 50)]))
    assert list(outliers(rates, BOTH)) == [4]
    at_the_limit = DeviationSettings(2.0, 0, 100, 5)
    assert not outliers(rates, at_the_limit)


def test_a_factor_of_nothing_compares_nothing() -> None:
    window = dict(enumerate([*WELL[:4], answered(1, 199, each_us=10**6)]))
    assert not outliers(window, DeviationSettings(0, 0, 100, 5))
    assert "in the mean" in outliers(window, BOTH)[4]
