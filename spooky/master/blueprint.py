"""What processes are made from: a configuration read whole, and what all of them share.

Owns the making of the specifications that children get. A blueprint belongs to one generation and
never changes; where operators add or remove backends, another one takes its place. The estate
(sockets, shared memory, keys) lasts as long as the master.
"""

import os
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from spooky import log as logs
from spooky.config import overlay
from spooky.config.account import Credentials, find_credentials
from spooky.config.model import Config
from spooky.config.overlay import Overlay, lay_over
from spooky.config.shared_limits import rate_limits, shared_limits
from spooky.handover import RELOAD_WISH, KeeperMain, KeeperSpec, SharedKeys, WorkerMain, WorkerSpec
from spooky.master.control import ControlSocket
from spooky.master.sockets import Crew, Sockets
from spooky.master.spawn import Birth, Child
from spooky.protocol import ratchet
from spooky.shm.instance import Cell
from spooky.shm.notes import Note
from spooky.shm.segment import SharedMemory


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration with all that its files held; never logged, for it has private keys."""

    config: Config
    identities: tuple[Any, ...]
    client_contexts: Mapping[str, ssl.SSLContext]
    session_keys: Mapping[str, bytes]
    """Of upstreams with a secret of their own, by name."""
    notices: tuple[str, ...] = ()
    """What the operator should know though it is no fault."""
    contents: Mapping[Path, bytes] = field(default_factory=dict)
    """What the files with the content of answers held."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the command line gives the master: where to read from, and what children run."""

    arguments: str
    """For the title of the process: `-c FILE`."""
    file: Path
    """The configuration file."""
    read: Callable[[str], Resolved]
    """Read the configuration anew, and all that it takes once changes of operators, as
    `config.overlay` writes them, are laid over it; SpookyError or OSError when it is not usable."""
    worker: WorkerMain
    keeper: KeeperMain


