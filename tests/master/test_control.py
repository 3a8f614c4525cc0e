"""The control socket: its file, who may use it, what is in its way."""

import socket
import stat
from pathlib import Path

import pytest

from spooky.errors import StartupError
from spooky.master.control import ControlSocket


def test_it_listens_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "spooky.sock"
    control = ControlSocket.bind(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert list(tmp_path.iterdir()) == [path]
    control.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "spooky.sock"
    ControlSocket.bind(path).socket.close()
    control = ControlSocket.bind(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    control.remove()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "is there and is no socket"),
        ("none/spooky.sock", "No such file or directory; make the folder writable, or set"),
        ("x" * 120, "at most 100 octets"),
    ],
)
def test_what_is_in_its_way_is_told(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StartupError, match=reason):
        ControlSocket.bind(tmp_path / name)
    assert (tmp_path / "file").read_text() == "precious"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
