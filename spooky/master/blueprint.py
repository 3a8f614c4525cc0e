"""What processes are made from: a configuration read whole, and what all of them share.

Owns the making of the specifications that children get. A blueprint belongs to one generation
and never changes; the estate (sockets, shared memory, keys) lasts as long as the master.
"""

import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spooky import log as logs
from spooky.config.model import Config
from spooky.handover import KeeperMain, KeeperSpec, SharedKeys, WorkerMain, WorkerSpec
from spooky.master.sockets import Sockets
from spooky.master.spawn import Birth, Child, Credentials
from spooky.shm import ProcessTable


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration with all that its files held; never logged, for it has private keys."""

    config: Config
    identities: tuple[Any, ...]
    client_contexts: Mapping[str, ssl.SSLContext]
    notices: tuple[str, ...] = ()
    """What the operator should know though it is no fault."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the command line gives the master: where to read from, and what children run."""

    arguments: str
    """For the title of the process: `-c FILE`."""
    read: Callable[[], Resolved]
    """Read the configuration anew; SpookyError or OSError when it is not usable."""
    worker: WorkerMain
    keeper: KeeperMain


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the processes of one generation are made from."""

    resolved: Resolved
    credentials: Credentials | None

    @property
    def config(self) -> Config:
        """The configuration of the generation."""
        return self.resolved.config

    def prepare_logs(self) -> None:
        """Make the log files so that children can reopen them; OSError."""
        who = self.credentials
        logs.prepare(self.config.log, (who.uid, who.gid) if who else None)


class Estate:
    """What the master lends to every process of every generation."""

    def __init__(self, program: Program, workers: int) -> None:
        self._program = program
        self._workers = workers
        self.sockets = Sockets(workers)
        self.table = ProcessTable(workers)
        self._keys = SharedKeys(reset=secrets.token_bytes(32), token=secrets.token_bytes(32))

    def worker_birth(
        self, child: Child, blueprint: Blueprint, ready_fd: int, shed: Callable[[Child], None]
    ) -> Birth:
        """Say how a worker comes to be; `shed` closes what is the master's, sockets aside."""
        config = blueprint.config
        index = child.slot % self._workers
        spec = WorkerSpec(
            slot=child.slot,
            generation=child.generation,
            config=config,
            listeners=self.sockets.listeners_of(config.listen, index),
            identities=blueprint.resolved.identities,
            client_contexts=blueprint.resolved.client_contexts,
            mailboxes=self.sockets.mailboxes_of(child.slot),
            keys=self._keys,
            ready_fd=ready_fd,
            table=self.table,
            process_row=child.slot,
        )

        def close() -> None:
            bound = (one.socket for one in spec.listeners)
            self.sockets.close_except([*bound, spec.mailboxes.mine, *spec.mailboxes.of])
            shed(child)

        return Birth(
            name=f"worker {index}",
            title=child.title,
            log=config.log,
            credentials=blueprint.credentials,
            ready_fd=ready_fd,
            shed=close,
            run=lambda: self._program.worker(spec),
        )

    def keeper_birth(
        self, child: Child, blueprint: Blueprint, ready_fd: int, shed: Callable[[Child], None]
    ) -> Birth:
        """Say how the keeper comes to be; `shed` closes what is the master's, sockets aside."""
        config = blueprint.config
        admin = self.sockets.admin_of(config.admin)
        spec = KeeperSpec(child.generation, config, admin, ready_fd, self.table)

        def close() -> None:
            self.sockets.close_except([] if admin is None else [admin])
            shed(child)

        return Birth(
            name="keeper",
            title=child.title,
            log=config.log,
            credentials=blueprint.credentials,
            ready_fd=ready_fd,
            shed=close,
            run=lambda: self._program.keeper(spec),
        )
