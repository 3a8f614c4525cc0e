"""Each kind of probe, against servers that are well and servers that are not."""

import asyncio
import os
import re
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from spooky.config.backend_tls import make_client_context
from spooky.config.model import Backend, Config, HealthCheck, Upstream, UpstreamTls
from spooky.keeper.checkup import Checkup, plan_checkups
from spooky.keeper.probe import examine
from tests.e2e.certificates import Identity, make_identity
from tests.e2e.processes import free_port
from tests.keeper import well_or_not
from tests.keeper.well_or_not import answering, serving

PREFACE = bytes.fromhex("000000 04 00 00000000")
"""An empty SETTINGS frame: an HTTP/2 server that says no more."""


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("identity"), "localhost")


def checkup(where: int, tls: UpstreamTls | None = None, **settings: Any) -> Checkup:
    """What the keeper makes of a configuration with one backend."""
    backend = Backend("b0", "127.0.0.1", where, tls=tls is not None)
    check = HealthCheck(**settings)
    upstream = Upstream("web", (), (backend,), tls=tls or UpstreamTls(), health_check=check)
    contexts = {} if tls is None else {"web": make_client_context(tls)}
    made = plan_checkups(Config(listen=(), upstream=(upstream,)), contexts)[backend.identity]
    assert made is not None
    return made


async def result(
    where: int, tls: UpstreamTls | None = None, **settings: Any
) -> tuple[bool | None, str]:
    one = checkup(where, tls, timeout=settings.pop("timeout", 1.0), **settings)
    return await examine(one.probe, one.timeout)


@pytest.mark.parametrize(
    ("settings", "passed", "why"),
    [
        ({"path": "/text"}, True, "answered with status 200"),
        ({"path": "/status/204"}, True, "answered with status 204"),
        ({"path": "/status/300"}, False, "it answered with status 300"),
        ({"path": "/status/503"}, False, "it answered with status 503"),
        ({"path": "/status/404", "status": ((200, 204), (404, 404))}, True, "status 404"),
        ({"path": "/status/205", "status": ((200, 204), (404, 404))}, False, "status 205"),
        ({"path": "/text", "method": "HEAD"}, True, "status 200"),
        ({"path": "/text", "body": "two three: all"}, True, "status 200"),
        ({"path": "/text", "body": "t.o"}, False, "not in the 26 octets of its answer"),
        ({"path": "/text", "body_regex": "t.o .* well$"}, True, "status 200"),
        ({"path": "/text", "body_regex": "^two"}, False, "not in the 26 octets of its answer"),
        ({"path": "/text", "body": "one", "body_bytes": 3}, True, "status 200"),
        ({"path": "/text", "body": "two", "body_bytes": 6}, False, "in the 6 octets"),
        ({"path": "/endless", "body": "xxx", "body_bytes": 9000}, True, "status 200"),
        # More than a backend may send before it hears of us again.
        ({"path": "/endless", "body": "xxx", "body_bytes": 600_000}, True, "status 200"),
        ({"path": "/endless", "body_bytes": 1}, True, "status 200"),
        ({"path": "/hang", "timeout": 0.3}, False, "no answer within 300ms"),
        ({"type": "grpc"}, True, "said SERVING"),
        ({"type": "grpc", "service": "up"}, True, "said SERVING"),
        ({"type": "grpc", "service": "down"}, False, "it says NOT_SERVING"),
        ({"type": "grpc", "service": "unknown"}, False, "it says UNKNOWN"),
        ({"type": "grpc", "service": "lost"}, False, "it says SERVICE_UNKNOWN"),
        ({"type": "grpc", "service": "none"}, False, "gRPC status 5: unknown service"),
        ({"type": "tcp"}, True, "took a connection"),
    ],
)
def test_a_server_is_judged_by_what_it_answers(
    settings: dict[str, Any], passed: bool, why: str
) -> None:
    async def scenario() -> tuple[bool | None, str]:
        async with serving() as port:
            return await result(port, **settings)

    found = asyncio.run(scenario())
    assert found[0] is passed, found
    assert why in found[1]


def test_what_is_asked_for() -> None:
    async def scenario() -> None:
        async with serving() as port:
            well_or_not.seen.clear()
            await result(port, path="/status/200?deep=1", method="OPTIONS")
            await result(port, path="/text", host="shop.example")
            own, named = well_or_not.seen
        assert (own["method"], own["path"]) == ("OPTIONS", "/status/200")
        assert (own["query_string"], own["http_version"]) == (b"deep=1", "2")
        fields = dict(own["headers"])
        assert fields[b"host"] == b"127.0.0.1:%d" % port
        assert fields[b"user-agent"].startswith(b"spooky/")
        assert dict(named["headers"])[b"host"] == b"shop.example"

    asyncio.run(scenario())


@asynccontextmanager
async def nobody() -> AsyncIterator[int]:
    yield free_port()


