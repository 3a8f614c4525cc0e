"""The kinds of single values that a key can take.

One `Scalar` says everything about a kind: how it is read, what a message says was expected, how
JSON Schema has it and how it is written out. The loader, the schema and the dump all use the
same one. Reading never guesses: a number needs its unit, and a number in quotes is text.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import yaml

from spooky.config import names, units
from spooky.config.document import Reading, Spot, Word, clip, describe, is_null, word
from spooky.config.names import UnfitError

Json = dict[str, Any]
Number = TypeVar("Number", int, float)

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DIGITS = re.compile(r"[+-]?[0-9][0-9a-zA-Z_:]*")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")
_TEXT_KINDS = frozenset({"str", "int", "float", "bool", "timestamp", "merge", "value"})
_LONGEST = 4096
_TRUTHS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
AUTO = "auto"
"""Follows from other keys."""
OFF_WORDS = frozenset({"off", "false", "no"})
OFF_JSON: Json = {"enum": ["off", False]}


class Unread:
    """What reading gives where the file has nothing usable."""


UNREAD = Unread()


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Scalar:
    """A kind of single value. `blank` stands in where a required one cannot be read."""

    expected: str
    parse: Callable[[Word], Any]
    """Gives the value; raises `UnfitError`, with a sentence where `expected` is not enough."""
    json: Json
    blank: Any
    write: Callable[[Any], Any] = _same

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read the value; UNREAD, with the problem recorded, where it is unfit."""
        complaint = f"expected {self.expected}, got {describe(node)}"
        if not isinstance(node, yaml.ScalarNode) or is_null(node) or not _is_sane(node.value):
            reading.refuse(spot, complaint)
            return UNREAD
        try:
            return self.parse(word(node, reading.folder))
        except UnfitError as unfit:
            reading.refuse(spot, str(unfit) or complaint)
            return UNREAD

    def schema(self) -> Json:
        """The JSON Schema of the kind."""
        return dict(self.json)


def _is_sane(text: str) -> bool:
    return text.isprintable() and len(text) <= _LONGEST


# --- numbers ----------------------------------------------------------------------------------


def integer(low: int, high: int, *, instead: str = "") -> Scalar:
    """A whole number in decimal, without quotes; `instead` is a word that the key takes too."""

    numbers = f"{low}..{high}" if low < high else str(low)
    expected = f"{instead} or {numbers}" if instead else numbers

    def parse(given: Word) -> int:
        if not _INTEGER.fullmatch(given.text):
            # 0443 would be octal to some, 4_433 and 7:23 numbers to YAML.
            is_number = given.kind in {"int", "float"} or _DIGITS.fullmatch(given.text)
            hint = " as a whole number in plain decimal" if is_number else ""
            raise UnfitError(f"expected {expected}{hint}, got {_shown(given)}" if hint else "")
        if given.quoted:
            raise UnfitError(f'expected {expected} without quotes, got "{given.text}"')
        return _within(int(given.text), low, high)

    json = {"type": "integer", "minimum": low, "maximum": high}
    return Scalar(expected, parse, json, low)


def size(low: int, high: int) -> Scalar:
    """Octets: bare, or with KiB, MiB or GiB."""

    def parse(given: Word) -> int:
        octets = units.parse_size(given.text)
        if octets is None:
            raise UnfitError(
                f"expected a size such as 65536, 64KiB, 10MiB or 1GiB, got {_shown(given)}"
            )
        return _within(octets, low, high)

    json: Json = {
        "type": ["integer", "string"],
        "minimum": low,
        "maximum": high,
        "pattern": units.SIZE_PATTERN,
    }
    expected = f"{units.format_size(low)}..{units.format_size(high)}"
    return Scalar(expected, parse, json, low, _write_size)


def _write_size(octets: int) -> int | str:
    text = units.format_size(octets)
    return int(text) if text.isdigit() else text


def duration(low: float, high: float, *, zero: bool = False) -> Scalar:
    """Seconds, written with a unit. `zero`: 0 is taken too, though below `low`."""

    def parse(given: Word) -> float:
        seconds = units.parse_duration(given.text)
        if seconds is None:
            raise UnfitError(_unitless(given))
        return seconds if zero and seconds == 0 else _within(seconds, low, high)

    json: Json = {"type": "string", "pattern": units.DURATION_PATTERN}
    if zero or low == 0:
        json = {"anyOf": [json, {"const": 0}]}
    span = f"{units.format_duration(low)}..{units.format_duration(high)}"
    return Scalar(f"0 or {span}" if zero else span, parse, json, low, units.format_duration)


