"""Sockets that a service manager bound and passed on (sd_listen_fds(3), `ListenDatagram=`).

Owns LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, and what makes a passed descriptor usable at all.
It never binds, and never decides which listener a socket is for. The rule that is not obvious:
the kernel lets a socket join a port only beside sockets of the same user, so a master without
root's rights cannot add its own to the one that the service manager bound as root.
"""

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import Enum

from spooky.errors import StartupError

FIRST_FD = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


class Kind(Enum):
    """What a passed socket speaks."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Passed:
    """A socket that was taken over: non-blocking, and closed in a program that is executed."""

    socket: socket.socket
    kind: Kind
    address: str
    port: int
    name: str
    """FileDescriptorName= of the .socket unit, by default the unit's name; "" where not told."""


def take(environ: MutableMapping[str, str] | None = None) -> list[Passed]:
    """Take over what was passed to this process, in the service manager's order.

    The variables are removed from `environ` (the process's own), also when they are for another
    process, so that no child takes the sockets for its own.

    Raises:
        StartupError: a descriptor is no IP socket that Spooky can serve on; the text says which.
    """
    variables = os.environ if environ is None else environ
    pid = variables.pop("LISTEN_PID", "")
    count = variables.pop("LISTEN_FDS", "")
    names = variables.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()):
        return []
    if not count.isascii() or not count.isdigit():
        raise StartupError(f"socket activation: LISTEN_FDS is {count!r}: expected a number")
    fds = range(FIRST_FD, FIRST_FD + int(count))
    names += [""] * (len(fds) - len(names))
    found = []
    for fd, name in zip(fds, names, strict=False):
        try:
            found.append(_adopt(fd, name))
        except StartupError:
            for passed in found:
                passed.socket.close()
            raise
    return found


def _adopt(fd: int, name: str) -> Passed:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise _refusal(fd, name, f"no socket: {error.strerror}") from error
    try:
        kind = _kind(sock)
        if kind is None:
            raise _refusal(fd, name, _objection(sock))
        if kind is Kind.UDP and _takes_ipv4_too(sock):
            raise _refusal(fd, name, "it takes IPv4 too: write BindIPv6Only=ipv6-only")
        sock.setblocking(False)
        address, port = sock.getsockname()[:2]
    except StartupError:
        sock.close()
        raise
    return Passed(sock, kind, address, port, name)


def _kind(sock: socket.socket) -> Kind | None:
    """Return what the socket is good for; None: nothing."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    if (sock.type, sock.proto) == (socket.SOCK_DGRAM, socket.IPPROTO_UDP):
        return Kind.UDP
    if (sock.type, sock.proto) == (socket.SOCK_STREAM, socket.IPPROTO_TCP):
        return Kind.TCP if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else None
    return None


def _objection(sock: socket.socket) -> str:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return f"its family is {_name_of(sock.family)}, not AF_INET or AF_INET6"
    if sock.type == socket.SOCK_STREAM:
        return "a TCP connection, not a listening socket: write Accept=no"
    return f"its type is {_name_of(sock.type)}, not UDP or TCP"


def _name_of(number: int) -> str:
    """Name a family or type; a number that the socket module does not know stays one."""
    return str(getattr(number, "name", number))


def _takes_ipv4_too(sock: socket.socket) -> bool:
    """Peers of such a socket have IPv4-mapped addresses; Spooky binds IPv4 by itself."""
    return sock.family == socket.AF_INET6 and not sock.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    )


def _refusal(fd: int, name: str, reason: str) -> StartupError:
    which = f"descriptor {fd}" + (f" ({name})" if name else "")
    return StartupError(
        f"socket activation: cannot use {which}: {reason}; correct the .socket unit: "
        "ListenDatagram= for listeners, ListenStream= for the admin endpoint, each with IP and port"
    )
