"""Rates over many processes: the bound holds, keys keep apart, nothing is lost by a death."""

import mmap
import os
import struct
import time
from collections.abc import Callable
from functools import partial

import pytest

from spooky.policy.rate.leaky_bucket import LeakyBucket
from spooky.policy.rate.sliding_window import SlidingWindow
from spooky.policy.rate.token_bucket import TokenBucket
from spooky.policy.rate.verdict import SECOND_NS
from spooky.shm.rates import LANES, RateColumn, RateTable, private_table
from spooky.worker.meters import BUCKET, WINDOW, BucketMeter, Meter, WindowMeter
from spooky.worker.rate_rows import MOST_KNOWN, RECHECK_NS, WAYS, Rows

SECRET = bytes(32)
PROCESSES = 4
SPAN_S = 0.6
START = 50 * SECOND_NS

Make = Callable[[RateTable, int], Meter]


def shared_table(rows: int, processes: int, most: int = 0) -> RateTable:
    memory = mmap.mmap(-1, 8 * RateTable.cells_needed(rows, max(processes, most)))
    table = RateTable(memoryview(memory).cast("Q"), rows)
    table.open(processes - 1)
    return table


def token(interval: int, capacity: int) -> Make:
    return lambda table, process: BucketMeter(
        TokenBucket(interval, capacity), Rows(table, process, SECRET, "token", BUCKET)
    )


def leaky(interval: int, burst: int) -> Make:
    return lambda table, process: BucketMeter(
        LeakyBucket(interval, burst, burst), Rows(table, process, SECRET, "leaky", BUCKET)
    )


def window(limit: int, length: int) -> Make:
    return lambda table, process: WindowMeter(
        SlidingWindow(limit, length), Rows(table, process, SECRET, "window", WINDOW)
    )


def take(meter: Meter, key: bytes, now: int) -> bool:
    reading = meter.judge(key, now)
    if reading.verdict.admitted:
        meter.charge(reading)
    return reading.verdict.admitted


def taken(meter: Meter, key: bytes, now: int, tries: int) -> int:
    return sum(take(meter, key, now) for _ in range(tries))


# --- what one process sees -----------------------------------------------------------------

SAME_FIVE = [token(SECOND_NS, 5), leaky(SECOND_NS, 4), window(5, SECOND_NS)]


@pytest.mark.parametrize("make", SAME_FIVE)
def test_keys_are_counted_apart(make: Make) -> None:
    meter = make(private_table(1024), 0)
    for number in range(100):
        assert taken(meter, b"key %d" % number, START, 20) == 5


@pytest.mark.parametrize("make", SAME_FIVE)
def test_limits_are_counted_apart(make: Make) -> None:
    table = private_table(1024)
    assert taken(make(table, 0), b"key", START, 20) == 5
    if isinstance(make(table, 0), WindowMeter):
        other = Rows(table, 0, SECRET, "other", WINDOW)
        assert taken(WindowMeter(SlidingWindow(3, SECOND_NS), other), b"key", START, 20) == 3
    else:
        other = Rows(table, 0, SECRET, "other", BUCKET)
        assert taken(BucketMeter(TokenBucket(1, 3), other), b"key", START, 20) == 3


@pytest.mark.parametrize("make", SAME_FIVE)
def test_what_was_used_comes_back_with_time(make: Make) -> None:
    meter = make(private_table(64), 0)
    assert taken(meter, b"key", START, 20) == 5
    wait = meter.judge(b"key", START).verdict.wait_ns
    assert not take(meter, b"key", START + wait - 1)
    assert take(meter, b"key", START + wait)
    assert taken(meter, b"key", START + 60 * SECOND_NS, 20) == 5


@pytest.mark.parametrize("make", SAME_FIVE)
def test_the_quota_counts_the_request_itself(make: Make) -> None:
    meter = make(private_table(64), 0)
    for left in (4, 3, 2, 1, 0):
        reading = meter.judge(b"key", START)
        assert meter.quota(reading).remaining == left
        meter.charge(reading)


@pytest.mark.parametrize("make", SAME_FIVE)
def test_a_row_that_nobody_needs_is_free_for_others(make: Make) -> None:
    meter = make(private_table(WAYS), 0)
    for round_ in range(20):
        now = START + 100 * round_ * SECOND_NS
        for number in range(WAYS):
            assert taken(meter, b"%d/%d" % (round_, number), now, 20) == 5


@pytest.mark.parametrize("make", [token(SECOND_NS, 5), leaky(SECOND_NS, 4)])
def test_a_flood_of_keys_resets_no_bucket(make: Make) -> None:
    meter = make(private_table(WAYS), 0)
    passed = sum(taken(meter, b"%d" % number, START, 5) for number in range(1000))
    assert passed == 5 * WAYS
    assert take(meter, b"late", START + 2 * SECOND_NS)


def test_a_flood_of_keys_takes_no_memory() -> None:
    meter = BucketMeter(
        TokenBucket(1, 1), rows := Rows(private_table(WAYS), 0, SECRET, "x", BUCKET)
    )
    for number in range(20_000):
        taken(meter, b"%d" % number, START, 2)
    assert len(rows._known) <= MOST_KNOWN


