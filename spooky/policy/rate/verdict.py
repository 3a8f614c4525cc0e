"""What a limit says of one request, and what is left to whoever makes the next."""

from dataclasses import dataclass
from typing import Final

SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass.

    `wait_ns`: how long an admitted one is held back first, or how long one that was refused
    should stay away.
    """

    admitted: bool
    wait_ns: int = 0


AT_ONCE: Final = Verdict(True)
"""The usual verdict."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many more requests may pass, and in how long no more than these should be made."""

    remaining: int
    within_ns: int
