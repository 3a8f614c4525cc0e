"""A path for UDP that does to datagrams what bad networks do, both ways and for many clients.

It loses, doubles and reorders them by chance, from a seed, and drops those that are larger than
the path's MTU without a word, as a path does that filters ICMP. Runs in a thread of its own.
"""

import heapq
import random
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

SOCKET_BUFFER = 4 << 20
DATAGRAM = 1 << 16
BATCH = 64
LATE_S = 0.004
"""How much later a datagram comes that is to be overtaken; ten or so others come meanwhile."""
TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class Faults:
    """What the path does; shares of the datagrams of either way."""

    loss: float = 0.0
    late: float = 0.0
    double: float = 0.0
    mtu: int = DATAGRAM
    """Octets of UDP payload that pass."""


class FaultyRelay:
    """The path to one server; `faults` may change while it runs."""

    def __init__(self, server_port: int, faults: Faults, seed: int = 1) -> None:
        self.faults = faults
        self.counts: Counter[str] = Counter()
        self._server = ("127.0.0.1", server_port)
        self._random = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._near = _socket()
        self._near.bind(("127.0.0.1", 0))
        self._selector.register(self._near, selectors.EVENT_READ, self._from_clients)
        self._far: dict[tuple[str, int], socket.socket] = {}
        self._late: list[tuple[float, int, Callable[[], object]]] = []
        self._stopped = False

    @property
    def port(self) -> int:
        """Where clients are to write to, at 127.0.0.1."""
        return int(self._near.getsockname()[1])

    def stop(self) -> None:
        """Have `run` return soon."""
        self._stopped = True

    def run(self) -> None:
        """Relay until `stop`."""
        while not self._stopped:
            wait_s = TICK_S
            if self._late:
                wait_s = max(0.0, min(wait_s, self._late[0][0] - time.monotonic()))
            for key, _ in self._selector.select(wait_s):
                key.data()
            while self._late and self._late[0][0] <= time.monotonic():
                _try(heapq.heappop(self._late)[2])
        for one in (self._near, *self._far.values()):
            one.close()
        self._selector.close()

    def _from_clients(self) -> None:
        for _ in range(BATCH):
            try:
                data, client = self._near.recvfrom(DATAGRAM)
            except OSError:
                return
            far = self._far.get(client) or self._open_far(client)
            self._pass(data, partial(far.send, data))

    def _open_far(self, client: tuple[str, int]) -> socket.socket:
        far = self._far[client] = _socket()
        far.connect(self._server)
        self._selector.register(far, selectors.EVENT_READ, lambda: self._from_server(far, client))
        return far

    def _from_server(self, far: socket.socket, client: tuple[str, int]) -> None:
        for _ in range(BATCH):
            try:
                data = far.recv(DATAGRAM)
            except OSError:
                return
            self._pass(data, partial(self._near.sendto, data, client))

    def _pass(self, data: bytes, send: Callable[[], object]) -> None:
        faults, chance = self.faults, self._random.random
        if len(data) > faults.mtu:
            self.counts["too large"] += 1
        elif chance() < faults.loss:
            self.counts["lost"] += 1
        elif chance() < faults.late:
            self.counts["late"] += 1
            heapq.heappush(self._late, (time.monotonic() + LATE_S, self.counts["late"], send))
        else:
            self.counts["passed"] += 1
            _try(send)
            if chance() < faults.double:
                self.counts["doubled"] += 1
                _try(send)


def _try(send: Callable[[], object]) -> None:
    try:
        send()
    except OSError:
        # Nobody there, or no room: datagrams get lost.
        return


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    return sock


@contextmanager
def faulty_path(server_port: int, faults: Faults, seed: int = 1) -> Iterator[FaultyRelay]:
    """Relay to a port of 127.0.0.1 until the block ends."""
    relay = FaultyRelay(server_port, faults, seed)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join()
