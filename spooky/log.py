"""How lines reach the log and the access log; nobody's call sites.

Owns the format of a line, the open files and their reopening. Never raises for a full disk or a
closed pipe, and never waits for the reader of a FIFO: a server goes on without its log. The rule
that is not obvious: every record and every batch of access lines is one write to a descriptor
opened for appending, so lines of many processes in one file do not tear one another.
"""

import contextlib
import errno
import json
import logging
import os
import select
import stat
import time
from collections.abc import Iterator
from typing import Final

from spooky.config.account import own_name
from spooky.config.logfiles import STANDARD, unfit
from spooky.config.model import Log

STDOUT_FD: Final = 1
STDERR_FD: Final = 2
FILE_MODE: Final = 0o640
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}
LIBRARIES: Final = ("quic", "http3", "hpack")
"""Loggers of libraries that speak up for each bad packet: a stranger could fill the disk."""

ATOMIC_BYTES: Final = 4096
"""PIPE_BUF: what a pipe takes without mixing it with the writes of others."""
FLUSH_BYTES: Final = 64 * 1024
BACKLOG_BYTES: Final = 1024 * 1024
"""Access lines that wait for the reader of a full pipe; what comes on top of them is lost."""
CLOSE_WAIT_S: Final = 1.0
"""For the reader of a full pipe, when there is no later flush."""
OPEN_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
)
"""Without O_NONBLOCK a FIFO that nobody reads is waited for, at opening and at writing."""

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}


def _timestamp(seconds: float) -> str:
    return (
        f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"
    )


class PlainFormatter(logging.Formatter):
    """`2026-11-21T08:00:00.123Z info  worker 0 [1234]: message`; a traceback follows below."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Make the line of a record, control characters written as escapes."""
        level = record.levelname.lower()
        text = record.getMessage().translate(_CONTROLS)
        line = f"{_timestamp(record.created)} {level:<5} {self._process} [{record.process}]: {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """The same as one JSON object a line: time, level, process, pid, message, traceback."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Make the object of a record."""
        fields: dict[str, str | int | None] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def open_append(path: str, flags: int = 0) -> int:
    """Open a log for appending, made if missing, not inherited by programs; waits for nobody.

    OSError, whose `strerror` says what is wrong with `filename`.
    """
    try:
        fd = os.open(path, OPEN_FLAGS | flags, FILE_MODE)
    except OSError as error:
        raise OSError(error.errno, _explain(path, error), path) from error
    if what := unfit(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, what, path)
    return fd


def _explain(path: str, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = stat.S_IFREG
    if error.errno == errno.ENXIO and stat.S_ISFIFO(mode):
        return "nobody reads this FIFO; start its reader first"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{reason} for user {own_name()}"
    return unfit(mode) or reason


class TargetHandler(logging.Handler):
    """Writes each record with one write to standard error or to a file that can be reopened."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target
        self._fd = STDERR_FD if target == STANDARD else open_append(target)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or drop it where nothing can be written."""
        try:
            line = self.format(record)
        except (TypeError, ValueError) as error:
            line = f"log: a message could not be formatted: {error}: {record.msg!r}"
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode(errors="backslashreplace") + b"\n")

    def reopen(self) -> None:
        """Open the path anew, after a rotation; the old file is kept when that fails (OSError)."""
        if self._target != STANDARD:
            old, self._fd = self._fd, open_append(self._target)
            os.close(old)

    def close(self) -> None:
        """Close the file; standard error stays open."""
        if self._target != STANDARD and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


def _handlers() -> Iterator[TargetHandler]:
    yield from (one for one in logging.getLogger().handlers if isinstance(one, TargetHandler))


def configure(settings: Log, process: str) -> None:
    """Send this process's log where the configuration says, under the name `process`.

    May be called again, after a fork or a reload. OSError when the file cannot be opened; the
    log stays what it was.
    """
    handler = TargetHandler(settings.file)
    json_lines = settings.format == "json"
    handler.setFormatter(JsonFormatter(process) if json_lines else PlainFormatter(process))
    root = logging.getLogger()
    for old in list(_handlers()):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = LEVELS[settings.level]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("spooky").setLevel(level)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.propagate = settings.level == "debug"
        library.setLevel(logging.DEBUG if library.propagate else logging.CRITICAL + 1)


