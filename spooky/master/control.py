"""The unix socket by which an operator changes what runs; the keeper answers on it.

Bound once, by the master, and left to a master that takes over. Its folder and its mode say who
may write: the account that the master was started by, and no other. A socket file that nobody
listens on is what a crash leaves behind, and is replaced.
"""

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from spooky.errors import StartupError

MODE: Final = 0o600
_BACKLOG: Final = 16
_LONGEST: Final = 100
"""Octets of a path that fit into a sockaddr_un, with room for the name of a draft."""


class ControlSocket:
    """A listening unix socket, and the file that leads to it."""

    def __init__(self, path: Path, listening: socket.socket) -> None:
        self.path = path
        self.socket = listening

    @classmethod
    def bind(cls, path: Path) -> "ControlSocket":
        """Make the file and listen on it. StartupError where that cannot be."""
        if len(os.fsencode(path)) > _LONGEST:
            raise StartupError(
                f"control: the path of a unix socket has at most {_LONGEST} octets, {path} has more"
            )
        if path.exists() and not path.is_socket():
            raise StartupError(
                f"control: {path} is there and is no socket: remove it, or set another path"
            )
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            draft.unlink(missing_ok=True)
            listening.bind(str(draft))
            draft.chmod(MODE)
            listening.listen(_BACKLOG)
            # Atomic: whoever connects meets a socket that listens.
            draft.replace(path)
        except OSError as error:
            listening.close()
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise StartupError(
                f"cannot make the control socket {path}: {error.strerror}; make the folder "
                "writable, or set `control` to another path or to off"
            ) from error
        return cls(path, listening)

    def remove(self) -> None:
        """Remove the file: the instance ends."""
        self.socket.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
