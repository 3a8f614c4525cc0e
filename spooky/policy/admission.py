"""Whether a request may go on now, has to wait for a slot, or is refused, and why.

A `Gate` is a limit and how many are inside; an `Admission` has one for the whole instance and a
`Door` for each upstream: its gate, and the line of those who wait before it. Who waits holds no
slot of either, so a slow upstream takes nothing from the others.

The rule: a slot that comes free goes at once to whoever waits for it, of the most important class
the one who has waited longest, and never to a newcomer of the same class.

Pure: `now` is seconds on a clock that does not go back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from spooky.policy.concurrency import Answer
from spooky.policy.gate import Gate
from spooky.policy.priority import CLASSES
from spooky.policy.waiting import Line, Waiter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settled(Generic[T]):
    """Somebody who waits no more: inside, with a slot, or refused for a `reason`."""

    waiter: Waiter[T]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What came of a request: refused for a `reason`, waiting, or else inside.

    `displaced` has lost its place in the queue to it.
    """

    reason: str | None = None
    waiter: Waiter[T] | None = None
    displaced: Settled[T] | None = None


@dataclass(frozen=True, slots=True)
class Shedding:
    """From which usage on class 7 is refused, and the others evenly after it up to class 0.

    Usage is the part of the places, inside and in the queue, that is taken; class 0 is refused by
    no usage but only where no place is left.
    """

    begin: float

    def sheds(self, level: int, usage: float) -> bool:
        """Say whether a class is refused at this usage."""
        last = CLASSES - 1
        return level > 0 and usage >= self.begin + (1.0 - self.begin) * (last - level) / last


class Door(Generic[T]):
    """The way to one upstream: its gate, and who waits before it."""

    __slots__ = ("_has_backend", "gate", "is_choosing", "line", "shedding")

    def __init__(
        self,
        gate: Gate,
        wait_s: float,
        shedding: Shedding | None = None,
        has_backend: Callable[[], bool] | None = None,
    ) -> None:
        """Take how long one may wait, and what is shed.

        `has_backend` says whether any backend has room for one more; None: they have no limits.
        """
        self.is_choosing = False
        """Whether somebody who waited goes in now and has no backend yet; set back by the caller.
        Until then nobody knows how much room the backends have."""
        self.gate = gate
        self.line: Line[T] = Line(wait_s)
        self.shedding = shedding
        self._has_backend = has_backend

    def has_room(self, now: float) -> bool:
        """Say whether one more may go in."""
        return self.gate.has_room(now) and self._has_some_backend()

    def describe(self) -> str:
        """Say how full it is, for a log."""
        text = self.gate.describe()
        return text if self._has_some_backend() else f"{text}, and no backend has room"

    def call_in(self) -> None:
        """Let somebody in who waited, and will only choose a backend later."""
        self.is_choosing = self._has_backend is not None

    def _has_some_backend(self) -> bool:
        return self._has_backend is None or (not self.is_choosing and self._has_backend())


