"""What a master hands to a child process: plain values, sockets and keys, made before the fork.

Neither side imports the other: the master fills these in and calls the child's `main`, which
the command line gave it.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias

from spooky.config.model import Config, Listener
from spooky.shm.segment import SharedMemory

RELOAD_WISH: Final = 1 << 32
"""What is written to the master's eventfd to have a reload; less: to have it look."""


@dataclass(frozen=True, slots=True)
class SharedKeys:
    """Secrets that every worker of every generation has in common."""

    reset: bytes
    """Derives stateless reset tokens from connection IDs (RFC 9000 section 10.3.2)."""
    token: bytes
    """Seals the tokens of Retry packets and NEW_TOKEN frames (RFC 9000 section 8.1)."""
    session: bytes
    """Signs the cookies of upstreams that have no secret of their own."""
    ticket: bytes
    """The state of `protocol.ratchet` whose secrets seal TLS session tickets."""


class Steering(Enum):
    """How datagrams reach the worker that they are for."""

    KERNEL = "kernel"
    """A program in the kernel knows slots: each worker has a socket that is its slot's alone."""
    USERSPACE = "userspace"
    """The kernel spreads clients over sockets, which the serving generation reads; what is for
    another worker is handed over."""


@dataclass(frozen=True, slots=True)
class BoundListener:
    """An address that clients connect to and this worker's sockets of it.

    `number` names the address in all generations, whose configurations may list it in different
    places. `listener` is None where only connections of older generations are left. `reads` are
    the sockets to read, with their places in the group, `sender` is the one to send from.
    """

    number: int
    listener: Listener | None
    sender: socket.socket
    reads: tuple[tuple[int, socket.socket], ...]
    is_shared: bool = False
    """Fewer sockets than workers: who reads hands new connections to all of them in turn."""


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """How datagrams that reached the wrong worker get to their owner (unix datagram sockets).

    `mine` is read by this worker; `of[slot]` is written to by anybody who has something for it.
    All of them live as long as the master, so what is written while a worker restarts is kept.
    """

    mine: socket.socket
    of: tuple[socket.socket, ...]


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a worker gets from its master.

    `identities` is what `config.certs.load_identities` returned for each listener of the
    configuration, in their order; it holds private keys and is never logged. `client_contexts`
    has the TLS context for each upstream with `https://` backends, by its name. `ready_fd` takes
    one line: `ready`, or the reason of a boot failure. The row of `shm.processes` that it writes
    is its slot's.
    """

    slot: int
    index: int
    """Its place among the workers of its generation."""
    generation: int
    config: Config
    listeners: tuple[BoundListener, ...]
    identities: tuple[Any, ...]
    client_contexts: Mapping[str, ssl.SSLContext]
    contents: Mapping[Path, bytes]
    """What the files with the content of answers held when the configuration was read."""
    steering: Steering
    mailboxes: Mailboxes
    keys: SharedKeys
    session_keys: Mapping[str, bytes]
    """Of the upstreams that have a secret of their own to sign cookies with, by name."""
    own: Config
    """The configuration as the file has it, without what operators have changed in `config`."""
    changes: int
    """The number of the note (`shm.notes`) with those changes."""
    backend_rows: Mapping[str, int]
    """Of `shm.backends` and `shm.traffic`, by `Backend.identity`."""
    limit_rows: Mapping[str, int]
    """Of `shm.limits`, by the names of `config.shared_limits`."""
    rate_rows: Mapping[str, int]
    """Of `shm.rate_counts`, by the names of the rate limits."""
    ready_fd: int
    memory: SharedMemory


@dataclass(frozen=True, slots=True)
class KeeperSpec:
    """All that the keeper gets from its master; `admin` is bound, or None when switched off."""

    row: int
    """Of `shm.processes`, which it writes."""
    generation: int
    config: Config
    own: Config
    """The configuration as the file has it, without what operators have changed in `config`."""
    changes: int
    """The number of the note (`shm.notes`) with those changes."""
    backend_rows: Mapping[str, int]
    """Of `shm.backends`, by `Backend.identity`."""
    client_contexts: Mapping[str, ssl.SSLContext]
    """For each upstream with `https://` backends, by its name."""
    admin: socket.socket | None
    wake_fd: int
    """An eventfd: written to, it has the master look at what this keeper left in `shm.notes`; with
    `RELOAD_WISH`, and read the configuration anew."""
    control: socket.socket | None
    """Where operators' commands come in, bound and listening; None when switched off."""
    ready_fd: int
    memory: SharedMemory


WorkerMain: TypeAlias = Callable[[WorkerSpec], int]
"""Run a worker until it is done; return its exit code."""

KeeperMain: TypeAlias = Callable[[KeeperSpec], int]
"""Run the keeper until it is done; return its exit code."""
