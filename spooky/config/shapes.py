"""The shapes that a part of the file can have: sections, lists, named groups, `off`.

A shape reads nodes into model objects, gives their JSON Schema and writes them out again, all
from one declaration (`tables.py`). Reading never stops at a fault: it records the problem and
puts a stand-in into the object, so that every other fault of the file is found as well; the
loader throws such an object away.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from spooky.config import docstrings
from spooky.config.document import Reading, Spot, Word, describe, is_null, line_of
from spooky.config.names import UnfitError
from spooky.config.scalars import OFF_JSON, OFF_WORDS, UNREAD, Json, Scalar

_MERGE = "<<"


class Shape(Protocol):
    """What a key's value looks like, in all that is done with it."""

    @property
    def blank(self) -> Any:
        """What stands in where a required value cannot be read."""

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read the node; record problems; UNREAD where there is nothing usable."""

    def schema(self) -> Json:
        """The JSON Schema."""

    def write(self, value: Any) -> Any:
        """The value as plain data that reads back as it."""


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a section. `required` says what to write where it is missing; "": optional.

    `about` and `default` are for keys that are not fields of the model, whose docstring and
    default say them otherwise.
    """

    shape: Shape
    required: str = ""
    about: str = ""
    default: Any = UNREAD


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping as the file has it, its value and its line."""

    key: str
    node: yaml.Node
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with known keys, read into one model class.

    `build` makes the object of the values where they are not simply its fields, and `parts`
    takes it apart again.
    """

    model: type[Any]
    fields: Mapping[str, Field]
    build: Callable[[dict[str, Any]], Any] | None = None
    parts: Callable[[Any], dict[str, Any]] | None = None
    either: tuple[tuple[str, ...], ...] = ()
    """Keys of which exactly one of each group must be there (for the JSON Schema)."""

    @property
    def blank(self) -> Any:
        """An object of stand-ins and defaults."""
        return self.make({})

    def make(self, values: dict[str, Any]) -> Any:
        """Make the object; a stand-in for each required value that is not among these."""
        needed = {key: f.shape.blank for key, f in self.fields.items() if f.required}
        complete = {**needed, **values}
        return self.build(complete) if self.build else self.model(**complete)

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read a mapping into the model object."""
        return self.make(self.read_values(node, spot, reading))

    def read_values(self, node: yaml.Node, spot: Spot, reading: Reading) -> dict[str, Any]:
        """Read the values of the keys that are there and usable."""
        expected = "a mapping with the keys " + ", ".join(self.fields)
        entries = read_entries(node, reading, spot, expected)
        if entries is None:
            return {}
        meant = self._refuse_unknown(entries, spot, reading)
        values: dict[str, Any] = {}
        for entry in entries:
            key = meant.get(entry.key, entry.key)
            if key not in self.fields:
                continue
            here = reading.enter(spot.child(key, entry.line, shown=entry.key))
            if is_null(entry.node) and self._may_be_null(key):
                continue
            value = self.fields[key].shape.read(entry.node, here, reading)
            if value is not UNREAD:
                values.setdefault(key, value)
        given = {meant.get(entry.key, entry.key) for entry in entries}
        if _MERGE not in given:
            self._require({*given, *meant.values()}, spot, reading)
        return values

    def _require(self, given: set[str], spot: Spot, reading: Reading) -> None:
        for key, key_field in self.fields.items():
            if key_field.required and key not in given:
                reading.refuse(reading.enter(spot.child(key, spot.line)), key_field.required)

    def _refuse_unknown(
        self, entries: Sequence[Entry], spot: Spot, reading: Reading
    ) -> dict[str, str]:
        """Refuse keys that are not known; return those that stand in for a missing known one.

        Their values are read as that one's, so that the faults in them are found as well.
        """
        meant: dict[str, str] = {}
        given = {entry.key for entry in entries}
        for key, line in ((entry.key, entry.line) for entry in entries):
            if key in self.fields:
                continue
            nearest = difflib.get_close_matches(key.lower(), self.fields, 1, 0.6)
            if key == _MERGE:
                hint = "; merge keys are not supported, use an alias for a whole value"
                reading.places.spoil(spot.key)
            elif nearest:
                hint = f', did you mean "{nearest[0]}"?'
                if nearest[0] not in given:
                    meant[key] = nearest[0]
            else:
                hint = f"; known here: {', '.join(self.fields)}"
            reading.refuse(spot.child(key, line), f"unknown key{hint}")
        return meant

    def _may_be_null(self, key: str) -> bool:
        """Say whether nothing written means None, as the model has it by default."""
        return any(
            f.name == key and f.default is None for f in dataclasses.fields(self.model)
        ) and not isinstance(self.fields[key].shape, Section)

    def schema(self) -> Json:
        """The JSON Schema of the mapping."""
        properties = {key: self._key_schema(key) for key in self.fields}
        required = [key for key, key_field in self.fields.items() if key_field.required]
        json: Json = {
            "description": docstrings.of_class(self.model),
            "type": "object" if required or self.either else ["object", "null"],
            "properties": properties,
            "additionalProperties": False,
        }
        if required:
            json["required"] = required
        if self.either:
            json["allOf"] = [{"oneOf": [_given(key) for key in group]} for group in self.either]
        return json

    def _key_schema(self, key: str) -> Json:
        key_field = self.fields[key]
        json = key_field.shape.schema()
        if self._may_be_null(key):
            json = {"anyOf": [json, {"type": "null"}]}
        about = key_field.about or docstrings.of_field(self.model, key)
        json = {**json, "description": about} if about else json
        default = self.default_of(key)
        return json if default is UNREAD else {**json, "default": default}

    def default_of(self, key: str) -> Any:
        """The default of a key as plain data; UNREAD where it has none."""
        key_field = self.fields[key]
        if key_field.default is not UNREAD or key_field.required:
            return key_field.default
        for known in dataclasses.fields(self.model):
            if known.name == key and known.default is not dataclasses.MISSING:
                default = known.default
                return None if default is None else key_field.shape.write(default)
        return UNREAD

    def write(self, value: Any) -> Json:
        """Write the object with all of its keys."""
        values = self.parts(value) if self.parts else {k: getattr(value, k) for k in self.fields}
        return {key: self._write_key(key, values[key]) for key in self.fields if key in values}

    def _write_key(self, key: str, value: Any) -> Any:
        is_null_itself = value is None and self._may_be_null(key)
        return None if is_null_itself else self.fields[key].shape.write(value)


def _given(key: str) -> Json:
    return {"required": [key], "properties": {key: {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, read as a tuple."""

    item: Shape
    at_least: int = 0
    blank: tuple[Any, ...] = ()

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read the items; a stand-in for each unusable one, so that none changes its index."""
        if not isinstance(node, yaml.SequenceNode):
            reading.refuse(spot, f"expected a list, got {describe(node)}")
            return UNREAD
        if len(node.value) < self.at_least:
            reading.refuse(spot, f"expected at least {self.at_least} in the list, got none")
        return tuple(
            _read_item(self.item, item, spot.item(index, line_of(item)), reading)
            for index, item in enumerate(node.value)
        )

    def schema(self) -> Json:
        """The JSON Schema of the list."""
        json: Json = {"type": "array", "items": self.item.schema()}
        return {**json, "minItems": self.at_least} if self.at_least else json

    def write(self, value: tuple[Any, ...]) -> list[Any]:
        """Write the items."""
        return [self.item.write(item) for item in value]


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """One thing, or a list of at least one such thing; read as a tuple."""

    item: Shape
    blank: tuple[Any, ...] = ()

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read what is there; the only one has the key of a first item and no index in its path."""
        if isinstance(node, yaml.SequenceNode):
            return ListOf(self.item, 1).read(node, spot, reading)
        return (_read_item(self.item, node, spot.only(), reading),)

    def schema(self) -> Json:
        """The JSON Schema of both forms."""
        one = self.item.schema()
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}

    def write(self, value: tuple[Any, ...]) -> Any:
        """Write the only one as itself, several as a list."""
        written = [self.item.write(item) for item in value]
        return written[0] if len(written) == 1 else written


