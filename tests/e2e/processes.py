"""Programs that a test starts: their ports, their output in files, their certain end.

Every program leads its own process group and the whole group is killed at the end, so nothing
outlives a test. Waiting is always for a condition and always with a deadline.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.02
START_S = 20.0


def wait_until(condition: Callable[[], bool], deadline_s: float, what: str) -> None:
    """Return once `condition` holds; AssertionError naming `what` after `deadline_s`."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(POLL_S)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Find a port that nobody uses now, on any address."""
    with socket.socket(socket.AF_INET6, kind) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Say whether somebody listens on a TCP port of 127.0.0.1."""
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """A program that runs, with both its outputs in one file."""

    def __init__(self, name: str, command: Sequence[str], output: Path) -> None:
        self.name = name
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def log(self) -> str:
        """All that the program has written."""
        return self.output.read_text(errors="replace")

    def is_running(self) -> bool:
        """Say whether the program has not ended."""
        return self.process.poll() is None

    def wait_until(self, condition: Callable[[], bool], deadline_s: float, what: str) -> None:
        """Like the function; also fails, with the log's end, as soon as the program ends."""

        def holds() -> bool:
            assert self.is_running(), f"{self.name} ended: {self.log()[-3000:]}"
            return condition()

        wait_until(holds, deadline_s, f"{self.name}: {what}")

    def wait(self, deadline_s: float) -> int:
        """Wait for the program's end; return its exit status."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            msg = f"{self.name} did not end in {deadline_s:g} s: {self.log()[-3000:]}"
            raise AssertionError(msg) from None

    def kill(self) -> None:
        """End the program and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
