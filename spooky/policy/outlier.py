"""Which backends of an upstream are kept from requests because of what happened to requests.

Pure: it is shown the sums of all workers from time to time, and says what changes. It never
probes; it judges only by the traffic that there is. The rules that are not obvious: only failures
that are new since the last look eject anybody, so old evidence never does; and what a backend
does while it is away, which are requests from before, says nothing of its future. How a backend
stands is not kept here: it may be in several upstreams, and stands alike in all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from spooky.policy.deviation import DeviationSettings, outliers
from spooky.policy.ejection import EjectionSettings, Standing, eject, may_be_away, settle
from spooky.policy.tally import Failure, Runs, Tally


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """What an operator says of passive health."""

    consecutive: Mapping[Failure, int]
    """How many failures of a kind in a row eject; a kind that is not here never does."""
    window: float
    """Seconds over which the backends are compared."""
    deviation: DeviationSettings
    ejection: EjectionSettings


class Verdict(Enum):
    """What became of a backend."""

    EJECTED = "ejected"
    RETURNED = "returned"
    SPARED = "spared"
    """It ought to be ejected, but as many as may be are away already. Said once in a row."""
    AGED = "aged"
    """Nothing but its standing has changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """A backend's new standing, and why; `place` is that in the upstream."""

    place: int
    verdict: Verdict
    standing: Standing
    reason: str


class _Member:
    """What is known of one backend between two looks."""

    __slots__ = ("last", "mark", "runs", "spared", "was_away")

    def __init__(self) -> None:
        self.runs = Runs()
        self.last: Tally | None = None
        self.mark: Tally | None = None
        """Its sums when the window began; None: it was not in service all that time."""
        self.spared = False
        self.was_away = False

    def forget(self) -> None:
        """Hold nothing from before against it."""
        self.runs.clear()
        self.mark = None
        self.spared = False


class OutlierDetector:
    """The judge of one upstream's backends."""

    def __init__(self, settings: OutlierSettings, members: int) -> None:
        """Take how many backends there are."""
        self._settings = settings
        self._members = [_Member() for _ in range(members)]
        self._window_began: float | None = None

    def observe(
        self, tallies: Sequence[Tally], standings: Sequence[Standing], now: float
    ) -> list[Change]:
        """Look at the backends' sums and standings at `now`, seconds; say what changes.

        Both are in the order of the upstream. A change that nobody enters into the standings is
        none.
        """
        stand = list(standings)
        changes = self._settle(stand, now)
        reasons = {}
        for place, tally in enumerate(tallies):
            reason = self._reason(self._members[place], tally, away=stand[place].ejected)
            if reason:
                reasons[place] = reason
        for place, reason in self._compare(stand, now).items():
            reasons.setdefault(place, reason)
        for place, reason in reasons.items():
            changes += self._sentence(place, stand, reason, now)
        return changes

    def _settle(self, stand: list[Standing], now: float) -> list[Change]:
        """Let time pass for everybody's standing."""
        changes = []
        for place, member in enumerate(self._members):
            before = stand[place]
            after = stand[place] = settle(before, self._settings.ejection, now)
            if member.was_away and not after.ejected:
                member.forget()
            if before.ejected and not after.ejected:
                changes.append(Change(place, Verdict.RETURNED, after, "its time away is over"))
            elif after != before:
                changes.append(Change(place, Verdict.AGED, after, ""))
            member.was_away = after.ejected
        return changes

    def _reason(self, member: _Member, tally: Tally, *, away: bool) -> str:
        """Say why the newest failures eject a backend; empty if they do not."""
        before, member.last = member.last, tally
        if before is None or away:
            return ""
        growth = tally.since(before)
        member.runs.add(growth)
        if growth.answers and not growth.failures:
            member.spared = False
        for kind, limit in self._settings.consecutive.items():
            if growth.of(kind) and member.runs.is_over(kind, limit):
                return f"{member.runs.of(kind)} {kind.value} in a row"
        return ""

    def _compare(self, stand: Sequence[Standing], now: float) -> dict[int, str]:
        """At the end of a window, find who did worse than the others, and begin the next one."""
        began = self._window_began
        if began is not None and 0 <= now - began < self._settings.window:
            return {}
        found = {}
        if began is not None and now > began:
            grown = {
                place: member.last.since(member.mark)
                for place, member in enumerate(self._members)
                if member.mark is not None and member.last is not None
            }
            found = outliers(grown, self._settings.deviation)
        self._window_began = now
        for member, standing in zip(self._members, stand, strict=True):
            member.mark = None if standing.ejected else member.last
        return found

    def _sentence(self, place: int, stand: list[Standing], reason: str, now: float) -> list[Change]:
        """Eject a backend if another one may be away."""
        member, settings = self._members[place], self._settings.ejection
        away = sum(standing.ejected for standing in stand)
        if away < may_be_away(len(stand), settings.max_percent):
            stand[place] = eject(stand[place], settings, now)
            member.forget()
            member.was_away = True
            return [Change(place, Verdict.EJECTED, stand[place], reason)]
        if member.spared:
            return []
        member.spared = True
        return [Change(place, Verdict.SPARED, stand[place], reason)]
