"""Which backends are probed, and how: the configuration as probes to be made.

Makes one `Checkup` for each backend of whatever upstreams that has a health check; the loader has
seen to it that they agree. It asks nobody and keeps no time.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from spooky.config.model import Backend, Config, HealthCheck, Upstream
from spooky.keeper.probe import Place, Probe, Target
from spooky.keeper.probe_command import CommandProbe
from spooky.keeper.probe_grpc import GrpcProbe
from spooky.keeper.probe_http import HttpProbe
from spooky.keeper.probe_tcp import TcpProbe, TlsProbe
from spooky.policy.health import Pace


@dataclass(frozen=True, slots=True)
class Checkup:
    """What is done, over and over, to know how one backend is."""

    name: str
    """For the log: `api/b1 10.0.0.1:8080`, with all upstreams that it is in."""
    place: Place
    """Where the probe goes, to be kept up to date where it is a name."""
    probe: Probe
    pace: Pace
    timeout: float
    is_costly: bool
    """It starts a process, which is not to be done for too many backends at once."""


def plan_checkups(
    config: Config, contexts: Mapping[str, ssl.SSLContext]
) -> dict[str, Checkup | None]:
    """Say for each backend, by its identity, how it is probed; None: not at all.

    `contexts` has a TLS context for each upstream with `https://` backends.
    """
    names: dict[str, list[str]] = {}
    owners: dict[str, tuple[Upstream, Backend]] = {}
    for upstream in config.upstream:
        for backend in upstream.backends:
            name = f"{upstream.name}/{backend.id}"
            names.setdefault(backend.identity, []).append(name)
            first = owners.setdefault(backend.identity, (upstream, backend))
            if first[0].health_check is None:
                owners[backend.identity] = upstream, backend
    return {
        identity: _make(
            ", ".join(names[identity]), upstream, backend, contexts, config.engine.upstream
        )
        for identity, (upstream, backend) in owners.items()
    }


def _make(
    name: str,
    upstream: Upstream,
    backend: Backend,
    contexts: Mapping[str, ssl.SSLContext],
    engine: str,
) -> Checkup | None:
    check = upstream.health_check
    if check is None:
        return None
    target = Target(
        place=Place(backend.host),
        port=check.port or backend.port,
        tls=contexts[upstream.name] if backend.tls else None,
        server_name=upstream.tls.server_name,
        engine=engine,
    )
    return Checkup(
        name=name if name.endswith(backend.address) else f"{name} {backend.address}",
        place=target.place,
        probe=_probe(check, target, backend),
        pace=Pace(
            interval=check.interval,
            failure_threshold=check.failure_threshold,
            success_threshold=check.success_threshold,
            cooldown=check.cooldown,
            max_cooldown=check.max_cooldown,
            jitter=check.jitter,
        ),
        timeout=check.timeout,
        is_costly=check.type == "command",
    )


def _probe(check: HealthCheck, target: Target, backend: Backend) -> Probe:
    match check.type:
        case "tcp":
            return TcpProbe(target)
        case "tls":
            return TlsProbe(target)
        case "command":
            return CommandProbe(check.command, backend.host, backend.port, backend.id)
        case "grpc":
            return GrpcProbe(target, _authority(check, target), check.service or "")
    return HttpProbe(
        target=target,
        method=check.method,
        path=check.path,
        authority=_authority(check, target),
        statuses=check.status,
        pattern=_pattern(check),
        body_bytes=check.body_bytes,
    )


def _authority(check: HealthCheck, target: Target) -> str:
    host = target.place.host
    return check.host or f"{f'[{host}]' if ':' in host else host}:{target.port}"


def _pattern(check: HealthCheck) -> re.Pattern[bytes] | None:
    if check.body is not None:
        return re.compile(re.escape(check.body.encode()))
    return None if check.body_regex is None else re.compile(check.body_regex.encode())
