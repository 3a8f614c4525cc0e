"""What it costs a worker to count one exchange in shared memory.

`python -m loadtest.counting` prints the CPU time of one call of `BackendTraffic.record`, the best
of several rounds, with rows and outcomes such as a worker has.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import time

from spooky.config.limits import Limits
from spooky.config.model import Backend, Timeouts
from spooky.errors import Kind
from spooky.shm.segment import SharedMemory
from spooky.worker.connect import Endpoint
from spooky.worker.observe import Outcome
from spooky.worker.pool import Pool
from spooky.worker.traffic import BackendTraffic

ANSWERED = Outcome(
    request_id=b"00ff00ff",
    client="192.0.2.9",
    method=b"POST",
    authority=b"api.example.com",
    path=b"/things?a=b",
    status=201,
    bytes_received=1000,
    bytes_sent=20,
    duration=0.0123,
    upstream="api",
    backend="b0",
    identity=Backend("b0", "127.0.0.1", 8000).identity,
    answer_time=0.005,
    backend_duration=0.0101,
    retries=0,
    error=None,
    detail="",
)
FAILED = dataclasses.replace(ANSWERED, status=504, error=Kind.RESPONSE_TIMEOUT)
BACKENDS = 20
CALLS = 200_000


def measure(outcome: Outcome, rounds: int) -> float:
    """Return the microseconds of CPU time of one call."""
    backends = [Backend(f"b{number}", "127.0.0.1", 8000 + number) for number in range(BACKENDS)]
    memory = SharedMemory.create(256)
    rows = memory.backends.assign([backend.identity for backend in backends])
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        pools = [
            ("api", backend, Pool(Endpoint(backend), Limits(), Timeouts(), loop))
            for backend in backends
        ]
        traffic = BackendTraffic(memory.traffic, 0, rows, pools)
        return min(_round(traffic, outcome) for _ in range(rounds))


def _round(traffic: BackendTraffic, outcome: Outcome) -> float:
    start = time.process_time()
    for _ in range(CALLS):
        traffic.record(outcome)
    return (time.process_time() - start) / CALLS * 1e6


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for name, outcome in (("answered", ANSWERED), ("failed", FAILED)):
        print(f"{name}: {measure(outcome, rounds):.2f} us")


if __name__ == "__main__":
    main()
