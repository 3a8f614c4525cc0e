"""How much of each key's rate is used, over all workers: where it is kept and how it adds up.

It owns the meaning of the cells of `shm/rates.py`. Nobody locks anything: a worker reads what all
of them used, decides, and adds to cells of its own. So a decision misses at most what every other
process is deciding at that moment, one request each: a limit over N processes lets pass no more
than N - 1 requests beyond it, ever, however long it lasts and whoever dies.

**Buckets** are kept as the moment `due` at which they are full (or empty) again: what all lanes
used, in nanoseconds, and the most that any of them skipped because nobody used it. **Windows** are
counts with the moment until which they matter, in the one of two columns that the parity of the
window's number says.

**Rows** go by a keyed hash, which strangers cannot steer: a key may be in any of eight. A row that
nobody needs any more is free for another key. Where all eight are in use the one that is soonest
free changes hands with what is in it: a flood of keys takes no memory and resets no bucket, but
keys may then share one.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from spooky.policy.rate.leaky_bucket import LeakyBucket
from spooky.policy.rate.sliding_window import SlidingWindow
from spooky.policy.rate.token_bucket import TokenBucket
from spooky.policy.rate.verdict import Quota, Verdict
from spooky.shm.rates import Lanes, RateColumn, RateTable

WAYS: Final = 8
"""Rows that a key may be in."""
RECHECK_NS: Final = 1_000_000_000
"""How long the place of a key is taken as known: two workers that meet a new key at one moment may
give it a row each, and both come to use the first of them when they look again."""
MOST_KNOWN: Final = 8192
_TAG: Final = 0xFFFFFFFF
_COUNT_BITS: Final = 24
_COUNT: Final = (1 << _COUNT_BITS) - 1
_MILLISECOND_NS: Final = 1_000_000

# Plain numbers: these are used for each request.
_FIRST: Final = int(RateColumn.FIRST)
_SECOND: Final = int(RateColumn.SECOND)
_CLAIM: Final = int(RateColumn.CLAIM)


class Reading(NamedTuple):
    """What a meter found for a request, for it alone to use."""

    verdict: Verdict
    now: int
    row: int
    known: tuple[int, int]
    """What was used and what is due, or the counts of two windows."""


class Meter(Protocol):
    """One limit's algorithm, and what is used of it by key."""

    def judge(self, key: bytes, now: int) -> Reading:
        """Say whether a request of a key may pass at `now`, in nanoseconds; uses nothing."""

    def charge(self, reading: Reading) -> None:
        """Use one: the request passes."""

    def quota(self, reading: Reading) -> Quota:
        """Say what is left once the request has passed."""


class Rows:
    """Finds the rows of one limit's keys."""

    __slots__ = ("_known", "_known_until", "_prefix", "_secret", "_sets", "lane", "table")

    def __init__(self, table: RateTable, process: int, secret: bytes, identity: str) -> None:
        """`identity` tells the limit from all others; `secret` is the same in all processes."""
        self.table = table
        self.lane = table.lane(process)
        self._sets = table.rows // WAYS
        self._secret = secret
        self._prefix = identity.encode() + b"\0"
        self._known: dict[bytes, tuple[int, int]] = {}
        self._known_until = 0

    def find(self, key: bytes, now: int, busy_until: Callable[[Lanes], int]) -> tuple[int, Lanes]:
        """Return the row of a key, and what is in it; one is made the key's where none is.

        `busy_until` says of a row until when it is needed.
        """
        if now >= self._known_until:
            self._known.clear()
            self._known_until = now + RECHECK_NS
        known = self._known.get(key)
        if known is not None:
            row, tag = known
            lanes = self.table.read(row)
            if max(lanes[_CLAIM]) & _TAG == tag:
                return row, lanes
        return self._search(key, busy_until)

    def _search(self, key: bytes, busy_until: Callable[[Lanes], int]) -> tuple[int, Lanes]:
        digest = int.from_bytes(
            blake2b(self._prefix + key, digest_size=8, key=self._secret).digest(), "big"
        )
        tag = digest & _TAG or 1
        first = (digest >> 32) % self._sets * WAYS
        found = [(row, self.table.read(row)) for row in range(first, first + WAYS)]
        for row, lanes in found:
            if max(lanes[_CLAIM]) & _TAG == tag:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[key] = row, tag
                return row, lanes
        row, lanes = min(found, key=lambda one: busy_until(one[1]))
        changes = max(lanes[_CLAIM]) >> 32
        self.lane.set(row, _CLAIM, changes + 1 << 32 | tag)
        return row, lanes


class BucketMeter:
    """A token bucket or a leaky bucket for each key."""

    def __init__(self, bucket: TokenBucket | LeakyBucket, rows: Rows) -> None:
        self._bucket = bucket
        self._rows = rows

    def judge(self, key: bytes, now: int) -> Reading:
        """Compare what is due with the clock."""
        row, lanes = self._rows.find(key, now, _due)
        used = sum(lanes[_FIRST])
        due = used + max(lanes[_SECOND])
        return Reading(self._bucket.judge(due, now), now, row, (used, due))

    def charge(self, reading: Reading) -> None:
        """Put off by one interval what is due, counted from now if nothing is."""
        _, now, row, (used, due) = reading
        lane = self._rows.lane
        if due < now:
            lane.set(row, _SECOND, now - used)
        lane.set(row, _FIRST, lane.get(row, _FIRST) + self._bucket.interval_ns)

    def quota(self, reading: Reading) -> Quota:
        """Count what is left in the bucket."""
        _, now, _, (_, due) = reading
        return self._bucket.quota(max(due, now) + self._bucket.interval_ns, now)


def _due(lanes: Lanes) -> int:
    return sum(lanes[_FIRST]) + max(lanes[_SECOND])


class WindowMeter:
    """A sliding window for each key; the window is whole milliseconds."""

    def __init__(self, window: SlidingWindow, rows: Rows) -> None:
        self._window = window
        self._window_ms = window.window_ns // _MILLISECOND_NS
        self._rows = rows

    def judge(self, key: bytes, now: int) -> Reading:
        """Add up two windows."""
        row, lanes = self._rows.find(key, now, _needed_until)
        number = now // self._window.window_ns
        until = (number + 2) * self._window_ms
        current = _count(lanes[number & 1], until)
        previous = _count(lanes[~number & 1], until - self._window_ms)
        verdict = self._window.judge(previous, current, now)
        return Reading(verdict, now, row, (previous, current))

    def charge(self, reading: Reading) -> None:
        """Count it in the current window."""
        lane, row = self._rows.lane, reading.row
        number = reading.now // self._window.window_ns
        until, column = (number + 2) * self._window_ms, number & 1
        own = lane.get(row, column)
        count = own & _COUNT if own >> _COUNT_BITS == until else 0
        lane.set(row, column, until << _COUNT_BITS | count + 1)

    def quota(self, reading: Reading) -> Quota:
        """Count what is left in the window."""
        previous, current = reading.known
        return self._window.quota(previous, current + 1, reading.now)


def _count(cells: tuple[int, ...], until: int) -> int:
    """Add up those that count a window that matters until then, in milliseconds."""
    return sum([cell & _COUNT for cell in cells if cell >> _COUNT_BITS == until])


def _needed_until(lanes: Lanes) -> int:
    return (max(*lanes[_FIRST], *lanes[_SECOND]) >> _COUNT_BITS) * _MILLISECOND_NS
