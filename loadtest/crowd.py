"""A crowd of clients: the load of scenarios and of growth, in a process of its own.

`python -m loadtest.crowd PORT WORKLOAD` (the workload as JSON) opens its connections a few at a
time, then keeps `--in-flight` requests under way, each on the connection that has waited longest.
It speaks in lines of JSON: each second a `Beat`, with `--quiet` only `begin`, `end` and the one
beat of all between. Unlike the client of the bench it keeps to RFC 9114 section 5.2: after a GOAWAY
it asks elsewhere, and what was rejected unprocessed is asked again. Whatever else has no
whole answer is lost.
"""

import argparse
import gc
import json
import resource
import select
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field

from loadtest.client import STUCK_AFTER_S, percentile
from loadtest.session import Exchange, Session
from loadtest.workloads import Workload

HANDSHAKES = 16
"""Under way at once, at most."""
HANDSHAKE_TIMEOUT_S = 10.0
OPEN_TIMEOUT_S = 240.0
TIMERS_S = 0.005
"""Between two looks at the timers of all sessions."""
BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Beat:
    """What a crowd saw since its last beat."""

    at: float
    """When it ended, by the monotonic clock, which all processes share."""
    seconds: float
    requests: int
    """Answered with status 200 and the right length."""
    repeated: int
    connections: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    longest_ms: float
    lost: dict[str, int]
    """By what became of them instead."""


@dataclass(slots=True)
class _Count:
    """What is counted for the next beat."""

    since: float
    requests: int = 0
    repeated: int = 0
    latencies_s: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def beat(self, at: float, connections: int) -> Beat:
        """Sum up."""
        ordered = sorted(self.latencies_s)
        shares = (0.5, 0.9, 0.99, 1.0)
        p50, p90, p99, longest = (percentile(ordered, share) * 1000 for share in shares)
        return Beat(
            at, at - self.since, self.requests, self.repeated, connections,
            p50, p90, p99, longest, dict(self.lost),
        )  # fmt: skip


