import string
import time
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.policy.matchers import Condition, How, Matcher, Source
from spooky.policy.routing import RouteTable, Rule, normal_path

TABLE = RouteTable(
    Rule(host, prefix, f"{host} {prefix}")
    for host, prefix in [
        (None, "/"),
        (None, "/deep/er"),
        ("a.example.com", "/"),
        ("a.example.com", "/api"),
        ("*.example.com", "/api"),
        ("*.example.com", "/api/v2"),
        ("*.b.example.com", "/api"),
        ("Mixed.Example", "/"),
        ("[2001:db8::1]", "/"),
        ("slash.example", "/dir/"),
    ]
)


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("other.test", b"/", "None /"),
        ("other.test", b"/deep", "None /"),
        ("other.test", b"/deep/er", "None /deep/er"),
        ("other.test", b"/deep/er/", "None /deep/er"),
        ("other.test", b"/deep/er/x/y", "None /deep/er"),
        ("other.test", b"/deep/er?x=/y", "None /deep/er"),
        ("other.test", b"/deep/error", "None /"),
        ("a.example.com", b"/api", "a.example.com /api"),
        ("a.example.com", b"/apis", "a.example.com /"),
        # The longest prefix wins over the more exact host.
        ("a.example.com", b"/api/v2/x", "*.example.com /api/v2"),
        ("a.example.com", b"/deep/er", "None /deep/er"),
        # Any depth below, the longer wildcard first, never the name itself.
        ("x.y.example.com", b"/api", "*.example.com /api"),
        ("x.b.example.com", b"/api", "*.b.example.com /api"),
        ("x.b.example.com", b"/api/v2", "*.example.com /api/v2"),
        ("b.example.com", b"/api", "*.example.com /api"),
        ("example.com", b"/api", "None /"),
        ("badexample.com", b"/api", "None /"),
        ("mixed.example", b"/x", "Mixed.Example /"),
        ("[2001:db8::1]", b"/x", "[2001:db8::1] /"),
        # A slash at the end of a prefix.
        ("slash.example", b"/dir/", "slash.example /dir/"),
        ("slash.example", b"/dir/x", "slash.example /dir/"),
        ("slash.example", b"/dir", "None /"),
        ("slash.example", b"/dirx/", "None /"),
        # Nobody gets around a prefix by writing it in another way.
        ("a.example.com", b"/x/../api/y", "a.example.com /api"),
        ("a.example.com", b"/x/%2e%2E/api", "a.example.com /api"),
        ("a.example.com", b"/x/.%2e/api", "a.example.com /api"),
        ("a.example.com", b"/./api", "a.example.com /api"),
        ("a.example.com", b"//api", "a.example.com /api"),
        ("a.example.com", b"/api/..", "a.example.com /"),
        ("a.example.com", b"/api/../../..", "a.example.com /"),
        ("a.example.com", b"/%61pi", "a.example.com /api"),
        ("a.example.com", b"/%61%70%69/x", "a.example.com /api"),
        ("a.example.com", b"/api%2Fx", "a.example.com /"),
        ("a.example.com", b"/api\\x", "a.example.com /"),
        ("a.example.com", b"/x%2f..%2fapi", "a.example.com /"),
        ("a.example.com", b"/%2561pi", "a.example.com /"),
        ("a.example.com", b"/x?/../api", "a.example.com /"),
        # OPTIONS *
        ("other.test", b"*", "None /"),
    ],
)
def test_the_rule_that_wins(host: str, path: bytes, expected: str) -> None:
    assert TABLE.find(host, path) == expected


def test_nothing_matches() -> None:
    table = RouteTable([Rule("a.test", "/api", 1), Rule("*.b.test", "/", 2)])
    assert table.find("a.test", b"/") is None
    assert table.find("a.test", b"/ap") is None
    assert table.find("b.test", b"/api") is None
    assert table.find(".b.test", b"/api") is None
    assert table.find("c.test", b"/api") is None
    assert RouteTable[int]([]).find("a.test", b"/") is None


