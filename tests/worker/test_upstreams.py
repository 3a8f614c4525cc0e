"""All upstreams together, with backends that do not let go."""

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import PingFrame, SettingsFrame, WindowUpdateFrame

from spooky.config.model import (
    Backend,
    LoadBalancing,
    Route,
    SessionPersistence,
    Timeouts,
    Upstream,
)
from spooky.errors import Kind
from spooky.policy.balance import Settings, make_balancer
from spooky.policy.balance.turns import RoundRobin
from spooky.policy.persistence import Session
from spooky.worker.connect import Endpoint
from spooky.worker.load import Load
from spooky.worker.pool import Pool
from spooky.worker.repetition import make_repetition
from spooky.worker.sessions import keep_sessions
from spooky.worker.trials import Quota
from spooky.worker.upstreams import Arrangement, Target, UpstreamGroup, Upstreams
from tests.worker.pool_probe import (
    LIMITS,
    TIMEOUTS,
    Exchange,
    both_loops,
    make_head,
    run,
    serving,
    until,
)

WIDE_OPEN = (
    SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}).serialize()
    + WindowUpdateFrame(0, 2**31 - 1 - 65_535).serialize()
)


CALL = cast("Any", None)


def make_group(
    name: str, ports: list[int], timeouts: Timeouts = TIMEOUTS
) -> tuple[Upstream, UpstreamGroup]:
    backends = tuple(Backend(f"b{port}", "127.0.0.1", port) for port in ports)
    upstream = Upstream(name, (Route(path_prefix=f"/{name}"),), backends)
    loop = asyncio.get_running_loop()
    pools = [Pool(Endpoint(backend), LIMITS, timeouts, loop) for backend in backends]
    return upstream, UpstreamGroup(
        upstream,
        Arrangement(
            backends, pools, RoundRobin([backend.weight for backend in backends], lambda: 0.5)
        ),
        make_repetition(upstream, 1, 0.0, lambda: 0.5),
    )


def target_at(group: UpstreamGroup, place: int) -> Target:
    backend = group.backends[place]
    return Target(place, backend.id, backend.identity, b"http", group.pools[place], None)


@both_loops
def test_backends_that_hang_are_closed_all_at_the_same_time(loop_name: str) -> None:
    async def test() -> None:
        async def reads_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(WIDE_OPEN)
            await asyncio.get_running_loop().create_future()

        async with AsyncExitStack() as stack:
            ports = [await stack.enter_async_context(serving(reads_nothing)) for _ in range(4)]
            groups = [make_group("a", ports[:2]), make_group("b", ports[2:])]
            upstreams = Upstreams(groups)
            pools = [pool for _, group in groups for pool in group.pools]
            upload = bytes(64 << 20)
            for pool in pools:
                exchange = Exchange(make_head(b"POST", "/", end=False), upload)
                exchange.start(pool)
                await until(
                    lambda pool=pool: any(one._paused for one in pool._connections),  # type: ignore[misc]
                    "a full socket",
                )
            begin = time.monotonic()
            await upstreams.close()
            # One waits a second for its peer to read, and four in a row would take four.
            assert 0.5 < time.monotonic() - begin < 2.5

    run(test(), loop_name)


async def says_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.get_running_loop().create_future()


def test_one_request_tries_a_backend_that_could_not_be_connected_to() -> None:
    """The others go elsewhere meanwhile, and are not held up by it."""

    async def test() -> None:
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(says_nothing))
            _, group = make_group("a", [port, 1], replace(TIMEOUTS, connect=0.2))
            silent = group.pools[0]

            def picked(places: list[int]) -> list[int]:
                tried = [target_at(group, place) for place in places]
                found = (group.pick(CALL, tried) for _ in range(10))
                return sorted({target.index for target in found if target is not None})

            first = Exchange(make_head(b"GET", "/"))
            first.start(silent)
            assert picked([]) == [0, 1], "nothing is known of it"
            assert await first.wait() is Kind.CONNECT_TIMEOUT
            assert picked([]) == [0, 1], "somebody has to try"
            second = Exchange(make_head(b"GET", "/"))
            second.start(silent)
            assert picked([]) == [1]
            assert picked([1]) == [0], "there is no other"
            assert await second.wait() is Kind.CONNECT_TIMEOUT
            await silent.close()

    run(test())


