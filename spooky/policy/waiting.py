"""Requests that wait for a slot: by class, and in each class in the order of their arrival.

A line knows who waits, and until when; whether there is a slot is not its concern. All of a line
wait for equally long, so that the first of a class is the first whose time is up.
"""

from collections import OrderedDict
from itertools import takewhile
from typing import Generic, TypeVar

from spooky.policy.priority import CLASSES

T = TypeVar("T")


class Waiter(Generic[T]):
    """Somebody who waits; `holder` is whom the caller wants to hear of then."""

    __slots__ = ("deadline", "holder", "level", "line", "order")

    def __init__(self, line: "Line[T]", level: int, order: int, since: float, holder: T) -> None:
        self.line = line
        self.level = level
        """Its class, 0 is the most important one."""
        self.order = order
        """Its number among all arrivals, whichever their line."""
        self.deadline = since + line.wait_s
        self.holder = holder

    @property
    def rank(self) -> tuple[int, int]:
        """Who has less is served first."""
        return (self.level, self.order)


class Line(Generic[T]):
    """Those who wait for the same thing."""

    __slots__ = ("_classes", "_count", "wait_s")

    def __init__(self, wait_s: float) -> None:
        """Take how long one may wait, seconds."""
        self.wait_s = wait_s
        self._classes: tuple[OrderedDict[Waiter[T], None], ...] = tuple(
            OrderedDict() for _ in range(CLASSES)
        )
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def join(self, waiter: Waiter[T]) -> None:
        """Wait behind all others of the class."""
        self._classes[waiter.level][waiter] = None
        self._count += 1

    def drop(self, waiter: Waiter[T]) -> bool:
        """Leave the line; False if it had left before."""
        members = self._classes[waiter.level]
        if waiter not in members:
            return False
        del members[waiter]
        self._count -= 1
        return True

    def first(self) -> Waiter[T] | None:
        """Return who is next: of the most important class, whoever has waited longest."""
        return next((next(iter(members)) for members in self._classes if members), None)

    def last(self) -> Waiter[T] | None:
        """Return who is given up first: of the least important class, who came last."""
        return next((next(reversed(one)) for one in reversed(self._classes) if one), None)

    def is_ahead(self, level: int) -> bool:
        """Say whether anybody waits who is served before a newcomer of a class."""
        return any(self._classes[: level + 1])

    def late(self, now: float) -> list[Waiter[T]]:
        """List those whose time is up."""
        return [
            waiter
            for members in self._classes
            for waiter in takewhile(lambda one: one.deadline <= now, members)
        ]
