"""What can be known of the logs before anything is started: their kinds, and who may write them."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooky.config.logfiles import find_log_faults
from spooky.config.model import Config, Log
from tests.master.running import ROOT

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can get into, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def faults(log: Log, user: str | None = None) -> list[tuple[str, str]]:
    config = Config(listen=(), upstream=(), log=log, user=user)
    return [(finding.key, finding.text) for finding in find_log_faults(config)]


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


Make = Callable[[Path], object]
FIT: list[tuple[str, Make]] = [
    ("nothing yet", str),
    ("file", Path.touch),
    ("device", lambda path: path.symlink_to("/dev/null")),
    ("fifo that nobody reads", os.mkfifo),
]
UNFIT: list[tuple[str, Make, str]] = [
    ("folder", Path.mkdir, "{} is a folder; name a file"),
    (
        "socket",
        make_socket,
        "{} is a socket, which no log can be written to; name a file, a FIFO or -",
    ),
    (
        "link that leads to itself",
        lambda path: path.symlink_to(path),
        "{} cannot be reached: too many levels of symbolic links",
    ),
]


@pytest.mark.parametrize(("case", "make"), FIT, ids=[case for case, *_ in FIT])
def test_a_log_may_be_that(folder: Path, case: str, make: Make) -> None:
    path = folder / "x"
    make(path)
    assert faults(Log(file=str(path), access=str(path))) == []


@pytest.mark.parametrize(("case", "make", "text"), UNFIT, ids=[case for case, *_ in UNFIT])
def test_a_log_may_not_be_that(folder: Path, case: str, make: Make, text: str) -> None:
    path = folder / "x"
    make(path)
    told = text.format(path)
    assert faults(Log(file=str(path), access=str(path))) == [
        ("log.file", told),
        ("log.access", told),
    ]


def test_the_folder_must_be_one(folder: Path) -> None:
    (folder / "file").touch()
    settings = Log(file=str(folder / "none" / "x"), access=str(folder / "file" / "x"))
    assert faults(settings) == [
        ("log.file", f"the folder {folder}/none does not exist; create it first"),
        ("log.access", f"{folder}/file is not a folder"),
    ]


def test_nothing_is_said_of_the_streams_of_whoever_tests() -> None:
    assert faults(Log(file="/dev/stderr", access="/dev/fd/63")) == []
    assert faults(Log(file="-", access=None)) == []


# --- rights ------------------------------------------------------------------------------------


AS_NOBODY = """
import pwd, sys
from spooky.config.account import Credentials, ask_as
from spooky.config.logfiles import find_log_faults
from spooky.config.model import Config, Log
config = Config(listen=(), upstream=(), log=Log(file=sys.argv[1], access=sys.argv[2]))
nobody = pwd.getpwnam("nobody")
rights = Credentials(nobody.pw_uid, nobody.pw_gid, ())
print(ask_as(rights, lambda: "\\n".join(one.text for one in find_log_faults(config))))
"""


@only_root
def test_the_master_must_be_able_to_write(folder: Path) -> None:
    """Here it is not root, whom no mode keeps from anything."""
    theirs = folder / "theirs"
    theirs.touch(0o644)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(folder / "new"), str(theirs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"nobody may not make {folder}/new: the folder {folder} is not writable",
        f"nobody may not write to {theirs}",
    ]


@only_root
def test_the_user_must_be_able_to_enter_every_folder(folder: Path) -> None:
    closed = folder / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o700)
    file = closed / "open" / "spooky.log"
    told = (
        f"user nobody may not enter the folder {closed}, so that workers could not open {file}; "
        "allow it (chmod o+x, or chgrp and chmod g+x), or choose another folder"
    )
    assert faults(Log(file=str(file)), "nobody") == [("log.file", told)]
    closed.chmod(0o711)
    assert faults(Log(file=str(file)), "nobody") == []


@only_root
def test_a_link_may_lead_to_a_closed_folder(folder: Path) -> None:
    (folder / "closed").mkdir(0o700)
    (folder / "link").symlink_to("closed")
    ((key, text),) = faults(Log(access=str(folder / "link" / "x")), "nobody")
    assert key == "log.access"
    assert text.startswith(f"user nobody may not enter the folder {folder}/closed, ")


@only_root
def test_what_the_master_does_not_give_away_must_be_the_users(folder: Path) -> None:
    plain, behind = folder / "plain", folder / "behind"
    plain.touch(0o600)
    behind.touch(0o600)
    (folder / "link").symlink_to(behind)
    (folder / "nowhere").symlink_to(folder / "missing")
    os.mkfifo(folder / "fifo", 0o600)
    links = Log(file=str(folder / "nowhere"), access=str(folder / "link"))
    assert faults(Log(file=str(plain), access=str(plain)), "nobody") == []
    made_nowhere = (
        f"user nobody may not make {folder}/missing, which {folder}/nowhere is a link to; "
        "make it, and chown it"
    )
    assert faults(links, "nobody") == [
        ("log.file", made_nowhere),
        ("log.access", f"user nobody may not write to {behind}; chown it"),
    ]
    # The log itself is open before a process gives up its rights.
    assert faults(Log(file=str(folder / "fifo")), "nobody") == []
    ((key, text),) = faults(Log(access=str(folder / "fifo")), "nobody")
    assert (key, text) == (
        "log.access",
        f"user nobody may not write to {folder}/fifo; chown it",
    )
