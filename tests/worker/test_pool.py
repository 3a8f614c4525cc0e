"""Pools against real HTTP/2 servers, and against backends that cannot be had."""

import asyncio
import re
import socket
import time
from dataclasses import replace

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, SettingsFrame

from spooky.errors import Kind
from spooky.worker.pool import Pool, PoolStats, connections_to_open
from tests.e2e.backends import Backend
from tests.e2e.content import content, digest
from tests.e2e.processes import free_port
from tests.worker.pool_probe import (
    LIMITS,
    SETTINGS,
    Client,
    Exchange,
    both_loops,
    get,
    make_head,
    pooled,
    run,
    scripted,
    serving,
    stats_of,
    until,
    within,
)

FEW = replace(LIMITS, backend_connections=3, backend_streams=10)


@pytest.mark.parametrize(
    ("stats", "capacity", "wanted"),
    [
        (PoolStats(0, 0, 0, 0), 0, 0),
        (PoolStats(0, 0, 0, 1), 0, 1),
        (PoolStats(0, 0, 0, 11), 0, 2),
        (PoolStats(0, 0, 0, 1000), 0, 3),
        (PoolStats(0, 1, 0, 10), 0, 0),
        (PoolStats(0, 1, 0, 11), 0, 1),
        (PoolStats(1, 0, 7, 0), 10, 0),
        (PoolStats(1, 0, 8, 0), 10, 1),
        (PoolStats(1, 1, 8, 0), 10, 0),
        (PoolStats(1, 0, 1, 0), 1, 1),
        (PoolStats(3, 0, 30, 100), 30, 0),
        (PoolStats(2, 1, 20, 100), 20, 0),
    ],
)
def test_connections_to_open(stats: PoolStats, capacity: int, wanted: int) -> None:
    assert connections_to_open(stats, capacity, FEW) == wanted


@both_loops
def test_content_both_ways(nghttpd: Backend, loop_name: str) -> None:
    async def test() -> None:
        async with pooled(nghttpd.port) as pool:
            small, large = get("/1k"), get("/1m")
            head = Exchange(make_head(b"HEAD", "/1k"))
            missing = get("/none")
            upload = content(3 << 20)
            echo = Exchange(make_head(b"POST", "/echo", end=False), upload)
            exchanges = [small, large, head, missing, echo]
            for exchange in exchanges:
                exchange.start(pool)
            assert [await exchange.wait() for exchange in exchanges] == ["ok"] * 5
            assert small.hash.hexdigest() == digest(1024)
            assert large.hash.hexdigest() == digest(1 << 20)
            assert echo.hash.hexdigest() == digest(3 << 20)
            assert (head.received, missing.response and missing.response.status) == (0, 404)
            assert stats_of(pool).in_flight == 0

    run(test(), loop_name)


def test_more_requests_than_streams(nghttpd: Backend) -> None:
    async def test() -> None:
        async with pooled(nghttpd.port, limits=FEW) as pool:
            exchanges = [get("/1k") for _ in range(300)]
            for exchange in exchanges:
                exchange.start(pool)
            assert stats_of(pool).queued == 300
            most = PoolStats(0, 0, 0, 0)
            for exchange in exchanges:
                assert await exchange.wait() == "ok"
                stats = stats_of(pool)
                most = max(most, stats, key=lambda one: one.in_flight)
            assert 10 < most.in_flight <= 30
            assert stats_of(pool) == PoolStats(3, 0, 0, 0)

    run(test())


def test_another_connection_is_opened_before_it_is_needed(nghttpd: Backend) -> None:
    async def test() -> None:
        async with pooled(nghttpd.port, limits=FEW) as pool:
            first = get("/1k")
            first.start(pool)
            await first.wait()
            stalled = [Exchange(make_head(b"POST", "/echo", end=False)) for _ in range(8)]
            for number, exchange in enumerate(stalled):
                assert stats_of(pool).connecting == 0, number
                exchange.start(pool)
            assert stats_of(pool) == PoolStats(1, 1, 8, 0)
            await until(lambda: stats_of(pool).connections == 2, "two connections")
            more = [Exchange(make_head(b"POST", "/echo", end=False)) for _ in range(8)]
            for exchange in more:
                exchange.start(pool)
            assert stats_of(pool).queued == 0
            for exchange in [*stalled, *more]:
                assert exchange.stream is not None
                exchange.stream.cancel()
            assert stats_of(pool).in_flight == 0

    run(test())


