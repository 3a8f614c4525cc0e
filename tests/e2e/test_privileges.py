"""What a Spooky that root started may still do, and what it tells of the secrets that it has."""

import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity, make_identity
from tests.e2e.clients import CLIENTS
from tests.e2e.conftest import Spooky
from tests.e2e.operator import command, reload, reload_by_file, rewrite
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import Settings, SpookyProcess, running_spooky

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]

NOBODY = 65534
WITH_CORES = ("prlimit", "--core=unlimited")
SECRET = "correct-horse-battery"
PASSPHRASE = "staple-the-key"
SESSION_SECRET = "0123456789abcdef" * 4


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    """A folder that only root may enter."""
    folder = tmp_path / "safe"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def locked(safe: Path) -> Identity:
    """An identity whose key only root may read, with a passphrase."""
    identity = make_identity(safe, "localhost")
    sealed = safe / "sealed.key"
    seal = f"openssl pkey -aes256 -passout pass:{PASSPHRASE} -in {identity.key} -out {sealed}"
    subprocess.run(seal.split(), check=True)
    (safe / "passphrase").write_text(PASSPHRASE)
    (safe / "session").write_text(SESSION_SECRET)
    identity.cert.chmod(0o600)
    return replace(identity, key=sealed)


@pytest.fixture
def as_nobody(locked: Identity) -> Iterator[Spooky]:
    """Start Spooky as root, with a folder for logs that anybody may enter."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)

        def start(settings: Settings) -> SpookyProcess:
            return stack.enter_context(running_spooky(settings, locked, folder, WITH_CORES))

        yield start


def _settings(safe: Path, locked: Identity, address: str) -> dict[str, Any]:
    tls = {"cert": str(locked.cert), "key": str(locked.key)}
    route = {
        "path_prefix": "/",
        "query": {"token": SECRET},
        "request_headers": {"set": {"authorization": f"Bearer {SECRET}"}},
    }
    site = {
        "route": route,
        "backends": [{"id": "b", "address": address}],
        "session_persistence": {"secret_file": str(safe / "session")},
        "health_check": {"type": "command", "command": ["/bin/true", "--password", SECRET]},
    }
    return {
        "user": "nobody",
        "listen": {"tls": {**tls, "passphrase_file": str(safe / "passphrase")}},
        "upstream": {"site": site},
        "log": {"level": "debug"},
    }


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _core_limit(pid: int) -> str:
    return next(
        line.split()[4]
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        if line.startswith("Max core file size")
    )


def _check_confined(process: psutil.Process) -> None:
    status = _status(process.pid)
    assert status["Uid"].split() == status["Gid"].split() == [str(NOBODY)] * 4
    assert set(status["Groups"].split()) <= {str(NOBODY)}
    assert {int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Umask"] == "0027"
    assert _core_limit(process.pid) == "1"


def test_workers_and_keeper_give_up_all_rights(
    as_nobody: Spooky, safe: Path, locked: Identity, asgi: Backend
) -> None:
    running = as_nobody(_settings(safe, locked, asgi.address))
    for process in (*running.workers(), *running.children("keeper")):
        _check_confined(process)
    assert len(running.workers()) == len(running.children("keeper")) == 1
    master = running.program.process.pid
    assert _status(master)["Uid"].split() == ["0"] * 4
    assert _core_limit(master) == "1"
    socket = Path(running.settings["pid"]).with_suffix(".sock").stat()
    assert stat.S_IMODE(socket.st_mode) == 0o600
    assert socket.st_uid == 0
    # A new generation has keys that only root may read, too.
    first = running.workers()
    assert reload_by_file(running).status == 0
    [second] = set(running.workers()) - set(first)
    _check_confined(second)


def test_nothing_tells_a_secret(
    as_nobody: Spooky, safe: Path, locked: Identity, asgi: Backend
) -> None:
    running = as_nobody(_settings(safe, locked, asgi.address))
    answer = CLIENTS["curl"](running.target, "GET", f"/headers?token={SECRET}", b"")
    assert ["authorization", f"Bearer {SECRET}"] in json.loads(answer.text)["headers"]
    where = ("-c", str(running.file))
    told = [
        command("-T", *where),
        command("status", *where),
        command("status", "--json", *where),
        command("-s", "reload", *where),
        command("ctl", *where, "drain", "site/b"),
    ]
    assert [one.status for one in told] == [0] * len(told)
    broken = _settings(safe, locked, asgi.address)["upstream"]
    broken["site"]["route"]["request_headers"]["set"]["authorization"] = f"{SECRET}\n"
    rewrite(running, upstream=broken)
    told += [command("-t", *where), reload(running)]
    assert [one.status for one in told[-2:]] == [2, 1]
    wait_until(lambda: running.access_log.read_text() != "", 5.0, "an access line")
    key = locked.key.read_text().splitlines()[2]
    shown = [*(f"{one}" for one in told), running.log(), running.access_log.read_text()]
    assert "token=***" in shown[-1]
    for text in shown:
        assert not [one for one in (SECRET, PASSPHRASE, SESSION_SECRET, key) if one in text], text