def reopen() -> None:
    """Reopen this process's log file; says so in the old one when that fails."""
    for handler in _handlers():
        try:
            handler.reopen()
        except OSError as error:
            logging.getLogger(__name__).error("cannot reopen the log %s", _told(error))


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def prepare(settings: Log, owner: tuple[int, int] | None) -> None:
    """Make the log files, and give them to `owner` (uid, gid), who will reopen them; OSError.

    Only for the master, before it starts or signals processes that have fewer rights. Symbolic
    links are then left alone: in a folder that `owner` may write to they could lead anywhere. A
    FIFO is not opened: its reader would take the closing for the end.
    """
    for target in {settings.file, settings.access} - {None, STANDARD}:
        path = str(target)
        if _is_special(path):
            continue
        if owner is None:
            os.close(open_append(path))
        elif not os.path.islink(path):
            fd = open_append(path, os.O_NOFOLLOW)
            try:
                _give(fd, owner)
            finally:
                os.close(fd)


def _is_special(path: str) -> bool:
    """Say whether a log goes to a FIFO or a device; OSError where it cannot go at all."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if what := unfit(mode):
        raise OSError(errno.EINVAL, what, path)
    return not stat.S_ISREG(mode)


def _give(fd: int, owner: tuple[int, int]) -> None:
    status = os.fstat(fd)
    # A hard link in such a folder could be anybody's file, too.
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        os.fchown(fd, *owner)


class AccessLog:
    """Lines of requests, gathered over one turn of the loop and written at once by `flush`.

    Never raises after it was opened, and never waits but in `close`: lines that a full pipe does
    not take are tried again with the next, up to `BACKLOG_BYTES`; those that cannot be written
    are counted in `lost`.
    """

    def __init__(self, target: str) -> None:
        """Open `target`, `-` being standard output; OSError."""
        self._target = target
        self._fd = STDOUT_FD if target == STANDARD else open_append(target)
        self._batch_bytes = self._limit()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._flush_at = FLUSH_BYTES
        self._torn = False
        self.lost = 0

    def write(self, line: bytes) -> None:
        """Take a line, without its newline."""
        if self._bytes >= BACKLOG_BYTES:
            self.lost += 1
            return
        self._lines.append(line)
        self._bytes += len(line) + 1
        if self._bytes >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered, in whole lines."""
        if not self._lines:
            return
        done = 0
        for batch in self._batches():
            if not self._write(batch):
                break
            done += len(batch)
        del self._lines[:done]
        self._bytes = sum(len(line) + 1 for line in self._lines)
        self._flush_at = self._bytes + FLUSH_BYTES

    def reopen(self) -> None:
        """Write what was gathered and open the path anew; the old file is kept if that fails."""
        self.flush()
        if self._target == STANDARD:
            return
        try:
            fd = open_append(self._target)
        except OSError as error:
            logging.getLogger(__name__).error("cannot reopen the access log %s", _told(error))
            return
        os.close(self._fd)
        self._fd = fd
        self._batch_bytes = self._limit()

    def close(self) -> None:
        """Write what was gathered, waiting a moment where a pipe is full, and close the file."""
        self.flush()
        deadline = time.monotonic() + CLOSE_WAIT_S
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        while self._lines and (left_s := deadline - time.monotonic()) > 0:
            poller.poll(left_s * 1000)
            self.flush()
        self.lost += len(self._lines)
        if self.lost:
            logging.getLogger(__name__).warning("%d lines of the access log are lost", self.lost)
        if self._target != STANDARD:
            os.close(self._fd)

    def _batches(self) -> Iterator[list[bytes]]:
        """Part the lines into as many as one write may carry."""
        batch: list[bytes] = []
        size = 0
        for line in self._lines:
            if batch and size + len(line) + 1 > self._batch_bytes:
                yield batch
                batch, size = [], 0
            batch.append(line)
            size += len(line) + 1
        yield batch

    def _limit(self) -> int:
        """Say how much one write may carry without tearing: anything, where it is a file."""
        try:
            is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        except OSError:
            is_file = False
        return FLUSH_BYTES * 2 if is_file else ATOMIC_BYTES

    def _write(self, lines: list[bytes]) -> bool:
        """Write lines, or count them as lost; False: a pipe is full, and they stay."""
        data = b"\n".join(lines) + b"\n"
        if self._torn:
            # The last write stopped inside a line: do not let the next one continue it.
            data = b"\n" + data
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            return False
        except OSError:
            self.lost += len(lines)
            return True
        self._torn = written < len(data) and not data[:written].endswith(b"\n")
        self.lost += data.count(b"\n", written)
        return True
