"""Starts and ends the processes of a run, each tree on the cores that it is given.

The cores are set before the fork, so that every process and thread of the tree inherits them. A
process is always ended with its whole tree, also when the bench is interrupted.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxy's own core, and those of the client and the backend."""

    proxy: frozenset[int]
    others: frozenset[int]

    @property
    def separate(self) -> bool:
        """Nothing of the load runs on the proxy's core."""
        return not self.proxy & self.others


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to start: `env` is added to the environment of the bench."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def share_cores() -> Cores:
    """The last core for the proxy, the rest for the load; one core alone serves both."""
    available = sorted(os.sched_getaffinity(0))
    proxy = frozenset(available[-1:])
    return Cores(proxy, frozenset(available[:-1]) or proxy)


def free_port() -> int:
    """A port of 127.0.0.1 that is free for both TCP and UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


@contextlib.contextmanager
def running(launch: Launch, cores: frozenset[int], log: Path) -> Iterator[psutil.Process]:
    """The command, started on `cores` with its output in `log`; its tree is gone afterwards."""
    with log.open("ab") as output, pinned(cores):
        child = subprocess.Popen(
            launch.argv,
            env={**os.environ, **launch.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield psutil.Process(child.pid)
    finally:
        end(child)


@contextlib.contextmanager
def talking(module: str, *arguments: str, cores: frozenset[int]) -> Iterator[subprocess.Popen[str]]:
    """A module of the load generator that speaks in lines; ended afterwards."""
    with pinned(cores):
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        yield child
    finally:
        end(child)


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """What is started inside runs on `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end(child: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Ask the tree to end, and kill what is left of it after the grace."""
    tree: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(child.pid)
        tree = [*root.children(recursive=True), root]
    if child.poll() is None:
        child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
