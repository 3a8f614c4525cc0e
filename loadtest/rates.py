"""`make bench`, its second table: what a rate limit's decision costs, by how many processes count.

A decision is a look at what all of them used and, as it admits, one more that is used. Three kinds
of keys: one that no other process meets meanwhile, as that of a client; one that every other has
used since the last look, which is the worst; and one that is new. The smallest of several rounds of
CPU time counts: what others do on the machine only adds to it.
"""

import sys
import time
from collections.abc import Callable, Sequence
from itertools import count

from spooky.config.rate_limits import LEAKY_BUCKET, SLIDING_WINDOW, TOKEN_BUCKET, Rate, RateLimit
from spooky.shm.rates import RateColumn
from spooky.shm.segment import SharedMemory
from spooky.worker.meters import Meter
from spooky.worker.rate_limits import Tables, make_meter

SLOTS = (2, 8, 32, 256)
GOALS_US = (("of one process", 15.0), ("used by all", 80.0), ("new", 120.0))
ROUNDS = 15
DECISIONS = 400
ROWS = 16_384
KEY = b"key"


def main() -> int:
    """Print the table; the exit code is 0 whatever it says."""
    print("a rate limit's decision: CPU us, by how many slots there are and whose the key is")
    print(f"{'':33}" + "".join(f"{slots:>8}" for slots in SLOTS))
    missed = []
    for algorithm in (TOKEN_BUCKET, LEAKY_BUCKET, SLIDING_WINDOW):
        costs = [measure(algorithm, slots) for slots in SLOTS]
        for place, (name, goal) in enumerate(GOALS_US):
            figures = [one[place] for one in costs]
            print(f"{algorithm:16} {name:16}" + "".join(f"{us:>8.1f}" for us in figures))
            missed += _missed(f"{algorithm} {name}", goal, figures)
    goals = ", ".join(f"{goal:g} us {name}" for name, goal in GOALS_US)
    print(f"the goal, {goals} at any number: " + ("; ".join(missed) or "met by all"))
    return 0


def _missed(name: str, goal: float, costs: Sequence[float]) -> list[str]:
    found = zip(SLOTS, costs, strict=True)
    return [f"MISSED by {name} at {slots}" for slots, us in found if us > goal]


def measure(algorithm: str, slots: int) -> tuple[float, float, float]:
    """Return what a decision on each kind of key costs in us."""
    memory = SharedMemory.create(16, ROWS)
    memory.expect(slots - 1)
    burst = None if algorithm == SLIDING_WINDOW else 100_000
    limit = RateLimit("x", Rate(1_000_000, "s"), "all", algorithm, burst, None)
    meters = [make_meter(limit, Tables(memory, slot, b"secret", {})) for slot in range(slots)]
    for meter in meters:
        decide(meter, KEY)
    first = meters[0]
    disturb = _disturber(memory, algorithm, slots, first)

    def used_by_all() -> None:
        disturb()
        decide(first, KEY)

    numbers = count()
    alone = _cost(lambda: decide(first, KEY))
    together = _cost(used_by_all) - _cost(disturb)
    return alone, together, _cost(lambda: decide(first, b"%d" % next(numbers)))


def decide(meter: Meter, key: bytes) -> None:
    """Let a request pass, or not."""
    reading = meter.judge(key, time.monotonic_ns())
    if reading.verdict.admitted:
        meter.charge(reading)


def _disturber(
    memory: SharedMemory, algorithm: str, slots: int, meter: Meter
) -> Callable[[], None]:
    """Make what changes a lane in each block of others, as if the processes had used the key."""
    table = memory.windows if algorithm == SLIDING_WINDOW else memory.buckets
    row = meter.judge(KEY, time.monotonic_ns()).row
    lanes = [table.lane(slot) for slot in (8, 16, 32, 64, 128) if slot < slots]
    columns = (int(RateColumn.SECOND), int(RateColumn.FIRST))

    def disturb() -> None:
        for lane in lanes:
            for column in columns:
                lane.set(row, column, lane.get(row, column) ^ 1)

    return disturb


def _cost(work: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(DECISIONS):
            work()
        best = min(best, time.process_time() - began)
    return best / DECISIONS * 1e6


if __name__ == "__main__":
    sys.exit(main())