def test_the_queue_has_a_bound_and_an_end() -> None:
    async def test() -> None:
        one_stream = SettingsFrame(0, {SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        limits = replace(LIMITS, backend_queue=2, backend_connections=1)
        async with (
            serving(scripted(one_stream)) as port,
            pooled(port, limits=limits, timeouts=within(queue=0.3)) as pool,
        ):
            first = get()
            first.start(pool)
            await until(lambda: first.stream is not None, "a stream")
            waiting, leaving, late = get(), get(), get()
            waiting.start(pool)
            ticket = leaving.start(pool)
            late.start(pool)
            assert await late.wait() is Kind.OVERLOADED
            ticket.cancel()
            assert stats_of(pool).queued == 1
            assert await waiting.wait() is Kind.OVERLOADED
            assert waiting.detail == "no stream within 0.3 s"
            assert not leaving.done.done()
            assert not first.done.done()
            ticket.cancel()

    run(test())


@both_loops
def test_a_refused_connection_is_told_at_once(loop_name: str) -> None:
    async def test() -> None:
        async with pooled(free_port()) as pool:
            exchanges = [get() for _ in range(250)]
            for exchange in exchanges:
                exchange.start(pool)
            assert stats_of(pool).connecting == 3
            assert {await exchange.wait() for exchange in exchanges} == {Kind.CONNECT_FAILED}
            assert exchanges[0].detail == "connection refused"

    run(test(), loop_name)


def test_names_that_do_not_exist() -> None:
    async def test() -> None:
        for host in ("no-such-host.invalid", "a" * 64 + ".invalid", "a..b"):
            async with pooled(1, host=host) as pool:
                exchange = get()
                exchange.start(pool)
                assert await exchange.wait() is Kind.CONNECT_FAILED
                assert exchange.detail

    run(test())


@both_loops
def test_all_addresses_of_a_name_are_tried(nghttpd: Backend, loop_name: str) -> None:
    async def test() -> None:
        async with pooled(nghttpd.port, host="localhost") as pool:
            exchange = get("/1k")
            exchange.start(pool)
            assert await exchange.wait() == "ok"

    run(test(), loop_name)


@both_loops
def test_settings_that_never_come(loop_name: str) -> None:
    async def test() -> None:
        async with (
            serving(scripted()) as port,
            pooled(port, timeouts=within(connect=0.2)) as pool,
        ):
            exchange = get()
            exchange.start(pool)
            assert await exchange.wait() is Kind.CONNECT_TIMEOUT
            assert exchange.detail == "not connected within 0.2 s"
            assert stats_of(pool) == PoolStats(0, 0, 0, 0)

    run(test(), loop_name)


@pytest.mark.parametrize(
    ("octets", "hold", "detail"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", False, "HTTP/1"),
        (b"\x15\x03\x01\x00\x02\x02F", False, "https://"),
        (b"", False, "without speaking HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", True, "does not speak HTTP/2"),
        (b"\x00\x00\x06\x04\x00\x00", False, "does not speak HTTP/2"),
    ],
)
def test_backends_that_do_not_speak_http2(octets: bytes, hold: bool, detail: str) -> None:
    async def test() -> None:
        async with serving(scripted(24, octets, hold=hold)) as port, pooled(port) as pool:
            exchange = get()
            exchange.start(pool)
            assert await exchange.wait() is Kind.CONNECT_FAILED
            assert detail in exchange.detail

    run(test())


@both_loops
def test_hypercorns_goaways_lose_no_request(hypercorn: Backend, loop_name: str) -> None:
    async def test() -> None:
        limits = replace(LIMITS, backend_connections=2)
        total, at_once = 5000, 60
        async with pooled(hypercorn.port, limits=limits) as pool:
            gate = asyncio.Semaphore(at_once)
            resent = 0

            async def one() -> None:
                nonlocal resent
                async with gate:
                    exchange = Exchange(make_head(b"GET", "/bytes?n=100"), resend_on=pool)
                    exchange.start(pool)
                    assert await exchange.wait() == "ok", exchange.detail
                    assert exchange.hash.hexdigest() == digest(100)
                    resent += exchange.resent

            await asyncio.gather(*(one() for _ in range(total)))
            print(f"{resent} of {total} were sent again")

    run(test(), loop_name)


def test_goaway_moves_requests_to_another_connection() -> None:
    async def test() -> None:
        clients = 0
        ends = scripted(SETTINGS, 100, GoAwayFrame(0, last_stream_id=1))
        goes_on = scripted(SETTINGS)

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal clients
            clients += 1
            await (ends if clients == 1 else goes_on)(reader, writer)

        # The connection that only finishes takes no other's place.
        limits = replace(LIMITS, backend_connections=1)
        async with serving(client) as port, pooled(port, limits=limits) as pool:
            first = get()
            second = Exchange(make_head(b"GET", "/"), resend_on=pool)
            first.start(pool)
            second.start(pool)
            await until(lambda: second.resent == 1, "a second attempt")
            await until(lambda: clients == 2 and stats_of(pool).in_flight == 2, "a connection")
            assert not first.done.done()
            assert first.stream is not None
            first.stream.cancel()
            await until(lambda: stats_of(pool).connections == 1, "the old one closed")

    run(test())


def in_turn(*clients: Client) -> Client:
    """Serve each connection with the next of these; the last serves all further ones."""
    count = 0

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await clients[min(count, len(clients)) - 1](reader, writer)

    return client


def test_a_retired_connection_is_no_hope_for_those_who_wait() -> None:
    async def test() -> None:
        client = in_turn(
            scripted(SETTINGS, 100, GoAwayFrame(0, last_stream_id=1)),
            scripted(24, hold=False),
            scripted(SETTINGS),
        )
        async with serving(client) as port, pooled(port, timeouts=within(queue=60)) as pool:
            long, failed, late = get(), get(), get()
            long.start(pool)
            await until(
                lambda: long.stream is not None and not pool._connections[0].in_service(),
                "GOAWAY",
            )
            failed.start(pool)
            assert await failed.wait() is Kind.CONNECT_FAILED
            assert not long.done.done()
            late.start(pool)
            assert stats_of(pool).connecting == 1
            await until(lambda: late.stream is not None, "a stream on a new connection")
            assert not long.done.done()

    run(test())


def test_growing_is_tried_again_while_requests_wait() -> None:
    async def test() -> None:
        one_stream = SettingsFrame(0, {SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        client = in_turn(scripted(one_stream), scripted(24, hold=False), scripted(SETTINGS))
        async with serving(client) as port, pooled(port, timeouts=within(queue=60)) as pool:
            long, waiting = get(), get()
            long.start(pool)
            await until(lambda: long.stream is not None, "a stream")
            waiting.start(pool)
            await until(lambda: waiting.stream is not None, "a stream on a new connection")
            assert not long.done.done()
            assert stats_of(pool) == PoolStats(2, 0, 2, 0)

    run(test())


@both_loops
def test_a_connection_that_is_ready_as_its_time_is_up_is_closed(loop_name: str) -> None:
    async def test() -> None:
        hung_up = asyncio.Event()

        async def client(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            while await reader.read(65_536):
                pass
            hung_up.set()

        async with serving(client) as port, pooled(port) as pool:
            get().start(pool)
            ((connection, ready),) = pool._attempts.items()
            await until(lambda: not connection.closed.is_set(), "TCP")
            await until(lambda: bool(ready._callbacks), "the attempt waits for SETTINGS")
            # What the timeout does; the SETTINGS come before the task hears of it.
            (task,) = pool._tasks
            task.cancel()
            assert ready.cancelled()
            connection.data_received(SETTINGS.serialize())
            await asyncio.wait_for(hung_up.wait(), 5)
            assert stats_of(pool).connections == 0

    run(test(), loop_name)


def test_unused_connections_are_closed(nghttpd: Backend) -> None:
    async def test() -> None:
        limits = replace(LIMITS, backend_idle_timeout=0.2)
        async with pooled(nghttpd.port, limits=limits) as pool:
            exchange = get("/1k")
            exchange.start(pool)
            await exchange.wait()
            assert stats_of(pool).connections == 1
            await until(lambda: stats_of(pool).connections == 0, "closed")
            again = get("/1k")
            again.start(pool)
            assert await again.wait() == "ok"

    run(test())


@both_loops
def test_close_ends_what_waits_and_what_runs(loop_name: str) -> None:
    async def test() -> None:
        limits = replace(LIMITS, backend_connections=1, backend_streams=1)
        async with serving(scripted(SETTINGS)) as port, pooled(port, limits=limits) as pool:
            running, waiting = get(), get()
            running.start(pool)
            waiting.start(pool)
            await until(lambda: running.stream is not None, "a stream")
            await pool.close()
            assert await running.wait() == ("lost", False)
            assert await waiting.wait() is Kind.DRAINING
            late = get()
            late.start(pool)
            assert await late.wait() is Kind.DRAINING

    run(test(), loop_name)


# --- what the log hears ------------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the pool logged, without the address."""
    return [
        (record.levelname, re.sub(r" 127\.0\.0\.1:\d+", "", record.getMessage()))
        for record in caplog.records
        if record.name == "spooky.worker.pool"
    ]


def test_close_waits_for_no_connection_that_was_only_being_made() -> None:
    """Whatever moment it comes in: uvloop tells no end of a transport that was cancelled."""

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            for turns in range(8):
                begun = time.monotonic()
                async with pooled(silent.getsockname()[1]) as pool:
                    get().start(pool)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                assert time.monotonic() - begun < 1

    run(test())


CLOSED = "it closed the connection without speaking HTTP/2"


async def ask(pool: Pool) -> object:
    exchange = get("/1k")
    exchange.start(pool)
    return await exchange.wait()


@both_loops
def test_a_backend_that_is_down_is_told_of_once(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        port = free_port()
        async with pooled(port) as pool:
            for _ in range(5):
                assert await ask(pool) is Kind.CONNECT_FAILED
        (record,) = caplog.records
        assert record.getMessage() == (
            f"backend u/b 127.0.0.1:{port}: cannot connect: connection refused"
        )
        assert record.levelname == "WARNING"

    caplog.set_level("INFO")
    run(test(), loop_name)


def test_a_backend_that_comes_back_is_told_of(
    nghttpd: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """The way to it is a door that is shut at first."""

    async def test() -> None:
        is_open = False

        async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not is_open:
                return
            behind, onward = await asyncio.open_connection("127.0.0.1", nghttpd.port)

            async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65_536):
                    sink.write(data)

            try:
                await asyncio.gather(carry(reader, onward), carry(behind, writer))
            finally:
                onward.close()

        async with serving(door) as port, pooled(port) as pool:
            assert await ask(pool) is Kind.CONNECT_FAILED
            assert await ask(pool) is Kind.CONNECT_FAILED
            is_open = True
            assert [await ask(pool), await ask(pool)] == ["ok", "ok"]
        assert told(caplog) == [
            ("WARNING", f"backend u/b: cannot connect: {CLOSED}"),
            ("INFO", "backend u/b: reachable again"),
        ]

    caplog.set_level("INFO")
    run(test())


def test_the_end_of_a_pool_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(scripted()) as port, pooled(port) as pool:
            exchange = get("/")
            exchange.start(pool)
            await until(lambda: stats_of(pool).connecting == 1, "an attempt")
        assert await exchange.wait() is Kind.DRAINING
        assert told(caplog) == []

    caplog.set_level("INFO")
    run(test())


UNREACHABLE: list[tuple[str, Client | None, str, str]] = [
    ("timeout", scripted(), "127.0.0.1", "not connected within 0.2 s"),
    ("no HTTP/2", scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "127.0.0.1", ""),
    ("no such name", None, "no-such-name.invalid", "its name cannot be looked up: "),
]


@both_loops
@pytest.mark.parametrize(
    ("client", "host", "reason"),
    [case[1:] for case in UNREACHABLE],
    ids=[name for name, *_ in UNREACHABLE],
)
def test_why_it_cannot_be_reached(
    client: Client | None,
    host: str,
    reason: str,
    loop_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        timeouts = within(connect=5 if client is None else 0.2)
        async with (
            serving(client or scripted()) as port,
            pooled(port, host=host, timeouts=timeouts) as pool,
        ):
            assert await ask(pool) in {Kind.CONNECT_FAILED, Kind.CONNECT_TIMEOUT}
        (record,) = caplog.records
        assert f": cannot connect: {reason}" in record.getMessage()

    caplog.set_level("INFO")
    run(test(), loop_name)
