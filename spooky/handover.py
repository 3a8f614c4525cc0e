"""What a master hands to a child process: plain values, sockets and keys, made before the fork.

Neither side imports the other: the master fills these in and calls the child's `main`, which
the command line gave it.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from spooky.config.model import Config, Listener

SLOT_LIMIT = 256
"""Slots are told apart by one octet of a connection ID."""


@dataclass(frozen=True, slots=True)
class SharedKeys:
    """Secrets that every worker of every generation has in common, of 32 random octets."""

    reset: bytes
    """Derives stateless reset tokens from connection IDs (RFC 9000 section 10.3.2)."""
    token: bytes
    """Seals the tokens of Retry packets (RFC 9000 section 8.1.2)."""


@dataclass(frozen=True, slots=True)
class BoundListener:
    """A listener of the configuration and the UDP socket of it that this worker reads."""

    listener: Listener
    socket: socket.socket


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

    `identities` is what `config.certs.load_identities` returned for each listener, in their
    order; it holds private keys and is never logged. `client_contexts` has the TLS context for
    each upstream with `https://` backends, by its name. `ready_fd` takes one line: `ready`, or the
    reason of a boot failure. `process_row` is the row of `shm.ProcessTable` that it writes.
    """

    slot: int
    generation: int
    config: Config
    listeners: tuple[BoundListener, ...]
    identities: tuple[Any, ...]
    client_contexts: Mapping[str, ssl.SSLContext]
    mailboxes: Mailboxes
    keys: SharedKeys
    ready_fd: int
    table: Any
    process_row: int


@dataclass(frozen=True, slots=True)
class KeeperSpec:
    """All that the keeper gets from its master; `admin` is bound, or None when switched off."""

    generation: int
    config: Config
    admin: socket.socket | None
    ready_fd: int
    table: Any


WorkerMain: TypeAlias = Callable[[WorkerSpec], int]
"""Run a worker until it is done; return its exit code."""

KeeperMain: TypeAlias = Callable[[KeeperSpec], int]
"""Run the keeper until it is done; return its exit code."""
