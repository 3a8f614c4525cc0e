"""The file that names the running master, and the question whether it tells the truth.

A pidfile outlives a crash, and its number may since belong to anything: a process counts as a
master only by its title. Made atomically, so that a reader never sees half a number; removed at
the end only while it still names this process.
"""

import logging
import os
from pathlib import Path

import psutil

from spooky.errors import StartupError

TITLE = "spooky: master"
"""What the title of every master begins with."""
FORMER_TITLE = "spooky: former master"
"""The same once another master has taken over, and this one drains."""

log = logging.getLogger(__name__)


def is_master(pid: int) -> bool:
    """Say whether `pid` is a running Spooky master other than this process."""
    if pid <= 0 or pid == os.getpid():
        return False
    try:
        return " ".join(psutil.Process(pid).cmdline()).startswith(TITLE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        # Somebody else's process that hides itself: better to refuse than to take its place.
        return True


def read(path: Path) -> int | None:
    """Read the number in a pidfile; None when it is missing or holds no number. StartupError."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise StartupError(f"cannot read the pidfile {path}: {error.strerror}") from error


def running_master(path: Path) -> int:
    """Give the pid of the master that a pidfile names; StartupError when there is none."""
    pid = read(path)
    if pid is None:
        if path.exists():
            raise StartupError(f"the pidfile {path} holds no process number")
        raise StartupError(
            f"no pidfile {path}: is Spooky running? Give -c the configuration that it was "
            "started with, or -p its pidfile"
        )
    if not is_master(pid):
        raise StartupError(
            f"the pidfile {path} is stale: process {pid} is gone or is not a Spooky master"
        )
    return pid


class Pidfile:
    """This master's own pidfile."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, predecessor: int | None = None) -> None:
        """Refuse to go on beside a running master other than `predecessor`; StartupError."""
        pid = read(self._path)
        if pid is not None and pid != predecessor and is_master(pid):
            raise StartupError(
                f"Spooky is already running as process {pid} (pidfile {self._path}): stop it "
                "with `spooky -s quit`, or set another `pid` for this instance"
            )
        if pid not in (None, predecessor):
            log.warning("overwriting the stale pidfile %s of process %d", self._path, pid)

    def write(self, predecessor: int | None = None) -> None:
        """Make the file name this process, in place of `predecessor`; StartupError."""
        self.check(predecessor)
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_text(f"{os.getpid()}\n", encoding="ascii")
            draft.chmod(0o644)
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StartupError(
                f"cannot write the pidfile {self._path}: {error.strerror}; make the folder "
                "writable, or set `pid` to another place"
            ) from error

    def remove(self) -> None:
        """Remove the file if it still names this process."""
        try:
            if read(self._path) == os.getpid():
                self._path.unlink(missing_ok=True)
        except (OSError, StartupError) as error:
            log.warning("cannot remove the pidfile %s: %s", self._path, error)
