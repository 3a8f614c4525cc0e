"""What an operator says of backends by `spooky ctl`, as clients notice it."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import connect
from tests.e2e.operator import Said, command, reload, rewrite, status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

SOON_S = 0.1
"""What is promised: within this time every worker acts on it."""


@pytest.fixture
def running(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> SpookyProcess:
    backends = [
        {"id": "asgi", "address": asgi.address},
        {"id": "nghttpd", "address": nghttpd.address},
    ]
    one = {**upstream(asgi.address), "backends": backends}
    return spooky({"worker_processes": 2, "upstream": {"one": one}})


def ctl(running: SpookyProcess, *arguments: str) -> Said:
    return command("ctl", "-c", str(running.file), *arguments)


def served(running: SpookyProcess) -> Counter[str]:
    """Ask both workers, on several connections, and count who answered."""
    before = _requests(running)

    async def scenario() -> None:
        for _ in range(6):
            async with connect(running.port) as client:
                for _ in range(4):
                    await client.get("/asgi/status?code=204")

    asyncio.run(scenario())
    return Counter(
        {name: count - before.get(name, 0) for name, count in _requests(running).items()}
    )


def _requests(running: SpookyProcess) -> dict[str, int]:
    return {one["name"].split("/")[1]: one["requests"] for one in status(running)["backends"]}


def test_drain_disable_enable(running: SpookyProcess) -> None:
    assert ctl(running, "drain", "one/asgi") == Said(
        0, "one/asgi: drained: it finishes what it has\n"
    )
    time.sleep(SOON_S)
    assert served(running) == {"asgi": 0, "nghttpd": 24}
    assert ctl(running, "enable", "one/asgi").status == 0
    assert ctl(running, "disable", "one/nghttpd").status == 0
    time.sleep(SOON_S)
    assert served(running) == {"asgi": 24, "nghttpd": 0}


def test_what_was_said_outlives_a_reload_and_a_crash(running: SpookyProcess) -> None:
    assert ctl(running, "weight", "one/asgi", "0").status == 0
    assert ctl(running, "health", "one/nghttpd", "up").status == 0
    assert reload(running).status == 0
    assert served(running) == {"asgi": 0, "nghttpd": 24}
    assert command("-s", "upgrade", "-p", str(running.settings["pid"])).status == 0
    assert served(running) == {"asgi": 0, "nghttpd": 24}
    assert ctl(running, "weight", "one/asgi", "default").status == 0
    time.sleep(SOON_S)
    assert 10 <= served(running)["asgi"] <= 14


def test_a_file_with_another_weight_has_the_last_word(running: SpookyProcess) -> None:
    assert ctl(running, "weight", "one/asgi", "0").status == 0
    one = running.settings["upstream"]["one"]
    asgi, nghttpd = one["backends"]
    rewrite(running, upstream={"one": {**one, "backends": [{**asgi, "weight": 50}, nghttpd]}})
    assert reload(running).status == 0
    found = served(running)
    assert 6 <= found["asgi"] <= 10, "a third of 24, of two workers' own turns"


def test_errors_of_the_operator(running: SpookyProcess) -> None:
    assert ctl(running, "drain", "one/none") == Said(
        1, "spooky: no backend 'one/none': there are one/asgi, one/nghttpd\n"
    )
    assert "weight needs a value" in ctl(running, "weight", "one/asgi").text
    gone = command("ctl", "--socket", "/nowhere/spooky.sock", "drain", "one/asgi")
    assert gone.status == 1
    assert "nobody answers at the control socket /nowhere/spooky.sock" in gone.text
    assert command("-s", "quit", "-p", str(running.settings["pid"])).status == 0
    path = Path(running.settings["pid"]).with_suffix(".sock")
    wait_until(lambda: not path.exists(), 5.0, "the end of the socket")


def test_backends_come_and_go(running: SpookyProcess, scripted: Backend) -> None:
    address = scripted.address
    assert ctl(running, "add", "one/more", address, "--weight", "200") == Said(
        0, f"one/more: added: {address} with weight 200\n"
    )
    assert served(running)["more"] > 0
    assert ctl(running, "remove", "one/asgi") == Said(
        0, "one/asgi: removed: it finishes what it has\n"
    )
    assert reload(running).status == 0
    assert set(served(running)) == {"nghttpd", "more"}
    assert command("-s", "upgrade", "-p", str(running.settings["pid"])).status == 0
    assert set(served(running)) == {"nghttpd", "more"}
    removed = running.settings["upstream"]["one"]["backends"][0]["address"]
    assert ctl(running, "add", "one/asgi", removed).status == 0
    assert ctl(running, "remove", "one/more").status == 0
    wait_until(lambda: set(_requests(running)) == {"asgi", "nghttpd"}, 20.0, "the end of its row")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("add", "none/b", "127.0.0.1:1"), "no upstream 'none': there are one"),
        (("add", "b", "127.0.0.1:1"), "expected UPSTREAM/ID, got 'b'"),
        (("add", "one/b", "127.0.0.1"), "'127.0.0.1': the port is missing"),
        (("add", "one/asgi", "127.0.0.1:1"), "one/asgi is there already"),
        (("add", "one/b", "127.0.0.1:1", "--weight", "1001"), "a weight is 0 to 1000; got '1001'"),
        (("remove", "one/b"), "no backend 'b' in one: there are asgi, nghttpd"),
    ],
)
def test_what_cannot_be_added_or_removed(
    running: SpookyProcess, arguments: tuple[str, ...], reason: str
) -> None:
    said = ctl(running, *arguments)
    assert said.status == 1
    assert reason in said.text


def test_a_change_that_no_reload_would_take_is_taken_back(running: SpookyProcess) -> None:
    good = running.file.read_text()
    running.file.write_text(good + "nonsense: 1\n")
    said = command(
        "ctl",
        "--socket",
        str(Path(running.settings["pid"]).with_suffix(".sock")),
        "add",
        "one/b",
        # The first backend by TLS takes a reload.
        "https://127.0.0.1:1",
    )
    assert said.status == 1
    assert "nonsense: unknown key" in said.text
    running.file.write_text(good)
    assert reload(running).status == 0
    assert set(_requests(running)) == {"asgi", "nghttpd"}
