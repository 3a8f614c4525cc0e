"""Commands of operators, and what they leave in the rows of backends."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from spooky.config.model import Backend, Config, Route, Upstream
from spooky.errors import RefusedError
from spooky.handover import KeeperSpec
from spooky.keeper.additions import Additions
from spooky.keeper.control import (
    LINE_BYTES,
    Command,
    ControlEndpoint,
    Controls,
)
from spooky.keeper.revision import Revision
from spooky.shm.backend_cells import BackendColumn, Duty, Health
from spooky.shm.backends import BackendRow
from spooky.shm.segment import SharedMemory

ONE, TWO = Backend("b1", "127.0.0.1", 8001), Backend("b2", "10.0.0.1", 443, tls=True)
CONFIG = Config((), (Upstream("api", (Route(),), (ONE, TWO)), Upstream("web", (), (ONE,))))


class Setting:
    """Controls over real shared memory."""

    def __init__(self) -> None:
        self.memory = SharedMemory.create(16)
        self.rows = rows = self.memory.backends.assign([ONE.identity, TWO.identity])
        self.row: BackendRow = self.memory.backends.row(rows[ONE.identity])
        self.row.describe("api/b1", 100, 1)
        self.controls = Controls(CONFIG, self.memory.backends, rows)

    def endpoint(self) -> ControlEndpoint:
        spec = KeeperSpec(
            row=256,
            generation=1,
            config=CONFIG,
            own=CONFIG,
            changes=0,
            backend_rows=self.rows,
            client_contexts={},
            admin=None,
            wake_fd=-1,
            control=None,
            ready_fd=-1,
            memory=self.memory,
        )
        revision = Revision(spec)
        return ControlEndpoint(revision, Additions(revision))

    def do(self, action: str, value: str = "", backend: str = "api/b1") -> str:
        return self.controls.carry_out(Command(action, backend, value))


@pytest.mark.parametrize(
    ("action", "duty"),
    [("drain", Duty.DRAINING), ("disable", Duty.OUT), ("enable", Duty.SERVING)],
)
def test_duties(action: str, duty: Duty) -> None:
    setting = Setting()
    setting.row.set(BackendColumn.DUTY, 99)
    setting.do(action)
    assert setting.row.get(BackendColumn.DUTY) == duty


@pytest.mark.parametrize("name", ["api/b1", "web/b1", "127.0.0.1:8001", "http://127.0.0.1:8001"])
def test_a_backend_has_many_names(name: str) -> None:
    setting = Setting()
    setting.do("drain", backend=name)
    assert setting.row.get(BackendColumn.DUTY) == Duty.DRAINING


def test_a_weight_holds_until_the_configuration_has_another() -> None:
    setting = Setting()
    row = setting.row
    assert setting.do("weight", "20") == "at weight 20"
    assert (row.weight_of(100), row.effective_weight()) == (20, 20)
    row.describe("api/b1", 100, 2)
    assert row.weight_of(100) == 20
    row.describe("api/b1", 50, 3)
    assert (row.weight_of(50), row.effective_weight()) == (50, 50)


def test_a_weight_of_0_is_one_too() -> None:
    setting = Setting()
    setting.do("weight", "0")
    assert setting.row.weight_of(100) == 0
    assert setting.do("weight", "default") == "back at its weight of 100"
    assert setting.row.weight_of(100) == 100


def test_health_may_be_forced() -> None:
    setting = Setting()
    setting.row.set(BackendColumn.HEALTH, Health.HEALTHY)
    setting.do("health", "down")
    assert setting.row.health.name == "UNHEALTHY"
    setting.do("health", "auto")
    assert setting.row.health.name == "HEALTHY"


@pytest.mark.parametrize(
    ("action", "value", "backend", "reason"),
    [
        ("erase", "", "api/b1", "no action 'erase': there are enable, drain, disable, weight, "),
        ("drain", "", "api/b9", "no backend 'api/b9': there are api/b1, api/b2, web/b1"),
        ("weight", "-1", "api/b1", "a weight is 0 to 1000, or `default`; got '-1'"),
        ("weight", "1001", "api/b1", "a weight is 0 to 1000, or `default`; got '1001'"),
        ("weight", "\u0662", "api/b1", "a weight is 0 to 1000, or `default`; got '\u0662'"),
        ("health", "good", "api/b1", "health is set to up, down, auto; got 'good'"),
    ],
)
def test_what_cannot_be_is_refused(action: str, value: str, backend: str, reason: str) -> None:
    setting = Setting()
    with pytest.raises(RefusedError) as refused:
        setting.do(action, value, backend)
    assert str(refused.value).startswith(reason)
    assert setting.row.read(slice(7, 16)) == [0] * 9


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b'{"action": "drain", "backend": "api/b1"}\n', True),
        (b'{"action": "drain", "backend": "api/b1"}', True),
        (b'{"action": "drain"}\n', False),
        (b"[]\n", False),
        (b"drain api/b1\n", False),
        (b"\xff\xfe\n", False),
        (b"[" * 4000 + b"\n", False),
        (b"x" * (2 * LINE_BYTES) + b"\n", None),
        (b"", None),
    ],
)
def test_what_comes_over_the_socket(tmp_path: Path, sent: bytes, answer: bool | None) -> None:
    async def test() -> bytes:
        endpoint = Setting().endpoint()
        path = str(tmp_path / "control")
        async with await asyncio.start_unix_server(endpoint.serve, path, limit=LINE_BYTES):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            writer.write_eof()
            said = await asyncio.wait_for(reader.read(), 5.0)
            writer.close()
            return said

    said = asyncio.run(test())
    assert (json.loads(said)["ok"] if said else None) is answer


def test_who_leaves_at_once_does_no_harm(tmp_path: Path) -> None:
    async def test() -> None:
        endpoint = Setting().endpoint()
        path = str(tmp_path / "control")
        async with await asyncio.start_unix_server(endpoint.serve, path):
            for _ in range(3):
                with socket.socket(socket.AF_UNIX) as one:
                    one.connect(path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"action": "enable", "backend": "api/b1"}\n')
            assert json.loads(await asyncio.wait_for(reader.read(), 5.0))["ok"]
            writer.close()

    asyncio.run(test())
