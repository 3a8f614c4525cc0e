"""Which backend of an upstream takes the next request: one family of algorithms a file.

docs/load-balancing.md says which is for what.
"""

from collections.abc import Callable, Sequence
from typing import Final

from spooky.policy.balance.bounded import Bounded
from spooky.policy.balance.chance import PowerOfTwo, WeightedRandom, by_connections, by_latency
from spooky.policy.balance.consistent import Consistent, Layout
from spooky.policy.balance.contract import Balancer, Feed, Settings
from spooky.policy.balance.least import LeastConnections
from spooky.policy.balance.maglev import Maglev
from spooky.policy.balance.rendezvous import Rendezvous
from spooky.policy.balance.ring import Ring
from spooky.policy.balance.turns import RoundRobin

__all__ = ["HASHES", "TYPES", "Balancer", "Feed", "Settings", "is_fed", "make_balancer"]

_LAYOUTS: Final[dict[str, Callable[[Sequence[str], Sequence[float]], Layout]]] = {
    "ring-hash": Ring,
    "rendezvous": Rendezvous,
    "maglev": Maglev,
}
_FED: Final = ("least-connections", "power-of-two", "ewma")

HASHES: Final = tuple(_LAYOUTS)
"""The types that look at a key."""
TYPES: Final = ("round-robin", "random", *_FED, *HASHES)


def is_fed(settings: Settings) -> bool:
    """Say whether a balancer so configured asks its feed at all."""
    return settings.type in _FED or settings.bound is not None


def make_balancer(
    settings: Settings,
    identities: Sequence[str],
    weights: Sequence[int],
    feed: Feed,
    rand: Callable[[], float],
) -> Balancer:
    """Make a balancer over backends in the order of the file.

    Args:
        settings: the algorithm, and its bound, at least 100 percent.
        identities: what tells each backend from the others, the same in every worker.
        weights: those of the configuration, whole numbers from 0.
        feed: what is known of the backends.
        rand: returns random numbers in [0, 1).

    Raises:
        ValueError: there is no such type.
    """
    inner = _make(settings.type, identities, weights, feed, rand)
    if settings.bound is None:
        return inner
    return Bounded(inner, weights, feed, settings.bound / 100)


def _make(
    name: str,
    identities: Sequence[str],
    weights: Sequence[int],
    feed: Feed,
    rand: Callable[[], float],
) -> Balancer:
    match name:
        case "round-robin":
            return RoundRobin(weights, rand)
        case "random":
            return WeightedRandom(weights, rand)
        case "least-connections":
            return LeastConnections(weights, feed, rand)
        case "power-of-two":
            return PowerOfTwo(weights, by_connections(feed), rand)
        case "ewma":
            return PowerOfTwo(weights, by_latency(feed), rand)
    if name not in _LAYOUTS:
        raise ValueError(f"no balancer {name!r}, there are {', '.join(TYPES)}")
    return Consistent(_distinct(identities), weights, _LAYOUTS[name])


def _distinct(identities: Sequence[str]) -> list[str]:
    """Tell backends apart that are the same server: the second is another name in the hash."""
    seen: dict[str, int] = {}
    names = []
    for identity in identities:
        seen[identity] = count = seen.get(identity, 0) + 1
        names.append(identity if count == 1 else f"{identity} {count}")
    return names
