"""Names of backends, looked up at a real name server."""

import asyncio
from collections.abc import Iterator

import dns.asyncresolver
import dns.exception
import pytest

from spooky.config.dns import Dns
from spooky.config.dns import DnsServer as ServerKey
from spooky.names import UNKNOWN_S, Found, Names, look_up
from tests.e2e.dns_server import DnsServer
from tests.worker.pool_probe import both_loops, run, until


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


def settings(server: DnsServer, max_ttl: float = 0.1) -> Dns:
    return Dns((ServerKey("127.0.0.1", server.port),), timeout=0.3, min_ttl=0.1, max_ttl=max_ttl)


def resolver(server: DnsServer) -> dns.asyncresolver.Resolver:
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers = ["127.0.0.1"]
    made.port = server.port
    made.lifetime = 0.3
    return made


class Follower:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def follow(self, addresses: tuple[str, ...]) -> None:
        self.told.append(addresses)


@both_loops
@pytest.mark.parametrize(
    ("records", "found"),
    [
        (["10.0.0.2", "10.0.0.1"], Found(("10.0.0.1", "10.0.0.2"), 7)),
        ([], Found((), UNKNOWN_S)),
        (None, Found((), UNKNOWN_S)),
    ],
)
def test_a_look_up(
    server: DnsServer, records: list[str] | None, found: Found, loop_name: str
) -> None:
    server.ttl = 7
    if records is not None:
        server.records["b.test"] = records

    async def test() -> None:
        assert await look_up(resolver(server), "b.test") == found

    run(test(), loop_name)


def test_a_server_that_says_nothing_is_no_answer(server: DnsServer) -> None:
    server.is_silent = True
    with pytest.raises(dns.exception.DNSException):
        asyncio.run(look_up(resolver(server), "b.test"))


@both_loops
def test_changes_are_told_and_silence_changes_nothing(server: DnsServer, loop_name: str) -> None:
    async def test() -> None:
        follower = Follower()
        names = Names(
            settings(server),
            [("b.test", follower), ("10.0.0.9", follower), ("::1", follower)],
            asyncio.get_running_loop(),
        )
        server.records["b.test"] = ["10.0.0.1"]
        names.start()
        await until(lambda: follower.told == [("10.0.0.1",)], "the first answer")
        server.is_silent = True
        asked = server.questions
        await until(lambda: server.questions > asked + 2, "questions without an answer")
        server.records["b.test"] = ["10.0.0.1", "10.0.0.2"]
        server.is_silent = False
        await until(lambda: len(follower.told) == 2, "the new answer")
        del server.records["b.test"]
        asked = server.questions
        await until(lambda: server.questions > asked + 2, "that there is no such name")
        names.stop()
        assert follower.told == [("10.0.0.1",), ("10.0.0.1", "10.0.0.2")]

    run(test(), loop_name)


def test_the_time_to_live_holds(server: DnsServer) -> None:
    server.ttl = 3600
    server.records["b.test"] = ["10.0.0.1"]

    async def test() -> None:
        follower, other = Follower(), Follower()
        loop = asyncio.get_running_loop()
        once = Names(settings(server, 300.0), [("b.test", follower)], loop)
        once.start()
        await until(lambda: len(follower.told) == 1, "the answer")
        asked = server.questions
        often = Names(settings(server), [("b.test", other)], loop)
        often.start()
        await until(lambda: server.questions >= asked + 8, "questions of somebody else")
        often.stop()
        server.records["b.test"] = ["10.0.0.2"]
        assert follower.told == [("10.0.0.1",)]
        assert server.questions % 2 == 0, "both families each time"
        once.stop()

    asyncio.run(test())


def test_followers_come_and_go(server: DnsServer) -> None:
    server.records["a.test"] = ["10.0.0.1"]
    server.records["b.test"] = ["10.0.0.2"]

    async def test() -> None:
        first, second, third = Follower(), Follower(), Follower()
        names = Names(settings(server), [("a.test", first)], asyncio.get_running_loop())
        names.start()
        await until(lambda: first.told == [("10.0.0.1",)], "the first answer")
        names.tell("a.test", second)
        assert second.told == [("10.0.0.1",)], "what is known is told at once"
        names.tell("b.test", third)
        await until(lambda: third.told == [("10.0.0.2",)], "the answer for a new name")
        names.leave("a.test", first)
        server.records["a.test"] = ["10.0.0.3"]
        await until(lambda: second.told[-1:] == [("10.0.0.3",)], "the other goes on to hear")
        assert len(first.told) == 1
        names.leave("a.test", second)
        names.leave("b.test", third)
        server.records["c.test"] = ["10.0.0.4"]
        names.tell("c.test", first)
        await until(
            lambda: first.told[-1:] == [("10.0.0.4",)], "the answer for the one that is left"
        )
        before = len(server.asked)
        await until(lambda: len(server.asked) >= before + 4, "that it is asked again")
        assert set(server.asked[before:]) == {"c.test"}
        names.stop()

    asyncio.run(test())
