"""One client stack under way while Spooky reloads: a program, told to stop by SIGTERM.

Four kinds of user at once: those who keep their connection and ask often or seldom, those who open
one for each request, and those who read a long response. Prints `ready` when all but the last have
an answer, and at the end its tally as one line of JSON.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.e2e.clients import Target
from tests.e2e.content import KIB, digest
from tests.e2e.reload_sessions import (
    STACKS,
    FailedRequestError,
    LostHandshakeError,
    OpenSession,
    Reply,
    Session,
)
from tests.e2e.reload_tally import Tally

SHORT_S = 15.0
"""A request that takes longer has failed; far below the idle timeout."""
SHORT = (("/nghttpd/one", 1), ("/nghttpd/one", 1), ("/nghttpd/64k", 64 * KIB))
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Load:
    """How many users of each kind, and how they behave."""

    kept: int = 3
    seldom: int = 2
    """Keep their connection too, but most of their requests come long after the last."""
    fresh: int = 2
    streams: int = 6
    kept_pause_s: float = 0.04
    seldom_pause_s: float = 0.31
    fresh_pause_s: float = 0.15
    stream_chunks: int = 25
    stream_pause_ms: int = 200

    @property
    def stream_octets(self) -> int:
        """The length of a long response."""
        return self.stream_chunks * CHUNK

    @property
    def stream_path(self) -> str:
        """What a long response is asked for by."""
        return f"/asgi/slow?n={self.stream_octets}&chunk={CHUNK}&pause={self.stream_pause_ms}"


class Users:
    """All users of one stack."""

    def __init__(self, open_session: OpenSession, target: Target, load: Load, tally: Tally) -> None:
        self._open = open_session
        self._target = target
        self._load = load
        self._tally = tally
        self._stopping = asyncio.Event()
        self._started = 0

    async def run(self) -> None:
        """Ask and ask until SIGTERM; then wait for what is under way."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        users = self._load
        async with asyncio.TaskGroup() as group:
            for kind, count in (
                (self._keep, users.kept),
                (self._keep_idle, users.seldom),
                (self._renew, users.fresh),
                (self._read_on, users.streams),
            ):
                for number in range(count):
                    group.create_task(kind(number))

    def _begun(self) -> None:
        self._started += 1
        if self._started == self._load.kept + self._load.seldom + self._load.fresh:
            print("ready", flush=True)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _keep(self, number: int) -> None:
        """Ask on one connection for as long as it lasts."""
        await self._on_one(number, self._load.kept_pause_s)

    async def _keep_idle(self, number: int) -> None:
        """Ask seldom, each at a pace of its own."""
        await self._on_one(number, self._load.seldom_pause_s * (number + 1))

    async def _on_one(self, number: int, pause_s: float) -> None:
        session = self._open(self._target, self._tally)
        await self._turns(number, lambda turn: self._short(session, turn), pause_s)
        await session.close()

    async def _renew(self, number: int) -> None:
        """Ask on a new connection each time."""

        async def once(turn: int) -> None:
            session = self._open(self._target, self._tally)
            await self._short(session, turn)
            await session.close()

        await self._turns(number, once, self._load.fresh_pause_s)

    async def _turns(
        self, number: int, act: Callable[[int], Awaitable[None]], pause_s: float
    ) -> None:
        turn = number
        while not self._stopping.is_set():
            await act(turn)
            if turn == number:
                self._begun()
            turn += 1
            await self._pause(pause_s)

    async def _short(self, session: Session, turn: int) -> None:
        path, length = SHORT[turn % len(SHORT)]
        self._tally.requests += 1
        try:
            reply = await session.get(path, SHORT_S)
        except LostHandshakeError as error:
            self._tally.lost_handshakes[str(error)] += 1
        except FailedRequestError as error:
            self._tally.failures[str(error)] += 1
        else:
            if wrong := _wrong(reply, length):
                self._tally.failures[wrong] += 1

    async def _read_on(self, number: int) -> None:
        """Read one long response after the other."""
        load = self._load
        length = load.stream_octets
        seconds = SHORT_S + load.stream_chunks * load.stream_pause_ms / 1000
        session = self._open(self._target, self._tally)
        # Not all at the same moment of a reload.
        await self._pause(number * load.stream_pause_ms / 1000)
        while not self._stopping.is_set():
            begin = time.monotonic()
            try:
                reply = await session.get(load.stream_path, seconds)
            except FailedRequestError as error:
                self._tally.stream_failures[f"{type(error).__name__}: {error}"] += 1
            else:
                if wrong := _wrong(reply, length):
                    self._tally.stream_failures[wrong] += 1
                else:
                    self._tally.spans.append((begin, time.monotonic()))
        await session.close()


def _wrong(reply: Reply, length: int) -> str:
    if reply.status != 200:
        return f"status {reply.status}"
    if reply.length != length:
        return f"{reply.length} octets of {length}"
    return "" if reply.sha256 == digest(length) else "wrong hash"


def program_of(stack: str, target: Target, load: Load) -> list[str]:
    """Say how to start this program."""
    options = json.dumps(asdict(load))
    module = ["-m", "tests.e2e.reload_clients"]
    return [sys.executable, *module, stack, str(target.port), str(target.cert), options]


def main(stack: str, port: str, cert: str, options: str) -> None:
    """Run one stack's users; print their tally."""
    tally = Tally(stack)
    target = Target(int(port), Path(cert))
    asyncio.run(Users(STACKS[stack], target, Load(**json.loads(options)), tally).run())
    print(json.dumps(tally.as_json()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
