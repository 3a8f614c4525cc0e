"""Harnesses of fields: what a proxy makes of a message's, and HPACK."""

import re

import hpack
from hpack import HPACKError

from spooky.config.limits import Limits
from spooky.protocol import headers
from spooky.protocol.hpack_decoder import FieldDecoder
from spooky.protocol.hpack_encoder import FieldEncoder
from spooky.protocol.messages import Headers, Path, RequestHead, ResponseHead
from spooky.protocol.request_check import CONNECTION_SPECIFIC
from tests.fuzz.octets import Octets

LIMITS = Limits()
PEERS = ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0")
ONCE = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"via")
CONTROLS = re.compile(rb"[\x00\r\n]")
LARGEST_LIST = 1 << 14


def translation(data: bytes) -> None:
    """Lines are `METHOD SCHEME AUTHORITY PATH`, then `name: value`, then, after an empty one,
    trailers. What passes the check has no octet that means something else further on."""
    text, _, trailers = data.partition(b"\n\n")
    line, *fields = text.split(b"\n")
    method, scheme, authority, path = (line.split(b" ", 3) + [b""] * 4)[:4]
    head = RequestHead(0, method, scheme, authority, path, split(fields), end=not trailers)
    if headers.check_request(head, LIMITS) is None:
        judge(head, PEERS[len(data) % len(PEERS)])
    section = split(trailers.split(b"\n"))
    if headers.check_trailers(section, LIMITS) is None:
        assert not any(CONTROLS.search(name + value) for name, value in section)
        assert not {name for name, _ in headers.forward_trailers(section)} & set(ONCE)
    passed = headers.forward_response(ResponseHead(0, 200, head.headers, end=False), b"id")
    assert [name for name, _ in passed].count(b"via") == 1
    assert not CONNECTION_SPECIFIC & {name for name, _ in passed}


def split(lines: list[bytes]) -> Headers:
    """Read lines of `name: value`."""
    found = [line.partition(b": ") for line in lines if line]
    return [(name, value) for name, _, value in found]


def judge(head: RequestHead, peer: str) -> None:
    """Check what a backend would get."""
    chosen = headers.request_id(head) or b"made"
    assert re.fullmatch(rb"[!-~]{1,128}", chosen)
    sent = headers.forward_request(head, Path((peer, 1)), chosen, b"http")
    names = [name for name, _ in sent.headers]
    assert all(names.count(name) == 1 for name in (*ONCE, b"x-request-id"))
    assert b"host" not in names
    assert names.count(b"content-length") < 2
    assert not CONNECTION_SPECIFIC & set(names)
    assert sent.authority == headers.authority_of(head) != b""
    assert headers.host_of(head) == headers.host_of(sent)
    assert not any(CONTROLS.search(name + value) for name, value in sent.headers)
    assert not any(CONTROLS.search(one) for one in (sent.method, sent.path, sent.authority))
    # A proxy behind us can do the same with it: at most the size is its own affair.
    again = RequestHead(0, sent.method, b"https", sent.authority, sent.path, sent.headers, sent.end)
    fault = headers.check_request(again, LIMITS)
    assert fault is None or "allowed" in fault.reason, fault


def hpack_blocks(data: bytes) -> None:
    """Our decoder and the library's agree, block after block; what is read can be written."""
    octets = Octets(data)
    theirs, ours = hpack.Decoder(LARGEST_LIST), FieldDecoder()
    ours.max_header_list_size = LARGEST_LIST
    encoder, reader = FieldEncoder(), hpack.Decoder(LARGEST_LIST)
    while octets:
        block = octets.piece()
        expected = decode(theirs, block)
        found = decode(ours, block)
        if found != expected:
            # Only integers of more octets than any length needs are refused here alone.
            assert found is None
            assert re.search(rb"[\x80-\xff]{5}", block)
        if found is None:
            return
        assert reader.decode(encoder.encode(found), raw=True) == found


def decode(decoder: hpack.Decoder, block: bytes) -> Headers | None:
    """Decode a block; None: it is broken. Of our errors none but HPACKError."""
    try:
        return [(bytes(one[0]), bytes(one[1])) for one in decoder.decode(block, raw=True)]
    except HPACKError:
        return None
    except IndexError:  # The library's own, on truncated blocks.
        assert not isinstance(decoder, FieldDecoder)
        return None
