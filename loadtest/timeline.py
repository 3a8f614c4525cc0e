"""Watches a process tree over time: CPU time, memory, descriptors, once a second.

A process may end while it is read (reloads end many): what it used is then found in its parent's
times of reaped children, and its memory is no longer there to be counted.
"""

import contextlib
import threading
import time
from dataclasses import dataclass

import psutil

from loadtest.measure import tree_of

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A process tree at one moment."""

    at: float
    """By the monotonic clock."""
    cpu_s: float
    """User and system time of the tree, with the children that it has reaped."""
    pss: int
    """Proportional set size, octets."""
    descriptors: int
    processes: int


def sample(root: psutil.Process) -> Sample:
    """Read the tree now."""
    cpu_s, pss, descriptors, processes = 0.0, 0, 0, 0
    at = time.monotonic()
    for process in tree_of(root):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            cpu_s += sum(process.cpu_times()[:4])
            pss += process.memory_full_info().pss
            descriptors += process.num_fds()
            processes += 1
    return Sample(at, cpu_s, pss, descriptors, processes)


class Watch:
    """Samples of a tree, taken by a thread until `stop`."""

    def __init__(self, root: psutil.Process) -> None:
        self.samples = [sample(root)]
        self._root = root
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch")
        self._thread.start()

    def stop(self) -> list[Sample]:
        """Take the last sample; all of them."""
        self._stopped.set()
        self._thread.join()
        self.samples.append(sample(self._root))
        return self.samples

    def _watch(self) -> None:
        while not self._stopped.wait(EVERY_S):
            self.samples.append(sample(self._root))
