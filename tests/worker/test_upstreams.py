"""All upstreams together, with backends that do not let go."""

import asyncio
import time
from contextlib import AsyncExitStack

from h2.settings import SettingCodes
from hyperframe.frame import SettingsFrame, WindowUpdateFrame

from spooky.config.model import Backend, Route, Upstream
from spooky.policy.balance import make_balancer
from spooky.worker.connect import Endpoint
from spooky.worker.pool import Pool
from spooky.worker.repetition import make_repetition
from spooky.worker.upstreams import UpstreamGroup, Upstreams
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


def make_group(name: str, ports: list[int]) -> tuple[Upstream, UpstreamGroup]:
    backends = tuple(Backend(f"b{port}", "127.0.0.1", port) for port in ports)
    upstream = Upstream(name, (Route(path_prefix=f"/{name}"),), backends)
    loop = asyncio.get_running_loop()
    pools = [Pool(Endpoint(backend), LIMITS, TIMEOUTS, loop) for backend in backends]
    return upstream, UpstreamGroup(
        upstream,
        pools,
        lambda weights: make_balancer("round-robin", weights, lambda: 0.5),
        make_repetition(upstream, 1, 0.0, lambda: 0.5),
    )


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
