"""Telling systemd how the service is, as sd_notify(3) does, when NOTIFY_SOCKET is set.

Never raises and never blocks: a service manager that does not listen is no reason to fail. The
variable is taken out of the environment once, so that no child speaks for the master.
"""

import contextlib
import os
import socket
import time


class Notifier:
    """The way to the service manager; silent when there is none."""

    def __init__(self, address: str | None = None) -> None:
        """Use `address`, or what NOTIFY_SOCKET says; a leading `@` is the abstract namespace."""
        address = address or os.environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, text: str) -> None:
        """Say that the service is up, or that a reload has ended."""
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={text}")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` must follow, whatever came of it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", "STATUS=reloading")

    def stopping(self) -> None:
        """Say that the service is shutting down."""
        self._send("STOPPING=1", "STATUS=stopping")

    def successor(self, pid: int) -> None:
        """Say that another process is the main one from now on."""
        self._send(f"MAINPID={pid}")

    def environment(self) -> dict[str, str]:
        """Give the variables by which a successor finds the service manager."""
        if not self._address:
            return {}
        return {"NOTIFY_SOCKET": self._address.replace("\0", "@", 1)}

    def _send(self, *fields: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.setblocking(False)
            channel.sendto("\n".join(fields).encode(), self._address)
