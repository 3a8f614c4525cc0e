"""The gate of the rate limits: who a request counts for, and what the client is told.

It owns the delay of requests that have to wait for their turn. All limits of a request are asked
before any is charged, so one that is refused uses nothing of the others. A limit that does not
apply (another path, no such field, an exempt client) costs the look at it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from spooky.config.rate_limits import RateLimit
from spooky.errors import Kind
from spooky.policy.hashkey import HashKey
from spooky.policy.rate import fields
from spooky.policy.rate.clients import Clients
from spooky.policy.rate.verdict import SECOND_NS
from spooky.policy.routing import normal_path
from spooky.shm.rate_counts import RateCounter
from spooky.worker.allowance import Allowance
from spooky.worker.call import Call, Held, Hold, Refusal, Verdict
from spooky.worker.meters import Meter, Reading

log = logging.getLogger("spooky.rate")

KeyOf: TypeAlias = Callable[[Call], bytes | None]
"""Says what a request counts for; None: the limit is not for it."""


class Limit:
    """One rate limit as a worker has it."""

    __slots__ = (
        "always",
        "counter",
        "dry_run",
        "is_of_backends",
        "key_of",
        "lines",
        "meter",
        "name",
        "policy",
    )

    def __init__(self, settings: RateLimit, meter: Meter, counter: RateCounter) -> None:
        self.name = settings.name
        self.counter = counter
        self.meter = meter
        self.key_of = key_function(settings)
        self.is_of_backends = settings.key == "backend"
        self.always = settings.headers == "always"
        self.dry_run = settings.dry_run
        self.policy = policy_of(settings)
        self.lines = Allowance(1, time.monotonic)
        """How often a dry run may say what it would have done."""


def policy_of(settings: RateLimit) -> bytes:
    """Write what the limit is, as its field has it."""
    rate = settings.rate
    if settings.algorithm == "sliding-window":
        return fields.policy_item(settings.name, rate.count, rate.window_ns)
    window_ns = settings.capacity * rate.interval_ns
    return fields.policy_item(settings.name, settings.capacity, window_ns)


def key_function(settings: RateLimit) -> KeyOf:
    """Make the function that says what a request counts for."""
    clients = Clients(settings.ipv6_prefix, settings.exempt)

    def by_client(call: Call) -> bytes | None:
        return clients.key_of(call.client.peer[0])

    key_of: KeyOf = by_client
    if settings.key != "client_ip":
        key_of = _key_function(settings.key)
        if settings.exempt:
            key_of = _only_if(by_client, key_of)
    if settings.path_prefix != "/":
        key_of = _only_below(settings.path_prefix.encode(), key_of)
    return key_of


def _key_function(text: str) -> KeyOf:
    if text == "upstream":
        # Requests that routes answer by themselves have none.
        return lambda call: call.group.name.encode() or None
    if text in {"all", "backend"}:
        # Which backend it will be is not known of a request: `backend_rates.py` puts it in.
        return lambda _: b""
    key = HashKey(text)
    return lambda call: key.find(call.head, call.client.peer[0], call.connection)


def _only_if(applies: KeyOf, key_of: KeyOf) -> KeyOf:
    return lambda call: None if applies(call) is None else key_of(call)


def _only_below(prefix: bytes, key_of: KeyOf) -> KeyOf:
    folder = prefix.rstrip(b"/") + b"/"

    def below(call: Call) -> bytes | None:
        path = normal_path(call.head.path)
        return key_of(call) if path == prefix or path.startswith(folder) else None

    return below


class RateGate:
    """The rate limits that the requests of one group have to pass (call.Gate)."""

    def __init__(
        self, limits: Sequence[Limit], tally: "Tally", loop: asyncio.AbstractEventLoop
    ) -> None:
        self._limits = tuple(limits)
        self._tally = tally
        self._loop = loop
        self._held: dict[int, asyncio.TimerHandle] = {}

    def enter(self, call: Call, held: Held) -> Verdict:
        """Ask every limit; where all admit it, use one of each, and wait as long as one says."""
        now = time.monotonic_ns()
        found: list[tuple[Limit, Reading]] = []
        wait = 0
        for limit in self._limits:
            key = limit.key_of(call)
            if key is None:
                continue
            reading = limit.meter.judge(key, now)
            if reading.verdict.admitted:
                wait = max(wait, reading.verdict.wait_ns)
                found.append((limit, reading))
            elif limit.dry_run:
                self._tally.note(limit, call)
            else:
                return self._tally.refuse(limit, reading.verdict.wait_ns, call)
        for limit, reading in found:
            limit.meter.charge(reading)
            limit.counter.admitted()
        _announce(found, call)
        if not wait:
            return None
        self._held[id(call)] = self._loop.call_later(wait / SECOND_NS, self._release, call, held)
        return Hold.HELD

    def leave(self, call: Call) -> None:
        """Let no exchange that is over go on."""
        if self._held:
            handle = self._held.pop(id(call), None)
            if handle is not None:
                handle.cancel()

    def _release(self, call: Call, held: Held) -> None:
        del self._held[id(call)]
        held.proceed()


class Tally:
    """What a worker's limits did: requests refused, and those that only a dry run spared."""

    __slots__ = ("refused", "spared")

    def __init__(self) -> None:
        self.refused = 0
        self.spared = 0

    def refuse(self, limit: Limit, wait_ns: int, call: Call) -> Refusal:
        """Turn a request away, with what the client is told of it."""
        self.refused += 1
        limit.counter.refused()
        wait_s = fields.whole_seconds(wait_ns)
        call.response_fields += [
            (fields.RETRY_AFTER, b"%d" % wait_s),
            (fields.POLICY, limit.policy),
            (fields.LIMIT, fields.refused_item(limit.name, wait_ns)),
        ]
        return Refusal(Kind.RATE_LIMITED, f"{limit.name}, for {wait_s} s")

    def note(self, limit: Limit, call: Call) -> None:
        """Note that a dry run let one pass."""
        self.spared += 1
        limit.counter.spared()
        if limit.lines.take():
            client = call.client.peer[0]
            log.info("rate limit %s (dry run): a request of %s is over it", limit.name, client)


def _announce(found: list[tuple[Limit, Reading]], call: Call) -> None:
    told = [one for one in found if one[0].always]
    if told:
        policies = b", ".join([limit.policy for limit, _ in told])
        limits = [fields.limit_item(one.name, one.meter.quota(reading)) for one, reading in told]
        call.response_fields += [
            (fields.POLICY, policies),
            (fields.LIMIT, b", ".join(limits)),
        ]
