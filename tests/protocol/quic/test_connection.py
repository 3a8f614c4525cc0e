"""The QUIC connection on aioquic: what of it is private, connection IDs, TLS and flow control."""

import ast
import gc
import importlib.metadata
import inspect
import tomllib
import weakref
from collections.abc import Callable
from pathlib import Path as FilePath
from types import MethodType
from typing import Any

import pytest
from aioquic import tls
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.quic.recovery import QuicPacketPacer

import spooky.protocol.quic
from spooky.errors import H3Code
from spooky.protocol.cid import CID_LENGTH, is_ours, reset_token, slot_of
from spooky.protocol.downstream import ServerIdentity
from spooky.protocol.messages import (
    Body,
    CidIssued,
    CidRetired,
    Closed,
    Path,
    Ready,
    RequestHead,
    Reset,
)
from spooky.protocol.quic import ServerConnection
from tests.protocol.quic_pair import (
    PATH,
    RESET_KEY,
    SLOT,
    H3Client,
    Pair,
    client_configuration,
    connect,
    engine_of,
    identity,
    make_aioquic,
    server_settings,
)
from tests.protocol.raw_client import RawClient, request

WINDOW = 32 * 1024
V1, V2 = int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2)


def quic_of(pair: Pair) -> ServerConnection:
    return engine_of(pair)._quic


# --- what of aioquic is private --------------------------------------------------------------

PRIVATE: dict[str, set[str]] = {
    "connection": {
        "_ack_eliciting_sent_since_receipt",
        "_assert_stream_can_receive",
        "_close_at",
        "_close_event",
        "_close_pending",
        "_crypto_streams",
        "_cryptos",
        "_cryptos_initial",
        "_datagrams_pending",
        "_events",
        "_get_or_create_stream",
        "_get_or_create_stream_for_send",
        "_handle_ack_frame",
        "_handshake_confirmed",
        "_handshake_done_pending",
        "_host_cid_seq",
        "_host_cids",
        "_idle_timeout",
        "_initialize",
        "_local_ack_delay_exponent",
        "_local_initial_source_connection_id",
        "_local_max_data",
        "_local_max_streams_bidi",
        "_local_max_streams_uni",
        "_logger",
        "_loss",
        "_max_datagram_size",
        "_network_paths",
        "_on_ack_delivery",
        "_on_max_stream_data_delivery",
        "_pacing_at",
        "_packet_number",
        "_payload_received",
        "_peer_cid",
        "_ping_pending",
        "_probe_pending",
        "_quic_logger",
        "_remote_active_connection_id_limit",
        "_remote_max_data",
        "_remote_max_data_used",
        "_replenish_connection_ids",
        "_retire_connection_ids",
        "_spaces",
        "_spin_bit",
        "_spin_highest_pn",
        "_state",
        "_stream_limit",
        "_streams",
        "_streams_blocked_pending",
        "_streams_queue",
        "_version",
        "_write_connection_limits",
        "_write_stream_limits",
        "host_cid",
        "tls",
    },
    "tls context": {
        "_ec_private_keys",
        "_x25519_private_key",
        "_psk_key_exchange_mode",
        "_server_handle_hello",
        "certificate",
        "certificate_chain",
        "certificate_private_key",
        "get_session_ticket_cb",
        "handshake_extensions",
        "key_schedule",
        "received_extensions",
    },
    "path": {"addr", "bytes_received", "bytes_sent", "is_validated", "remote_challenges"},
    "keys": {"_update_key_requested", "key_phase", "recv", "send"},
    "keys of a direction": {"aead", "hp", "is_valid", "key_phase", "secret"},
    "aead": {"_aead", "_iv"},
    "header protection": {"_encryptor", "_is_chacha20", "_mask"},
    "stream": {
        "is_blocked",
        "is_finished",
        "max_stream_data_local",
        "max_stream_data_local_sent",
        "max_stream_data_remote",
        "receiver",
        "sender",
    },
    "receiver": {
        "_buffer",
        "_buffer_start",
        "_final_size",
        "_ranges",
        "handle_frame",
        "highest_offset",
        "is_finished",
        "stop",
        "stop_pending",
    },
    "sender": {
        "_buffer",
        "_buffer_fin",
        "_buffer_start",
        "_buffer_stop",
        "_pending",
        "_pending_eof",
        "_reset_error_code",
        "buffer_is_empty",
        "get_frame",
        "highest_offset",
        "is_finished",
        "next_offset",
        "on_data_delivery",
        "reset",
        "reset_pending",
        "write",
    },
    "ranges": {"_RangeSet__ranges", "add"},
    "limit": {"sent", "used", "value"},
    "loss recovery": {
        "_pacer",
        "_pto_count",
        "bytes_in_flight",
        "congestion_window",
        "get_probe_timeout",
        "on_packet_sent",
        "spaces",
    },
    "space": {
        "ack_at",
        "ack_queue",
        "expected_packet_number",
        "largest_received_packet",
        "largest_received_time",
        "received_packets",
        "sent_packets",
    },
    "pacer": {
        "_max_datagram_size",
        "bucket_max",
        "bucket_time",
        "next_send_time",
        "packet_time",
        "update_bucket",
        "update_rate",
    },
}
"""Every attribute of aioquic that protocol/quic reaches into, by the object that has it."""

