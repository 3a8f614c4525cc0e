"""This worker's share of the trials of backends whose circuit breaker is half open.

A round of trials has a number; a new number makes a new share. Nothing is given back: a trial
whose client leaves is lost, and the keeper begins another round in time.
"""

from collections.abc import Mapping

from spooky.policy.breaker import trial_share
from spooky.shm.backend_cells import BackendColumn, Breaker, Fitness, unpack_trials
from spooky.shm.backends import BackendRow, BackendTable


class Quota:
    """What this worker may still send to one backend in a round."""

    __slots__ = ("_round", "left")

    def __init__(self) -> None:
        self._round = 0
        self.left = 0

    def renew(self, number: int, share: int) -> None:
        """Take the share of a round, unless it is the round that there was."""
        if number != self._round:
            self._round = number
            self.left = share

    def take(self) -> bool:
        """Take a trial; False where none is left."""
        if not self.left:
            return False
        self.left -= 1
        return True


class TriedRow:
    """A backend's row, as a worker sees it that has a share of its trials (policy.census.Row)."""

    def __init__(self, row: BackendRow, quota: Quota, index: int, workers: int) -> None:
        self._row = row
        self._quota = quota
        self._index = index
        self._workers = workers

    def deciding(self) -> list[int]:
        """Read what decides, whether there are trials left among it."""
        return [*self._row.deciding(), self._quota.left > 0]

    def weight_of(self, configured: int) -> int:
        """Say which weight holds in place of the configured one."""
        return self._row.weight_of(configured)

    def fitness(self, now_ms: int) -> Fitness:
        """Say how it is: without trials left, a breaker that is half open is open."""
        fitness = self._row.fitness(now_ms)
        quota = self.quota()
        return fitness if quota is None or quota.left else fitness._replace(is_breaker_open=True)

    def quota(self) -> Quota | None:
        """Give the quota in the round that there is now; None where the breaker has none."""
        if self._row.get(BackendColumn.BREAKER) != Breaker.HALF_OPEN:
            return None
        number, trials = unpack_trials(self._row.get(BackendColumn.TRIALS))
        share = trial_share(trials, number, self._index, self._workers)
        self._quota.renew(number, share)
        return self._quota


def tried_rows(
    table: BackendTable, rows: Mapping[str, int], index: int, workers: int
) -> dict[str, TriedRow]:
    """Make the view of each backend's row, by its identity, of the worker at `index` of `workers`.

    Upstreams that have the same backend share it.
    """
    return {
        identity: TriedRow(table.row(number), Quota(), index, workers)
        for identity, number in rows.items()
    }
