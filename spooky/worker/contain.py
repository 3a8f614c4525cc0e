"""Keeps a fault of ours in one exchange within that exchange."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast


class Containing(Protocol):
    """Something that can end on its own."""

    def fault(self, error: Exception) -> None:
        """End because of a fault of ours."""


F = TypeVar("F", bound=Callable[..., None])


def contained(method: F) -> F:
    """Make a method call `fault` instead of raising.

    Whoever calls an exchange, a connection to a backend or the sweep over all of them, must not
    end because of it.
    """

    @functools.wraps(method)
    def guarded(self: Containing, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.fault(error)

    return cast("F", guarded)
