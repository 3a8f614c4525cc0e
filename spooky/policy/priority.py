"""How important a request is: a class from 0, the most important, to 7.

The classes are the urgencies of RFC 9218 section 4.1, where 3 is what a request has that says
nothing. The operator gives each upstream one; a field of the request may lower it, and raise it
only where the operator trusts the field.
"""

import re
from typing import Final

CLASSES: Final = 8
NAMES: Final = {"high": 1, "normal": 3, "low": 5}
"""Words for those who need no more than three."""

_URGENCY: Final = re.compile(rb"(?:^|,)[ \t]*u=([^,;]*)")
_DIGIT: Final = re.compile(rb"[0-7]")


def class_of(own: int, value: bytes | None, *, trusted: bool) -> int:
    """Return the class of a request.

    `own` is the operator's, `value` what the request's field says, None if it has none. Unless
    it is `trusted`, the less important one of both counts, so that no client raises itself.
    """
    said = None if value is None else parse_class(value)
    if said is None:
        return own
    return said if trusted else max(own, said)


def parse_class(value: bytes) -> int | None:
    """Read a class: `u=N` among RFC 9218's parameters, a digit, or one of NAMES.

    None where nothing usable is said; what is out of range counts as not said (RFC 9218
    section 4), and of several urgencies the last one counts (RFC 8941 section 4.2.2).
    """
    urgencies = _URGENCY.findall(value)
    said = (urgencies[-1] if urgencies else value).strip(b" \t").lower()
    if _DIGIT.fullmatch(said):
        return int(said)
    return None if urgencies else NAMES.get(said.decode("latin-1"))
