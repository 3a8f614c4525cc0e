"""What the cells of a backend's row mean: the columns, their values, and what is packed in one.

It owns no memory. A column says who writes it.
"""

from enum import IntEnum
from typing import Final, NamedTuple


class BackendColumn(IntEnum):
    """The cells of a row. All zero is what a backend is of which nothing is known yet."""

    KEY = 0
    """The first octets of the identity's digest, never 0; 0: the row is free. Of the master."""
    DIGEST_1 = 1
    """The rest of the digest. Of the master."""
    DIGEST_2 = 2
    DIGEST_3 = 3
    GENERATION = 4
    """The last generation with this backend that came to serve. Of the master."""
    WEIGHT = 5
    """The weight of the configuration, the largest where it is in several upstreams. Of the
    master."""
    HEALTH = 6
    """A `Health`. Of the keeper."""
    WEIGHT_CUT = 7
    """Thousandths of its weight that it does not get for now. Of the keeper."""
    DUTY = 8
    """A `Duty`. Of the keeper."""
    BREAKER = 9
    """A `Breaker`. Of the keeper."""
    WEIGHT_SET = 13
    """One more than the weight that an operator has set; 0: none. Of the keeper."""
    WEIGHT_SET_OVER = 14
    """The configuration's weight that it was set over: it holds no longer than that one. Of the
    keeper."""
    FORCED_HEALTH = 15
    """The `Health` that an operator says it has, whatever is found; `UNKNOWN`: no word of one. Of
    the keeper."""
    TRIALS = 16
    """The last round of trials of a breaker that is half open, by `pack_trials`. Of the keeper."""
    EJECTED_UNTIL_MS = 17
    """The monotonic clock when passive health lets it have requests again; 0: it has them now. Of
    the keeper, which sets it to 0 when the time has come."""
    EJECTIONS = 18
    """How often it was ejected, less what a good conduct has taken off. Of the keeper."""
    BREAKER_UNTIL_MS = 19
    """The monotonic clock when the breaker goes on by itself; 0: it does not. Of the keeper."""
    BREAKER_OPENINGS = 20
    """How often the breaker opened since it was closed. Of the keeper."""
    USE = 22
    """A `Use`. Of the keeper."""
    LAST_ILL_MS = 23
    """The monotonic clock when it was last seen out of service, by health, failures, breaker or
    the operator's word; 0: never. Of the keeper."""
    HEALTH_SINCE_MS = 24
    """The monotonic clock when its health became what it is; 0: always was. Of the keeper. Workers
    do not look from here on: what follows may change with each probe."""
    PROBES_IN_A_ROW = 25
    """Packed `ProbeCounts`. Of the keeper."""
    PROBE_DUE_MS = 26
    """The monotonic clock when it is to be probed next; 0: not known. Of the keeper."""


class Health(IntEnum):
    """What probes say of a backend; `policy.health` has what leads from one to the other."""

    UNKNOWN = 0
    """Never probed; it gets requests."""
    HEALTHY = 1
    UNHEALTHY = 2
    DEGRADED = 3
    """The last probe, or one of the last, failed; it gets requests."""
    RECOVERING = 4
    """Was unhealthy, and probes pass again; it gets no requests yet."""


OUT_OF_HEALTH: Final = frozenset({Health.UNHEALTHY, Health.RECOVERING})
"""Who gets no requests."""


class ProbeCounts(NamedTuple):
    """How the last probes of a backend went, each up to 65,535."""

    failures: int = 0
    """Failures in a row."""
    passes: int = 0
    """Passes in a row."""
    setbacks: int = 0
    """Failures since it became unhealthy."""


class Duty(IntEnum):
    """What the operator wants of a backend."""

    SERVING = 0
    DRAINING = 1
    """It finishes what it has and gets nothing new."""
    OUT = 2


class Breaker(IntEnum):
    """Whether requests are kept from a backend that fails too often."""

    CLOSED = 0
    """Requests pass."""
    OPEN = 1
    HALF_OPEN = 2
    """A few pass, to see."""


class Use(IntEnum):
    """What all rules together make of a backend; the names are those of `policy.eligibility`.

    Where it is in several upstreams, what the last of them makes of it.
    """

    UNKNOWN = 0
    SERVING = 1
    SLOW_START = 2
    DEGRADED = 3
    PANIC = 4
    STANDBY = 5
    OTHER_ZONE = 6
    NO_WEIGHT = 7
    DRAINING = 8
    OUT = 9
    BREAKER_OPEN = 10
    UNHEALTHY = 11
    EJECTED = 12


class Fitness(NamedTuple):
    """What a row says of whether its backend may be asked, as `policy.eligibility` wants it."""

    is_out: bool
    is_draining: bool
    is_breaker_open: bool
    is_unhealthy: bool
    is_ejected: bool
    part: float
    """Of its weight that it has now."""
    well_for: float
    """Seconds since it was last seen out of service; infinite: it never was."""


def pack_trials(number: int, trials: int) -> int:
    """Put the number of a round and how many trials it admits into one cell."""
    return (number & 0xFFFF_FFFF) << 32 | trials


def unpack_trials(cell: int) -> tuple[int, int]:
    """Take apart what `pack_trials` made."""
    return cell >> 32, cell & 0xFFFF_FFFF
