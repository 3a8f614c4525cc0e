"""The access log's two formats, and that nothing of a client can forge a line."""

import dataclasses
import json
from typing import Any

import pytest

from spooky.errors import Kind
from spooky.worker.observe import Observer, Outcome, json_line, plain_line

NOW = 1_700_000_000.0625

OUTCOME = Outcome(
    request_id=b"00ff00ff",
    client="192.0.2.9",
    method=b"POST",
    authority=b"api.example.com",
    path=b"/things?a=b",
    status=201,
    bytes_received=1000,
    bytes_sent=20,
    duration=0.01234567,
    upstream="api",
    backend="api1",
    identity="http://10.0.0.1:80",
    answer_time=0.005,
    backend_duration=0.0101,
    retries=1,
    error=None,
    detail="",
)
NOTHING: dict[str, Any] = {
    "upstream": "",
    "backend": "",
    "request_id": b"",
    "error": Kind.NO_ROUTE,
    "status": 404,
    "detail": "why",
}


def test_a_plain_line() -> None:
    assert plain_line(OUTCOME, NOW).decode() == (
        '2023-11-14T22:13:20.062Z 192.0.2.9 "POST api.example.com/things?a=b" 201 20 1000 12.3ms '
        "upstream=api backend=api1 backend_time=10.1ms retries=1 error=- id=00ff00ff"
    )


def test_a_plain_line_of_what_there_is_not() -> None:
    line = plain_line(dataclasses.replace(OUTCOME, **NOTHING), NOW).decode()
    assert line.endswith(
        'upstream=- backend=- backend_time=10.1ms retries=1 error=no_route id=- detail="why"'
    )


def test_a_json_line() -> None:
    assert json.loads(json_line(OUTCOME, NOW)) == {
        "time": "2023-11-14T22:13:20.062Z",
        "request_id": "00ff00ff",
        "client": "192.0.2.9",
        "method": "POST",
        "authority": "api.example.com",
        "path": "/things?a=b",
        "status": 201,
        "bytes_sent": 20,
        "bytes_received": 1000,
        "duration": 0.012346,
        "upstream": "api",
        "backend": "api1",
        "backend_duration": 0.0101,
        "retries": 1,
        "error": None,
        "detail": None,
    }
    empty = json.loads(json_line(dataclasses.replace(OUTCOME, **NOTHING), NOW))
    assert (empty["upstream"], empty["backend"]) == (None, None)
    assert (empty["error"], empty["detail"]) == ("no_route", "why")


@pytest.mark.parametrize(
    ("error", "detail", "end"),
    [
        (Kind.CONNECT_FAILED, "connection refused", ' id=00ff00ff detail="connection refused"'),
        (Kind.BAD_RESPONSE, 'a "b"\n\x1b\u20ac\udcff\\', None),
        (Kind.BAD_RESPONSE, "", " id=00ff00ff"),
        (None, "not told", " id=00ff00ff"),
    ],
)
def test_the_detail_of_an_error(error: Kind | None, detail: str, end: str | None) -> None:
    line = plain_line(dataclasses.replace(OUTCOME, error=error, detail=detail), NOW).decode()
    escaped = "a \\x22b\\x22\\x0a\\x1b\\xe2\\x82\\xac\\x5cudcff\\x5c"
    assert line.endswith(f' id=00ff00ff detail="{escaped}"' if end is None else end)
    assert line.isprintable()


HOSTILE = [b'/"\n2023 forged', b"/\r\n", b"/\x1b[31m", b"/\\x22", b"/\x00", b"/\xc3\xa9", b"/\xff"]


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("field", ["path", "method", "authority"])
def test_octets_of_a_client_stay_within_their_quotes(field: str, path: bytes) -> None:
    changes: dict[str, Any] = {field: path}
    outcome = dataclasses.replace(OUTCOME, **changes)
    line = plain_line(outcome, NOW)
    assert all(0x20 <= octet < 0x7F for octet in line)
    assert line.count(b'"') == 2
    text = json.loads(json_line(outcome, NOW))[field]
    assert text.isascii()
    assert text.isprintable()
    escaped = text.encode().decode("unicode_escape").encode("latin-1")
    assert escaped == path, "what was sent can be told from the log"


class Lines:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("log_format", "start"), [("plain", b"20"), ("json", b'{"time":"20')])
def test_the_observer_writes_and_counts(log_format: str, start: bytes) -> None:
    sink = Lines()
    observer = Observer(sink, log_format)
    for _ in range(3):
        observer.record(OUTCOME)
    assert len(sink.lines) == 3
    assert sink.lines[0].startswith(start)
    assert (observer.take_count(), observer.take_count()) == (3, 0)


def test_the_observer_counts_without_an_access_log() -> None:
    observer = Observer(None, "plain")
    observer.record(OUTCOME)
    assert observer.take_count() == 1
