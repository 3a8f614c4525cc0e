"""This worker's picture of the upstreams, and by which backend each serves a request.

Made once from the configuration; it owns the pools and the balancers' state, and does no IO of
its own.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from spooky.config.model import Backend, Config, Timeouts, Upstream
from spooky.policy.balance import Balancer, make_balancer
from spooky.policy.eligibility import Rules
from spooky.worker.call import Call, Gate
from spooky.worker.connect import Endpoint
from spooky.worker.pool import Pool
from spooky.worker.repetition import Repetition, make_repetition
from spooky.worker.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Target:
    """A backend that was picked; `index` is its place in the upstream."""

    index: int
    id: str
    scheme: bytes
    pool: Pool


class UpstreamGroup:
    """An upstream: its backends' pools, the balancer over them, the gates before them."""

    def __init__(
        self,
        upstream: Upstream,
        pools: list[Pool],
        balance: Callable[[Sequence[int]], Balancer],
        repetition: Repetition,
    ) -> None:
        """`balance` makes a balancer for the backends' effective weights."""
        self.name = upstream.name
        self.timeouts: Timeouts = upstream.timeouts
        self.pools = pools
        self.backends = upstream.backends
        self.gates: tuple[Gate, ...] = ()
        self.repetition = repetition
        self.rules = Rules(upstream.slow_start, upstream.panic_threshold / 100)
        self.sessions: Sessions | None = None
        """None: each request may go anywhere."""
        self._balance = balance
        self._balancer = balance([backend.weight for backend in upstream.backends])
        self._targets = [
            Target(index, backend.id, b"https" if backend.tls else b"http", pool)
            for index, (backend, pool) in enumerate(zip(upstream.backends, pools, strict=True))
        ]

    def pick(self, call: Call, exclude: list[int]) -> Target | None:
        """Pick a backend, none of those in `exclude`; None if there is none."""
        if self.sessions is not None and call.session is not None:
            place = self.sessions.held_by(call.session, exclude)
            if place is not None:
                return self._targets[place]
            if not self.sessions.may_move:
                return None
        index = self._balancer.pick(exclude)
        return None if index is None else self._targets[index]

    def reweigh(self, weights: Sequence[int]) -> None:
        """Pick by other weights from now on, one for each backend; 0: not at all."""
        self._balancer = self._balance(weights)


class Upstreams:
    """All upstreams of the configuration."""

    def __init__(self, groups: list[tuple[Upstream, UpstreamGroup]]) -> None:
        self._upstreams = groups
        self.groups = [group for _, group in groups]

    def pools(self) -> Iterator[tuple[str, Backend, Pool]]:
        """List every backend with its upstream's name and its pool."""
        for upstream, group in self._upstreams:
            for backend, pool in zip(upstream.backends, group.pools, strict=True):
                yield upstream.name, backend, pool

    def shortest_timeout(self) -> float:
        """Return the shortest of all timeouts that are in force, seconds."""
        found = [
            timeout
            for group in self.groups
            for timeout in (
                group.timeouts.response_header,
                group.timeouts.idle,
                group.timeouts.total,
                group.repetition.policy.per_try_timeout,
            )
            if timeout
        ]
        return min(found, default=60.0)

    async def close(self) -> None:
        """Close all connections to backends, in the time that the slowest of them takes."""
        await asyncio.gather(*(pool.close() for group in self.groups for pool in group.pools))


def make_upstreams(
    config: Config,
    contexts: Mapping[str, ssl.SSLContext],
    loop: asyncio.AbstractEventLoop,
    rand: Callable[[], float],
) -> Upstreams:
    """Make the pools and balancers; `contexts` has a TLS context for each upstream with TLS."""
    return Upstreams(
        [
            (
                upstream,
                _make_group(upstream, contexts.get(upstream.name), config, loop, rand),
            )
            for upstream in config.upstream
        ]
    )


def _make_group(
    upstream: Upstream,
    context: ssl.SSLContext | None,
    config: Config,
    loop: asyncio.AbstractEventLoop,
    rand: Callable[[], float],
) -> UpstreamGroup:
    pools = [
        Pool(
            Endpoint(
                backend,
                context if backend.tls else None,
                upstream.tls.server_name,
                upstream.name,
            ),
            config.limits,
            upstream.timeouts,
            loop,
        )
        for backend in upstream.backends
    ]
    kind = upstream.load_balancing.type
    repetition = make_repetition(upstream, config.worker_processes, loop.time(), rand)
    return UpstreamGroup(
        upstream, pools, lambda weights: make_balancer(kind, weights, rand), repetition
    )
