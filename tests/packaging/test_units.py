"""The systemd units: that they say what Spooky needs, and that systemd can read them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spooky.config.load import load

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
KILL_GRACE_S = 5
"""What the master gives those who overstay the drain timeout."""


def settings(unit: str) -> dict[str, list[str]]:
    """Read a unit; a setting may be there several times."""
    found: dict[str, list[str]] = {}
    for line in (PACKAGING / unit).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def seconds(value: str) -> float:
    assert value.endswith("s"), value
    return float(value[:-1])


def test_a_stop_has_time_for_the_drain() -> None:
    service = settings("spooky.service")
    config = load(ROOT / "config" / "minimal.yaml").config
    assert seconds(service["TimeoutStopSec"][0]) > config.drain_timeout + KILL_GRACE_S
    assert service["KillMode"] == ["mixed"], "TERM to a worker means to leave at once"


def test_the_master_speaks_to_systemd() -> None:
    service = settings("spooky.service")
    assert service["Type"] == ["notify-reload"]
    assert service["NotifyAccess"] == ["main"]
    assert "ReloadSignal" not in service, "HUP is what reloads"
    assert seconds(service["WatchdogSec"][0]) >= 10


def test_its_commands_are_those_of_the_program() -> None:
    """The same arguments, given to the program, get as far as the missing file."""
    service = settings("spooky.service")
    for key in ("ExecStartPre", "ExecStart"):
        program, *arguments = service[key][0].split()
        assert program == "/usr/bin/spooky"
        arguments = ["/nonexistent.yaml" if a.endswith(".yaml") else a for a in arguments]
        done = subprocess.run(
            [sys.executable, "-m", "spooky", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 2
        assert "/nonexistent.yaml cannot be read" in done.stderr


def test_it_has_what_spooky_needs() -> None:
    service = settings("spooky.service")
    families = service["RestrictAddressFamilies"][0].split()
    assert families == ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"]
    assert int(service["LimitNOFILE"][0]) >= 65536


def test_the_sockets_are_as_spooky_binds_them() -> None:
    sockets = settings("spooky.socket")
    assert sockets["ReusePort"] == ["yes"]
    assert sockets["BindIPv6Only"] == ["ipv6-only"]
    assert sockets["ListenStream"] == ["127.0.0.1:9901"]
    assert set(sockets["ListenDatagram"]) == {"0.0.0.0:443"}
    assert len(sockets["ListenDatagram"]) == 2 * 2


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_reads_them(tmp_path: Path) -> None:
    """The verifier looks for the program too, so it is given one that exists."""
    for unit in ("spooky.service", "spooky.socket"):
        text = (PACKAGING / unit).read_text().replace("/usr/bin/spooky", "/bin/true")
        # notify-reload is known from 253 on; what an older one is given in its place is checked.
        (tmp_path / unit).write_text(text.replace("Type=notify-reload", "Type=notify"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "./spooky.service", "./spooky.socket"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "spooky." in line]
    assert (done.returncode, ours) == (0, []), done.stderr
