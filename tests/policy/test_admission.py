"""Who goes in, who waits and who is refused, under any sequence of what can happen."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.policy.admission import Admission, Door, Entry, Settled, Shedding, retry_after
from spooky.policy.concurrency import Answer
from spooky.policy.gate import Gate
from spooky.policy.waiting import Waiter

WAIT_S = 5.0


class Fixed:
    """A moving limit that is moved by hand."""

    def __init__(self, limit: int) -> None:
        self.value = limit
        self.seen: list[tuple[Answer, int]] = []

    def limit(self, _now: float) -> int:
        return self.value

    def observe(self, answer: Answer, in_flight: int, _now: float) -> None:
        self.seen.append((answer, in_flight))


def door(most: int = 0, queue: int = 0, shedding: Shedding | None = None) -> Door[int]:
    return Door(Gate("api", most, queue), WAIT_S, shedding)


def open_to_all() -> Admission[int]:
    return Admission(Gate("the instance"))


def waiter_of(entry: Entry[int]) -> Waiter[int]:
    assert entry.waiter is not None
    return entry.waiter


def test_one_goes_in_one_waits_one_is_refused() -> None:
    admission, api = open_to_all(), door(1, 1)
    assert admission.enter(api, 3, 1, 0.0) == Entry()
    assert waiter_of(admission.enter(api, 3, 2, 0.0)).holder == 2
    refused = admission.enter(api, 3, 3, 0.0)
    assert refused.reason == "api has 1 in flight, 1 waiting"
    assert [one.waiter.holder for one in admission.leave(api, 1.0)] == [2]
    assert not admission.is_waiting


def test_whoever_waits_for_too_long_is_refused() -> None:
    admission, api = open_to_all(), door(1, 3)
    admission.enter(api, 3, 1, 0.0)
    admission.enter(api, 3, 2, 0.0)
    admission.enter(api, 0, 3, 1.0)
    assert admission.settle(WAIT_S - 0.01) == []
    (late,) = admission.settle(WAIT_S)
    assert late.waiter.holder == 2
    assert late.reason is not None
    assert late.reason.startswith("no slot within 5 s")
    assert admission.whole.waiting == api.gate.waiting == 1


def test_the_important_take_the_place_of_the_others() -> None:
    admission, api = open_to_all(), door(1, 2)
    admission.enter(api, 3, 1, 0.0)
    admission.enter(api, 6, 2, 0.0)
    admission.enter(api, 6, 3, 0.0)
    assert admission.enter(api, 6, 4, 0.0).reason is not None
    entry = admission.enter(api, 2, 5, 0.0)
    assert entry.displaced is not None
    assert entry.displaced.waiter.holder == 3
    assert [one.waiter.holder for one in admission.leave(api, 0.0)] == [5]
    assert [one.waiter.holder for one in admission.leave(api, 0.0)] == [2]


@pytest.mark.parametrize(
    ("usage", "shed"),
    [
        (0.0, []),
        (0.5, [7]),
        (0.6, [6, 7]),
        (0.8, [3, 4, 5, 6, 7]),
        (0.9, [2, 3, 4, 5, 6, 7]),
        (1.0, [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_the_least_important_are_shed_first(usage: float, shed: list[int]) -> None:
    policy = Shedding(0.5)
    expected = [level for level in range(8) if policy.sheds(level, usage)]
    assert expected == shed


def test_shedding_looks_at_places_inside_and_in_the_queue() -> None:
    admission, api = open_to_all(), door(2, 2, shedding=Shedding(0.5))
    assert admission.enter(api, 7, 1, 0.0) == Entry()
    assert admission.enter(api, 7, 2, 0.0) == Entry()
    assert admission.enter(api, 7, 3, 0.0).reason == "class 7 is shed, as api is 50% full"
    assert admission.enter(api, 3, 4, 0.0).waiter
    assert admission.enter(api, 0, 5, 0.0).waiter


def test_a_slow_upstream_takes_no_slots_of_the_instance_while_it_waits() -> None:
    admission = Admission[int](Gate("the instance", 3, 10))
    slow, quick = door(1, 10), door(0, 0)
    admission.enter(slow, 3, 1, 0.0)
    for holder in range(2, 8):
        assert admission.enter(slow, 3, holder, 0.0).waiter
    assert admission.enter(quick, 3, 8, 0.0) == Entry()
    assert admission.enter(quick, 3, 9, 0.0) == Entry()
    assert admission.enter(quick, 3, 10, 0.0).waiter
    assert [one.waiter.holder for one in admission.leave(quick, 0.0)] == [10]


def test_a_backend_that_gets_room_lets_one_in() -> None:
    room = [False]
    admission = open_to_all()
    api: Door[int] = Door(Gate("api", queue=1), WAIT_S, has_backend=lambda: room[0])
    waiter_of(admission.enter(api, 3, 1, 0.0))
    room[0] = True
    # Nobody passes who comes later, though there is room by now.
    assert admission.enter(api, 3, 2, 0.0).reason is not None
    assert [one.waiter.holder for one in admission.settle(0.0)] == [1]


def test_who_chooses_a_backend_later_is_waited_for() -> None:
    room = [False]
    admission = open_to_all()
    api: Door[int] = Door(Gate("api", queue=2), WAIT_S, has_backend=lambda: room[0])
    for holder in (1, 2):
        waiter_of(admission.enter(api, 3, holder, 0.0))
    room[0] = True
    assert [one.waiter.holder for one in admission.settle(0.0)] == [1]
    assert admission.settle(0.0) == []
    api.is_choosing = False
    assert [one.waiter.holder for one in admission.settle(0.0)] == [2]


def test_the_moving_limit_counts_and_learns() -> None:
    limiter = Fixed(2)
    admission = open_to_all()
    api: Door[int] = Door(Gate("api", 5, 9, limiter), WAIT_S)
    for holder in range(4):
        admission.enter(api, 3, holder, 0.0)
    assert (api.gate.in_flight, api.gate.waiting) == (2, 2)
    limiter.value = 1
    answer = Answer(0.5, 0.5, failed=False)
    assert admission.leave(api, 1.0, answer) == []
    limiter.value = 3
    assert len(admission.settle(1.0)) == 2
    assert limiter.seen == [(answer, 2)]


@pytest.mark.parametrize("least", [1, 5, 60])
def test_who_is_refused_comes_again_at_another_time_than_the_others(least: int) -> None:
    waits = {retry_after(least, step / 1000) for step in range(1000)}
    assert waits == set(range(least, 2 * least + 1))


@dataclass
class Model:
    """What must be true, kept the simple way: lists that are searched."""

    admission: Admission[int]
    doors: list[Door[int]]
    inside: list[int] = field(default_factory=list)
    """The door of each slot that is taken."""
    waiting: list[tuple[int, int, int, float]] = field(default_factory=list)
    """Class, number, door and arrival of whoever waits."""
    waiters: dict[int, Waiter[int]] = field(default_factory=dict)
    count: int = 0

    def has_room(self, at: int) -> bool:
        gates = ((self.doors[at].gate, self.inside.count(at)),)
        return all(
            not gate.most or taken < gate.most
            for gate, taken in (*gates, (self.admission.whole, len(self.inside)))
        )

    def enter(self, at: int, level: int, now: float) -> None:
        self.count += 1
        gate = self.doors[at].gate
        is_full = 0 < gate.most <= gate.in_flight and gate.waiting >= gate.queue
        entry = self.admission.enter(self.doors[at], level, self.count, now)
        if entry.reason is not None:
            assert not self.has_room(at)
        elif entry.waiter is None:
            assert self.has_room(at)
            self.inside.append(at)
        else:
            assert not self.has_room(at)
            if entry.displaced is not None:
                out = self.remove(entry.displaced)
                assert out[0] > level
                rivals = [one for one in self.waiting if one[2] == at or not is_full]
                assert out == max([*rivals, out])
            self.waiting.append((level, self.count, at, now))
            self.waiters[self.count] = entry.waiter

    def remove(self, settled: Settled[int]) -> tuple[int, int, int, float]:
        (found,) = [one for one in self.waiting if one[1] == settled.waiter.holder]
        self.waiting.remove(found)
        return found

    def take(self, settled: list[Settled[int]], now: float) -> None:
        for one in settled:
            who = self.remove(one)
            if one.reason is not None:
                assert now >= who[3] + WAIT_S
                continue
            assert now < who[3] + WAIT_S
            assert self.has_room(who[2])
            # Nobody more important, and nobody of the class who came before, could have gone.
            assert not [w for w in self.waiting if w[:2] < who[:2] and self.has_room(w[2])]
            self.inside.append(who[2])

    def check(self) -> None:
        whole = self.admission.whole
        assert whole.in_flight == len(self.inside)
        assert whole.waiting == len(self.waiting)
        assert not whole.most or whole.in_flight <= whole.most
        for at, one in enumerate(self.doors):
            assert one.gate.in_flight == self.inside.count(at)
            assert one.gate.waiting == len(one.line) == sum(w[2] == at for w in self.waiting)
            assert not one.gate.most or one.gate.in_flight <= one.gate.most
        assert not [one for one in self.waiting if self.has_room(one[2])]


LIMIT = st.integers(0, 4)
QUEUE = st.integers(0, 5)
STEP = st.tuples(
    st.sampled_from(["enter", "enter", "enter", "leave", "cancel", "settle"]),
    st.integers(0, 2),
    st.integers(0, 7),
    st.sampled_from([0.0, 0.0, 0.1, 1.0, 6.0]),
)


@settings(max_examples=300)
@given(LIMIT, QUEUE, st.lists(st.tuples(LIMIT, QUEUE), min_size=3, max_size=3), st.lists(STEP))
def test_limits_order_and_count_hold_whatever_happens(
    most: int,
    queue: int,
    limits: list[tuple[int, int]],
    steps: list[tuple[str, int, int, float]],
) -> None:
    admission = Admission[int](Gate("the instance", most, queue))
    model = Model(admission, [door(*limit) for limit in limits])
    now = 0.0
    for what, at, level, pause in steps:
        now += pause
        model.take(admission.settle(now), now)
        assert all(now < one[3] + WAIT_S for one in model.waiting)
        if what == "enter":
            model.enter(at, level, now)
        elif what == "leave" and at in model.inside:
            model.inside.remove(at)
            model.take(admission.leave(model.doors[at], now), now)
        elif what == "cancel" and model.waiting:
            gone = model.waiting.pop(level % len(model.waiting))
            admission.cancel(model.waiters[gone[1]])
        model.check()
    while model.inside:
        at = model.inside.pop()
        model.take(admission.leave(model.doors[at], now), now)
    model.check()
    assert not model.waiting
    assert not admission.is_waiting
