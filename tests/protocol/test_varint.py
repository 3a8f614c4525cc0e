"""Variable-length integers, against the examples of their RFC and against each other."""

import pytest
from aioquic._buffer import Buffer
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol import varint

EXAMPLES = [
    (0, "00"),
    (37, "25"),
    (63, "3f"),
    (64, "4040"),
    (15293, "7bbd"),
    (16383, "7fff"),
    (16384, "80004000"),
    (494878333, "9d7f3e7d"),
    ((1 << 30) - 1, "bfffffff"),
    (1 << 30, "c000000040000000"),
    (151288809941952652, "c2197c5eff14e88c"),
    (varint.MAX_VARINT, "ffffffffffffffff"),
]
"""RFC 9000 appendix A.1, and both sides of each step in length."""


@pytest.mark.parametrize(("value", "octets"), EXAMPLES)
def test_examples(value: int, octets: str) -> None:
    encoded = bytes.fromhex(octets)
    assert varint.encode(value) == encoded
    assert varint.decode(encoded, 0) == (value, len(encoded))


def test_a_longer_form_than_need_be_is_read() -> None:
    assert varint.decode(bytes.fromhex("4025"), 0) == (37, 2)


@given(
    value=st.integers(0, varint.MAX_VARINT),
    before=st.binary(max_size=9),
    after=st.binary(max_size=9),
)
def test_what_is_encoded_is_decoded_in_its_place(value: int, before: bytes, after: bytes) -> None:
    encoded = varint.encode(value)
    octets = before + encoded + after
    assert varint.decode(octets, len(before)) == (value, len(before) + len(encoded))
    assert varint.decode(bytearray(octets), len(before))[0] == value
    assert Buffer(data=encoded).pull_uint_var() == value
    for end in range(len(encoded)):
        assert varint.decode(encoded[:end], 0) == (0, -1)


@given(octets=st.binary(max_size=12), at=st.integers(0, 14))
def test_decode_never_raises_and_never_reads_past_the_end(octets: bytes, at: int) -> None:
    _, end = varint.decode(octets, at)
    assert end == -1 or at < end <= len(octets)


def test_a_frame_is_its_type_its_length_and_its_payload() -> None:
    assert varint.frame(varint.FRAME_DATA, b"abc") == b"\x00\x03abc"
    assert varint.frame(0x21, b"x" * 64) == b"\x21\x40\x40" + b"x" * 64
