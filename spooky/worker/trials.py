"""This worker's share of the trials of backends whose circuit breaker is half open.

A round of trials has a number; a new number makes a new share. Nothing is given back: a trial
whose client leaves is lost, and the keeper begins another round in time.
"""

from spooky.policy.breaker import trial_share
from spooky.shm.backends import BackendColumn, BackendRow, Breaker, Fitness, unpack_trials


class Quota:
    """What this worker, the one at `index` of `workers`, may still send to one backend."""

    __slots__ = ("_index", "_round", "_workers", "left")

    def __init__(self, index: int, workers: int) -> None:
        self._index = index
        self._workers = workers
        self._round = 0
        self.left = 0

    def renew(self, number: int, trials: int) -> None:
        """Take the share of a round that admits `trials`, unless it was taken already."""
        if number != self._round:
            self._round = number
            self.left = trial_share(trials, number, self._index, self._workers)

    def take(self) -> bool:
        """Take a trial; False where none is left."""
        if not self.left:
            return False
        self.left -= 1
        return True


class TriedRow:
    """A backend's row as one worker goes by it: with what it has left of a round (census.Row)."""

    __slots__ = ("_row", "quota")

    def __init__(self, row: BackendRow, quota: Quota) -> None:
        self._row = row
        self.quota = quota

    @property
    def is_tried(self) -> bool:
        """Whether the breaker is half open."""
        return self._row.get(BackendColumn.BREAKER) == Breaker.HALF_OPEN

    def renew(self) -> None:
        """Take this worker's share of the round that there is now."""
        self.quota.renew(*unpack_trials(self._row.get(BackendColumn.TRIALS)))

    def deciding(self) -> list[int]:
        """Read what the row decides by, and whether trials are left."""
        return [*self._row.deciding(), bool(self.quota.left)]

    def weight_of(self, configured: int) -> int:
        """Say which weight holds in place of the configured one."""
        return self._row.weight_of(configured)

    def fitness(self, now_ms: int) -> Fitness:
        """Say whether the backend may be asked: if its breaker is half open, while trials last."""
        fitness = self._row.fitness(now_ms)
        if not self.is_tried:
            return fitness
        return fitness._replace(is_breaker_open=not self.quota.left)
