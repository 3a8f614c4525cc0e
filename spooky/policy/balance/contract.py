"""What a balancer is, what it may ask, and what the configuration says of it.

A balancer knows backends by their place in the upstream, by their weight and, where it hashes, by
their identity; a backend of weight 0 is never picked. Its state is its own: each worker has one
per upstream. Randomness is brought by the caller.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol


class Feed(Protocol):
    """What is known of the backends at this moment, all workers together, by place."""

    def in_flight(self, place: int) -> int:
        """Count the requests that the backend has and has not answered."""

    def total_in_flight(self) -> int:
        """Count them over all backends."""

    def latency(self, place: int) -> float:
        """Return the peak EWMA of its answers, in seconds; 0.0: nothing is known."""


class Balancer(Protocol):
    """A way to choose."""

    @property
    def notice(self) -> Callable[[int], None] | None:
        """To be called with a place whose `Feed.in_flight` has changed; None: no need to."""

    def pick(self, key: int = 0, exclude: Collection[int] = (), /) -> int | None:
        """Return the place of the backend to ask, none of `exclude`; None if there is none.

        `key` is the 64-bit hash of what the request is to be bound by; only those look at it
        that hash.
        """

    def reweigh(self, weights: Sequence[int]) -> None:
        """Pick by other weights from now on, one for each backend; 0: not at all."""


class Settings(Protocol):
    """The configuration of a balancer."""

    @property
    def type(self) -> str:
        """The canonical name of the algorithm."""

    @property
    def bound(self) -> int | None:
        """At most this percentage of its share of the requests in flight for a backend."""
