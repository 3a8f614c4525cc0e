"""What a snapshot of an instance holds: plain values, all of them frozen."""

from dataclasses import dataclass

from spooky.shm.limits import Limit
from spooky.shm.rate_counts import RateCount


@dataclass(frozen=True, slots=True)
class Usage:
    """What the system says of a process; None where it does not tell. Memory in octets."""

    cpu_percent: float | None
    """Of one CPU, now."""
    memory_rss: int | None
    """Resident, with what is shared."""
    memory_pss: int | None
    """Resident, with its part of what is shared."""


@dataclass(frozen=True, slots=True)
class MasterStatus:
    """The master, and the instance as a whole."""

    pid: int
    version: str
    state: str
    """`starting`, `serving`, `reloading`, `drained` or `stopping`."""
    generation: int
    """The one that serves new clients."""
    uptime_s: float
    """Since the instance was started, upgrades included."""
    reloads: int
    """How many reloads have ended, well or not."""
    last_reload: str | None
    """How the last of them ended."""
    last_reload_succeeded: bool | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """The processes of one configuration."""

    generation: int
    state: str
    """`starting`, `serving` or `draining`."""
    workers: int
    ready: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker. Requests are those that ended in its slot, by the processes before it too."""

    slot: int
    pid: int
    generation: int
    state: str
    """`starting`, `ready` or `draining`."""
    connections: int
    in_flight: int
    requests: int
    heartbeat_age_s: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class KeeperStatus:
    """A keeper."""

    pid: int
    generation: int
    state: str
    heartbeat_age_s: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class LatencyBucket:
    """Exchanges that took up to `up_to_ms` and longer than the bucket before; None: the rest."""

    up_to_ms: int | None
    count: int


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """A backend, with what all workers did with it since it was first configured."""

    name: str
    """`upstream/id`, and so on where it is in several."""
    address: str
    generation: int
    """The last one that had it; 0: none that has served."""
    health: str
    """`unknown`, `healthy`, `degraded`, `unhealthy` or `recovering`."""
    health_reason: str | None
    """What probes found; None: it was never probed."""
    health_for_s: float | None
    """How long probes have found it so; None: they never found anything else."""
    health_forced: bool
    """An operator says so, whatever is found."""
    duty: str
    """`serving`, `draining` or `out`."""
    breaker: str
    """`closed`, `open` or `half_open`."""
    breaker_s: float
    """How long until an open breaker lets trials pass, or the next round of them begins."""
    ejected_s: float
    """How long passive health keeps requests from it yet; 0: it does not."""
    ejections: int
    """How often it was ejected, less what a good conduct has taken off."""
    use: str
    """What all rules together make of it: `serving`, `slow_start`, `degraded`, `panic`, `standby`,
    `other_zone`, or why it gets nothing."""
    weight: int
    effective_weight: int
    connections: int
    in_flight: int
    queued: int
    requests: int
    """Attempts that are over, whatever came of them."""
    failures: int
    """Those that failed by the backend's fault."""
    connect_failures: int
    """Of the failures, those for which no connection could be made."""
    timeouts: int
    """Those for which no answer came in time."""
    resets: int
    """Those by a reset, a lost connection or an answer that is none."""
    client_failures: int
    own_failures: int
    error_responses: int
    """Those that ended well with a status of 500 to 599."""
    retries: int
    """Those that another attempt followed."""
    octets_in: int
    octets_out: int
    backend_time_us: int
    latency: tuple[LatencyBucket, ...]


@dataclass(frozen=True, slots=True)
class IntakeStatus:
    """What came in at the UDP ports since the instance was started, for all workers together."""

    connections_opened: int
    connections_refused: int
    handshakes_resumed: int
    """Those that went on with the TLS session of an earlier connection."""
    retries_sent: int
    stateless_resets_sent: int
    datagrams_handed_over: int
    late_initials: int
    """Those handed over because they wanted a connection of a worker that drains."""


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """What the rate limits did since the instance was started, for all workers together."""

    refused: int
    spared: int
    """Requests that only a dry run let pass."""
    limits: tuple[RateCount, ...]
    """Each of those that a configuration in use has."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of an instance."""

    master: MasterStatus
    intake: IntakeStatus
    rate_limits: RateLimitStatus
    generations: tuple[GenerationStatus, ...]
    workers: tuple[WorkerStatus, ...]
    keepers: tuple[KeeperStatus, ...]
    backends: tuple[BackendStatus, ...]
    limits: tuple[Limit, ...]
    """Those that are kept over all workers."""
    bounds: dict[str, int]
    """How often each bound on what peers can make the instance spend was reached, by its name."""
