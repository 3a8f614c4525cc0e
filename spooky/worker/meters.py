"""How much of each key's rate is used, over all workers: where it is kept and how it adds up.

It owns the meaning of the cells of `shm/rates.py`. Nobody locks anything: a worker reads what all
of them used, decides, and adds to cells of its own. So a decision misses at most what every other
process is deciding at that moment, one request each: a limit over N processes lets pass no more
than N - 1 requests beyond it, ever, however long it lasts and whoever dies.

**Buckets** are kept as the moment `due` at which they are full (or empty) again: what all lanes
used, in nanoseconds, and the most that any of them skipped because nobody used it. **Windows** are
counts with the moment until which they matter, in the one of two columns that the parity of the
window's number says.
"""

from operator import add
from typing import Final, NamedTuple, Protocol

from spooky.policy.rate.leaky_bucket import LeakyBucket
from spooky.policy.rate.sliding_window import SlidingWindow
from spooky.policy.rate.token_bucket import TokenBucket
from spooky.policy.rate.verdict import Quota, Verdict
from spooky.shm.rates import RateColumn
from spooky.worker.rate_rows import Rows, Summing, Sums

_COUNT_BITS: Final = 24
_COUNT: Final = (1 << _COUNT_BITS) - 1
_MILLISECOND_NS: Final = 1_000_000

# Plain numbers: these are used for each request.
_FIRST: Final = int(RateColumn.FIRST)
_SECOND: Final = int(RateColumn.SECOND)


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


def _due(sums: Sums) -> int:
    return sums[_FIRST] + sums[_SECOND]


BUCKET: Final = Summing((sum, max, max), (add, max, max), _due)
"""What all used; the most that anybody skipped."""


class BucketMeter:
    """A token bucket or a leaky bucket for each key."""

    def __init__(self, bucket: TokenBucket | LeakyBucket, rows: Rows) -> None:
        self._bucket = bucket
        self._rows = rows

    def judge(self, key: bytes, now: int) -> Reading:
        """Compare what is due with the clock."""
        row, (used, skipped, _) = self._rows.find(key, now)
        due = used + skipped
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


def _latest(cells: tuple[int, ...]) -> int:
    """Add up the counts of the latest window of those that processes counted in, as one cell."""
    latest = max(cells)
    begin = latest & ~_COUNT
    if not begin:
        return latest
    counts = [cell for cell in cells if cell >= begin]
    return sum(counts) - (len(counts) - 1) * begin


def _later(one: int, other: int) -> int:
    """The same of two such cells."""
    if one >> _COUNT_BITS == other >> _COUNT_BITS:
        return one + (other & _COUNT)
    return max(one, other)


def _needed_until(sums: Sums) -> int:
    return (max(sums[_FIRST], sums[_SECOND]) >> _COUNT_BITS) * _MILLISECOND_NS


WINDOW: Final = Summing((_latest, _latest, max), (_later, _later, max), _needed_until)


class WindowMeter:
    """A sliding window for each key; the window is whole milliseconds."""

    def __init__(self, window: SlidingWindow, rows: Rows) -> None:
        self._window = window
        self._window_ms = window.window_ns // _MILLISECOND_NS
        self._rows = rows

    def judge(self, key: bytes, now: int) -> Reading:
        """Add up two windows."""
        row, sums = self._rows.find(key, now)
        number = now // self._window.window_ns
        until = (number + 2) * self._window_ms
        current = _count(sums[number & 1], until)
        previous = _count(sums[~number & 1], until - self._window_ms)
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


def _count(cell: int, until: int) -> int:
    """Return the count if it is that of the window which matters until then, in milliseconds."""
    return cell & _COUNT if cell >> _COUNT_BITS == until else 0
