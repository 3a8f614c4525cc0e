"""The sockets that the master binds and keeps open for its whole life.

Owns every bound socket: one UDP socket per listener and worker, in order, the mailboxes between
workers, and the keeper's TCP socket. The rule that is not obvious: with SO_REUSEPORT the kernel
knows sockets by their place in a group, and closing one moves another into its place; so the
sockets of an address are made together and closed together, never one by one.
"""

import errno
import logging
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spooky.config.model import Admin, Limits, Listener
from spooky.errors import StartupError
from spooky.handover import BoundListener, Mailboxes

log = logging.getLogger(__name__)

# Numbers that the socket module of some supported Python does not know (asm-generic/socket.h,
# linux/in.h, linux/in6.h).
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_PROBE = 3
"""Set the Don't Fragment bit: QUIC datagrams must not be fragmented (RFC 9000 section 14)."""

MAILBOX_BYTES = 4 * 1024 * 1024
ADMIN_BACKLOG = 64
MIB = 1024 * 1024

Address = tuple[str, int]


def format_address(address: str, port: int) -> str:
    """Write an address as in a URL: `192.0.2.1:443`, `[2001:db8::1]:443`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _refusal(what: str, address: str, port: int, error: OSError) -> StartupError:
    where = format_address(address, port)
    match error.errno:
        case errno.EADDRINUSE:
            reason = "the address is already in use: is another Spooky or other server running?"
        case errno.EACCES | errno.EPERM:
            reason = (
                f"no right to bind a port below 1024: start as root with `user` set, or give "
                f"CAP_NET_BIND_SERVICE, or choose a higher port than {port}"
            )
        case errno.EADDRNOTAVAIL:
            reason = "this machine does not have that address"
        case _:
            reason = error.strerror or str(error)
    return StartupError(f"cannot bind {what} {where}: {reason}")


def _probe(address: str, port: int) -> None:
    """Bind without SO_REUSEPORT: with it, the kernel would let a second master take a share."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        if probe.family is socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address, port))


def _bind_udp(address: str, port: int) -> socket.socket:
    udp = socket.socket(_family(address), socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # The answer must leave from the address that the client wrote to.
        is_wildcard = address in ("0.0.0.0", "::")
        if udp.family is socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            udp.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, int(is_wildcard))
        else:
            udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, int(is_wildcard))
        udp.bind((address, port))
    except OSError:
        udp.close()
        raise
    return udp


def _enlarge(udp: socket.socket, force: int, plain: int, wanted: int) -> int:
    """Ask for a buffer of `wanted` octets; return what the kernel gives."""
    try:
        udp.setsockopt(socket.SOL_SOCKET, force, wanted)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, plain, wanted)
    # The kernel doubles the number for its own bookkeeping (socket(7)).
    return udp.getsockopt(socket.SOL_SOCKET, plain) // 2


def shortage(given: tuple[int, int], wanted: tuple[int, int]) -> str:
    """Word the warning about (receive, send) buffers smaller than wanted; empty: all is well."""
    kinds = (("receive", "rmem_max"), ("send", "wmem_max"))
    facts, remedies = [], []
    for (kind, setting), got, want in zip(kinds, given, wanted, strict=True):
        if got < want:
            facts.append(f"udp {kind} buffer is {got / MIB:.1f} MiB, wanted {want / MIB:.1f} MiB")
            remedies.append(f"net.core.{setting}={want}")
    if not facts:
        return ""
    return f'{"; ".join(facts)}: run "sysctl -w {" ".join(remedies)}" and restart'


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The two ends of one slot's mailbox."""

    reader: socket.socket
    writer: socket.socket


def _mailbox() -> Mailbox:
    writer, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (writer, reader):
        end.setblocking(False)
    _enlarge(writer, SO_SNDBUFFORCE, socket.SO_SNDBUF, MAILBOX_BYTES)
    return Mailbox(reader, writer)


