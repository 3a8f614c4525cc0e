import json

import pytest

from spooky.errors import CONSEQUENCES, Kind
from spooky.protocol.replies import error_reply


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("accept", [None, b"application/json"])
def test_every_failure_has_its_response(kind: Kind, accept: bytes | None) -> None:
    consequence = CONSEQUENCES[kind]
    status, headers, body = error_reply(kind, b"id-1", accept)
    fields = dict(headers)
    assert len(fields) == len(headers)
    assert status == consequence.status
    assert fields[b"content-length"] == str(len(body)).encode()
    assert fields[b"cache-control"] == b"no-store"
    assert fields[b"x-request-id"] == b"id-1"
    expected = str(consequence.retry_after).encode() if consequence.retry_after else None
    assert fields.get(b"retry-after") == expected
    assert consequence.text in body.decode()
    assert b"id-1" in body


def test_plain_text() -> None:
    _, headers, body = error_reply(Kind.NO_ROUTE, b"abc", None)
    assert dict(headers)[b"content-type"] == b"text/plain; charset=utf-8"
    assert body == b"404 Not Found\nNo route matches this host and path.\nRequest id: abc\n"


def test_json() -> None:
    _, headers, body = error_reply(Kind.NO_BACKEND, b"abc", b"application/problem+json")
    assert dict(headers)[b"content-type"] == b"application/problem+json"
    assert json.loads(body) == {
        "status": 503,
        "title": "Service Unavailable",
        "detail": "No backend is available.",
        "error": "no_backend",
        "request_id": "abc",
    }


def test_a_request_without_an_id() -> None:
    _, headers, body = error_reply(Kind.BAD_REQUEST, b"", None)
    assert b"x-request-id" not in dict(headers)
    assert body == b"400 Bad Request\nThe request is malformed.\n"
    _, headers, body = error_reply(Kind.BAD_REQUEST, b"", b"application/json")
    assert b"x-request-id" not in dict(headers)
    assert "request_id" not in json.loads(body)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, b"text/plain; charset=utf-8"),
        (b"", b"text/plain; charset=utf-8"),
        (b"*/*", b"text/plain; charset=utf-8"),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", b"text/plain; charset=utf-8"),
        (b"application/json", b"application/json"),
        (b"application/json, text/plain, */*", b"application/json"),
        (b"Application/JSON; charset=utf-8", b"application/json"),
        (b"application/problem+json, application/json", b"application/problem+json"),
        (b"application/json, application/problem+json;q=0.5", b"application/json"),
        (b"text/plain, application/json;q=0.5", b"text/plain; charset=utf-8"),
        (b"text/*;q=0.1, application/json;q=0.5", b"application/json"),
        (b"application/json;q=0", b"text/plain; charset=utf-8"),
        (b"application/json;q=much", b"text/plain; charset=utf-8"),
        (b",;;,application/json;", b"application/json"),
        (b"\xff, application/json", b"application/json"),
    ],
)
def test_accept_chooses(accept: bytes | None, media: bytes) -> None:
    _, headers, _ = error_reply(Kind.INTERNAL, b"abc", accept)
    assert dict(headers)[b"content-type"] == media
