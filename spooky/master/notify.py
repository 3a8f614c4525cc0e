"""Telling systemd how the service is, as sd_notify(3) does, when NOTIFY_SOCKET is set.

Owns the messages and the watchdog's pace; never decides when to send one. Never raises and never
blocks: a service manager that does not listen is no reason to fail. The rule that is not obvious:
its variables are taken out of the environment once, so that no child speaks for the master; to a
successor they are given by `environment`.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

US_PER_S = 1_000_000


class Notifier:
    """The way to the service manager; silent when there is none."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environ` (the process's own).

        A leading `@` of NOTIFY_SOCKET is the abstract namespace (unix(7)).
        """
        variables = os.environ if environ is None else environ
        self._given = variables.pop("NOTIFY_SOCKET", "")
        self._ping_at = 0.0
        self._watchdog_us = _watchdog(variables) if self._given else 0

    def environment(self) -> dict[str, str]:
        """Give the variables by which a successor finds the service manager and its watchdog."""
        if not self._given:
            return {}
        # Without WATCHDOG_PID, which nobody knows yet: then it is for whoever gets it.
        watchdog = {"WATCHDOG_USEC": str(self._watchdog_us)} if self._watchdog_us else {}
        return {"NOTIFY_SOCKET": self._given, **watchdog}

    def watchdog_interval(self) -> float | None:
        """Return the seconds after which to `ping` again; None when nobody watches.

        It is half of the time after which the service manager takes the service for dead, as
        sd_watchdog_enabled(3) recommends.
        """
        return self._watchdog_us / 2 / US_PER_S if self._watchdog_us else None

    def ping_if_due(self, now: float) -> None:
        """Say that the loop still turns, where somebody watches and has not heard for a while."""
        interval = self.watchdog_interval()
        if interval is not None and now >= self._ping_at:
            self._ping_at = now + interval / 2
            self.ping()

    def ping(self) -> None:
        """Say that the loop still turns."""
        self._send("WATCHDOG=1")

    def ready(self, text: str) -> None:
        """Say that the service is up, or that a reload has ended."""
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={text}")

    def successor(self, pid: int) -> None:
        """Say that another process is the main one from now on."""
        self._send(f"MAINPID={pid}")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` must follow, whatever came of it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", "STATUS=reloading")

    def stopping(self) -> None:
        """Say that the service is shutting down."""
        self._send("STOPPING=1", "STATUS=stopping")

    def extend(self, seconds: float) -> None:
        """Ask for `seconds` from now before a start, a reload or a stop is taken for stuck.

        It only ever makes the wait longer: the unit's own TimeoutStopSec= holds where it is later.
        """
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * US_PER_S)}")

    def _send(self, *fields: str) -> None:
        if not self._given:
            return
        address = "\0" + self._given[1:] if self._given.startswith("@") else self._given
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.setblocking(False)
            channel.sendto("\n".join(fields).encode(), address)


def _watchdog(variables: MutableMapping[str, str]) -> int:
    """Return the watchdog's patience in microseconds; 0 when it does not watch this process."""
    patience, pid = variables.pop("WATCHDOG_USEC", ""), variables.pop("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return 0
    return int(patience) if patience.isascii() and patience.isdigit() else 0
