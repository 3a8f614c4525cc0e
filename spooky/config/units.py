"""Durations and sizes: how they are written in the file, and back.

Owns the two small grammars and nothing else. Inside Spooky a duration is seconds (float) and a
size is octets (int). A duration is always a whole number of milliseconds, so that what is
written out reads back as the same value.
"""

import re

_DURATION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?(ms|s|m|h)")
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)?")

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_OCTETS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

DURATION_PATTERN = r"^([0-9]{1,9}ms|[0-9]{1,9}(\.[0-9]{1,3})?(s|m|h))$"
SIZE_PATTERN = r"^[0-9]{1,15}(B|KiB|MiB|GiB)?$"


def parse_duration(text: str) -> float | None:
    """Read `250ms`, `1.5s`, `1m` or `2h` as seconds; None where it is no duration."""
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text)
    if found is None or (found[2] and found[3] == "ms"):
        return None
    thousandths = int(found[1]) * 1000 + int((found[2] or "0").ljust(3, "0"))
    return thousandths * _MILLISECONDS[found[3]] / 1000 / 1000


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that is exact."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    unit = next(u for u in ("h", "m", "s", "ms") if milliseconds % _MILLISECONDS[u] == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"


def parse_size(text: str) -> int | None:
    """Read `64KiB`, `10MiB`, `1GiB` or bare octets; None where it is no size."""
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _OCTETS[found[2] or "B"] if found else None


def format_size(octets: int) -> str:
    """Write octets in the largest unit that is exact; bare octets where none is."""
    for unit in ("GiB", "MiB", "KiB"):
        if octets and octets % _OCTETS[unit] == 0:
            return f"{octets // _OCTETS[unit]}{unit}"
    return str(octets)
