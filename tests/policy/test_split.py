import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.split import Side, Split, is_sampled

CLIENTS = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}".encode() for n in range(4000)]


def split(**weights: int) -> Split[str]:
    return Split([Side(name, weight, name) for name, weight in weights.items()])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"stable": 95, "canary": 5}, {"stable": 0.95, "canary": 0.05}),
        ({"a": 1, "b": 1, "c": 2}, {"a": 0.25, "b": 0.25, "c": 0.5}),
        ({"a": 7, "b": 0}, {"a": 1.0, "b": 0.0}),
        ({"a": 1, "b": 1000}, {"a": 0.001, "b": 0.999}),
    ],
)
def test_shares_follow_the_weights(weights: dict[str, int], expected: dict[str, float]) -> None:
    chosen = [split(**weights).choose(client) for client in CLIENTS]
    for name, share in expected.items():
        # Four standard deviations of a binomial distribution.
        bound = 4 * (share * (1 - share) / len(CLIENTS)) ** 0.5
        assert abs(chosen.count(name) / len(CLIENTS) - share) <= bound


def test_what_was_chosen_stays_over_versions() -> None:
    """Were these to change, an upgrade would move clients."""
    two = split(stable=90, canary=10)
    assert [two.choose(b"192.0.2.%d" % n)[0] for n in range(48)] == list(EXPECTED)


EXPECTED = "sssssssssssssssssscssssscsssssssssssssssssscssss"


def test_a_canary_that_grows_keeps_its_clients_and_only_takes() -> None:
    before: set[bytes] = set()
    for percent in range(0, 101, 5):
        now = {
            client
            for client in CLIENTS[:500]
            if split(stable=100 - percent, canary=percent).choose(client) == "canary"
        }
        assert before <= now
        before = now
    assert before == set(CLIENTS[:500])


WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 1000), min_size=2, max_size=5)


@given(WEIGHTS, st.integers(0, 1000), st.data())
def test_growth_moves_clients_only_towards_the_one_that_grows(
    weights: dict[str, int], growth: int, data: st.DataObject
) -> None:
    grown = data.draw(st.sampled_from(sorted(weights)))
    before, after = split(**weights), split(**{**weights, grown: weights[grown] + growth})
    for client in CLIENTS[:60]:
        old, new = before.choose(client), after.choose(client)
        assert new in {old, grown}


@given(WEIGHTS, st.binary())
def test_the_order_of_the_sides_says_nothing(weights: dict[str, int], key: bytes) -> None:
    names = sorted(weights)
    other = list(reversed(names))
    first = Split([Side(name, weights[name], name) for name in names])
    second = Split([Side(name, weights[name], name) for name in other])
    assert first.choose(key) == second.choose(key) == first.choose(key)


def test_splits_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="same name"):
        Split([Side("a", 1, 1), Side("a", 2, 2)])
    with pytest.raises(ValueError, match="weight above 0"):
        Split([Side("a", 0, 1)])


@pytest.mark.parametrize(
    ("percent", "sampled"), [(0, 0), (0.1, 1), (25, 250), (99.9, 999), (100, 1000)]
)
def test_samples(percent: float, sampled: int) -> None:
    assert sum(is_sampled(number / 1000, percent) for number in range(1000)) == sampled