class Crowd:
    """Connections to one port, and the requests under way on them."""

    def __init__(self, port: int, workload: Workload, in_flight: int) -> None:
        self.count = _Count(time.monotonic())
        self._port = port
        self._workload = workload
        self._limit = in_flight
        self._epoll = select.epoll()
        self._sessions: dict[int, Session] = {}
        self._turns: deque[Session] = deque()
        """A place for each request that a session may have under way and has not."""
        self._ready: set[Session] = set()
        """Their handshake is done."""
        self._under_way = 0
        self._handshakes = 0
        self._wants = workload.connections
        self._look_at_timers = 0.0

    def open(self) -> None:
        """Open all connections; TimeoutError when that takes too long."""
        end = time.monotonic() + OPEN_TIMEOUT_S
        while len(self._sessions) < self._wants or self._handshakes:
            self.step(asking=False)
            if time.monotonic() > end:
                ready = len(self._sessions) - self._handshakes
                raise TimeoutError(f"{ready} of {self._wants} connections are open")

    def run(self, seconds: float) -> None:
        """Ask for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def step(self, *, asking: bool = True) -> None:
        """One turn: connections, answers, timers, requests."""
        now = time.monotonic()
        while self._handshakes < HANDSHAKES and len(self._sessions) < self._wants:
            self._connect(now)
        touched: dict[Session, None] = {}
        for fd, _ in self._epoll.poll(max(0.0, self._look_at_timers - now)):
            session = self._sessions[fd]
            touched[session] = None
            self._digest(session, session.receive(now), now)
        if now >= self._look_at_timers:
            self._look_at_timers = now + (self._workload.pace_s or TIMERS_S)
            self._tend(touched, now)
        if asking:
            self._ask(touched, now)
        for session in touched:
            session.flush(now)
            if self._is_over(session):
                self._drop(session, now)

    def finish(self) -> None:
        """Wait for what is under way, then end every connection; what does not come is lost."""
        end = time.monotonic() + STUCK_AFTER_S
        self._wants = 0
        while self._under_way and time.monotonic() < end:
            self.step(asking=False)
        if self._under_way:
            self.count.lost["no answer"] += self._under_way
        for session in self._sessions.values():
            session.close(time.monotonic())

    def beat(self) -> Beat:
        """What was seen since the last call."""
        now = time.monotonic()
        done = self.count.beat(now, len(self._sessions))
        self.count = _Count(now)
        return done

    def _connect(self, now: float) -> None:
        session = Session(self._port, self._workload, now)
        self._handshakes += 1
        self._sessions[session.fileno()] = session
        # A slow client does not hear of what arrives, it looks when its time has come.
        if not self._workload.pace_s:
            self._epoll.register(session.fileno(), select.EPOLLIN)

    def _tend(self, touched: dict[Session, None], now: float) -> None:
        for session in self._sessions.values():
            if self._workload.pace_s:
                touched[session] = None
                self._digest(session, session.receive(now), now)
                session.dribble()
            if session.deadline <= now:
                touched[session] = None
                self._digest(session, session.expire(now), now)
            if session not in self._ready and now - session.began > HANDSHAKE_TIMEOUT_S:
                touched[session] = None
                session.closed = session.closed or "handshake timed out"

    def _digest(self, session: Session, done: list[Exchange], now: float) -> None:
        if session.ready and session not in self._ready:
            self._ready.add(session)
            self._handshakes -= 1
            self._turns.extend([session] * self._workload.streams)
        for exchange in done:
            self._under_way -= 1
            self._note(session, exchange, now)
            if not self._workload.fresh:
                self._turns.append(session)

    def _ask(self, touched: dict[Session, None], now: float) -> None:
        while self._under_way < self._limit and self._turns:
            session = self._turns.popleft()
            if session.closed or session.leaving:
                continue
            session.request(now)
            self._under_way += 1
            touched[session] = None

    def _is_over(self, session: Session) -> bool:
        if session.closed:
            return True
        is_used = self._workload.fresh and session in self._ready and session not in self._turns
        return (session.leaving or is_used) and not session.open

    def _drop(self, session: Session, now: float) -> None:
        del self._sessions[session.fileno()]
        if not self._workload.pace_s:
            self._epoll.unregister(session.fileno())
        if session not in self._ready:
            self._handshakes -= 1
            self.count.lost[session.closed] += 1
        self._ready.discard(session)
        if session.open:
            self._under_way -= len(session.open)
            self.count.lost[session.closed] += len(session.open)
        session.close(now)

    def _note(self, session: Session, exchange: Exchange, now: float) -> None:
        if exchange.rejected:
            self.count.repeated += 1
        elif exchange.reset:
            self.count.lost["stream reset"] += 1
        elif exchange.status != 200:
            self.count.lost[f"status {exchange.status}"] += 1
        elif exchange.octets != self._workload.reply_bytes:
            self.count.lost[f"length {exchange.octets}"] += 1
        else:
            self.count.requests += 1
            began = session.began if self._workload.fresh else exchange.began
            self.count.latencies_s.append(now - began)


def main() -> None:
    """Run one crowd and print its beats."""
    parser = argparse.ArgumentParser(description="A crowd of HTTP/3 clients of 127.0.0.1.")
    parser.add_argument("port", type=int)
    parser.add_argument("workload", help="JSON of a loadtest.workloads.Workload")
    parser.add_argument("--in-flight", type=int, help="of all connections together")
    parser.add_argument("--after", type=float, default=0.0, help="seconds to wait first")
    parser.add_argument("--warmup", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--quiet", action="store_true", help="one beat, of all")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    workload = Workload(**json.loads(options.workload))
    time.sleep(options.after)
    everything = workload.connections * workload.streams
    crowd = Crowd(options.port, workload, options.in_flight or everything)
    if not workload.fresh:
        crowd.open()
    gc.freeze()
    crowd.run(options.warmup)
    if options.quiet:
        _measure(crowd, options.seconds)
    else:
        _beat(crowd, options.seconds)


def _measure(crowd: Crowd, seconds: float) -> None:
    before = crowd.beat()
    print("begin", flush=True)
    crowd.run(seconds)
    print("end", flush=True)
    measured = crowd.beat()
    crowd.finish()
    lost = Counter(before.lost) + Counter(measured.lost) + crowd.count.lost
    print(json.dumps(asdict(measured) | {"lost": dict(lost)}), flush=True)


def _beat(crowd: Crowd, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        crowd.run(min(BEAT_S, left))
        print(json.dumps(asdict(crowd.beat())), flush=True)
    crowd.finish()
    print(json.dumps(asdict(crowd.beat())), flush=True)


if __name__ == "__main__":
    main()