@pytest.mark.parametrize("kind", ["http", "grpc"])
@pytest.mark.parametrize(
    ("server", "why"),
    [
        (nobody, "connection refused"),
        (lambda: answering(None), "it closed the connection|reset"),
        (lambda: answering(b""), "no answer within 300ms"),
        (lambda: answering(PREFACE), "no answer within 300ms"),
        (lambda: answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "HTTP/1"),
        (lambda: answering(b"\xff" * 100), "."),
    ],
)
def test_what_speaks_no_http2_is_not_well(server: Callable[[], Any], why: str, kind: str) -> None:
    async def scenario() -> tuple[bool | None, str]:
        async with server() as port:
            return await result(port, type=kind, timeout=0.3)

    passed, said = asyncio.run(scenario())
    assert not passed
    assert re.search(why, said), said


def test_tcp_and_another_port() -> None:
    async def scenario() -> None:
        async with answering(b"") as open_port:
            closed = free_port()
            assert await result(open_port, type="tcp") == (True, "took a connection")
            assert await result(closed, type="tcp") == (False, "connection refused")
            assert (await result(closed, type="tcp", port=open_port))[0]
            assert not (await result(open_port, type="tcp", port=closed))[0]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("settings", "verified", "passed", "why"),
    [
        ({"type": "tls"}, True, True, "completed a TLS handshake"),
        ({"type": "tls"}, False, False, "its certificate is not accepted"),
        ({"type": "tcp"}, False, True, "took a connection"),
        ({"type": "http", "path": "/text"}, True, True, "status 200"),
        ({"type": "http", "path": "/text"}, False, False, "its certificate is not accepted"),
        ({"type": "grpc"}, True, True, "said SERVING"),
    ],
)
def test_tls(
    settings: dict[str, Any], verified: bool, passed: bool, why: str, identity: Identity
) -> None:
    tls = UpstreamTls(ca=identity.cert, server_name="localhost") if verified else UpstreamTls()

    async def scenario() -> tuple[bool | None, str]:
        async with serving(identity) as port:
            return await result(port, tls, **settings)

    found = asyncio.run(scenario())
    assert found[0] is passed, found
    assert why in found[1]


def test_tls_where_none_is_spoken(identity: Identity) -> None:
    async def scenario() -> tuple[bool | None, str]:
        async with serving() as port:
            return await result(port, UpstreamTls(verify=False), type="tls")

    passed, why = asyncio.run(scenario())
    assert not passed
    assert why


# --- commands -----------------------------------------------------------------------------------

SHOW = 'test "$SPOOKY_BACKEND_ADDRESS $SPOOKY_BACKEND_PORT $SPOOKY_BACKEND_ID" = "127.0.0.1 7 b0"'


@pytest.mark.parametrize(
    ("command", "passed", "why"),
    [
        (("true",), True, "true ended with status 0"),
        (("false",), False, "false ended with status 1"),
        (("sh", "-c", "exit 7"), False, "sh ended with status 7"),
        (("sh", "-c", "kill -9 $$"), False, "sh was killed by SIGKILL"),
        (("sh", "-c", SHOW), True, "status 0"),
        # No shell reads it.
        (("test", "$HOME", "=", "$" + "HOME"), True, "status 0"),
        (("/no/such/program",), False, "no such file or directory"),
        (("sleep", "20"), False, "no answer within 300ms"),
    ],
)
def test_a_command_says_by_its_exit_status(
    command: tuple[str, ...], passed: bool, why: str
) -> None:
    found = asyncio.run(result(7, type="command", command=command, timeout=0.3))
    assert found[0] is passed, found
    assert why in found[1]


def living_with(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return [pid for pid in found if pid != os.getpid()]


async def cancel_once(running: Awaitable[object], mark: str) -> None:
    """Cancel what runs as soon as both of its processes are there."""
    task = asyncio.ensure_future(running)
    async with asyncio.timeout(10):
        while len(living_with(mark)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_shortage_of_ours_says_nothing_of_the_backend() -> None:
    async def scenario() -> tuple[bool | None, str]:
        one = checkup(free_port(), type="tcp")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            return await examine(one.probe, one.timeout)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert asyncio.run(scenario()) == (None, "too many open files")


@pytest.mark.parametrize("way", ["timeout", "cancelled"])
def test_a_command_that_does_not_end_is_killed_with_its_children(way: str) -> None:
    mark = f"probe-{os.getpid()}-{way}"
    # A parent and a child that both ignore all that can be ignored.
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    script = f'"{sys.executable}" -c "{code}" {mark} & exec "{sys.executable}" -c "{code}" {mark}'

    async def scenario() -> None:
        one = checkup(7, type="command", command=("sh", "-c", script), timeout=0.4, interval=1)
        if way == "timeout":
            assert await examine(one.probe, 0.4) == (False, "no answer within 400ms")
        else:
            await cancel_once(examine(one.probe, 30), mark)

    asyncio.run(scenario())
    deadline = time.monotonic() + 5
    while living_with(mark):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Other children are those of fixtures, and live.
    states = [child.status() for child in psutil.Process().children()]
    assert psutil.STATUS_ZOMBIE not in states
