import pytest

from loadtest.picks import Settings, measure
from spooky.policy.balance import TYPES


@pytest.mark.parametrize("bound", [None, 125])
@pytest.mark.parametrize("kind", TYPES)
def test_a_thousand_backends_cost_little_more_than_ten(kind: str, bound: int | None) -> None:
    settings = Settings(kind, bound)
    assert measure(settings, 1000)[0] < 10 * measure(settings, 10)[0] + 5
