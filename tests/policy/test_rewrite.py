import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.matchers import LONGEST_MATCHED
from spooky.policy.rewrite import is_path, replace_prefix, rewrite_by_pattern


@pytest.mark.parametrize(
    ("old", "new", "path", "expected"),
    [
        ("/api", "/v2", b"/api/x?y=/api", b"/v2/x?y=/api"),
        ("/api", "/v2", b"/api", b"/v2"),
        ("/api", "/v2/", b"/api/", b"/v2/"),
        ("/api", "/", b"/api/x", b"/x"),
        ("/api", "/", b"/api?q", b"/?q"),
        ("/api", "/a/b", b"/api/", b"/a/b/"),
        ("/", "/v2", b"/x", b"/v2/x"),
        ("/", "/v2", b"/", b"/v2/"),
        ("/", "/", b"/x", b"/x"),
        # What routes compare is what is rewritten.
        ("/api", "/v2", b"/x/../api/%61", b"/v2/a"),
        ("/api", "/v2", b"//api/x?", b"/v2/x?"),
        ("/api", "/v2", b"/api/a%2fb", b"/v2/a%2fb"),
        ("/api", "/v2", b"/apis", b"/apis"),
        ("/", "/v2", b"*", b"*"),
    ],
)
def test_replaced_prefixes(old: str, new: str, path: bytes, expected: bytes) -> None:
    assert replace_prefix(old, new)(path) == expected


@pytest.mark.parametrize(
    ("pattern", "template", "path", "expected"),
    [
        (r"/u/([^/]+)/p/(\d+)", r"/posts/\2/of/\1", b"/u/me/p/7?x=1", b"/posts/7/of/me?x=1"),
        (r"/u/(?P<who>.+)", r"/\g<who>", b"/u/a/b", b"/a/b"),
        (r"/(a)?(b)?", r"/\1-\2", b"/b", b"/-b"),
        (r"/x", r"/\\1", b"/x", b"/\\1"),
        (r"/x", "/y", b"/xx", b"/xx"),
        (r"/x.*", "/y", b"/./x/z", b"/y"),
        (r"/x.*", "/y", b"/x" + b"a" * (LONGEST_MATCHED - 2), b"/y"),
        (r"/x.*", "/y", b"/x" + b"a" * LONGEST_MATCHED, b"/x" + b"a" * LONGEST_MATCHED),
        (r".*", "/y", b"*", b"*"),
    ],
)
def test_rewritten_paths(pattern: str, template: str, path: bytes, expected: bytes) -> None:
    assert rewrite_by_pattern(pattern, template)(path) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (r"/\1", "no group 1"),
        (r"/\g<x>", "no group x"),
        (r"/\g<0>", "is no group"),
        (r"/\n", "is no group"),
        ("/x\\", "is no group"),
        (r"\1", "no path"),
        ("x", "no path"),
        ("", "no path"),
        ("/a b", "no path"),
        ("/a\n", "no path"),
        ("/a?b=c", "no path"),
        ("/a#b", "no path"),
        ("/ä", "no path"),
    ],
)
def test_templates_that_are_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rewrite_by_pattern("/x", template)


@pytest.mark.parametrize("new", ["", "x", "/a b", "/a?b", "/\r\n", "/ä"])
def test_prefixes_that_are_refused(new: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        replace_prefix("/x", new)


def test_a_pattern_that_does_not_compile() -> None:
    with pytest.raises(re.error):
        rewrite_by_pattern("(", "/x")


VISIBLE = [chr(octet) for octet in range(0x21, 0x7F) if chr(octet) != "#"]
PATHS = st.text(st.sampled_from(VISIBLE) | st.sampled_from("/.%2e?ab"), max_size=40).map(
    lambda rest: b"/" + rest.encode()
)
PREFIXES = st.lists(st.sampled_from(["a", "b", "%2f", "x.y"]), max_size=3).map(
    lambda segments: "/" + "/".join(segments)
)
TEMPLATES = st.lists(
    st.sampled_from([r"\1", r"\2", r"\g<n>", r"\\", "/", "a", "%"]), max_size=6
).map(lambda parts: "/" + "".join(parts))
PATTERNS = st.sampled_from([r"(/[^/]*)(/?)(?P<n>.*)", "(.)(.)(?P<n>.*)", "/(a)?(b)?(?P<n>c)?.*"])


def is_sendable(path: bytes) -> bool:
    plain, _, query = path.partition(b"?")
    allowed = (string.ascii_letters + string.digits + string.punctuation).encode()
    return is_path(plain) and not query.translate(None, allowed)


@given(PREFIXES, PREFIXES, PATHS)
def test_a_replaced_prefix_leaves_a_path(old: str, new: str, path: bytes) -> None:
    assert is_sendable(replace_prefix(old, new)(path))


@given(PATTERNS, TEMPLATES, PATHS)
def test_a_rewritten_path_is_a_path(pattern: str, template: str, path: bytes) -> None:
    rewritten = rewrite_by_pattern(pattern, template)(path)
    assert is_sendable(rewritten)
    assert rewritten.partition(b"?")[2] == path.partition(b"?")[2]
