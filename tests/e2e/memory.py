"""How resident memory of processes grows while a scenario runs."""

import psutil

from tests.e2e.content import MIB


class MemoryWatch:
    """Samples processes from now on; `growth` is the most that any of them has grown."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self._start = {process: process.memory_info().rss for process in processes}
        self.growth = 0

    def sample(self) -> int:
        """Look once; return the growth so far, in octets."""
        grown = [one.memory_info().rss - start for one, start in self._start.items()]
        self.growth = max(self.growth, *grown)
        return self.growth

    def __str__(self) -> str:
        return f"{self.growth / MIB:.1f} MiB"
