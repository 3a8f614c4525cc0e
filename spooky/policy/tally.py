"""What all workers together saw of a backend: sums, and what can be read from their growth.

Pure. Workers only add up, so that nobody knows in which order things happened in different
workers. The rules that are not obvious: failures are "in a row" when they grew while the answers
that would contradict them did not; where both grew between two looks, the run begins anew. And
what fails within one look may be one event, such as a lost connection with a hundred requests on
it, so a run of several has to be seen more than once.
"""

from dataclasses import dataclass
from enum import Enum


class Failure(Enum):
    """How an attempt may fail by the backend's fault; the value is its name in the log."""

    CONNECT = "connect failures"
    TIMEOUT = "timeouts"
    RESET = "resets"
    ERROR = "error responses"


@dataclass(frozen=True, slots=True)
class Tally:
    """Attempts with one backend, by how they ended; each is in one of the first five at most."""

    successes: int = 0
    """Answered with a status below 500."""
    errors: int = 0
    """Answered with a status of 500 to 599."""
    connect_failures: int = 0
    timeouts: int = 0
    resets: int = 0
    """The stream was reset, the connection lost, or the answer not one of HTTP."""
    begun: int = 0
    """Answers that have begun, whatever became of them."""
    answer_time_us: int = 0
    """The sum of the times until these began."""

    def since(self, before: "Tally") -> "Tally":
        """Say what was added; a sum that fell was begun anew, and counts as it stands."""
        if before is self:
            return NOTHING
        return Tally(
            _added(self.successes, before.successes),
            _added(self.errors, before.errors),
            _added(self.connect_failures, before.connect_failures),
            _added(self.timeouts, before.timeouts),
            _added(self.resets, before.resets),
            _added(self.begun, before.begun),
            _added(self.answer_time_us, before.answer_time_us),
        )

    @property
    def answers(self) -> int:
        """Attempts that were answered, whatever the status."""
        return self.successes + self.errors

    @property
    def failures(self) -> int:
        """Attempts that failed by the backend's fault."""
        return self.errors + self.connect_failures + self.timeouts + self.resets

    @property
    def volume(self) -> int:
        """Attempts that say something of the backend."""
        return self.successes + self.failures

    def of(self, kind: Failure) -> int:
        """Count the failures of a kind."""
        match kind:
            case Failure.CONNECT:
                return self.connect_failures
            case Failure.TIMEOUT:
                return self.timeouts
            case Failure.RESET:
                return self.resets
            case Failure.ERROR:
                return self.errors


NOTHING = Tally()


def _added(now: int, then: int) -> int:
    return now - then if now >= then else now


class Runs:
    """How many failures of each kind a backend has had in a row."""

    __slots__ = ("_looks", "_runs")

    def __init__(self) -> None:
        self.clear()

    def add(self, growth: Tally) -> None:
        """Take what was added since the last look.

        An answer of any status ends a run of failures to get one; only a success ends one of
        error responses.
        """
        if growth is NOTHING:
            return
        for kind in Failure:
            if growth.successes if kind is Failure.ERROR else growth.answers:
                self._runs[kind] = self._looks[kind] = 0
            elif growth.of(kind):
                self._runs[kind] += growth.of(kind)
                self._looks[kind] += 1

    def of(self, kind: Failure) -> int:
        """Say how long the run is."""
        return self._runs[kind]

    def is_over(self, kind: Failure, limit: int) -> bool:
        """Say whether there were `limit` in a row, for certain."""
        return self._runs[kind] >= limit and self._looks[kind] >= min(limit, 2)

    def clear(self) -> None:
        """Begin anew."""
        self._runs = dict.fromkeys(Failure, 0)
        self._looks = dict.fromkeys(Failure, 0)
