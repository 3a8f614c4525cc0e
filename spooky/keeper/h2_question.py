"""One request over HTTP/2 on a connection of its own, and what came back.

Owns the pump between a socket and the engine. What the answer has to be is the caller's to say.

A rule: of the content no more is kept than the caller has use for; a backend that sends more is
cut off, and that is no fault of it.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Final

from spooky.errors import H2Code
from spooky.keeper.probe import ProbeFailedError, Target
from spooky.protocol.engines import engine_named
from spooky.protocol.messages import (
    Body,
    Closed,
    Headers,
    Malformed,
    RequestHead,
    Reset,
    ResponseHead,
    Trailers,
    UpstreamEngine,
    UpstreamEvent,
)
from spooky.protocol.upstream import H2Limits

_READ_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Answer:
    """What a backend answered, as far as it was read."""

    status: int = 0
    """0: no head has come yet."""
    headers: Headers = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    trailers: Headers = field(default_factory=list)
    is_over: bool = False


async def put_question(
    target: Target, head: RequestHead, content: bytes = b"", *, most_bytes: int
) -> Answer:
    """Send a request and read its answer, of the content `most_bytes` at most.

    Raises:
        ProbeFailedError: no whole answer came.
        OSError: the backend cannot be reached.
        ValueError: its name cannot be looked up at all.
    """
    async with target.connect() as (reader, writer):
        tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            raise ProbeFailedError("it does not offer HTTP/2 in TLS (ALPN h2)")
        engine, answer = engine_named(target.engine)(H2Limits()), Answer()
        stream = engine.send_request(head)
        if content:
            engine.send_body(stream, content, end=True)
        while not answer.is_over:
            await _flush(engine, writer)
            for event in engine.receive(await reader.read(_READ_BYTES)):
                _take(event, answer, engine)
            if len(answer.content) >= most_bytes and not answer.is_over:
                engine.reset(stream, H2Code.CANCEL)
                answer.is_over = True
        del answer.content[most_bytes:]
        engine.close()
        await _flush(engine, writer)
        return answer


async def _flush(engine: UpstreamEngine, writer: asyncio.StreamWriter) -> None:
    if data := engine.data_to_send():
        writer.write(data)
        await writer.drain()


def _take(event: UpstreamEvent, answer: Answer, engine: UpstreamEngine) -> None:
    """Enter what an event says; of what comes after the end, nothing matters any more."""
    if answer.is_over:
        return
    match event:
        case ResponseHead(_, status, headers, end):
            answer.status, answer.headers, answer.is_over = status, headers, end
        case Body(stream, data, end, credit):
            answer.content += data
            answer.is_over = end
            engine.consume(stream, credit)
        case Trailers(_, headers):
            answer.trailers, answer.is_over = headers, True
        case Malformed(_, reason):
            raise ProbeFailedError(f"its answer is malformed: {reason}")
        case Reset(_, code):
            raise ProbeFailedError(f"it gave the request up ({_name_of(code)})")
        case Closed(code, reason):
            raise ProbeFailedError(reason or f"it closed the connection ({_name_of(code)})")


def _name_of(code: int) -> str:
    try:
        return H2Code(code).name
    except ValueError:
        return f"code 0x{code:x}"
