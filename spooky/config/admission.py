"""The part of the model that bounds what is in flight, and says who goes first.

As in `model.py`: frozen, with every default, and nothing else. Where a limit is over all workers,
`policy/gate.py` says how exactly it is kept.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A limit that each worker finds by itself, from how long answers take."""

    type: str = "gradient"
    """`gradient`: answers may take `tolerance` times as long as those of a backend with little to
    do. `aimd`: answers may take `latency`."""
    min: int = 3
    """The limit does not fall below it."""
    start: int = 20
    """What it begins with."""
    max: int = 1000
    """The limit does not rise above it."""
    tolerance: float = 1.5
    """For `gradient`: how many times longer than without load answers may take."""
    probe_interval: float = 60.0
    """For `gradient`: how often the latency without load is measured, for which the limit falls
    to `min` for at most a second."""
    latency: float = 1.0
    """For `aimd`: an answer that takes longer, or a failure of the backend, cuts the limit."""


@dataclass(frozen=True, slots=True)
class Admission:
    """How much may be in flight in all upstreams together, and what becomes of the rest."""

    max_in_flight: int = 0
    """Requests in flight, over all workers; 0: no limit."""
    queue: int = 0
    """Requests of one worker that may wait for one of those places."""
    queue_timeout: float = 1.0
    """How long a request may wait in the queue of any upstream that does not say otherwise."""
    adaptive: Adaptive | None = None
    """A moving limit for each worker, besides `max_in_flight`; without it: none."""
    shed_from: float = 1.0
    """The share of places, in flight and in the queue, from which on the least important requests
    are refused; 1: none is refused while there is a place."""
    retry_after: float = 1.0
    """Whoever is refused is told to come again after so long, up to twice as long by chance."""


@dataclass(frozen=True, slots=True)
class UpstreamAdmission:
    """How much may be in flight in an upstream, what becomes of the rest, and its importance."""

    max_in_flight: int = 0
    """Requests in flight, over all workers; 0: no limit."""
    queue: int = 0
    """Requests of one worker that may wait for one of those places, or for a backend with room."""
    queue_timeout: float | None = None
    """How long a request may wait; None: as long as `admission.queue_timeout` of the top level."""
    adaptive: Adaptive | None = None
    """A moving limit for each worker, besides `max_in_flight`; without it: none."""
    shed_from: float = 1.0
    """The share of places, in flight and in the queue, from which on the least important requests
    are refused; 1: none is refused while there is a place."""
    priority: int = 3
    """The class of its requests: 0, the most important, to 7; `high` is 1, `normal` 3, `low` 5."""
    priority_header: str | None = None
    """A request field that says a class: a number, a word, or RFC 9218's `u=N`. It makes a request
    less important, never more. None: no field is looked at."""
    trust_priority: bool = False
    """Whether that field may make a request more important, too."""


@dataclass(frozen=True, slots=True)
class BackendLimits:
    """What each backend of an upstream gets at most, over all workers. 0: no limit."""

    max_connections: int = 0
    """HTTP/2 connections, of which each worker has an equal part, but one at least."""
    max_in_flight: int = 0
    """Requests with it; a backend that has so many is passed over."""
    max_queued: int = 0
    """Those among them that wait for a stream of its connections; beyond it another is asked."""
