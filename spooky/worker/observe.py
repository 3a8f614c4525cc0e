"""What is known of an exchange once it is over, and the access log that is made of it.

One frozen `Outcome` per exchange; every reader of what happened reads that record.
"""

import json
import time
from dataclasses import dataclass
from typing import Protocol

from spooky.config.redaction import hide_in_query
from spooky.errors import Kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """An exchange that is over. Times are seconds, sizes octets of content."""

    request_id: bytes
    client: str
    method: bytes
    authority: bytes
    path: bytes
    status: int
    """What the client was told; 499 if it left first, 0 if it was told nothing."""
    bytes_received: int
    bytes_sent: int
    duration: float
    upstream: str
    backend: str
    """Its name in the upstream."""
    identity: str
    """What tells it from all other backends."""
    backend_duration: float
    """From sending to the backend until the end."""
    answer_time: float
    """From sending to the backend until its answer began; 0 if it did not."""
    retries: int
    """Tries after the first, hedges among them."""
    error: Kind | None
    detail: str


class LineSink(Protocol):
    """Where access lines go."""

    def write(self, line: bytes) -> None:
        """Take a line, without its newline."""


class Traffic(Protocol):
    """Who counts what backends were asked, and how it went."""

    def record(self, outcome: Outcome) -> None:
        """Count an exchange for the backend that it ended with, if there was one."""

    def record_retry(self, identity: str, kind: Kind) -> None:
        """Count an attempt that failed and that another one follows."""

    def record_given_up(self, identity: str) -> None:
        """Count an attempt that was given up beside another one."""


def _text(octets: bytes) -> str:
    """Show octets of a peer in a log: what is not printable ASCII is escaped."""
    text = octets.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        char if " " <= char <= "~" and char not in '"\\' else f"\\x{ord(char):02x}" for char in text
    )


def _path(octets: bytes) -> str:
    """Show a path in a log, without the secrets in its query."""
    return _text(hide_in_query(octets) if b"?" in octets else octets)


def _timestamp(now: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{whole}.{int(now % 1 * 1000):03d}Z"


def plain_line(outcome: Outcome, now: float) -> bytes:
    """Format an access line for people: fixed order, `-` for what there is not.

    The detail of an error comes last, as it is the one field that is not always there.
    """
    line = (
        f"{_timestamp(now)} {outcome.client} "
        f'"{_text(outcome.method)} {_text(outcome.authority)}{_path(outcome.path)}" '
        f"{outcome.status} {outcome.bytes_sent} {outcome.bytes_received} "
        f"{outcome.duration * 1000:.1f}ms "
        f"upstream={outcome.upstream or '-'} backend={outcome.backend or '-'} "
        f"backend_time={outcome.backend_duration * 1000:.1f}ms retries={outcome.retries} "
        f"error={outcome.error.value if outcome.error else '-'} "
        f"id={outcome.request_id.decode('latin-1') or '-'}"
    )
    if outcome.error and outcome.detail:
        line += f' detail="{_text(outcome.detail.encode(errors="backslashreplace"))}"'
    return line.encode()


def json_line(outcome: Outcome, now: float) -> bytes:
    """Format an access line for machines: one JSON object."""
    fields = {
        "time": _timestamp(now),
        "request_id": outcome.request_id.decode("latin-1"),
        "client": outcome.client,
        "method": _text(outcome.method),
        "authority": _text(outcome.authority),
        "path": _path(outcome.path),
        "status": outcome.status,
        "bytes_sent": outcome.bytes_sent,
        "bytes_received": outcome.bytes_received,
        "duration": round(outcome.duration, 6),
        "upstream": outcome.upstream or None,
        "backend": outcome.backend or None,
        "backend_duration": round(outcome.backend_duration, 6),
        "retries": outcome.retries,
        "error": outcome.error.value if outcome.error else None,
        "detail": outcome.detail or None,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


class Observer:
    """Takes the outcome of each exchange."""

    def __init__(
        self,
        access: LineSink | None,
        log_format: str,
        traffic: Traffic | None = None,
    ) -> None:
        """Take where access lines go, and who counts by backend."""
        self._access = access
        self._traffic = traffic
        self._format = json_line if log_format == "json" else plain_line
        self._count = 0

    def record(self, outcome: Outcome) -> None:
        """Count an exchange and write its access line."""
        self._count += 1
        if self._traffic is not None:
            self._traffic.record(outcome)
        if self._access is not None:
            self._access.write(self._format(outcome, time.time()))

    def record_retry(self, identity: str, kind: Kind) -> None:
        """Count an attempt that failed and that another one follows."""
        if self._traffic is not None:
            self._traffic.record_retry(identity, kind)

    def record_given_up(self, identity: str) -> None:
        """Count an attempt that was given up beside another one."""
        if self._traffic is not None:
            self._traffic.record_given_up(identity)

    def take_count(self) -> int:
        """Return how many exchanges have ended since the last call."""
        count, self._count = self._count, 0
        return count
