"""The sockets that the master binds and keeps open for its whole life.

Owns every bound socket: for each listener a group of UDP sockets, the mailboxes between workers,
and the keeper's TCP socket. The rule that is not obvious: the kernel knows the sockets of a group
by their place, in the order of binding, and closing one moves another into its place. So a group
only grows, at its end, until its address is given up as a whole; with the steering in the kernel
a socket's place in its group is the number of the slot whose worker reads it.
"""

import logging
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spooky.config.limits import Limits
from spooky.config.model import Admin, Listener
from spooky.errors import StartupError
from spooky.handover import BoundListener, Mailboxes, Steering
from spooky.master import bind, steer
from spooky.master.activation import Kind, Passed
from spooky.master.bind import Address, Mailbox, format_address

log = logging.getLogger(__name__)

SMALLEST_GROUP = 2
"""The kernel makes a group of the second socket of an address; a program needs a group."""


@dataclass(slots=True)
class Group:
    """The sockets of one address. `port` is the one in use where the configuration has 0."""

    number: int
    address: str
    port: int
    sockets: list[socket.socket] = field(default_factory=list)
    is_closed: bool = False
    """It cannot grow: its sockets were made by somebody whose group only that one may join."""


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers of one generation: its slots are `first` to `first + workers - 1`."""

    first: int
    workers: int


class Sockets:
    """All that is bound, by address; and the mailboxes of all slots."""

    def __init__(self, steering: str) -> None:
        """Take the wish for `steering`: `auto`, `kernel` or `userspace`."""
        self._wish = steering
        self.steering = Steering.USERSPACE if steering == "userspace" else Steering.KERNEL
        self._groups: dict[Address, Group] = {}
        self._passed: dict[Address, Group] = {}
        self._admin: dict[Address, socket.socket] = {}
        self._mailboxes: list[Mailbox] = []
        self._places = SMALLEST_GROUP
        self._next_number = 0
        self._warning = ""

    def give(self, passed: Iterable[Passed]) -> None:
        """Take sockets that a service manager has bound, to be used where they are asked for.

        StartupError where the kernel is to steer, and cannot for lack of sockets.
        """
        for one in passed:
            where = (one.address, one.port)
            if one.kind is Kind.TCP:
                self._admin[where] = one.socket
                continue
            group = self._passed.setdefault(where, Group(0, *where))
            bind.set_options(one.socket, is_wildcard=one.address in ("0.0.0.0", "::"))
            group.sockets.append(one.socket)
        for group in self._passed.values():
            self._try_to_join(group)

    def refuse_the_rest(self, admin: Admin) -> None:
        """Close what was passed and is not in the configuration."""
        for where, group in self._passed.items():
            log.warning("passed, but no listener: udp %s", format_address(*where))
            for one in group.sockets:
                one.close()
        self._passed.clear()
        for where in set(self._admin) - {(admin.address, admin.port)}:
            log.warning("passed, but not the admin endpoint: tcp %s", format_address(*where))
            self._admin.pop(where).close()

    def _try_to_join(self, group: Group) -> None:
        """Find out whether sockets of ours may be added to those that somebody else has bound."""
        try:
            bind.bind_udp(group.address, group.port, is_first=False).close()
        except OSError as error:
            group.is_closed = True
            where = format_address(group.address, group.port)
            reason = f"no socket can be added to those passed for udp {where}: {error.strerror}"
            if self._wish == "kernel":
                raise StartupError(f"{reason}: set `steering: auto`") from error
            log.warning("%s: workers hand datagrams over to one another", reason)
            self.steering = Steering.USERSPACE

    # --- binding ----------------------------------------------------------------------------

    def bind(self, listeners: Iterable[Listener], admin: Admin, limits: Limits) -> None:
        """Bind what is not bound yet. StartupError when one cannot be; then nothing is new."""
        listeners = list(listeners)
        udp_before, admin_before = set(self._groups), set(self._admin)
        try:
            for listener in listeners:
                self._bind_listener((listener.address, listener.port))
            if admin.port:
                self._bind_admin((admin.address, admin.port))
        except StartupError:
            self._close(set(self._groups) - udp_before, set(self._admin) - admin_before)
            raise
        self._size(limits)

    def make_room(self, slots: int, workers: int, limits: Limits) -> None:
        """Have sockets and mailboxes for so many slots, and so many workers; StartupError.

        Workers cannot write to mailboxes that were made after them, so there are more from the
        beginning than are needed then.
        """
        mailboxes = max(slots, 8 * workers) if not self._mailboxes else slots
        while len(self._mailboxes) < mailboxes:
            self._mailboxes.append(bind.mailbox())
        places = slots if self.steering is Steering.KERNEL else workers
        if places > self._places:
            self._places = places
            for group in self._groups.values():
                self._grow(group)
            self._size(limits)

    def _bind_listener(self, where: Address) -> None:
        if where in self._groups:
            return
        group = self._passed.pop(where, None) or Group(0, *where)
        group.number = self._next_number
        try:
            self._grow(group)
            self._try_kernel(group)
        except (OSError, StartupError):
            for one in group.sockets:
                one.close()
            raise
        self._groups[where] = group
        self._next_number += 1
        log.info("listening on udp %s", format_address(*where))

    def _grow(self, group: Group) -> None:
        """Make the group as large as all are; StartupError."""
        try:
            while len(group.sockets) < self._places and not group.is_closed:
                is_first = not group.sockets
                udp = bind.bind_udp(group.address, group.port, is_first=is_first)
                group.sockets.append(udp)
                # Port 0 is the kernel's choice, which all of the group must share.
                group.port = udp.getsockname()[1]
        except OSError as error:
            raise bind.refusal("udp", group.address, group.port, error) from error

    def _try_kernel(self, group: Group) -> None:
        """See whether the kernel steers; StartupError where it has to and cannot."""
        if self.steering is not Steering.KERNEL:
            return
        everybody = (0, len(group.sockets))
        try:
            steer.attach(group.sockets[0], steer.Program(everybody, (everybody,)))
        except OSError as error:
            reason = f"the kernel does not steer datagrams to workers ({error.strerror})"
            if self._wish == "kernel" or self._groups:
                raise StartupError(f"{reason}: set `steering: userspace`") from error
            log.warning("%s: workers hand them over to one another", reason)
            self.steering = Steering.USERSPACE

    def _bind_admin(self, where: Address) -> None:
        if where in self._admin:
            return
        try:
            tcp = bind.bind_tcp(*where)
        except OSError as error:
            raise bind.refusal("the admin endpoint, tcp", *where, error) from error
        self._admin[where] = tcp
        log.info("admin endpoint on http://%s", format_address(*tcp.getsockname()[:2]))

    def _size(self, limits: Limits) -> None:
        """Set the buffers of all UDP sockets, with one warning for all of them."""
        wanted = (limits.udp_receive_buffer, limits.udp_send_buffer)
        given = wanted
        for group in self._groups.values():
            for udp in group.sockets:
                received = bind.enlarge(udp, bind.SO_RCVBUFFORCE, socket.SO_RCVBUF, wanted[0])
                sent = bind.enlarge(udp, bind.SO_SNDBUFFORCE, socket.SO_SNDBUF, wanted[1])
                given = (min(given[0], received), min(given[1], sent))
        warning = bind.shortage(given, wanted)
        if warning and warning != self._warning:
            log.warning("%s", warning)
        self._warning = warning

    # --- steering ---------------------------------------------------------------------------

    def steer(self, serving: Mapping[Address, Crew], living: Iterable[Crew]) -> None:
        """Tell the kernel which workers serve each address, and which slots have a reader.

        What it cannot be told is logged: datagrams then go where they went before, and from
        there to their owners by hand.
        """
        if self.steering is not Steering.KERNEL:
            return
        ranges = tuple((crew.first, crew.workers) for crew in living)
        for where, group in self._groups.items():
            crew = serving.get(where)
            if crew is None:
                continue
            try:
                program = steer.Program((crew.first, crew.workers), ranges)
                steer.attach(group.sockets[0], program)
            except OSError as error:
                log.error("steering of udp %s: %s", format_address(*where), error.strerror)

    # --- handing out ------------------------------------------------------------------------

    def listeners_of(
        self, listeners: Iterable[Listener], crew: Crew, index: int
    ) -> tuple[BoundListener, ...]:
        """Give worker `index` of a crew its sockets of each listener, then of what is left."""
        mine = [(listener.address, listener.port) for listener in listeners]
        found = [
            self._bound(self._groups[where], listener, crew, index)
            for where, listener in zip(mine, listeners, strict=True)
        ]
        if self.steering is Steering.USERSPACE:
            left = (group for where, group in self._groups.items() if where not in mine)
            found += [self._bound(group, None, crew, index) for group in left]
        return tuple(found)

    def _bound(
        self, group: Group, listener: Listener | None, crew: Crew, index: int
    ) -> BoundListener:
        sockets = list(enumerate(group.sockets))
        if self.steering is Steering.KERNEL:
            reads = sockets[crew.first + index : crew.first + index + 1]
        else:
            # All of them have to be read, also those of workers that there were once.
            reads = sockets[index :: crew.workers]
        sender = reads[0][1] if reads else group.sockets[0]
        is_shared = self.steering is Steering.USERSPACE and len(sockets) < crew.workers
        return BoundListener(group.number, listener, sender, tuple(reads), is_shared)

    def mailboxes_of(self, slot: int) -> Mailboxes:
        """Give the process of a slot its own mailbox and the way to all others."""
        writers = tuple(mailbox.writer for mailbox in self._mailboxes)
        return Mailboxes(self._mailboxes[slot].reader, writers)

    def admin_of(self, admin: Admin) -> socket.socket | None:
        """Give the keeper its socket; None when the endpoint is switched off."""
        return self._admin[admin.address, admin.port] if admin.port else None

    # --- handing over to another master ------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Say in plain values what there is; descriptors stand for sockets."""
        return {
            "steering": self.steering.value,
            "places": self._places,
            "next_number": self._next_number,
            "groups": [
                {
                    "where": where,
                    "number": group.number,
                    "port": group.port,
                    "is_closed": group.is_closed,
                    "fds": [one.fileno() for one in group.sockets],
                }
                for where, group in self._groups.items()
            ],
            "admin": [[where, tcp.fileno()] for where, tcp in self._admin.items()],
            "mailboxes": [[one.reader.fileno(), one.writer.fileno()] for one in self._mailboxes],
        }

    def filenos(self) -> list[int]:
        """List the descriptors of all sockets."""
        return [one.fileno() for one in self._all()]

    def adopt(self, described: dict[str, Any]) -> None:
        """Take over what another master has described and left to this process."""
        self.steering = Steering(described["steering"])
        self._places = described["places"]
        self._next_number = described["next_number"]
        for one in described["groups"]:
            address, port = one["where"]
            sockets = [socket.socket(fileno=fd) for fd in one["fds"]]
            group = Group(one["number"], address, one["port"], sockets, one["is_closed"])
            self._groups[address, port] = group
        for (address, port), fd in described["admin"]:
            self._admin[address, port] = socket.socket(fileno=fd)
        for reader, writer in described["mailboxes"]:
            ends = socket.socket(fileno=reader), socket.socket(fileno=writer)
            self._mailboxes.append(Mailbox(*ends))

    # --- letting go -------------------------------------------------------------------------

    def keep_only(self, listeners: Iterable[Listener], admins: Iterable[Admin]) -> None:
        """Close what no configuration in use names any more."""
        udp = {(listener.address, listener.port) for listener in listeners}
        tcp = {(admin.address, admin.port) for admin in admins}
        self._close(set(self._groups) - udp, set(self._admin) - tcp)

    def close_except(self, keep: Iterable[socket.socket]) -> None:
        """Close whatever is not in `keep`, as a child does with what it was not given."""
        kept = {id(one) for one in keep}
        for one in self._all():
            if id(one) not in kept:
                one.close()

    def _all(self) -> Iterator[socket.socket]:
        for group in self._groups.values():
            yield from group.sockets
        yield from self._admin.values()
        for mailbox in self._mailboxes:
            yield mailbox.reader
            yield mailbox.writer

    def _close(self, udp: set[Address], admin: set[Address]) -> None:
        for where in udp:
            log.info("no longer listening on udp %s", format_address(*where))
            for one in self._groups.pop(where).sockets:
                one.close()
        for where in admin:
            self._admin.pop(where).close()
