"""Copies of requests: when they are sent, how many there are, and that all of them end."""

import asyncio
import socket
import time
import tracemalloc
from typing import Any, cast

import pytest

from spooky.config.model import Backend, Timeouts, Upstream
from spooky.policy.balance.turns import RoundRobin
from spooky.protocol.messages import Path
from spooky.worker import mirror
from spooky.worker.call import Call, leave_gates, pass_gates
from spooky.worker.connect import Endpoint
from spooky.worker.mirror import MOST_AT_ONCE, Mirror, Places, Shadow
from spooky.worker.pool import Pool
from spooky.worker.repetition import make_repetition
from spooky.worker.trials import Quota
from spooky.worker.upload import Upload
from spooky.worker.upstreams import Arrangement, UpstreamGroup
from tests.e2e.backends import Backend as Program
from tests.worker.pool_probe import LIMITS, TIMEOUTS, make_head, run, until

CLIENT = Path(("127.0.0.1", 4711))
MOST_CONTENT = 1000


class Copies:
    """A mirror to one port, and requests that it may copy."""

    def __init__(
        self,
        port: int,
        percent: float = 100.0,
        rand: float = 0.5,
        timeouts: Timeouts = TIMEOUTS,
    ) -> None:
        loop = asyncio.get_running_loop()
        backend = Backend("b", "127.0.0.1", port)
        self.pool = Pool(Endpoint(backend), LIMITS, TIMEOUTS, loop)
        upstream = Upstream("shadow", (), (backend,), timeouts=timeouts)
        self.group = UpstreamGroup(
            upstream,
            Arrangement((backend,), [self.pool], RoundRobin([1], lambda: 0.5)),
            make_repetition(upstream, 1, 0.0, lambda: 0.5),
        )
        self.places = Places(loop, MOST_CONTENT, lambda: rand)
        self.mirror = Mirror(self.group, percent, self.places)

    def begin(self, *, end: bool = True, path: str = "/1k") -> tuple[Call, Upload]:
        """Begin a request, and its copy if there is to be one."""
        head = make_head(b"GET" if end else b"POST", path, end=end)
        call = Call(head, "localhost", CLIENT, b"", self.group)
        upload = Upload(cast("Any", None), 0, 0, empty=end)
        call.shadow = self.mirror.copy(call, b"id", upload)
        return call, upload

    def busy(self) -> int:
        """Count the copies that there are."""
        return MOST_AT_ONCE - self.places.free

    def streams(self) -> int:
        """Count the copies that the pool knows of."""
        stats = self.pool.stats()
        return stats.in_flight + stats.queued


def passes(call: Call) -> None:
    assert pass_gates((), call, cast("Any", None)) is None


def test_a_copy_ends_with_its_answer(nghttpd: Program) -> None:
    async def test() -> None:
        copies = Copies(nghttpd.port)
        for end in (True, False):
            call, upload = copies.begin(end=end)
            passes(call)
            if not end:
                upload.offer(b"content", 7, end=True)
            # The exchange may be over long before: the copy is on its way.
            leave_gates(call)
            assert copies.busy() == 1
            await until(lambda: copies.busy() == 0, "the answer")
            assert copies.streams() == 0
        await copies.pool.close()

    run(test())


def test_a_copy_is_sent_once_it_is_whole_and_may_pass(nghttpd: Program) -> None:
    async def test() -> None:
        copies = Copies(nghttpd.port)
        held, upload = copies.begin(end=False)
        upload.offer(b"content", 0, end=True)
        half, upload = copies.begin(end=False)
        passes(half)
        upload.offer(b"content", 0, end=False)
        await asyncio.sleep(0)
        assert (copies.busy(), copies.streams()) == (2, 0)
        leave_gates(held)
        assert copies.busy() == 1
        upload.offer_trailers([(b"x", b"y")])
        await until(lambda: copies.busy() == 0, "the answer")
        await copies.pool.close()

    run(test())


def test_content_beyond_the_limit_is_not_kept(nghttpd: Program) -> None:
    async def test() -> None:
        copies = Copies(nghttpd.port)
        call, upload = copies.begin(end=False)
        passes(call)
        upload.offer(bytes(MOST_CONTENT), 0, end=False)
        assert copies.busy() == 1
        upload.offer(b"x", 0, end=True)
        leave_gates(call)
        assert (copies.busy(), copies.streams()) == (0, 0)
        await copies.pool.close()

    run(test())


def test_content_in_single_octets_takes_no_more_room_than_in_one_piece() -> None:
    async def test() -> None:
        copies = Copies(1)
        copies.places.most_content = length = 65_536
        call, upload = copies.begin(end=False)
        assert upload.tap is not None
        tracemalloc.start()
        for octet in range(length):
            upload.tap.offer(bytes((octet % 256,)), end=False)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert copies.busy() == 1
        assert kept < 2 * length
        leave_gates(call)
        await copies.pool.close()

    run(test())


def test_a_copy_is_no_trial() -> None:
    async def test() -> None:
        copies = Copies(1)
        trial = Quota()
        trial.renew(1, 1)
        copies.group.trials = {0: trial}
        passes(copies.begin()[0])
        assert copies.busy() == 1
        await until(lambda: copies.busy() == 0, "the copy given up")
        assert (trial.left, copies.streams()) == (1, 0)
        await copies.pool.close()

    run(test())


def test_an_answer_that_has_begun_is_waited_for(
    hypercorn: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def took(copies: Copies, path: str) -> float:
        begun = time.monotonic()
        passes(copies.begin(path=path)[0])
        await until(lambda: copies.busy() == 0, "the end of the copy")
        assert copies.streams() == 0
        return time.monotonic() - begun

    async def test() -> None:
        copies = Copies(hypercorn.port, timeouts=Timeouts(response_header=0.3))
        assert await took(copies, "/slow?n=3&chunk=1&pause=200") > 0.5
        monkeypatch.setattr(mirror, "LONGEST_S", 0.3)
        assert await took(copies, "/slow?n=1&pause=86400000") >= 0.3
        await copies.pool.close()

    run(test())


def test_copies_are_bounded_and_all_of_them_end() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            copies = Copies(silent.getsockname()[1])
            calls = [copies.begin()[0] for _ in range(MOST_AT_ONCE + 20)]
            assert [call.shadow is None for call in calls] == [False] * MOST_AT_ONCE + [True] * 20
            for call in calls:
                passes(call)
                leave_gates(call)
            await until(lambda: copies.streams() == MOST_AT_ONCE, "all of them queued")
            # Nobody answers; closing the pool tells all of them.
            await copies.pool.close()
            assert copies.busy() == 0

    run(test())


def test_a_copy_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(mirror, "LONGEST_S", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            copies = Copies(silent.getsockname()[1])
            passes(copies.begin()[0])
            await until(lambda: copies.streams() == 1, "the copy queued")
            await until(lambda: copies.busy() == 0, "the copy given up")
            assert copies.streams() == 0
            await copies.pool.close()

    run(test())


@pytest.mark.parametrize(("percent", "rand", "copied"), [(0, 0, 0), (10, 0.09, 1), (10, 0.1, 0)])
def test_the_share_that_is_copied(percent: float, rand: float, copied: int) -> None:
    async def test() -> None:
        copies = Copies(1, percent, rand)
        call, _ = copies.begin()
        assert isinstance(call.shadow, Shadow) is bool(copied)
        leave_gates(call)
        assert copies.busy() == 0
        await copies.pool.close()

    run(test())
