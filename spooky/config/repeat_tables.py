"""The keys `retries`, `hedging` and `timeouts.deadline_header`: what each takes.

Declarations, as in `tables.py`, of which these are a part.
"""

import re

from spooky.config.decimals import decimal, plain
from spooky.config.document import Word
from spooky.config.names import UnfitError
from spooky.config.repeats import Backoff, Budget, HedgeDelay, Hedging, Retries
from spooky.config.scalars import Json, Scalar, choice, duration, integer, text
from spooky.config.shapes import Field, ListOf, Section

DAY = 86_400
_WAIT_OR_NONE = duration(0.001, DAY, zero=True)
_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,3})?)")
_TAKEN = frozenset(
    (
        *("connection", "content-length", "content-type", "cookie", "expect", "forwarded"),
        *("grpc-timeout", "host", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "via", "x-forwarded-for", "x-forwarded-host"),
        *("x-forwarded-proto", "x-request-id"),
    )
)
"""Fields with a meaning of their own."""

CAUSES = ("connect-failure", "refused-stream", "connection-lost", "reset", "per-try-timeout")


def _hedge_delay() -> Scalar:
    wait = duration(0.001, 3600)

    def parse(given: Word) -> HedgeDelay:
        found = _PERCENTILE.fullmatch(given.text)
        if found is None:
            return HedgeDelay(seconds=wait.parse(given))
        percentile = float(found[1])
        if not 1 <= percentile < 100:
            raise UnfitError
        return HedgeDelay(percentile=percentile)

    def write(value: HedgeDelay) -> str:
        if value.percentile is None:
            return str(wait.write(value.seconds))
        return f"p{plain(value.percentile)}"

    json: Json = {"anyOf": [wait.json, {"type": "string", "pattern": f"^{_PERCENTILE.pattern}$"}]}
    expected = f"{wait.expected} or a percentile such as p95"
    return Scalar(expected, parse, json, HedgeDelay(), write)


def deadline_header() -> Scalar:
    """The name of a request field; lower case, for so they come."""

    def convert(given: str) -> str:
        name = given.lower()
        if name in _TAKEN:
            raise UnfitError(f"{name} has a meaning of its own; use another name")
        return name

    return text(
        "the name of a field, such as x-request-timeout", r"^[A-Za-z][A-Za-z0-9-]{0,63}$", convert
    )


RETRIES = Section(
    Retries,
    {
        "attempts": Field(integer(1, 16)),
        "per_try_timeout": Field(_WAIT_OR_NONE),
        "on": Field(ListOf(choice(CAUSES))),
        "statuses": Field(ListOf(integer(400, 599))),
        "backoff": Field(
            Section(Backoff, {"initial": Field(_WAIT_OR_NONE), "max": Field(_WAIT_OR_NONE)})
        ),
        "budget": Field(
            Section(
                Budget,
                {"ratio": Field(decimal(0, 10)), "minimum": Field(decimal(0, 1_000_000))},
            )
        ),
    },
)

HEDGING = Section(
    Hedging, {"delay": Field(_hedge_delay(), "missing; write a duration such as 100ms, or p95")}
)
