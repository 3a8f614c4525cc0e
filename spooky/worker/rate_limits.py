"""The rate limits of a worker, made from its configuration and put before its upstreams.

A limit is told from others by all that its counts depend on: one that a reload leaves as it was
goes on where it stood, one that was changed begins anew.
"""

import asyncio
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b

from spooky.config.model import Config
from spooky.config.rate_limits import LEAKY_BUCKET, SLIDING_WINDOW, RateLimit
from spooky.policy.rate.leaky_bucket import LeakyBucket
from spooky.policy.rate.sliding_window import SlidingWindow
from spooky.policy.rate.token_bucket import TokenBucket
from spooky.shm.rates import RateTable, private_table
from spooky.shm.segment import SharedMemory
from spooky.worker.meters import BucketMeter, Meter, Rows, WindowMeter
from spooky.worker.rate_gate import Limit, RateGate, Tally
from spooky.worker.upstreams import UpstreamGroup


class Tables:
    """Where counts are kept: what all workers share, and what this one has for itself."""

    def __init__(self, memory: SharedMemory, slot: int, secret: bytes) -> None:
        """`secret` is the same in all workers, and known to nobody else."""
        self._memory = memory
        self._slot = slot
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
        return Rows(table, slot, self._secret, f"{identity} {settings.capacity}")


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


def put_rate_limits(
    config: Config,
    groups: Iterable[UpstreamGroup],
    tables: Tables,
    loop: asyncio.AbstractEventLoop,
) -> Tally:
    """Put a gate before each group that has limits; return what they will have done."""
    tally = Tally()
    common = [Limit(settings, make_meter(settings, tables)) for settings in config.rate_limits]
    own = {upstream.name: upstream.rate_limits for upstream in config.upstream}
    for group in groups:
        limits = [
            Limit(settings, make_meter(settings, tables)) for settings in own.get(group.name, ())
        ]
        if common or limits:
            group.gates = (RateGate([*common, *limits], tally, loop), *group.gates)
    return tally
