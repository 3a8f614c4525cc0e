"""The UDP socket, on real sockets of the loopback: runs, offloads, addresses, full queues."""

import errno
import random
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.messages import Path
from spooky.worker.udp import (
    IP_PKTINFO,
    MAX_BURST_BYTES,
    MAX_SEGMENTS,
    SOL_UDP,
    UDP_SEGMENT,
    UdpSocket,
    bursts,
    source_address,
)

A = Path(("192.0.2.1", 1))
B = Path(("192.0.2.2", 2))


# --- runs ------------------------------------------------------------------------------------

RUNS: list[tuple[str, list[int]]] = [
    ("", []),
    ("A5", [1]),
    ("A5 A5 A5", [3]),
    ("A5 A5 A3 A5 A5", [3, 2]),
    ("A5 A6 A6", [1, 2]),
    ("A5 A3 A3", [2, 1]),
    ("A5 B5 A5", [1, 1, 1]),
    ("A5 A5 B5 B5 B2", [2, 3]),
    (" ".join(["A5"] * 130), [64, 64, 2]),
    (" ".join(["A1200"] * 60), [54, 6]),
    ("A65507 A3", [1, 1]),
]


@pytest.mark.parametrize(("datagrams", "lengths"), RUNS)
def test_runs(datagrams: str, lengths: list[int]) -> None:
    paths = {"A": A, "B": B}
    found = bursts([(b"x" * int(word[1:]), paths[word[0]]) for word in datagrams.split()])
    assert [len(run) for run, _ in found] == lengths


sizes = st.sampled_from([0, 1, 2, 3, 1200, 1350, 40_000])


