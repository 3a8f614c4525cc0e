"""One UDP socket: datagrams in with the path they came by, datagrams out in as few calls as can be.

Reads coalesced datagrams (UDP_GRO) and sends runs of equal size in one call (UDP_SEGMENT) where
the kernel has them. An answer leaves from the address that was written to. It never blocks and
never raises for what the network did: what cannot be sent is dropped and counted, as UDP may.
"""

import contextlib
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from spooky.protocol.messages import Path

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
IP_PKTINFO = 8
IPV6_PKTINFO = 50

MAX_SEGMENTS = 64
MAX_BURST_BYTES = 65_000
"""A burst is one IP packet to the kernel until it is cut: 65,535 octets less the headers."""
READ_BYTES = 65_536
ANCILLARY_BYTES = 256
READS_PER_WAKEUP = 64
PATHS_REMEMBERED = 4096

Ancillary: TypeAlias = list[tuple[int, int, bytes]]

_SEGMENT_SIZE = struct.Struct("H")
_INT = struct.Struct("i")
_PKTINFO4 = struct.Struct("I4s4s")
_PKTINFO6 = struct.Struct("16sI")


@dataclass(slots=True)
class UdpCounters:
    """What happened on a socket that nobody else would notice."""

    sent: int = 0
    received: int = 0
    send_errors: int = 0
    segmentation_off: int = 0


class UdpSocket:
    """A bound, non-blocking UDP socket of this worker."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.counters = UdpCounters()
        self.waiting: deque[tuple[list[bytes], Path]] = deque()
        """Bursts that the kernel had no room for; send them when the socket is writable."""
        self.when_full: Callable[[], None] = _nothing
        """Called when `waiting` begins to fill."""
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._paths: dict[tuple[object, bytes | None, int], Path] = {}
        self._can_segment = True
        with contextlib.suppress(OSError):  # An older kernel: datagrams come one at a time.
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)

    # --- receiving --------------------------------------------------------------------------

    def receive(self) -> list[tuple[bytes, Path]]:
        """Read what is there, up to a bound, so that one busy socket does not starve the rest."""
        found: list[tuple[bytes, Path]] = []
        for _ in range(READS_PER_WAKEUP):
            try:
                size, ancillary, _flags, peer = self.socket.recvmsg_into(
                    [self._buffer], ANCILLARY_BYTES
                )
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # An ICMP error of an earlier datagram; it says nothing of those that wait.
                continue
            segment, local, interface = _read_ancillary(ancillary)
            path = self._path(peer, local, interface)
            if not segment or segment >= size:
                found.append((self._view[:size].tobytes(), path))
            else:
                found += [
                    (self._view[start : min(start + segment, size)].tobytes(), path)
                    for start in range(0, size, segment)
                ]
        self.counters.received += len(found)
        return found

    def _path(self, peer: tuple[str, int], local: bytes | None, interface: int) -> Path:
        key = (peer, local, interface)
        path = self._paths.get(key)
        if path is None:
            if len(self._paths) >= PATHS_REMEMBERED:
                self._paths.clear()
            path = self._paths[key] = Path(peer, local, interface)
        return path

    # --- sending ----------------------------------------------------------------------------

    def send(self, datagrams: list[tuple[bytes, Path]]) -> bool:
        """Send datagrams in order; return False if some wait for the socket to be writable."""
        for burst, path in bursts(datagrams):
            if self.waiting or not self._send_burst(burst, path):
                if not self.waiting:
                    self.when_full()
                self.waiting.append((burst, path))
        return not self.waiting

    def resume(self) -> bool:
        """Send what waits; return False if the socket is full again."""
        while self.waiting:
            if not self._send_burst(*self.waiting[0]):
                return False
            self.waiting.popleft()
        return True

    def _send_burst(self, burst: list[bytes], path: Path) -> bool:
        if len(burst) > 1 and not self._can_segment:
            return self._send_singly(burst, path)
        ancillary = source_address(path)
        if len(burst) > 1:
            ancillary.append((SOL_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(len(burst[0]))))
        try:
            self.socket.sendmsg(burst, ancillary, 0, path.peer)
        except BlockingIOError:
            return False
        except OSError as error:
            if len(burst) > 1 and error.errno in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP):
                # The kernel or the network card cannot cut bursts up: do without from now on.
                self._can_segment = False
                self.counters.segmentation_off += 1
                return self._send_singly(burst, path)
            self.counters.send_errors += 1
            return True
        self.counters.sent += len(burst)
        return True

    def _send_singly(self, burst: list[bytes], path: Path) -> bool:
        while burst:
            if not self._send_burst(burst[:1], path):
                return False
            del burst[0]
        return True


def _nothing() -> None:
    """Do nothing."""


def _read_ancillary(ancillary: Ancillary) -> tuple[int, bytes | None, int]:
    """Return the segment size (0: not coalesced), our address and the interface."""
    segment = interface = 0
    local: bytes | None = None
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            segment = _INT.unpack_from(data)[0]
        elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            local = _PKTINFO4.unpack_from(data)[1]
        elif level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            local, interface = _PKTINFO6.unpack_from(data)
    return segment, local, interface


def source_address(path: Path) -> Ancillary:
    """Make the control message that lets a datagram leave from the path's local address."""
    if path.local is None:
        return []
    if len(path.local) == 4:
        info = _PKTINFO4.pack(0, path.local, bytes(4))
        return [(socket.IPPROTO_IP, IP_PKTINFO, info)]
    info = _PKTINFO6.pack(path.local, path.interface)
    return [(socket.IPPROTO_IPV6, IPV6_PKTINFO, info)]


def bursts(datagrams: list[tuple[bytes, Path]]) -> list[tuple[list[bytes], Path]]:
    """Group datagrams into runs for one call each: one path, one size, only the last shorter."""
    found: list[tuple[list[bytes], Path]] = []
    run: list[bytes] = []
    run_path: Path | None = None
    size = 0
    closed = True
    for data, path in datagrams:
        fits = (
            not closed
            and path is run_path
            and len(data) <= size
            and len(run) < MAX_SEGMENTS
            and (len(run) + 1) * size <= MAX_BURST_BYTES
        )
        if fits:
            run.append(data)
        else:
            run, run_path, size = [data], path, len(data)
            found.append((run, path))
        closed = len(data) < size
    return found
