"""The responses that Spooky gives in its own name: one for each failure.

What a failure means is in `errors.CONSEQUENCES`; here it gets its words. A body never repeats
anything of the request but its id.
"""

import json
from http import HTTPStatus

from spooky.errors import CONSEQUENCES, Kind
from spooky.protocol.messages import Headers

_PROBLEM, _JSON, _PLAIN = b"application/problem+json", b"application/json", b"text/plain"
_TEXT_RANGES = frozenset((b"text/plain", b"text/html", b"text/*"))
_DEADLINE_EXCEEDED = b"4"
_NO_PHRASE = "Client Closed Request"
"""What nginx, from which it comes, calls 499; no client is there to read it."""


def error_reply(kind: Kind, request_id: bytes, accept: bytes | None) -> tuple[int, Headers, bytes]:
    """Return status, fields and content of the response to a failed request.

    `request_id` may be empty. `accept` is the request's Accept, which chooses between JSON
    (RFC 9457) and plain text. The content is to be left out in the response to HEAD.
    """
    consequence = CONSEQUENCES[kind]
    content_type, body = error_body(kind, request_id, accept)
    headers: Headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if request_id:
        headers.append((b"x-request-id", request_id))
    if consequence.retry_after:
        headers.append((b"retry-after", b"%d" % consequence.retry_after))
    return consequence.status, headers, body


def grpc_deadline_reply(kind: Kind, request_id: bytes) -> tuple[int, Headers, bytes]:
    """Return the response to a gRPC call that took too long: DEADLINE_EXCEEDED.

    A response of fields alone, "Trailers-Only" in the gRPC over HTTP/2 protocol; a client of gRPC
    would take the status 504 for UNAVAILABLE.
    """
    headers: Headers = [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", _DEADLINE_EXCEEDED),
        (b"grpc-message", CONSEQUENCES[kind].text.encode("ascii")),
    ]
    if request_id:
        headers.append((b"x-request-id", request_id))
    return 200, headers, b""


def error_body(kind: Kind, request_id: bytes, accept: bytes | None) -> tuple[bytes, bytes]:
    """Return the content type and the content that say what happened."""
    consequence = CONSEQUENCES[kind]
    phrase = _phrase(consequence.status)
    media = _preferred(accept)
    if media == _PLAIN:
        lines = [f"{consequence.status} {phrase}", consequence.text]
        if request_id:
            lines.append(f"Request id: {request_id.decode('ascii')}")
        return b"text/plain; charset=utf-8", ("\n".join(lines) + "\n").encode()
    problem: dict[str, str | int] = {
        "status": consequence.status,
        "title": phrase,
        "detail": consequence.text,
        "error": kind.value,
    }
    if request_id:
        problem["request_id"] = request_id.decode("ascii")
    return media, json.dumps(problem).encode() + b"\n"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return _NO_PHRASE


def _preferred(accept: bytes | None) -> bytes:
    """Choose by Accept (RFC 9110 section 12.5.1): JSON where it is named and text is not dearer."""
    if accept is None:
        return _PLAIN
    weights = dict(map(_weigh, accept.lower().split(b",")))
    text = max((weights.get(media, 0.0) for media in _TEXT_RANGES), default=0.0)
    for media in sorted((_PROBLEM, _JSON), key=lambda media: -weights.get(media, 0.0)):
        if 0 < weights.get(media, 0.0) >= text:
            return media
    return _PLAIN


def _weigh(item: bytes) -> tuple[bytes, float]:
    """Return a media range and its weight; one that cannot be read is worth nothing."""
    media, *parameters = (part.strip() for part in item.split(b";"))
    weight = next((part[2:] for part in parameters if part.startswith(b"q=")), b"1")
    try:
        return media, float(weight)
    except ValueError:
        return media, 0.0
