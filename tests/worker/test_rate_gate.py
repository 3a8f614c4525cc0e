"""The gate of the rate limits: who counts for what, all or nothing, and waiting for one's turn."""

import asyncio
import logging
from dataclasses import replace
from ipaddress import ip_network
from typing import Any, cast

import pytest

from spooky.config.rate_limits import LEAKY_BUCKET, SLIDING_WINDOW, Rate, RateLimit
from spooky.errors import Kind
from spooky.protocol.messages import Path, RequestHead
from spooky.shm.rate_counts import RateCount
from spooky.shm.segment import SharedMemory
from spooky.worker.call import Call, Hold, Refusal
from spooky.worker.rate_gate import Limit, RateGate, Tally, key_function, policy_of
from spooky.worker.rate_limits import Tables, make_meter

HOUR = Rate(3, "h")


class Group:
    name = "api"


def call(
    path: bytes = b"/", peer: str = "192.0.2.1", connection: bytes = b"cid", **fields: bytes
) -> Call:
    headers = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    head = RequestHead(0, b"GET", b"https", b"localhost", path, headers, True)
    return Call(head, "localhost", Path((peer, 4433)), connection, cast("Any", Group()))


def gate(
    *limits: RateLimit,
    loop: asyncio.AbstractEventLoop | None = None,
    memory: SharedMemory | None = None,
    slot: int = 0,
) -> RateGate:
    memory = memory or SharedMemory.create(16)
    memory.expect(slot)
    rows = memory.rate_counts.assign(limit.name for limit in limits)
    tables = Tables(memory, slot, b"secret", rows)
    made = [Limit(limit, make_meter(limit, tables), tables.counter(limit)) for limit in limits]
    return RateGate(made, Tally(), cast("Any", loop))


class Held:
    """An exchange that notes that it may go on."""

    def __init__(self) -> None:
        self.proceeded = asyncio.Event()

    def proceed(self) -> None:
        self.proceeded.set()

    def refuse_at_gate(self, refusal: Refusal) -> None:
        raise AssertionError(refusal)


def passes(one: RateGate, request: Call) -> bool:
    return one.enter(request, Held()) is None


@pytest.mark.parametrize(
    ("settings", "one", "other", "same"),
    [
        ({"key": "client_ip"}, call(peer="::1"), call(peer="::2"), True),
        ({"key": "client_ip"}, call(), call(peer="192.0.2.2"), False),
        ({"key": "client_ip", "ipv6_prefix": 128}, call(peer="::1"), call(peer="::2"), False),
        ({"key": "cid"}, call(), call(peer="192.0.2.2"), True),
        ({"key": "cid"}, call(), call(connection=b"other"), False),
        ({"key": "header:x-key"}, call(x_key=b"a"), call(x_key=b"a", peer="::1"), True),
        ({"key": "header:x-key"}, call(x_key=b"a"), call(x_key=b"b"), False),
        ({"key": "query:user"}, call(b"/?user=1"), call(b"/x?user=1"), True),
        ({"key": "cookie:user"}, call(cookie=b"user=1"), call(cookie=b"user=2"), False),
        ({"key": "authority"}, call(), call(b"/x", peer="192.0.2.2"), True),
        ({"key": "path"}, call(b"/a?x"), call(b"/a"), True),
        ({"key": "upstream"}, call(), call(peer="192.0.2.2"), True),
        ({"key": "all"}, call(), call(peer="192.0.2.2"), True),
    ],
)
def test_what_is_counted_apart(
    settings: dict[str, Any], one: Call, other: Call, same: bool
) -> None:
    key_of = key_function(RateLimit("x", HOUR, **settings))
    assert key_of(one) is not None
    assert (key_of(one) == key_of(other)) is same


@pytest.mark.parametrize(
    ("settings", "request_", "limited"),
    [
        ({"key": "header:x-key"}, call(), False),
        ({"key": "header:X-Key"}, call(x_key=b"a"), True),
        ({"key": "cookie:user"}, call(), False),
        ({"key": "query:user"}, call(), False),
        ({"path_prefix": "/login"}, call(b"/login"), True),
        ({"path_prefix": "/login"}, call(b"/login?next=/"), True),
        ({"path_prefix": "/login"}, call(b"/a/../%6cogin/x"), True),
        ({"path_prefix": "/login"}, call(b"/logins"), False),
        ({"path_prefix": "/login/"}, call(b"/login"), False),
        ({"exempt": (ip_network("192.0.2.0/24"),)}, call(), False),
        ({"exempt": (ip_network("192.0.2.0/24"),), "key": "all"}, call(), False),
        ({"exempt": (ip_network("192.0.2.0/24"),), "key": "all"}, call(peer="::1"), True),
    ],
)
def test_which_requests_it_is_for(settings: dict[str, Any], request_: Call, limited: bool) -> None:
    assert (key_function(RateLimit("x", HOUR, **settings))(request_) is not None) is limited


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"rate": Rate(5, "m")}, b'"x";q=5;w=60'),
        ({"rate": Rate(100, "s"), "burst": 250}, b'"x";q=250;w=3'),
        ({"rate": Rate(10, "s"), "algorithm": LEAKY_BUCKET, "burst": 4}, b'"x";q=5;w=1'),
        ({"rate": Rate(1000, "h"), "algorithm": SLIDING_WINDOW}, b'"x";q=1000;w=3600'),
    ],
)
def test_what_a_client_is_told_of_a_limit(settings: dict[str, Any], policy: bytes) -> None:
    assert policy_of(RateLimit("x", **settings)) == policy


