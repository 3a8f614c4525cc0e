import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.cid import (
    CID_LENGTH,
    MASK_OFFSET,
    SLOT_OFFSET,
    is_ours,
    mint,
    reset_token,
    slot_of,
    spread,
)


@given(st.integers(0, 255), st.binary(min_size=9, max_size=20))
def test_the_slot_comes_back(slot: int, rand: bytes) -> None:
    cid = mint(slot, rand)
    assert len(cid) == CID_LENGTH
    assert is_ours(cid)
    assert slot_of(cid) == slot
    assert cid[SLOT_OFFSET] ^ cid[MASK_OFFSET] == slot
    assert cid[1:10] == rand[:9]


def test_layout() -> None:
    cid = mint(0x5A, bytes(range(1, 10)))
    # Rotation 7 and ten octets to follow, nine random ones, 9 ^ 0x5a.
    assert cid.hex() == "ea" + "010203040506070809" + "53"
    assert cid[0] >> 5 == 7
    assert cid[0] & 0x1F == len(cid) - 1


@pytest.mark.parametrize("cid", [b"", b"\xea" * 10, b"\xea" * 12, b"\xe9" + b"\xea" * 10])
def test_not_ours(cid: bytes) -> None:
    assert not is_ours(cid)


@pytest.mark.parametrize(("slot", "octets"), [(-1, 9), (256, 9), (0, 8)])
def test_mint_refuses(slot: int, octets: int) -> None:
    with pytest.raises(ValueError, match="slot"):
        mint(slot, bytes(octets))


def test_reset_token_is_an_hmac() -> None:
    key, cid = b"k" * 32, mint(1, bytes(9))
    assert reset_token(key, cid) == hmac.new(key, cid, hashlib.sha256).digest()[:16]
    assert reset_token(b"x" * 32, cid) != reset_token(key, cid)


@pytest.mark.parametrize(
    ("dcid", "count", "place"),
    [
        (bytes([0, 0, 0, 0, 9, 9, 9, 9]), 4, 0),
        (bytes([0, 0, 0, 7, 9, 9, 9, 9]), 4, 3),
        (bytes([0, 0, 1, 0, 9, 9, 9, 9]), 10, 6),
        (b"\xff" * 20, 7, 0xFFFFFFFF % 7),
        (b"\xff" * 8, 1, 0),
        # Clients are not to send shorter ones (RFC 9000 section 7.2); some place they have, too.
        (b"", 3, 0),
        (b"\x05", 3, 2),
    ],
)
def test_clients_are_spread_by_the_first_octets_they_chose(
    dcid: bytes, count: int, place: int
) -> None:
    assert spread(dcid, count) == place


@given(st.binary(min_size=8, max_size=20), st.binary(max_size=12), st.integers(1, 128))
def test_only_the_first_four_octets_count(dcid: bytes, other: bytes, count: int) -> None:
    assert spread(dcid, count) == spread(dcid[:4] + other, count)
    assert 0 <= spread(dcid, count) < count
