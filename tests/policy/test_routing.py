import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
