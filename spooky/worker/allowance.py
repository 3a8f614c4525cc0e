"""How many times a second something may be done that strangers can ask for.

It counts in whole seconds of the clock that it is given, so up to twice as many may be done
around the turn of one.
"""

from collections.abc import Callable


class Allowance:
    """So many a second."""

    __slots__ = ("_clock", "_left", "_most", "_second")

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._second = -1
        self._left = 0

    def take(self) -> bool:
        """Take one; False when there is none left in this second."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._left = second, self._most
        if self._left == 0:
            return False
        self._left -= 1
        return True
