"""Datagrams that reached the wrong worker, on their way to the right one.

Each slot has a mailbox, a unix datagram socket that every worker can write to. A letter is the
datagram with the path that it came by, so that its owner answers as if it had read it itself.
What does not fit into a full mailbox is dropped, as a full socket buffer would.
"""

import ipaddress
import socket
import struct
from dataclasses import dataclass

from spooky.handover import Mailboxes
from spooky.protocol.messages import Path
from spooky.worker.steering import Hop

LETTER_BYTES = 66_000
"""The largest UDP datagram, 65,527 octets, and what is written before it."""
READS_PER_WAKEUP = 256

_HEADER = struct.Struct("!HBBBHIII")
"""Listener, hop, sender, flags, peer's port, flow information, scope, interface."""
_FLAG_IPV6 = 1
_FLAG_LOCAL = 2


@dataclass(frozen=True, slots=True)
class Letter:
    """A datagram handed over.

    `listener` is the number of the one it arrived at (`handover.BoundListener`), `sender` the
    slot that it comes from.
    """

    listener: int
    path: Path
    datagram: bytes
    hop: Hop
    sender: int


def seal(letter: Letter) -> bytes:
    """Encode a letter."""
    peer = letter.path.peer
    flow, scope = (peer[2], peer[3]) if len(peer) == 4 else (0, 0)
    address = ipaddress.ip_address(peer[0].partition("%")[0]).packed
    flags = _FLAG_IPV6 if len(peer) == 4 else 0
    local = b""
    if letter.path.local is not None:
        flags |= _FLAG_LOCAL
        local = letter.path.local
    head = (letter.listener, letter.hop, letter.sender, flags)
    header = _HEADER.pack(*head, peer[1], flow, scope, letter.path.interface)
    return b"".join((header, address, local, letter.datagram))


def unseal(data: bytes) -> Letter:
    """Decode a letter; only our own workers can write one, so it is trusted to be whole."""
    listener, hop, sender, flags, port, flow, scope, interface = _HEADER.unpack_from(data)
    size = 16 if flags & _FLAG_IPV6 else 4
    at = _HEADER.size + size
    host = str(ipaddress.ip_address(data[_HEADER.size : at]))
    local = None
    if flags & _FLAG_LOCAL:
        local = data[at : at + size]
        at += size
    peer = (host, port, flow, scope) if flags & _FLAG_IPV6 else (host, port)
    return Letter(listener, Path(peer, local, interface), data[at:], Hop(hop), sender)


class Handoff:
    """This worker's end of the mailboxes."""

    def __init__(self, slot: int, mailboxes: Mailboxes) -> None:
        self.slot = slot
        self._mailboxes = mailboxes
        self.sent = 0
        self.received = 0
        self.dropped = 0

    @property
    def socket(self) -> socket.socket:
        """The socket to read letters from."""
        return self._mailboxes.mine

    def send(self, slot: int, letter: Letter) -> None:
        """Hand a datagram over to the worker of `slot`.

        Dropped, as by a full socket, if its mailbox is full or was made after this worker.
        """
        try:
            self._mailboxes.of[slot].send(seal(letter))
        except (OSError, IndexError):
            self.dropped += 1
        else:
            self.sent += 1

    def receive(self) -> list[Letter]:
        """Read the letters that are there, up to a bound."""
        letters = []
        for _ in range(READS_PER_WAKEUP):
            try:
                data = self._mailboxes.mine.recv(LETTER_BYTES)
            except OSError:
                break
            letters.append(unseal(data))
        self.received += len(letters)
        return letters