class Admission(Generic[T]):
    """The gate of the instance, and all doors behind it."""

    def __init__(self, whole: Gate, shedding: Shedding | None = None) -> None:
        self.whole = whole
        self._shedding = shedding
        self._arrivals = 0
        self._crowded: dict[Line[T], Door[T]] = {}
        """Lines with somebody in them."""

    @property
    def is_waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._crowded)

    def enter(self, door: Door[T], level: int, holder: T, now: float) -> Entry[T]:
        """Ask for a slot for a request of a class; a waiter has the `holder`."""
        reason = self._shed(door, level, now)
        if reason is not None:
            return Entry(reason)
        closed = self._closed(door, now)
        if closed or door.line.is_ahead(level):
            return self._queue(door, closed, Waiter(door.line, level, self._next(), now, holder))
        self._let_in(door)
        return Entry()

    def leave(self, door: Door[T], now: float, answer: Answer | None = None) -> list[Settled[T]]:
        """Give a slot back; `answer` says how the request was met, None if it never was."""
        door.gate.give(answer, now)
        self.whole.give(answer, now)
        return self.settle(now) if self._crowded else []

    def cancel(self, waiter: Waiter[T]) -> None:
        """Give up waiting."""
        self._drop(waiter)

    def settle(self, now: float) -> list[Settled[T]]:
        """Refuse those whose time is up, and let in all who may go, the most important first.

        To be called often while anybody waits: nobody says when another worker gives a slot back.
        """
        settled = [one for door in list(self._crowded.values()) for one in self._late(door, now)]
        while (waiter := self._next_in(now)) is not None:
            door = self._crowded[waiter.line]
            self._drop(waiter)
            self._let_in(door)
            door.call_in()
            settled.append(Settled(waiter))
        for door in self._crowded.values():
            door.gate.publish()
        self.whole.publish()
        return settled

    # --- decisions ------------------------------------------------------------------------------

    def _shed(self, door: Door[T], level: int, now: float) -> str | None:
        for gate, shedding in ((door.gate, door.shedding), (self.whole, self._shedding)):
            if shedding is not None and shedding.sheds(level, usage := gate.usage(now)):
                return f"class {level} is shed, as {gate.name} is {usage:.0%} full"
        return None

    def _closed(self, door: Door[T], now: float) -> list[Gate]:
        closed = [] if door.has_room(now) else [door.gate]
        return closed if self.whole.has_room(now) else [*closed, self.whole]

    def _queue(self, door: Door[T], closed: list[Gate], newcomer: Waiter[T]) -> Entry[T]:
        """Let a newcomer wait, in the place of somebody less important where all are taken."""
        # Where nothing is closed any more and somebody is still ahead, a queue is there.
        queues = closed or [gate for gate in (door.gate, self.whole) if gate.queue]
        full = next((gate for gate in queues if gate.waiting >= gate.queue), None)
        displaced = None
        if full is not None:
            text = door.describe() if full is door.gate else full.describe()
            lines = [door.line] if full is door.gate else list(self._crowded)
            last = max((one for line in lines if (one := line.last())), key=_rank, default=None)
            if last is None or last.level <= newcomer.level:
                return Entry(text)
            self._drop(last)
            gave = f"class {last.level} gave its place to class {newcomer.level}"
            displaced = Settled(last, f"{gave}: {text}")
        self._join(door, newcomer)
        return Entry(waiter=newcomer, displaced=displaced)

    def _next_in(self, now: float) -> Waiter[T] | None:
        """Return who goes in next, if anybody may."""
        if not self._crowded or not self.whole.has_room(now):
            return None
        firsts = [line.first() for line, door in self._crowded.items() if door.has_room(now)]
        return min((one for one in firsts if one is not None), key=_rank, default=None)

    def _late(self, door: Door[T], now: float) -> list[Settled[T]]:
        late = door.line.late(now)
        if not late:
            return []
        closed = door.describe()
        if not self.whole.has_room(now):
            closed = f"{closed}, and {self.whole.describe()}"
        for waiter in late:
            self._drop(waiter)
        return [Settled(one, f"no slot within {door.line.wait_s:g} s: {closed}") for one in late]

    # --- keeping count --------------------------------------------------------------------------

    def _next(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _let_in(self, door: Door[T]) -> None:
        door.gate.take()
        self.whole.take()

    def _join(self, door: Door[T], waiter: Waiter[T]) -> None:
        door.line.join(waiter)
        self._crowded[door.line] = door
        self._count_waiting(door, 1)

    def _drop(self, waiter: Waiter[T]) -> None:
        if not waiter.line.drop(waiter):
            return
        door = self._crowded[waiter.line]
        self._count_waiting(door, -1)
        if not len(waiter.line):
            del self._crowded[waiter.line]

    def _count_waiting(self, door: Door[T], change: int) -> None:
        for gate in (door.gate, self.whole):
            gate.waiting += change
            gate.publish()


def retry_after(least: int, chance: float) -> int:
    """Say in how many seconds to come again: from `least` to twice that, by `chance` in [0, 1).

    Whoever was refused together should not come again together.
    """
    return least + int(chance * (least + 1))


def _rank(waiter: Waiter[T]) -> tuple[int, int]:
    return waiter.rank
