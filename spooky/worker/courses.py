"""What becomes of a request by its route: an upstream, one of several, or an answer of its own.

Made once from the configuration. A route that does nothing but lead to its upstream has a course
with that upstream and nothing else, so that its requests pay for two looks at it. What a route
changes of the messages is its treatment.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Protocol

from spooky.config import routes as settings
from spooky.config.model import Config
from spooky.policy.fixed_response import FixedResponse
from spooky.policy.hashkey import HashKey
from spooky.policy.matchers import Condition, How, Matcher, Source
from spooky.policy.redirect import Redirect, replace_path
from spooky.policy.rewrite import replace_prefix
from spooky.policy.routing import RouteTable, Rule
from spooky.policy.split import Side, Split
from spooky.protocol import headers
from spooky.protocol.messages import Path, RequestHead
from spooky.worker.call import Answer, Call, Gate, Reply
from spooky.worker.mirror import Mirror, Places
from spooky.worker.treatment import Treatment, make_treatment
from spooky.worker.upload import Upload
from spooky.worker.upstreams import NOBODY, UpstreamGroup

GatesOf = Callable[[UpstreamGroup, settings.Route], tuple[Gate, ...]]


class Asking(Protocol):
    """The client connection that a request came by."""

    path: Path
    name: bytes


@dataclass(frozen=True, slots=True)
class Shares:
    """Several upstreams, and what a client is known by among them."""

    split: Split[UpstreamGroup]
    key: Callable[[RequestHead, Path], bytes]


@dataclass(frozen=True, slots=True)
class Course:
    """Where a route leads: exactly one of `group` and `shares` is there.

    With `own` it answers by itself, and `group` has no backends, only gates.
    """

    group: UpstreamGroup | None = None
    treatment: Treatment | None = None
    shares: Shares | None = None
    own: Answer | None = None
    gates: Mapping[str, tuple[Gate, ...]] | None = None
    """What its requests pass, by upstream, where it has limits of its own."""

    def begin(
        self, head: RequestHead, host: str, client: Asking, request_id: bytes, upload: Upload
    ) -> Call:
        """Return the request as policies see it."""
        group = self.group
        if group is None:
            assert self.shares is not None
            group = self.shares.split.choose(self.shares.key(head, client.path))
        call = Call(head, host, client.path, client.name, group)
        if self.own is not None:
            call.own = self.own
        if self.gates is not None:
            call.own_gates = self.gates[group.name]
        if self.treatment is not None:
            self.treatment.begin(call, request_id, upload)
        return call


def make_routes(
    config: Config,
    groups: Iterable[UpstreamGroup],
    contents: Mapping[File, bytes],
    loop: asyncio.AbstractEventLoop,
    gates_of: GatesOf,
) -> RouteTable[Course]:
    """Make the table of all routes; `contents` has what the files of answers held.

    `groups` are those of all upstreams, and of nobody; `gates_of` makes the gates of a
    route that has limits of its own.
    """
    by_name = {group.name: group for group in groups}
    places = Places(loop, config.limits.retry_body_bytes, random.random)
    return RouteTable(_rules(config, by_name, contents, places, gates_of))


def _rules(
    config: Config,
    groups: Mapping[str, UpstreamGroup],
    contents: Mapping[File, bytes],
    places: Places,
    gates_of: GatesOf,
) -> Iterator[Rule[Course]]:
    def rule(route: settings.Route, course: Course) -> Rule[Course]:
        matcher = _matcher(route)
        return Rule(route.host, route.path_prefix, course, matcher, route.priority)

    def treatment(route: settings.Route) -> Treatment | None:
        wanted = route.mirror
        if wanted is None:
            return make_treatment(route, None)
        return make_treatment(route, Mirror(groups[wanted.upstream], wanted.percent, places))

    def gates(route: settings.Route, *names: str) -> Mapping[str, tuple[Gate, ...]] | None:
        if not route.rate_limits:
            return None
        return {name: gates_of(groups[name], route) for name in names}

    for upstream in config.upstream:
        for route in upstream.routes:
            name = upstream.name
            yield rule(route, Course(groups[name], treatment(route), gates=gates(route, name)))
    for one in config.routes:
        if one.split is not None:
            shares = _shares(one.split, groups)
            own_gates = gates(one, *(name for name, _ in one.split.upstreams))
            yield rule(one, Course(None, treatment(one), shares, gates=own_gates))
        else:
            own = _answer(one, contents)
            yield rule(
                one, Course(groups[NOBODY], treatment(one), own=own, gates=gates(one, NOBODY))
            )


def _matcher(route: settings.Route) -> Matcher | None:
    places = (
        (Source.HEADER, route.headers),
        (Source.COOKIE, route.cookies),
        (Source.QUERY, route.query),
    )
    conditions = [
        _condition(source, name, match) for source, matches in places for name, match in matches
    ]
    methods = frozenset(method.encode() for method in route.methods)
    return Matcher(methods, conditions) if methods or conditions else None


def _condition(source: Source, name: str, match: settings.Match) -> Condition:
    if match.present is not None:
        return Condition(source, name.encode(), How.PRESENT, negated=not match.present)
    for how, value in (
        (How.EXACT, match.exact),
        (How.PREFIX, match.prefix),
        (How.REGEX, match.regex),
    ):
        if value is not None:
            return Condition(source, name.encode(), how, value.encode(), match.invert)
    raise ValueError(f"a condition on {name} that asks for nothing")


def _shares(split: settings.Split, groups: Mapping[str, UpstreamGroup]) -> Shares:
    sides = [Side(name, weight, groups[name]) for name, weight in split.upstreams]
    return Shares(Split(sides), _key(split.key))


def _key(text: str) -> Callable[[RequestHead, Path], bytes]:
    """Make what says by what a client is known; where a request has no such thing, its address."""
    if text == "random":
        return lambda _, __: random.randbytes(8)
    key = HashKey(text)
    return lambda head, client: key.value(head, client.peer[0], b"")


def _answer(rule: settings.Rule, contents: Mapping[File, bytes]) -> Answer:
    if rule.redirect is not None:
        redirect = _redirect(rule.redirect, rule.path_prefix)

        def reply(head: RequestHead) -> Reply:
            location = redirect.location(headers.authority_of(head), head.path)
            fields = [(b"location", location), (b"content-length", b"0")]
            return redirect.status, fields, b""

        return reply
    assert rule.respond is not None
    fixed = _fixed(rule.respond, contents)
    return lambda _: (fixed.status, fixed.fields(), fixed.content)


def _redirect(redirect: settings.Redirect, prefix: str) -> Redirect:
    path = None
    if redirect.path is not None:
        path = replace_path(redirect.path)
    elif redirect.prefix is not None:
        path = replace_prefix(prefix, redirect.prefix)
    authority = redirect.host.encode() if redirect.host else None
    return Redirect(redirect.status, redirect.scheme.encode(), authority, path)


def _fixed(respond: settings.Respond, contents: Mapping[File, bytes]) -> FixedResponse:
    content = contents[respond.file] if respond.file else (respond.body or "").encode()
    return FixedResponse(respond.status, content, respond.content_type.encode())
