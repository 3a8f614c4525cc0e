"""The access log: a line per request with what an operator needs, in both formats; reopening."""

import asyncio
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.backends import Backend
from tests.e2e.clients import curl
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, Fields, connect
from tests.e2e.processes import free_port, wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

FIELDS = {
    *("time", "request_id", "client", "method", "authority", "path", "status"),
    *("bytes_sent", "bytes_received", "duration", "backend", "backend_duration", "retries"),
    "error",
}


def _settings(backend: Backend, log_format: str) -> dict[str, object]:
    routes = {
        "main": upstream(backend.address),
        "dead": upstream(f"127.0.0.1:{free_port()}", path="/dead"),
    }
    return {"upstream": routes, "log": {"format": log_format}}


def test_json_lines(spooky: Spooky, asgi: Backend) -> None:
    running = spooky(_settings(asgi, "json"))
    curl(running.target, "POST", "/asgi/sha256?a=1", b"x" * 1000)
    curl(running.target, "GET", "/dead")
    good, bad = running.access_records(2)
    assert good.keys() >= FIELDS
    assert (good["method"], good["path"], good["status"]) == ("POST", "/asgi/sha256?a=1", 200)
    assert good["authority"] == f"localhost:{running.port}"
    assert good["client"].startswith("127.0.0.1")
    assert (good["bytes_received"], good["error"], good["retries"]) == (1000, None, 0)
    assert good["bytes_sent"] > 60
    assert 0 < good["backend_duration"] <= good["duration"] < 5
    assert good["backend"] == "b0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", good["time"])
    assert (bad["status"], bad["error"]) == (502, "connect_failed")
    assert good["request_id"] != bad["request_id"]


FAULTY = (b":method", b"PUT"), (b":authority", b"a.test"), (b":path", b"/faulty")
SIZE = (b"x-big", b"x" * 40_000)


@pytest.mark.parametrize(
    ("fields", "status", "known"),
    [
        ([(b"x-request-id", b"mine"), *FAULTY], 400, ("PUT", "a.test", "/faulty", "mine")),
        ([(b":status", b"200"), *FAULTY[:1]], 400, ("PUT", "", "-", None)),
        ([*FAULTY, *[(b"x-many", b"y" * 60)] * 400], 431, ("PUT", "a.test", "/faulty", None)),
        ([*FAULTY, SIZE], 431, ("-", "", "-", None)),
    ],
    ids=["late pseudo-header", "wrong pseudo-header", "too large once decoded", "too large"],
)
def test_a_head_that_breaks_the_rules_is_logged_by_what_is_known_of_it(
    spooky: Spooky,
    asgi: Backend,
    fields: Fields,
    status: int,
    known: tuple[str, str, str, str | None],
) -> None:
    running = spooky(_settings(asgi, "json"))

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            return await client.over(client.open_raw(fields))

    exchange = asyncio.run(scenario())
    assert exchange.status == status
    (record,) = running.access_records(1)
    assert record["status"] == status
    assert (record["method"], record["authority"], record["path"]) == known[:3]
    told = (exchange.header(b"x-request-id") or b"").decode()
    assert record["request_id"] == told
    assert told == known[3] or (known[3] is None and len(told) == 32)


def test_plain_lines(spooky: Spooky, asgi: Backend) -> None:
    running = spooky(_settings(asgi, "plain"))
    curl(running.target, "GET", "/asgi/bytes?n=1234")
    curl(running.target, "GET", "/dead")
    good, bad = running.access_lines(2)
    assert f'"GET localhost:{running.port}/asgi/bytes?n=1234" 200 1234 0 ' in good
    assert "127.0.0.1" in good
    assert "backend=b0" in good
    assert "error=-" in good
    assert " 502 " in bad
    assert "error=connect_failed" in bad
    assert bad.endswith(' detail="connection refused"')
    assert "detail=" not in good


def test_line_cannot_be_forged(spooky: Spooky, asgi: Backend) -> None:
    """What a client sends stays inside its field, in a line of its own."""
    running = spooky(_settings(asgi, "plain"))

    async def scenario() -> None:
        async with connect(running.port) as client:
            await client.get('/asgi/x" 200 1 1 error=-')
            await client.get("/asgi/y\x1b[31m")
            await client.get("/asgi/status", [(b"x-request-id", b'a" b')])

    asyncio.run(scenario())
    for line in running.access_lines(3):
        assert line.partition(" detail=")[0].count('"') == 2
        assert line.isprintable()


def test_head_and_reset_have_lines(spooky: Spooky, asgi: Backend) -> None:
    running = spooky(_settings(asgi, "json"))

    async def scenario() -> None:
        async with connect(running.port) as client:
            await client.over(client.open("HEAD", "/asgi/bytes?n=10"))
            exchange = client.open("GET", "/asgi/hang")
            await client.until(lambda: client.unsent(exchange) == 0, "the request to be out")
            client.stop(exchange, 0x10C)
            await client.over(exchange)

    asyncio.run(scenario())
    head, gone = running.access_records(2)
    assert (head["status"], head["bytes_sent"]) == (200, 0)
    assert (gone["status"], gone["error"]) == (499, "client_reset")


def test_reopened_on_usr1(spooky: Spooky, asgi: Backend, tmp_path: Path) -> None:
    running = spooky({**_settings(asgi, "json"), "worker_processes": 2})
    running.wait_until_serving(2)
    curl(running.target, "GET", "/asgi/status?code=204&before=1")
    running.access_lines(1)
    rotated = tmp_path / "access.log.1"
    running.access_log.rename(rotated)
    running.signal(signal.SIGUSR1)

    def have_new_file(running: SpookyProcess) -> bool:
        opened = [{file.path for file in worker.open_files()} for worker in running.workers()]
        return all(str(running.access_log) in files for files in opened)

    wait_until(lambda: have_new_file(running), 5.0, "both workers to open the new file")
    for _ in range(8):
        curl(running.target, "GET", "/asgi/status?code=204&after=1")
    assert all("after=1" in line for line in running.access_lines(8))
    assert rotated.read_text().count("before=1") == len(rotated.read_text().splitlines()) == 1
