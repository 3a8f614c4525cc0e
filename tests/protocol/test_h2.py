"""The contract of an upstream engine, kept by the one on h2; and what is its own."""

import pytest
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.errors import H2Code
from spooky.protocol.h2 import H2Engine
from spooky.protocol.h2_fields import FieldError, check_response
from spooky.protocol.messages import Closed, Headers, UpstreamEngine
from spooky.protocol.upstream import H2Limits
from tests.protocol.contract_upstream import UpstreamContract
from tests.protocol.contract_upstream_faults import BAD_HEADS
from tests.protocol.h2_peer import GET, OK, Peer, RawPeer


class TestH2(UpstreamContract):
    def make(self, limits: H2Limits) -> UpstreamEngine:
        return H2Engine(limits)


def test_the_library_forgets_streams_that_ended() -> None:
    engine = H2Engine(H2Limits())
    peer = Peer(engine)
    peer.connect()
    for _ in range(1000):
        stream = engine.send_request(GET)
        peer.turn()
        peer.answer(stream)
        peer.turn()
        peer.seen.clear()
    assert len(engine._h2.streams) <= 256
    assert engine._streams == {}


def test_a_fault_of_the_library_costs_the_connection_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = H2Engine(H2Limits())
    peer = RawPeer(engine)

    def stumble(_frame: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(engine._h2, "receive_frame", stumble)
    events = peer.send(peer.headers(1, OK))
    assert events == [Closed(H2Code.INTERNAL_ERROR, "KeyError: 'unforeseen'", by_peer=False)]


def refused_by_h2(fields: Headers) -> bool:
    flags = HeaderValidationFlags(
        is_client=True, is_trailer=False, is_response_header=True, is_push_promise=False
    )
    try:
        list(validate_headers(fields, flags))
    except ProtocolError:
        return True
    return False


def refused_here(fields: Headers) -> bool:
    try:
        check_response(fields, 1 << 20)
    except FieldError:
        return True
    return False


octets = st.binary(max_size=6) | st.sampled_from(
    [name for _, fields in BAD_HEADS for field in fields for name in field]
)


@given(fields=st.lists(st.tuples(octets, octets), max_size=5), status=st.booleans())
@settings(max_examples=500, deadline=None)
def test_what_h2_refuses_is_refused(fields: Headers, status: bool) -> None:
    section = [*OK, *fields] if status else fields
    if refused_by_h2(section):
        assert refused_here(section)