@given(st.lists(st.tuples(sizes, st.sampled_from([A, B])), max_size=200))
def test_runs_keep_the_order_and_are_what_the_kernel_can_cut(
    wanted: list[tuple[int, Path]],
) -> None:
    datagrams = [
        (number.to_bytes(2, "big") * (size // 2 + 1), path)
        for number, (size, path) in enumerate(wanted)
    ]
    found = bursts(datagrams)
    assert [(data, path) for run, path in found for data in run] == datagrams
    for run, _ in found:
        assert len(run) <= MAX_SEGMENTS
        assert {len(data) for data in run[:-1]} <= {len(run[0])}
        assert 0 < len(run[-1]) <= len(run[0])
        assert len(run) == 1 or len(run) * len(run[0]) <= MAX_BURST_BYTES


# --- sockets ---------------------------------------------------------------------------------

Opener = Callable[..., UdpSocket]


@pytest.fixture
def bind() -> Iterator[Opener]:
    """Bind UDP sockets on ports of their own; they are closed at the end."""
    opened: list[socket.socket] = []

    def open_one(host: str = "127.0.0.1", family: int = socket.AF_INET) -> UdpSocket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        opened.append(sock)
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((host, 0))
        return UdpSocket(sock)

    yield open_one
    for sock in opened:
        sock.close()


def port_of(udp: UdpSocket) -> int:
    port: int = udp.socket.getsockname()[1]
    return port


def read(udp: UdpSocket, count: int) -> list[tuple[bytes, Path]]:
    """Read so many datagrams, waiting for them for at most five seconds."""
    found: list[tuple[bytes, Path]] = []
    end = time.monotonic() + 5
    while len(found) < count:
        ready, _, _ = select.select([udp.socket], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{len(found)} of {count} datagrams came"
        found += udp.receive()
    return found


def numbered(count: int, size: int = 1200) -> list[bytes]:
    chance = random.Random(count)
    return [number.to_bytes(4, "big") + chance.randbytes(size - 4) for number in range(count)]


@pytest.mark.parametrize("segmenting", [True, False])
def test_a_hundred_datagrams_arrive_as_they_were_sent(bind: Opener, segmenting: bool) -> None:
    here, there = bind(), bind()
    here._can_segment = segmenting
    path = Path(("127.0.0.1", port_of(there)))
    datagrams = [*numbered(99), b"a short last one"]
    assert here.send([(data, path) for data in datagrams])
    found = read(there, 100)
    assert [data for data, _ in found] == datagrams
    assert {path.peer for _, path in found} == {("127.0.0.1", port_of(here))}
    assert len({id(path) for _, path in found}) == 1, "one path is one object"
    assert (here.counters.sent, there.counters.received) == (100, 100)
    assert here.counters.segmentation_off == here.counters.send_errors == 0


def test_coalesced_datagrams_are_cut_where_they_were_joined(bind: Opener) -> None:
    there = bind()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        segment = (500).to_bytes(2, "little")
        sock.sendmsg(
            [b"a" * 500, b"b" * 500, b"c" * 123],
            [(SOL_UDP, UDP_SEGMENT, segment)],
            0,
            ("127.0.0.1", port_of(there)),
        )
        assert [data for data, _ in read(there, 3)] == [b"a" * 500, b"b" * 500, b"c" * 123]


def test_an_empty_datagram_is_a_datagram(bind: Opener) -> None:
    here, there = bind(), bind()
    here.socket.sendto(b"", ("127.0.0.1", port_of(there)))
    assert [data for data, _ in read(there, 1)] == [b""]


def test_a_socket_on_every_address_answers_from_the_one_written_to(bind: Opener) -> None:
    server, client = bind("0.0.0.0"), bind()
    client.socket.sendto(b"hello", ("127.0.0.2", port_of(server)))
    [(_, path)] = read(server, 1)
    assert path.local == socket.inet_aton("127.0.0.2")
    assert server.send([(b"back", path), (b"more", path)])
    for _, answer in read(client, 2):
        assert answer.peer == ("127.0.0.2", port_of(server))


def test_a_path_without_a_local_address_needs_no_control_message() -> None:
    assert source_address(Path(("127.0.0.1", 1))) == []


def test_ipv6_answers_from_the_address_written_to(bind: Opener) -> None:
    server, client = bind("::", socket.AF_INET6), bind("::1", socket.AF_INET6)
    client.socket.sendto(b"hello", ("::1", port_of(server)))
    [(_, path)] = read(server, 1)
    assert path.local == socket.inet_pton(socket.AF_INET6, "::1")
    assert path.interface > 0
    assert len(path.peer) == 4
    datagrams = numbered(20)
    assert server.send([(data, path) for data in datagrams])
    found = read(client, 20)
    assert [data for data, _ in found] == datagrams
    assert found[0][1].peer[:2] == ("::1", port_of(server))


def test_a_v4_client_of_a_dual_stack_socket(bind: Opener) -> None:
    server, client = bind("::", socket.AF_INET6), bind()
    client.socket.sendto(b"hello", ("127.0.0.1", port_of(server)))
    [(_, path)] = read(server, 1)
    assert path.peer[0] == "::ffff:127.0.0.1"
    assert server.send([(b"back", path)])
    assert [data for data, _ in read(client, 1)] == [b"back"]


def test_what_the_network_refuses_is_dropped_and_counted(bind: Opener) -> None:
    here, there = bind(), bind()
    path = Path(("127.0.0.1", port_of(there)))
    broadcast = Path(("255.255.255.255", 9))
    assert here.send([(b"x", broadcast), (b"too large" * 9000, path)])
    assert here.counters.send_errors == 2
    assert here.send([(b"fine", path)])
    assert [data for data, _ in read(there, 1)] == [b"fine"]


class Reluctant:
    """A real socket whose next sends fail as a full queue or an old network card would have it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.failures: list[int] = []
        self.calls = 0

    def sendmsg(
        self,
        buffers: list[bytes],
        ancillary: list[tuple[int, int, bytes]],
        flags: int,
        address: tuple[str, int],
    ) -> int:
        self.calls += 1
        code = self.failures.pop(0) if self.failures else 0
        if code:
            raise OSError(code, "as the test wants it")
        return self._sock.sendmsg(buffers, ancillary, flags, address)


def reluctant(udp: UdpSocket, *failures: int) -> Reluctant:
    sock = Reluctant(udp.socket)
    sock.failures = list(failures)
    udp.socket = sock  # type: ignore[assignment]
    return sock


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EOPNOTSUPP])
def test_segmentation_that_is_refused_is_not_tried_again(bind: Opener, code: int) -> None:
    here, there = bind(), bind()
    sock = reluctant(here, code)
    path = Path(("127.0.0.1", port_of(there)))
    datagrams = numbered(10)
    assert here.send([(data, path) for data in datagrams])
    assert [data for data, _ in read(there, 10)] == datagrams
    assert sock.calls == 11
    assert here.send([(data, path) for data in datagrams])
    assert sock.calls == 21
    assert len(read(there, 10)) == 10
    assert (here.counters.segmentation_off, here.counters.sent) == (1, 20)


@pytest.mark.parametrize("segmenting", [True, False])
def test_a_full_socket_keeps_the_rest_in_order(bind: Opener, segmenting: bool) -> None:
    here, there = bind(), bind()
    here._can_segment = segmenting
    path, again = (Path(("127.0.0.1", port_of(there))) for _ in range(2))
    sock = reluctant(here, 0, errno.EAGAIN)
    datagrams = numbered(6)
    assert not here.send([(data, path) for data in datagrams[:2]] + [(datagrams[2], again)])
    assert not here.send([(data, path) for data in datagrams[3:]])
    sent = here.counters.sent
    assert 0 < sent < 3
    calls = sock.calls
    sock.failures = [errno.EAGAIN]
    assert not here.resume()
    assert sock.calls == calls + 1
    assert here.resume()
    assert not here.waiting
    assert [data for data, _ in read(there, 6)] == datagrams
    assert (here.counters.sent, here.counters.send_errors) == (6, 0)


def test_a_kernel_with_no_room_makes_datagrams_wait(bind: Opener) -> None:
    """A real full queue, of a unix socket's kind: UDP over loopback never fills its own."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        here.setblocking(False)
        udp = UdpSocket(bind().socket)
        udp._can_segment = False
        udp.socket = Unaddressed(here)  # type: ignore[assignment]
        datagrams = numbered(2000)
        told: list[int] = []
        udp.when_full = lambda: told.append(len(udp.waiting))
        assert not udp.send([(data, A) for data in datagrams])
        assert told == [0]  # Once, as it began.
        found: list[bytes] = []
        while len(found) < len(datagrams):
            found.append(there.recv(2000))
            udp.resume()
        assert found == datagrams
        assert not udp.waiting


class Unaddressed:
    """A connected socket that is written to as if it were not."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def sendmsg(self, buffers: list[bytes], *_rest: object) -> int:
        return self._sock.sendmsg(buffers)


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM, errno.EPERM, errno.EMSGSIZE])
def test_what_the_kernel_refuses_is_lost_and_nothing_else(bind: Opener, code: int) -> None:
    here, there = bind(), bind()
    path, again = (Path(("127.0.0.1", port_of(there))) for _ in range(2))
    reluctant(here, code)
    datagrams = numbered(3)
    assert here.send([(datagrams[0], path), (datagrams[1], again), (datagrams[2], path)])
    assert [data for data, _ in read(there, 2)] == datagrams[1:]
    assert not here.waiting
    assert (here.counters.sent, here.counters.send_errors) == (2, 1)
