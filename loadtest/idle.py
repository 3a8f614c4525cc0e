"""Holds idle connections open, in a process of its own, so that their memory can be weighed.

`python -m loadtest.idle PORT COUNT` opens the connections, makes one request on each, writes
`ready` and then only keeps them alive until its standard input is closed.
"""

import select
import sys
import time

from loadtest.session import Session
from loadtest.workloads import WORKLOADS

AT_A_TIME = 8
"""Handshakes under way at once: a peer must not drop connections for a flood of them."""
TIMEOUT_S = 30.0
PATIENCE_S = 3.0
"""For one connection: Hypercorn loses some that come at once, and they may take very long."""


class IdleConnections:
    """Connections to one port that have each been served once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._sessions: dict[int, Session] = {}
        self._served: set[int] = set()

    def open(self, count: int) -> None:
        """Open them and see each answered; TimeoutError when that takes too long."""
        deadline = time.monotonic() + TIMEOUT_S
        while len(self._served) < count:
            pending = len(self._sessions) - len(self._served)
            for _ in range(min(AT_A_TIME - pending, count - len(self._sessions))):
                session = Session(self._port, WORKLOADS["get1k"], time.monotonic())
                self._sessions[session.fileno()] = session
                self._epoll.register(session.fileno(), select.EPOLLIN)
            self._tend(0.1)
            self._give_up_slow()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._served)} of {count} connections were served")

    def hold(self) -> None:
        """Keep them alive until standard input is closed."""
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        while not self._tend(1.0):
            pass

    def close(self) -> None:
        """End every connection."""
        for session in self._sessions.values():
            session.close(time.monotonic())

    def _tend(self, timeout_s: float) -> bool:
        """Serve what is ready; True when standard input was closed."""
        ready = self._epoll.poll(timeout_s)
        now = time.monotonic()
        for fd, _ in ready:
            if fd == sys.stdin.fileno():
                return True
            self._step(fd, now)
        for session in self._sessions.values():
            if session.deadline <= now:
                session.expire(now)
                session.flush(now)
        return False

    def _give_up_slow(self) -> None:
        """Close what waits in vain, for another to be opened in its place."""
        now = time.monotonic()
        for fd in self._sessions.keys() - self._served:
            if now - self._sessions[fd].began > PATIENCE_S:
                self._epoll.unregister(fd)
                self._sessions.pop(fd).close(now)

    def _step(self, fd: int, now: float) -> None:
        session = self._sessions[fd]
        if session.receive(now):
            self._served.add(fd)
        elif session.ready and not session.open and fd not in self._served:
            session.request(now)
        session.flush(now)
        if session.closed:
            sys.exit(f"an idle connection ended: {session.closed}")


def main() -> None:
    """Open, say so, and hold."""
    connections = IdleConnections(int(sys.argv[1]))
    connections.open(int(sys.argv[2]))
    print("ready", flush=True)
    connections.hold()
    connections.close()


if __name__ == "__main__":
    main()
