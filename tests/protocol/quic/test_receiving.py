"""What comes most is taken without aioquic's parser: with the same result, whatever it is."""

import random
from typing import Any

import pytest
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset
from aioquic.tls import Epoch

from spooky.protocol import varint
from spooky.protocol.messages import Body, Path, RequestHead
from spooky.protocol.quic import ServerConnection, StreamData
from spooky.protocol.quic.receiving import ACK_DELAY_S, ACK_EVERY
from tests.protocol.quic_pair import PATH, Pair, connect, engine_of, make_aioquic
from tests.protocol.raw_client import request

INT = varint.encode
LATER = 50.0


def connected(**changes: Any) -> Pair:
    pair = connect(**changes)
    pair.advance(1)
    return pair


def server(pair: Pair) -> ServerConnection:
    return engine_of(pair)._quic


def seal(pair: Pair, payload: bytes, number: int | None = None) -> bytes:
    """Make a packet of the client's with this payload."""
    client = pair.client
    if number is None:
        number = client._packet_number
    client._packet_number = max(client._packet_number, number + 1)
    keys = client._cryptos[Epoch.ONE_RTT]
    first = bytes((0x41 | keys.key_phase << 2,))
    header = first + client._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
    return keys.encrypt_packet(header, payload.ljust(4, b"\0"), number)


def stream(
    number: int, offset: int, data: bytes, *, fin: bool = False, length: bool = True
) -> bytes:
    kind = 0x08 | (4 if offset else 0) | (2 if length else 0) | fin
    octets = bytes((kind,)) + INT(number) + (INT(offset) if offset else b"")
    return octets + (INT(len(data)) if length else b"") + data


