"""Leaky bucket: requests leave at an even pace, and those that come too early wait or are refused.

As nginx's `limit_req`: `burst` is how many requests may be ahead of their turn, `delay` how many of
those pass at once; the others wait until no more than `delay` are ahead. It is kept as the moment
at which the bucket has run empty (`due`), 0 for an empty one: the virtual scheduling form of the
Generic Cell Rate Algorithm (ITU-T I.371), like the token bucket.
"""

from dataclasses import dataclass

from spooky.policy.rate.verdict import AT_ONCE, Quota, Verdict


@dataclass(frozen=True, slots=True)
class LeakyBucket:
    """The nanoseconds from one request to the next; a `delay` of `burst` or more delays none."""

    interval_ns: int
    burst: int
    delay: int

    def judge(self, due: int, now: int) -> Verdict:
        """Say whether a request at `now` may pass, and when its turn is."""
        ahead = due - now
        if ahead <= 0:
            return AT_ONCE
        excess = ahead - self.burst * self.interval_ns
        if excess > 0:
            return Verdict(False, excess)
        wait = ahead - self.delay * self.interval_ns
        return Verdict(True, wait) if wait > 0 else AT_ONCE

    def quota(self, due: int, now: int) -> Quota:
        """Count those that would not be refused, and the time in which as many leak (or one)."""
        ahead = max(0, due - now)
        left = self.burst + 1 + -ahead // self.interval_ns
        if left > 0:
            return Quota(left, left * self.interval_ns)
        return Quota(0, ahead - self.burst * self.interval_ns)