OVERRIDDEN: dict[str, list[str]] = {
    "_confirm_handshake": ["self"],
    "_handle_streams_blocked_frame": ["self", "context", "frame_type", "buf"],
    "_get_or_create_stream": ["self", "frame_type", "stream_id"],
    "_get_or_create_stream_for_send": ["self", "stream_id"],
    "_handle_crypto_frame": ["self", "context", "frame_type", "buf"],
    "_handle_stream_frame": ["self", "context", "frame_type", "buf"],
    "_initialize": ["self", "peer_cid"],
    "_on_max_stream_data_delivery": ["self", "delivery", "stream"],
    "_payload_received": ["self", "context", "plain", "crypto_frame_required"],
    "_replenish_connection_ids": ["self"],
    "_write_connection_limits": ["self", "builder", "space"],
    "_write_stream_limits": ["self", "builder", "space", "stream"],
    "datagrams_to_send": ["self", "now"],
    "handle_timer": ["self", "now"],
}


def private_objects() -> dict[str, Any]:
    pair = connect()
    stream = H3Client(pair).request(end=False)
    pair.run(lambda: pair.told_of(RequestHead))
    quic = quic_of(pair)
    keys = quic._cryptos[tls.Epoch.ONE_RTT]
    return {
        "connection": quic,
        "tls context": quic.tls,
        "stream": quic._streams[stream],
        "receiver": quic._streams[stream].receiver,
        "sender": quic._streams[stream].sender,
        "ranges": quic._streams[stream].receiver._ranges,
        "limit": quic._local_max_data,
        "loss recovery": quic._loss,
        "space": quic._loss.spaces[0],
        "pacer": QuicPacketPacer(max_datagram_size=1200),
        "path": quic._network_paths[0],
        "keys": keys,
        "keys of a direction": keys.send,
        "aead": keys.send.aead,
        "header protection": keys.send.hp,
    }


@pytest.mark.parametrize("name", PRIVATE)
def test_aioquic_still_has_what_we_reach_into(name: str) -> None:
    found = private_objects()[name]
    missing = {attribute for attribute in PRIVATE[name] if not hasattr(found, attribute)}
    assert not missing, f"aioquic's {name} no longer has {missing}: adapt spooky/protocol/quic"


@pytest.mark.parametrize("method", OVERRIDDEN)
def test_what_is_overridden_still_takes_the_same(method: str) -> None:
    theirs = getattr(QuicConnection, method, None)
    assert theirs is not None, f"aioquic no longer has QuicConnection.{method}"
    assert list(inspect.signature(theirs).parameters) == OVERRIDDEN[method]
    assert getattr(ServerConnection, method) is not theirs


