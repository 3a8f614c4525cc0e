"""The engines of HTTP/2 towards backends, by the names that the configuration has for them.

A rule: the one on the h2 library is read where it is asked for only, since its library takes
memory; the other one is there before the master forks, so that all processes share it.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from spooky.protocol.lean_h2 import LeanEngine
from spooky.protocol.messages import UpstreamEngine
from spooky.protocol.upstream import H2Limits

MakeEngine: TypeAlias = Callable[[H2Limits], UpstreamEngine]

DEFAULT: Final = "lean"


def engine_named(name: str) -> MakeEngine:
    """Return what makes engines of that name: `lean` or `h2`."""
    if name == "h2":
        from spooky.protocol.h2 import H2Engine  # noqa: PLC0415 - most have no use for its library

        return H2Engine
    return LeanEngine
