"""One connection: flow control down to the socket, signs of life, its end."""

import asyncio
import socket
from contextlib import suppress
from dataclasses import replace

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame

from spooky.errors import H2Code
from spooky.protocol.lean_h2 import LeanEngine
from spooky.protocol.messages import Body, Malformed, ResponseHead
from spooky.protocol.upstream import H2Limits
from spooky.worker.backend import BackendConnection
from tests.e2e.backends import Backend
from tests.e2e.content import digest
from tests.worker.conftest import HUGE
from tests.worker.pool_probe import (
    LIMITS,
    SETTINGS,
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
)

OK_HEAD = HeadersFrame(1, b"\x88", flags=["END_HEADERS"])
PREFACE_AND_REQUEST = 24 + 9 + 30 + 13 + 9 + 20


def test_a_response_that_nobody_takes_is_bounded_and_holds_up_no_other(nghttpd: Backend) -> None:
    async def test() -> None:
        async with pooled(nghttpd.port) as pool:
            stalled = Exchange(make_head(b"GET", "/huge"), consume=False)
            stalled.start(pool)
            window = LIMITS.backend_stream_window
            await until(lambda: stalled.received == window, "a full window")
            for _ in range(30):
                other = get("/1m")
                other.start(pool)
                assert await other.wait() == "ok"
                assert other.hash.hexdigest() == digest(1 << 20)
            assert stats_of(pool).connections == 1
            assert stalled.received == window
            assert stalled.stream is not None
            stalled.consume = True
            stalled.stream.consume(window)
            await until(lambda: stalled.received == HUGE, "the rest")

    run(test())


