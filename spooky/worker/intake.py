"""Where datagrams come in and go out: one per worker, over all of its UDP sockets.

It finds the connection that a datagram belongs to, opens new ones, hands over what is another
worker's, and flushes each connection that was touched once per turn of the event loop. It knows
nothing of HTTP.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from spooky.bounds import Bound
from spooky.errors import H3Code
from spooky.protocol import cid as cids
from spooky.protocol import datagram as datagrams
from spooky.protocol import stateless
from spooky.protocol.downstream import Begin, ServerSettings
from spooky.protocol.messages import DownstreamEngine, Path
from spooky.protocol.retry import make_retry, was_retried
from spooky.worker.allowance import Allowance
from spooky.worker.client import Client
from spooky.worker.door import Door
from spooky.worker.farewell import announcements
from spooky.worker.handoff import Handoff, Letter
from spooky.worker.home import ClientHome
from spooky.worker.proof import Proofs
from spooky.worker.services import Services
from spooky.worker.steering import Arrival, HandOver, Steerer, Verdict
from spooky.worker.timers import Timers
from spooky.worker.udp import UdpSocket

SHORTEST_DCID = 8
"""Of a client's first packets (RFC 9000 section 7.2)."""
SMALLEST_INITIAL = 1200
"""A client's Initial fills a datagram of at least this size (RFC 9000 section 14.1)."""


@dataclass(slots=True)
class Reader:
    """A socket to read, and its place in its group."""

    place: int
    udp: UdpSocket


@dataclass(frozen=True, slots=True)
class Welcome:
    """How new connections are begun.

    `retry_from`: how many handshakes are half open when clients have to prove their address
    first; None: they never have to.
    """

    settings: ServerSettings
    begin: Begin
    retry_from: int | None


@dataclass(slots=True)
class Port:
    """A listener as this worker serves it; `welcome` None: for connections of others alone."""

    number: int
    udp: UdpSocket
    """To send from."""
    readers: tuple[Reader, ...]
    welcome: Welcome | None
    is_shared: bool = False


@dataclass(slots=True)
class IntakeCounters:
    """What came in and did not reach a connection of this worker, and why; connections begun."""

    unroutable: int = 0
    malformed: int = 0
    refused: int = 0
    resets: int = 0
    opened: int = 0
    retries: int = 0
    resumed: int = 0
    late: int = 0
    """Wanted a connection of this worker after it was no longer the one that serves."""


