"""What clients count while Spooky reloads, and the table of it.

Owns the words for what went wrong; it never decides what may. A request that RFC 9114 section
5.2 lets a client repeat (rejected, or at or above the ID of a GOAWAY) is no failure, but is
counted by itself.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

COLUMNS = (
    ("stack", "stack"),
    ("requests", "requests"),
    ("failed", "failed"),
    ("repeated", "rejected and repeated"),
    ("connections", "connections opened"),
    ("handshakes_lost", "handshakes lost"),
    ("cut", "connections cut"),
    ("goodbyes", "ended after GOAWAY"),
    ("streams", "long streams"),
    ("streams_failed", "long streams failed"),
)


@dataclass(slots=True)
class Tally:
    """The counts of one client stack; reasons and how often each."""

    stack: str
    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    connections: int = 0
    lost_handshakes: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    """Connections that ended by anything but a close without error after a GOAWAY."""
    goodbyes: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)
    """When each long stream that came whole began and ended, by the monotonic clock."""
    stream_failures: Counter[str] = field(default_factory=Counter)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read what `as_json` made."""
        counters = ("failures", "lost_handshakes", "cuts", "stream_failures")
        values: dict[str, Any] = dict(document)
        for name in counters:
            values[name] = Counter(values[name])
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """Make plain values of it."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def row(self) -> dict[str, str | int]:
        """Give one number to each column."""
        return {
            "stack": self.stack,
            "requests": self.requests,
            "failed": self.failures.total(),
            "repeated": self.repeated,
            "connections": self.connections,
            "handshakes_lost": self.lost_handshakes.total(),
            "cut": self.cuts.total(),
            "goodbyes": self.goodbyes,
            "streams": len(self.spans),
            "streams_failed": self.stream_failures.total(),
        }

    def losses(self) -> list[str]:
        """Say all that must not be, with reasons."""
        kinds = {
            "request failed": self.failures,
            "handshake lost": self.lost_handshakes,
            "connection cut": self.cuts,
            "long stream failed": self.stream_failures,
        }
        return [
            f"{self.stack}: {what}: {count} x {reason}"
            for what, counter in kinds.items()
            for reason, count in counter.most_common()
        ]


def outlived(span: Sequence[float], reloads: Sequence[float]) -> int:
    """Count the reloads that were done while a stream was under way."""
    begin, end = span
    return sum(begin < moment < end for moment in reloads)


def table(tallies: Iterable[Tally]) -> str:
    """Lay the counts out, one line per stack and one for the sum."""
    rows = [tally.row() for tally in tallies]
    total: dict[str, str | int] = {"stack": "all"}
    for name, _ in COLUMNS[1:]:
        total[name] = sum(int(row[name]) for row in rows)
    lines = [[title for _, title in COLUMNS]]
    lines += [[str(row[name]) for name, _ in COLUMNS] for row in (*rows, total)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
