"""The client's side of the control socket: one command, one answer."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spooky.errors import StartupError

TIMEOUT_S: Final = 70.0
"""A change waits for a reload or an upgrade that is under way."""
_READ_BYTES: Final = 65_536

ACTIONS: Final = {
    "enable": "give it requests again",
    "drain": "let it finish what it has and give it nothing new, its sessions aside",
    "disable": "give it nothing at all",
    "weight": "set its weight: 0 to 1000, or `default` for that of the configuration",
    "add": "add it to its upstream: the value is its address, --weight its weight",
    "remove": "remove it from its upstream, once it has finished what it has",
    "health": "take it to be `up` or `down` whatever is found; `auto`: as it is found",
}
"""What may be done with a backend."""
WITH_VALUE: Final = frozenset(("weight", "health", "add"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the instance says to a command."""

    ok: bool
    text: str


def ask(path: Path, action: str, backend: str, value: str, weight: str = "") -> Answer:
    """Send a command to the instance behind a control socket. StartupError when it is not there."""
    fields = {"action": action, "backend": backend, "value": value, "weight": weight}
    command = json.dumps(fields).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(command)
            line = connection.makefile("rb").readline(_READ_BYTES)
    except PermissionError:
        raise StartupError(
            f"no permission to use {path}: be root, or the user that started Spooky"
        ) from None
    except OSError as error:
        raise StartupError(
            f"nobody answers at the control socket {path} ({error.strerror or error}): is Spooky "
            "running, with this path as its `control`?"
        ) from error
    if not line:
        raise StartupError(
            f"{path} was closed before an answer came: `spooky status` shows what is so now"
        )
    try:
        given = json.loads(line)
        return Answer(bool(given["ok"]), str(given["text"]))
    except (ValueError, KeyError, TypeError):
        raise StartupError(f"the answer at {path} is none of Spooky's") from None
