"""More shapes: a mapping of names to values of one kind, a value with a short form, long text.

As those of `shapes.py`: they read, give their schema and write, and never stop at a fault.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from spooky.config.document import Reading, Spot, Word, describe, is_null
from spooky.config.names import UnfitError
from spooky.config.scalars import UNREAD, Json, Scalar
from spooky.config.shapes import Entry, Section, Shape, read_entries


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
            value = self.value.read(entry.node, here, reading)
            if name in pairs:
                reading.refuse(here, f"{name} is there already, in another spelling; keep one")
            elif name is not None and value is not UNREAD:
                pairs[name] = value
        return tuple(pairs.items())

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
