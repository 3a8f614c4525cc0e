"""Who still holds an address after the death of its master: real processes, with real titles."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from spooky.master.orphans import describe_orphans, find_orphans
from tests.master.running import free_port, wait_for

FAMILY = """
import os, socket, sys
import setproctitle
parent, child, port = sys.argv[1:]
alive = os.pipe()
setproctitle.setproctitle(parent or "python")
if os.fork() == 0:
    setproctitle.setproctitle(child)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", int(port)))
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
if parent:
    sys.stdin.read()
"""


@contextlib.contextmanager
def family(port: int, child: str, parent: str = "") -> Iterator[int]:
    """A child that holds a port, without a parent unless that has a title; yields its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY, parent, child, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            pid = int(running.stdout.readline())
            if not parent:
                running.wait(10)
            yield pid
        finally:
            running.stdin.close()
    wait_for(lambda: has_ended(pid), "the child's end")


def has_ended(pid: int) -> bool:
    """Say so of one that nobody reaps, too, as under the first process of many containers."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("child", "parent", "is_orphan"),
    [
        ("spooky: worker 0 (gen 1)", "", True),
        ("spooky: keeper", "", True),
        ("spooky: worker 0 (gen 1)", "a subreaper", True),
        ("spooky: worker 0 (gen 1)", "spooky: master -c x", False),
        ("spooky: demo", "", False),
        ("other", "", False),
    ],
)
def test_who_is_an_orphan(child: str, parent: str, is_orphan: bool) -> None:
    port = free_port()
    with family(port, child, parent) as pid:
        assert find_orphans(port) == ([pid] if is_orphan else [])
        assert find_orphans(free_port()) == []


def test_a_port_that_is_free_has_no_orphans() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        assert find_orphans(udp.getsockname()[1]) == []


def test_the_words() -> None:
    assert describe_orphans([]) == ""
    assert describe_orphans([12, 13]) == (
        "workers of a dead master still finish their requests (pids 12 13): wait until they are "
        "done, at most for their drain_timeout, or end them with `kill 12 13`"
    )
