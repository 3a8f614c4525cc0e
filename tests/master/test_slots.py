"""The tables of the master's state machines, walked whole."""

import itertools

import pytest

from spooky.master.slots import (
    GENERATION_TRANSITIONS,
    SLOT_TRANSITIONS,
    Fleet,
    Generation,
    GenerationEvent,
    GenerationState,
    IllegalTransitionError,
    Slot,
    SlotEvent,
    SlotState,
)


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


def test_banks_alternate_and_a_roll_excludes_another() -> None:
    fleet = Fleet(3)
    assert [slot.number for slot in fleet.bank(1)] == [3, 4, 5]
    assert fleet.keeper.number == 6
    assert fleet.begin_roll(1.0).bank == 0
    with pytest.raises(IllegalTransitionError, match="still rolling"):
        fleet.begin_roll(1.0)
    fleet.generations[1].on(GenerationEvent.PROMOTE)
    fleet.active, fleet.rolling = 1, None
    assert fleet.begin_roll(1.0).bank == 1
