"""Bringing a child process into the world, clean, and hearing from it until it is ready.

Owns the fork and all that a child must shed before its `main` runs: the master's signals,
sockets and rights. The child never returns into the master's code: whatever happens, it ends
here. Signals are blocked around the fork, for one that reached the child too early would be
written to the master's inbox. The parent-death signal is set last: a change of user clears it.
"""

import contextlib
import ctypes
import gc
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import setproctitle

from spooky import log as logs
from spooky.config.account import Credentials, drop_rights, own_name
from spooky.config.model import Config, Log
from spooky.errors import ExitCode, SpookyError, StartupError
from spooky.master import signals
from spooky.master.confinement import renounce_privileges

log = logging.getLogger(__name__)

CHILD_UMASK = 0o027
REASON_BYTES = 4096
PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""

_libc = ctypes.CDLL(None, use_errno=True)


def warn_about_rights(config: Config) -> None:
    """Log what the operator should know about the rights that children will run with."""
    if os.geteuid() != 0:
        if config.user is not None and config.user != own_name():
            log.warning("user: not started as root, so workers cannot become %r", config.user)
    elif config.user is None:
        log.warning("workers run as root: set `user` to an account without rights")


@dataclass(frozen=True, slots=True)
class Birth:
    """What a child is to be. `shed` closes what is the master's alone."""

    name: str
    """In the log: `worker 0`."""
    title: str
    """In the process list, after `spooky: `."""
    log: Log
    credentials: Credentials | None
    ready_fd: int
    shed: Callable[[], None]
    run: Callable[[], int]


@dataclass(slots=True)
class Child:
    """A child as its master knows it."""

    pid: int
    slot: int
    generation: int
    title: str
    ready_fd: int
    """The master's end of the pipe; -1 once it is closed."""
    ready_writer: int
    """The child's end of it, open in the master until the child is born."""
    said: bytes = b""
    reopen_wanted: bool = False
    """Logs were rotated before the child could take a signal."""

    def listen(self) -> bool:
        """Read what the child has to say; return whether there is more to come."""
        try:
            data = os.read(self.ready_fd, REASON_BYTES)
        except BlockingIOError:
            return True
        self.said += data
        return bool(data) and b"\n" not in self.said and len(self.said) < REASON_BYTES

    @property
    def line(self) -> str:
        """What the child said first: `ready`, or why it cannot start."""
        return self.said.partition(b"\n")[0].decode(errors="replace").strip()

    def stop_listening(self) -> None:
        """Close the pipe."""
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1


def describe_exit(status: int) -> str:
    """Word a status of waitpid(2)."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def spawn(birth: Birth) -> int:
    """Start a child; return its pid. OSError when the system has no room for it."""
    gc.freeze()
    master = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(birth, master, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _live(birth: Birth, master: int, mask: Any) -> NoReturn:
    code: int = ExitCode.FAILURE
    # Its own copy: the child's main closes `ready_fd`, and the number may then be another file.
    reason_fd = os.dup(birth.ready_fd)
    try:
        _settle_in(birth, master)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = birth.run()
    except SpookyError as error:
        log.critical("cannot start: %s", error)
        _confess(reason_fd, str(error))
        code = ExitCode.BOOT
    except BaseException as error:
        log.critical("a bug ended this process", exc_info=True)
        _confess(reason_fd, f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _confess(reason_fd: int, reason: str) -> None:
    """Tell the master why, if it still waits to hear that this child is ready."""
    line = " ".join(reason.split()).encode(errors="replace")[: REASON_BYTES - 1]
    with contextlib.suppress(OSError):
        os.write(reason_fd, line + b"\n")


def _settle_in(birth: Birth, master: int) -> None:
    setproctitle.setproctitle(f"spooky: {birth.title}")
    birth.shed()
    os.umask(CHILD_UMASK)
    # While it may still open any file; the descriptor outlives the rights.
    try:
        logs.configure(birth.log, birth.name)
    except OSError as error:
        text = f"log.file: cannot open {error.filename}: {error.strerror}"
        raise StartupError(text) from error
    if birth.credentials is not None:
        drop_rights(birth.credentials)
    renounce_privileges()
    _follow_into_death(master)


def _follow_into_death(master: int) -> None:
    """Have the kernel tell this process to drain when the master is gone."""
    if _libc.prctl(PR_SET_PDEATHSIG, int(signals.DRAIN), 0, 0, 0) != 0:
        log.warning("this process will not notice the master's death: prctl: %s", _os_error())
    # It may have died before the wish was made; then nobody will send the signal.
    if os.getppid() != master:
        raise StartupError("the master is gone")


def _os_error() -> str:
    return os.strerror(ctypes.get_errno())
