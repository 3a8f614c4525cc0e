"""Children of masters that are dead: they finish what is open, and hold their addresses till then.

Only looks, for the sake of a message; it ends no process. The rule that is not obvious: an orphan
is known by a parent that is no master, whoever that is, for beside process 1 any ancestor may
take orphans in (PR_SET_CHILD_SUBREAPER).
"""

from typing import Final

import psutil

from spooky.master.pidfile import FORMER_TITLE, TITLE

CHILD_TITLES: Final = ("spooky: worker", "spooky: keeper")


def find_orphans(port: int) -> list[int]:
    """List the processes of dead masters that hold a port, or may, for all that can be seen."""
    return [
        process.pid
        for process in psutil.process_iter()
        if _title(process).startswith(CHILD_TITLES)
        and _is_orphan(process)
        and _holds(process, port)
    ]


def describe_orphans(pids: list[int]) -> str:
    """Word what is to be done about them; empty where there are none."""
    if not pids:
        return ""
    numbers = " ".join(str(pid) for pid in pids)
    return (
        f"workers of a dead master still finish their requests (pids {numbers}): wait until they "
        f"are done, at most for their drain_timeout, or end them with `kill {numbers}`"
    )


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_orphan(process: psutil.Process) -> bool:
    try:
        parent = process.parent()
    except psutil.Error:
        return False
    return parent is None or not _title(parent).startswith((TITLE, FORMER_TITLE))


def _holds(process: psutil.Process, port: int) -> bool:
    try:
        return any(one.laddr and one.laddr.port == port for one in process.net_connections())
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
