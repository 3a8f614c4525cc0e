"""The YAML text as nodes with their lines, and where in the file each part of a Config stands.

Owns parsing (syntax errors become a `ConfigError` with line and column) and `Places`. Never
builds Python values from YAML: the shapes read the nodes, so that `off`, `1` or `10:30` reach a
key as they were written and not as YAML 1.1 guesses. A key of `Places` names a part of the
Config (`listen[0].tls`) where the file may say it shorter (`listen.tls`); messages use the
file's way.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from spooky.config.redaction import hide, hide_user
from spooky.errors import ConfigError, Problem

MOST_PARTS = 100_000
"""Keys and list items of one file, its aliases written out."""

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Word:
    """A scalar as it stands in the file; `kind` is what YAML takes it for (`str`, `int`)."""

    text: str
    kind: str
    quoted: bool
    folder: Path
    """What a relative path is relative to."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a part of the file stands: its key in `Places`, its path as the file has it."""

    key: str
    shown: str
    line: int

    def child(self, name: str, line: int, *, shown: str = "") -> "Spot":
        """The spot of a key of this mapping; `shown` is how the file has the key, if otherwise."""
        join = "." if self.key else ""
        key, path = _step(name), _step(clip(shown or name))
        return Spot(f"{self.key}{join}{key}", f"{self.shown}{join}{path}", line)

    def item(self, index: int, line: int) -> "Spot":
        """The spot of an item of this list."""
        return Spot(f"{self.key}[{index}]", f"{self.shown}[{index}]", line)

    def only(self) -> "Spot":
        """The spot of the single thing that stands where a list of them may stand."""
        return Spot(f"{self.key}[0]", self.shown, self.line)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that a check found in a Config, still without a line."""

    key: str
    text: str


@dataclass(slots=True)
class Places:
    """Where each part of a Config stands in its file, and which parts are stand-ins.

    A part that could not be read is *spoilt*: what the Config has there, or anywhere below, is not
    what the file says, and no check may rest on it.
    """

    _spots: dict[str, Spot] = field(default_factory=dict)
    _spoilt: set[str] = field(default_factory=set)
    _around: set[str] = field(default_factory=set)
    """What the spoilt parts stand in."""

    def add(self, spot: Spot) -> None:
        """Remember a spot by its key; of a part that the file has twice, the first."""
        self._spots.setdefault(spot.key, spot)

    def spoil(self, key: str) -> None:
        """Remember that the part with that key is a stand-in."""
        self._spoilt.add(key)
        self._around.update(_lineage(parent(key)))

    def has(self, key: str) -> bool:
        """Say whether the file itself has that part, and not a default."""
        return key in self._spots

    def is_sound(self, *keys: str) -> bool:
        """Say whether these parts are what the file says, with all that is below them."""
        return not any(
            key in self._around or any(one in self._spoilt for one in _lineage(key)) for key in keys
        )

    def problem(self, key: str, text: str) -> Problem:
        """Make a problem of the part with that key; its line, or that of what it stands in."""
        known = key
        while known and known not in self._spots:
            known = parent(known)
        spot = self._spots.get(known, Spot("", "", 0))
        rest = key[len(spot.key) :] if spot.shown else key[len(spot.key) :].lstrip(".")
        return Problem(spot.line, spot.shown + rest, text)


@dataclass(slots=True)
class Reading:
    """What one reading of a file gathers. `moved` has other paths for what an older form moved."""

    folder: Path
    places: Places = field(default_factory=Places)
    problems: list[Problem] = field(default_factory=list)
    moved: Mapping[str, str] = field(default_factory=dict)
    _entered: int = 0

    def enter(self, spot: Spot) -> Spot:
        """Remember the spot; return it with the path that the file has for it."""
        here = Spot(spot.key, self.moved.get(spot.key, spot.shown), spot.line)
        self.places.add(here)
        self._entered += 1
        if self._entered > MOST_PARTS:
            # A few lines of aliases of aliases can stand for more than memory has room for.
            text = f"the file says more than {MOST_PARTS} things, its aliases written out; split it"
            raise ConfigError([Problem(here.line, here.shown, text)])
        return here

    def refuse(self, spot: Spot, text: str) -> None:
        """Record a problem at the spot."""
        self.places.spoil(spot.key)
        self.note(spot, text)

    def note(self, spot: Spot, text: str) -> None:
        """Record a problem that leaves what stands at the spot usable."""
        self.problems.append(Problem(spot.line, hide_user(spot.shown), hide_user(text)))


def _lineage(key: str) -> Iterator[str]:
    """The key, and those of all that it stands in."""
    yield key
    while key:
        key = parent(key)
        yield key


def parent(key: str) -> str:
    """The key of what this one stands in; empty at the top."""
    if key.endswith('"'):
        return key[: max(key.rfind('."'), 0)]
    return key[: max(key.rfind("."), key.rfind("["), 0)]


def _step(name: str) -> str:
    """A key as a step of a path: in quotes where it is no plain name."""
    is_plain = name.isascii() and name.replace("-", "_").isidentifier()
    return name if is_plain else f'"{name}"'


def line_of(node: yaml.Node) -> int:
    """The line on which the node begins, counted from 1."""
    return int(node.start_mark.line) + 1


def is_null(node: yaml.Node) -> bool:
    """Say whether nothing was written (or `null`, or `~`)."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def word(node: yaml.ScalarNode, folder: Path) -> Word:
    """Take a scalar node as it was written."""
    quoted = node.style is not None
    return Word(node.value, node.tag.removeprefix(_TAG), quoted, folder)


