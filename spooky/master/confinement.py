"""What a process of Spooky gives up for good, over and above a user without rights.

Owns the settings of the kernel that keep a process which was taken over by a stranger from gaining
rights, and the memory of one that crashed, with its keys, from being written to a disk. Never
changes who a process is: that is `config.account`. Both are inherited by every program started.
"""

import ctypes
import os
import resource

from spooky.errors import StartupError

PR_SET_NO_NEW_PRIVS = 38
"""linux/prctl.h"""
_NO_CORE = 1
"""Too short for a core file. With 0 the kernel would still start the program that a `core_pattern`
names after `|`; 1 is what it takes for `not even that` (fs/coredump.c)."""

_libc = ctypes.CDLL(None, use_errno=True)


def renounce_privileges() -> None:
    """Never gain a right by starting a program, setuid or with capabilities; StartupError."""
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise StartupError(f"the kernel refuses no_new_privs: prctl: {reason}")


def forbid_core_dumps() -> None:
    """Leave no memory behind after a crash; root, or the owner, may allow it again (prlimit)."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    allowed = _NO_CORE if hard == resource.RLIM_INFINITY else min(_NO_CORE, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (allowed, hard))