def test_answers_that_a_backend_does_not_read_are_bounded() -> None:
    """It pings and never reads; content in between, so that pings alone are no flood."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        owner = Owner()
        connection = BackendConnection(LeanEngine(H2Limits()), owner, LIMITS, loop)
        with theirs:
            await loop.create_connection(lambda: connection, sock=ours)
            await loop.sock_sendall(theirs, SettingsFrame(0).serialize())
            await until(lambda: owner.ready, "SETTINGS")
            exchange = get("/")
            connection.open(exchange.head, exchange)
            await loop.sock_sendall(theirs, OK_HEAD.serialize())
            some = PingFrame(0, b"12345678").serialize() + DataFrame(1, b"x").serialize()

            async def send_some() -> None:
                before = exchange.received
                with suppress(OSError):
                    await loop.sock_sendall(theirs, some * 100)
                await until(lambda: owner.gone != "" or exchange.received > before, "its turn")

            while not owner.gone and exchange.received < 100_000:
                await send_some()
        assert "more replies than it takes" in owner.gone

    run(test())


class Owner:
    """Notes what a connection tells of itself."""

    ready = False
    gone = ""

    def on_ready(self, _connection: BackendConnection) -> None:
        self.ready = True

    def on_room(self, _connection: BackendConnection) -> None:
        pass

    def on_gone(self, _connection: BackendConnection, detail: str) -> None:
        self.gone = detail


@both_loops
def test_an_upload_that_nobody_reads_is_bounded(loop_name: str) -> None:
    async def test() -> None:
        release = asyncio.Event()
        roomy = SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(roomy.serialize() + WindowUpdateFrame(0, 2**31 - 1 - 65_535).serialize())
            await release.wait()
            while await reader.read(1 << 20):
                pass

        async with serving(client, limit=65_536) as port, pooled(port) as pool:
            upload = bytes(96 << 20)
            exchange = Exchange(make_head(b"POST", "/", end=False), upload)
            exchange.start(pool)
            await until(lambda: exchange.sent > 0, "a beginning")
            seen = -1
            while seen != exchange.sent:
                seen = exchange.sent
                await asyncio.sleep(0.2)
            # What the kernel's buffers of both sides take, and little more.
            assert seen < 24 << 20
            assert exchange.stream is not None
            assert exchange.stream.writable() == 0
            release.set()
            await until(lambda: exchange.sent == len(upload), "the rest")
            exchange.stream.cancel()

    run(test(), loop_name)


def test_a_cancelled_stream_is_reset_at_once() -> None:
    async def test() -> None:
        got = bytearray()

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(SETTINGS.serialize())
            await reader.readexactly(PREFACE_AND_REQUEST)
            writer.write(OK_HEAD.serialize())
            while data := await reader.read(65_536):
                got.extend(data)

        async with serving(client) as port, pooled(port) as pool:
            exchange = get()
            exchange.start(pool)
            await until(lambda: exchange.response is not None, "a head")
            assert exchange.stream is not None
            exchange.stream.cancel(H2Code.CANCEL)
            assert stats_of(pool).in_flight == 0
            reset = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"
            await until(lambda: reset in got, "RST_STREAM")
            heard = list(exchange.events)
            exchange.stream.send_body(b"late", end=True)
            exchange.stream.consume(10)
            exchange.stream.cancel()
            assert exchange.stream.writable() == 0
            assert exchange.events == heard

    run(test())


@pytest.mark.parametrize(
    ("after", "hold", "detail"),
    [
        (b"", False, "closed the connection"),
        (DataFrame(1, b"part").serialize()[:-2], False, "in the middle of a frame"),
        (b"\xff" * 64, True, "octets"),
        (HeadersFrame(1, b"\xff" * 9, flags=["END_HEADERS"]).serialize(), True, "header block"),
    ],
)
def test_a_backend_that_breaks_off(after: bytes, hold: bool, detail: str) -> None:
    async def test() -> None:
        steps = (SETTINGS, PREFACE_AND_REQUEST, OK_HEAD, DataFrame(1, b"begun"), after)
        async with serving(scripted(*steps, hold=hold)) as port, pooled(port) as pool:
            exchange = get()
            exchange.start(pool)
            assert await exchange.wait() == ("lost", False)
            assert detail in exchange.detail
            assert [type(event) for event in exchange.events] == [ResponseHead, Body]
            assert stats_of(pool).connections == 0

    run(test())


def test_a_connection_that_is_reset() -> None:
    async def test() -> None:
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(SETTINGS.serialize())
            await reader.readexactly(PREFACE_AND_REQUEST)
            writer.transport.abort()

        async with serving(client) as port, pooled(port) as pool:
            exchanges = [get() for _ in range(3)]
            for exchange in exchanges:
                exchange.start(pool)
            assert [await exchange.wait() for exchange in exchanges] == [("lost", False)] * 3

    run(test())


def test_a_malformed_response_costs_its_stream_only() -> None:
    async def test() -> None:
        bad = HeadersFrame(1, b"\x88\x00\x01A\x01b", flags=["END_HEADERS"])
        good = HeadersFrame(3, b"\x88", flags=["END_HEADERS", "END_STREAM"])
        steps = (SETTINGS, PREFACE_AND_REQUEST + 29, bad, good)
        async with serving(scripted(*steps)) as port, pooled(port) as pool:
            first, second = get(), get()
            first.start(pool)
            second.start(pool)
            assert await first.wait() == "malformed"
            assert isinstance(first.events[0], Malformed)
            assert await second.wait() == "ok"
            assert stats_of(pool).connections == 1

    run(test())


def test_silence_is_probed_and_no_answer_is_the_end() -> None:
    async def test() -> None:
        limits = replace(LIMITS, backend_ping_interval=0.2, backend_ping_timeout=0.2)
        async with serving(scripted(SETTINGS)) as port, pooled(port, limits=limits) as pool:
            exchange = get()
            exchange.start(pool)
            assert await exchange.wait() == ("lost", False)
            assert exchange.detail == "it did not answer a PING within 0.2 s"

    run(test())


def test_silence_with_an_answer_to_the_probe_is_fine(nghttpd: Backend) -> None:
    async def test() -> None:
        limits = replace(LIMITS, backend_ping_interval=0.05, backend_ping_timeout=0.5)
        async with pooled(nghttpd.port, limits=limits) as pool:
            exchange = Exchange(make_head(b"POST", "/echo", end=False))
            exchange.start(pool)
            await until(lambda: exchange.stream is not None, "a stream")
            await asyncio.sleep(1.0)
            assert not exchange.done.done()
            assert exchange.stream is not None
            exchange.stream.send_body(b"still there", end=True)
            assert await exchange.wait() == "ok"
            assert exchange.received == len(b"still there")

    run(test())


def test_a_request_that_was_never_written_may_be_sent_again() -> None:
    async def test() -> None:
        async with serving(scripted(SETTINGS)) as port, pooled(port) as pool:
            written = get()
            written.start(pool)
            await until(lambda: written.stream is not None, "a stream")
            await until(lambda: written.stream is not None and written.stream.sent, "sent")
            unwritten = Exchange(make_head(b"GET", "/"), resend_on=pool)
            transport = pool._connections[0]._transport
            assert transport is not None
            unwritten.start(pool)
            transport.abort()
            assert await written.wait() == ("lost", False)
            await until(lambda: unwritten.resent == 1, "a second attempt")
            await until(lambda: stats_of(pool).in_flight == 1, "on another connection")
            assert not unwritten.done.done()

    run(test())
