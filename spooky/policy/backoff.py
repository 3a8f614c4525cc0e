"""How long to wait before the next attempt at something that keeps failing.

Pure: the caller brings the count of failures and the randomness. The first failure is free, so
that a single crash costs no time; from the second on the wait doubles, up to a ceiling, and is
spread out so that many who failed together do not return together.
"""

FIRST_S = 0.25
CEILING_S = 10.0


def delay(failures: int, chance: float) -> float:
    """Say how many seconds to wait after `failures` in a row (0 or more).

    `chance` is a random number in [0, 1); the wait is between half of the step and all of it.
    """
    if failures <= 1:
        return 0.0
    doublings = min(failures - 2, 16)
    step = min(CEILING_S, FIRST_S * 2.0**doublings)
    return step * (0.5 + chance / 2)
