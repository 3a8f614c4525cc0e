"""A client connection whose engine has a fault of its own: it ends, and nothing else does."""

import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from spooky.errors import H3Code
from spooky.protocol.messages import DownstreamEngine, Path
from spooky.worker.client import HANDSHAKE_TIMEOUT_S, Client
from spooky.worker.farewell import STOP_QUIET_S
from spooky.worker.services import Services
from spooky.worker.udp import UdpSocket


class Home:
    """Remembers what a client asked of the intake."""

    def __init__(self) -> None:
        self.removed: list[Client] = []

    def touch(self, client: Client) -> None: ...

    def learn(self, cid: bytes, client: Client) -> None: ...

    def ready(self, client: Client, *, resumed: bool) -> None: ...

    def forget(self, cid: bytes, client: Client) -> None: ...

    def remove(self, client: Client) -> None:
        self.removed.append(client)


class FaultyEngine:
    """Raises where it is told to, as an engine would for octets its author did not think of."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        self.closed_with: int | None = None
        self.engine_deadline = 1.0
        self.released = False

    def _act(self, name: str) -> None:
        if name in self.faults:
            raise KeyError(name)

    def receive(self, datagrams: Iterable[tuple[bytes, Path]], now: float) -> list[Any]:
        self._act("receive")
        return []

    def handle_timer(self, now: float) -> list[Any]:
        self._act("handle_timer")
        return []

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Path]]:
        self._act("datagrams_to_send")
        return [(b"last words", self.proved)] if self.closed_with else []

    def events(self) -> list[Any]:
        return []

    def deadline(self) -> float | None:
        return self.engine_deadline

    def close(self, code: int, reason: str = "") -> None:
        self._act("close")
        self.closed_with = code

    def path(self) -> Path | None:
        return self.proved

    def release(self) -> None:
        self.released = True

    def goaway(self) -> None: ...

    def is_idle(self) -> bool:
        return True

    def probe_timeout(self) -> float:
        return 0.2

    proved: Path


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def udp() -> Iterator[UdpSocket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield UdpSocket(sock)


def _client(engine: FaultyEngine, udp: UdpSocket, peer: socket.socket) -> tuple[Client, Home]:
    engine.proved = Path(peer.getsockname())
    home = Home()
    services = cast("Services", None)  # Only exchanges use them, and there is none.
    return Client(home, cast("DownstreamEngine", engine), udp, services, engine.proved), home


def test_a_fault_ends_the_connection_and_tells_the_client(
    udp: UdpSocket, peer: socket.socket
) -> None:
    engine = FaultyEngine("receive")
    client, home = _client(engine, udp, peer)
    client.receive([(b"anything", engine.proved)], 0.0)
    assert home.removed == [client]
    assert engine.closed_with == H3Code.INTERNAL_ERROR
    assert peer.recv(100) == b"last words"


@pytest.mark.parametrize("second", ["close", "datagrams_to_send"])
@pytest.mark.parametrize("call", ["receive", "handle_timer", "datagrams_to_send"])
def test_a_fault_on_top_of_a_fault_stays_within(
    udp: UdpSocket, peer: socket.socket, call: str, second: str
) -> None:
    engine = FaultyEngine(call, second)
    client, home = _client(engine, udp, peer)
    match call:
        case "receive":
            client.receive([(b"anything", engine.proved)], 0.0)
        case "handle_timer":
            client.expire(0.0)
        case _:
            client.flush(0.0)
    assert home.removed == [client]
    assert client.deadline() is None


def test_a_connection_that_is_gone_does_nothing(udp: UdpSocket, peer: socket.socket) -> None:
    engine = FaultyEngine("receive", "handle_timer")
    client, home = _client(engine, udp, peer)
    client.receive([(b"anything", engine.proved)], 0.0)
    client.expire(0.0)
    client.flush(0.0)
    assert home.removed == [client]


def test_a_forged_source_does_not_become_the_clients_address(
    udp: UdpSocket, peer: socket.socket
) -> None:
    engine = FaultyEngine()
    client, _ = _client(engine, udp, peer)
    client.receive([(b"anything", Path(("192.0.2.1", 443)))], 0.0)
    assert client.path == engine.proved
    engine.proved = Path(("192.0.2.1", 443))
    client.receive([(b"anything", Path(("192.0.2.1", 443)))], 0.0)
    assert client.path == engine.proved


# --- clients that keep us waiting -------------------------------------------------------------


@pytest.mark.parametrize("draining", [False, True])
def test_a_handshake_that_does_not_end_is_dropped(
    udp: UdpSocket, peer: socket.socket, draining: bool
) -> None:
    engine = FaultyEngine()
    engine.engine_deadline = time.monotonic() + 1000.0
    client, home = _client(engine, udp, peer)
    if draining:
        client.drain(1000.0, 1000.0)
    due = client.deadline()
    assert due is not None
    assert due == pytest.approx(time.monotonic() + HANDSHAKE_TIMEOUT_S, abs=1.0)
    client.receive([(b"anything", engine.proved)], due - 0.1)
    client.expire(due - 0.1)
    assert home.removed == []
    client.expire(due)
    assert home.removed == [client]
    assert engine.released
    assert peer.recv(100) == b"last words"


def test_a_handshake_that_stands_still_does_not_hold_a_drain_up(
    udp: UdpSocket, peer: socket.socket
) -> None:
    engine = FaultyEngine()
    engine.engine_deadline = time.monotonic() + 1000.0
    client, home = _client(engine, udp, peer)
    client.drain(STOP_QUIET_S, 1000.0)
    due = client.deadline()
    assert due is not None
    client.flush(due)
    last_look = client.deadline()
    assert last_look is not None
    client.receive([(b"more of it", engine.proved)], last_look)
    client.flush(last_look)
    assert home.removed == []
    for _ in range(2):
        due = client.deadline()
        assert due is not None
        assert due < last_look + 1.0
        client.flush(due)
    assert home.removed == [client]