def test_the_table_of_private_attributes_is_complete() -> None:
    folder = FilePath(spooky.protocol.quic.__file__).parent
    sources = set(folder.glob("*.py")) - {folder / "path_mtu.py"}  # It is pure.
    used = {
        node.attr
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    defined = {
        name
        for part in ServerConnection.__mro__
        if part.__module__.startswith("spooky.")
        for name in (*vars(part), *part.__annotations__)
    }
    ours = defined - set(OVERRIDDEN) | {"_proven_path", "_connection"}
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    known = {name for names in PRIVATE.values() for name in names if name.startswith("_")}
    assert private - ours == known - set(OVERRIDDEN) | (private & set(OVERRIDDEN))


def test_aioquic_is_pinned_to_the_version_that_was_read() -> None:
    project = tomllib.loads((FilePath(__file__).parents[3] / "pyproject.toml").read_text())
    assert "aioquic==1.7.2" in project["project"]["dependencies"]
    assert importlib.metadata.version("aioquic") == "1.7.2"


def test_tls_is_asked_for_the_server_name_as_before() -> None:
    assert "server_name" in set(tls.ClientHello.__dataclass_fields__)
    assert callable(tls.pull_client_hello)


# --- connection IDs --------------------------------------------------------------------------


def test_every_connection_id_carries_the_slot() -> None:
    pair = connect(slot=201)
    issued = [event.cid for event in pair.told_of(CidIssued)]
    first = pair.client._remote_initial_source_connection_id
    assert first is not None
    known = {cid.cid for cid in (pair.client._peer_cid, *pair.client._peer_cid_available)}
    assert known == {first, *issued}
    assert len(known) == 8
    assert {len(cid) for cid in known} == {CID_LENGTH}
    assert {slot_of(cid) for cid in known} == {201}
    assert all(map(is_ours, known))
    assert set(quic_of(pair).connection_ids()) == known


def test_reset_tokens_are_derived_from_the_connection_ids() -> None:
    pair = connect()
    learned = [pair.client._peer_cid, *pair.client._peer_cid_available]
    tokens = {cid.cid: cid.stateless_reset_token for cid in learned}
    assert len(tokens) == 8
    assert tokens == {cid: reset_token(RESET_KEY, cid) for cid in tokens}


def test_a_retired_connection_id_is_told_of_and_replaced() -> None:
    pair = connect()
    first = pair.client._peer_cid.cid
    pair.client.change_connection_id()
    pair.client.send_ping(1)
    pair.run(lambda: pair.told_of(CidRetired))
    assert pair.told_of(CidRetired) == [CidRetired(first)]
    pair.advance(0.5)
    issued = [event.cid for event in pair.told_of(CidIssued)]
    assert len(issued) == 8
    assert slot_of(issued[-1]) == SLOT
    assert set(quic_of(pair).connection_ids()) == set(issued)


def test_the_answer_leaves_by_the_path_of_a_client_that_moved() -> None:
    pair = connect()
    moved = Path(("192.0.2.77", 1234), PATH.local)
    seen: list[Path] = []
    send = pair.engine.datagrams_to_send

    def spy(now: float) -> list[tuple[bytes, Path]]:
        datagrams = send(now)
        seen.extend(path for _, path in datagrams)
        return datagrams

    pair.engine.datagrams_to_send = spy  # type: ignore[method-assign]
    pair.path = moved
    pair.client.change_connection_id()
    client = RawClient(pair)
    client.send(0, request(), end=True)
    pair.run(lambda: pair.told_of(RequestHead))
    pair.advance(1)
    pair.engine.send_head(0, 200, [], end=True)
    pair.run(lambda: 0 in client.ended)
    assert seen[-1] == moved


# --- TLS and versions ------------------------------------------------------------------------

CERTIFICATES = {"rsa.example": "rsa", "p256.example": "p256", "ed.example": "ed25519"}


def select(name: str | None) -> ServerIdentity:
    return identity(name, CERTIFICATES[name]) if name in CERTIFICATES else identity()


@pytest.mark.parametrize("name", ["rsa.example", "p256.example", "ed.example", "other.example"])
def test_the_certificate_is_chosen_by_the_server_name(name: str) -> None:
    configuration = client_configuration(server_name=name)
    pair = Pair(make_aioquic, server_settings(select=select), configuration).connect()
    shown = pair.client.tls._peer_certificate
    assert shown == select(name).chain[0]
    assert pair.told_of(Ready)[0].server_name == name


def test_the_server_name_is_told_in_one_spelling() -> None:
    asked: list[str | None] = []

    def note(name: str | None) -> ServerIdentity:
        asked.append(name)
        return identity()

    configuration = client_configuration(server_name="LocalHost.")
    pair = Pair(make_aioquic, server_settings(select=note), configuration).connect()
    assert pair.told_of(Ready)[0].server_name == "localhost"
    assert asked == [None, "localhost"]


@pytest.mark.parametrize(
    ("versions", "original", "agreed"),
    [([V1], V1, V1), ([V2], V2, V2), ([V2, V1], V1, V2), ([V1, V2], V1, V1)],
)
def test_both_versions_of_quic(versions: list[int], original: int, agreed: int) -> None:
    configuration = client_configuration(supported_versions=versions, original_version=original)
    pair = Pair(make_aioquic, configuration=configuration).connect()
    assert pair.told_of(Ready)[0].version == agreed
    pair.on_event = lambda event: (
        pair.engine.send_head(event.stream, 200, [], end=True)
        if isinstance(event, RequestHead)
        else None
    )
    assert H3Client(pair).fetch().status == b"200"


def test_a_client_without_our_protocol_is_refused() -> None:
    pair = Pair(make_aioquic, configuration=client_configuration(alpn_protocols=["hq-interop"]))
    pair.run(lambda: pair.told_of(Closed))
    assert pair.told_of(Closed)[0].code == 0x100 + tls.AlertDescription.no_application_protocol
    assert pair.told_of(Ready) == []


# --- flow control ----------------------------------------------------------------------------


def upload(pair: Pair, stream: int, size: int) -> None:
    RawClient.send(pair_client(pair), stream, request() + b"\x00\x80" + size.to_bytes(3, "big"))
    pair.client.send_stream_data(stream, b"u" * size)


def pair_client(pair: Pair) -> RawClient:
    return RawClient(pair, with_settings=False)


def received(pair: Pair, stream: int) -> int:
    return sum(len(body.data) for body in pair.told_of(Body) if body.stream == stream)


def test_credit_moves_the_limit_in_steps_of_half_a_window() -> None:
    pair = connect(stream_window=WINDOW, connection_window=4 * WINDOW)
    upload(pair, 0, 3 * WINDOW)
    pair.advance(2)
    held = received(pair, 0)
    sender = pair.client._streams[0]
    limit = sender.max_stream_data_remote
    pair.engine.consume(0, WINDOW // 4)
    pair.advance(1)
    assert (sender.max_stream_data_remote, received(pair, 0)) == (limit, held)
    pair.engine.consume(0, WINDOW // 4)
    pair.advance(1)
    gained = sender.max_stream_data_remote - limit
    assert WINDOW // 2 <= gained <= WINDOW // 2 + 200
    assert received(pair, 0) == held + gained


@pytest.mark.parametrize("how", ["stop", "reset", "client"])
def test_streams_given_up_midway_leak_nothing_of_the_connection_window(how: str) -> None:
    pair = connect(stream_window=WINDOW, connection_window=2 * WINDOW)
    stream = 0
    for _ in range(12):
        upload(pair, stream, 2 * WINDOW)
        pair.run(lambda stream=stream: received(pair, stream))  # type: ignore[misc]
        if how == "stop":
            pair.engine.stop(stream, H3Code.NO_ERROR)
        elif how == "reset":
            pair.engine.reset(stream, H3Code.INTERNAL_ERROR)
        pair.advance(0.3)
        pair.client.reset_stream(stream, H3Code.REQUEST_CANCELLED)
        pair.advance(0.3)
        pair.engine.send_head(stream, 200, [], end=True)
        stream += 4
    assert len(pair.told_of(Reset)) == (12 if how == "client" else 0)
    upload(pair, stream, WINDOW - 200)
    pair.run(lambda: received(pair, stream) == WINDOW - 200)
    upload(pair, stream + 4, WINDOW // 2)
    pair.run(lambda: received(pair, stream + 4) == WINDOW // 2)


def test_lost_octets_of_a_reset_stream_are_given_back_too() -> None:
    pair = connect(stream_window=WINDOW, connection_window=WINDOW)
    for stream in range(0, 80, 4):
        upload(pair, stream, WINDOW - 100)
        assert pair.client.datagrams_to_send(pair.now)  # Lost.
        pair.client.reset_stream(stream, H3Code.REQUEST_CANCELLED)
        pair.advance(1)
    upload(pair, 80, WINDOW // 2)
    pair.run(lambda: received(pair, 80) == WINDOW // 2)


def test_limits_that_are_lost_on_the_way_are_sent_again() -> None:
    pair = connect(stream_window=WINDOW, connection_window=2 * WINDOW)
    upload(pair, 0, 3 * WINDOW)
    pair.advance(2)
    pair.engine.consume(0, received(pair, 0))
    assert pair.engine.datagrams_to_send(pair.now)  # Lost, with MAX_STREAM_DATA in it.
    before = received(pair, 0)
    pair.run(lambda: received(pair, 0) > before)


# --- sending ---------------------------------------------------------------------------------


def test_the_octets_of_a_reset_response_are_let_go() -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(0, request(), end=True)
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.send_head(0, 200, [], end=False)
    pair.engine.send_body(0, b"x" * 200_000, end=False)
    pair.engine.datagrams_to_send(pair.now)
    assert quic_of(pair).buffered(0) > 199_000
    pair.engine.reset(0, H3Code.INTERNAL_ERROR)
    assert quic_of(pair).buffered(0) == 0
    pair.run(lambda: 0 in client.resets)
    pair.run(pair.engine.is_idle)


def test_many_streams_share_the_packets() -> None:
    pair = connect()
    client = RawClient(pair)
    for stream in range(0, 40, 4):
        client.send(stream, request(), end=True)
    pair.run(lambda: len(pair.told_of(RequestHead)) == 10)
    for stream in range(0, 40, 4):
        pair.engine.send_head(stream, 200, [], end=False)
        pair.engine.send_body(stream, b"z" * 2000, end=True)
    first = pair.engine.datagrams_to_send(pair.now)
    # Congestion control holds some of the 20,000 octets back; no packet that left is half empty.
    assert all(len(data) > 1100 for data, _ in first[:-1])
    pair.run(lambda: len(client.ended) == 10)
    assert all(client.frames(stream)[-1] == (0, b"z" * 2000) for stream in range(0, 40, 4))


# --- the end ---------------------------------------------------------------------------------


def _over(pair: Pair) -> None:
    H3Client(pair).request()
    pair.run(lambda: pair.told_of(RequestHead))
    pair.client.close(error_code=H3Code.NO_ERROR)
    pair.run(lambda: pair.engine.deadline() is None)


def _unanswered(pair: Pair) -> None:
    stream = H3Client(pair).request()
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.send_head(stream, 200, [], end=True)
    pair.engine.datagrams_to_send(pair.now)


ENDS: dict[str, Callable[[], Pair]] = {
    "over": lambda: _after(connect(), _over),
    "with packets that are not acknowledged": lambda: _after(connect(), _unanswered),
    "in the handshake": lambda: _after(
        Pair(make_aioquic, server_settings()), lambda pair: pair.advance(0.005)
    ),
    "before a datagram": lambda: Pair(make_aioquic, server_settings()),
}


def _after(pair: Pair, step: Callable[[Pair], object]) -> Pair:
    step(pair)
    return pair


@pytest.mark.parametrize("end", ENDS)
def test_a_released_connection_is_freed_without_the_collector(end: str) -> None:
    pair = ENDS[end]()
    engine = engine_of(pair)
    freed = weakref.ref(engine._quic)
    pair.engine = make_aioquic(server_settings(), b"another one")
    gc.collect()
    gc.disable()
    try:
        engine.release()
        del engine
        assert freed() is None
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [type(found).__name__ for found in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


def test_the_table_of_frame_handlers_is_one_for_all() -> None:
    one, other = quic_of(connect()), quic_of(connect())
    assert "_QuicConnection__frame_handlers" not in vars(one)
    handler, epochs = one._QuicConnection__frame_handlers[0x1C]
    assert isinstance(handler, MethodType)
    assert (handler.__self__, handler.__name__) == (one, "_handle_connection_close_frame")
    theirs, _ = other._QuicConnection__frame_handlers[0x1C]
    assert isinstance(theirs, MethodType)
    assert theirs.__self__ is other
    assert tls.Epoch.INITIAL in epochs
    with pytest.raises(KeyError):
        one._QuicConnection__frame_handlers[0x7F]
