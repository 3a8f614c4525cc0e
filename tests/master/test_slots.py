"""The tables of the master's state machines, walked whole."""

import itertools

import pytest

from spooky.config.tables import MOST_WORKERS
from spooky.master.slots import (
    DRAIN_MARGIN_S,
    GENERATION_TRANSITIONS,
    MOST_GENERATIONS,
    SLOT_TRANSITIONS,
    Fleet,
    Generation,
    GenerationEvent,
    GenerationState,
    IllegalTransitionError,
    Slot,
    SlotEvent,
    SlotState,
    Stop,
)
from spooky.shm.processes import KEEPER_ROWS, SLOT_LIMIT


@pytest.mark.parametrize(("state", "event"), [*itertools.product(SlotState, SlotEvent)])
def test_slot_goes_where_the_table_says_or_refuses(state: SlotState, event: SlotEvent) -> None:
    slot = Slot(3, state=state, deadline=1.0)
    if (state, event) in SLOT_TRANSITIONS:
        slot.on(event, deadline=7.0)
        assert (slot.state, slot.deadline) == (SLOT_TRANSITIONS[state, event], 7.0)
    else:
        with pytest.raises(IllegalTransitionError, match="slot 3"):
            slot.on(event)
        assert (slot.state, slot.deadline) == (state, 1.0)


@pytest.mark.parametrize(("state", "event"), [*itertools.product(GenerationState, GenerationEvent)])
def test_generation_goes_where_the_table_says_or_refuses(
    state: GenerationState, event: GenerationEvent
) -> None:
    generation = Generation(5, 0, 1.0, state=state)
    if (state, event) in GENERATION_TRANSITIONS:
        generation.on(event)
        assert generation.state is GENERATION_TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransitionError, match="generation 5"):
            generation.on(event)


def test_every_state_with_a_process_can_lose_it() -> None:
    for state in set(SlotState) - {SlotState.EMPTY, SlotState.BACKOFF}:
        assert (state, SlotEvent.EXIT) in SLOT_TRANSITIONS


@pytest.mark.parametrize("state", [SlotState.READY, SlotState.DRAINING])
def test_a_process_that_hangs_can_be_killed(state: SlotState) -> None:
    assert SLOT_TRANSITIONS[state, SlotEvent.KILL] is SlotState.KILLED


# --- where generations live --------------------------------------------------------------------


def place(fleet: Fleet, workers: int) -> int | None:
    """Give a generation room as the plan does; say where."""
    first = fleet.find_room(workers)
    if first is not None:
        fleet.last_generation += 1
        number = fleet.last_generation
        fleet.generations[number] = Generation(number, workers, 1.0, first=first)
    return first


def test_a_fleet_begins_empty_beside_its_keeper() -> None:
    fleet = Fleet()
    assert fleet.slots == {}
    assert fleet.every_slot() == [fleet.keeper]
    assert fleet.keeper.number == KEEPER_ROWS[0] == SLOT_LIMIT
    assert fleet.slot(KEEPER_ROWS[0]) is fleet.keeper
    with pytest.raises(KeyError):
        fleet.slot(0)


def test_a_roll_excludes_another_and_has_no_slots_yet() -> None:
    fleet = Fleet()
    generation = fleet.begin_roll(3, 1.0, 10.0)
    assert (generation.number, generation.workers, generation.patience) == (1, 3, 10.0)
    assert (generation.first, list(generation.slots)) == (None, [])
    assert fleet.slots_of(generation) == []
    with pytest.raises(IllegalTransitionError, match="still rolling"):
        fleet.begin_roll(1, 1.0)


def test_room_is_found_at_the_first_fit() -> None:
    fleet = Fleet()
    assert [place(fleet, workers) for workers in (4, 2, 3)] == [0, 4, 6]
    del fleet.generations[2]
    # Slots 4 and 5 are free, then all from 9 on.
    assert [place(fleet, workers) for workers in (3, 1, 1, 1)] == [9, 4, 5, 12]
    del fleet.generations[1]
    assert place(fleet, 4) == 0


