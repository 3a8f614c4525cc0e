"""The clock of the shared memory, which all processes of a machine read alike."""

import time


def now_ms() -> int:
    """Read the monotonic clock, in milliseconds."""
    return time.monotonic_ns() // 1_000_000