def test_a_backend_that_has_fallen_silent_is_passed_over_until_it_is_heard() -> None:
    """While it only is slow it answers the PING."""

    async def test() -> None:
        may_answer = asyncio.Event()

        async def falls_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(WIDE_OPEN)
            await may_answer.wait()
            writer.write(PingFrame(0, b"any sign").serialize())
            await asyncio.get_running_loop().create_future()

        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(falls_silent))
            _, group = make_group("a", [port, 1])
            silent = group.pools[0]

            def picked() -> set[int]:
                found = (group.pick(CALL, []) for _ in range(10))
                return {target.index for target in found if target is not None}

            Exchange(make_head(b"GET", "/")).start(silent)
            await until(lambda: silent.stats().connections == 1, "a connection")
            assert picked() == {0, 1}, "nothing is known of it"
            began = asyncio.get_running_loop().time()
            await until(lambda: silent.is_doubtful, "a suspicion")
            assert asyncio.get_running_loop().time() - began < 1.0
            assert picked() == {1}
            only = group.pick(CALL, [target_at(group, 1)])
            assert only is not None, "there is no other"
            assert only.index == 0
            may_answer.set()
            await until(lambda: not silent.is_doubtful, "a sign of life")
            assert picked() == {0, 1}
            await silent.close()

    run(test())


def test_a_backend_that_takes_long_to_connect_to_is_passed_over_meanwhile() -> None:
    async def test() -> None:
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(says_nothing))
            _, group = make_group("a", [port, 1])
            slow = group.pools[0]
            Exchange(make_head(b"GET", "/")).start(slow)
            assert not slow.is_doubtful
            await until(lambda: slow.is_doubtful, "a doubt")
            found = [group.pick(CALL, []) for _ in range(4)]
            assert {target and target.index for target in found} == {1}
            await slow.close()

    run(test())


def test_a_backend_that_can_be_connected_to_again_is_as_good_as_any() -> None:
    async def test() -> None:
        ready = asyncio.Event()

        async def greets_late(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not ready.is_set():
                writer.close()
                return
            writer.write(WIDE_OPEN)
            await asyncio.get_running_loop().create_future()

        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(greets_late))
            _, group = make_group("a", [port])
            pool = group.pools[0]
            first = Exchange(make_head(b"GET", "/"))
            first.start(pool)
            assert await first.wait() is Kind.CONNECT_FAILED
            ready.set()
            Exchange(make_head(b"GET", "/")).start(pool)
            assert pool.is_doubtful
            await until(lambda: pool.stats().connections == 1, "a connection")
            assert not pool.is_doubtful
            await pool.close()

    run(test())


def test_what_was_tried_is_known_by_who_it_is_when_places_have_changed() -> None:
    async def test() -> None:
        _, group = make_group("a", [1, 2, 3])
        one, two, three = (target_at(group, place) for place in range(3))
        _, other = make_group("a", [3, 4, 1])
        group.arrange(Arrangement(other.backends, other.pools, RoundRobin([1, 1, 1], lambda: 0.5)))

        def picked(*tried: Target) -> set[str]:
            found = (group.pick(CALL, tried) for _ in range(30))
            return {target.id for target in found if target is not None}

        assert picked() == {"b1", "b3", "b4"}
        assert picked(one) == {"b3", "b4"}
        assert picked(two) == {"b1", "b3", "b4"}, "it is not there any more"
        assert picked(one, two, three) == {"b4"}

    asyncio.run(test())


