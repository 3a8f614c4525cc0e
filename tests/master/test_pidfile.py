"""Pidfiles that tell the truth, lie, or cannot be had."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooky.errors import StartupError
from spooky.master.pidfile import Pidfile, is_master, read, running_master
from tests.master.running import wait_for

TITLED = """
import setproctitle, sys
setproctitle.setproctitle("spooky: master -c x")
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_master() -> Iterator[int]:
    """A process that carries a master's title."""
    with subprocess.Popen(
        [sys.executable, "-c", TITLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process.pid
        process.kill()


def gone() -> int:
    """The number of a process that has been."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_the_title_makes_a_master(other_master: int) -> None:
    assert is_master(other_master)
    assert not is_master(os.getpid())
    assert not is_master(os.getppid())
    assert not is_master(gone())
    assert not is_master(0)


def test_a_dead_master_that_nobody_reaped_is_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TITLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    assert is_master(process.pid)
    process.kill()
    wait_for(lambda: not is_master(process.pid), "the zombie does not count")
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_it_is_written_whole_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "spooky.pid"
    pidfile = Pidfile(path)
    pidfile.write()
    assert read(path) == os.getpid()
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
    pidfile.remove()
    assert not path.exists()
    pidfile.remove()


def test_the_file_of_another_is_not_removed(tmp_path: Path, other_master: int) -> None:
    path = tmp_path / "spooky.pid"
    pidfile = Pidfile(path)
    pidfile.write()
    path.write_text(f"{other_master}\n")
    pidfile.remove()
    assert read(path) == other_master


def test_a_running_master_is_not_overwritten(tmp_path: Path, other_master: int) -> None:
    path = tmp_path / "spooky.pid"
    path.write_text(f"{other_master}\n")
    with pytest.raises(StartupError, match=f"already running as process {other_master}"):
        Pidfile(path).write()
    assert running_master(path) == other_master


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no pidfile .*: is Spooky running"),
        ("", "holds no process number"),
        ("x\n", "holds no process number"),
        ("1\n", "is stale: process 1 is gone or is not a Spooky master"),
        ("-5\n", "is stale"),
    ],
)
def test_a_pidfile_without_a_master_is_an_error(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "spooky.pid"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StartupError, match=message):
        running_master(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot write the pidfile .*: No such file"):
        Pidfile(tmp_path / "no" / "spooky.pid").write()
