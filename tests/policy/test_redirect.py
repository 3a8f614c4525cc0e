import pytest

from spooky.policy.fixed_response import FixedResponse
from spooky.policy.redirect import Redirect, replace_path, without_port
from spooky.policy.rewrite import replace_prefix


@pytest.mark.parametrize(
    ("redirect", "authority", "path", "expected"),
    [
        (Redirect(301, authority=b"b.test"), b"a.test:8443", b"/x?y", b"https://b.test/x?y"),
        (Redirect(301, authority=b"b.test:443"), b"a.test", b"/", b"https://b.test/"),
        (Redirect(301, authority=b"b.test:444"), b"a.test", b"/", b"https://b.test:444/"),
        (
            Redirect(301, path=replace_path("/n")),
            b"a.test:8443",
            b"/x?y=1",
            b"https://a.test:8443/n?y=1",
        ),
        (Redirect(301, path=replace_path("/n")), b"a.test:443", b"/x", b"https://a.test/n"),
        (
            Redirect(301, path=replace_prefix("/o", "/n")),
            b"a.test",
            b"/o/x?",
            b"https://a.test/n/x?",
        ),
        (Redirect(302, b"http"), b"a.test:8443", b"/", b"http://a.test/"),
        (Redirect(302, b"http", b"b.test:80"), b"a.test", b"/", b"http://b.test/"),
        (Redirect(302, b"http"), b"[2001:db8::1]:8443", b"/", b"http://[2001:db8::1]/"),
        (Redirect(302, b"http"), b"[2001:db8::1]", b"/", b"http://[2001:db8::1]/"),
        (Redirect(302, path=replace_path("/n")), b"a.test", b"*", b"https://a.test/"),
        # Two slashes do not name another host, for there is one before them.
        (
            Redirect(302, path=replace_prefix("/o", "/")),
            b"a.test",
            b"/o//evil",
            b"https://a.test/evil",
        ),
        (Redirect(302, b"http"), b"a.test", b"//evil.test/", b"http://a.test//evil.test/"),
    ],
)
def test_locations(redirect: Redirect, authority: bytes, path: bytes, expected: bytes) -> None:
    assert redirect.location(authority, path) == expected


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"a.test", b"a.test"),
        (b"a.test:1", b"a.test"),
        (b"[::1]:1", b"[::1]"),
        (b"[::1]", b"[::1]"),
    ],
)
def test_without_port(authority: bytes, expected: bytes) -> None:
    assert without_port(authority) == expected


@pytest.mark.parametrize(
    ("response", "fields"),
    [
        (
            FixedResponse(200, b"ok\n"),
            [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"3")],
        ),
        (FixedResponse(403), [(b"content-length", b"0")]),
        (FixedResponse(204), []),
        (
            FixedResponse(503, b"{}", b"application/json"),
            [(b"content-type", b"application/json"), (b"content-length", b"2")],
        ),
    ],
)
def test_fixed_responses(response: FixedResponse, fields: list[tuple[bytes, bytes]]) -> None:
    assert response.fields() == fields
