"""This worker's picture of the upstreams, and by which backend each serves a request.

Made from the configuration, and arranged anew where operators add or remove backends; it owns the
pools and the balancers' state, and does no IO of its own.

A rule: a place is where a backend is in the arrangement of the moment. What lasts longer than a
turn of the event loop knows a backend by its identity.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from spooky.config.model import Backend, Config, Limits, Timeouts, Upstream
from spooky.errors import Kind
from spooky.policy.balance import Balancer, is_fed, make_balancer
from spooky.policy.balance.turns import RoundRobin
from spooky.policy.eligibility import Rules
from spooky.policy.hashkey import HashKey
from spooky.worker.backend_rates import BackendRates
from spooky.worker.call import Call, Gate, Refusal
from spooky.worker.connect import Endpoint
from spooky.worker.load import Load
from spooky.worker.pool import Pool
from spooky.worker.repetition import Repetition, make_repetition
from spooky.worker.sessions import Sessions
from spooky.worker.trials import Quota

_ONE_BY_ONE: Final = 8
"""So many that will not do are met one after another; then all are looked at at once."""
NOBODY = ""
"""The name of the group that has no backends; no upstream has it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A backend that was picked; `index` was its place in the upstream then."""

    index: int
    id: str
    identity: str
    scheme: bytes
    pool: Pool
    load: Load | None
    """Where attempts at it count; None: nobody asks."""
    cells: "memoryview[int] | None" = None
    """This process's row of it in the traffic table, for how soon it answers; None: nobody asks."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The backends of an upstream at one time, and what is made of them, each in the same place.

    `balancer` is one for the weights of the configuration; `load` is what feeds it, if it asks.
    """

    backends: tuple[Backend, ...]
    pools: list[Pool]
    balancer: Balancer
    load: Load | None = None


class UpstreamGroup:
    """An upstream: its backends' pools, the balancer over them, the gates before them."""

    def __init__(
        self, upstream: Upstream, arrangement: Arrangement, repetition: Repetition
    ) -> None:
        self.name = upstream.name
        self.timeouts: Timeouts = upstream.timeouts
        self.gates: tuple[Gate, ...] = ()
        self.is_bounded = False
        """Whether there are limits on what a backend may have."""
        self.rates: BackendRates | None = None
        """How often each of them may be asked; None: as often as there are requests."""
        self.repetition = repetition
        self.rules = Rules(upstream.slow_start, upstream.panic_threshold / 100)
        self.sessions: Sessions | None = None
        """None: each request may go anywhere."""
        self.trials: Mapping[int, Quota] = {}
        """What may be sent to backends whose breaker is half open, by their places."""
        key = upstream.load_balancing.key
        self._key = HashKey(key) if key is not None else None
        self.arrange(arrangement)

    def arrange(self, arrangement: Arrangement) -> None:
        """Serve by these backends from now on."""
        backends, pools, load = arrangement.backends, arrangement.pools, arrangement.load
        self.backends, self.pools, self.load = backends, pools, load
        self.trials = {}
        self._weights: Sequence[int] = [backend.weight for backend in backends]
        self._balancer = arrangement.balancer
        if load is not None:
            load.notice = arrangement.balancer.notice
        self._targets = [
            Target(
                index,
                backend.id,
                backend.identity,
                b"https" if backend.tls else b"http",
                pool,
                load,
            )
            for index, (backend, pool) in enumerate(zip(backends, pools, strict=True))
        ]
        self._places = {backend.identity: place for place, backend in enumerate(backends)}
        if self.sessions is not None:
            self.sessions.lay_out(self._places)
        if self.rates is not None:
            self.rates.lay_out(self._places)

    def pick(self, call: Call, tried: Sequence[Target]) -> Target | None:
        """Pick a backend with room, none of those that were `tried`; None if there is none.

        A backend that was picked is asked: its rate limits count that.
        """
        exclude = self._places_of(tried) if tried else []
        if self.rates is None:
            place = self._choose(call, exclude)
            return None if place is None else self._targets[place]
        self.rates.begin()
        place = self._choose(call, exclude)
        if place is None:
            return None
        self.rates.charge(call, place)
        return self._targets[place]

    def refusal(self, call: Call, otherwise: str) -> Refusal:
        """Say why the last pick found none for a request; `otherwise`: if by no rate limit."""
        refusal = None if self.rates is None else self.rates.refusal(call)
        return refusal or Refusal(Kind.NO_BACKEND, otherwise)

    def _choose(self, call: Call, exclude: list[int]) -> int | None:
        if self.sessions is not None and call.session is not None:
            place = self.sessions.held_by(call.session, exclude)
            if place is not None and self._has_room(place, call) and self._may_try(place):
                return place
            if not self.sessions.may_move:
                return None
        key = 0
        if self._key is not None:
            key = self._key.hash(call.head, call.client.peer[0], call.connection)
        index = self._balancer.pick(key, exclude)
        if index is not None and (
            self.trials
            or self.is_bounded
            or self.rates is not None
            or self.pools[index].is_doubtful
        ):
            return self._choose_with_care(call, key, index, exclude)
        return index

    def _places_of(self, targets: Iterable[Target]) -> list[int]:
        """Say where they are now; those that were removed meanwhile are nowhere."""
        places = (self._places.get(target.identity) for target in targets)
        return [place for place in places if place is not None]

    def _choose_with_care(
        self, call: Call, key: int, index: int | None, exclude: list[int]
    ) -> int | None:
        """Go on from a pick to one that is not in doubt; else to one that is, if there is none.

        One without room is passed over, and one that is tried by trials when none is left.
        """
        pick, pools = self._balancer.pick, self.pools
        passed = set(exclude)
        doubtful = None
        for _ in range(_ONE_BY_ONE):
            if index is None:
                break
            if self._may_have(index, call):
                if not pools[index].is_doubtful:
                    break
                doubtful = index if doubtful is None else doubtful
            passed.add(index)
            index = pick(key, passed)
        else:
            unfit = {place for place in range(len(pools)) if not self._may_have(place, call)}
            in_doubt = {place for place, pool in enumerate(pools) if pool.is_doubtful}
            index = pick(key, passed | unfit | in_doubt)
            if index is None and doubtful is None:
                doubtful = pick(key, unfit.union(exclude))
        found = doubtful if index is None else index
        return found if found is not None and self._may_try(found) else None

    def _may_have(self, place: int, call: Call) -> bool:
        has_trial = place not in self.trials or self.trials[place].left > 0
        return has_trial and self._has_room(place, call)

    def _may_try(self, place: int) -> bool:
        return place not in self.trials or self.trials[place].take()

    def _has_room(self, place: int, call: Call) -> bool:
        if self.is_bounded and not self.pools[place].has_room():
            return False
        return self.rates is None or self.rates.admits(call, place)

    def has_room(self) -> bool:
        """Say whether any backend that serves has room; also if there is none that serves."""
        weights = self._weights
        rooms = (
            pool.has_room() for pool, weight in zip(self.pools, weights, strict=True) if weight
        )
        return any(rooms) or not any(weights)

    def count_answers(self, cells: Mapping[str, "memoryview[int]"]) -> None:
        """Count how soon each answers in its cells of these; comes before the next request."""
        self._targets = [replace(one, cells=cells[one.identity]) for one in self._targets]

    def on_trial(self) -> list[Target]:
        """List those whose breaker is half open."""
        return [self._targets[place] for place in self.trials]

    def reweigh(self, weights: Sequence[int]) -> None:
        """Pick by other weights from now on, one for each backend; 0: not at all."""
        self._weights = weights
        self._balancer.reweigh(weights)


