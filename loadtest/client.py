"""The load generator: a closed loop of one workload against one port, in a process of its own.

`python -m loadtest.client PORT` keeps `connections` x `streams` requests in flight. It writes
three lines: `begin` when the warm-up is over, `end` when the time is up, and then what it counted
in between as JSON. The bench reads the proxy's CPU time at the first two, so that nothing that the
client does before or after is counted. Every answer is checked: status 200 and its length.
"""

import argparse
import gc
import json
import select
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from loadtest.measure import LoadResult
from loadtest.session import NEVER, Exchange, Session
from loadtest.workloads import WORKLOADS, Workload

HANDSHAKE_TIMEOUT_S = 10.0
STUCK_AFTER_S = 5.0
"""A request still open at the end that is older than this was lost."""
TOO_MANY_ERRORS = 1000


@dataclass(slots=True)
class Tally:
    """What happened since it was made."""

    requests: int = 0
    octets: int = 0
    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def result(self, elapsed_s: float, client_cpu_s: float) -> LoadResult:
        """The counts, with the time that they took."""
        ordered = sorted(self.latencies_s)
        return LoadResult(
            requests=self.requests,
            octets=self.octets,
            elapsed_s=elapsed_s,
            client_cpu_s=client_cpu_s,
            p50_ms=percentile(ordered, 0.50) * 1000,
            p99_ms=percentile(ordered, 0.99) * 1000,
            errors=dict(self.errors),
        )


def percentile(ordered: list[float], share: float) -> float:
    """The value that `share` of `ordered` (ascending) do not exceed; 0 when there is none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Load:
    """Keeps the workload's requests in flight over its sessions."""

    def __init__(self, port: int, workload: Workload) -> None:
        self.tally = Tally()
        self._port = port
        self._workload = workload
        self._epoll = select.epoll()
        self._sessions: dict[int, Session] = {}
        for _ in range(workload.connections):
            self._connect(time.monotonic())

    def run(self, seconds: float) -> None:
        """Serve the sessions for so long. Stops early when errors rule out a useful result."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and self.tally.errors.total() < TOO_MANY_ERRORS:
            due = min((s.deadline for s in self._sessions.values()), default=NEVER)
            ready = self._epoll.poll(max(0.0, min(due, end) - now))
            now = time.monotonic()
            for fd, _ in ready:
                session = self._sessions[fd]
                self._continue(session, session.receive(now), now)
            if due <= now:
                for session in [s for s in self._sessions.values() if s.deadline <= now]:
                    self._continue(session, session.expire(now), now)

    def close(self) -> None:
        """End every connection; a request that is overdue by now counts as an error."""
        now = time.monotonic()
        for session in self._sessions.values():
            lost = [e for e in session.open.values() if now - e.began > STUCK_AFTER_S]
            if lost:
                self.tally.errors["no answer"] += len(lost)
            session.close(now)

    def _connect(self, now: float) -> None:
        session = Session(self._port, self._workload, now)
        self._sessions[session.fileno()] = session
        self._epoll.register(session.fileno(), select.EPOLLIN)

    def _drop(self, session: Session, now: float) -> None:
        del self._sessions[session.fileno()]
        self._epoll.unregister(session.fileno())
        session.close(now)

    def _continue(self, session: Session, done: list[Exchange], now: float) -> None:
        for exchange in done:
            self._count(session, exchange, now)
        if not session.ready and now - session.began > HANDSHAKE_TIMEOUT_S:
            session.closed = session.closed or "handshake timed out"
        if session.closed:
            self.tally.errors[session.closed] += max(1, len(session.open))
        if session.closed or (self._workload.fresh and done):
            self._drop(session, now)
            self._connect(now)
            return
        if session.ready:
            for _ in range(self._workload.streams - len(session.open)):
                session.request(now)
        session.flush(now)

    def _count(self, session: Session, exchange: Exchange, now: float) -> None:
        if exchange.reset:
            self.tally.errors["stream reset"] += 1
        elif exchange.status != 200:
            self.tally.errors[f"status {exchange.status}"] += 1
        elif exchange.octets != self._workload.reply_bytes:
            self.tally.errors[f"length {exchange.octets}"] += 1
        else:
            self.tally.requests += 1
            self.tally.octets += exchange.octets
            began = session.began if self._workload.fresh else exchange.began
            self.tally.latencies_s.append(now - began)


def main() -> None:
    """Run one load and print its three lines."""
    parser = argparse.ArgumentParser(description="Closed-loop HTTP/3 load on 127.0.0.1.")
    parser.add_argument("port", type=int)
    parser.add_argument("--workload", choices=WORKLOADS, default="get1k")
    parser.add_argument("--connections", type=int)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    workload = WORKLOADS[options.workload].shaped(options.connections, options.streams)
    load = Load(options.port, workload)
    gc.freeze()
    load.run(options.warmup)
    load.tally = Tally(errors=load.tally.errors)
    began, cpu = time.monotonic(), time.process_time()
    print("begin", flush=True)
    load.run(options.seconds)
    elapsed, cpu = time.monotonic() - began, time.process_time() - cpu
    print("end", flush=True)
    load.close()
    print(json.dumps(asdict(load.tally.result(elapsed, cpu))), flush=True)


if __name__ == "__main__":
    main()
