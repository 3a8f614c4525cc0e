"""Lines, levels, files and rotations."""

import contextlib
import fcntl
import json
import logging
import os
import re
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooky import log
from spooky.config.model import Log

PLAIN = re.compile(
    rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z (\S+) +worker 0 \[{os.getpid()}\]: (.*)\n"
)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what `configure` does to the process."""
    names = ["", "spooky", *log.LIBRARIES]
    loggers = [logging.getLogger(name) for name in names]
    before = [(one.level, one.propagate, list(one.handlers)) for one in loggers]
    yield
    for one, (level, propagate, handlers) in zip(loggers, before, strict=True):
        for handler in set(one.handlers) - set(handlers):
            handler.close()
        one.level, one.propagate, one.handlers = level, propagate, handlers


def configured(tmp_path: Path, level: str = "info", style: str = "plain") -> Path:
    file = tmp_path / "spooky.log"
    log.configure(Log(level=level, format=style, file=str(file)), "worker 0")
    return file


def test_a_plain_line(tmp_path: Path) -> None:
    file = configured(tmp_path)
    logging.getLogger("spooky.worker").warning("%d left", 3)
    found = PLAIN.fullmatch(file.read_text())
    assert found
    assert found.groups() == ("warning", "3 left")


def test_the_time_is_of_the_record_in_utc(tmp_path: Path) -> None:
    file = configured(tmp_path)
    record = logging.makeLogRecord({"msg": "x", "levelno": 20, "levelname": "INFO"})
    record.created = 1795248000.1239
    logging.getLogger("spooky").handle(record)
    assert file.read_text().startswith("2026-11-21T08:00:00.123Z info  worker 0 [")


def test_a_message_stays_on_its_line(tmp_path: Path) -> None:
    file = configured(tmp_path)
    logging.getLogger("spooky").info("a\nb\x1b[31m\x7f\x9b é")
    assert file.read_text().endswith("]: a\\x0ab\\x1b[31m\\x7f\\x9b é\n")
    assert file.read_text().count("\n") == 1


def test_a_json_line_is_one_object(tmp_path: Path) -> None:
    file = configured(tmp_path, style="json")
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("spooky").exception('said "%s"\n', "é")
    (line,) = file.read_text().splitlines()
    fields = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    assert "ValueError: x" in fields.pop("traceback")
    assert fields == {
        "level": "error",
        "process": "worker 0",
        "pid": os.getpid(),
        "message": 'said "é"\n',
    }


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
        ("off", []),
    ],
)
def test_levels(tmp_path: Path, level: str, heard: list[str]) -> None:
    file = configured(tmp_path, level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("spooky.x"), name)(name)
    assert [line.rpartition(" ")[2] for line in file.read_text().splitlines()] == heard


def test_libraries_are_silent_but_for_debug(tmp_path: Path) -> None:
    file = configured(tmp_path)
    for name in log.LIBRARIES:
        logging.getLogger(name).warning("from the network")
        logging.getLogger(f"{name}.child").critical("from the network")
    assert file.read_text() == ""
    configured(tmp_path, "debug")
    logging.getLogger("quic").debug("[x] packet dropped")
    assert file.read_text().endswith("]: [x] packet dropped\n")


def test_others_are_heard_from_warning_up(tmp_path: Path) -> None:
    file = configured(tmp_path, "debug")
    logging.getLogger("asyncio").debug("chatter")
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    assert "chatter" not in file.read_text()
    assert "never retrieved" in file.read_text()


def test_configuring_again_leaves_one_handler(tmp_path: Path) -> None:
    configured(tmp_path)
    file = configured(tmp_path)
    logging.getLogger("spooky").info("once")
    assert file.read_text().count("once") == 1


def test_a_file_that_cannot_be_opened_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    file = configured(tmp_path)
    with pytest.raises(FileNotFoundError):
        log.configure(Log(file=str(tmp_path / "no" / "spooky.log")), "worker 0")
    logging.getLogger("spooky").info("still here")
    assert "still here" in file.read_text()


def test_reopening_after_a_rename(tmp_path: Path) -> None:
    file = configured(tmp_path)
    logging.getLogger("spooky").info("before")
    file.rename(tmp_path / "old")
    log.reopen()
    logging.getLogger("spooky").info("after")
    assert "after" in file.read_text()
    assert "after" not in (tmp_path / "old").read_text()


def test_reopening_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    configured(folder)
    folder.rename(tmp_path / "moved")
    log.reopen()
    logging.getLogger("spooky").info("after")
    text = (tmp_path / "moved" / "spooky.log").read_text()
    assert "cannot reopen the log" in text
    assert "after" in text


def test_a_message_with_wrong_arguments_is_no_error(tmp_path: Path) -> None:
    handler = log.TargetHandler(str(tmp_path / "spooky.log"))
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    handler.close()
    assert "could not be formatted" in (tmp_path / "spooky.log").read_text()


# --- files of other users ----------------------------------------------------------------------


def test_files_are_made_beforehand(tmp_path: Path) -> None:
    settings = Log(file=str(tmp_path / "a"), access=str(tmp_path / "b"))
    log.prepare(settings, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    log.prepare(Log(), None)
    with pytest.raises(FileNotFoundError):
        log.prepare(Log(access=str(tmp_path / "no" / "b")), None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_only_plain_files_are_given_away(tmp_path: Path) -> None:
    plain, precious = tmp_path / "plain", tmp_path / "precious"
    precious.touch()
    (tmp_path / "symbolic").symlink_to(precious)
    (tmp_path / "hard").hardlink_to(precious)
    for name in ("plain", "symbolic", "hard"):
        log.prepare(Log(file="-", access=str(tmp_path / name)), (65534, 65534))
    assert plain.stat().st_uid == 65534
    assert stat.S_IMODE(plain.stat().st_mode) & 0o007 == 0
    assert precious.stat().st_uid == 0


# --- what a log may be -------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def reading(fifo: Path) -> int:
    return os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """End a wait in the kernel that would never end."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"it waited for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


