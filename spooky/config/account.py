"""Who workers and keeper become, and what such an account may do.

Owns the look-up of `user` and `group`, the change to them, and the way to ask a question with
their rights. The rule that is not obvious: only the kernel knows what an account may do (access
lists, mounts, parents of a folder), and the asking process must not change itself, for a change
of user cannot be undone without traces; so the question is put in a child that ends with it.
"""

import grp
import os
import pwd
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from spooky.config.model import Config
from spooky.errors import StartupError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a child becomes."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def find_credentials(config: Config) -> Credentials | None:
    """Look up `user` and `group`; None when children stay who the master is. StartupError."""
    if os.geteuid() != 0:
        return None
    if config.user is None and config.group is None:
        return None
    try:
        group = grp.getgrnam(config.group).gr_gid if config.group else None
    except KeyError:
        raise StartupError(f"group: there is no group {config.group!r} on this machine") from None
    if config.user is None:
        gid = os.getgid() if group is None else group
        return Credentials(os.getuid(), gid, (gid,))
    try:
        entry = pwd.getpwnam(config.user)
    except KeyError:
        raise StartupError(f"user: there is no user {config.user!r} on this machine") from None
    gid = entry.pw_gid if group is None else group
    return Credentials(entry.pw_uid, gid, tuple(os.getgrouplist(config.user, gid)))


def own_name() -> str:
    """Return the account's name; its number where it has none, as in many containers."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def drop_rights(credentials: Credentials) -> None:
    """Become somebody else for good; OSError. Nothing of the old rights can be taken back."""
    os.setgroups(credentials.groups)
    os.setresgid(credentials.gid, credentials.gid, credentials.gid)
    os.setresuid(credentials.uid, credentials.uid, credentials.uid)


def ask_as(credentials: Credentials, question: Callable[[], str]) -> str:
    """Return the answer to a question that is put with somebody else's rights.

    Empty when there is none: the rights could not be changed, which the start itself reports.
    OSError when the system has no room for a process.
    """
    reader, writer = os.pipe()
    # A signal must not reach the handlers that the child inherits.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _answer(credentials, question, writer)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer.decode()


def _answer(credentials: Credentials, question: Callable[[], str], writer: int) -> NoReturn:
    try:
        drop_rights(credentials)
        with open(writer, "wb") as pipe:
            pipe.write(question().encode())
    finally:
        os._exit(0)