# --- what several see ------------------------------------------------------------------------


@pytest.mark.parametrize("make", SAME_FIVE)
@pytest.mark.parametrize("processes", [(0, 1), (0, LANES), (3, 40), (9, 255)])
def test_what_one_process_uses_counts_for_the_other(make: Make, processes: tuple[int, int]) -> None:
    table = shared_table(256, max(processes) + 1)
    meters = [make(table, process) for process in processes]
    passed = [take(meters[number % 2], b"key", START) for number in range(20)]
    assert passed == [True] * 5 + [False] * 15


@pytest.mark.parametrize("make", SAME_FIVE)
def test_the_next_process_of_a_slot_gives_no_fresh_burst(make: Make) -> None:
    table = shared_table(256, 4)
    assert taken(make(table, 2), b"key", START, 3) == 3
    assert taken(make(table, 2), b"key", START, 20) == 2
    assert taken(make(table, 3), b"key", START, 20) == 0


@pytest.mark.parametrize("make", SAME_FIVE)
def test_what_is_remembered_of_many_lanes_is_what_they_have(make: Make) -> None:
    table = shared_table(256, 256)
    meters = [make(table, process) for process in (0, 7, 8, 16, 60, 130, 255)]
    for round_ in range(6):
        now = START + 60 * round_ * SECOND_NS
        passed = [take(meters[(3 * number + round_) % 7], b"key", now) for number in range(12)]
        assert passed == [True] * 5 + [False] * 7


def test_more_processes_than_at_first_are_seen() -> None:
    table = shared_table(256, 9, most=100)
    first = token(SECOND_NS, 5)(table, 0)
    assert take(first, b"key", START)
    table.open(99)
    assert taken(token(SECOND_NS, 5)(table, 99), b"key", START, 3) == 3
    assert taken(first, b"key", START, 3) == 1


def test_a_key_that_got_two_rows_comes_to_use_one() -> None:
    table = shared_table(WAYS, 2)
    one, two = (token(SECOND_NS, 5)(table, process) for process in range(2))
    assert taken(one, b"key", START, 5) == 5
    row = next(row for row in range(WAYS) if max(table.read(row)[RateColumn.CLAIM]))
    tag = max(table.read(row)[RateColumn.CLAIM]) & 0xFFFFFFFF
    # As if the other had met the key at the same moment and taken another row for it.
    other = (row + 1) % WAYS
    table.lane(1).set(other, RateColumn.CLAIM, 1 << 32 | tag)
    table.lane(1).set(other, RateColumn.FIRST, START + 9 * SECOND_NS)
    later = START + RECHECK_NS
    assert one.judge(b"key", later).row == two.judge(b"key", later).row == min(row, other)


@pytest.fixture(params=[1, 20])
def burst(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_many_processes_keep_the_bound(burst: int) -> None:
    interval = SECOND_NS // 2000
    make = token(interval, burst)
    passed, asked = _race(shared_table(256, PROCESSES), make, interval)
    for first in range(0, len(passed), 37):
        for last in range(first, len(passed), 31):
            most = burst + (passed[last] - passed[first]) / interval + PROCESSES - 1
            assert last - first + 1 <= most
    # Where nobody asks, as no process runs, a burst of 1 goes unused.
    assert len(passed) >= 0.45 * len(asked)


def test_many_processes_keep_the_bound_of_a_window() -> None:
    length, limit = SECOND_NS // 20, 100
    passed, asked = _race(shared_table(256, PROCESSES), window(limit, length), length // limit)
    counts = [0] * (max(passed) // length - min(passed) // length + 1)
    for now in passed:
        counts[now // length - min(passed) // length] += 1
    assert max(counts) <= limit + PROCESSES - 1
    assert len(passed) >= 0.45 * len(asked)


def _race(table: RateTable, make: Make, span: int) -> tuple[list[int], set[int]]:
    """Let processes ask for one key as fast as they can.

    Return when requests passed, and the spans of time in which any process asked.
    """
    start = time.monotonic_ns() + SECOND_NS // 10
    pipes = [_start(start, span, partial(make, table, place)) for place in range(PROCESSES)]
    passed: list[int] = []
    asked: set[int] = set()
    for reader, child in pipes:
        with os.fdopen(reader, "rb") as stream:
            for when, has_passed in struct.iter_unpack("=Q?", stream.read()):
                asked.add(when // span)
                passed += [when] * has_passed
        assert os.waitpid(child, 0)[1] == 0
    return sorted(passed), asked


def _start(start: int, span: int, make: Callable[[], Meter]) -> tuple[int, int]:
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return reader, child
    found = bytearray()
    meter = make()
    last = 0
    while (now := time.monotonic_ns()) < start + SPAN_S * SECOND_NS:
        if now >= start:
            has_passed = take(meter, b"key", now)
            if has_passed or now // span != last:
                found += struct.pack("=Q?", now, has_passed)
            last = now // span
    with os.fdopen(writer, "wb") as stream:
        stream.write(found)
    os._exit(0)
