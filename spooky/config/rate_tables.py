"""The keys of one item of `rate_limits`, and what has to hold between them."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from spooky.config import names
from spooky.config.document import Finding, Places, Word
from spooky.config.names import UnfitError
from spooky.config.rate_limits import (
    LEAKY_BUCKET,
    SLIDING_WINDOW,
    TOKEN_BUCKET,
    UNITS_NS,
    Network,
    Rate,
    RateLimit,
)
from spooky.config.request_keys import request_key
from spooky.config.scalars import OFF_JSON, OFF_WORDS, Json, Scalar, boolean, choice, integer, text
from spooky.config.shapes import Field, ListOf, Section

Findings: TypeAlias = Iterator[Finding]

MOST_A_UNIT = 1_000_000
MOST_BURST = 100_000
MOST_LIMITS = 512
LONGEST_WAIT_S = 60

_RATE = re.compile(r"([1-9][0-9]{0,8})/(s|m|h|d)")


def _rate() -> Scalar:
    expected = f"a rate such as 100/s, 30/m, 1000/h or 5000/d, of 1..{MOST_A_UNIT}"

    def parse(given: Word) -> Rate:
        found = _RATE.fullmatch(given.text)
        if found is None or int(found[1]) > MOST_A_UNIT:
            hint = "; a number needs its unit" if given.text.isdigit() else ""
            raise UnfitError(f"expected {expected}, got {given.text or 'an empty text'}{hint}")
        return Rate(int(found[1]), found[2])

    json: Json = {"type": "string", "pattern": f"^[1-9][0-9]*/({'|'.join(UNITS_NS)})$"}
    return Scalar(expected, parse, json, Rate(1, "s"), str)


def _network() -> Scalar:
    def convert(given: str) -> Network:
        try:
            return ipaddress.ip_network(given)
        except ValueError as error:
            if "host bits" in str(error):
                whole = ipaddress.ip_network(given, strict=False)
                raise UnfitError(f"expected no bits after the prefix: write {whole}") from None
            raise UnfitError from None

    expected = "a network such as 10.0.0.0/8 or 2001:db8::/32, or an IP address"
    blank = ipaddress.ip_network("0.0.0.0/32")
    return replace(text(expected, convert=convert, blank=blank), write=str)


def _delay() -> Scalar:
    number = integer(0, MOST_BURST)

    def parse(given: Word) -> int | None:
        return None if given.text.lower() in OFF_WORDS else int(number.parse(given))

    def write(value: int | None) -> int | str:
        return "off" if value is None else value

    json = {"anyOf": [number.json, OFF_JSON]}
    return Scalar(f"{number.expected} or off", parse, json, 0, write)


RATE_LIMIT = Section(
    RateLimit,
    {
        "name": Field(
            text("letters, digits, _, - or .", r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"),
            "missing; it is in logs and in the RateLimit fields",
        ),
        "rate": Field(_rate(), "missing; write a rate such as 100/s"),
        "key": Field(request_key("upstream", "backend", "all", aliases={})),
        "algorithm": Field(choice([TOKEN_BUCKET, LEAKY_BUCKET, SLIDING_WINDOW])),
        "burst": Field(integer(0, MOST_BURST)),
        "delay": Field(_delay()),
        "path_prefix": Field(text("a path such as /login", convert=names.parse_path_prefix)),
        "scope": Field(choice(["instance", "worker"])),
        "exempt": Field(ListOf(_network())),
        "ipv6_prefix": Field(integer(16, 128)),
        "headers": Field(choice(["refused", "always"])),
        "dry_run": Field(boolean()),
    },
)


def check_rate_limits(lists: Iterable[tuple[str, Sequence[RateLimit]]], known: Places) -> Findings:
    """Find what contradicts itself in lists of limits, each with its key in the file."""
    first: dict[str, str] = {}
    for key, limits in lists:
        if len(first) + len(limits) > MOST_LIMITS:
            yield Finding(key, f"more than {MOST_LIMITS} rate limits in all: take some out")
            return
        for number, limit in enumerate(limits):
            here = f"{key}[{number}]"
            if known.is_sound(f"{here}.name"):
                taken = first.setdefault(limit.name, here)
                if taken != here:
                    yield Finding(f"{here}.name", f"{limit.name} is already the name of {taken}")
            if known.is_sound(here):
                yield from _check(limit, here)
                if limit.key == "backend":
                    yield from _check_backend(limit, here, key)


def _check_backend(limit: RateLimit, here: str, key: str) -> Findings:
    """A limit of backends says nothing to clients and holds nobody: another backend is asked."""
    if ".route" in key or key.startswith("routes"):
        text = "a route has no backends: move the limit to the upstream, or count something else"
        yield Finding(f"{here}.key", text)
    if limit.headers != "refused":
        text = "what a backend has left is not what a client has: leave it out"
        yield Finding(f"{here}.headers", text)
    if (
        limit.delay is not None
        and limit.delay < (limit.burst or 0)
        and limit.algorithm == LEAKY_BUCKET
    ):
        text = "expected off: a limit of backends holds no request back, it asks another backend"
        yield Finding(f"{here}.delay", text)


def _check(limit: RateLimit, here: str) -> Findings:
    if limit.burst is not None and limit.algorithm == SLIDING_WINDOW:
        complaint = "a sliding window has none: leave it out, or use token-bucket or leaky-bucket"
        yield Finding(f"{here}.burst", complaint)
    if limit.burst == 0 and limit.algorithm == TOKEN_BUCKET:
        yield Finding(f"{here}.burst", "expected 1 at least: a token bucket of 0 lets nothing pass")
    if limit.delay != 0 and limit.algorithm != LEAKY_BUCKET:
        yield Finding(f"{here}.delay", "only a leaky-bucket delays requests: leave it out")
    if limit.algorithm == LEAKY_BUCKET and limit.delay is not None:
        waiting = max(0, (limit.burst or 0) - limit.delay)
        wait_s = waiting * limit.rate.interval_ns // UNITS_NS["s"]
        if wait_s > LONGEST_WAIT_S:
            complaint = (
                f"at {limit.rate} the last of them would wait for {wait_s} s, expected at most "
                f"{LONGEST_WAIT_S} s: lower it, or set delay higher or to off"
            )
            yield Finding(f"{here}.burst", complaint)
