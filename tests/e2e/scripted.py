"""An HTTP/2 server of our own that does what the path's last segment asks for, right or wrong.

Reads slowly, resets, refuses, breaks off, answers garbage. It exists for what no decent server
does. Amounts are in the query. Started as a program with a port.
"""

import asyncio
import random
import struct
import sys

from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

from tests.e2e.scripted_connection import SEEN, Action, Connection, Request, nothing

TICK_S = 0.05
REFUSED_STREAM = 0x7
NO_ERROR = 0x0


def _report(connection: Connection, request: Request) -> None:
    """Answer with all that arrived, and a trailer section."""
    connection.json_with_trailers(
        request,
        {
            "headers": [[n.decode("latin1"), v.decode("latin1")] for n, v in request.fields],
            "trailers": [[n.decode("latin1"), v.decode("latin1")] for n, v in request.trailers],
            "length": request.received,
            "sha256": request.hasher.hexdigest(),
        },
        [(b"x-checked", b"scripted")],
    )


def _interim(connection: Connection, request: Request) -> None:
    if request.headers.get(b"expect") == b"100-continue":
        connection.interim(request, 100)
    connection.interim(request, 103, [(b"link", b"</a.css>; rel=preload")])


def _announce(connection: Connection, request: Request) -> None:
    """Send 103 over and over, and never a response."""

    def tick() -> None:
        if connection.is_open(request):
            connection.interim(request, 103, [(b"link", b"</a.css>; rel=preload")])
            loop.call_later(TICK_S, tick)

    loop = asyncio.get_running_loop()
    tick()


def _pace(connection: Connection, request: Request) -> None:
    """Give credit for `rate` octets a second from now on, until the request is over."""

    def tick() -> None:
        if connection.is_open(request):
            connection.credit(request, int(request.number("rate") * TICK_S))
            loop.call_later(TICK_S, tick)

    loop = asyncio.get_running_loop()
    loop.call_later(TICK_S, tick)


def _reset(connection: Connection, request: Request) -> None:
    """RST_STREAM with `code`, with `after` octets of a longer body sent before it, if given."""
    if "after" in request.query:
        connection.head(request, 200, [(b"content-length", b"1000000")])
        connection.send_content(request, request.number("after"))
    connection.reset(request, request.number("code"))


def _refuse_once(connection: Connection, request: Request) -> None:
    """REFUSED_STREAM for the first attempt of a token; 200 after that."""
    if request.attempts() == 1:
        connection.reset(request, REFUSED_STREAM)
    else:
        _tell_attempts(connection, request)


def _goaway_once(connection: Connection, request: Request) -> None:
    """GOAWAY that excludes this request at the first attempt of a token; 200 after that."""
    if request.attempts() == 1:
        frame = GoAwayFrame(last_stream_id=max(request.stream - 2, 0), error_code=NO_ERROR)
        connection.break_off(frame.serialize(), close=True)
    else:
        _tell_attempts(connection, request)


def _tell_attempts(connection: Connection, request: Request) -> None:
    connection.json(request, {"attempts": request.attempts()})


def _goaway_after(connection: Connection, request: Request) -> None:
    """Answer, and say GOAWAY: this request was the last, whatever else comes is not heard."""
    connection.answer(request, 200, b"last")
    frame = GoAwayFrame(last_stream_id=request.stream, error_code=NO_ERROR)
    connection.break_off(frame.serialize(), close=False)


def _die(connection: Connection, request: Request) -> None:
    """Send a head that promises a megabyte, `after` octets of it, and abort the connection."""
    connection.head(request, 200, [(b"content-length", b"1000000")])
    connection.send_content(request, request.number("after"))
    connection.break_off(b"", close=True)


def _die_unread(connection: Connection, request: Request) -> None:
    """Abort the connection before any answer."""
    request.note(died=True)
    connection.transport.abort()


def _early(connection: Connection, request: Request) -> None:
    """Answer before the content has come, and ask for no more of it (RFC 9113 8.1)."""
    connection.answer(request, 403, b"not wanted")
    connection.flush()
    frame = RstStreamFrame(request.stream, error_code=NO_ERROR)
    connection.transport.write(frame.serialize())


