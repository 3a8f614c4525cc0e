from dataclasses import dataclass, field

import pytest

from spooky.config.load import load_text
from spooky.policy.hashkey import HashKey, hash_of
from tests.config.broken import LISTEN


@dataclass
class Head:
    path: bytes = b"/"
    authority: bytes = b"example.com"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


CLIENT, CONNECTION = "192.0.2.7", b"\x01\x02"


@pytest.mark.parametrize(
    ("key", "head", "found"),
    [
        ("client_ip", Head(), b"192.0.2.7"),
        ("cid", Head(), b"\x01\x02"),
        ("path", Head(b"/a/b?c=d"), b"/a/b"),
        ("authority", Head(authority=b"API.example.com:81"), b"api.example.com:81"),
        ("authority", Head(authority=b"", headers=[(b"host", b"A.example")]), b"a.example"),
        ("header:X-User", Head(headers=[(b"x-user", b"joe"), (b"x-user", b"jim")]), b"joe"),
        ("header:x-user", Head(headers=[(b"x-user", b"")]), b""),
        ("header:x-user", Head(headers=[(b"x-other", b"joe")]), None),
        ("cookie:sid", Head(headers=[(b"cookie", b"a=1; sid=x=y;b=2")]), b"x=y"),
        ("cookie:sid", Head(headers=[(b"cookie", b"a=1"), (b"cookie", b"sid=z")]), b"z"),
        ("cookie:sid", Head(headers=[(b"cookie", b"Sid=1; xsid=2; sid2=3")]), None),
        ("query:user", Head(b"/?a=1&user=joe&user=jim"), b"joe"),
        ("query:user", Head(b"/?user"), b""),
        ("query:user", Head(b"/user=joe?xuser=jim"), None),
        ("query:user", Head(b"/"), None),
    ],
)
def test_what_a_key_finds_or_else_the_client(key: str, head: Head, found: bytes | None) -> None:
    expected = CLIENT.encode() if found is None else found
    assert HashKey(key).hash(head, CLIENT, CONNECTION) == hash_of(expected)


@pytest.mark.parametrize(
    ("key", "head", "found"),
    [
        ("client_ip", Head(b"/"), CLIENT.encode()),
        ("cid", Head(b"/"), CONNECTION),
        ("path", Head(b"/a?b"), b"/a"),
        ("query:user", Head(b"/?user=7"), b"7"),
        ("query:user", Head(b"/"), None),
        ("header:x-user", Head(b"/"), None),
        ("cookie:user", Head(b"/"), None),
    ],
)
def test_a_request_that_lacks_what_a_key_names(key: str, head: Head, found: bytes | None) -> None:
    assert HashKey(key).find(head, CLIENT, CONNECTION) == found


def test_a_hash_is_the_same_in_every_process() -> None:
    # `b2sum -l 64` says the same.
    assert hash_of(b"192.0.2.7") == 0x4B8997DA821CFF27


@pytest.mark.parametrize("key", ["", "header", "header:", "host", "cookie:", "x:y", "Path"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="client_ip, header:NAME"):
        HashKey(key)


@pytest.mark.parametrize(
    "key", ["client_ip", "header:x", "cookie:X", "query:x-y_z", "path", "authority", "cid"]
)
def test_what_the_configuration_takes_is_a_key(key: str) -> None:
    text = LISTEN + (
        "upstream:\n  api:\n    route: {path_prefix: /}\n    backends: [{address: 'h:1'}]\n"
        f"    load_balancing: {{type: maglev, key: '{key}'}}\n"
    )
    given = load_text(text).config.upstream[0].load_balancing.key
    assert given == key
    HashKey(given)
