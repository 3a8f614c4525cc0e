"""How a backend that came back is given its load again: bit by bit, not all at once.

Pure: the caller says for how long the backend has been well. The share grows in steps, as
HAProxy's `slowstart` does it, because each step has every balancer laid out anew.
"""

from typing import Final

STEPS: Final = 20
"""HAProxy's `server_warmup` sets a server's weight anew after each twentieth of `slowstart`."""


def share(well_for: float, window: float) -> float:
    """Say what share of its weight a backend has: from 1/20 on, never falling, 1 at the end.

    `well_for`: seconds since it became well, infinite where it was never known to be otherwise;
    less than 0, of a clock that was set back, is 0. `window`: the seconds that the way up takes,
    0 or less: it has none.
    """
    if window <= 0 or well_for >= window:
        return 1.0
    return (_steps_done(well_for, window) + 1) / STEPS


def next_step_in(well_for: float, window: float) -> float | None:
    """Say in how many seconds `share` grows; None when it is 1 already."""
    if share(well_for, window) >= 1.0:
        return None
    passed = max(well_for, 0.0)
    return max((_steps_done(well_for, window) + 1) * window / STEPS - passed, 0.001)


def _steps_done(well_for: float, window: float) -> int:
    return min(int(max(well_for, 0.0) / window * STEPS), STEPS - 1)
