"""The circuit breaker of one backend: whether requests pass, as a table.

    CLOSED --FAILED--> OPEN --TIME_UP--> HALF_OPEN --RECOVERED--> CLOSED
                        ^                  |    ^ |
                        +------FAILED------+    +-+ TIME_UP: a new round of trials

Pure: it is shown the sums of all workers from time to time. It never sees a request: who admits
one while the breaker is half open counts its own share of the round's trials (`trial_share`). The
rules that are not obvious: trials may get lost, with a client that leaves or a worker that dies,
so a round that comes to no end within the open time is followed by another one. And what fails
within one look may be one event, so a run of failures has to be seen in two.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from spooky.policy.tally import Tally


class State(IntEnum):
    """Whether requests pass."""

    CLOSED = 0
    """They do."""
    OPEN = 1
    """None does."""
    HALF_OPEN = 2
    """A few do, to see."""


class Event(IntEnum):
    """What moves a breaker on."""

    FAILED = 0
    """Too much failed; while it is half open, one is too much."""
    TIME_UP = 1
    RECOVERED = 2
    """Enough trials succeeded."""


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.CLOSED, Event.FAILED): State.OPEN,
    (State.OPEN, Event.TIME_UP): State.HALF_OPEN,
    (State.HALF_OPEN, Event.FAILED): State.OPEN,
    (State.HALF_OPEN, Event.TIME_UP): State.HALF_OPEN,
    (State.HALF_OPEN, Event.RECOVERED): State.CLOSED,
}
"""What is not here leaves the state as it is."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """What an operator says of the breaker. Times are seconds; 0 failures or percent: never."""

    consecutive_failures: int
    failure_percent: int
    """Of the attempts in a window."""
    minimum_requests: int
    """In the window, for the percentage to mean anything."""
    window: float
    open_time: float
    """For the first time; twice as long each time that a trial fails."""
    max_open_time: float
    trials: int
    """Requests that a round of trials admits."""
    successes: int
    """That close the breaker; at most `trials`."""


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """How a breaker stands. Times are seconds on the caller's clock."""

    state: State = State.CLOSED
    until: float = 0.0
    """When the time is up, unless it is closed."""
    round: int = 0
    """The number of the last round of trials."""
    openings: int = 0
    """How often it opened since it was closed last."""


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A new state, and why."""

    status: BreakerStatus
    reason: str


class Breaker:
    """The breaker of one backend."""

    def __init__(self, settings: BreakerSettings, status: BreakerStatus) -> None:
        self._settings = settings
        self._status = status
        self._last: Tally | None = None
        self._run = self._looks = 0
        """Failures in a row, and in how many looks they were seen."""
        self._mark = Tally()
        """The sums when the window, or the first round of trials, began."""
        self._window_began = 0.0

    @property
    def status(self) -> BreakerStatus:
        """How it stands after the last look."""
        return self._status

    def observe(self, tally: Tally, now: float) -> BreakerChange | None:
        """Look at the backend's sums at `now`, seconds; say if the state has changed, and why."""
        if self._last is None:
            self._begin(tally, now)
        growth = tally.since(self._last or tally)
        self._last = tally
        event, reason = self._event(tally, growth, now)
        before = self._status
        if event is not None:
            self._move(event, tally, now)
        elif before.state is State.CLOSED:
            self._turn_window(tally, now)
        self._bound(now)
        changed = self._status.state is not before.state
        return BreakerChange(self._status, reason) if changed else None

    def _event(self, tally: Tally, growth: Tally, now: float) -> tuple[Event | None, str]:
        done = tally.since(self._mark)
        time_up = now >= self._status.until
        match self._status.state:
            case State.CLOSED:
                reason = self._excess(done, growth)
                return (Event.FAILED, reason) if reason else (None, "")
            case State.OPEN:
                return (Event.TIME_UP, "to try again") if time_up else (None, "")
            case State.HALF_OPEN:
                if growth.failures:
                    return Event.FAILED, "a trial failed"
                if done.successes >= self._settings.successes:
                    return Event.RECOVERED, f"{done.successes} trials succeeded"
                return (Event.TIME_UP, "") if time_up else (None, "")

    def _excess(self, window: Tally, growth: Tally) -> str:
        """Say in what way too much has failed; empty if it has not."""
        settings = self._settings
        if growth.successes:
            self._run = self._looks = 0
        elif growth.failures:
            self._run += growth.failures
            self._looks += 1
        if not growth.failures:
            return ""
        limit = settings.consecutive_failures
        if 0 < limit <= self._run and self._looks >= min(limit, 2):
            return f"{self._run} failures in a row"
        if (
            settings.failure_percent
            and window.volume >= settings.minimum_requests
            and window.failures * 100 >= window.volume * settings.failure_percent
        ):
            return f"{window.failures} of {window.volume} requests failed"
        return ""

    def _move(self, event: Event, tally: Tally, now: float) -> None:
        before = self._status
        state = TRANSITIONS.get((before.state, event), before.state)
        number, openings = before.round, before.openings
        length = 0.0
        match state:
            case State.OPEN:
                openings += 1
                length = self._open_time(openings)
            case State.HALF_OPEN:
                number += 1
                length = self._settings.open_time
            case State.CLOSED:
                openings = 0
        self._status = BreakerStatus(state, now + length if length else 0.0, number, openings)
        if state is not before.state:
            self._begin(tally, now)

    def _open_time(self, openings: int) -> float:
        doublings = min(openings - 1, 30)
        return min(self._settings.open_time * 2.0**doublings, self._settings.max_open_time)

    def _begin(self, tally: Tally, now: float) -> None:
        self._run = self._looks = 0
        self._mark = tally
        self._window_began = now

    def _turn_window(self, tally: Tally, now: float) -> None:
        if not 0 <= now - self._window_began < self._settings.window:
            self._mark = tally
            self._window_began = now

    def _bound(self, now: float) -> None:
        """Let no clock that jumps back keep it from going on."""
        status = self._status
        if status.until > now + self._settings.max_open_time:
            until = now + self._settings.max_open_time
            self._status = BreakerStatus(status.state, until, status.round, status.openings)


def trial_share(trials: int, number: int, index: int, workers: int) -> int:
    """Say how many trials of a round the worker at `index` of `workers` may admit.

    The shares add up to `trials`. Where there are fewer trials than workers, others have them in
    the next round (`number`), for all traffic may be one worker's.
    """
    each, rest = divmod(trials, workers)
    return each + ((index + number) % workers < rest)
