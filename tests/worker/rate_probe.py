"""Upstreams with rate limits, as a worker makes them of a configuration."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

from spooky.config.load import load_text
from spooky.config.model import Config
from spooky.config.rate_limits import Rate
from spooky.config.shared_limits import rate_limits
from spooky.protocol.messages import Path, RequestHead
from spooky.shm.segment import SharedMemory
from spooky.worker.call import Call
from spooky.worker.rate_limits import RateLimits, Tables
from spooky.worker.upstreams import UpstreamGroup, make_upstreams
from tests.config.broken import LISTEN

HOUR = Rate(3, "h")


def configuration(backends: int, kind: str = "round-robin", **more: Any) -> Config:
    listed = ", ".join(f"{{id: b{n}, address: '127.0.0.1:{n + 1}'}}" for n in range(backends))
    text = LISTEN + "upstream:\n"
    for name in ("one", "two"):
        text += f"  {name}: {{route: {{path_prefix: /{name}}}, backends: [{listed}], "
        text += f"load_balancing: {{type: {kind}}}}}\n"
    return replace(load_text(text).config, **more)


def tables(config: Config, memory: SharedMemory, slot: int) -> Tables:
    """Make the tables of the worker of a slot."""
    return Tables(memory, slot, b"secret", memory.rate_counts.assign(rate_limits(config)))


def limited(
    config: Config, loop: asyncio.AbstractEventLoop, memory: SharedMemory | None = None
) -> tuple[list[UpstreamGroup], RateLimits]:
    """Make a configuration's upstreams, with their limits."""
    memory = memory or SharedMemory.create(16)
    memory.expect(0)
    groups = make_upstreams(config, {}, loop, lambda: 0.5).groups
    rates = RateLimits(config, tables(config, memory, 0), loop)
    rates.put_before(groups)
    return groups, rates


def call(group: UpstreamGroup, path: bytes = b"/one", peer: str = "192.0.2.1") -> Call:
    head = RequestHead(0, b"GET", b"https", b"localhost", path, [], True)
    return Call(head, "localhost", Path((peer, 4433)), b"cid", group)


def picks(group: UpstreamGroup, count: int, path: bytes = b"/one") -> Counter[str | None]:
    targets = [group.pick(call(group, path), []) for _ in range(count)]
    return Counter(None if target is None else target.id for target in targets)
