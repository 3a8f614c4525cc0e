"""A UDP relay between one client and a server, which moves its far side on command.

To the server that is what a NAT does that gives a client another port (rebinding), or a network
change that gives it another address. The client notices nothing. As with a NAT, the next datagram
of the client is the first from the new port, and what is on its way to the old one is lost; a
server whose client never sends again could not find it. Loopback only: any 127.0.0.x may be the
far side's address.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

SOCKET_BUFFER = 4 << 20
DATAGRAM = 1 << 16
BATCH = 64


class UdpRelay:
    """The relay of one client."""

    def __init__(self, server_port: int) -> None:
        self._server = ("127.0.0.1", server_port)
        self._loop = asyncio.get_running_loop()
        self._client: tuple[str, int] | None = None
        self._near = _bound("127.0.0.1")
        self._far = self._open_far("127.0.0.1")
        self._loop.add_reader(self._near, self._from_client)
        self._next = ""
        self._moved = asyncio.Event()
        self._passing = -1
        self.moves = 0

    @property
    def port(self) -> int:
        """Where the client is to write to, at 127.0.0.1."""
        return int(self._near.getsockname()[1])

    async def move(self, address: str = "127.0.0.1") -> None:
        """Go on from another port of `address`; wait for the client's datagram that goes first."""
        self._next = address
        self._moved.clear()
        await self._moved.wait()

    def hold_after(self, datagrams: int) -> None:
        """Pass on so many more of the client's datagrams, then keep what comes until `release`."""
        self._passing = datagrams

    @property
    def holds(self) -> bool:
        """Say whether datagrams of the client are being kept."""
        return self._passing == 0

    def release(self) -> None:
        """Pass on what was kept, and all that comes."""
        self._passing = -1
        self._loop.add_reader(self._near, self._from_client)
        self._from_client()

    def _rebind(self) -> None:
        fresh = self._open_far(self._next)
        self._next = ""
        self._close(self._far)
        self._far = fresh
        self.moves += 1
        self._moved.set()

    def close(self) -> None:
        """Stop relaying, once what the client has sent is passed on."""
        self._from_client()
        self._close(self._near)
        self._close(self._far)

    def _open_far(self, address: str) -> socket.socket:
        sock = _bound(address)
        sock.connect(self._server)
        self._loop.add_reader(sock, self._from_server, sock)
        return sock

    def _close(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        sock.close()

    def _from_client(self) -> None:
        for _ in range(BATCH):
            if self.holds:
                self._loop.remove_reader(self._near)
                return
            try:
                data, self._client = self._near.recvfrom(DATAGRAM)
                if self._next:
                    self._rebind()
                self._far.send(data)
                self._passing -= self._passing > 0
            except OSError:
                # Nothing more to read, or nobody there or no room: datagrams get lost.
                return

    def _from_server(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data = sock.recv(DATAGRAM)
                if self._client is not None:
                    self._near.sendto(data, self._client)
            except OSError:
                return


def _bound(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    sock.bind((address, 0))
    return sock


@contextlib.asynccontextmanager
async def relaying(server_port: int) -> AsyncIterator[UdpRelay]:
    """Relay to a port of 127.0.0.1 until the block ends."""
    relay = UdpRelay(server_port)
    try:
        yield relay
    finally:
        relay.close()