@pytest.mark.parametrize(
    "rules",
    [
        [Rule("a.test", "/x", 1), Rule("A.test", "/x", 2)],
        [Rule(None, "/x/./y", 1), Rule(None, "/x/y", 2)],
        [Rule(None, "/%78", 1), Rule(None, "/x", 2)],
        [Rule("*.a.test", "/", 1), Rule("*.A.test", "/", 2)],
        [Rule(None, "/", 1, Matcher()), Rule(None, "/", 2, None, 1)],
        [
            Rule(None, "/", 1, Matcher(frozenset({b"GET"}))),
            Rule(None, "/", 2, Matcher(frozenset({b"GET"})), 7),
        ],
        [Rule(None, "api", 1)],
        [Rule(None, "", 1)],
    ],
)
def test_rules_that_cannot_be_told_apart_or_never_match(rules: list[Rule[int]]) -> None:
    with pytest.raises(ValueError, match=r"prefix|two rules"):
        RouteTable(rules)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # RFC 3986 section 5.2.4, its examples among them.
        (b"/a/b/c/./../../g", b"/a/g"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/.", b"/a/b/"),
        (b"/a/b/", b"/a/b/"),
        (b"/..", b"/"),
        (b"/.", b"/"),
        (b"/...", b"/..."),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/a/%2E%2e/b", b"/b"),
        (b"/a/%2e%2e%2fb", b"/a/..%2fb"),
        (b"/%2e%2F/%5c\\%7e", b"/.%2F/%5c\\~"),
        (b"/%7E%5f%2D%2e%41%5A%7a%30", b"/~_-.AZz0"),
        (b"/%252e%252e/x", b"/%252e%252e/x"),
        (b"/%%36%31", b"/%61"),
        (b"/%4%zz%", b"/%4%zz%"),
        (b"/a//b///", b"/a/b/"),
        (b"/%20/x", b"/%20/x"),
        (b"/a?b//..", b"/a"),
    ],
)
def test_normal_path(path: bytes, expected: bytes) -> None:
    assert normal_path(path) == expected


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", ".", "..", "%2e%2E", ""]), max_size=6)
PREFIXES = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(
    lambda segments: "/" + "/".join(segments)
)
HOSTS = st.sampled_from(["x.test", "y.x.test", "z.y.x.test", "test"])


def matches(rule: Rule[int], host: str, path: str) -> bool:
    """Say what the docstring of `Rule` says, in the plainest way."""
    prefix = rule.path_prefix
    at_host = (
        rule.host is None
        or rule.host == host
        or (rule.host.startswith("*.") and host.endswith(rule.host[1:]) and host != rule.host[1:])
    )
    at_path = path == prefix or path.startswith(prefix.removesuffix("/") + "/")
    return at_host and at_path


def test_every_unreserved_octet_and_no_other_is_decoded() -> None:
    unreserved = (string.ascii_letters + string.digits + "-._~").encode()
    for octet in range(256):
        for encoded in (b"/x%%%02x" % octet, b"/x%%%02X" % octet):
            expected = b"/x%c" % octet if octet in unreserved else encoded
            assert normal_path(encoded) == expected


@given(
    st.lists(
        st.tuples(HOSTS | HOSTS.map(lambda host: f"*.{host}") | st.none(), PREFIXES),
        max_size=12,
        unique=True,
    ),
    HOSTS,
    SEGMENTS,
)
def test_find_agrees_with_a_search_of_all_rules(
    pairs: list[tuple[str | None, str]], host: str, segments: list[str]
) -> None:
    rules = [Rule(host, prefix, number) for number, (host, prefix) in enumerate(pairs)]
    path = "/" + "/".join(segments)
    plain = normal_path(path.encode()).decode()

    def rank(rule: Rule[int]) -> tuple[int, int, int]:
        exact = rule.host is not None and not rule.host.startswith("*.")
        return len(rule.path_prefix), exact, len(rule.host or "")

    candidates = [rule for rule in rules if matches(rule, host, plain)]
    expected = max(candidates, key=rank).upstream if candidates else None
    assert RouteTable(rules).find(host, path.encode()) == expected


@dataclass(frozen=True)
class Asked:
    method: bytes
    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]


METHODS = st.frozensets(st.sampled_from([b"GET", b"PUT"]), max_size=2)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from([Source.HEADER, Source.QUERY]),
    st.sampled_from([b"x", b"y"]),
    st.sampled_from([How.EXACT, How.PREFIX]),
    st.sampled_from([b"1", b"12"]),
    st.booleans(),
)
# Few places, so that there are several rules for most of them.
RULES = st.builds(
    Rule,
    st.sampled_from(["x.test", None]),
    st.sampled_from(["/", "/a"]),
    st.just(0),
    st.none() | st.builds(Matcher, METHODS, st.lists(CONDITIONS, max_size=2, unique=True)),
    st.integers(0, 2),
)
REQUESTS = st.tuples(
    st.sampled_from([b"GET", b"PUT"]),
    st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"12"])), max_size=3),
    st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["1", "12"])), max_size=3),
)


def holds(condition: Condition, request: Asked, query: list[tuple[str, str]]) -> bool:
    """Say what the docstring of `Condition` says, in the plainest way."""
    in_query = [(name.encode(), value.encode()) for name, value in query]
    pairs = request.headers if condition.source is Source.HEADER else in_query
    values = [value for name, value in pairs if name == condition.name]
    if condition.how is How.EXACT:
        return (condition.value in values) != condition.negated
    return any(value.startswith(condition.value) for value in values) != condition.negated


