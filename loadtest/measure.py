"""What is measured, and the reading of a process tree: CPU time, memory, its core's time.

Only the kernel's own counters are read (/proc, by psutil); nothing is asked of the process. The
times of children that were reaped count too, so a tree that replaces a process loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Clock:
    """Counters at one moment, in seconds. Only the difference of two means anything."""

    tree_cpu_s: float
    core_busy_s: float
    core_total_s: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What the client saw between its marks. Its CPU time is its own, not the peer's."""

    requests: int
    """Answered with status 200 and the right length."""
    octets: int
    elapsed_s: float
    client_cpu_s: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process tree, in octets, summed over its processes."""

    rss: int
    pss: int
    """Shared pages divided among those who share them: what the tree costs the machine."""


@dataclass(frozen=True, slots=True)
class CpuUse:
    """What a process tree used between two moments."""

    cpu_s: float
    """User and system time of the whole tree."""
    tree_share: float
    """Of its core's time, 0 to 1."""
    other_share: float
    """Of the same core's time, what others used."""


def tree_of(root: psutil.Process) -> list[psutil.Process]:
    """The process and all that it started."""
    return [root, *root.children(recursive=True)]


def read_clock(root: psutil.Process, core: int) -> Clock:
    """The counters now."""
    times = psutil.cpu_times(percpu=True)[core]
    # guest times are part of user times already (proc(5)).
    total = sum(times) - times.guest - times.guest_nice
    return Clock(
        tree_cpu_s=sum(sum(process.cpu_times()[:4]) for process in tree_of(root)),
        core_busy_s=total - times.idle - times.iowait - times.steal,
        core_total_s=total,
    )


def cpu_between(before: Clock, after: Clock) -> CpuUse:
    """What was used from one moment to another; a core has one second of time a second."""
    total = max(after.core_total_s - before.core_total_s, 1e-9)
    cpu = after.tree_cpu_s - before.tree_cpu_s
    busy = after.core_busy_s - before.core_busy_s
    return CpuUse(cpu, tree_share=cpu / total, other_share=max(0.0, busy - cpu) / total)


def read_memory(root: psutil.Process) -> Memory:
    """The memory now."""
    readings = [process.memory_full_info() for process in tree_of(root)]
    return Memory(sum(r.rss for r in readings), sum(r.pss for r in readings))