def describe(node: yaml.Node) -> str:
    """Say what stands there, in a few printable words."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if is_null(node) or not isinstance(node, yaml.ScalarNode):
        return "nothing"
    text = clip(node.value)
    return f'"{text}"' if node.style is not None or not text else text


def clip(text: str) -> str:
    """Make text fit to be shown: ASCII, printable, at most about 60 characters, no secrets."""
    text = hide(text)
    shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= 60 else shown[:57] + "..."


def decode(data: bytes, file: str) -> str:
    """Decode a file's octets. Raises ConfigError where they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        text = f"not UTF-8 text: octet 0x{data[error.start]:02x}"
        raise ConfigError([Problem(line, "", text)], file) from None


def compose(text: str, file: str) -> yaml.Node:
    """Parse YAML into nodes. Raises ConfigError with line and column of a syntax error."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        problem = _syntax_problem(error)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"not valid YAML: the character {clip(chr(error.character))} is not allowed"
        problem = Problem(line, "", what)
    except RecursionError:
        problem = Problem(0, "", "not valid YAML for Spooky: nested far too deep")
    except (ValueError, OverflowError):
        # PyYAML passes an escape such as "\UFFFFFFFF" to chr() unchecked.
        problem = Problem(0, "", "not valid YAML: an escape sequence that names no character")
    else:
        if node is not None and not is_null(node):
            return node
        problem = Problem(0, "", "the file is empty: it needs at least listen and upstream")
    raise ConfigError([problem], file)


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    parts = [part for part in (error.context, error.problem) if part]
    if error.context and begun and mark and begun.line != mark.line:
        parts[0] += f" that begins on line {int(begun.line) + 1}"
    what = ", ".join(parts)
    text = what if what.isprintable() else what.encode("unicode_escape").decode("ascii")
    if mark is None:
        return Problem(0, "", f"not valid YAML: {text}")
    column = int(mark.column) + 1
    return Problem(int(mark.line) + 1, "", f"not valid YAML: {text}, at column {column}")


def key_of_upstream(name: str) -> str:
    """The key of an upstream in `Places`."""
    return Spot("upstream", "upstream", 0).child(name, 0).key
