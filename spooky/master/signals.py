"""Which signal means what to the master, and how signals come into its loop.

Handlers do nothing at all: the interpreter writes the signal's number to a socket (wakeup fd),
and the loop reads it there when it is ready to. Two different stop signals are two wishes; the
same one twice may reach a process only once, for the kernel does not queue signals.
"""

import contextlib
import signal
import socket
from enum import Enum
from types import FrameType
from typing import Final


class Command(Enum):
    """What an operator, or the kernel, asks of the master."""

    RELOAD = "reload"
    STOP = "stop"
    REOPEN = "reopen"
    UPGRADE = "upgrade"
    DRAIN = "drain"
    RESUME = "resume"
    CHILD = "child"
    UNSUPPORTED = "unsupported"


DRAIN_INSTANCE: Final = signal.SIGRTMIN + 1
"""To the master: take no new connections."""
RESUME_INSTANCE: Final = signal.SIGRTMIN + 2
"""To the master: take new connections again."""

COMMANDS: Final[dict[int, Command]] = {
    signal.SIGHUP: Command.RELOAD,
    signal.SIGQUIT: Command.STOP,
    signal.SIGTERM: Command.STOP,
    signal.SIGINT: Command.STOP,
    signal.SIGUSR1: Command.REOPEN,
    signal.SIGCHLD: Command.CHILD,
    # Left for applications by the C library and by systemd.
    DRAIN_INSTANCE: Command.DRAIN,
    RESUME_INSTANCE: Command.RESUME,
    signal.SIGUSR2: Command.UPGRADE,
    signal.SIGTTIN: Command.UNSUPPORTED,
    signal.SIGTTOU: Command.UNSUPPORTED,
}

DRAIN: Final = signal.SIGQUIT
"""To a child: finish what is open, then leave."""
LEAVE: Final = signal.SIGTERM
"""To a child: leave at once."""
REOPEN: Final = signal.SIGUSR1
"""To a child: reopen the logs."""

CHILD_DEFAULTS: Final = (DRAIN, LEAVE, REOPEN, signal.SIGCHLD)
CHILD_IGNORES: Final = (
    # A terminal sends these to all processes of its group; what follows is the master's to say.
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    DRAIN_INSTANCE,
    RESUME_INSTANCE,
)


def describe(number: int) -> str:
    """Name a signal as kill(1) does."""
    beyond = number - signal.SIGRTMIN
    return f"SIGRTMIN+{beyond}" if beyond > 0 else signal.Signals(number).name


def _note(number: int, frame: FrameType | None) -> None:
    """Make the interpreter write to the wakeup fd, which it does only for handled signals."""


class SignalInbox:
    """The signals that the master got and has not looked at yet."""

    def __init__(self) -> None:
        """Take over the process's signals."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for command in COMMANDS:
            signal.signal(command, _note)

    def fileno(self) -> int:
        """Give the descriptor that is readable while signals wait."""
        return self._reader.fileno()

    def take(self) -> list[int]:
        """Take the numbers of the signals that came, in order."""
        with contextlib.suppress(BlockingIOError):
            return list(self._reader.recv(4096))
        return []

    def close_in_child(self) -> None:
        """Undo it all in a child, while signals are blocked, so that none goes to the master."""
        signal.set_wakeup_fd(-1)
        for own in CHILD_DEFAULTS:
            signal.signal(own, signal.SIG_DFL)
        for other in CHILD_IGNORES:
            signal.signal(other, signal.SIG_IGN)
        self._reader.close()
        self._writer.close()
