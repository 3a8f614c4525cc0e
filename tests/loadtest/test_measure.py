"""What is read of a process tree, of a real one where that is possible."""

import os
import subprocess
import sys

import psutil
import pytest

from loadtest.client import percentile
from loadtest.measure import Clock, cpu_between, read_clock, read_memory, tree_of
from loadtest.workloads import WORKLOADS

SPIN = "import time\nwhile time.process_time() < 0.2: pass\n"
PARENT = (
    "import subprocess, sys\n"
    f"print(1)\ninput()\nsubprocess.run([sys.executable, '-c', {SPIN!r}])\nprint(2)\ninput()\n"
)


def test_use_is_what_lies_between_two_moments() -> None:
    use = cpu_between(Clock(1.0, 10.0, 100.0), Clock(4.0, 13.5, 104.0))
    assert use.cpu_s == 3.0
    assert use.tree_share == pytest.approx(0.75)
    assert use.other_share == pytest.approx(0.125)


def test_the_others_never_used_less_than_nothing() -> None:
    assert cpu_between(Clock(0.0, 0.0, 0.0), Clock(1.01, 1.0, 1.0)).other_share == 0.0


def test_the_time_of_a_child_that_is_gone_counts() -> None:
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen(
        [sys.executable, "-uc", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        root = psutil.Process(parent.pid)
        parent.stdout.readline()
        before = read_clock(root, core)
        parent.stdin.write("\n")
        parent.stdin.flush()
        parent.stdout.readline()
        assert tree_of(root) == [root]
        assert cpu_between(before, read_clock(root, core)).cpu_s >= 0.15
        parent.stdin.write("\n")


def test_shared_pages_count_once() -> None:
    memory = read_memory(psutil.Process())
    assert 0 < memory.pss <= memory.rss


@pytest.mark.parametrize(("share", "value"), [(0.5, 51), (0.99, 100), (1.0, 100), (0.0, 1)])
def test_percentile(share: float, value: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == value


def test_percentile_of_nothing() -> None:
    assert percentile([], 0.5) == 0.0


def test_a_workload_keeps_its_shape_unless_told() -> None:
    single = WORKLOADS["single"]
    assert single.shaped(None, None) == single
    assert (single.shaped(4, 5).connections, single.shaped(4, 5).streams) == (4, 5)
