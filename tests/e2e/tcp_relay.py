"""A way for TCP that can break: it passes octets on, resets connections, or falls silent.

Silent is what a cable that was pulled is: connections stay, nothing comes through. New ones are
taken by the kernel, and nobody answers on them.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from enum import Enum


class Way(Enum):
    """What the relay does."""

    PASSES = "passes"
    RESETS = "resets"
    SILENT = "silent"


class TcpRelay:
    """A relay from a port of its own to another one of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passes = asyncio.Event()
        self.way = Way.PASSES
        self.port = 0

    def turn(self, way: Way) -> None:
        """Behave like this from now on."""
        self._loop.call_soon_threadsafe(self._turn, way)

    def _turn(self, way: Way) -> None:
        self.way = way
        if way is Way.PASSES:
            self._passes.set()
        else:
            self._passes.clear()
        if way is Way.RESETS:
            for writer in list(self._writers):
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.way is Way.RESETS:
            _reset(writer)
            return
        self._writers.add(writer)
        await self._passes.wait()
        if writer.is_closing():
            return
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        self._passes.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        self._turn(Way.RESETS)
        # Nothing is cut off: asyncio would complain of each, and of sockets that nobody closed.
        self._passes.set()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
        closed = (writer.wait_closed() for writer in self._writers)
        await asyncio.gather(*closed, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    channel: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def relay_to(target: int) -> Iterator[TcpRelay]:
    """Run a relay to a port until the block ends."""
    relay = TcpRelay(target)
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=relay._loop.run_until_complete, args=[relay._run(ready, stop)])
    thread.start()
    assert ready.wait(10.0)
    try:
        yield relay
    finally:
        relay._loop.call_soon_threadsafe(stop.set)
        thread.join()
        relay._loop.close()
