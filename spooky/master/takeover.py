"""An upgrade: a master hands all that it holds to a new process, which runs the new code.

Owns what passes between the two: descriptors by inheritance, their meaning as JSON in a memfd
that the environment names, and a channel on which the new master says `ready` or why it cannot
serve. The old one goes on as if nothing were until it hears `ready`; then it drains. The end of
the channel tells either side that the other is gone.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from spooky.errors import ExitCode, StartupError

VARIABLE: Final = "SPOOKY_TAKEOVER"
READY: Final = "ready"
_REASON_BYTES: Final = 4096


@dataclass(slots=True)
class Heritage:
    """What a new master was given, and its way to the old one."""

    channel: socket.socket
    state: dict[str, Any]

    def is_over(self) -> bool:
        """Say whether the old master is gone; read when the channel is readable."""
        with contextlib.suppress(BlockingIOError):
            return self.channel.recv(1) == b""
        return False

    def say(self, text: str) -> None:
        """Tell the old master `READY`, or why it has to go on."""
        line = " ".join(text.split()).encode()[: _REASON_BYTES - 1]
        with contextlib.suppress(OSError):
            self.channel.send(line + b"\n")


def receive() -> Heritage | None:
    """Take what an old master has left to this process; None: there is none. StartupError."""
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return None
    try:
        with open(int(number), encoding="utf-8") as file:
            file.seek(0)
            state = json.load(file)
        channel = socket.socket(fileno=state["channel"])
        for fd in state["fds"]:
            os.set_inheritable(fd, False)
    except (ValueError, KeyError, OSError) as error:
        raise StartupError(f"{VARIABLE} is for a master that hands over: {error}") from error
    channel.setblocking(False)
    return Heritage(channel, state)


@dataclass(slots=True)
class Successor:
    """A new master as the old one sees it."""

    pid: int
    channel: socket.socket
    said: bytes = b""

    def listen(self) -> str | None:
        """Read what it says: `READY`, a reason, or "" when it is gone; None: nothing yet."""
        try:
            data = self.channel.recv(_REASON_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self.said += data
        if data and b"\n" not in self.said:
            return None
        return self.said.partition(b"\n")[0].decode(errors="replace")

    def dismiss(self) -> None:
        """Send it away; its workers follow it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


def start(
    state: Mapping[str, Any], fds: Iterable[int], environment: Mapping[str, str]
) -> Successor:
    """Start this program anew, with the same arguments, and give it `fds`; OSError."""
    mine, theirs = socket.socketpair()
    passed = [*fds, theirs.fileno()]
    document = os.memfd_create("spooky-takeover")
    with open(document, "w", encoding="utf-8", closefd=False) as file:
        json.dump({**state, "channel": theirs.fileno(), "fds": passed}, file)
    try:
        pid = os.fork()
        if pid == 0:
            variables = {**os.environ, **environment, VARIABLE: str(document)}
            _become([*passed, document], variables, theirs)
    finally:
        os.close(document)
        theirs.close()
    mine.setblocking(False)
    return Successor(pid, mine)


def _become(fds: Iterable[int], environment: Mapping[str, str], channel: socket.socket) -> NoReturn:
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # The arguments that the interpreter got, so that it runs what is installed now.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(environment))
    except OSError as error:
        channel.send(f"cannot run {sys.executable}: {error.strerror}\n".encode())
    finally:
        os._exit(ExitCode.BOOT)
