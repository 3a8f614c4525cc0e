"""Numbers with a fraction: shares and rates.

As a scalar of `scalars.py`, of which it is one more: plain decimal, no exponent, no quotes.
"""

import re
from typing import Any

from spooky.config.document import Word
from spooky.config.names import UnfitError
from spooky.config.scalars import Json, Scalar

_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def decimal(low: float, high: float) -> Scalar:
    """A number in plain decimal, of at most 6 digits after the point."""
    expected = f"a number in {plain(low)}..{plain(high)}"

    def parse(given: Word) -> float:
        if given.quoted or not _DECIMAL.fullmatch(given.text):
            raise UnfitError
        value = float(given.text)
        if not low <= value <= high:
            raise UnfitError
        return value

    json: Json = {"type": "number", "minimum": low, "maximum": high}
    return Scalar(expected, parse, json, low, _write)


def plain(value: float) -> str:
    """Write a number with no more digits than it needs."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _write(value: float) -> Any:
    return int(value) if value == int(value) else value
