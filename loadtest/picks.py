"""`make bench`, its first table: what it costs to pick a backend, by algorithm and their number.

A pick is what a request makes of it: the pick itself, and for those that look at the load, that
the request begins and that an earlier one ends, in shared memory as in a worker. Weights differ,
keys are new each time, and there are twice as many requests in flight as backends. The smallest of
several rounds of CPU time counts: what others do on the machine only adds to it.
"""

import random
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from spooky.policy.balance import TYPES, Balancer, is_fed, make_balancer
from spooky.shm.segment import SharedMemory
from spooky.worker.load import Load

SIZES = (10, 100, 1000)
GOALS_US = {10: 5.0, 1000: 20.0}
ROUNDS = 15
PICKS = 1000
BOUND = 125


@dataclass(frozen=True)
class Settings:
    """A row of the table."""

    type: str
    bound: int | None = None

    def __str__(self) -> str:
        return f"{self.type}, bound {self.bound}" if self.bound else self.type


def main() -> int:
    """Print the table; the exit code is 0 whatever it says."""
    print("picking a backend: CPU us a request, at so many backends (and ms to lay them out)")
    print(f"{'':26}" + "".join(f"{size:>16}" for size in SIZES))
    missed = []
    for bound in (None, BOUND):
        for name in TYPES:
            settings = Settings(name, bound)
            cells = [measure(settings, size) for size in SIZES]
            figures = "".join(f"{us:>8.1f} ({ms:>4.0f})" for us, ms in cells)
            print(f"{settings!s:26}{figures}", flush=True)
            missed += _missed(settings, [us for us, _ in cells])
    goals = ", ".join(f"{goal:g} us at {size:,}" for size, goal in GOALS_US.items())
    print(f"the goal, {goals} without a bound: " + ("; ".join(missed) or "met by all"))
    return 0


def _missed(settings: Settings, costs: Sequence[float]) -> list[str]:
    return [
        f"MISSED by {settings} at {size}"
        for size, us in zip(SIZES, costs, strict=True)
        if settings.bound is None and us > GOALS_US.get(size, us)
    ]


def measure(settings: Settings, size: int) -> tuple[float, float]:
    """Return what a request costs in us, and making the balancer in ms."""
    rng = random.Random(size)
    names = [f"http://10.0.{place // 250}.{place % 250}:8080" for place in range(size)]
    memory = SharedMemory.create(max(16, size))
    rows = memory.backends.assign(names)
    memory.traffic.begin(0)
    load = Load(size, is_timed=settings.type == "ewma")
    load.attach(memory.traffic, 0, [rows[name] for name in names])
    began = time.process_time()
    weights = [50 + place % 5 * 25 for place in range(size)]
    balancer = make_balancer(settings, names, weights, load, rng.random)
    made = time.process_time() - began
    load.notice = balancer.notice
    fed = load if is_fed(settings) else None
    under_way: deque[int] = deque()
    keys = [rng.getrandbits(64) for _ in range(max(PICKS, 2 * size))]
    _requests(balancer, fed, keys[: 2 * size], under_way, 2 * size)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        _requests(balancer, fed, keys[:PICKS], under_way, 2 * size)
        best = min(best, time.process_time() - began)
    return best / PICKS * 1e6, made * 1e3


def _requests(
    balancer: Balancer, load: Load | None, keys: Sequence[int], under_way: deque[int], most: int
) -> None:
    for key in keys:
        place = balancer.pick(key)
        if load is not None and place is not None:
            load.took(place)
            under_way.append(place)
            if len(under_way) > most:
                load.gave(under_way.popleft())


if __name__ == "__main__":
    sys.exit(main())
