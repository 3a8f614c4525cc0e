"""The keys `admission` and `backend_limits`: what each takes.

Declarations, as in `tables.py`, of which these are a part.
"""

from typing import Any

from spooky.config.admission import Adaptive, Admission, BackendLimits, UpstreamAdmission
from spooky.config.decimals import decimal
from spooky.config.document import Word
from spooky.config.names import UnfitError
from spooky.config.scalars import Scalar, boolean, choice, duration, integer, text
from spooky.config.shapes import Field, Section

DAY = 86_400
MOST = 1_000_000
LEAST_IMPORTANT = 7
PRIORITIES = {"high": 1, "normal": 3, "low": 5}

_COUNT = integer(0, MOST)
_WAIT = duration(0.001, DAY)


def _priority() -> Scalar:
    number = integer(0, LEAST_IMPORTANT)
    expected = f"high, normal, low or {number.expected}"

    def parse(given: Word) -> int:
        if given.text in PRIORITIES:
            return PRIORITIES[given.text]
        try:
            return int(number.parse(given))
        except UnfitError as unfit:
            raise UnfitError(str(unfit).replace(number.expected, expected)) from None

    json: dict[str, Any] = {"anyOf": [{"enum": list(PRIORITIES)}, number.json]}
    return Scalar(expected, parse, json, PRIORITIES["normal"])


def _field_name() -> Scalar:
    """The name of a request field, in lower case, as fields come."""
    return text(
        "the name of a field, such as priority",
        r"^[A-Za-z][A-Za-z0-9-]{0,63}$",
        str.lower,
    )


ADAPTIVE = Section(
    Adaptive,
    {
        "type": Field(choice(["gradient", "aimd"])),
        "min": Field(integer(1, MOST)),
        "start": Field(integer(1, MOST)),
        "max": Field(integer(1, MOST)),
        "tolerance": Field(decimal(1, 100)),
        "probe_interval": Field(duration(1, DAY)),
        "latency": Field(_WAIT),
    },
)

_LIMITS = {
    "max_in_flight": Field(_COUNT),
    "queue": Field(_COUNT),
    "queue_timeout": Field(_WAIT),
    "adaptive": Field(ADAPTIVE),
    "shed_from": Field(decimal(0, 1)),
}


def _parts(value: Any) -> dict[str, Any]:
    keys = (key for key in value.__dataclass_fields__ if key != "adaptive" or value.adaptive)
    return {key: getattr(value, key) for key in keys}


ADMISSION = Section(Admission, {**_LIMITS, "retry_after": Field(duration(1, 3600))}, parts=_parts)

UPSTREAM_ADMISSION = Section(
    UpstreamAdmission,
    {
        **_LIMITS,
        "priority": Field(_priority()),
        "priority_header": Field(_field_name()),
        "trust_priority": Field(boolean()),
    },
    parts=_parts,
)

BACKEND_LIMITS = Section(
    BackendLimits,
    {
        "max_connections": Field(_COUNT),
        "max_in_flight": Field(_COUNT),
        "max_queued": Field(_COUNT),
    },
)