def ack(largest: int, *ranges: int, delay: int = 0) -> bytes:
    first, *rest = ranges or (0,)
    octets = b"\x02" + INT(largest) + INT(delay) + INT(len(rest) // 2) + INT(first)
    return octets + b"".join(map(INT, rest))


# --- the same as aioquic ----------------------------------------------------------------------


def without_shortcut(pair: Pair) -> Pair:
    """Let aioquic take all that this engine receives."""
    vars(server(pair))["_way"] = lambda _now: None
    return pair


def take(pair: Pair, payload: bytes, number: int) -> None:
    quic = server(pair)
    quic.receive([(seal(pair, payload, number), PATH)], LATER)


def digest(events: list[QuicEvent]) -> dict[int, list[Any]]:
    """What was told of each stream, however it was cut."""
    told: dict[int, list[Any]] = {}
    for event in events:
        match event:
            case StreamData():
                data, end = b"".join(event.pieces), event.end_stream
            case StreamDataReceived():
                data, end = event.data, event.end_stream
            case StreamReset() | StopSendingReceived():
                told.setdefault(event.stream_id, []).append(event)
                continue
            case _:
                continue
        known = told.setdefault(event.stream_id, [])
        if known and isinstance(known[-1], tuple):
            data = known.pop()[0] + data
        known.append((data, end))
    return told


def state(pair: Pair) -> dict[str, Any]:
    quic = server(pair)
    space = quic._spaces[Epoch.ONE_RTT]
    return {
        "closing": quic.closing(),
        "told": digest(list(quic._events)),
        "window": quic._local_max_data.used,
        "streams": {
            number: (found.receiver.highest_offset, found.receiver._buffer_start)
            for number, found in quic._streams.items()
        },
        "largest": space.largest_received_packet,
        "to acknowledge": list(space.ack_queue),
        "in flight": sorted(space.sent_packets),
        "peer's limit": quic._remote_max_data,
    }


FRAMES = {
    "data": [stream(0, 0, b"abc")],
    "data to the packet's end": [stream(0, 0, b"abc", length=False)],
    "an end": [stream(0, 0, b"abc", fin=True)],
    "an end without data": [stream(0, 0, b"abc"), stream(0, 3, b"", fin=True)],
    "data in pieces": [stream(0, 0, b"abc") + stream(4, 0, b"x") + stream(0, 3, b"def")],
    "data out of order": [stream(0, 3, b"def"), stream(0, 0, b"abc")],
    "data that overlaps": [stream(0, 0, b"abc"), stream(0, 1, b"bcdef")],
    "data twice": [stream(0, 0, b"abc"), stream(0, 0, b"abc")],
    "data after the end": [stream(0, 0, b"abc", fin=True), stream(0, 3, b"d")],
    "another end": [stream(0, 0, b"abc", fin=True), stream(0, 2, b"", fin=True)],
    "an end before the data": [stream(0, 5, b"x"), stream(0, 0, b"abc", fin=True)],
    "data and a reset": [stream(0, 0, b"abc"), b"\x04" + INT(0) + INT(9) + INT(3)],
    "a reset, then data": [b"\x04" + INT(0) + INT(9) + INT(3), stream(0, 0, b"abc")],
    "a reset among data": [stream(0, 0, b"abc") + b"\x04" + INT(0) + INT(9) + INT(3)],
    "a stop": [stream(0, 0, b"abc"), b"\x05" + INT(0) + INT(9)],
    "a client's unidirectional stream": [stream(14, 0, b"\x21")],
    "a stream of ours": [stream(3, 0, b"abc")],
    "a stream of ours that is not there": [stream(1, 0, b"abc")],
    "too many streams": [stream(4 * 128, 0, b"abc")],
    "beyond the stream's window": [stream(0, 300_000, b"abc")],
    "beyond the largest offset": [stream(0, (1 << 62) - 2, b"abc")],
    "cut off": [stream(0, 0, b"abc")[:-1]],
    "cut off in a number": [b"\x0a\x00\x40"],
    "cut off before a number": [b"\x0e\x00"],
    "padding": [bytes(50), bytes(5) + stream(0, 0, b"abc") + bytes(5)],
    "a ping": [b"\x01" + stream(0, 0, b"abc"), stream(4, 0, b"abc") + b"\x01"],
    "an acknowledgement": [ack(1, 1), ack(2, 0, 0, 0)],
    "one of a negative packet": [ack(1, 2)],
    "one with a gap too far": [ack(2, 1, 5, 0)],
    "one that is cut off": [ack(2, 1)[:-1]],
    "one with ECN counts": [b"\x03" + ack(1, 1)[1:] + INT(1) + INT(0) + INT(0)],
    "limits": [b"\x10" + INT(1 << 21), b"\x11" + INT(0) + INT(1 << 21), b"\x12" + INT(99)],
    "an unknown frame": [b"\x40\x7f" + stream(0, 0, b"abc")],
    "a frame type in two octets": [b"\x40\x0a" + stream(0, 0, b"abc")[1:]],
    "HANDSHAKE_DONE": [b"\x1e" + bytes(3)],
    "a close": [b"\x1d" + INT(0x100) + INT(0)],
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_same_as_aioquic(name: str) -> None:
    ours, theirs = connected(), without_shortcut(connected())
    assert state(ours) == state(theirs)
    number = ours.client._packet_number
    for offset, payload in enumerate(FRAMES[name]):
        for pair in (ours, theirs):
            take(pair, payload, number + offset)
        mine, other = state(ours), state(theirs)
        if mine["closing"] is not None:
            assert other["closing"] is not None
            assert mine["closing"][0] == other["closing"][0]
            return
        assert mine == other


def test_the_same_as_aioquic_for_anything() -> None:
    chance = random.Random(2)
    whole = [payload for payloads in FRAMES.values() for payload in payloads]
    ours, theirs = connected(), without_shortcut(connected())
    closes = 0
    for _ in range(300):
        payload = bytearray(b"".join(chance.sample(whole, chance.randrange(1, 4))))
        if chance.random() < 0.4:
            payload[chance.randrange(len(payload))] = chance.randrange(256)
        del payload[chance.randrange(4, 1200) :]
        number = ours.client._packet_number + chance.choice([0, 0, 0, 1, 3, -1, -2])
        for pair in (ours, theirs):
            take(pair, bytes(payload), number)
        mine, other = state(ours), state(theirs)
        if mine["closing"] or other["closing"]:
            closes += 1
            # aioquic does not see that a packet was never sent.
            if mine["closing"] is None or "not sent" not in mine["closing"][1]:
                assert mine["closing"][0] == other["closing"][0], payload
            ours, theirs = connected(), without_shortcut(connected())
            continue
        assert mine == other, payload
    assert closes > 25


# --- what is taken ----------------------------------------------------------------------------


def test_the_shortcut_is_taken() -> None:
    pair = connected()
    quic = server(pair)
    vars(quic)["receive_datagram"] = None
    quic.receive([(seal(pair, stream(0, 0, b"abc")), PATH)], LATER)
    assert digest(list(quic._events)) == {0: [(b"abc", False)]}


def test_a_batch_is_told_in_one_piece() -> None:
    pair = connected()
    head = request()
    content = b"\x00\x44\xb0" + b"c" * 1200
    cuts = range(0, len(content), 100)
    pieces = [stream(0, 0, head)]
    pieces += [stream(0, len(head) + at, content[at : at + 100]) for at in cuts]
    events = pair.engine.receive([(seal(pair, piece), PATH) for piece in pieces], LATER)
    assert [type(event) for event in events] == [RequestHead, Body]
    assert [event.data for event in events if isinstance(event, Body)] == [b"c" * 1200]


def test_pieces_stay_in_order_around_what_is_rare() -> None:
    pair = connected()
    quic = server(pair)
    frames = [stream(0, 0, b"ab"), stream(0, 2, b"cd") + b"\x01", stream(0, 4, b"ef")]
    quic.receive([(seal(pair, frame), PATH) for frame in frames], LATER)
    assert digest(list(quic._events)) == {0: [(b"abcdef", False)]}


def test_another_path_is_left_to_aioquic() -> None:
    pair = connected()
    moved = Path(("192.0.2.9", 999), PATH.local)
    quic = server(pair)
    quic.receive([(seal(pair, stream(0, 0, b"abc")), moved)], LATER)
    assert quic._network_paths[0].addr == moved


def test_a_key_update_is_followed() -> None:
    pair = connected()
    pair.client.request_key_update()
    quic = server(pair)
    for offset in (0, 3, 6):
        quic.receive([(seal(pair, stream(0, offset, b"abc")), PATH)], LATER)
    assert digest(list(quic._events)) == {0: [(b"abcabcabc", False)]}


def test_what_was_never_sent_is_not_acknowledged() -> None:
    pair = connected()
    quic = server(pair)
    quic.receive([(seal(pair, ack(quic._packet_number)), PATH)], LATER)
    closing = quic.closing()
    assert closing is not None
    assert closing[0] == 0x0A


# --- acknowledgements -------------------------------------------------------------------------


def due(pair: Pair) -> float | None:
    at = server(pair)._spaces[Epoch.ONE_RTT].ack_at
    return None if at is None else at - LATER


def receive(pair: Pair, count: int) -> None:
    for _ in range(count):
        server(pair).receive([(seal(pair, b"\x01"), PATH)], LATER)


def test_an_acknowledgement_waits_for_something_to_go_along_with() -> None:
    pair = connected()
    receive(pair, 1)
    assert due(pair) == pytest.approx(ACK_DELAY_S)
    assert server(pair).datagrams_to_send(LATER) == []


def test_many_packets_are_acknowledged_at_once() -> None:
    pair = connected()
    receive(pair, ACK_EVERY - 1)
    assert due(pair) == pytest.approx(ACK_DELAY_S)
    receive(pair, 1)
    assert due(pair) == 0
    assert len(server(pair).datagrams_to_send(LATER)) == 1
    receive(pair, 1)
    assert due(pair) == pytest.approx(ACK_DELAY_S)


def test_a_gap_is_told_of_at_once() -> None:
    pair = connected()
    receive(pair, 1)
    pair.client._packet_number += 1
    receive(pair, 1)
    assert due(pair) == 0


def test_a_probe_may_come_before_the_client_hello() -> None:
    """The first packet is lost, and the client asks by PING what became of it."""
    pair = Pair(make_aioquic)
    assert pair.client.datagrams_to_send(pair.now)
    pair.client._probe_pending = True
    pair.connect()
    assert pair.closed_with() is None
