"""Locust users that speak HTTP/3, on the bench's own client.

`locust -f loadtest/locustfile.py --headless -u 20 -r 5 -t 30s -H https://127.0.0.1:9889`. A user
is one connection with one request at a time. Locust's gevent makes `select` wait for this user
alone. After a GOAWAY the user opens another connection (RFC 9114 section 5.2), and asks again what
was rejected unprocessed. Loopback only: the port is taken from the host, certificates are not
checked.
"""

import select
import time
from urllib.parse import urlsplit

from locust import User, constant, events, task
from locust.exception import StopUser

from loadtest.session import NEVER, Exchange, Session
from loadtest.workloads import WORKLOADS, Workload

TIMEOUT_S = 10.0
TRIES = 2


class Http3Client:
    """Makes the requests of one user and tells Locust of each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sessions: dict[str, Session] = {}

    def ask(self, workload: Workload) -> bool:
        """Make the workload's request and wait for its end; whether the answer was right."""
        began = time.monotonic()
        exchange: Exchange | None = None
        reason = ""
        for _ in range(TRIES):
            session = self._session(workload)
            exchange = self._exchange(session, began + TIMEOUT_S)
            reason = _objection(workload, session, exchange)
            if exchange is None or not exchange.rejected:
                break
        if reason or workload.fresh:
            self._drop(workload)
        events.request.fire(
            request_type=workload.method,
            name=workload.what,
            response_time=(time.monotonic() - began) * 1000,
            response_length=exchange.octets if exchange else 0,
            exception=ConnectionError(reason) if reason else None,
            context={},
        )
        return not reason

    def close(self) -> None:
        """End all connections."""
        for session in self._sessions.values():
            session.close(time.monotonic())
        self._sessions.clear()

    def _session(self, workload: Workload) -> Session:
        session = self._sessions.get(workload.name)
        if session is not None:
            # What came while the user was idle: a GOAWAY, or the end.
            session.receive(time.monotonic())
            if session.closed or session.leaving:
                self._drop(workload)
        if workload.name not in self._sessions:
            now = time.monotonic()
            self._sessions[workload.name] = Session(self._port, workload, now)
        return self._sessions[workload.name]

    def _drop(self, workload: Workload) -> None:
        if (session := self._sessions.pop(workload.name, None)) is not None:
            session.close(time.monotonic())

    def _exchange(self, session: Session, end: float) -> Exchange | None:
        """Ask, and serve the connection until the answer is there; None when none came."""
        done: list[Exchange] = []
        asked = False
        while not done and not session.closed and (now := time.monotonic()) < end:
            if session.ready and not asked:
                session.request(now)
                session.flush(now)
                asked = True
            due = min(session.deadline, end)
            select.select([session], [], [], max(0.0, due - now) if due < NEVER else None)
            now = time.monotonic()
            done = session.receive(now)
            if session.deadline <= now:
                done += session.expire(now)
            session.flush(now)
        return done[0] if done else None


def _objection(workload: Workload, session: Session, exchange: Exchange | None) -> str:
    """Say what is wrong with an answer; nothing when it is as it should be."""
    if exchange is None:
        return session.closed or f"no answer within {TIMEOUT_S:g} s"
    if exchange.reset:
        return "stream reset"
    if exchange.status != 200:
        return f"status {exchange.status}"
    if exchange.octets != workload.reply_bytes:
        return f"length {exchange.octets} instead of {workload.reply_bytes}"
    return ""


class Http3User(User):
    """To be subclassed: `self.client.ask(workload)` in tasks."""

    abstract = True
    client: Http3Client

    def on_start(self) -> None:
        """Take the port from Locust's --host."""
        url = urlsplit(self.host or "")
        if url.hostname not in {"127.0.0.1", "localhost"} or url.port is None:
            print("locustfile: give --host https://127.0.0.1:PORT, it sends to loopback only")
            raise StopUser
        self.client = Http3Client(url.port)

    def on_stop(self) -> None:
        """Say goodbye."""
        if hasattr(self, "client"):
            self.client.close()


class Visitor(Http3User):
    """Small pages mostly, an upload now and then, and seldom a new connection or a large file."""

    wait_time = constant(0.05)

    @task(20)
    def get(self) -> None:
        self.client.ask(WORKLOADS["get1k"])

    @task(4)
    def post(self) -> None:
        self.client.ask(WORKLOADS["post64k"])

    @task(2)
    def arrive(self) -> None:
        self.client.ask(WORKLOADS["connect"])

    @task(1)
    def download(self) -> None:
        self.client.ask(WORKLOADS["get1m"])
