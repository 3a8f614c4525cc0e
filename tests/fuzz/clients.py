"""Harnesses of what clients say: streams of HTTP/3, and frames of QUIC in properly sealed packets.

A script for `streams` is a list of steps: what is done, the stream, a piece. One for `frames` is a
list of packets: how far the packet number moves, and a piece, the payload.
"""

import contextlib
from typing import Any

from spooky.errors import H3Code
from spooky.protocol.h3_control import H3ConnectionError
from spooky.protocol.messages import Body, DownstreamEvent, RequestHead
from tests.fuzz.octets import Octets
from tests.protocol.quic import test_receiving as receiving
from tests.protocol.raw_client import Session

STREAMS = (0, 4, 8, 2, 6, 10, 14)
MOST_PACKETS = 30


def streams(data: bytes) -> None:
    """Octets on streams mean messages or an H3ConnectionError; nothing is owed at the end."""
    octets, session = Octets(data), Session()
    ended: set[int] = set()
    came: dict[int, int] = {}
    with contextlib.suppress(H3ConnectionError):
        while octets:
            what, stream = octets.number(), octets.choose(STREAMS)
            if stream in ended:
                continue
            step(session, octets, what, stream, came, ended)
        close(session, ended)
    check(session, came)


def step(
    session: Session,
    octets: Octets,
    what: int,
    stream: int,
    came: dict[int, int],
    ended: set[int],
) -> None:
    """Do one step of a script."""
    told: list[DownstreamEvent] = []
    match what % 16:
        case 12:
            told = session.h3.reset_received(stream, 0x10C)
            ended.add(stream)
        case 13:
            told = session.h3.stop_received(stream, 0x10C)
        case 14:
            session.h3.reset(stream & ~3, H3Code.REQUEST_CANCELLED)
        case 15:
            session.h3.goaway()
        case number:
            piece, end = octets.piece(), number & 1 == 1
            came[stream] = came.get(stream, 0) + len(piece)
            if end:
                ended.add(stream)
            told = session.h3.receive(stream, piece, end)
    session.told += told
    for event in told:
        if isinstance(event, RequestHead) and what & 16:
            session.h3.responses.send_section(
                event.stream, [(b":status", b"200")], end=not what & 32, last=True
            )
        if isinstance(event, Body) and what & 64:
            session.h3.consume(event.stream, event.credit)
    session.h3.responses.flush()


def close(session: Session, ended: set[int]) -> None:
    """End all that is open, both ways."""
    for stream in (0, 4, 8):
        if stream not in ended:
            session.told += session.h3.reset_received(stream, 0x10C)
    for event in session.told:
        if isinstance(event, Body):
            session.h3.consume(event.stream, event.credit)
    for stream in (0, 4, 8):
        session.h3.reset(stream, H3Code.INTERNAL_ERROR)
    assert session.h3.is_idle()
    assert not session.h3._requests


def check(session: Session, came: dict[int, int]) -> None:
    """Credit is never more than what came, and each request is told of once."""
    for stream, count in session.ledger.credited.items():
        assert count <= came.get(stream, 0)
    heads = [event.stream for event in session.told if isinstance(event, RequestHead)]
    assert len(heads) == len(set(heads))


def frames(data: bytes) -> None:
    """Frames that are taken without aioquic's parser leave the state that it would leave."""
    octets = Octets(data)
    ours, theirs = receiving.connected(), receiving.without_shortcut(receiving.connected())
    for _ in range(MOST_PACKETS):
        if not octets:
            return
        number = ours.client._packet_number + octets.choose([0, 0, 0, 1, 3, -1, -2])
        payload = octets.piece()[:1200]
        for pair in (ours, theirs):
            receiving.take(pair, payload, number)
        mine, other = receiving.state(ours), receiving.state(theirs)
        if mine["closing"] or other["closing"]:
            compare_ends(mine["closing"], other["closing"])
            return
        assert mine == other


def compare_ends(mine: Any, other: Any) -> None:
    """Hold the error codes together; aioquic does not see that a packet was never sent."""
    if mine is None or "not sent" not in mine[1]:
        assert mine is not None
        assert other is not None
        assert mine[0] == other[0]