@dataclass(frozen=True, slots=True)
class Changes:
    """What operators have changed of the backends, and its number among the notes."""

    number: int
    overlay: Overlay


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the processes of one generation are made from, as of some changes of operators."""

    resolved: Resolved
    config: Config
    """The configuration of the generation, with what operators have changed of it."""
    changes: Changes
    credentials: Credentials | None
    backend_rows: Mapping[str, int]
    """Where shared memory has each backend, by its identity."""
    limit_rows: Mapping[str, int]
    """Where it has each limit that workers share, by its name."""
    rate_rows: Mapping[str, int]
    """Where it has the counts of each rate limit, by its name."""

    def prepare_logs(self) -> None:
        """Make the log files so that children can reopen them; OSError."""
        who = self.credentials
        logs.prepare(self.config.log, (who.uid, who.gid) if who else None)


def identities_of(configs: Iterable[Config]) -> list[str]:
    """List the backends of some configurations, each once, in their order."""
    every = (
        backend.identity
        for config in configs
        for upstream in config.upstream
        for backend in upstream.backends
    )
    return list(dict.fromkeys(every))


_KEY_OCTETS = 32


def _new_keys() -> SharedKeys:
    """Make the keys of a new instance."""
    return SharedKeys(
        reset=secrets.token_bytes(_KEY_OCTETS),
        token=secrets.token_bytes(_KEY_OCTETS),
        session=secrets.token_bytes(_KEY_OCTETS),
        ticket=ratchet.begin(time.monotonic(), secrets.token_bytes(ratchet.SECRET_OCTETS)),
    )


class Estate:
    """What the master lends to every process of every generation."""

    def __init__(self, program: Program, config: Config, left: dict[str, Any] | None) -> None:
        """Make it, or take over what a master before this one `left`, as it `describe`d it."""
        self._program = program
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.was_left = left is not None
        self.fixed: dict[str, Any] = (
            {
                "steering": config.steering,
                "limits.backend_rows": config.limits.backend_rows,
                "limits.rate_limit_keys": config.limits.rate_limit_keys,
                "control": config.control,
            }
            if left is None
            else left["fixed"]
        )
        """What the configuration said of things that only a new start changes."""
        self.sockets = Sockets(self.fixed["steering"])
        if left is None:
            limits = config.limits
            self.memory = SharedMemory.create(limits.backend_rows, limits.rate_limit_keys)
            self._keys = _new_keys()
        else:
            self.memory = SharedMemory.attach(left["memory"], writable=True)
            self._keys = SharedKeys(*(bytes.fromhex(left[one.name]) for one in fields(SharedKeys)))
            self.sockets.adopt(left["sockets"])
        self._control = _adopted(self.fixed["control"], left["control"]) if left else None
        self.changes = _as_changes(self.memory.notes.read())

    def describe(self) -> dict[str, Any]:
        """Say in plain values what there is. It has the keys, so it is for no other eyes."""
        self._turn_keys()
        return {
            "fixed": self.fixed,
            "memory": self.memory.fd,
            **{name: key.hex() for name, key in asdict(self._keys).items()},
            "sockets": self.sockets.describe(),
            "overlay": self.memory.notes.read().text,
            "control": self._control.socket.fileno() if self._control else None,
        }

    def _turn_keys(self) -> None:
        """Forget the keys of session tickets that are too old by now."""
        ticket = ratchet.advance(self._keys.ticket, time.monotonic())
        self._keys = replace(self._keys, ticket=ticket)

    def filenos(self) -> list[int]:
        """List the descriptors that `describe` speaks of."""
        control = [self._control.socket.fileno()] if self._control else []
        return [self.memory.fd, *control, *self.sockets.filenos()]

    def take_wish(self) -> bool:
        """Say whether a keeper wished for a reload since the last call."""
        try:
            return os.eventfd_read(self.wake_fd) >= RELOAD_WISH
        except BlockingIOError:
            return False

    def open_control(self) -> None:
        """Make the control socket, if there is to be one and it was not left. StartupError."""
        if self._control is None and self.fixed["control"]:
            self._control = ControlSocket.bind(Path(self.fixed["control"]))

    def remove_control(self) -> None:
        """Remove the control socket: no other master has it."""
        if self._control is not None:
            self._control.remove()

    def look_for_changes(self) -> Changes | None:
        """Read what a keeper has left and nobody has taken or refused yet; None: nothing."""
        instance = self.memory.instance
        known = (instance.get(Cell.CHANGES), instance.get(Cell.CHANGES_REFUSED))
        if self.memory.notes.number in known:
            return None
        return _as_changes(self.memory.notes.read())

    def blueprint(self, resolved: Resolved, generation: int, changes: Changes) -> Blueprint:
        """Look up whom its processes run as; give backends and limits their rows. StartupError."""
        credentials = find_credentials(resolved.config)
        plain = Blueprint(resolved, resolved.config, changes, credentials, {}, {}, {})
        return self.revise(plain, generation, changes)

    def revise(self, blueprint: Blueprint, generation: int, changes: Changes) -> Blueprint:
        """Return it with other changes, and rows for all that is in it then. StartupError."""
        resolved = blueprint.resolved
        holding = changes.overlay.as_of(generation)
        config = lay_over(holding, resolved.config, resolved.client_contexts)
        rows = self.memory.backends.assign(identities_of([config]))
        limits = self.memory.limits.assign(shared_limits(config))
        return replace(
            blueprint,
            config=config,
            changes=changes,
            backend_rows=rows,
            limit_rows=limits,
            rate_rows=self.memory.rate_counts.assign(rate_limits(config)),
        )

    def worker_birth(
        self, child: Child, blueprint: Blueprint, crew: Crew, shed: Callable[[Child], None]
    ) -> Birth:
        """Say how a worker comes to be; `shed` closes what is the master's, sockets aside."""
        config = blueprint.config
        self._turn_keys()
        self.memory.expect(child.slot)
        index = child.slot - crew.first
        spec = WorkerSpec(
            slot=child.slot,
            index=index,
            generation=child.generation,
            config=config,
            listeners=self.sockets.listeners_of(config.listen, crew, index),
            steering=self.sockets.steering,
            identities=blueprint.resolved.identities,
            client_contexts=blueprint.resolved.client_contexts,
            contents=blueprint.resolved.contents,
            mailboxes=self.sockets.mailboxes_of(child.slot),
            keys=self._keys,
            session_keys=blueprint.resolved.session_keys,
            own=blueprint.resolved.config,
            changes=blueprint.changes.number,
            backend_rows=blueprint.backend_rows,
            limit_rows=blueprint.limit_rows,
            rate_rows=blueprint.rate_rows,
            ready_fd=child.ready_writer,
            memory=self.memory,
        )

        def close() -> None:
            bound = [one.sender for one in spec.listeners]
            bound += [udp for one in spec.listeners for _, udp in one.reads]
            self.sockets.close_except([*bound, spec.mailboxes.mine, *spec.mailboxes.of])
            if self._control is not None:
                self._control.socket.close()
            os.close(self.wake_fd)
            shed(child)

        return Birth(
            name=f"worker {index}",
            title=child.title,
            log=config.log,
            credentials=blueprint.credentials,
            ready_fd=child.ready_writer,
            shed=close,
            run=lambda: self._program.worker(spec),
        )

    def keeper_birth(
        self, child: Child, blueprint: Blueprint, shed: Callable[[Child], None]
    ) -> Birth:
        """Say how the keeper comes to be; `shed` closes what is the master's, sockets aside."""
        config = blueprint.config
        admin = self.sockets.admin_of(config.admin)
        spec = KeeperSpec(
            row=child.slot,
            generation=child.generation,
            config=config,
            own=blueprint.resolved.config,
            changes=blueprint.changes.number,
            backend_rows=blueprint.backend_rows,
            client_contexts=blueprint.resolved.client_contexts,
            admin=admin,
            control=self._control.socket if self._control else None,
            wake_fd=self.wake_fd,
            ready_fd=child.ready_writer,
            memory=self.memory,
        )

        def close() -> None:
            self.sockets.close_except([] if admin is None else [admin])
            shed(child)

        return Birth(
            name="keeper",
            title=child.title,
            log=config.log,
            credentials=blueprint.credentials,
            ready_fd=child.ready_writer,
            shed=close,
            run=lambda: self._program.keeper(spec),
        )


def _as_changes(note: Note) -> Changes:
    return Changes(note.number, overlay.read(note.text))


def _adopted(path: str | None, fd: int | None) -> ControlSocket | None:
    if path is None or fd is None:
        return None
    return ControlSocket(Path(path), socket.socket(fileno=fd))
