"""Whether the logs can be written where the configuration wants them; no file is made or opened.

Owns what kinds of file a log may be, and the look at the rights of the master and of `user` on
the way to it. The rule that is not obvious: a FIFO is not opened to try it, for its reader would
take the closing for the end of the log; whether somebody reads it is seen at the start.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from spooky.config.account import Credentials, ask_as, find_credentials, own_name
from spooky.config.document import Finding
from spooky.config.model import Config
from spooky.errors import StartupError

STANDARD: Final = "-"
"""In `log.file` standard error, in `log.access` standard output."""

OWN_STREAMS: Final = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
"""What is behind these depends on who looks: a test of the configuration cannot know."""

_UNFIT: Final = {
    stat.S_IFDIR: "is a folder; name a file",
    stat.S_IFSOCK: "is a socket, which no log can be written to; name a file, a FIFO or -",
    stat.S_IFBLK: "is a block device; name a file",
}


def unfit(mode: int) -> str:
    """Say why a file of this mode (stat(2)) cannot be a log; empty if it can."""
    return _UNFIT.get(stat.S_IFMT(mode), "")


def judge_folder(file: str | Path) -> str:
    """Say what is wrong with the folder that a file is to be in; empty if it is there."""
    folder = Path(file).parent
    try:
        found = os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return f"the folder {folder} does not exist; create it first"
    except OSError as error:
        return f"the folder {folder} cannot be reached: {_reason(error)}"
    return "" if stat.S_ISDIR(found.st_mode) else f"{folder} is not a folder"


def find_log_faults(config: Config) -> Iterator[Finding]:
    """Find what keeps the master from making the logs, or `user` from reopening them."""
    named = {"log.file": config.log.file, "log.access": config.log.access}
    files = {
        key: file
        for key, file in named.items()
        if file is not None and file != STANDARD and not file.startswith(OWN_STREAMS)
    }
    for key, file in list(files.items()):
        fault = judge_folder(file) or _judge_file(file)
        if fault:
            del files[key]
            yield Finding(key, fault)
    try:
        credentials = find_credentials(config)
    except StartupError:
        # The account is not there, which is a finding of its own.
        return
    if files and credentials is not None and credentials.uid != os.geteuid():
        yield from _find_user_faults(files, credentials, config.user or str(credentials.uid))


def _judge_file(file: str) -> str:
    """Say what keeps this process from writing a log; empty if nothing does."""
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        folder = os.path.dirname(os.path.realpath(file))
        if _may(folder, os.W_OK | os.X_OK):
            return ""
        return f"{own_name()} may not make {file}: the folder {folder} is not writable"
    except OSError as error:
        return f"{file} cannot be reached: {_reason(error)}"
    if what := unfit(mode):
        return f"{file} {what}"
    return "" if _may(file, os.W_OK) else f"{own_name()} may not write to {file}"


def _find_user_faults(
    files: Mapping[str, str], credentials: Credentials, name: str
) -> Iterator[Finding]:
    # What the master gives away can be looked at by the master alone.
    given = {key: _is_given_away(key, file) for key, file in files.items()}

    def judge() -> str:
        return json.dumps(
            {key: _judge_for_user(file, name, given=given[key]) for key, file in files.items()}
        )

    try:
        answer: dict[str, str] = json.loads(ask_as(credentials, judge) or "{}")
    except OSError:
        # No room for one more process: what starts many will say so.
        return
    yield from (Finding(key, fault) for key, fault in answer.items() if fault)


def _is_given_away(key: str, file: str) -> bool:
    """Say whether `user` needs no right to the file of its own.

    So it is with a file that the master makes or gives to `user`; and with a FIFO or a device
    that is open before a process gives up its rights, which the access log is not.
    """
    if os.path.islink(file):
        return False
    try:
        found = os.stat(file)
    except OSError:
        return True
    if stat.S_ISREG(found.st_mode):
        return found.st_nlink == 1
    return key == "log.file"


def _judge_for_user(file: str, name: str, *, given: bool) -> str:
    """Say what keeps the account of this process from reopening a log; empty if nothing does."""
    real = Path(os.path.realpath(file))
    for folder in (*reversed(real.parents), *reversed(Path(file).parents)):
        if not _may(folder, os.X_OK):
            return (
                f"user {name} may not enter the folder {folder}, so that workers could not open "
                f"{file}; allow it (chmod o+x, or chgrp and chmod g+x), or choose another folder"
            )
    if given:
        return ""
    if real.exists():
        return "" if _may(real, os.W_OK) else f"user {name} may not write to {real}; chown it"
    if _may(real.parent, os.W_OK):
        return ""
    return f"user {name} may not make {real}, which {file} is a link to; make it, and chown it"


def _may(path: str | Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
