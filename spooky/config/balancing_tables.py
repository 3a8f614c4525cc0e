"""The keys of an upstream's `load_balancing`, and what must hold between them.

The names of other proxies are taken too; some of them name an algorithm and what it hashes at
once. What a key means to a request is in `policy/hashkey.py`, how a backend is picked in
`policy/balance/`.
"""

from collections.abc import Iterator
from typing import Final

import yaml

from spooky.config.document import Finding, Places, Reading, Spot, key_of_upstream
from spooky.config.model import LoadBalancing, Upstream
from spooky.config.request_keys import request_key
from spooky.config.scalars import Scalar, choice, integer
from spooky.config.shapes import Field, Section

ROUND_ROBIN: Final = "round-robin"
HASHES: Final = ("ring-hash", "rendezvous", "maglev")
TYPES: Final = (
    ROUND_ROBIN,
    "random",
    *("least-connections", "power-of-two", "ewma"),
    *HASHES,
)

_ALIASES: Final = {
    "round-robin": ("round_robin", "roundrobin", "rr", "weight-based", "weight_based"),
    "least-connections": (
        *("least_connections", "least-connection", "least_connection"),
        *("leastconn", "least_conn", "lc"),
    ),
    "power-of-two": ("power_of_two", "p2c", "least-request", "least_request"),
    "ewma": ("peak-ewma", "peak_ewma", "latency-aware", "latency_aware", "la"),
    "ring-hash": ("ring_hash", "ketama", "consistent-hash", "consistent_hash", "ch"),
    "rendezvous": ("hrw",),
    "ring-hash client_ip": ("ip-hash", "ip_hash", "source"),
    "ring-hash cid": ("sticky-cid", "sticky_cid", "cid-sticky", "cid_sticky"),
}
"""Other names; where a key follows, they bring it."""

_KEY: Final = request_key(aliases={"peer_ip": "client_ip", "sticky-cid": "cid"})


def _type() -> Scalar:
    aliases = {alias: name for name, others in _ALIASES.items() for alias in others}
    return choice(TYPES, aliases)


class _Balancing(Section):
    """The section; the name of its type may bring its key."""

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> LoadBalancing:
        """Read it."""
        values = self.read_values(node, spot, reading)
        name, _, brought = str(values.get("type", ROUND_ROBIN)).partition(" ")
        key = values.get("key") or brought or None
        if brought and key != brought:
            text = f"that type hashes {brought}; remove key, or write type: {name}"
            reading.refuse(reading.enter(spot.child("key", spot.line)), text)
        return LoadBalancing(**{**values, "type": name, "key": key})


BALANCING = _Balancing(
    LoadBalancing,
    {
        "type": Field(_type()),
        "key": Field(_KEY),
        "bound": Field(integer(100, 10_000)),
    },
)


def check_balancing(upstream: Upstream, known: Places) -> Iterator[Finding]:
    """Find a key that is missing, or has nothing to do."""
    balancing = upstream.load_balancing
    here = f"{key_of_upstream(upstream.name)}.load_balancing"
    if not known.is_sound(f"{here}.type", f"{here}.key"):
        return
    hashes = balancing.type in HASHES
    if hashes and balancing.key is None:
        text = f"missing; {balancing.type} hashes it: write {_KEY.expected}"
        yield Finding(f"{here}.key", text)
    elif balancing.key is not None and not hashes:
        text = f"{balancing.type} hashes nothing; remove key, or write type: ring-hash"
        yield Finding(f"{here}.key", text)


def balancing_notices(upstream: Upstream) -> Iterator[Finding]:
    """Find what an operator may not expect of an upstream that is in order."""
    if upstream.load_balancing.bound is not None and len(upstream.backends) < 2:
        text = "has no effect: there is no other backend"
        yield Finding(f"{key_of_upstream(upstream.name)}.load_balancing.bound", text)
