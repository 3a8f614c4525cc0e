"""A configuration file, from its text to a Config, or to all that is wrong with it.

Puts the steps together: YAML, older forms, the declared shapes, the checks between keys. Opens
the configuration file and no other, so that a file can be read where its certificates are not.
Whatever the text is, the outcome is a `Loaded` or a `ConfigError`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from spooky.config import check, legacy
from spooky.config.document import Places, Reading, Spot, compose, decode
from spooky.config.model import Config
from spooky.config.tables import CONFIG
from spooky.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration. `notices` are for the operator: older forms, keys of no effect."""

    config: Config
    notices: tuple[str, ...]
    places: Places = field(default_factory=Places, repr=False, compare=False)
    """Where its parts stand in the file, for problems that are found later."""


def load(path: Path) -> Loaded:
    """Read a configuration file. Raises ConfigError with every problem, in the file's order."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem(0, "", f"{path} cannot be read: {reason.lower()}")
        raise ConfigError([problem], str(path)) from None
    return load_text(decode(data, str(path)), str(path))


def load_text(text: str, file: str = "config.yaml") -> Loaded:
    """Read a configuration from text; its relative paths are relative to the folder of `file`.

    Raises ConfigError with every problem, in the order of the file.
    """
    root = compose(text, file)
    reading = Reading(Path(file).absolute().parent)
    present, adoption = legacy.adopt(root, reading)
    top = Spot("", "", 0)
    config: Config = CONFIG.read(present, top, reading)
    for finding in check.check(config):
        reading.add(finding)
    if reading.problems:
        raise ConfigError(sorted(set(reading.problems)), file)
    told = [
        str(reading.places.problem(finding.key, finding.text)) for finding in check.notices(config)
    ]
    return Loaded(config, (*legacy.notices(present, adoption), *told), reading.places)