Make = Callable[[Path], None]
UNFIT: list[tuple[str, Make, str]] = [
    ("fifo", os.mkfifo, "nobody reads this FIFO; start its reader first"),
    ("folder", Path.mkdir, "is a folder; name a file"),
    (
        "socket",
        make_socket,
        "is a socket, which no log can be written to; name a file, a FIFO or -",
    ),
]


@pytest.mark.parametrize(("name", "make", "text"), UNFIT, ids=[name for name, *_ in UNFIT])
def test_what_cannot_be_a_log_is_refused_at_once(
    tmp_path: Path, name: str, make: Make, text: str
) -> None:
    path = tmp_path / name
    make(path)
    for opening in (log.open_append, log.AccessLog, log.TargetHandler):
        with at_most(5), pytest.raises(OSError, match=text) as caught:
            opening(str(path))
        assert (caught.value.filename, caught.value.strerror) == (str(path), text)


def test_unfit_files_are_refused_before_processes_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is a folder"):
        log.prepare(Log(access=str(tmp_path)), None)


def test_a_device_is_a_log(tmp_path: Path) -> None:
    settings = Log(file="/dev/null", access="/dev/null")
    log.prepare(settings, None)
    log.configure(settings, "worker 0")
    log.reopen()
    access = log.AccessLog("/dev/null")
    access.write(b"line")
    access.close()
    assert access.lost == 0


def test_a_fifo_that_is_read_is_a_log(fifo: Path) -> None:
    reader = reading(fifo)
    log.configure(Log(file=str(fifo)), "worker 0")
    logging.getLogger("spooky").info("heard")
    log.reopen()
    logging.getLogger("spooky").info("again")
    lines = os.read(reader, 65536).decode().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["heard", "again"]
    os.close(reader)


def test_the_reader_of_a_fifo_sees_no_end_of_it_beforehand(fifo: Path) -> None:
    """One that was opened and closed has an end; one that was not has nothing yet."""
    reader = reading(fifo)
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    log.prepare(Log(file=str(fifo), access=str(fifo)), None)
    assert poller.poll(0) == []
    os.close(reader)


def test_a_full_fifo_costs_records_of_the_log_and_no_time(fifo: Path) -> None:
    reader = reading(fifo)
    log.configure(Log(file=str(fifo)), "worker 0")
    with at_most(10):
        for _ in range(2000):
            logging.getLogger("spooky").info("x" * 100)
    assert os.read(reader, 1 << 20).count(b"\n") < 2000
    os.close(reader)


def test_reopening_a_fifo_that_nobody_reads_any_more_is_told(tmp_path: Path, fifo: Path) -> None:
    file = configured(tmp_path)
    reader = reading(fifo)
    access = log.AccessLog(str(fifo))
    os.close(reader)
    with at_most(5):
        access.reopen()
        access.close()
    assert f"cannot reopen the access log {fifo}: nobody reads this FIFO" in file.read_text()


# --- the access log ----------------------------------------------------------------------------


@pytest.fixture
def access(tmp_path: Path) -> Iterator[log.AccessLog]:
    made = log.AccessLog(str(tmp_path / "access.log"))
    yield made
    made.close()


def test_lines_wait_for_the_flush_and_go_in_one_write(
    access: log.AccessLog, tmp_path: Path
) -> None:
    file = tmp_path / "access.log"
    access.write(b"one")
    access.write(b"two")
    assert file.read_bytes() == b""
    access.flush()
    assert file.read_bytes() == b"one\ntwo\n"
    access.flush()
    assert file.read_bytes() == b"one\ntwo\n"


