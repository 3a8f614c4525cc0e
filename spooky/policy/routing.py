"""Which upstream serves a request: by its host and by the longest prefix of its path.

Among all rules that match host and path, the longest path prefix wins; of rules with the same
prefix, an exact host comes before a longer `*.` wildcard, that before a shorter one, and a rule
without a host comes last. A look-up costs a step per label of the host and per segment of the
path, whatever the number of rules.

Rules may also ask for more (`matchers`): several with the same host and prefix are tried by
priority, then by how much they ask for, then in the order they came in, and where none of them
fits, the search goes on. Only a request that comes to such a prefix pays for it.

A rule: the path is compared in its normal form, so that `/public/../admin`, `/%61dmin` and
`//admin` are routed as `/admin`; what is forwarded stays as the client wrote it. `%2f` and a
backslash are not separators: a backend that takes them for such must guard its own paths.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from spooky.policy.matchers import Facts, Matcher, Request

T = TypeVar("T")

_ENCODED_UNRESERVED = re.compile(
    rb"%(?:2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])"
)
"""Letters, digits and `-._~`, percent-encoded (RFC 3986 section 2.3)."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """Sends what matches to `upstream`.

    `host` is an exact name, or `*.example.com` for all names below example.com at any depth but
    not for itself, or None for any; IPv6 addresses are in brackets. `path_prefix` matches whole
    segments: `/api` matches `/api`, `/api/` and `/api/x`, never `/apis`; with a slash at its end,
    `/api/` matches `/api/` and `/api/x`, but not `/api`. `matcher` is what it asks for beyond
    that, None for nothing; of rules with the same host and prefix, the highest `priority` is tried
    first.
    """

    host: str | None
    path_prefix: str
    upstream: T
    matcher: Matcher | None = None
    priority: int = 0


class _Choice(Generic[T]):
    """Rules with the same host and prefix of which one at least asks for more."""

    __slots__ = ("_options",)

    def __init__(self, rules: list[Rule[T]]) -> None:
        # The sort is stable: what is equal stays in the order of the rules.
        ordered = sorted(rules, key=lambda rule: (-rule.priority, -_weight(rule)))
        self._options = [(rule.matcher, rule.upstream) for rule in ordered]

    def choose(self, facts: Facts) -> T | None:
        """Return where the first rule that fits leads to."""
        for matcher, upstream in self._options:
            if matcher is None or matcher.fits(facts):
                return upstream
        return None


_NOTHING = Matcher()


def _weight(rule: Rule[T]) -> int:
    return (rule.matcher or _NOTHING).weight


Table: TypeAlias = dict[bytes, T | _Choice[T]]
"""What is at each prefix of one host."""


class RouteTable(Generic[T]):
    """All rules, laid out for look-up; never changes."""

    def __init__(self, rules: Iterable[Rule[T]]) -> None:
        """Lay out the rules.

        Raises:
            ValueError: two rules match the same, or a prefix does not begin with a slash.
        """
        self._exact: dict[str, Table[T]] = {}
        self._below: dict[str, Table[T]] = {}
        self._any: Table[T] = {}
        self._longest_suffix = 0
        self._longest_prefix = 0
        alike: dict[tuple[str | None, bytes], list[Rule[T]]] = {}
        for rule in rules:
            prefix = normal_path(rule.path_prefix.encode())
            if not prefix.startswith(b"/"):
                text = f"the path prefix {rule.path_prefix!r} does not begin with a slash"
                raise ValueError(text)
            host = rule.host and rule.host.lower()
            alike.setdefault((host, prefix), []).append(rule)
        for (host, prefix), group in alike.items():
            self._add(host, prefix, group)

    def _add(self, host: str | None, prefix: bytes, rules: list[Rule[T]]) -> None:
        if len({(rule.matcher or _NOTHING).asks for rule in rules}) < len(rules):
            raise ValueError(f"two rules for {host or 'any host'} and {prefix.decode()}")
        plain = len(rules) == 1 and not _weight(rules[0])
        self._table_of(host)[prefix] = rules[0].upstream if plain else _Choice(rules)
        self._longest_prefix = max(self._longest_prefix, len(prefix))

    def _table_of(self, host: str | None) -> Table[T]:
        if host is None:
            return self._any
        if not host.startswith("*."):
            return self._exact.setdefault(host, {})
        suffix = host[1:]
        self._longest_suffix = max(self._longest_suffix, len(suffix))
        return self._below.setdefault(suffix, {})

    def find(self, host: str, path: bytes, request: Request | None = None) -> T | None:
        """Return the upstream for a host and a path, None where no rule matches.

        `host` is in lower case, without a port, IPv6 in brackets. `path` is `:path` as received;
        it is compared as `normal_path` gives it. `*` (RFC 9110 section 7.1) is routed as `/`.
        Without a `request`, a prefix whose rules ask for more than these two leads nowhere.
        """
        tables = self._matching(host)
        if not tables:
            return None
        path = normal_path(path)
        longest = self._longest_prefix
        if len(path) <= longest:
            for table in tables:
                if path in table:
                    found = table[path]
                    return (
                        self._choose(host, path, request) if isinstance(found, _Choice) else found
                    )
        # Only what a prefix can reach is looked at: a path may have thousands of segments.
        slash = path.rfind(b"/", 0, longest + 1)
        while slash >= 0:
            for prefix in (path[: slash + 1], path[:slash]):
                for table in tables:
                    if prefix in table:
                        found = table[prefix]
                        if isinstance(found, _Choice):
                            return self._choose(host, path, request)
                        return found
            slash = path.rfind(b"/", 0, slash)
        return None

    def _choose(self, host: str, path: bytes, request: Request | None) -> T | None:
        """Search on where rules ask for more: none of those of a prefix may fit."""
        if request is None:
            return None
        tables, facts = self._matching(host), Facts(request)
        for prefix in self._prefixes(path):
            for table in tables:
                found = table.get(prefix)
                if isinstance(found, _Choice):
                    found = found.choose(facts)
                if found is not None:
                    return found
        return None

    def _prefixes(self, path: bytes) -> Iterator[bytes]:
        """List the prefixes that there may be rules for, the longest first."""
        if len(path) <= self._longest_prefix:
            yield path
        slash = path.rfind(b"/", 0, self._longest_prefix + 1)
        while slash >= 0:
            yield path[: slash + 1]
            yield path[:slash]
            slash = path.rfind(b"/", 0, slash)

    def _matching(self, host: str) -> list[Table[T]]:
        """List the rules of all hosts that match, the most specific first."""
        found: list[Table[T]] = []
        if host in self._exact:
            found.append(self._exact[host])
        if self._below:
            dot = host.find(".", max(1, len(host) - self._longest_suffix))
            while dot > 0:
                if host[dot:] in self._below:
                    found.append(self._below[host[dot:]])
                dot = host.find(".", dot + 1)
        if self._any:
            found.append(self._any)
        return found


def normal_path(path: bytes) -> bytes:
    """Return the path as it is compared: no query, dot segments resolved, slashes not doubled.

    Unreserved octets are first decoded, once (RFC 3986 section 6.2.2.2), then dot segments go as in
    its section 5.2.4. All other octets stay as they are: `%2f` and a backslash separate nothing.
    """
    path = path.partition(b"?")[0]
    if b"%" in path:
        path = _ENCODED_UNRESERVED.sub(_decoded, path)
    if b"/." in path or b"//" in path:
        return _resolve(path)
    return b"/" if path == b"*" else path


def _decoded(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[0][1:], 16),))


def _resolve(path: bytes) -> bytes:
    kept: list[bytes] = []
    segment = b""
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(segment)
    if kept and segment in {b"", b".", b".."}:
        kept.append(b"")
    return b"/" + b"/".join(kept)
