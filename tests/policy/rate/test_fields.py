import pytest

from spooky.policy.rate.fields import limit_item, policy_item, refused_item, whole_seconds
from spooky.policy.rate.verdict import SECOND_NS, Quota


def test_items_are_as_in_the_draft() -> None:
    assert policy_item("permin", 50, 60 * SECOND_NS) == b'"permin";q=50;w=60'
    assert limit_item("default", Quota(50, 30 * SECOND_NS)) == b'"default";r=50;t=30'
    assert refused_item("default", 7 * SECOND_NS) == b'"default";r=0;t=7'


@pytest.mark.parametrize(
    ("nanoseconds", "seconds"), [(0, 1), (1, 1), (SECOND_NS, 1), (SECOND_NS + 1, 2)]
)
def test_times_are_never_too_short(nanoseconds: int, seconds: int) -> None:
    assert whole_seconds(nanoseconds) == seconds
