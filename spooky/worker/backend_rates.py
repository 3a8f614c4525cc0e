"""The rate limits of single backends: which of them may be asked now, and when the next one may.

A backend whose limit is used up is passed over like one that has no room; a request is refused only
where that leaves none. It counts what is sent: each try, hedge and copy for itself, and nothing of
what was only looked at.

The rule: a backend that was found used up stays so for as long as its limit said, without another
look, as what is used never becomes less. So a refusal costs little however many backends there are.
"""

import time
from collections.abc import Collection, Sequence

from spooky.worker.call import Call, Refusal
from spooky.worker.meters import Reading
from spooky.worker.rate_gate import Limit, Tally


class BackendRates:
    """The limits of each backend of one upstream, by its place."""

    __slots__ = ("_closed_until", "_found", "_identities", "_limits", "_soonest", "_tally")

    def __init__(self, limits: Sequence[Limit], identities: Sequence[str], tally: Tally) -> None:
        """Take what tells each backend from all others; who has the same shares a count."""
        self._limits = tuple(limits)
        self._tally = tally
        self._found: dict[int, list[tuple[Limit, Reading]]] = {}
        self._soonest: tuple[int, Limit] | None = None
        self.lay_out(identities)

    def lay_out(self, identities: Collection[str]) -> None:
        """Take other backends, in the order of their places."""
        self._identities = [identity.encode() for identity in identities]
        self._closed_until = [[0] * len(identities) for _ in self._limits]
        self._found.clear()

    def begin(self) -> None:
        """Forget what the pick before found."""
        self._soonest = None

    def admits(self, call: Call, place: int) -> bool:
        """Say whether a backend may be asked; `charge` follows if it is."""
        now = time.monotonic_ns()
        found = self._found[place] = []
        for limit, closed_until in zip(self._limits, self._closed_until, strict=True):
            if limit.key_of(call) is None:
                continue
            wait = closed_until[place] - now
            if wait <= 0:
                reading = limit.meter.judge(self._identities[place], now)
                if reading.verdict.admitted or limit.dry_run:
                    found.append((limit, reading))
                    continue
                wait = reading.verdict.wait_ns
                closed_until[place] = now + wait
            if self._soonest is None or wait < self._soonest[0]:
                self._soonest = wait, limit
            return False
        return True

    def charge(self, call: Call, place: int) -> None:
        """Use one of each limit of a backend that was just said to be free: it is asked."""
        for limit, reading in self._found.pop(place):
            if reading.verdict.admitted:
                limit.meter.charge(reading)
                limit.counter.admitted()
            else:
                self._tally.note(limit, call)
        self._found.clear()

    def refusal(self, call: Call) -> Refusal | None:
        """Refuse a request for which the last pick found none, if a limit was why."""
        if self._soonest is None:
            return None
        wait, limit = self._soonest
        return self._tally.refuse(limit, wait, call)
