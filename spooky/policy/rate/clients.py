"""Which client an address stands for: the address itself, or the network that it can choose from.

Whoever has one IPv6 address usually has 2**64 of them (RFC 6177), so these are counted by their
prefix. An IPv4 address in IPv6 form (RFC 4291 section 2.5.5.2) is the IPv4 address.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

MOST_KNOWN: Final = 4096


class Clients:
    """Gives addresses their keys, and remembers the last of them."""

    def __init__(self, ipv6_prefix: int, exempt: Sequence[Network]) -> None:
        self._mask = (1 << 128) - (1 << (128 - ipv6_prefix))
        self._exempt = tuple(exempt)
        self._known: dict[str, bytes | None] = {}

    def key_of(self, address: str) -> bytes | None:
        """Return the key of an address in text, which may have a zone; None if it is exempt."""
        try:
            return self._known[address]
        except KeyError:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            key = self._known[address] = self._work_out(address)
            return key

    def _work_out(self, address: str) -> bytes | None:
        whole = ip_address(address.partition("%")[0])
        if isinstance(whole, IPv6Address):
            whole = whole.ipv4_mapped or whole
        if any(whole in network for network in self._exempt):
            return None
        if isinstance(whole, IPv6Address):
            return (int(whole) & self._mask).to_bytes(16, "big")
        return whole.packed
