"""The gates of admission and the bounds of backends, made as the configuration says.

What is not limited gets no gate, and costs a request nothing.
"""

import asyncio
from collections.abc import Callable
from math import ceil

from spooky.config.admission import Adaptive, UpstreamAdmission
from spooky.config.admission import Admission as AdmissionConfig
from spooky.config.model import Upstream
from spooky.config.shared_limits import INSTANCE, backend_limit, upstream_limit
from spooky.handover import WorkerSpec
from spooky.policy.admission import Admission, Door, Shedding
from spooky.policy.concurrency import Aimd, Bounds, Gradient, Limiter
from spooky.policy.gate import Gate
from spooky.shm.limits import LimitRow
from spooky.worker.admission import AdmissionGate, Guest, Importance, Reception
from spooky.worker.backend_bound import BackendBound, part_of
from spooky.worker.pool import Pool
from spooky.worker.upstreams import UpstreamGroup, Upstreams


class Others:
    """What other workers say of a limit (policy.gate.Shared)."""

    def __init__(self, row: LimitRow) -> None:
        self._row = row

    def elsewhere(self) -> tuple[int, int]:
        """Return what the others have in flight together, and how many of them claim a slot."""
        use = self._row.others()
        return use.in_flight, use.claims

    def publish(self, in_flight: int, waiting: int, claims: bool) -> None:
        """Tell them what we have."""
        self._row.say(in_flight, waiting, claims)


def open_gates(
    spec: WorkerSpec,
    upstreams: Upstreams,
    loop: asyncio.AbstractEventLoop,
    rand: Callable[[], float],
) -> Reception:
    """Put a gate before each upstream that is limited, and bounds on its backends."""
    admission = spec.config.admission
    whole = _gate(spec, "instance", INSTANCE, admission, rand)
    reception = Reception(
        loop,
        Admission(whole, _shedding(admission.shed_from)),
        ceil(admission.retry_after),
        rand,
    )
    for upstream, group in zip(spec.config.upstream, upstreams.groups, strict=True):
        _confine(spec, upstream, group)
        if _is_limited(admission) or _is_limited(upstream.admission) or group.is_bounded:
            door = _door(spec, upstream, group, rand)
            group.gates = (*group.gates, AdmissionGate(reception, door, _importance(upstream)))
    return reception


def _is_limited(admission: AdmissionConfig | UpstreamAdmission) -> bool:
    return admission.max_in_flight > 0 or admission.adaptive is not None


def _door(
    spec: WorkerSpec, upstream: Upstream, group: UpstreamGroup, rand: Callable[[], float]
) -> Door[Guest]:
    admission = upstream.admission
    name = upstream_limit(upstream)
    wait = admission.queue_timeout
    return Door(
        _gate(spec, name, name, admission, rand),
        spec.config.admission.queue_timeout if wait is None else wait,
        _shedding(admission.shed_from),
        group.has_room if group.is_bounded else None,
    )


def _gate(
    spec: WorkerSpec,
    name: str,
    limit: str,
    admission: AdmissionConfig | UpstreamAdmission,
    rand: Callable[[], float],
) -> Gate:
    adaptive = admission.adaptive
    shared = None
    if admission.max_in_flight:
        shared = Others(spec.memory.limits.row(spec.limit_rows[limit], spec.slot))
    limiter = None if adaptive is None else _limiter(adaptive, rand)
    return Gate(name, admission.max_in_flight, admission.queue, limiter, shared)


def _limiter(adaptive: Adaptive, rand: Callable[[], float]) -> Limiter:
    bounds = Bounds(adaptive.min, adaptive.start, adaptive.max)
    if adaptive.type == "aimd":
        return Aimd(bounds, adaptive.latency)
    return Gradient(bounds, adaptive.tolerance, adaptive.probe_interval, rand)


def _shedding(shed_from: float) -> Shedding | None:
    return Shedding(shed_from) if shed_from < 1 else None


def _importance(upstream: Upstream) -> Importance:
    admission = upstream.admission
    header = admission.priority_header
    field = None if header is None else header.encode()
    return Importance(admission.priority, field, admission.trust_priority)


def _confine(spec: WorkerSpec, upstream: Upstream, group: UpstreamGroup) -> None:
    limits = upstream.backend_limits
    for backend, pool in zip(upstream.backends, group.pools, strict=True):
        number = spec.limit_rows.get(backend_limit(upstream, backend))
        confine(spec, upstream, pool, number)
    group.is_bounded = bool(limits.max_in_flight or limits.max_queued)


def confine(spec: WorkerSpec, upstream: Upstream, pool: Pool, limit_row: int | None) -> None:
    """Put the bounds of one backend on its pool; `limit_row`: where its limit over all is, if any.

    Does nothing where there are none.
    """
    limits = upstream.backend_limits
    if limits.max_connections:
        connections = part_of(limits.max_connections, spec.config.worker_processes, spec.index)
        pool.cap_connections(connections)
    if limit_row is not None:
        pool.bound = BackendBound(limits, spec.memory.limits.row(limit_row, spec.slot))
