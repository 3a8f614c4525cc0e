"""What is asked of a proxy: the table of workloads.

A workload says which request is made, how long its answer is, and how many are kept in flight.
A new one is a new row here: the client, the backends and the report read nothing else.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request and how many of it are kept in flight. Sizes are octets."""

    name: str
    what: str
    connections: int
    streams: int
    """Requests in flight on each connection."""
    method: str = "GET"
    upload_bytes: int = 0
    reply_bytes: int = 1024
    fresh: bool = False
    """Each request on a connection of its own, which is closed after it."""
    fields: int = 0
    """Header fields over and above the usual six, of about 40 octets each."""
    pace_s: float = 0.0
    """A slow client: it reads its socket, and sends a piece of its body, only so often."""

    @property
    def path(self) -> str:
        """Where every backend keeps an answer of `reply_bytes`."""
        return f"/{self.reply_bytes}"

    def shaped(self, connections: int | None, streams: int | None) -> "Workload":
        """The same requests with another number of connections or streams; None: as it is."""
        return replace(
            self, connections=connections or self.connections, streams=streams or self.streams
        )


WORKLOADS = {
    row.name: row
    for row in (
        Workload("get1k", "GET of 1 KiB", connections=10, streams=10),
        Workload("get1m", "GET of 1 MiB", connections=5, streams=2, reply_bytes=1 << 20),
        Workload(
            "post64k",
            "POST of 64 KiB",
            connections=10,
            streams=2,
            method="POST",
            upload_bytes=64 << 10,
        ),
        Workload(
            "connect",
            "a new connection and one GET of 1 KiB",
            connections=10,
            streams=1,
            fresh=True,
        ),
        Workload("single", "GET of 1 KiB, one at a time", connections=1, streams=1),
    )
}