class Upstreams:
    """All upstreams of the configuration."""

    def __init__(self, groups: list[tuple[Upstream, UpstreamGroup]]) -> None:
        self._upstreams = groups
        self.groups = [group for _, group in groups]
        self.nobody = _group_of_nobody()
        """For requests that routes answer by themselves: its gates are theirs."""

    def all_groups(self) -> list[UpstreamGroup]:
        """List the groups that a request may belong to."""
        return [*self.groups, self.nobody]

    def pools(self) -> Iterator[tuple[str, Backend, Pool]]:
        """List every backend with its upstream's name and its pool."""
        for upstream, group in self._upstreams:
            for backend, pool in zip(group.backends, group.pools, strict=True):
                yield upstream.name, backend, pool

    def count_answers(self, cells: Mapping[str, "memoryview[int]"]) -> None:
        """Count how soon backends answer, in the cells by their identities."""
        for group in self.groups:
            group.count_answers(cells)

    def shortest_timeout(self) -> float:
        """Return the shortest of all timeouts that are in force, seconds."""
        found = [
            timeout
            for group in self.groups
            for timeout in (
                group.timeouts.response_header,
                group.timeouts.idle,
                group.timeouts.total,
                group.repetition.policy.per_try_timeout,
            )
            if timeout
        ]
        return min(found, default=60.0)

    async def close(self) -> None:
        """Close all connections to backends, in the time that the slowest of them takes."""
        await asyncio.gather(*(pool.close() for group in self.groups for pool in group.pools))


def _group_of_nobody() -> UpstreamGroup:
    upstream = Upstream(NOBODY, (), ())
    repetition = make_repetition(upstream, 1, 0.0, float)
    return UpstreamGroup(upstream, Arrangement((), [], RoundRobin((), float)), repetition)


def make_upstreams(
    config: Config,
    contexts: Mapping[str, ssl.SSLContext],
    loop: asyncio.AbstractEventLoop,
    rand: Callable[[], float],
) -> Upstreams:
    """Make the pools and balancers; `contexts` has a TLS context for each upstream with TLS."""
    return Upstreams(
        [
            (
                upstream,
                _make_group(upstream, contexts.get(upstream.name), config, loop, rand),
            )
            for upstream in config.upstream
        ]
    )


def _make_group(
    upstream: Upstream,
    context: ssl.SSLContext | None,
    config: Config,
    loop: asyncio.AbstractEventLoop,
    rand: Callable[[], float],
) -> UpstreamGroup:
    pools = [
        make_pool(upstream, backend, context, config.limits, loop) for backend in upstream.backends
    ]
    arrangement = make_arrangement(upstream, upstream.backends, pools, rand)
    repetition = make_repetition(upstream, config.worker_processes, loop.time(), rand)
    return UpstreamGroup(upstream, arrangement, repetition)


def make_pool(
    upstream: Upstream,
    backend: Backend,
    context: ssl.SSLContext | None,
    limits: Limits,
    loop: asyncio.AbstractEventLoop,
) -> Pool:
    """Make the pool of a backend; `context` is what it is reached by where it has TLS."""
    endpoint = Endpoint(
        backend, context if backend.tls else None, upstream.tls.server_name, upstream.name
    )
    return Pool(endpoint, limits, upstream.timeouts, loop)


def make_arrangement(
    upstream: Upstream,
    backends: tuple[Backend, ...],
    pools: list[Pool],
    rand: Callable[[], float],
) -> Arrangement:
    """Put the balancer that the upstream is to have over some backends."""
    settings = upstream.load_balancing
    load = Load(len(pools), is_timed=settings.type == "ewma")
    balancer = make_balancer(
        settings,
        [backend.identity for backend in backends],
        [backend.weight for backend in backends],
        load,
        rand,
    )
    return Arrangement(backends, pools, balancer, load if is_fed(settings) else None)
