"""Which limits of a configuration are kept over all workers, and what they are called.

The name is what tells a limit from others in shared memory, also over reloads.
"""

from spooky.config.model import Backend, Config, Upstream

INSTANCE = "instance"


def upstream_limit(upstream: Upstream) -> str:
    """Name the limit of an upstream."""
    return f"upstream {upstream.name}"


def backend_limit(upstream: Upstream, backend: Backend) -> str:
    """Name the limits of a backend, which each upstream that it is in has of its own."""
    return f"backend {upstream.name} {backend.identity}"


def rate_limits(config: Config) -> list[str]:
    """List the names of all rate limits."""
    routes = [route for upstream in config.upstream for route in upstream.routes]
    lists = (
        config.rate_limits,
        *(upstream.rate_limits for upstream in config.upstream),
        *(route.rate_limits for route in (*routes, *config.routes)),
    )
    return [limit.name for limits in lists for limit in limits]


def shared_limits(config: Config) -> dict[str, int]:
    """List them by name with what may be in flight, 0 where only something else is limited."""
    found = {}
    if config.admission.max_in_flight:
        found[INSTANCE] = config.admission.max_in_flight
    for upstream in config.upstream:
        if upstream.admission.max_in_flight:
            found[upstream_limit(upstream)] = upstream.admission.max_in_flight
        limits = upstream.backend_limits
        if limits.max_in_flight or limits.max_queued:
            for backend in upstream.backends:
                found[backend_limit(upstream, backend)] = limits.max_in_flight
    return found
