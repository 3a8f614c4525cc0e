"""How one socket is made: bound, with its options, or a message that says why it cannot be.

It keeps nothing and knows nothing of groups and generations; `sockets` does. The rule that is
not obvious: a bind with SO_REUSEPORT succeeds beside another Spooky, so the first socket of an
address is bound without it.
"""

import errno
import socket
from dataclasses import dataclass
from typing import TypeAlias

from spooky.errors import StartupError
from spooky.master.orphans import describe_orphans, find_orphans

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

Address: TypeAlias = tuple[str, int]
"""An IP address and a port; where port 0 was asked for, it stands for the one that was given."""


def format_address(address: str, port: int) -> str:
    """Write an address as in a URL: `192.0.2.1:443`, `[2001:db8::1]:443`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def family(address: str) -> socket.AddressFamily:
    """Say which family an IP address is of."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def refusal(what: str, address: str, port: int, error: OSError) -> StartupError:
    """Word why an address cannot be bound."""
    where = format_address(address, port)
    match error.errno:
        case errno.EADDRINUSE:
            holders = describe_orphans(find_orphans(port))
            holders = holders or "is another Spooky or other server running?"
            reason = f"the address is already in use: {holders}"
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


def bind_udp(address: str, port: int, *, is_first: bool) -> socket.socket:
    """Bind a UDP socket; OSError. The first of its group is alone, or there is an error.

    With SO_REUSEPORT a bind succeeds beside the sockets of another server which have it, too,
    and the kernel would share datagrams out; so the first one only gets the option afterwards.
    """
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        if udp.family is socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_options(udp, is_wildcard=address in ("0.0.0.0", "::"))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(not is_first))
        udp.bind((address, port))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        udp.close()
        raise
    return udp


def set_options(udp: socket.socket, *, is_wildcard: bool) -> None:
    """Set what QUIC needs of a UDP socket, before or after it is bound; OSError."""
    # The answer must leave from the address that the client wrote to.
    if udp.family is socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, int(is_wildcard))
    else:
        udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, int(is_wildcard))


def bind_tcp(address: str, port: int) -> socket.socket:
    """Bind and listen for the admin endpoint; OSError."""
    tcp = socket.socket(family(address), socket.SOCK_STREAM)
    try:
        tcp.setblocking(False)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, port))
        tcp.listen(ADMIN_BACKLOG)
    except OSError:
        tcp.close()
        raise
    return tcp


def enlarge(udp: socket.socket, force: int, plain: int, wanted: int) -> int:
    """Ask for a buffer of `wanted` octets; return what the kernel gives."""
    try:
        udp.setsockopt(socket.SOL_SOCKET, force, wanted)
    except PermissionError:
        # A service manager may have given it more than we may ask for.
        if udp.getsockopt(socket.SOL_SOCKET, plain) < 2 * wanted:
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


def mailbox() -> Mailbox:
    """Make a mailbox; as a pair, for others hold no more letters than a system-wide setting."""
    writer, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (writer, reader):
        end.setblocking(False)
    enlarge(writer, SO_SNDBUFFORCE, socket.SO_SNDBUF, MAILBOX_BYTES)
    return Mailbox(reader, writer)
