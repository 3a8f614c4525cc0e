"""Our HPACK against the hpack library's, both ways, and against broken blocks."""

import re

import hpack
import pytest
from hpack import HPACKDecodingError, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.protocol.hpack_decoder import FieldDecoder
from spooky.protocol.hpack_encoder import FieldEncoder
from spooky.protocol.messages import Headers

names = st.sampled_from(
    [b":method", b":path", b"accept", b"x-request-id", b"x-a", b"cookie", b"x" * 200, b"server"]
) | st.binary(min_size=1, max_size=8)
values = st.sampled_from([b"", b"GET", b"/", b"*/*", b"a" * 127, b"b" * 600]) | st.binary(
    max_size=300
)
sections = st.lists(st.lists(st.tuples(names, values), max_size=12), max_size=12)
sizes = st.lists(st.sampled_from([0, 40, 200, 4096, 65_536]), max_size=3)


@given(sections=sections, resizes=st.lists(sizes, max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_library_reads_what_the_encoder_writes(
    sections: list[Headers], resizes: list[list[int]]
) -> None:
    encoder, decoder = FieldEncoder(), hpack.Decoder(1 << 20)
    for number, fields in enumerate(sections):
        for size in resizes[number] if number < len(resizes) else []:
            encoder.header_table_size = size
            decoder.max_allowed_table_size = max(size, decoder.max_allowed_table_size)
        block = encoder.encode(fields)
        assert decoder.decode(block, raw=True) == fields
        assert decoder.header_table_size == encoder.header_table_size


@given(sections=sections, resizes=st.lists(st.integers(0, 4096)), huffman=st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_decoder_reads_what_the_library_writes(
    sections: list[Headers], resizes: list[int], huffman: bool
) -> None:
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    decoder.max_header_list_size = 1 << 20
    for number, fields in enumerate(sections):
        # The library's encoder forgets to tell of a change that is followed by the same again.
        if number < len(resizes) and resizes[number] != encoder.header_table_size:
            encoder.header_table_size = resizes[number]
        assert decoder.decode(encoder.encode(fields, huffman=huffman), raw=True) == fields


@given(blocks=st.lists(st.binary(max_size=60), max_size=4))
@settings(max_examples=1000, deadline=None)
def test_both_decoders_agree_on_noise(blocks: list[bytes]) -> None:
    theirs, ours = hpack.Decoder(1 << 14), FieldDecoder()
    ours.max_header_list_size = 1 << 14
    for block in blocks:
        try:
            expected = list(theirs.decode(block, raw=True))
        except (HPACKError, IndexError):
            with pytest.raises(HPACKError):
                ours.decode(block)
            return
        try:
            found = ours.decode(block)
        except HPACKDecodingError:
            # Only integers of more octets than any length needs are refused here alone.
            assert re.search(rb"[\x80-\xff]{5}", block)
            return
        assert found == expected


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\xff",
        b"\xff\xff\xff\xff\xff\xff\xff",
        b"\x40",
        b"\x40\x05ab",
        b"\x00\x01a\x7f\xff\xff\xff\xff\x07x",
        b"\x88\x20",
        b"\x3f\xe2\x1f",
    ],
)
def test_broken_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(HPACKError):
        FieldDecoder().decode(block)


def test_a_bomb_is_refused() -> None:
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    decoder.max_header_list_size = 65_536
    decoder.decode(encoder.encode([(b"a", b"x" * 3000)]))
    with pytest.raises(hpack.OversizedHeaderListError):
        decoder.decode(b"\xbe" * 40)


@pytest.mark.parametrize(
    ("field", "first"),
    [
        ((b"authorization", b"Basic eA=="), b"\x1f\x08"),
        ((b"proxy-authorization", b"Basic eA=="), b"\x1f\x22"),
        ((b"cookie", b"session=short"), b"\x1f\x11"),
        ((b"cookie", b"session=of-some-length"), b"\x0f\x11"),
    ],
)
def test_what_could_be_guessed_is_never_indexed(field: tuple[bytes, bytes], first: bytes) -> None:
    assert FieldEncoder().encode([field])[:2] == first


def test_secrets_stay_out_of_the_table_and_repeats_are_short() -> None:
    encoder = FieldEncoder()
    fields = [(b"authorization", b"secret"), (b"accept", b"*/*")]
    first, second = encoder.encode(fields), encoder.encode(fields)
    assert b"secret" in first
    assert b"secret" in second
    assert len(second) == len(first) - len(b"\x53\x03*/*") + 1
