"""Tokens of NEW_TOKEN frames: whom they prove, and what they do not."""

import pytest

from spooky.protocol.cid import mint
from spooky.protocol.datagram import VERSION_1, VERSION_2, Datagram, Kind
from spooky.protocol.messages import Path
from spooky.protocol.new_token import SEED_OCTETS, TOKEN_LIFETIME_S, NewTokens
from spooky.protocol.retry import RetryTokens

KEY = bytes(range(32))
NOW = 5000.0
RAND = bytes(range(100, 116))
PATH = Path(("192.0.2.1", 40000))
TOKEN = NewTokens(KEY).seal(VERSION_1, PATH, NOW, RAND)


@pytest.mark.parametrize("port", [40000, 40001])
@pytest.mark.parametrize("age", [0.0, TOKEN_LIFETIME_S - 0.002])
def test_it_proves_an_address_from_any_port(port: int, age: float) -> None:
    path = Path(("192.0.2.1", port), b"elsewhere")
    assert NewTokens(KEY).open(TOKEN, VERSION_1, path, NOW + age) == RAND


@pytest.mark.parametrize(
    ("token", "version", "host", "age"),
    [
        pytest.param(TOKEN, VERSION_1, "192.0.2.1", TOKEN_LIFETIME_S, id="expired"),
        pytest.param(TOKEN, VERSION_1, "192.0.2.2", 0.0, id="other address"),
        pytest.param(TOKEN, VERSION_2, "192.0.2.1", 0.0, id="other version"),
        pytest.param(b"", VERSION_1, "192.0.2.1", 0.0, id="none"),
        pytest.param(TOKEN[:-1], VERSION_1, "192.0.2.1", 0.0, id="cut"),
        pytest.param(TOKEN[:SEED_OCTETS], VERSION_1, "192.0.2.1", 0.0, id="a seed alone"),
        pytest.param(b"x" * 40, VERSION_1, "192.0.2.1", 0.0, id="made up"),
    ],
)
def test_it_proves_nothing(token: bytes, version: int, host: str, age: float) -> None:
    assert NewTokens(KEY).open(token, version, Path((host, 40000)), NOW + age) is None


def test_it_is_told_from_the_token_of_a_retry() -> None:
    """Under the same key, either way (RFC 9000 section 8.1.1)."""
    source = mint(3, bytes(9))
    first = Datagram(Kind.INITIAL, bytes(8), b"c", VERSION_1)
    of_retry = RetryTokens(KEY).seal(first, PATH, source, NOW, RAND)
    assert NewTokens(KEY).open(of_retry, VERSION_1, PATH, NOW) is None
    second = Datagram(Kind.INITIAL, source, b"c", VERSION_1, TOKEN)
    assert RetryTokens(KEY).open(second, PATH, NOW) is None


def test_the_key_is_needed() -> None:
    assert NewTokens(bytes(32)).open(TOKEN, VERSION_1, PATH, NOW) is None
