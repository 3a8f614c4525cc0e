"""The rate limits of a worker, made from its configuration and put before its upstreams.

A limit is told from others by all that its counts depend on: one that a reload leaves as it was
goes on where it stood, one that was changed begins anew.
"""

import asyncio
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import blake2b

from spooky.config.model import Config
from spooky.config.rate_limits import LEAKY_BUCKET, SLIDING_WINDOW, RateLimit
from spooky.config.routes import Route
from spooky.policy.rate.leaky_bucket import LeakyBucket
from spooky.policy.rate.sliding_window import SlidingWindow
from spooky.policy.rate.token_bucket import TokenBucket
from spooky.shm.rate_counts import RateCounter
from spooky.shm.rates import RateTable, private_table
from spooky.shm.segment import SharedMemory
from spooky.worker.backend_rates import BackendRates
from spooky.worker.call import Gate
from spooky.worker.meters import BUCKET, WINDOW, BucketMeter, Meter, WindowMeter
from spooky.worker.rate_gate import Limit, RateGate, Tally
from spooky.worker.rate_rows import Rows
from spooky.worker.upstreams import UpstreamGroup


class Tables:
    """Where counts are kept: what all workers share, and what this one has for itself."""

    def __init__(
        self, memory: SharedMemory, slot: int, secret: bytes, counts: Mapping[str, int]
    ) -> None:
        """`secret` is the same in all workers, and known to nobody else.

        `counts` says where shared memory has the counts of each limit.
        """
        self._memory = memory
        self._slot = slot
        self._counts = counts
        self._secret = blake2b(secret, digest_size=32, person=b"rate limits").digest()
        self._private = cache(lambda _: private_table(memory.buckets.rows))

    def rows(self, settings: RateLimit) -> Rows:
        """Find a limit its place."""
        windows = settings.algorithm == SLIDING_WINDOW
        table: RateTable
        if settings.scope == "instance":
            table = self._memory.windows if windows else self._memory.buckets
            slot = self._slot
        else:
            table, slot = self._private(windows), 0
        identity = f"{settings.name} {settings.key} {settings.algorithm} {settings.rate}"
        identity = f"{identity} {settings.capacity}"
        return Rows(table, slot, self._secret, identity, WINDOW if windows else BUCKET)

    def counter(self, settings: RateLimit) -> RateCounter:
        """Find the place where a limit's requests are counted."""
        return self._memory.rate_counts.counter(self._counts[settings.name], self._slot)


def make_meter(settings: RateLimit, tables: Tables) -> Meter:
    """Make a limit's algorithm, with its place to count in."""
    rows, rate = tables.rows(settings), settings.rate
    if settings.algorithm == SLIDING_WINDOW:
        return WindowMeter(SlidingWindow(rate.count, rate.window_ns), rows)
    if settings.algorithm == LEAKY_BUCKET:
        burst = settings.burst or 0
        delay = burst if settings.delay is None else settings.delay
        return BucketMeter(LeakyBucket(rate.interval_ns, burst, delay), rows)
    return BucketMeter(TokenBucket(rate.interval_ns, settings.capacity), rows)


class RateLimits:
    """All limits of a configuration, and what they did."""

    def __init__(self, config: Config, tables: Tables, loop: asyncio.AbstractEventLoop) -> None:
        self.tally = Tally()
        self._config = config
        self._tables = tables
        self._loop = loop
        self._common = self._make(config.rate_limits)
        self._own: dict[str, tuple[list[Limit], tuple[Gate, ...]]] = {}
        """By upstream: its limits with the common ones, and the gates that come after theirs."""

    def put_before(self, groups: Iterable[UpstreamGroup]) -> None:
        """Put a gate before each upstream that has limits, and bounds on its backends' rates."""
        settings = {upstream.name: upstream.rate_limits for upstream in self._config.upstream}
        for group in groups:
            limits = [*self._common, *self._make(settings.get(group.name, ()))]
            of_requests = [limit for limit in limits if not limit.is_of_backends]
            of_backends = [limit for limit in limits if limit.is_of_backends]
            self._own[group.name] = of_requests, group.gates
            if of_requests:
                group.gates = self._gates(of_requests, group.gates)
            if of_backends:
                identities = [backend.identity for backend in group.backends]
                group.rates = BackendRates(of_backends, identities, self.tally)

    def gates_of(self, group: UpstreamGroup, route: Route) -> tuple[Gate, ...]:
        """Make the gates of a route with limits of its own, of which one is that of all limits."""
        limits, others = self._own[group.name]
        return self._gates([*limits, *self._make(route.rate_limits)], others)

    def _make(self, every: Iterable[RateLimit]) -> list[Limit]:
        tables = self._tables
        return [Limit(one, make_meter(one, tables), tables.counter(one)) for one in every]

    def _gates(self, limits: list[Limit], others: tuple[Gate, ...]) -> tuple[Gate, ...]:
        return (RateGate(limits, self.tally, self._loop), *others)
