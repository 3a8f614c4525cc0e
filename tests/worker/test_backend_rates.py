"""Rate limits of single backends: who is asked instead, and when none is.

All of it with the balancers, the limits and the shared memory of a worker.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from spooky.config.rate_limits import Rate, RateLimit
from spooky.errors import Kind
from spooky.shm.rate_counts import RateCount
from spooky.shm.segment import SharedMemory
from spooky.worker.call import Refusal
from spooky.worker.meters import BucketMeter
from spooky.worker.rate_limits import RateLimits
from spooky.worker.upstreams import make_arrangement, make_upstreams
from tests.worker.rate_probe import HOUR, call, configuration, limited, picks, tables
from tests.worker.test_upstreams import target_at

LIMIT = RateLimit("backends", HOUR, key="backend")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("kind", ["round-robin", "random", "least-connections", "power-of-two"])
def test_another_backend_is_asked_until_none_is_left(
    kind: str, loop: asyncio.AbstractEventLoop
) -> None:
    memory = SharedMemory.create(16)
    (group, _), _ = limited(configuration(3, kind, rate_limits=(LIMIT,)), loop, memory)
    if group.load is not None:
        group.load._cells = [memoryview(bytearray(512)).cast("Q") for _ in range(3)]
    assert picks(group, 12) == {"b0": 3, "b1": 3, "b2": 3, None: 3}
    assert memory.rate_counts.all() == [RateCount("backends", 9, 0, 0)]


def test_a_request_that_finds_none_is_told_when_the_next_is_free(
    loop: asyncio.AbstractEventLoop,
) -> None:
    (group, _), rates = limited(configuration(2, rate_limits=(LIMIT,)), loop)
    picks(group, 6)
    refused = call(group)
    assert group.pick(refused, []) is None
    refusal = group.refusal(refused, "nobody")
    assert refusal == Refusal(Kind.RATE_LIMITED, "backends, for 1200 s")
    assert (b"retry-after", b"1200") in refused.response_fields
    assert rates.tally.refused == 1


def test_of_several_limits_the_one_that_is_over_first_is_told(
    loop: asyncio.AbstractEventLoop,
) -> None:
    minute = RateLimit("minute", Rate(1, "m"), key="backend", path_prefix="/one/x")
    (group, _), _ = limited(configuration(2, rate_limits=(LIMIT, minute)), loop)
    assert group.pick(call(group, b"/one/x"), [target_at(group, 1)]) is not None
    for _ in range(3):
        assert group.pick(call(group), [target_at(group, 0)]) is not None
    for _ in range(4):
        request = call(group, b"/one/x")
        assert group.pick(request, []) is None
        assert group.refusal(request, "nobody").detail == "minute, for 60 s"


def test_a_backend_that_is_used_up_is_not_looked_at_again(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    (group, _), _ = limited(configuration(2, rate_limits=(LIMIT,)), loop)
    picks(group, 7)
    monkeypatch.setattr(BucketMeter, "judge", None)
    assert picks(group, 3) == {None: 3}


def test_what_is_out_of_service_is_not_the_limits_doing(loop: asyncio.AbstractEventLoop) -> None:
    (group, _), rates = limited(configuration(2, rate_limits=(LIMIT,)), loop)
    group.reweigh([1, 0])
    assert picks(group, 5) == {"b0": 3, None: 2}
    group.reweigh([0, 0])
    request = call(group)
    assert group.pick(request, []) is None
    assert group.refusal(request, "nobody") == Refusal(Kind.NO_BACKEND, "nobody")
    assert rates.tally.refused == 0


def test_a_backend_that_was_tried_is_counted_and_one_that_is_left_out_is_not(
    loop: asyncio.AbstractEventLoop,
) -> None:
    (group, _), _ = limited(configuration(2, rate_limits=(LIMIT,)), loop)
    found = [group.pick(call(group), [target_at(group, 0)]) for _ in range(3)]
    assert {target.id for target in found if target is not None} == {"b1"}
    assert group.pick(call(group), [target_at(group, 0)]) is None
    assert picks(group, 4) == {"b0": 3, None: 1}


def test_a_common_limit_counts_a_backend_once_however_many_upstreams_it_is_in(
    loop: asyncio.AbstractEventLoop,
) -> None:
    groups, _ = limited(configuration(1, rate_limits=(LIMIT,)), loop)
    assert picks(groups[0], 2) == {"b0": 2}
    assert picks(groups[1], 2) == {"b0": 1, None: 1}


def test_a_limit_of_an_upstream_is_its_alone(loop: asyncio.AbstractEventLoop) -> None:
    config = configuration(1)
    first, second = config.upstream
    config = replace(config, upstream=(replace(first, rate_limits=(LIMIT,)), second))
    groups, _ = limited(config, loop)
    assert picks(groups[0], 5) == {"b0": 3, None: 2}
    assert picks(groups[1], 5) == {"b0": 5}


def test_a_worker_sees_what_another_one_sent(loop: asyncio.AbstractEventLoop) -> None:
    memory = SharedMemory.create(16)
    config = configuration(1, rate_limits=(LIMIT,))
    (here, _), _ = limited(config, loop, memory)
    memory.expect(1)
    there = make_upstreams(config, {}, loop, lambda: 0.5).groups
    RateLimits(config, tables(config, memory, 1), loop).put_before(there)
    assert picks(here, 2) == {"b0": 2}
    assert picks(there[0], 2) == {"b0": 1, None: 1}


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (replace(LIMIT, path_prefix="/one/x"), {"b0": 5}),
        (replace(LIMIT, exempt=(ip_network("192.0.2.0/24"),)), {"b0": 5}),
        (replace(LIMIT, dry_run=True), {"b0": 5}),
        (replace(LIMIT, path_prefix="/one"), {"b0": 3, None: 2}),
        (replace(LIMIT, exempt=(ip_network("10.0.0.0/8"),)), {"b0": 3, None: 2}),
    ],
)
def test_which_requests_it_is_for(
    limit: RateLimit, found: dict[str | None, int], loop: asyncio.AbstractEventLoop
) -> None:
    (group, _), rates = limited(configuration(1, rate_limits=(limit,)), loop)
    assert picks(group, 5) == found
    assert rates.tally.spared == (2 if limit.dry_run else 0)


def test_a_backend_is_free_again_when_its_limit_says_so(loop: asyncio.AbstractEventLoop) -> None:
    fast = replace(LIMIT, rate=Rate(50, "s"), burst=1)
    (group, _), _ = limited(configuration(1, rate_limits=(fast,)), loop)
    assert picks(group, 2) == {"b0": 1, None: 1}
    deadline = time.monotonic() + 5
    while not picks(group, 1)["b0"]:
        assert time.monotonic() < deadline


def test_limits_hold_for_backends_that_come(loop: asyncio.AbstractEventLoop) -> None:
    (group, _), _ = limited(configuration(2, rate_limits=(LIMIT,)), loop)
    assert picks(group, 7) == {"b0": 3, "b1": 3, None: 1}
    upstream = configuration(3).upstream[0]
    pools = [group.pools[0], group.pools[1], group.pools[1]]
    group.arrange(make_arrangement(upstream, upstream.backends, pools, lambda: 0.5))
    assert picks(group, 5) == {"b2": 3, None: 2}, "the others stay used up"