@pytest.mark.parametrize(
    ("taken", "workers", "first"),
    [
        ((range(4),), 2, 4),
        ((range(2, 4),), 2, 0),
        ((range(2, 4),), 3, 4),
        ((range(2, 4), range(4, 8)), 3, 8),
        ((range(10, 256), range(3)), 7, 3),
        ((range(10, 256), range(3)), 8, None),
        ((range(256),), 1, None),
        ((range(0),), 1, 0),
    ],
)
def test_slots_of_another_master_are_left_alone(
    taken: tuple[range, ...], workers: int, first: int | None
) -> None:
    assert Fleet(taken=taken).find_room(workers) == first


def test_the_last_slot_may_be_used_and_no_more() -> None:
    fleet = Fleet()
    assert place(fleet, SLOT_LIMIT // 2) == 0
    assert place(fleet, SLOT_LIMIT // 2) == SLOT_LIMIT // 2
    assert place(fleet, 1) is None
    del fleet.generations[2]
    assert fleet.find_room(SLOT_LIMIT // 2 + 1) is None
    assert fleet.find_room(SLOT_LIMIT // 2) == SLOT_LIMIT // 2


def test_there_are_only_so_many_generations() -> None:
    fleet = Fleet()
    assert [place(fleet, 1) for _ in range(MOST_GENERATIONS)] == [*range(MOST_GENERATIONS)]
    assert fleet.find_room(1) is None
    # One that waits for room itself takes none away.
    del fleet.generations[3]
    fleet.begin_roll(1, 1.0)
    assert fleet.find_room(1) == 2


# --- heartbeats --------------------------------------------------------------------------------


def ready_slot(patience: float) -> tuple[Fleet, Slot]:
    """A fleet with one worker that became ready at 100 s."""
    fleet = Fleet()
    slot = fleet.slots[0] = Slot(0, home=1, state=SlotState.STARTING, patience=patience)
    assert fleet.became_ready(0, 100.0)
    return fleet, slot


def test_who_is_not_heard_for_too_long_hangs() -> None:
    fleet, slot = ready_slot(10.0)
    assert slot.hangs_at() == 110.0
    assert not slot.is_hung(109.9)
    assert slot.is_hung(110.0)
    fleet.heard(0, 7, 105.0, slept=False)
    assert slot.hangs_at() == 115.0
    fleet.heard(0, 7, 114.0, slept=False)
    assert slot.is_hung(115.0), "the same beat again is none"
    fleet.heard(0, 8, 115.0, slept=False)
    assert not slot.is_hung(124.9)


def test_after_a_sleep_of_the_master_everybody_gets_another_chance() -> None:
    fleet, slot = ready_slot(10.0)
    fleet.heard(0, 0, 500.0, slept=True)
    assert slot.hangs_at() == 510.0


def test_without_patience_nobody_hangs() -> None:
    _, slot = ready_slot(0.0)
    assert slot.hangs_at() is None
    assert not slot.is_hung(1e9)


@pytest.mark.parametrize("state", SlotState)
def test_only_a_process_that_has_to_come_round_can_hang(state: SlotState) -> None:
    slot = Slot(0, state=state, patience=10.0)
    assert slot.is_hung(11.0) is (state in (SlotState.READY, SlotState.DRAINING))


# --- the end -----------------------------------------------------------------------------------


def test_a_stop_waits_for_the_drain_of_who_serves() -> None:
    fleet = Fleet()
    fleet.generations[1] = Generation(1, 1, 20.0, state=GenerationState.ACTIVE, first=0)
    fleet.active = 1
    fleet.request_stop(5.0)
    assert (fleet.stop, fleet.stop_deadline) == (Stop.GRACEFUL, 5.0 + 20.0 + DRAIN_MARGIN_S)
    fleet.request_stop(6.0)
    assert (fleet.stop, fleet.stop_deadline) == (Stop.NOW, 5.0 + 20.0 + DRAIN_MARGIN_S)


def test_any_configured_count_of_workers_has_room_for_a_reload() -> None:
    assert 2 * MOST_WORKERS <= SLOT_LIMIT
