"""A backend in the test's own process that keeps requests until the test lets them go.

It counts what it has at the same time, which is what limits are about.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.e2e.scripted_connection import Action, Connection, Request


class HoldingBackend:
    """Listens from the start, and serves while its block lasts."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections: list[Connection] = []
        self.arrived: list[Request] = []
        """All requests that ever came, in their order."""
        self.most = 0
        """The most that were here at the same time."""
        self.delay: float | None = None
        """Seconds until a request is answered by itself; None: it is kept."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["HoldingBackend"]:
        """Serve until the block ends."""
        server = await asyncio.get_running_loop().create_server(self._accept, sock=self._listener)
        try:
            yield self
        finally:
            server.close()
            for connection in self.connections:
                connection.transport.abort()

    @property
    def held(self) -> list[tuple[Connection, Request]]:
        """List what is here now."""
        return [(one, request) for one in self.connections for request in one.requests.values()]

    def has_seen(self, count: int) -> bool:
        """Say whether so many requests ever came."""
        return len(self.arrived) == count

    def let_go(self, count: int = 1) -> None:
        """Answer those that came first."""
        by_arrival = sorted(self.held, key=lambda one: self.arrived.index(one[1]))
        for connection, request in by_arrival[:count]:
            self._answer(connection, request)

    def _accept(self) -> Connection:
        connection = Connection({"hold": Action(begin=self._begin, end=self._end)})
        self.connections.append(connection)
        return connection

    def _begin(self, _connection: Connection, request: Request) -> None:
        self.arrived.append(request)
        self.most = max(self.most, len(self.held))

    def _end(self, connection: Connection, request: Request) -> None:
        if self.delay is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.delay, self._answer, connection, request)

    def _answer(self, connection: Connection, request: Request) -> None:
        if connection.is_open(request):
            connection.json(request, {"received": request.received})
            connection.flush()