class Intake(ClientHome):
    """All client connections of a worker."""

    def __init__(
        self,
        *,
        ports: list[Port],
        handoff: Handoff,
        steerer: Steerer,
        proofs: Proofs,
        door: Door,
        services: Services,
    ) -> None:
        self._loop = services.loop
        self._ports = {port.number: port for port in ports}
        self._handoff = handoff
        self._steerer = steerer
        self._proofs = proofs
        self._door = door
        self._answers = Allowance(services.limits.stateless_answers, time.monotonic)
        self._services = services
        self._clients: dict[bytes, Client] = {}
        self._all: set[Client] = set()
        self._half_open: set[Client] = set()
        """Those whose handshake is not complete."""
        self._dirty: set[Client] = set()
        self._flush_due = False
        self._on_empty: Callable[[], None] | None = None
        self._timers = Timers(self._loop, time.monotonic)
        self.counters = IntakeCounters()

    # --- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read."""
        for port in self._ports.values():
            port.udp.when_full = partial(self._await_room, port.udp)
            for reader in port.readers:
                self._loop.add_reader(reader.udp.socket.fileno(), self._readable, port, reader)
        self._loop.add_reader(self._handoff.socket.fileno(), self._mailbox_readable)

    def drain(self, on_empty: Callable[[], None], quiet: float) -> None:
        """Take no new connections, let open requests finish; call `on_empty` when all is done.

        A connection is done after `quiet` seconds without a request.

        The sockets are not read any more where a successor does; what is for a connection of
        ours comes by mailbox then.
        """
        self._on_empty = on_empty
        clients = list(self._all)
        for client, after in zip(clients, announcements(quiet, len(clients)), strict=True):
            client.drain(quiet, after)
        self._check_empty()

    def refuse(self) -> None:
        """Refuse what comes on the connections that are still open, while drained."""
        for client in list(self._all):
            client.refuse()

    def stop_reading(self) -> None:
        """Leave the sockets to the successor."""
        for port in self._ports.values():
            for reader in port.readers:
                self._loop.remove_reader(reader.udp.socket.fileno())

    def close(self, code: int, reason: str) -> None:
        """Close all connections now, and send what tells the clients."""
        for client in list(self._all):
            client.close(code, reason)
        self._flush()
        self.stop_reading()
        self._loop.remove_reader(self._handoff.socket.fileno())
        self._timers.close()

    def clients(self) -> set[Client]:
        """Give all client connections, not to be changed; they may go only later in the turn."""
        return self._all

    def connections(self) -> int:
        """Count the client connections."""
        return len(self._all)

    # --- in ---------------------------------------------------------------------------------

    def _readable(self, port: Port, reader: Reader) -> None:
        now = time.monotonic()
        clients = self._clients
        length = cids.CID_LENGTH + 1
        batches: dict[Client, list[tuple[bytes, Path]]] = {}
        for letter in reader.udp.receive():
            data, path = letter
            # The common case first: a short header, then one of our connection IDs.
            client = None if data[:1] >= b"\x80" else clients.get(data[1:length])
            if client is None:
                arrival = Arrival(place=reader.place, is_shared=port.is_shared)
                self._route(port, data, path, arrival)
            elif (batch := batches.get(client)) is not None:
                batch.append(letter)
            else:
                batches[client] = [letter]
        for client, batch in batches.items():
            client.receive(batch, now)

    def _mailbox_readable(self) -> None:
        for letter in self._handoff.receive():
            arrival = Arrival(hop=letter.hop, sender=letter.sender)
            self._route(self._ports.get(letter.listener), letter.datagram, letter.path, arrival)

    def _route(self, port: Port | None, data: bytes, path: Path, arrival: Arrival) -> None:
        """Find the owner of a datagram that is not plainly one of ours.

        `port` is None where it came to a listener of another generation's configuration.
        """
        datagram = datagrams.classify(data)
        client = self._clients.get(datagram.dcid)
        if client is not None:
            client.receive([(data, path)], time.monotonic())
            return
        match datagram.kind:
            case datagrams.Kind.GARBAGE:
                self.counters.malformed += 1
                return
            case datagrams.Kind.UNKNOWN_VERSION:
                self._negotiate_version(port, datagram, data, path)
                return
            case _:
                pass
        verdict = self._steerer.decide(datagram.kind, datagram.dcid, arrival)
        if isinstance(verdict, HandOver):
            if port is not None:
                letter = Letter(port.number, path, data, verdict.hop, self._handoff.slot)
                self._handoff.send(verdict.slot, letter)
                self.counters.late += verdict.late
        elif port is not None:
            self._carry_out(verdict, port, datagram, data, path)

    def _carry_out(
        self,
        verdict: Verdict,
        port: Port,
        datagram: datagrams.Datagram,
        data: bytes,
        path: Path,
    ) -> None:
        welcome = port.welcome
        is_initial = datagram.kind is datagrams.Kind.INITIAL and len(data) >= SMALLEST_INITIAL
        match verdict:
            # Shorter ones must not be chosen by clients (RFC 9000 section 7.2).
            case Verdict.OPEN if welcome and is_initial and len(datagram.dcid) >= SHORTEST_DCID:
                self._admit(port, welcome, datagram, data, path)
            case Verdict.REFUSE if is_initial:
                self._refuse(port, datagram, path)
            case Verdict.RESET if welcome:
                key, rand = welcome.settings.reset_key, os.urandom(stateless.LARGEST_RESET)
                reset = stateless.reset(datagram.dcid, len(data), key, rand)
                if reset is not None:
                    self.counters.resets += 1
                    self._answer(port, reset, path)
            case _:
                self.counters.unroutable += 1

    def _refuse(self, port: Port, initial: datagrams.Datagram, path: Path) -> None:
        self.counters.refused += 1
        answer = stateless.refusal(initial, os.urandom(cids.CID_LENGTH))
        self._answer(port, answer, path)

    def _answer(self, port: Port, answer: bytes, path: Path) -> None:
        """Send what needs no connection, where there is room for it."""
        if self._answers.take():
            self._send_unless_full(port, answer, path)
        else:
            self._services.bounds.reached(Bound.STATELESS_ANSWERS)

    def _send_unless_full(self, port: Port, answer: bytes, path: Path) -> None:
        """Send what a stranger asked for: it must not wait in memory for the socket."""
        if not port.udp.waiting:
            port.udp.send([(answer, path)])

    def _negotiate_version(
        self, port: Port | None, datagram: datagrams.Datagram, data: bytes, path: Path
    ) -> None:
        if len(data) < SMALLEST_INITIAL or port is None:
            self.counters.malformed += 1
            return
        answer = datagrams.version_negotiation(
            datagram.dcid, datagram.scid, datagrams.VERSIONS, os.urandom(1)
        )
        self._answer(port, answer, path)

    def _admit(
        self,
        port: Port,
        welcome: Welcome,
        initial: datagrams.Datagram,
        data: bytes,
        path: Path,
    ) -> None:
        """Begin a connection, or ask the client to prove its address first (RFC 9000 8.1.2)."""
        if self._door.is_closed(path.peer[0]):
            self._refuse(port, initial, path)
            return
        proven = self._proofs.of(initial, path)
        if proven is None and was_retried(initial):
            code = stateless.INVALID_TOKEN
            refusal = stateless.refusal(initial, os.urandom(cids.CID_LENGTH), code)
            self._answer(port, refusal, path)
            return
        most = welcome.retry_from
        if proven is None and most is not None and len(self._half_open) >= most:
            self._ask_to_come_again(port, welcome, initial, path)
            return
        original = initial.dcid if proven is None else proven.original_destination_cid
        engine = welcome.begin(original, proven)
        self._open(port, engine, initial.dcid, data, path)

    def _ask_to_come_again(
        self, port: Port, welcome: Welcome, initial: datagrams.Datagram, path: Path
    ) -> None:
        scid = cids.mint(welcome.settings.slot, os.urandom(cids.RANDOM_OCTETS))
        token = self._proofs.for_retry(initial, path, scid)
        self.counters.retries += 1
        self._send_unless_full(port, make_retry(initial, scid, token), path)

    def _open(
        self, port: Port, engine: DownstreamEngine, dcid: bytes, data: bytes, path: Path
    ) -> None:
        self.counters.opened += 1
        self._door.begin()
        client = Client(self, engine, port.udp, self._services, path)
        client.name = dcid
        self._all.add(client)
        self._half_open.add(client)
        for cid in (dcid, *engine.connection_ids()):
            self.learn(cid, client)
        client.receive([(data, path)], time.monotonic())

    # --- out --------------------------------------------------------------------------------

    def touch(self, client: Client) -> None:
        """Note that a connection has something to send; it is flushed at the end of the turn."""
        self._dirty.add(client)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        now = time.monotonic()
        # Flushing may bring events, whose handling may touch connections again.
        while self._dirty:
            batch, self._dirty = self._dirty, set()
            for client in batch:
                if client.udp.waiting:
                    self._dirty.add(client)
                    continue
                client.flush(now)
                self._timers.schedule(client)
            if self._dirty and all(client.udp.waiting for client in self._dirty):
                break

    def _await_room(self, udp: UdpSocket) -> None:
        self._loop.add_writer(udp.socket.fileno(), self._writable, udp)

    def _writable(self, udp: UdpSocket) -> None:
        if udp.resume():
            self._loop.remove_writer(udp.socket.fileno())
            self._flush()

    # --- what a client asks of its home -----------------------------------------------------

    def learn(self, cid: bytes, client: Client) -> None:
        """Route a connection ID to a client."""
        self._clients[cid] = client
        client.cids.add(cid)

    def forget(self, cid: bytes, client: Client) -> None:
        """Stop routing a connection ID."""
        client.cids.discard(cid)
        if self._clients.get(cid) is client:
            del self._clients[cid]

    def ready(self, client: Client, *, resumed: bool) -> None:
        """Note that a handshake is complete; close where the client turns out to have too many."""
        self._half_open.discard(client)
        self.counters.resumed += resumed
        if not self._door.complete(client):
            client.close(H3Code.EXCESSIVE_LOAD, "too many connections of this address")

    def remove(self, client: Client) -> None:
        """Forget a connection that is over."""
        for cid in list(client.cids):
            self.forget(cid, client)
        self._all.discard(client)
        self._door.end(client)
        self._half_open.discard(client)
        self._timers.discard(client)
        self._check_empty()

    def _check_empty(self) -> None:
        if self._on_empty is not None and not self._all:
            on_empty, self._on_empty = self._on_empty, None
            self._loop.call_soon(on_empty)