class Sockets:
    """All that is bound, by address; and the mailboxes of both banks."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._udp: dict[Address, list[socket.socket]] = {}
        self._admin: dict[Address, socket.socket] = {}
        self._mailboxes = [_mailbox() for _ in range(2 * workers)]
        self._warning = ""

    def bind(self, listeners: Iterable[Listener], admin: Admin, limits: Limits) -> None:
        """Bind what is not bound yet. StartupError when one cannot be; then nothing is new."""
        udp_before, admin_before = set(self._udp), set(self._admin)
        try:
            for listener in listeners:
                self._bind_listener((listener.address, listener.port))
            if admin.port:
                self._bind_admin((admin.address, admin.port))
        except StartupError:
            self._close(set(self._udp) - udp_before, set(self._admin) - admin_before)
            raise
        self._size(limits)

    def keep_only(self, listeners: Iterable[Listener], admins: Iterable[Admin]) -> None:
        """Close what no configuration in use names any more."""
        udp = {(listener.address, listener.port) for listener in listeners}
        tcp = {(admin.address, admin.port) for admin in admins}
        self._close(set(self._udp) - udp, set(self._admin) - tcp)

    def listeners_of(self, listeners: Iterable[Listener], index: int) -> tuple[BoundListener, ...]:
        """Give worker `index` its socket of each listener."""
        return tuple(
            BoundListener(listener, self._udp[listener.address, listener.port][index])
            for listener in listeners
        )

    def mailboxes_of(self, slot: int) -> Mailboxes:
        """Give the process of a slot its own mailbox and the way to all others."""
        writers = tuple(mailbox.writer for mailbox in self._mailboxes)
        return Mailboxes(self._mailboxes[slot].reader, writers)

    def admin_of(self, admin: Admin) -> socket.socket | None:
        """Give the keeper its socket; None when the endpoint is switched off."""
        return self._admin[admin.address, admin.port] if admin.port else None

    def close_except(self, keep: Iterable[socket.socket]) -> None:
        """Close whatever is not in `keep`, as a child does with what it was not given."""
        kept = {id(one) for one in keep}
        for one in self._all():
            if id(one) not in kept:
                one.close()

    def _all(self) -> Iterator[socket.socket]:
        for group in self._udp.values():
            yield from group
        yield from self._admin.values()
        for mailbox in self._mailboxes:
            yield mailbox.reader
            yield mailbox.writer

    def _bind_listener(self, where: Address) -> None:
        if where in self._udp:
            return
        address, port = where
        group: list[socket.socket] = []
        try:
            _probe(address, port)
            for _ in range(self._workers):
                group.append(_bind_udp(address, port))
                # Port 0 is the kernel's choice, which all of the group must share.
                port = group[0].getsockname()[1]
        except OSError as error:
            for one in group:
                one.close()
            raise _refusal("udp", address, port, error) from error
        self._udp[where] = group
        log.info("listening on udp %s", format_address(address, port))

    def _bind_admin(self, where: Address) -> None:
        if where in self._admin:
            return
        tcp = socket.socket(_family(where[0]), socket.SOCK_STREAM)
        try:
            tcp.setblocking(False)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(where)
            tcp.listen(ADMIN_BACKLOG)
        except OSError as error:
            tcp.close()
            raise _refusal("the admin endpoint, tcp", *where, error) from error
        self._admin[where] = tcp
        log.info("admin endpoint on http://%s", format_address(*tcp.getsockname()[:2]))

    def _size(self, limits: Limits) -> None:
        """Set the buffers of all UDP sockets, with one warning for all of them."""
        wanted = (limits.udp_receive_buffer, limits.udp_send_buffer)
        given = wanted
        for group in self._udp.values():
            for udp in group:
                received = _enlarge(udp, SO_RCVBUFFORCE, socket.SO_RCVBUF, wanted[0])
                sent = _enlarge(udp, SO_SNDBUFFORCE, socket.SO_SNDBUF, wanted[1])
                given = (min(given[0], received), min(given[1], sent))
        warning = shortage(given, wanted)
        if warning and warning != self._warning:
            log.warning("%s", warning)
        self._warning = warning

    def _close(self, udp: set[Address], admin: set[Address]) -> None:
        for where in udp:
            log.info("no longer listening on udp %s", format_address(*where))
            for one in self._udp.pop(where):
                one.close()
        for where in admin:
            self._admin.pop(where).close()
