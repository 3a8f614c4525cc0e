"""Sliding window: so many requests per window of time, from two counts.

Time is cut into windows of fixed length. What came within the last window of time is estimated as
the count of the current window and the share of the one before that still lies within reach, as if
its requests had been spread evenly (Cloudflare, "How we built rate limiting capable of scaling to
millions of domains", 2017).

Its error: no fixed window ever has more than `limit`. Where all requests of a window came in its
last moment, up to `limit * (1 + f)` may lie within one window of time that ends at the share f of
the next, so never twice the limit; evenly spread requests are counted exactly, to one.
"""

from dataclasses import dataclass

from spooky.policy.rate.verdict import AT_ONCE, Quota, Verdict


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """A limit, 1 at least, and the nanoseconds that it is for."""

    limit: int
    window_ns: int

    def judge(self, previous: int, current: int, now: int) -> Verdict:
        """Say whether a request at `now` may pass, given the counts of two windows."""
        left = self.window_ns - now % self.window_ns
        room = (self.limit - 1 - current) * self.window_ns
        if previous * left <= room:
            return AT_ONCE
        if room >= 0:
            return Verdict(False, left - room // previous)
        return Verdict(False, left + self.window_ns - (self.limit - 1) * self.window_ns // current)

    def quota(self, previous: int, current: int, now: int) -> Quota:
        """Count the requests that may pass in the rest of this window."""
        left = self.window_ns - now % self.window_ns
        used = current - -previous * left // self.window_ns
        return Quota(max(0, self.limit - used), left)
