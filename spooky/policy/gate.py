"""A limit on what is in flight, over all workers, and how many of ours are inside.

Each worker publishes what it has inside and adds up what the others have. It adds one at a time
between its look and its word, so `n` workers together exceed the limit by n - 1 at most. While
others wait for a slot, none takes more than its even part of them, so that nobody is starved by
a neighbour that is always quicker; the parts are rounded up, so that no slot stays empty.

Pure: what other workers say comes through `Shared`.
"""

from typing import Protocol

from spooky.policy.concurrency import Answer, Limiter


class Shared(Protocol):
    """What other workers have inside, and where we say what we have."""

    def elsewhere(self) -> tuple[int, int]:
        """Return what the others have in flight together, and how many of them claim a slot."""

    def publish(self, in_flight: int, waiting: int, claims: bool) -> None:
        """Tell the others what we have, and whether we claim a slot of theirs."""


class Gate:
    """A limit that is fixed, or moves with `limiter`, or both; and a bound on who waits for it.

    `most` is over all workers, 0: none; the moving limit is this worker's alone.
    """

    __slots__ = ("_claims", "_limiter", "_shared", "in_flight", "most", "name", "queue", "waiting")

    def __init__(
        self,
        name: str,
        most: int = 0,
        queue: int = 0,
        limiter: Limiter | None = None,
        shared: Shared | None = None,
    ) -> None:
        """Take a name for messages; `shared` None: there are no other workers."""
        self.name = name
        self.most = most
        self.queue = queue
        self._limiter = limiter
        self._shared = shared
        self._claims = False
        self.in_flight = 0
        self.waiting = 0

    def has_room(self, now: float) -> bool:
        """Say whether one more may go in."""
        self._claims = False
        if self._limiter is not None and self.in_flight >= self._limiter.limit(now):
            return False
        if not self.most:
            return True
        others, claims = self._elsewhere()
        part = -(-self.most // (claims + 1))
        self._claims = self.in_flight + others >= self.most or self.in_flight >= part
        return not self._claims

    def usage(self, now: float) -> float:
        """Return the part of its places, inside and in the queue, that is taken: 0 to about 1."""
        own = self._limiter.limit(now) if self._limiter is not None else 0
        others = self._elsewhere()[0] if self.most else 0
        taken = self.in_flight + self.waiting
        parts = [taken / (own + self.queue)] if own else []
        if self.most:
            parts.append((taken + others) / (self.most + self.queue))
        return max(parts, default=0.0)

    def take(self) -> None:
        """One goes in."""
        self.in_flight += 1
        self.publish()

    def give(self, answer: Answer | None, now: float) -> None:
        """One comes out; `answer` says how it was met, if it was."""
        if answer is not None and self._limiter is not None:
            self._limiter.observe(answer, self.in_flight, now)
        self.in_flight -= 1
        self.publish()

    def publish(self) -> None:
        """Tell the other workers."""
        if self._shared is not None:
            claims = self._claims and self.waiting > 0
            self._shared.publish(self.in_flight, self.waiting, claims)

    def describe(self) -> str:
        """Say how full it is, for a log."""
        others = self._elsewhere()[0]
        more = f" and {others} in other workers" if others else ""
        return f"{self.name} has {self.in_flight} in flight{more}, {self.waiting} waiting"

    def _elsewhere(self) -> tuple[int, int]:
        return self._shared.elsewhere() if self._shared is not None else (0, 0)