def test_who_is_refused_by_one_limit_uses_nothing_of_the_others() -> None:
    small = RateLimit("small", Rate(1, "h"), key="client_ip")
    one = gate(RateLimit("large", HOUR, key="all"), small)
    assert passes(one, call())
    assert not any(passes(one, call()) for _ in range(10))
    assert passes(one, call(peer="192.0.2.2"))
    assert passes(one, call(peer="192.0.2.3"))
    assert not passes(one, call(peer="192.0.2.4"))


def test_a_refusal_names_the_limit_and_says_when_to_come_again() -> None:
    one = gate(RateLimit("a", HOUR), RateLimit("b", Rate(1, "m"), headers="always"))
    first = call()
    assert passes(one, first)
    assert first.response_fields == [
        (b"ratelimit-policy", b'"b";q=1;w=60'),
        (b"ratelimit", b'"b";r=0;t=60'),
    ]
    refused = call()
    verdict = one.enter(refused, Held())
    assert verdict == Refusal(Kind.RATE_LIMITED, "b, for 60 s")
    assert refused.response_fields == [
        (b"retry-after", b"60"),
        (b"ratelimit-policy", b'"b";q=1;w=60'),
        (b"ratelimit", b'"b";r=0;t=60'),
    ]


def test_several_limits_tell_of_themselves_in_one_list() -> None:
    one = gate(
        RateLimit("a", HOUR, headers="always"),
        RateLimit("b", Rate(9, "m"), algorithm=SLIDING_WINDOW, headers="always"),
    )
    request = call()
    assert passes(one, request)
    fields = dict(request.response_fields)
    assert fields[b"ratelimit-policy"] == b'"a";q=3;w=3600, "b";q=9;w=60'
    assert fields[b"ratelimit"].startswith(b'"a";r=2;t=2400, "b";r=8;t=')


def test_limits_of_one_worker_are_no_business_of_another() -> None:
    memory = SharedMemory.create(16)
    memory.expect(1)
    passed = {"worker": 0, "instance": 0}
    for scope in passed:
        limit = RateLimit("x", HOUR, scope=scope)
        for slot in range(2):
            one = gate(limit, memory=memory, slot=slot)
            passed[scope] += sum(passes(one, call()) for _ in range(5))
    assert passed == {"worker": 6, "instance": 3}


def test_a_changed_limit_begins_anew_and_an_unchanged_one_does_not() -> None:
    memory = SharedMemory.create(16)
    passed = []
    for rate in (HOUR, HOUR, Rate(4, "h")):
        one = gate(RateLimit("x", rate), memory=memory)
        passed.append(sum(passes(one, call()) for _ in range(9)))
    assert passed == [3, 0, 4]


def test_each_limit_counts_what_became_of_its_requests() -> None:
    memory = SharedMemory.create(16)
    small = RateLimit("small", Rate(1, "h"), path_prefix="/small")
    tried = RateLimit("tried", Rate(2, "h"), dry_run=True)
    one = gate(RateLimit("large", HOUR), small, tried, memory=memory)
    found = [passes(one, call(path)) for path in (b"/small", b"/small", b"/", b"/", b"/", b"/")]
    assert found == [True, False, True, True, False, False]
    assert memory.rate_counts.all() == [
        RateCount("large", 3, 2, 0),
        RateCount("small", 1, 1, 0),
        RateCount("tried", 2, 0, 1),
    ]


def test_a_dry_run_counts_and_says_so_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    one = gate(RateLimit("x", HOUR, dry_run=True))
    with caplog.at_level(logging.INFO):
        assert all(passes(one, call()) for _ in range(50))
    assert one._tally.spared == 47
    assert one._tally.refused == 0
    assert 1 <= len(caplog.records) <= 2


WAITING = RateLimit("x", Rate(20, "s"), algorithm=LEAKY_BUCKET, burst=3, delay=1)


def test_who_comes_early_goes_on_in_time() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        one = gate(WAITING, loop=loop)
        helds = [Held() for _ in range(5)]
        begin = loop.time()
        verdicts = [one.enter(call(), held) for held in helds]
        assert verdicts[:4] == [None, None, Hold.HELD, Hold.HELD]
        assert isinstance(verdicts[4], Refusal)
        async with asyncio.timeout(5):
            await helds[2].proceeded.wait()
            await helds[3].proceeded.wait()
        assert loop.time() - begin >= 0.095
        assert not one._held

    asyncio.run(run())


def test_who_leaves_is_forgotten() -> None:
    async def run() -> None:
        one = gate(WAITING, loop=asyncio.get_running_loop())
        requests = [call() for _ in range(4)]
        helds = [Held() for _ in requests]
        for request, held in zip(requests, helds, strict=True):
            one.enter(request, held)
        one.leave(requests[0])
        one.leave(requests[2])
        async with asyncio.timeout(5):
            await helds[3].proceeded.wait()
        assert not helds[2].proceeded.is_set()

    asyncio.run(run())


def test_delay_off_lets_nobody_wait() -> None:
    one = gate(replace(WAITING, delay=None))
    assert [passes(one, call()) for _ in range(5)] == [True] * 4 + [False]
