"""A running instance at one moment, as plain values.

Reads the shared memory of a master and what the system says of its processes; writes nothing and
asks none of them. The names of the fields are the keys of `spooky status --json`, which scripts
rely on: add some, rename none. The cells are read one after the other, so that sums may be apart
by what happened in between.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import psutil

from spooky.shm.backend_cells import BackendColumn, Breaker, Duty, Use
from spooky.shm.backends import BackendRow
from spooky.shm.clock import now_ms
from spooky.shm.instance import Admission, Cell, Change, Instance, Serving
from spooky.shm.processes import KEEPER_ROWS, Column, ProcessState, ProcessTable, Row
from spooky.shm.segment import SharedMemory
from spooky.shm.traffic import LATENCY_LIMITS_MS, TrafficColumn, TrafficTotal
from spooky.status.records import (
    BackendStatus,
    GenerationStatus,
    IntakeStatus,
    KeeperStatus,
    LatencyBucket,
    MasterStatus,
    RateLimitStatus,
    Snapshot,
    Usage,
    WorkerStatus,
)

SAMPLE_S: Final = 0.25
"""How long processes are watched for the share of a CPU that they take."""

_ADMISSION: Final = {
    Admission.OPEN: "serving",
    Admission.DRAINED: "drained",
    Admission.STOPPING: "stopping",
}
T = TypeVar("T")


def take(pid: int, memory: SharedMemory) -> Snapshot:
    """Look at the instance of the master `pid`; takes `SAMPLE_S`."""
    slots = memory.processes.occupied()
    rows = {number: memory.processes.row(number) for number in (*slots, *KEEPER_ROWS)}
    pids = {row.get(Column.PID) for row in rows.values()} | {pid}
    usages = _watch(pids - {0})
    moment_ms = now_ms()
    workers = tuple(_worker(slot, rows[slot], moment_ms, usages) for slot in slots)
    keepers = (rows[number] for number in KEEPER_ROWS)
    generations = _generations(workers, memory.instance.serving())
    return Snapshot(
        master=_master(pid, memory.instance, generations, moment_ms, usages[pid]),
        intake=_intake(memory.processes),
        rate_limits=RateLimitStatus(
            refused=memory.processes.total(Column.RATE_LIMITED_TOTAL),
            spared=memory.processes.total(Column.RATE_SPARED_TOTAL),
            limits=tuple(memory.rate_counts.all()),
        ),
        generations=generations,
        workers=workers,
        keepers=tuple(
            _keeper(row, moment_ms, usages) for row in keepers if row.state is not ProcessState.GONE
        ),
        backends=tuple(_backends(memory, moment_ms)),
        limits=tuple(memory.limits.all()),
        bounds=memory.bounds.totals(),
    )


def _intake(processes: ProcessTable) -> IntakeStatus:
    return IntakeStatus(
        connections_opened=processes.total(Column.OPENED_TOTAL),
        connections_refused=processes.total(Column.REFUSED_TOTAL),
        handshakes_resumed=processes.total(Column.RESUMED_TOTAL),
        retries_sent=processes.total(Column.RETRIES_TOTAL),
        stateless_resets_sent=processes.total(Column.RESETS_TOTAL),
        datagrams_handed_over=processes.total(Column.HANDED_OVER_TOTAL),
        late_initials=processes.total(Column.LATE_TOTAL),
    )


# --- processes --------------------------------------------------------------------------------

_UNKNOWN: Final = Usage(None, None, None)


def _watch(pids: Iterable[int]) -> dict[int, Usage]:
    """Watch processes for a moment."""
    found = {pid: _ask(lambda pid=pid: psutil.Process(pid)) for pid in pids}  # type: ignore[misc]
    for process in found.values():
        if process is not None:
            # The first answer is about the time since the question before, of which there is none.
            _ask(process.cpu_percent)
    time.sleep(SAMPLE_S)
    return {pid: _UNKNOWN if one is None else _usage(one) for pid, one in found.items()}


def _usage(process: psutil.Process) -> Usage:
    memory = _ask(process.memory_info)
    full = _ask(process.memory_full_info)
    return Usage(
        cpu_percent=_ask(process.cpu_percent),
        memory_rss=None if memory is None else memory.rss,
        memory_pss=None if full is None else full.pss,
    )


def _ask(question: Callable[[], T]) -> T | None:
    """Ask about a process; None where it is gone or may not be looked into."""
    try:
        return question()
    except psutil.Error:
        return None


def _master(
    pid: int,
    instance: Instance,
    generations: tuple[GenerationStatus, ...],
    now_ms: int,
    usage: Usage,
) -> MasterStatus:
    outcome = instance.outcome(Change.RELOAD)
    number = instance.serving().generation
    state = _ADMISSION[instance.admission]
    if state == "serving" and instance.begun(Change.RELOAD) > outcome.ended:
        state = "reloading"
    if not any(one.state == "serving" for one in generations) and state == "serving":
        state = "starting"
    return MasterStatus(
        pid=pid,
        version=instance.version,
        state=state,
        generation=number,
        uptime_s=_age(now_ms, instance.get(Cell.STARTED_MS)),
        reloads=outcome.ended,
        last_reload=outcome.text if outcome.ended else None,
        last_reload_succeeded=outcome.succeeded if outcome.ended else None,
        usage=usage,
    )


def _generations(
    workers: tuple[WorkerStatus, ...], serving: Serving
) -> tuple[GenerationStatus, ...]:
    found = []
    for number in sorted({worker.generation for worker in workers}):
        members = [worker for worker in workers if worker.generation == number]
        ready = sum(worker.state == "ready" for worker in members)
        if number < serving.generation:
            state = "draining"
        elif number == serving.generation and ready:
            state = "serving"
        else:
            state = "starting"
        found.append(GenerationStatus(number, state, len(members), ready))
    return tuple(found)


def _worker(slot: int, row: Row, now_ms: int, usages: dict[int, Usage]) -> WorkerStatus:
    return WorkerStatus(
        slot=slot,
        pid=row.get(Column.PID),
        generation=row.get(Column.GENERATION),
        state=row.state.name.lower(),
        connections=row.get(Column.CONNECTIONS),
        in_flight=row.get(Column.IN_FLIGHT),
        requests=row.get(Column.REQUESTS_TOTAL),
        heartbeat_age_s=_age(now_ms, row.get(Column.HEARTBEAT_MS)),
        usage=usages.get(row.get(Column.PID), _UNKNOWN),
    )


def _keeper(row: Row, now_ms: int, usages: dict[int, Usage]) -> KeeperStatus:
    return KeeperStatus(
        pid=row.get(Column.PID),
        generation=row.get(Column.GENERATION),
        state=row.state.name.lower(),
        heartbeat_age_s=_age(now_ms, row.get(Column.HEARTBEAT_MS)),
        usage=usages.get(row.get(Column.PID), _UNKNOWN),
    )


def _age(now_ms: int, then_ms: int) -> float:
    """Say how many seconds ago something was; 0 for what has not been."""
    return max(0, now_ms - then_ms) / 1000 if then_ms else 0.0


def _until(then_ms: int, now_ms: int) -> float:
    """Say in how many seconds something will be; 0.001 at least unless it is not to come."""
    return max(1, then_ms - now_ms) / 1000 if then_ms else 0.0


# --- backends ---------------------------------------------------------------------------------


def _backends(memory: SharedMemory, moment_ms: int) -> Iterator[BackendStatus]:
    for number in memory.backends.taken():
        row = memory.backends.row(number)
        key = row.get(BackendColumn.KEY)
        status = _backend(row, memory.traffic.total(number), moment_ms)
        # The master may have given the row away meanwhile.
        if key and key == row.get(BackendColumn.KEY):
            yield status


def _backend(row: BackendRow, total: TrafficTotal, moment_ms: int) -> BackendStatus:
    since_ms = row.get(BackendColumn.HEALTH_SINCE_MS)
    return BackendStatus(
        name=row.name,
        address=row.address,
        generation=row.get(BackendColumn.GENERATION),
        health=row.health.name.lower(),
        health_reason=row.reason or None,
        health_for_s=_age(moment_ms, since_ms) if since_ms else None,
        health_forced=row.get(BackendColumn.FORCED_HEALTH) != 0,
        duty=Duty(row.get(BackendColumn.DUTY)).name.lower(),
        breaker=Breaker(row.get(BackendColumn.BREAKER)).name.lower(),
        breaker_s=_until(row.get(BackendColumn.BREAKER_UNTIL_MS), now_ms()),
        ejected_s=_until(row.get(BackendColumn.EJECTED_UNTIL_MS), now_ms()),
        ejections=row.get(BackendColumn.EJECTIONS),
        use=Use(row.get(BackendColumn.USE)).name.lower(),
        weight=row.get(BackendColumn.WEIGHT),
        effective_weight=row.effective_weight(),
        connections=total.get(TrafficColumn.CONNECTIONS),
        in_flight=total.get(TrafficColumn.IN_FLIGHT),
        queued=total.get(TrafficColumn.QUEUED),
        requests=total.get(TrafficColumn.REQUESTS),
        failures=total.get(TrafficColumn.FAILURES),
        connect_failures=total.get(TrafficColumn.CONNECT_FAILURES),
        timeouts=total.get(TrafficColumn.TIMEOUTS),
        resets=total.get(TrafficColumn.RESETS),
        client_failures=total.get(TrafficColumn.CLIENT_FAILURES),
        own_failures=total.get(TrafficColumn.OWN_FAILURES),
        error_responses=total.get(TrafficColumn.ERROR_RESPONSES),
        retries=total.get(TrafficColumn.RETRIES),
        octets_in=total.get(TrafficColumn.OCTETS_IN),
        octets_out=total.get(TrafficColumn.OCTETS_OUT),
        backend_time_us=total.get(TrafficColumn.BACKEND_TIME_US),
        latency=tuple(
            LatencyBucket(limit, count)
            for limit, count in zip((*LATENCY_LIMITS_MS, None), total.latency(), strict=True)
        ),
    )