def test_sessions_follow_their_backend_when_places_have_changed() -> None:
    async def test() -> None:
        upstream, group = make_group("a", [1, 2])
        upstream = replace(upstream, session_persistence=SessionPersistence())
        keep_sessions([group], [upstream], bytes(32), {})
        assert group.sessions is not None
        session = Session(group.backends[1].identity)
        call = SimpleNamespace(session=session, response_fields=[])
        _, other = make_group("a", [2, 3, 1])
        group.arrange(Arrangement(other.backends, other.pools, RoundRobin([1, 1, 1], lambda: 0.5)))
        target = group.pick(cast("Any", call), [])
        assert target is not None
        assert (target.id, target.index) == ("b2", 0)
        group.sessions.bind(cast("Any", call), target.identity)
        assert call.response_fields == [], "it is the session's own"
        _, other = make_group("a", [3])
        group.arrange(Arrangement(other.backends, other.pools, RoundRobin([1], lambda: 0.5)))
        moved = group.pick(cast("Any", call), [])
        assert moved is not None
        assert moved.id == "b3"
        group.sessions.bind(cast("Any", call), target.identity)
        assert call.response_fields == [], "who answered was removed meanwhile"

    asyncio.run(test())


class Told(Pool):
    """A pool of which the test says how it stands."""

    in_doubt = False
    full = False

    @property
    def is_doubtful(self) -> bool:
        return self.in_doubt

    def has_room(self) -> bool:
        return not self.full


class Picks:
    """A balancer that counts what it is asked."""

    notice = None

    def __init__(self, kind: str, count: int) -> None:
        names = [f"http://b{place}" for place in range(count)]
        chosen = cast("Settings", LoadBalancing(kind))
        feed = Load(count, is_timed=False)
        self._balancer = make_balancer(chosen, names, [1] * count, feed, lambda: 0.5)
        self.asked = 0

    def pick(self, key: int = 0, exclude: Collection[int] = ()) -> int | None:
        self.asked += 1
        return self._balancer.pick(key, exclude)

    def reweigh(self, weights: Sequence[int]) -> None:
        self._balancer.reweigh(weights)


COUNT = 40


@pytest.mark.parametrize("kind", ["round-robin", "random", "rendezvous"])
@pytest.mark.parametrize(
    ("doubtful", "full", "spent", "found"),
    [
        pytest.param({*range(COUNT)} - {31}, set(), set(), {31}, id="one is sound"),
        pytest.param(set(), {*range(COUNT)} - {31}, set(), {31}, id="one has room"),
        pytest.param(set(), set(), {*range(COUNT)} - {31}, {31}, id="one has trials"),
        pytest.param({31}, {*range(COUNT)} - {31}, set(), {31}, id="one in doubt has room"),
        pytest.param({31, 5}, set(), {*range(COUNT)} - {31}, {31}, id="one in doubt has trials"),
        pytest.param({31}, {*range(COUNT)}, set(), {None}, id="all are full"),
        pytest.param({*range(COUNT)}, set(), set(), {*range(COUNT)}, id="all in doubt"),
    ],
)
def test_one_that_will_do_is_found_without_asking_for_each(
    kind: str, doubtful: set[int], full: set[int], spent: set[int], found: set[int | None]
) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        backends = tuple(Backend(f"b{place}", "127.0.0.1", 1 + place) for place in range(COUNT))
        pools: list[Pool] = []
        for place, backend in enumerate(backends):
            pool = Told(Endpoint(backend), LIMITS, TIMEOUTS, loop)
            pool.in_doubt, pool.full = place in doubtful, place in full
            pools.append(pool)
        upstream = Upstream("a", (Route(),), backends)
        repetition = make_repetition(upstream, 1, 0.0, lambda: 0.5)
        balancer = Picks(kind, COUNT)
        group = UpstreamGroup(upstream, Arrangement(backends, pools, balancer), repetition)
        group.is_bounded = True
        group.trials = {place: Quota() for place in (spent | {31} if spent else ())}
        if spent:
            group.trials[31].renew(1, 1)
        target = group.pick(CALL, [])
        assert (None if target is None else target.index) in found
        assert balancer.asked <= 12

    asyncio.run(test())
