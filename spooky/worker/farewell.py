"""When a client connection that is being drained says what: the pure side of going away.

A connection without a request for the quiet period, before the drain or in it, gets the final
GOAWAY and is closed in the same breath (RFC 9114 section 5.2): clients look for a closed connection
before they use one of their pool again, and not for one that refuses. The others get the first
GOAWAY, with the largest number there is: clients that heed it open no more requests and leave by
themselves, and whatever still comes is served. It comes a little after the quiet ones are closed,
and to one after the other: a client takes the next connection of its pool then, and libcurl gives
up after five that are going away. Only the last call, shortly before the end of all drains, refuses
while requests are open.

It never sends, and knows no clock but the times that it is given.
"""

RELOAD_QUIET_S = 1.0
"""The quiet period where a successor serves: nobody waits for us, and a client may be slow."""
STOP_QUIET_S = 0.25
"""The quiet period where the program stops: somebody waits for its end."""
FIRST_REQUEST_S = 4.0
"""How much longer a first request may take where a successor serves: what the client came for is
on its way, and many clients do not repeat a first request that fails."""
STRETCH = 2
"""How many quiet periods it may take at most to wait for a path that is slow, or says so."""
PROBE_TIMEOUTS = 3
"""How often something may be lost and still arrive in time (as RFC 9000 section 10.2)."""
HEAD_START_S = 0.2
"""Between the close of the connections that are quiet and the first GOAWAY of the others."""
LAST_LOOK_S = 0.05
"""Between the end of the quiet period and the close: what came while this process did not run, or
is being handed over, is read first."""


class Farewell:
    """The drain of one connection. Times are seconds on one clock of the caller's choice."""

    __slots__ = (
        "_announce_at",
        "_busy",
        "_gone_by",
        "_looks_until",
        "_quiet",
        "_since",
        "announced",
        "refusing",
    )

    def __init__(self, quiet: float, since: float, announce_at: float) -> None:
        """Begin; there has been no request since `since`."""
        self._quiet = quiet
        self._announce_at = announce_at
        self._since = since
        self._looks_until: float | None = None
        self._gone_by: float | None = None
        self._busy = False
        self.announced = False
        """The first GOAWAY has been said."""
        self.refusing = False
        """The final GOAWAY has been said."""

    @property
    def is_patient(self) -> bool:
        """Whether a handshake may take its time: a successor serves, so nobody waits for us."""
        return self._quiet >= RELOAD_QUIET_S

    def stir(self, now: float) -> None:
        """Take note that the client did something that may lead to a request."""
        self._since = now
        self._looks_until = None

    def await_first_request(self) -> None:
        """Take note that the client has not asked for anything yet, since it came."""
        if self.is_patient:
            self._since += FIRST_REQUEST_S

    def is_over(self, now: float, probe_timeout: float, *, busy: bool) -> bool:
        """Say whether to close; `busy`: a request is open or a response on its way."""
        if busy or self._busy:
            self.stir(now)
        self._busy = busy
        over = self._looks_until or self._over_at(probe_timeout)
        if over is None or now < over:
            return False
        if self.refusing or self._looks_until is not None:
            return True
        self._looks_until = now + LAST_LOOK_S
        return False

    def announces(self, now: float) -> bool:
        """Say whether the first GOAWAY is due."""
        return not self.announced and self._looks_until is None and now >= self._announce_at

    def closes(self, now: float) -> None:
        """Take note that the connection is being closed."""
        if self._gone_by is None:
            self._gone_by = now + STRETCH * self._quiet

    def is_gone(self, now: float) -> bool:
        """Say whether the close has had its time."""
        return self._gone_by is not None and now >= self._gone_by

    def due(self, probe_timeout: float) -> float | None:
        """Say when to look again; None: not while the connection is busy."""
        if self._gone_by is not None or self._looks_until is not None:
            return self._gone_by or self._looks_until
        over = self._over_at(probe_timeout)
        if self.announced:
            return over
        return self._announce_at if over is None else min(over, self._announce_at)

    def _over_at(self, probe_timeout: float) -> float | None:
        if self._busy:
            return None
        if self.refusing:
            return self._since
        slow = min(PROBE_TIMEOUTS * probe_timeout, STRETCH * self._quiet)
        return self._since + max(self._quiet, slow)


def announcements(quiet: float, count: int) -> list[float]:
    """Return after how many seconds each of `count` connections gets its first GOAWAY."""
    return [HEAD_START_S + quiet * index / count for index in range(count)]
