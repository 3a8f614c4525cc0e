"""The gate before an upstream that bounds what is in flight, and lets others wait.

`policy/admission.py` decides. Here are its clock, the calls that it decides on, and the way of a
decision back to them; what other workers have in flight is in shared memory (`shm/limits.py`).

The rule: who waited is never told of its turn from within another exchange, but in a turn of the
loop of its own. Its slot is taken by then, and is given back like any other should it have left.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spooky.errors import Kind
from spooky.policy.admission import Admission, Door, Settled, retry_after
from spooky.policy.concurrency import Answer
from spooky.policy.priority import class_of
from spooky.policy.waiting import Waiter
from spooky.worker.call import Call, Held, Hold, Refusal, Verdict

TICK_S: Final = 0.01
"""Between looks at who has waited too long and what other workers gave back, while any wait."""


@dataclass(frozen=True, slots=True)
class Importance:
    """How a request's class is found, as in the configuration of the upstream."""

    own: int
    field: bytes | None
    trusted: bool

    def of(self, call: Call) -> int:
        """Return the class of a call."""
        if self.field is None:
            return self.own
        said = b", ".join(value for name, value in call.head.headers if name == self.field)
        return class_of(self.own, said, trusted=self.trusted)


@dataclass(frozen=True, slots=True)
class Guest:
    """Whoever waits, and the gate before which it does."""

    gate: "AdmissionGate"
    call: Call
    held: Held


class Reception:
    """What all gates of a worker share: who is told of what was decided, and when."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        admission: Admission[Guest],
        least_wait_s: int,
        rand: Callable[[], float],
    ) -> None:
        """Take how soon whoever is refused may come again, whole seconds."""
        self.admission = admission
        self._loop = loop
        self._least_wait_s = least_wait_s
        self._rand = rand
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Look again and again from now on, while anybody waits."""
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look_soon(self) -> None:
        """Look once, after all that happens now."""
        self._loop.call_soon(self._settle)

    def refusal(self, call: Call, reason: str) -> Refusal:
        """Turn a call away, with a time to come again."""
        wait = retry_after(self._least_wait_s, self._rand())
        call.response_fields.append((b"retry-after", b"%d" % wait))
        return Refusal(Kind.OVERLOADED, reason)

    def tell(self, settled: list[Settled[Guest]]) -> None:
        """Tell those who wait no more, later."""
        for one in settled:
            guest = one.waiter.holder
            guest.gate.settle(guest.call, is_inside=one.reason is None)
            if one.reason is None:
                self._loop.call_soon(self._call_in, guest)
            else:
                refusal = self.refusal(guest.call, one.reason)
                self._loop.call_soon(guest.held.refuse_at_gate, refusal)

    def _call_in(self, guest: Guest) -> None:
        guest.held.proceed()
        if guest.gate.has_chosen():
            self._settle()

    def _look(self) -> None:
        self._timer = None
        self._settle()
        if self.admission.is_waiting:
            self.watch()

    def _settle(self) -> None:
        self.tell(self.admission.settle(time.monotonic()))


class AdmissionGate:
    """The gate before one upstream (call.Gate)."""

    def __init__(self, reception: Reception, door: Door[Guest], importance: Importance) -> None:
        self._reception = reception
        self._door = door
        self._importance = importance
        self._inside: dict[int, float] = {}
        """When each call went in, by its id."""
        self._waiting: dict[int, Waiter[Guest]] = {}

    def enter(self, call: Call, held: Held) -> Verdict:
        """Let the call in, let it wait, or refuse it."""
        now = time.monotonic()
        guest = Guest(self, call, held)
        level = self._importance.of(call)
        admission = self._reception.admission
        if admission.is_waiting:
            # Another worker may have given back what those who wait can have, and they come first.
            self._reception.tell(admission.settle(now))
        entry = admission.enter(self._door, level, guest, now)
        if entry.displaced is not None:
            self._reception.tell([entry.displaced])
        if entry.reason is not None:
            return self._reception.refusal(call, entry.reason)
        if entry.waiter is None:
            self._inside[id(call)] = now
            return None
        self._waiting[id(call)] = entry.waiter
        self._reception.watch()
        return Hold.HELD

    def settle(self, call: Call, *, is_inside: bool) -> None:
        """Take note that a call waits no more."""
        del self._waiting[id(call)]
        if is_inside:
            self._inside[id(call)] = time.monotonic()

    def has_chosen(self) -> bool:
        """Take note that whoever was let in has a backend; say whether others waited for that."""
        was_choosing, self._door.is_choosing = self._door.is_choosing, False
        return was_choosing

    def leave(self, call: Call) -> None:
        """Give back what the call has: its slot, or its place in the queue."""
        admission = self._reception.admission
        waiter = self._waiting.pop(id(call), None)
        if waiter is not None:
            admission.cancel(waiter)
            return
        entered_at = self._inside.pop(id(call), None)
        if entered_at is None:
            return
        now = time.monotonic()
        answer = _answer(call, entered_at, now)
        self._reception.tell(admission.leave(self._door, now, answer))
        if admission.is_waiting:
            # The stream at the backend may not be over before the exchange is.
            self._reception.look_soon()


def _answer(call: Call, entered_at: float, now: float) -> Answer | None:
    """Say how a call was met; None if it ended without an answer by no fault of the backend."""
    if call.failed:
        return Answer(entered_at, now - entered_at, failed=True)
    if call.latency is None:
        return None
    return Answer(call.asked_at, call.latency, failed=False)
