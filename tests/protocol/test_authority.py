import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.authority import is_same_authority, split_authority


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"example.com", ("example.com", None)),
        (b"EXAMPLE.com:8443", ("example.com", 8443)),
        (b"example.com.", ("example.com", None)),
        (b"example.com.:1", ("example.com", 1)),
        (b"example.com:", ("example.com", None)),
        (b"localhost:65535", ("localhost", 65535)),
        (b"under_score.test", ("under_score.test", None)),
        (b"192.0.2.1:443", ("192.0.2.1", 443)),
        (b"[2001:DB8:0:0::1]", ("[2001:db8::1]", None)),
        (b"[::1]:4433", ("[::1]", 4433)),
        (b"a" * 255, ("a" * 255, None)),
    ],
)
def test_split(authority: bytes, expected: tuple[str, int | None]) -> None:
    assert split_authority(authority) == expected


@pytest.mark.parametrize(
    "authority",
    [
        b"",
        b".",
        b":443",
        b"a..b",
        b".a",
        b"a:b",
        b"a:0",
        b"a:65536",
        b"a:443443",
        b"a:1:2",
        b"user@a",
        b"user:pass@a",
        b"a/b",
        b"a b",
        b"a,b",
        b"a\x00",
        b"a\n",
        b"%61",
        b"*.a",
        b"\xc3\xa9.test",
        b"::1",
        b"[::1",
        b"[]",
        b"[1.2.3.4]",
        b"[fe80::1%25eth0]",
        b"[v1.x]",
        b"[::1]x",
        b"a" * 262,
    ],
)
def test_malformed(authority: bytes) -> None:
    with pytest.raises(ValueError, match=r"authority|address|Expected|At least"):
        split_authority(authority)


@given(st.binary(max_size=40) | st.from_regex(rb"[a-z.:\[\]0-9@]{0,20}", fullmatch=True))
def test_any_octets_are_split_or_refused(authority: bytes) -> None:
    try:
        host, port = split_authority(authority)
    except ValueError:
        return
    again = host.encode() if port is None else f"{host}:{port}".encode()
    assert split_authority(again) == (host, port)
    assert is_same_authority(again, authority)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"a.test", b"A.test:443", True),
        (b"a.test.", b"a.test", True),
        (b"[::1]", b"[0:0::1]:443", True),
        (b"a.test", b"a.test:80", False),
        (b"a.test", b"b.test", False),
    ],
)
def test_same(one: bytes, other: bytes, same: bool) -> None:
    assert is_same_authority(one, other) is same
    assert is_same_authority(other, one) is same
