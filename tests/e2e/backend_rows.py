"""What the shared memory of a Spooky that runs says of its backends, without a command."""

from spooky.shm.backend_cells import BackendColumn, Breaker
from spooky.shm.segment import attach_to
from spooky.shm.traffic import TrafficColumn
from tests.e2e.spooky_process import SpookyProcess


class Rows:
    """The rows of the backends, by names such as `web/b0`; in several upstreams, by the first."""

    def __init__(self, spooky: SpookyProcess) -> None:
        self._memory = attach_to(spooky.program.process.pid)
        backends = self._memory.backends
        names = {number: backends.row(number).name for number in backends.taken()}
        self._numbers = {name.partition(", ")[0]: number for number, name in names.items()}

    def counted(self, name: str, column: TrafficColumn = TrafficColumn.REQUESTS) -> int:
        """Read a sum over all workers; that of the attempts that are over if none is named."""
        return self._memory.traffic.total(self._numbers[name]).get(column)

    def is_ejected(self, name: str) -> bool:
        """Say whether passive health keeps requests from it."""
        row = self._memory.backends.row(self._numbers[name])
        return row.get(BackendColumn.EJECTED_UNTIL_MS) > 0

    def breaker(self, name: str) -> Breaker:
        """Say how its circuit breaker stands."""
        row = self._memory.backends.row(self._numbers[name])
        return Breaker(row.get(BackendColumn.BREAKER))
