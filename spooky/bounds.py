"""The bounds on what clients and backends can make an instance spend, by the names operators see.

A name here is that of its count in `spooky status`; the value is the place of its count in shared
memory. What a bound is and which key sets it is told in docs/bounds.md.
"""

from enum import IntEnum, unique


@unique
class Bound(IntEnum):
    """One bound. Values are never given away anew: counts outlive reloads and upgrades."""

    CONNECTIONS = 0
    """Client connections of the instance."""
