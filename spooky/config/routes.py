"""What routes ask for and what they do, as frozen typed objects with every default.

A part of `model.py`, of which it follows the rules. A `Route` leads to the upstream that it
stands in; a `Rule` of the top level leads to several, or answers by itself.
"""

from dataclasses import dataclass, field
from pathlib import Path

from spooky.config.rate_limits import RateLimit

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Match:
    """What a header, cookie or parameter has to be: exactly one of the first four."""

    exact: str | None = None
    """All of the value."""
    prefix: str | None = None
    """How the value begins."""
    regex: str | None = None
    """A regular expression that matches all of the value, of at most 1024 octets."""
    present: bool | None = None
    """Whether it is there, with whatever value."""
    invert: bool = False
    """Whether it has to be otherwise; what is not there is otherwise, too."""


Matches = tuple[tuple[str, Match], ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What is changed of a request's path and host on the way to the backend."""

    prefix: str | None = None
    """Put in the place of the route's `path_prefix`."""
    regex: str | None = None
    """A regular expression for all of the path, without the query; `to` is put in its place."""
    to: str | None = None
    r"""The path for what `regex` matches; `\1` or `\g<name>` is what a group matched."""
    host: str | None = None
    """The host, with a port if need be, that the backend is asked for."""


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """What is done to the fields of a message: first removed, then set, then added."""

    remove: tuple[str, ...] = ()
    """Names of fields to take out."""
    set: Pairs = ()
    """Fields to put in the place of those with the same name, if there are any."""
    add: Pairs = ()
    """Fields to put beside those with the same name, if there are any."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where copies of requests go; the answers to them are dropped."""

    upstream: str
    """The name of an upstream."""
    percent: float = 100.0
    """The share of the requests that are copied."""


@dataclass(frozen=True, slots=True)
class Split:
    """Several upstreams that share a route's clients."""

    upstreams: tuple[tuple[str, int], ...]
    """Names of upstreams and their weights: percents, or any others."""
    key: str = "client_ip"
    """What a client is known by, so that it always gets to the same upstream: `client_ip`,
    `header:NAME`, `cookie:NAME`, `query:NAME`, or `random` for each request by itself. Where a
    request has no such field, it is the address."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that tells the client of another place. The query is kept."""

    status: int = 302
    """301, 302, 303, 307 or 308."""
    scheme: str = "https"
    """`https` or `http`."""
    host: str | None = None
    """The host, with a port if need be; None: that of the request."""
    path: str | None = None
    """The whole path; None: that of the request."""
    prefix: str | None = None
    """Put in the place of the route's `path_prefix`."""


@dataclass(frozen=True, slots=True)
class Respond:
    """An answer that is always the same."""

    status: int = 200
    """Of the answer."""
    body: str | None = None
    """Its content."""
    file: Path | None = None
    """A file with its content, read when the configuration is; at most 1 MiB."""
    content_type: str = "text/plain; charset=utf-8"
    """What the content is."""


@dataclass(frozen=True, slots=True)
class Route:
    """What an upstream serves. Longest prefix wins, then exact host, wildcard host, any host."""

    host: str | None = None
    """An exact name, or `*.example.com` for all names below it; None: any. Lower case."""
    path_prefix: str = "/"
    """Matches whole segments: `/api` serves `/api` and `/api/x`, not `/apis`."""
    methods: tuple[str, ...] = ()
    """The methods that it serves; none: all."""
    headers: Matches = ()
    """What has to hold of the request's fields, by their names."""
    cookies: Matches = ()
    """What has to hold of the request's cookies, by their names."""
    query: Matches = ()
    """What has to hold of the parameters in the query, by their names."""
    priority: int = 0
    """Of routes with the same host and prefix, the highest is tried first; then the one that asks
    for more, then the first in the file."""
    rewrite: Rewrite = field(default_factory=Rewrite)
    """What is changed of path and host on the way to the backend."""
    request_headers: HeaderChanges = field(default_factory=HeaderChanges)
    """What is done to the fields of the request, after all that Spooky does by itself."""
    response_headers: HeaderChanges = field(default_factory=HeaderChanges)
    """What is done to the fields of the response, after all that Spooky does by itself; of an error
    of its own, to those that do not say what its content is."""
    mirror: Mirror | None = None
    """Where copies of the requests go."""
    rate_limits: tuple[RateLimit, ...] = ()
    """How many requests may pass, over and above the limits of the upstream and of all."""

    @property
    def asks(self) -> tuple[object, ...]:
        """What two routes that match the same requests have in common."""
        conditions = (self.headers, self.cookies, self.query)
        return (
            self.host,
            self.path_prefix,
            frozenset(self.methods),
            *map(frozenset, conditions),
        )


@dataclass(frozen=True, slots=True)
class Rule(Route):
    """A route to more than one upstream, or to none: exactly one of its last three is there."""

    split: Split | None = None
    """The upstreams that share its requests."""
    redirect: Redirect | None = None
    """Where its requests are redirected to."""
    respond: Respond | None = None
    """What its requests are answered."""
