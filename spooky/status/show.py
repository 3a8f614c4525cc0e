"""A snapshot as text: a table for people, JSON for programs. It looks nothing up."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from spooky.status.records import (
    BackendStatus,
    IntakeStatus,
    KeeperStatus,
    Snapshot,
    Usage,
    WorkerStatus,
)

_MIB: Final = 1024 * 1024
_PROCESS: Final = (
    *("PROCESS", "PID", "GEN", "STATE", "CONNECTIONS", "IN FLIGHT", "REQUESTS"),
    *("HEARTBEAT", "RSS", "PSS", "CPU"),
)
_BACKEND: Final = (
    *("BACKEND", "ADDRESS", "HEALTH", "WEIGHT", "CONNECTIONS", "IN FLIGHT", "QUEUED"),
    *("REQUESTS", "FAILURES", "RETRIES", "MEAN TIME"),
)
_LIMIT: Final = ("LIMIT", "IN FLIGHT", "OF", "WAITING")
_RATE_LIMIT: Final = ("RATE LIMIT", "ADMITTED", "REFUSED", "SPARED")
_AILING: Final = frozenset({"degraded", "unhealthy", "recovering"})
_GENERATION: Final = ("GENERATION", "STATE", "WORKERS", "READY")


def as_json(snapshot: Snapshot) -> str:
    """Write all of a snapshot as one JSON object."""
    return json.dumps(asdict(snapshot), indent=2)


def as_table(snapshot: Snapshot) -> str:
    """Write a snapshot for people."""
    master = snapshot.master
    head = (
        f"spooky {master.version or '-'}: {master.state}, generation {master.generation}, "
        f"up {_span(master.uptime_s)}"
    )
    if master.last_reload is not None:
        word = "reloaded" if master.last_reload_succeeded else "last reload refused"
        head += f"\n{word}: " + " ".join(master.last_reload.split())
    head += f"\n{_arrivals(snapshot.intake)}"
    limits = snapshot.rate_limits
    if limits.refused or limits.spared:
        head += f"\nrate limits refused {limits.refused}, spared by a dry run {limits.spared}"
    if reached := [f"{name} {times}" for name, times in snapshot.bounds.items() if times]:
        head += f"\nbounds reached: {', '.join(reached)}"
    generations = [
        (str(one.generation), one.state, str(one.workers), str(one.ready))
        for one in snapshot.generations
    ]
    processes = [
        ("master", str(master.pid), *["-"] * 6, *_use(master.usage)),
        *(_keeper(one) for one in snapshot.keepers),
        *(_worker(one) for one in snapshot.workers),
    ]
    parts = [head, _align(_GENERATION, generations), _align(_PROCESS, processes)]
    if snapshot.backends:
        parts.append(_align(_BACKEND, [_backend(one) for one in snapshot.backends]))
    if snapshot.limits:
        rows = [
            (one.name, str(one.in_flight), str(one.most or "-"), str(one.waiting))
            for one in snapshot.limits
        ]
        parts.append(_align(_LIMIT, rows))
    if limits.limits:
        counts = [
            (one.name, str(one.admitted), str(one.refused), str(one.spared))
            for one in limits.limits
        ]
        parts.append(_align(_RATE_LIMIT, counts))
    if ailments := [text for one in snapshot.backends if (text := _ailment(one))]:
        parts.append("\n".join(ailments))
    return "\n\n".join(parts)


def _arrivals(one: IntakeStatus) -> str:
    return (
        f"connections opened {one.connections_opened}, resumed {one.handshakes_resumed}, "
        f"refused {one.connections_refused}; "
        f"retries {one.retries_sent}, stateless resets {one.stateless_resets_sent}; "
        f"datagrams handed over {one.datagrams_handed_over}, late {one.late_initials}"
    )


def _keeper(one: KeeperStatus) -> tuple[str, ...]:
    beat = f"{one.heartbeat_age_s:.1f} s"
    return (
        "keeper",
        str(one.pid),
        str(one.generation),
        one.state,
        "-",
        "-",
        "-",
        beat,
        *_use(one.usage),
    )


def _worker(one: WorkerStatus) -> tuple[str, ...]:
    return (
        f"worker in slot {one.slot}",
        str(one.pid or "-"),
        str(one.generation),
        one.state,
        str(one.connections),
        str(one.in_flight),
        str(one.requests),
        f"{one.heartbeat_age_s:.1f} s",
        *_use(one.usage),
    )


def _use(usage: Usage) -> tuple[str, str, str]:
    cpu = "-" if usage.cpu_percent is None else f"{usage.cpu_percent:.0f} %"
    return _memory(usage.memory_rss), _memory(usage.memory_pss), cpu


def _memory(octets: int | None) -> str:
    return "-" if octets is None else f"{octets / _MIB:.0f} MiB"


_NOTABLE_USES = frozenset(("slow_start", "panic", "standby", "other_zone"))
"""What the other columns do not say."""


def _backend(one: BackendStatus) -> tuple[str, ...]:
    health = f"{one.health} (forced)" if one.health_forced else one.health
    if one.duty != "serving":
        health += f", {one.duty}"
    if one.breaker != "closed":
        health += f", breaker {one.breaker.replace('_', ' ')}"
    if one.ejected_s:
        health += f", ejected for {_span(one.ejected_s)}"
    if one.use in _NOTABLE_USES:
        health += f", {one.use.replace('_', ' ')}"
    reduced = f"{one.effective_weight} of " if one.effective_weight != one.weight else ""
    timed = sum(bucket.count for bucket in one.latency)
    return (
        one.name or "-",
        one.address,
        health,
        f"{reduced}{one.weight}",
        str(one.connections),
        str(one.in_flight),
        str(one.queued),
        str(one.requests),
        str(one.failures),
        str(one.retries),
        f"{one.backend_time_us / timed / 1000:.1f} ms" if timed else "-",
    )


def _ailment(one: BackendStatus) -> str:
    """Say what probes found wrong with a backend; empty: nothing, or an operator knows better."""
    if one.health not in _AILING or one.health_forced or not one.health_reason:
        return ""
    since = "" if one.health_for_s is None else f" for {_span(one.health_for_s)}"
    return f"{one.name or one.address}: {one.health}{since}: {one.health_reason}"


def _align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Set columns below each other, with what has digits to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    to_right = [_is_number(column) for column in zip(*rows, strict=True)] or [False] * len(header)
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_right, strict=True)
        )
        for line in (header, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _is_number(column: Sequence[str]) -> bool:
    return all(cell == "-" or cell[0].isdigit() for cell in column) and set(column) != {"-"}


def _span(seconds: float) -> str:
    """Word a duration in its two greatest units."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
