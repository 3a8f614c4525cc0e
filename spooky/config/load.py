"""A configuration file, from its text to a Config, or to all that is wrong with it.

Puts the steps together: YAML, older forms, the declared shapes, the checks between keys, and for
who wants it the checks of the files that it names. A fault in one place hides none in another.
Whatever the text is, the outcome is a `Loaded` or a `ConfigError`.
"""

import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from spooky.config import check, legacy
from spooky.config.document import Places, Reading, Spot, compose, decode
from spooky.config.model import Config
from spooky.config.tables import CONFIG
from spooky.errors import ConfigError, Problem

MOST_OCTETS = 16 << 20
"""Of a configuration file."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration. `notices` are for the operator: older forms, keys of no effect."""

    config: Config
    notices: tuple[str, ...]
    places: Places = field(default_factory=Places, repr=False, compare=False)
    """Where its parts stand in the file, for problems that are found later."""


def load(path: Path) -> Loaded:
    """Read a configuration file. Raises ConfigError with every problem, in the file's order."""
    return _draft(*_read(path)).finish()


def load_text(text: str, file: str = "config.yaml") -> Loaded:
    """Read a configuration from text; its relative paths are relative to the folder of `file`.

    Raises ConfigError with every problem, in the order of the file.
    """
    return _draft(text, file).finish()


def load_and_inspect(path: Path, now: datetime) -> tuple[Loaded, check.Inspection]:
    """Read a configuration file, and every file that it names. `now` has a time zone.

    Raises ConfigError with every problem of all of them: the files that a faulty configuration
    names are opened too, as far as it can be told which they are.
    """
    draft = _draft(*_read(path))
    inspection = check.inspect_files(draft.config, now, draft.reading.places)
    draft.reading.problems += inspection.problems
    return draft.finish(), inspection


@dataclass(frozen=True, slots=True)
class _Draft:
    """What was read of a file, faulty or not: the Config has a stand-in for each faulty part."""

    config: Config
    reading: Reading
    file: str
    notices: tuple[str, ...]

    def finish(self) -> Loaded:
        """Give what was read. Raises ConfigError where anything of it is faulty."""
        if self.reading.problems:
            raise ConfigError(sorted(set(self.reading.problems)), self.file)
        return Loaded(self.config, self.notices, self.reading.places)


def _read(path: Path) -> tuple[str, str]:
    try:
        with open(path, "rb", opener=_open) as file:
            data = file.read(MOST_OCTETS + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem(0, "", f"{path} cannot be read: {reason.lower()}")
        raise ConfigError([problem], str(path)) from None
    if len(data) > MOST_OCTETS:
        text = f"{path} is larger than {MOST_OCTETS >> 20} MiB, which no configuration is"
        raise ConfigError([Problem(0, "", text)], str(path))
    return decode(data, str(path)), str(path)


def _open(path: str, flags: int) -> int:
    """Open a file, without waiting for a writer where it is a pipe."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _draft(text: str, file: str) -> _Draft:
    root = compose(text, file)
    reading = Reading(Path(file).absolute().parent)
    present, adoption = legacy.adopt(root, reading)
    config: Config = CONFIG.read(present, Spot("", "", 0), reading)
    places = reading.places
    found = [places.problem(one.key, one.text) for one in check.check(config, places)]
    reading.problems += found
    told = [str(places.problem(one.key, one.text)) for one in check.notices(config)]
    notices = () if reading.problems else (*legacy.notices(present, adoption), *told)
    return _Draft(config, reading, file, notices)
