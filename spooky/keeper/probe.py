"""What a probe is: one question to one backend, and why the answer was not the right one.

Owns the way to a backend and the edge where everything that can go wrong becomes a text. What is
asked is each kind's own business (`probe_http.py` and its neighbours); how often, and what comes of
it, the prober's.

A rule: each probe makes a connection of its own, for a backend that takes no new one is not well.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from spooky.config.units import format_duration
from spooky.errors import describe_failure, is_shortage
from spooky.protocol.engines import DEFAULT

log = logging.getLogger(__name__)


class ProbeFailedError(Exception):
    """A backend did not do what it was asked for; the text says what it did."""


class Probe(Protocol):
    """A kind of question, made for one backend."""

    async def ask(self) -> str:
        """Return what a well backend did, in a few words.

        Raises:
            ProbeFailedError: it is not well.
            OSError: it cannot be reached.
            ValueError: its name cannot be looked up at all.
        """


class Place:
    """A host, with the addresses that its name stands for (names.Follower)."""

    __slots__ = ("addresses", "host")

    def __init__(self, host: str) -> None:
        self.host = host
        self.addresses: tuple[str, ...] = ()
        """Empty: the system knows."""

    def follow(self, addresses: tuple[str, ...]) -> None:
        """Connect to these from now on."""
        self.addresses = addresses


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backend is; `tls` is None for cleartext."""

    place: Place
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """The name to ask for and to verify; None: the host."""
    engine: str = DEFAULT
    """What speaks HTTP/2 with it."""

    @asynccontextmanager
    async def connect(self) -> "AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]":
        """Connect, with TLS where it is spoken, until the block ends. OSError, ValueError."""
        reader, writer = await self._open()
        try:
            yield reader, writer
        except BaseException:
            # Who has to be left at once is not waited for, to take a farewell or what was sent.
            writer.transport.abort()
            raise
        writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Try all addresses of the host, one after another, as requests do."""
        options: dict[str, Any] = {}
        if self.tls is not None:
            options = {"ssl": self.tls, "server_hostname": self.server_name or self.place.host}
        addresses = self.place.addresses
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(address, self.port, **options)
        host = addresses[-1] if addresses else self.place.host
        return await asyncio.open_connection(host, self.port, **options)


async def examine(probe: Probe, timeout_s: float) -> tuple[bool | None, str]:
    """Ask, for so long at most; return whether the backend is well, and why.

    None: it could not be asked, for this process, or this machine, is short of something. Never
    raises for anything that a backend, or the system, does.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return True, await probe.ask()
    except ProbeFailedError as error:
        return False, str(error)
    except TimeoutError:
        return False, f"no answer within {format_duration(timeout_s)}"
    except (OSError, ValueError) as error:
        return None if is_shortage(error) else False, describe_failure(error)
    except Exception as error:
        # A fault of ours costs one backend its health, not all of them their probes.
        log.exception("a bug")
        return False, f"{type(error).__name__}: {error}"
