"""The files that hold the content of answers, read together with the configuration.

So every worker gives the same answer, also one that may not read the file or starts later; a
reload reads them anew.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

from spooky.config.document import Finding
from spooky.config.model import Config

MOST_OCTETS = 1 << 20


def read_contents(config: Config) -> dict[Path, bytes]:
    """Read each of the files. OSError where one cannot be read."""
    files = {rule.respond.file for rule in config.routes if rule.respond and rule.respond.file}
    return {file: _read(file) for file in files}


def find_unreadable(config: Config) -> Iterator[Finding]:
    """Find files that cannot be read, or are too large."""
    for index, rule in enumerate(config.routes):
        file = rule.respond.file if rule.respond else None
        if file is None:
            continue
        key = f"routes[{index}].respond.file"
        try:
            if len(_read(file)) > MOST_OCTETS:
                yield Finding(key, f"{file} is larger than {MOST_OCTETS >> 20} MiB")
        except OSError as error:
            yield Finding(key, f"{file} cannot be read: {(error.strerror or str(error)).lower()}")


def _read(file: Path) -> bytes:
    if file.exists() and not file.is_file():
        # Opening a FIFO would wait for somebody to write to it.
        raise OSError(errno.EINVAL, "it is no regular file")
    with file.open("rb") as opened:
        return opened.read(MOST_OCTETS + 1)