def key_of(rule: Rule[int]) -> object:
    asks = rule.matcher.asks if rule.matcher else (frozenset(), frozenset())
    return rule.host, rule.path_prefix, asks


@settings(max_examples=200, deadline=None)
@given(
    st.lists(RULES, min_size=5, max_size=12, unique_by=key_of),
    st.sampled_from(["x.test", "y.test", "other"]),
    st.lists(st.sampled_from(["a", "b", ".."]), max_size=2),
    REQUESTS,
)
def test_find_with_conditions_agrees_with_a_search_of_all_rules(
    rules: list[Rule[int]],
    host: str,
    segments: list[str],
    asked: tuple[bytes, list[tuple[bytes, bytes]], list[tuple[str, str]]],
) -> None:
    rules = [replace(rule, upstream=number) for number, rule in enumerate(rules)]
    method, fields, query = asked
    path = "/" + "/".join(segments)
    whole = f"{path}?{'&'.join('='.join(pair) for pair in query)}".encode()
    request = Asked(method, whole, tuple(fields))

    def fits(rule: Rule[int]) -> bool:
        if not matches(rule, host, normal_path(whole).decode()):
            return False
        methods, conditions = (rule.matcher or Matcher()).asks
        allowed = not methods or method in methods
        return allowed and all(holds(one, request, query) for one in conditions)

    def rank(rule: Rule[int]) -> tuple[int, bool, int, int, int, int]:
        exact = rule.host is not None and not rule.host.startswith("*.")
        matcher = rule.matcher or Matcher()
        place = (len(rule.path_prefix), exact, len(rule.host or ""))
        return (*place, rule.priority, matcher.weight, -rule.upstream)

    candidates = [rule for rule in rules if fits(rule)]
    expected = max(candidates, key=rank).upstream if candidates else None
    assert RouteTable(rules).find(host, whole, request) == expected


def matcher(*methods: bytes, headers: bytes = b"") -> Matcher:
    """Ask for one of some methods, and for headers by names of one letter."""
    names = [headers[place : place + 1] for place in range(len(headers))]
    conditions = [Condition(Source.HEADER, name, How.PRESENT) for name in names]
    return Matcher(frozenset(methods), conditions)


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        (b"PUT", b"", "rest"),
        (b"GET", b"", "get"),
        # More conditions before fewer, wherever they stand; methods count as one.
        (b"GET", b"x", "get x"),
        (b"PUT", b"x", "x"),
        (b"PUT", b"xy", "x y"),
        # Of equally many, the first.
        (b"GET", b"xy", "get x"),
        # Before all of them, a higher priority.
        (b"GET", b"xyz", "z first"),
        (b"GET", b"xyw", "get x"),
        (b"GET", b"w", "get"),
        (b"PUT", b"w", "rest"),
    ],
)
def test_the_order_of_rules_with_the_same_host_and_prefix(
    method: bytes, headers: bytes, expected: str
) -> None:
    rules = [
        ("rest", None, 0),
        ("w last", matcher(b"GET", headers=b"w"), -1),
        ("get", matcher(b"GET"), 0),
        ("x", matcher(headers=b"x"), 0),
        ("get x", matcher(b"GET", headers=b"x"), 0),
        ("x y", matcher(headers=b"xy"), 0),
        ("z first", matcher(headers=b"z"), 1),
    ]
    table = RouteTable(Rule(None, "/", name, asks, priority) for name, asks, priority in rules)
    fields = tuple((headers[place : place + 1], b"") for place in range(len(headers)))
    assert table.find("a", b"/p", Asked(method, b"/p", fields)) == expected


def test_rules_with_conditions_need_a_request() -> None:
    table = RouteTable([Rule(None, "/", 1), Rule("a.test", "/x", 2, matcher(b"GET"))])
    assert table.find("a.test", b"/x") is None
    assert table.find("a.test", b"/x", Asked(b"GET", b"/x", ())) == 2
    assert table.find("a.test", b"/x", Asked(b"PUT", b"/x", ())) == 1
    assert table.find("b.test", b"/x") == 1


def test_cost_does_not_follow_the_number_of_rules_or_of_segments() -> None:
    def cost(rules: int, path: bytes) -> float:
        table = RouteTable(Rule(f"h{i}.test", f"/p{i}/q", i) for i in range(rules))
        started = time.process_time()
        for _ in range(2000):
            table.find("h3.test", path)
        return time.process_time() - started

    few = min(cost(10, b"/p3/q/x") for _ in range(3))
    many = min(cost(10_000, b"/p3/q/x") for _ in range(3))
    long = min(cost(10, b"/p3/q" + b"/x" * 2000) for _ in range(3))
    assert many < few * 10
    assert long < few * 20
