"""Probes that speak no protocol of an application: a TCP connection, a TLS handshake."""

from dataclasses import dataclass, replace

from spooky.keeper.probe import Target


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Takes a backend for well that takes a connection."""

    target: Target
    """With TLS or not: none is spoken."""

    async def ask(self) -> str:
        """Connect, and leave."""
        async with replace(self.target, tls=None).connect():
            return "took a connection"


@dataclass(frozen=True, slots=True)
class TlsProbe:
    """Takes a backend for well that completes a handshake with a certificate to be trusted."""

    target: Target

    async def ask(self) -> str:
        """Connect, shake hands, and leave."""
        async with self.target.connect():
            return "completed a TLS handshake"
