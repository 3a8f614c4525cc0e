"""Token bucket: bursts pass at once, the average is kept.

The bucket holds up to `capacity` tokens, gets one every `interval_ns`, and a request takes one or
is refused. It is kept as the moment at which it is full again (`due`), as the Generic Cell Rate
Algorithm does (ITU-T I.371, the virtual scheduling form): nothing has to be done as time passes,
0 is a full bucket, and in any span of t no more than capacity + t / interval requests pass.
"""

from dataclasses import dataclass

from spooky.policy.rate.verdict import AT_ONCE, Quota, Verdict


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A capacity, 1 at least, and the nanoseconds between two tokens."""

    interval_ns: int
    capacity: int

    def judge(self, due: int, now: int) -> Verdict:
        """Say whether there is a token for a request at `now`."""
        lacking = due - now - (self.capacity - 1) * self.interval_ns
        return AT_ONCE if lacking <= 0 else Verdict(False, lacking)

    def quota(self, due: int, now: int) -> Quota:
        """Count the whole tokens, and the time in which the bucket gets as many (or the next)."""
        until_full = max(0, due - now)
        left = self.capacity + -until_full // self.interval_ns
        if left > 0:
            return Quota(left, left * self.interval_ns)
        return Quota(0, until_full - (self.capacity - 1) * self.interval_ns)