def _unitless(given: Word) -> str:
    message = f"expected a duration such as 250ms, 5s, 1m or 1h, got {_shown(given)}"
    if _DECIMAL.fullmatch(given.text):
        whole = f"{given.text}ms or " if given.text.isdigit() else ""
        message += f"; a number needs its unit: write {whole}{given.text}s"
    return message


def _shown(given: Word) -> str:
    return clip(given.text) or "an empty text"


def _within(value: Number, low: Number, high: Number) -> Number:
    if not low <= value <= high:
        raise UnfitError
    return value


# --- words ------------------------------------------------------------------------------------


def boolean() -> Scalar:
    """True or false, in any of YAML's spellings."""

    def parse(given: Word) -> bool:
        truth = None if given.quoted else _TRUTHS.get(given.text.lower())
        if truth is None:
            raise UnfitError
        return truth

    return Scalar("true or false", parse, {"type": "boolean"}, blank=False)


def choice(
    values: Iterable[str],
    aliases: Mapping[str, str] | None = None,
    later: Iterable[str] = (),
) -> Scalar:
    """One of a few words. `later` are known words that this version does not support."""
    offered = tuple(values)
    table = {**{value: value for value in offered}, **(aliases or {})}
    unsupported = frozenset(later)

    def parse(given: Word) -> str:
        if given.text in unsupported:
            raise UnfitError(
                f"{given.text} is not supported by this version; use {_any_of(offered)}"
            )
        if given.text not in table:
            raise UnfitError
        return table[given.text]

    accepted: list[Any] = list(table)
    if "off" in table:
        accepted.append(False)
    return Scalar(_any_of(offered), parse, {"enum": accepted}, offered[0])


def _any_of(values: tuple[str, ...]) -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}" if others else last


def text(
    expected: str,
    pattern: str | None = None,
    convert: Callable[[str], Any] = _same,
    blank: Any = "",
) -> Scalar:
    """Text; what YAML takes for a number or a truth value is text too.

    `convert` makes the value of it and raises `UnfitError`; `pattern` is what all of it must match.
    """

    def parse(given: Word) -> Any:
        if given.kind not in _TEXT_KINDS:
            raise UnfitError(f"the YAML tag {given.kind} is not supported")
        if not given.text or (pattern and not re.search(pattern, given.text)):
            raise UnfitError
        return convert(given.text)

    json: Json = {"type": ["string", "integer"] if convert is _same else "string", "minLength": 1}
    if pattern:
        json["pattern"] = pattern
    return Scalar(expected, parse, json, blank)


def host(expected: str, convert: Callable[[str], str]) -> Scalar:
    """A name or address of the network, in the form that a function of `names` gives it."""
    return text(expected, convert=convert)


def backend_address() -> Scalar:
    """Where a backend is: host, port and whether by TLS."""
    expected = "host:port, http://host:port or https://host"
    return text(expected, convert=names.parse_backend, blank=("", 0, False))


# --- files ------------------------------------------------------------------------------------


def path() -> Scalar:
    """A file, relative to the folder of the configuration file."""

    def parse(given: Word) -> Any:
        if not given.text or given.kind not in _TEXT_KINDS:
            raise UnfitError
        return given.folder / given.text

    json: Json = {"type": "string", "minLength": 1}
    return Scalar("a path", parse, json, None, str)


def path_or_off() -> Scalar:
    """A file, or `off`, which is None; `auto` is the text of what follows from other keys."""
    file = path()

    def parse(given: Word) -> str | None:
        word = given.text.lower()
        if word in OFF_WORDS:
            return None
        return AUTO if word == AUTO else str(file.parse(given))

    def write(value: str | None) -> str:
        return "off" if value is None else value

    json = {"anyOf": [{"const": AUTO}, file.json, OFF_JSON]}
    return replace(file, expected="a path, auto or off", parse=parse, json=json, write=write)


def destination() -> Scalar:
    """Where log lines go: `-`, or a file as text."""
    file = path()

    def parse(given: Word) -> str:
        if given.text.lower() in OFF_WORDS:
            raise UnfitError("expected a path or -; to log nothing, write level: off")
        return "-" if given.text == "-" else str(file.parse(given))

    return replace(file, expected="a path or -", parse=parse, blank="-")


def destination_or_off() -> Scalar:
    """The same, or `off`, which is None."""
    some = destination()

    def parse(given: Word) -> str | None:
        return None if given.text.lower() in OFF_WORDS else str(some.parse(given))

    def write(value: str | None) -> str:
        return "off" if value is None else value

    json = {"anyOf": [some.json, OFF_JSON]}
    return replace(some, expected="a path, - or off", parse=parse, json=json, write=write)
