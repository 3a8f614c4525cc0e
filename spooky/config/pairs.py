"""More shapes: a mapping of names to values of one kind, a value with a short form, long text.

As those of `shapes.py`: they read, give their schema and write, and never stop at a fault.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import yaml

from spooky.config.document import Reading, Spot, Word, describe, is_null
from spooky.config.names import UnfitError
from spooky.config.redaction import HIDDEN, hide, hide_in_arguments, is_secret_name
from spooky.config.scalars import UNREAD, Json, Scalar
from spooky.config.shapes import Entry, ListOf, Section, Shape, read_entries

SECRET_IS_MISSING = f"{HIDDEN} is what spooky -T prints for a secret; write the secret itself"


@dataclass(frozen=True, slots=True)
class NamedValues:
    """A mapping of names of the operator's choice to values; read as a tuple of pairs."""

    name: Scalar
    """What a name is, and its normal form."""
    value: Shape
    at_least: int = 0
    blank: tuple[Any, ...] = ()

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read the pairs in the order of the file; those that are unusable are left out."""
        entries = read_entries(node, reading, spot, "a mapping of names")
        if entries is None:
            return UNREAD
        if len(entries) < self.at_least:
            reading.refuse(spot, f"expected at least {self.at_least} in it, got {len(entries)}")
        pairs: dict[str, Any] = {}
        for entry in entries:
            here = reading.enter(spot.child(entry.key, entry.line))
            name = self._read_name(entry, here, reading)
            value = self.read_value(name, entry, here, reading)
            if name in pairs:
                reading.refuse(here, f"{name} is there already, in another spelling; keep one")
            elif name is not None and value is not UNREAD:
                pairs[name] = value
        return tuple(pairs.items())

    def read_value(self, _name: str | None, entry: Entry, here: Spot, reading: Reading) -> Any:
        """Read the value under a name, None where that is unusable."""
        return self.value.read(entry.node, here, reading)

    def _read_name(self, entry: Entry, here: Spot, reading: Reading) -> str | None:
        try:
            name = self.name.parse(Word(entry.key, "str", quoted=True, folder=reading.folder))
        except UnfitError as unfit:
            reading.refuse(here, str(unfit) or f"expected {self.name.expected} as the name")
            return None
        return str(name)

    def schema(self) -> Json:
        """The JSON Schema of the mapping."""
        json: Json = {"type": "object", "additionalProperties": self.value.schema()}
        return {**json, "minProperties": self.at_least} if self.at_least else json

    def write(self, value: tuple[tuple[str, Any], ...]) -> Json:
        """Write the values under their names."""
        return {name: self.value.write(one) for name, one in value}


@dataclass(frozen=True, slots=True)
class NamedSecrets(NamedValues):
    """The same, where some names are those of secrets, whose values are never shown."""

    def read_value(self, name: str | None, entry: Entry, here: Spot, reading: Reading) -> Any:
        """Read a value; what is wrong with a secret is told without it."""
        if name is None or not is_secret_name(name):
            return self.value.read(entry.node, here, reading)
        if HIDDEN in _words(entry.node):
            reading.refuse(here, SECRET_IS_MISSING)
            return UNREAD
        before = len(reading.problems)
        value = self.value.read(entry.node, here, reading)
        for index in range(before, len(reading.problems)):
            problem = reading.problems[index]
            expected = problem.text.partition(", got ")[0]
            if expected == problem.text and any(one in expected for one in _words(entry.node)):
                expected = "is not a value that can stand here"
            reading.problems[index] = replace(problem, text=f"{expected}; what is there is secret")
        return value

    def write(self, value: tuple[tuple[str, Any], ...]) -> Json:
        """Write the values under their names, but for secrets."""
        return {
            name: _conceal(written) if is_secret_name(name) else written
            for name, written in NamedValues.write(self, value).items()
        }


def _words(node: yaml.Node) -> list[str]:
    """List what is written at the node, or in the mapping that it is."""
    if isinstance(node, yaml.ScalarNode):
        return [node.value] if node.value else []
    if isinstance(node, yaml.MappingNode):
        return [word for _, value in node.value for word in _words(value)]
    return []


def _conceal(written: Any) -> Any:
    if isinstance(written, dict):
        return {key: _conceal(one) for key, one in written.items()}
    return HIDDEN if isinstance(written, str) else written


def concealing(scalar: Scalar) -> Scalar:
    """A text that may have a secret in it, such as a token in a query, which is not written."""

    def parse(given: Word) -> Any:
        if HIDDEN in given.text:
            raise UnfitError(SECRET_IS_MISSING)
        return scalar.parse(given)

    return replace(scalar, parse=parse, write=hide)


@dataclass(frozen=True, slots=True)
class Arguments(ListOf):
    """A program and its arguments, with the secrets among them left out where it is written."""

    def write(self, value: tuple[Any, ...]) -> list[Any]:
        """Write the items that are no secrets."""
        return hide_in_arguments(list(value))


@dataclass(frozen=True, slots=True)
class ShortOr:
    """A section, or a single value that stands for one.

    `lift` makes the section's object of the value; `lower` gives the value that stands for an
    object, None where none does.
    """

    short: Scalar
    section: Section
    lift: Callable[[Any], Any]
    lower: Callable[[Any], Any]

    @property
    def blank(self) -> Any:
        """The section as it is by default."""
        return self.section.blank

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read either form."""
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            return self.section.read(node, spot, reading)
        value = self.short.read(node, spot, reading)
        return UNREAD if value is UNREAD else self.lift(value)

    def schema(self) -> Json:
        """The JSON Schema of both forms."""
        return {"anyOf": [self.short.schema(), self.section.schema()]}

    def write(self, value: Any) -> Any:
        """Write the short form where there is one."""
        short = self.lower(value)
        return self.section.write(value) if short is None else self.short.write(short)


@dataclass(frozen=True, slots=True)
class LongText:
    """Text of any characters and several lines, as the content of an answer has them."""

    most_octets: int
    blank: str = ""

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read the text as it stands there."""
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            reading.refuse(spot, f"expected text, got {describe(node)}")
            return UNREAD
        text = str(node.value)
        # YAML can escape halves of characters, which cannot be sent.
        length = len(text.encode(errors="replace"))
        if length > self.most_octets:
            reading.refuse(spot, f"is {length} octets long, {self.most_octets} are allowed")
            return UNREAD
        if any("\ud800" <= character <= "\udfff" for character in text):
            reading.refuse(spot, "has half of a character, which UTF-8 cannot say")
            return UNREAD
        return text

    def schema(self) -> Json:
        """The JSON Schema of text."""
        return {"type": ["string", "number", "boolean"]}

    def write(self, value: str) -> str:
        """Write the text."""
        return value
