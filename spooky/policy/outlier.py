"""Which backends of an upstream are kept from requests because of what happened to requests.

Pure: it is shown the sums of all workers from time to time, and says what changes. It never
probes; it judges only by the traffic that there is. The rules that are not obvious: only failures
that are new since the last look eject anybody, so old evidence never does; and what a backend
does while it is away, which are requests from before, says nothing of its future.
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


@dataclass(frozen=True, slots=True)
class Change:
    """A backend's new standing, and why; `place` is that in the upstream."""

    place: int
    verdict: Verdict
    standing: Standing
    reason: str


class _Member:
    """What is known of one backend between two looks."""

    __slots__ = ("last", "mark", "runs", "spared", "standing")

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.runs = Runs()
        self.last: Tally | None = None
        self.mark: Tally | None = None
        """Its sums when the window began; None: it was not in service all that time."""
        self.spared = False

    def forget(self) -> None:
        """Hold nothing from before against it."""
        self.runs.clear()
        self.mark = None
        self.spared = False


class OutlierDetector:
    """The judge of one upstream's backends."""

    def __init__(self, settings: OutlierSettings, standings: Sequence[Standing]) -> None:
        """Take how each backend stands, in the order of the upstream."""
        self._settings = settings
        self._members = [_Member(standing) for standing in standings]
        self._window_began: float | None = None

    @property
    def standings(self) -> list[Standing]:
        """How each backend stands after the last look."""
        return [member.standing for member in self._members]

    def observe(self, tallies: Sequence[Tally], now: float) -> list[Change]:
        """Look at the sums of each backend at `now`, seconds; say what changes."""
        changes = self._settle(now)
        reasons: dict[int, str] = {}
        for place, (member, tally) in enumerate(zip(self._members, tallies, strict=True)):
            before, member.last = member.last, tally
            if before is not None and not member.standing.ejected:
                reason = self._reason(member, tally.since(before))
                if reason:
                    reasons[place] = reason
        for place, reason in self._compare(now).items():
            reasons.setdefault(place, reason)
        for place, reason in reasons.items():
            changes += self._sentence(place, reason, now)
        return changes

    def _settle(self, now: float) -> list[Change]:
        changes = []
        for place, member in enumerate(self._members):
            before = member.standing
            member.standing = settle(before, self._settings.ejection, now)
            if before.ejected and not member.standing.ejected:
                member.forget()
                changes.append(
                    Change(place, Verdict.RETURNED, member.standing, "its time away is over")
                )
        return changes

    def _reason(self, member: _Member, growth: Tally) -> str:
        """Say why the newest failures eject a backend; empty if they do not."""
        member.runs.add(growth)
        if growth.answers and not growth.failures:
            member.spared = False
        for kind, limit in self._settings.consecutive.items():
            if growth.of(kind) and member.runs.of(kind) >= limit:
                return f"{member.runs.of(kind)} {kind.value} in a row"
        return ""

    def _compare(self, now: float) -> dict[int, str]:
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
        for member in self._members:
            member.mark = None if member.standing.ejected else member.last
        return found

    def _sentence(self, place: int, reason: str, now: float) -> list[Change]:
        """Eject a backend if another one may be away."""
        member = self._members[place]
        settings = self._settings.ejection
        away = sum(one.standing.ejected for one in self._members)
        if away < may_be_away(len(self._members), settings.max_percent):
            member.standing = eject(member.standing, settings, now)
            member.forget()
            return [Change(place, Verdict.EJECTED, member.standing, reason)]
        if member.spared:
            return []
        member.spared = True
        return [Change(place, Verdict.SPARED, member.standing, reason)]