def test_many_lines_do_not_wait(access: log.AccessLog, tmp_path: Path) -> None:
    for _ in range(70):
        access.write(b"x" * 1023)
    assert (tmp_path / "access.log").stat().st_size == log.FLUSH_BYTES


def test_the_access_log_is_reopened_after_its_last_lines(
    access: log.AccessLog, tmp_path: Path
) -> None:
    file = tmp_path / "access.log"
    access.write(b"before")
    file.rename(tmp_path / "old")
    access.reopen()
    access.write(b"after")
    access.flush()
    assert (tmp_path / "old").read_bytes() == b"before\n"
    assert file.read_bytes() == b"after\n"


def test_an_access_log_that_cannot_be_reopened_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    access = log.AccessLog(str(folder / "access.log"))
    folder.rename(tmp_path / "moved")
    access.reopen()
    access.write(b"after")
    access.close()
    assert (tmp_path / "moved" / "access.log").read_bytes() == b"after\n"


WRITER = """
import sys
from spooky.log import AccessLog
access = AccessLog(sys.argv[1])
for _ in range(40):
    for _ in range(80):
        access.write(sys.argv[2].encode() * 700)
    access.flush()
access.close()
print(access.lost)
"""


def test_lines_of_several_processes_do_not_tear_in_a_pipe() -> None:
    reader, writer = os.pipe()
    # A full pipe is where writes that are too long get mixed.
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, log.ATOMIC_BYTES)
    command = [sys.executable, "-c", WRITER, f"/dev/fd/{writer}"]
    root = Path(__file__).parents[1]
    writers = [
        subprocess.Popen([*command, letter], cwd=root, pass_fds=[writer], stdout=subprocess.PIPE)
        for letter in "abc"
    ]
    os.close(writer)
    with open(reader, "rb") as pipe:
        lines = pipe.read().splitlines()
    lost = sum(int(one.communicate(timeout=10)[0]) for one in writers)
    assert [one.returncode for one in writers] == [0, 0, 0]
    assert set(lines) == {b"a" * 700, b"b" * 700, b"c" * 700}
    assert len(lines) + lost == 3 * 40 * 80


def test_a_pipe_that_nobody_reads_costs_lines_and_no_more(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    access = log.AccessLog(str(fifo))
    os.close(reader)
    access.write(b"nobody reads")
    access.flush()
    assert access.lost == 1
    access.close()


def test_lines_wait_for_the_reader_of_a_full_pipe(fifo: Path) -> None:
    reader = reading(fifo)
    access = log.AccessLog(str(fifo))
    lines = [b"%09d" % number for number in range(10_000)]
    with at_most(10):
        for line in lines:
            access.write(line)
        access.flush()
    received = os.read(reader, 1 << 20)
    assert len(received) < 100_000
    while access.lost == 0 and received.count(b"\n") < len(lines):
        access.flush()
        received += os.read(reader, 1 << 20)
    assert received.splitlines() == lines
    access.close()
    assert access.lost == 0
    os.close(reader)


def test_lines_for_a_pipe_that_stays_full_are_bounded_and_counted(
    tmp_path: Path, fifo: Path
) -> None:
    file = configured(tmp_path)
    reader = reading(fifo)
    access = log.AccessLog(str(fifo))
    count = 2 * log.BACKLOG_BYTES // 1024
    with at_most(20):
        for _ in range(count):
            access.write(b"x" * 1023)
        assert 0 < access.lost < count
        access.close()
    received = os.read(reader, 1 << 22).count(b"\n")
    assert received + access.lost == count
    assert f"{access.lost} lines of the access log are lost" in file.read_text()
    os.close(reader)


def test_lines_for_a_full_disk_are_counted_and_later_ones_stand_alone(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    access = log.AccessLog(str(file))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        for line in (b"1234", b"5678", b"9abc"):
            access.write(line)
        access.flush()
        access.write(b"lost")
        access.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert file.read_bytes() == b"1234\n5678\n"
    assert access.lost == 2
    access.write(b"next")
    access.close()
    assert file.read_bytes() == b"1234\n5678\nnext\n"


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    access = log.AccessLog(str(file))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (7, limits[1]))
        access.write(b"1234")
        access.write(b"5678")
        access.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    access.write(b"next")
    access.close()
    assert file.read_bytes() == b"1234\n56\nnext\n"
    assert access.lost == 1


def test_standard_output_stays_open() -> None:
    access = log.AccessLog("-")
    access.reopen()
    access.close()
    os.fstat(log.STDOUT_FD)
