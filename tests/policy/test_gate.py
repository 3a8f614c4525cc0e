"""A limit over several workers: its bound, and everybody's part."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.policy.gate import Gate


@dataclass
class Board:
    """What all workers have published."""

    cells: dict[int, tuple[int, bool]] = field(default_factory=dict)


@dataclass
class Place:
    """One worker's view of it; `stale`: it looked before and others have moved since."""

    board: Board
    number: int
    stale: tuple[int, int] | None = None

    def elsewhere(self) -> tuple[int, int]:
        if self.stale is not None:
            return self.stale
        others = [cell for number, cell in self.board.cells.items() if number != self.number]
        return sum(one[0] for one in others), sum(one[1] for one in others)

    def publish(self, in_flight: int, waiting: int, claims: bool) -> None:
        self.board.cells[self.number] = (in_flight, claims)


def workers(count: int, most: int) -> list[tuple[Gate, Place]]:
    board = Board()
    places = [Place(board, number) for number in range(count)]
    return [(Gate("api", most, 100, shared=place), place) for place in places]


@given(st.integers(1, 12), st.integers(1, 6), st.lists(st.integers(0, 5)))
def test_one_at_a_time_the_limit_is_kept_exactly(
    most: int, count: int, arrivals: list[int]
) -> None:
    gates = [gate for gate, _ in workers(count, most)]
    for number in arrivals:
        if gates[number % count].has_room(0.0):
            gates[number % count].take()
    assert sum(gate.in_flight for gate in gates) == min(most, len(arrivals))


@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 40))
def test_all_at_the_same_moment_they_exceed_it_by_one_each_but_one(
    most: int, count: int, before: int
) -> None:
    crowd = workers(count, most)
    for step in range(before):
        gate = crowd[step % count][0]
        if gate.has_room(0.0):
            gate.take()
    for _, place in crowd:
        place.stale = place.elsewhere()
    looked = [gate.has_room(0.0) for gate, _ in crowd]
    for (gate, place), may in zip(crowd, looked, strict=True):
        place.stale = None
        if may:
            gate.take()
    assert sum(gate.in_flight for gate, _ in crowd) <= most + count - 1


@settings(max_examples=200)
@given(
    st.integers(1, 12),
    st.lists(st.integers(0, 12), min_size=2, max_size=5),
    st.lists(st.integers(0, 40), max_size=80),
)
def test_everybody_gets_a_part_and_no_slot_stays_empty(
    most: int, demand: list[int], turns: list[int]
) -> None:
    """All that wait ask over and over; the quickest of them asks most often."""
    gates = [gate for gate, _ in workers(len(demand), most)]
    for gate, wanted in zip(gates, demand, strict=True):
        gate.waiting = wanted

    def ask(gate: Gate) -> None:
        while gate.waiting and gate.has_room(0.0):
            gate.waiting -= 1
            gate.take()
        gate.publish()

    for gate in gates:
        ask(gate)
    for turn in turns:
        gate = gates[turn % len(gates)]
        if gate.in_flight:
            gate.give(None, 0.0)
            gate.waiting += 1
        ask(gate)
        for other in gates:
            ask(other)
        total = sum(one.in_flight for one in gates)
        assert total == min(most, sum(demand)), "a slot stays empty while somebody waits"


def test_who_has_more_than_its_part_yields_to_who_waits() -> None:
    (quick, _), (slow, _) = workers(2, 4)
    for _ in range(4):
        assert quick.has_room(0.0)
        quick.take()
    quick.waiting = slow.waiting = 9
    assert not slow.has_room(0.0)
    slow.publish()
    for _ in range(2):
        quick.give(None, 0.0)
        assert not quick.has_room(0.0)
        quick.publish()
        assert slow.has_room(0.0)
        slow.take()
        assert slow.has_room(0.0) is False
        slow.publish()
    quick.give(None, 0.0)
    assert quick.has_room(0.0)


def test_without_a_limit_there_is_room() -> None:
    gate = Gate("api")
    assert gate.has_room(0.0)
    assert gate.usage(0.0) == 0.0


@pytest.mark.parametrize(("taken", "waiting", "usage"), [(1, 0, 0.1), (4, 1, 0.5), (4, 6, 1.0)])
def test_usage(taken: int, waiting: int, usage: float) -> None:
    gate = Gate("api", 4, 6)
    gate.in_flight, gate.waiting = taken, waiting
    assert gate.usage(0.0) == usage
