"""The addresses of the backends that have names, looked up again at their time to live.

One task a name, in each worker and in the keeper. What it finds goes to those who connect to that
name: pools, which retire connections to other addresses, and probes. A name that DNS does not know
(one of /etc/hosts, say) is left to the system, which is asked at each connection. While nobody
answers, what was found last stays.
"""

import asyncio
import ipaddress
import logging
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.resolver

from spooky.config.dns import Dns

log = logging.getLogger(__name__)

UNKNOWN_S: Final = 30.0
"""Until a name that DNS does not know is asked for again."""
AGAIN_S: Final = 1.0
"""Until it is asked again where nobody answered, at first; then twice as long each time."""
_FAMILIES: Final = ("A", "AAAA")


class Follower(Protocol):
    """Who connects to a name: a pool, a probe."""

    def follow(self, addresses: tuple[str, ...]) -> None:
        """Connect to these addresses from now on, and to no others."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for, sorted, and for how many seconds; no addresses: DNS knows none."""

    addresses: tuple[str, ...]
    ttl: float


class Names:
    """The look-ups of one process."""

    def __init__(
        self,
        settings: Dns,
        followers: Iterable[tuple[str, Follower]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Take who is to hear of which host; those that are addresses already are left out."""
        self._settings = settings
        self._followers: dict[str, list[Follower]] = {}
        self._known: dict[str, tuple[str, ...]] = {}
        self._asked: dict[str, asyncio.Event] = {}
        self._loop = loop
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._is_begun = False
        for host, follower in followers:
            self.tell(host, follower)

    def start(self) -> None:
        """Begin to look up."""
        self._is_begun = True
        for host in self._followers:
            self._begin(host)

    def stop(self) -> None:
        """Look up no more."""
        for task in self._tasks.values():
            task.cancel()

    def tell(self, host: str, follower: Follower) -> None:
        """Have one more follower hear of a host, what is known of it at once."""
        if _is_address(host):
            return
        is_new = host not in self._followers
        self._followers.setdefault(host, []).append(follower)
        if is_new:
            self._asked[host] = asyncio.Event()
            if self._is_begun:
                self._begin(host)
        elif host in self._known:
            follower.follow(self._known[host])

    def leave(self, host: str, follower: Follower) -> None:
        """Tell a follower no more; after the last one of its host, that is not looked up again."""
        followers = self._followers.get(host, [])
        if follower in followers:
            followers.remove(follower)
            if not followers:
                del self._followers[host], self._asked[host]
                self._known.pop(host, None)
                if task := self._tasks.pop(host, None):
                    task.cancel()

    def _begin(self, host: str) -> None:
        self._resolver = self._resolver or _make_resolver(self._settings)
        self._tasks[host] = self._loop.create_task(self._watch(self._resolver, host))

    async def asked(self, host: str) -> None:
        """Wait until there was an answer for a host, or none in the time of a look-up."""
        if host in self._asked:
            await self._asked[host].wait()

    async def _watch(self, resolver: dns.asyncresolver.Resolver, host: str) -> None:
        failures = 0
        while True:
            try:
                found = await look_up(resolver, host)
            except (dns.exception.DNSException, OSError) as error:
                failures += 1
                if failures == 1:
                    log.warning("the name %s: nobody answers: %s", host, error)
                wait = min(AGAIN_S * 2 ** min(failures - 1, 10), UNKNOWN_S)
            else:
                failures = 0
                known = self._known.get(host, ())
                if found.addresses and found.addresses != known:
                    self._known[host] = found.addresses
                    self._tell(host, known, found.addresses)
                settings = self._settings
                wait = min(max(found.ttl, settings.min_ttl), settings.max_ttl)
            self._asked[host].set()
            # Workers that began together shall not all ask in the same moment.
            await asyncio.sleep(wait * (1 + random.random() / 10))

    def _tell(self, host: str, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        if before:
            log.info("the name %s: now %s, no more %s", host, ", ".join(now), ", ".join(before))
        for follower in self._followers[host]:
            follower.follow(now)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _make_resolver(settings: Dns) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(configure=not settings.servers)
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.asyncresolver.Resolver(configure=False)
    if settings.servers:
        resolver.nameservers = [server.address for server in settings.servers]
        resolver.nameserver_ports = {server.address: server.port for server in settings.servers}
    resolver.lifetime = settings.timeout
    return resolver


async def look_up(resolver: dns.asyncresolver.Resolver, host: str) -> Found:
    """Ask for the addresses of a host, of both families. DNSException, OSError: no answer."""
    answers = await asyncio.gather(
        *(resolver.resolve(host, one, raise_on_no_answer=False, search=True) for one in _FAMILIES),
        return_exceptions=True,
    )
    addresses: set[str] = set()
    ttl, fault = math.inf, None
    for answer in answers:
        match answer:
            case dns.resolver.NXDOMAIN():
                pass
            case BaseException():
                fault = answer
            case _ if answer.rrset is not None:
                addresses.update(record.address for record in answer.rrset)
                ttl = min(ttl, answer.chaining_result.minimum_ttl)
    if fault is not None and not addresses:
        raise fault
    return Found(tuple(sorted(addresses)), ttl if addresses else UNKNOWN_S)
