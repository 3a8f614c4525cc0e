"""How a transport to a backend is made.

It owns the way from a name to a connected socket with TLS on it; which connections are wanted is
the pool's to say, and what is spoken on them the connection's.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

from spooky.config.model import Backend
from spooky.protocol.engines import DEFAULT

_EYEBALLS_DELAY_S = 0.25
"""Between attempts at a name's several addresses (RFC 8305 section 8)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to; `tls` is None for cleartext."""

    backend: Backend
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """The name to ask for and to verify; None: the backend's host."""
    upstream: str = ""
    engine: str = DEFAULT
    """What speaks HTTP/2 with it."""

    def __str__(self) -> str:
        """Name it for the log: `api/b1 10.0.0.1:8080`."""
        backend = self.backend
        name = f"{self.upstream}/{backend.id}" if self.upstream else backend.id
        return name if backend.id == backend.address else f"{name} {backend.address}"


async def open_transport(
    loop: asyncio.AbstractEventLoop,
    endpoint: Endpoint,
    protocol: asyncio.Protocol,
    addresses: tuple[str, ...] = (),
) -> None:
    """Connect `protocol`, trying all addresses of the host: these, or those that it has by itself.

    Raises:
        OSError: there is no connection to be had, or TLS failed.
        ValueError: the host's name cannot be looked up at all.
    """
    backend = endpoint.backend
    options: dict[str, Any] = {}
    if endpoint.tls is not None:
        options["ssl"] = endpoint.tls
        options["server_hostname"] = endpoint.server_name or backend.host
    if isinstance(loop, asyncio.BaseEventLoop):
        # uvloop tries the addresses one after another.
        options["happy_eyeballs_delay"] = _EYEBALLS_DELAY_S
    for address in addresses[:-1]:
        try:
            await loop.create_connection(lambda: protocol, address, backend.port, **options)
        except OSError:
            continue
        return
    host = addresses[-1] if addresses else backend.host
    await loop.create_connection(lambda: protocol, host, backend.port, **options)