def _garbage(connection: Connection, request: Request) -> None:
    connection.break_off(random.Random(request.stream).randbytes(4096), close=False)


def _truncated(connection: Connection, request: Request) -> None:
    """The first half of a HEADERS frame, then the end of the connection."""
    block = connection.http.encoder.encode([(b":status", b"200"), (b"server", b"x" * 50)])
    frame = HeadersFrame(request.stream, data=block, flags=["END_HEADERS"]).serialize()
    connection.break_off(frame[: len(frame) // 2], close=True)


def _oversized(connection: Connection, request: Request) -> None:
    """A frame header that announces more than SETTINGS_MAX_FRAME_SIZE lets anybody send."""
    connection.break_off(
        struct.pack(">I", 0xFFFFFF)[1:]
        + b"\x00\x00"
        + struct.pack(">I", request.stream)
        + b"x" * 99,
        close=False,
    )


def _bad_hpack(connection: Connection, request: Request) -> None:
    """A header block that refers to an entry that no table has."""
    frame = HeadersFrame(request.stream, data=b"\xff\xff\xff\xff\x0f", flags=["END_HEADERS"])
    connection.break_off(frame.serialize(), close=False)


def _data_first(connection: Connection, request: Request) -> None:
    """Content before any head."""
    frame = DataFrame(request.stream, data=b"early", flags=["END_STREAM"])
    connection.flush()
    connection.transport.write(frame.serialize())


def _raw_head(connection: Connection, request: Request) -> None:
    """A head that breaks the rule named by `kind` (RFC 9113 sections 8.2 and 8.3)."""
    fields = {
        "no-status": [(b"server", b"x")],
        "bad-status": [(b":status", b"abc")],
        "upper-case": [(b":status", b"200"), (b"X-Upper", b"1")],
        "connection": [(b":status", b"200"), (b"connection", b"close")],
        "newline": [(b":status", b"200"), (b"x-split", b"a\r\nset-cookie: b=1")],
        "two-lengths": [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")],
        "late-pseudo": [(b":status", b"200"), (b"server", b"x"), (b":status", b"201")],
        "short-body": [(b":status", b"200"), (b"content-length", b"99")],
        "switching": [(b":status", b"101")],
    }[request.query["kind"]]
    block = connection.http.encoder.encode(fields)
    connection.flush()
    head = HeadersFrame(request.stream, data=block, flags=["END_HEADERS"])
    body = DataFrame(request.stream, data=b"body", flags=["END_STREAM"])
    connection.transport.write(head.serialize() + body.serialize())


def _send(connection: Connection, request: Request) -> None:
    """`n` octets of the known content."""
    connection.head(request, 200, [(b"content-length", b"%d" % request.number("n"))])
    connection.send_content(request, request.number("n"))
    connection.send(request, b"", end=True)


def _seen(connection: Connection, request: Request) -> None:
    connection.json(request, SEEN.get(request.query["of"], {"state": "unknown"}))


ACTIONS = {
    "report": Action(end=_report),
    "interim": Action(begin=_interim, end=_report),
    "read-slowly": Action(begin=_pace, read=nothing, end=_report),
    "send": Action(end=_send),
    "hang": Action(),
    "announce": Action(end=_announce),
    "seen": Action(end=_seen),
    "reset": Action(end=_reset),
    "refuse-once": Action(end=_refuse_once),
    "goaway-once": Action(end=_goaway_once),
    "goaway-after": Action(end=_goaway_after),
    "die": Action(end=_die),
    "die-unread": Action(begin=_die_unread),
    "early": Action(begin=_early),
    "garbage": Action(end=_garbage),
    "truncated": Action(end=_truncated),
    "oversized": Action(end=_oversized),
    "bad-hpack": Action(end=_bad_hpack),
    "data-first": Action(end=_data_first),
    "raw-head": Action(end=_raw_head),
}


async def serve(port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(ACTIONS), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
