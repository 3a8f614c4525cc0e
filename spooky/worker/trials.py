"""This worker's share of the trials of backends whose circuit breaker is half open.

A round of trials has a number; a new number makes a new share. Nothing is given back: a trial
whose client leaves is lost, and the keeper begins another round in time.
"""

from spooky.policy.breaker import trial_share
from spooky.shm.backends import BackendColumn, BackendRow, unpack_trials


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


class Trials:
    """The quotas of one worker, the one at `index` of `workers`."""

    def __init__(self, index: int, workers: int) -> None:
        self._index = index
        self._workers = workers
        self._quotas: dict[int, Quota] = {}

    def quota(self, number: int, row: BackendRow) -> Quota:
        """Give the quota of a backend, whose row this is, in the round that there is now."""
        quota = self._quotas.setdefault(number, Quota())
        round_number, trials = unpack_trials(row.get(BackendColumn.TRIALS))
        share = trial_share(trials, round_number, self._index, self._workers)
        quota.renew(round_number, share)
        return quota

    def is_spent(self, number: int) -> bool:
        """Say whether there was a round for a backend, of which nothing is left."""
        quota = self._quotas.get(number)
        return quota is not None and not quota.left