def _read_item(shape: Shape, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
    value = shape.read(node, reading.enter(spot), reading)
    return shape.blank if value is UNREAD else value


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """A mapping of names of the operator's choice to sections that have a `name` themselves."""

    section: Section
    name: Scalar
    blank: tuple[Any, ...] = ()

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read the sections in the order of the file."""
        entries = read_entries(node, reading, spot, "a mapping of names")
        if entries is None:
            return UNREAD
        if not entries:
            reading.refuse(spot, "expected at least one name in it, got none")
        sections: dict[str, Any] = {}
        for entry in entries:
            sections.setdefault(entry.key, self._read_one(entry, spot, reading))
        return tuple(sections.values())

    def _read_one(self, entry: Entry, spot: Spot, reading: Reading) -> Any:
        here = reading.enter(spot.child(entry.key, entry.line))
        try:
            self.name.parse(Word(entry.key, "str", quoted=True, folder=reading.folder))
        except UnfitError:
            reading.note(here, f"expected {self.name.expected} as the name")
        values = self.section.read_values(entry.node, here, reading)
        return self.section.make({**values, "name": entry.key})

    def schema(self) -> Json:
        """The JSON Schema of the mapping."""
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": self.name.schema(),
            "additionalProperties": self.section.schema(),
        }

    def write(self, value: tuple[Any, ...]) -> Json:
        """Write the sections under their names."""
        return {one.name: self.section.write(one) for one in value}


@dataclass(frozen=True, slots=True)
class OrOff:
    """A section that may be switched off altogether."""

    section: Section
    off: Any

    @property
    def blank(self) -> Any:
        """The section as it is by default."""
        return self.section.blank

    def read(self, node: yaml.Node, spot: Spot, reading: Reading) -> Any:
        """Read the section, or `off`."""
        if isinstance(node, yaml.ScalarNode) and node.value.lower() in OFF_WORDS:
            return self.off
        return self.section.read(node, spot, reading)

    def schema(self) -> Json:
        """The JSON Schema of the section and of `off`."""
        return {"anyOf": [self.section.schema(), OFF_JSON]}

    def write(self, value: Any) -> Any:
        """Write the section, or `off`."""
        return "off" if value == self.off else self.section.write(value)


def read_entries(
    node: yaml.Node, reading: Reading, spot: Spot, expected: str
) -> list[Entry] | None:
    """Take a mapping apart. None, with the problem, if it is none.

    A key that stands twice is a problem; both are returned, and the first counts.
    """
    if is_null(node):
        return []
    if not isinstance(node, yaml.MappingNode):
        reading.refuse(spot, f"expected {expected}, got {describe(node)}")
        return None
    entries: list[Entry] = []
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = line_of(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            where = Spot(spot.key, spot.shown, line)
            reading.note(where, f"expected a name as key, got {describe(key_node)}")
            continue
        key = key_node.value
        if key in first:
            again = f"stands here a second time, after line {first[key]}; keep one"
            reading.note(spot.child(key, line), again)
        first.setdefault(key, line)
        entries.append(Entry(key, value_node, line))
    return entries
