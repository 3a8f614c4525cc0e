"""The master's decisions, case by case; `test_simulation` looks for what nobody thought of."""

import copy

import pytest

from spooky.errors import ExitCode
from spooky.master.plan import (
    LEAVE_TIMEOUT_S,
    START_TIMEOUT_S,
    Abandon,
    Action,
    Clear,
    Drain,
    Exit,
    Fail,
    Kill,
    Load,
    Place,
    Promote,
    Retire,
    Spawn,
    Terminate,
    next_deadline,
    plan,
    record,
)
from spooky.master.slots import (
    DRAIN_MARGIN_S,
    MOST_GENERATIONS,
    STABLE_S,
    Fleet,
    GenerationState,
    SlotState,
    Stop,
)
from spooky.shm.processes import SLOT_LIMIT

DRAIN_S = 30.0
PATIENCE_S = 10.0
KEEPER = 256


def settle(fleet: Fleet, now: float, workers: int = 2, patience: float = 0.0) -> list[Action]:
    """Carry out all that is planned, as the arbiter does, and return what it was.

    A reload finds a configuration with `workers` and `patience`.
    """
    done: list[Action] = []
    for _ in range(20):
        before = copy.deepcopy(fleet)
        actions = plan(fleet, now)
        assert fleet == before, "plan changed the fleet"
        for action in actions:
            if isinstance(action, Load):
                fleet.begin_roll(workers, DRAIN_S, patience)
            record(fleet, action, now)
            done.append(action)
        if not actions or isinstance(actions[-1], Exit):
            return done
    raise AssertionError(f"never settles: {done}")


def booted(workers: int = 2, patience: float = 0.0, taken: tuple[range, ...] = ()) -> Fleet:
    """A fleet whose first generation serves since time 0."""
    fleet = Fleet(taken=taken)
    generation = fleet.begin_roll(workers, DRAIN_S, patience)
    settle(fleet, 0.0)
    for number in (*generation.slots, KEEPER):
        assert fleet.became_ready(number, 0.0)
    assert Promote(1) in settle(fleet, 0.0)
    return fleet


def reload(fleet: Fleet, now: float, workers: int = 2, patience: float = 0.0) -> list[Action]:
    fleet.reload_wanted = True
    return settle(fleet, now, workers, patience)


def reloaded(fleet: Fleet, now: float, workers: int = 2) -> None:
    """Reload to the end: the new workers serve, the old ones drain, the keeper is new."""
    reload(fleet, now, workers)
    assert fleet.rolling is not None
    for number in fleet.generations[fleet.rolling].slots:
        fleet.became_ready(number, now)
    settle(fleet, now)
    fleet.exited(KEEPER, now, 0.5, "left")
    settle(fleet, now)
    fleet.became_ready(KEEPER, now)
    settle(fleet, now)


# --- the first start ---------------------------------------------------------------------------


def test_first_start_spawns_all_and_promotes_when_all_are_ready() -> None:
    fleet = Fleet()
    fleet.begin_roll(2, DRAIN_S)
    assert settle(fleet, 0.0) == [Place(1, 0), Spawn(0, 1), Spawn(1, 1), Spawn(KEEPER, 1)]
    fleet.became_ready(0, 1.0)
    fleet.became_ready(1, 1.0)
    assert settle(fleet, 1.0) == []
    fleet.became_ready(KEEPER, 2.0)
    assert settle(fleet, 2.0) == [Promote(1)]
    assert next_deadline(fleet) is None


@pytest.mark.parametrize("slot", [0, 1, KEEPER])
def test_first_start_fails_when_any_process_dies(slot: int) -> None:
    fleet = Fleet()
    fleet.begin_roll(2, DRAIN_S)
    settle(fleet, 0.0)
    fleet.exited(slot, 1.0, 0.5, "no such key")
    others = [Terminate(number) for number in (0, 1) if number != slot]
    cleared = [Clear(KEEPER)] if slot == KEEPER else []
    assert settle(fleet, 1.0) == [Fail("no such key"), *others, *cleared]
    for number in {0, 1} - {slot}:
        fleet.exited(number, 1.5, 0.5, "told to")
    if slot != KEEPER:
        assert settle(fleet, 1.5) == [Terminate(KEEPER)]
        fleet.exited(KEEPER, 1.6, 0.5, "told to")
    assert settle(fleet, 2.0)[-1] == Exit(ExitCode.BOOT)


def test_first_start_fails_when_a_process_is_not_ready_in_time() -> None:
    fleet = Fleet()
    fleet.begin_roll(1, DRAIN_S)
    settle(fleet, 0.0)
    fleet.became_ready(KEEPER, 0.0)
    assert next_deadline(fleet) == START_TIMEOUT_S
    assert settle(fleet, START_TIMEOUT_S)[:2] == [
        Fail("worker 0 was not ready within 30 s"),
        Terminate(0),
    ]


def test_a_start_beside_another_master_leaves_its_slots_alone() -> None:
    fleet = Fleet(taken=(range(3),), last_generation=6)
    fleet.begin_roll(2, DRAIN_S)
    assert settle(fleet, 0.0) == [Place(7, 3), Spawn(3, 7), Spawn(4, 7), Spawn(KEEPER, 7)]


# --- deaths ------------------------------------------------------------------------------------


def test_a_stable_worker_is_replaced_at_once_and_a_crash_loop_waits() -> None:
    fleet = booted()
    fleet.exited(0, STABLE_S + 1, 0.5, "killed")
    assert settle(fleet, STABLE_S + 1) == [Spawn(0, 1)]
    now = STABLE_S + 1
    waits = []
    for _ in range(9):
        fleet.exited(0, now, 1.0, "exit code 1")
        due = fleet.slots[0].deadline
        assert due is not None
        waits.append(due - now)
        if due > now:
            assert settle(fleet, now) == []
        now = due
        assert settle(fleet, now) == [Spawn(0, 1)]
    assert waits == pytest.approx([0, 0.25, 0.5, 1, 2, 4, 8, 10, 10])
    fleet.became_ready(0, now)
    fleet.exited(0, now + STABLE_S + 1, 1.0, "killed")
    assert settle(fleet, now + STABLE_S + 1) == [Spawn(0, 1)], "a stable run clears the count"


def test_a_replacement_that_is_never_ready_is_killed_and_replaced() -> None:
    fleet = booted()
    fleet.exited(1, 20.0, 0.5, "killed")
    assert settle(fleet, 20.0) == [Spawn(1, 1)]
    assert settle(fleet, 20.0 + START_TIMEOUT_S) == [Kill(1)]
    fleet.exited(1, 51.0, 0.5, "killed")
    assert settle(fleet, 51.0) == [Spawn(1, 1)]


def test_a_draining_worker_that_dies_is_not_replaced() -> None:
    fleet = booted()
    reloaded(fleet, 100.0)
    fleet.exited(0, 101.0, 0.5, "killed")
    assert settle(fleet, 101.0) == []
    fleet.exited(1, 102.0, 0.5, "left")
    assert settle(fleet, 102.0) == [Retire(1)]


# --- hangs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", [0, KEEPER])
def test_a_process_that_hangs_is_killed_and_replaced(slot: int) -> None:
    fleet = booted(patience=PATIENCE_S)
    for number in {0, 1, KEEPER} - {slot}:
        fleet.heard(number, 1, 5.0, slept=False)
    assert next_deadline(fleet) == PATIENCE_S
    assert settle(fleet, PATIENCE_S) == [Kill(slot)]
    assert settle(fleet, PATIENCE_S) == [], "it is killed once"
    fleet.exited(slot, 10.1, 0.5, "killed")
    assert settle(fleet, 10.1) == [Spawn(slot, 1)]
    assert fleet.killed == (slot == 0)


def test_a_sleep_of_the_master_is_forgiven() -> None:
    fleet = booted(patience=PATIENCE_S)
    for number in (0, 1, KEEPER):
        fleet.heard(number, 0, 1000.0, slept=True)
    assert settle(fleet, 1000.0) == []
    assert next_deadline(fleet) == 1000.0 + PATIENCE_S


def test_a_hung_worker_that_is_to_drain_is_killed_instead() -> None:
    fleet = booted(workers=1, patience=PATIENCE_S)
    fleet.heard(0, 1, 92.0, slept=False)
    fleet.heard(KEEPER, 1, 100.0, slept=False)
    reload(fleet, 100.0, workers=1)
    fleet.became_ready(1, 102.0)
    assert settle(fleet, 102.0) == [Promote(2), Kill(0), Drain(KEEPER)]


def test_a_draining_worker_that_hangs_is_killed_before_its_drain_is_over() -> None:
    fleet = booted(workers=1, patience=PATIENCE_S)
    fleet.heard(0, 1, 100.0, slept=False)
    fleet.heard(KEEPER, 1, 100.0, slept=False)
    reload(fleet, 100.0, workers=1)
    fleet.became_ready(1, 100.0)
    assert settle(fleet, 100.0) == [Promote(2), Drain(0), Drain(KEEPER)]
    fleet.exited(KEEPER, 100.0, 0.5, "left")
    settle(fleet, 100.0)
    fleet.became_ready(KEEPER, 100.0)
    assert settle(fleet, 100.0 + PATIENCE_S) == [Kill(0)]
    fleet.exited(0, 110.1, 0.5, "killed")
    assert settle(fleet, 110.1) == [Retire(1)]


def test_a_hung_worker_does_not_hold_up_a_stop() -> None:
    fleet = booted(patience=PATIENCE_S)
    fleet.heard(0, 1, 50.0, slept=False)
    fleet.heard(KEEPER, 1, 50.0, slept=False)
    fleet.request_stop(50.0)
    assert settle(fleet, 50.0) == [Drain(0), Kill(1)]


# --- reload ------------------------------------------------------------------------------------


def test_reload_starts_new_slots_and_drains_the_old_after_they_are_ready() -> None:
    fleet = booted()
    assert reload(fleet, 100.0) == [Load(), Place(2, 2), Spawn(2, 2), Spawn(3, 2)]
    fleet.became_ready(3, 101.0)
    assert settle(fleet, 101.0) == []
    fleet.became_ready(2, 102.0)
    assert settle(fleet, 102.0) == [Promote(2), Drain(0), Drain(1), Drain(KEEPER)]
    fleet.exited(KEEPER, 102.1, 0.5, "left")
    assert settle(fleet, 102.1) == [Spawn(KEEPER, 2)]
    fleet.became_ready(KEEPER, 102.2)
    fleet.exited(0, 103.0, 0.5, "left")
    fleet.exited(1, 104.0, 0.5, "left")
    assert settle(fleet, 104.0) == [Retire(1)]
    assert fleet.active == 2
    assert sorted(fleet.slots) == [2, 3]
    assert next_deadline(fleet) is None
    assert reload(fleet, 105.0) == [Load(), Place(3, 0), Spawn(0, 3), Spawn(1, 3)]


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 1), (1, 128), (128, 128)])
def test_the_count_of_workers_changes_by_a_reload(before: int, after: int) -> None:
    fleet = booted(before)
    reloaded(fleet, 100.0, after)
    assert fleet.active == 2
    ready = [one.number for one in fleet.slots.values() if one.state is SlotState.READY]
    assert ready == [*range(before, before + after)]
    for number in range(before):
        assert fleet.slots[number].state is SlotState.DRAINING
        fleet.exited(number, 101.0, 0.5, "left")
    assert settle(fleet, 101.0) == [Retire(1)]
    assert len(fleet.slots) == after


def test_reload_gives_up_when_a_new_worker_dies_and_the_old_one_stays() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 100.5)
    fleet.exited(3, 101.0, 0.5, "no such key")
    assert settle(fleet, 101.0) == [Abandon(2, "no such key"), Drain(2)]
    fleet.exited(2, 101.5, 0.5, "left")
    assert settle(fleet, 101.5) == [Retire(2)]
    assert fleet.active == 1
    assert [fleet.slots[number].state for number in (0, 1)] == [SlotState.READY] * 2
    assert reload(fleet, 102.0) == [Load(), Place(3, 2), Spawn(2, 3), Spawn(3, 3)]


def test_reload_gives_up_when_a_new_worker_is_not_ready_in_time() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 100.5)
    assert settle(fleet, 130.0) == [
        Abandon(2, "worker 1 was not ready within 30 s"),
        Drain(2),
        Terminate(3),
    ]


def test_reload_gives_up_when_there_can_be_no_sockets() -> None:
    fleet = booted()
    fleet.reload_wanted = True
    fleet.begin_roll(2, DRAIN_S)
    fleet.reload_wanted = False
    place = plan(fleet, 100.0)
    assert place == [Place(2, 2)]
    record(fleet, place[0], 100.0)
    fleet.generations[2].failure = "too many open files"
    assert settle(fleet, 100.0) == [Abandon(2, "too many open files"), Retire(2)]
    assert sorted(fleet.slots) == [0, 1]


def test_an_old_worker_that_dies_during_a_reload_is_replaced_from_the_old_generation() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.exited(0, 100.5, 0.5, "killed")
    assert settle(fleet, 100.5) == [Spawn(0, 1)]


def test_a_worker_that_is_started_when_its_generation_is_replaced_leaves_at_once() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.exited(0, 100.5, 0.5, "killed")
    settle(fleet, 100.5)
    fleet.became_ready(2, 101.0)
    fleet.became_ready(3, 101.0)
    done = settle(fleet, 101.0)
    assert done == [Promote(2), Terminate(0), Drain(1), Drain(KEEPER)]


def test_a_reload_during_a_reload_waits_for_its_end() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    assert reload(fleet, 100.5) == []
    fleet.became_ready(2, 101.0)
    fleet.became_ready(3, 101.0)
    done = settle(fleet, 101.0)
    assert done[:3] == [Promote(2), Load(), Place(3, 4)]
    assert set(done[3:]) == {Spawn(4, 3), Spawn(5, 3), Drain(0), Drain(1), Drain(KEEPER)}


def test_reloads_do_not_cut_a_drain_short() -> None:
    fleet = booted(workers=1)
    for number in range(1, MOST_GENERATIONS):
        reloaded(fleet, 100.0 + number, workers=1)
    assert fleet.active == MOST_GENERATIONS
    draining = [one.number for one in fleet.slots.values() if one.state is SlotState.DRAINING]
    assert draining == [*range(MOST_GENERATIONS - 1)]
    assert (fleet.cut_short, fleet.killed) == (0, 0)


def test_a_reload_waits_while_there_are_too_many_generations() -> None:
    fleet = booted(workers=1)
    for number in range(1, MOST_GENERATIONS):
        reloaded(fleet, 100.0 + number, workers=1)
    assert reload(fleet, 110.0, workers=1) == [Load()]
    assert fleet.generations[9].state is GenerationState.ROLLING
    assert fleet.generations[9].first is None
    assert settle(fleet, 120.0) == []
    fleet.exited(3, 121.0, 0.5, "left")
    assert settle(fleet, 121.0) == [Retire(4), Place(9, 3), Spawn(3, 9)]
    fleet.became_ready(3, 122.0)
    assert Promote(9) in settle(fleet, 122.0)


def test_a_reload_waits_while_there_are_too_few_slots() -> None:
    fleet = booted(SLOT_LIMIT // 2)
    reloaded(fleet, 100.0, SLOT_LIMIT // 2)
    assert reload(fleet, 110.0, 1) == [Load()]
    for number in range(SLOT_LIMIT // 2):
        assert settle(fleet, 111.0) == [], "all the slots of a generation are free at once"
        fleet.exited(number, 111.0, 0.5, "left")
    assert settle(fleet, 111.0) == [Retire(1), Place(3, 0), Spawn(0, 3)]


def test_a_reload_that_waits_goes_on_when_the_other_master_is_gone() -> None:
    fleet = booted(2, taken=(range(SLOT_LIMIT - 4),))
    reloaded(fleet, 100.0)
    assert reload(fleet, 101.0) == [Load()]
    fleet.taken = ()
    assert settle(fleet, 102.0) == [Place(3, 0), Spawn(0, 3), Spawn(1, 3)]


def test_nothing_is_reloaded_while_another_master_starts() -> None:
    fleet = booted()
    fleet.is_handing_over = True
    assert reload(fleet, 100.0) == []
    fleet.is_handing_over = False
    assert settle(fleet, 101.0)[0] == Load()


def test_the_drain_of_an_old_worker_is_bounded() -> None:
    fleet = booted()
    reloaded(fleet, 101.0)
    due = next_deadline(fleet)
    assert due == 101.0 + DRAIN_S + DRAIN_MARGIN_S
    assert settle(fleet, due) == [Terminate(0), Terminate(1)]
    assert settle(fleet, due + LEAVE_TIMEOUT_S) == [Kill(0), Kill(1)]
    assert (fleet.cut_short, fleet.killed) == (2, 2)


# --- stop --------------------------------------------------------------------------------------


def test_a_stop_drains_workers_then_ends_the_keeper_and_exits() -> None:
    fleet = booted()
    fleet.request_stop(50.0)
    assert settle(fleet, 50.0) == [Drain(0), Drain(1)]
    assert next_deadline(fleet) == 50.0 + DRAIN_S + DRAIN_MARGIN_S
    fleet.exited(0, 51.0, 0.5, "left")
    fleet.exited(1, 52.0, 0.5, "left")
    assert settle(fleet, 52.0) == [Terminate(KEEPER)]
    fleet.exited(KEEPER, 52.1, 0.5, "left")
    assert settle(fleet, 52.1) == [Exit(ExitCode.OK)]
    assert (fleet.cut_short, fleet.killed) == (0, 0)


def test_a_second_stop_is_at_once() -> None:
    fleet = booted()
    fleet.request_stop(50.0)
    settle(fleet, 50.0)
    fleet.request_stop(50.5)
    assert settle(fleet, 50.5) == [Terminate(0), Terminate(1)]
    assert settle(fleet, 50.5 + LEAVE_TIMEOUT_S) == [Kill(0), Kill(1)]
    assert fleet.killed == 2


def test_a_third_stop_is_as_the_second() -> None:
    fleet = booted()
    for _ in range(3):
        fleet.request_stop(50.0)
    assert fleet.stop is Stop.NOW
    assert settle(fleet, 50.0) == [Terminate(0), Terminate(1)]


def test_a_stop_during_a_reload_ends_both_generations() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 100.5)
    fleet.request_stop(101.0)
    assert settle(fleet, 101.0) == [Drain(0), Drain(1), Drain(2), Terminate(3)]


def test_a_stop_while_a_reload_waits_for_room_ends_all() -> None:
    fleet = booted(SLOT_LIMIT // 2)
    reloaded(fleet, 100.0, SLOT_LIMIT // 2)
    assert reload(fleet, 110.0) == [Load()]
    fleet.request_stop(111.0)
    settle(fleet, 111.0)
    for number in range(SLOT_LIMIT):
        fleet.exited(number, 112.0, 0.5, "left")
    assert settle(fleet, 112.0) == [Terminate(KEEPER)]
    fleet.exited(KEEPER, 112.0, 0.5, "left")
    assert settle(fleet, 112.0) == [Exit(ExitCode.OK)]


def test_a_master_that_was_replaced_ends_its_keeper_beside_its_workers() -> None:
    fleet = booted()
    fleet.is_superseded = True
    fleet.request_stop(50.0)
    assert settle(fleet, 50.0) == [Drain(0), Drain(1), Drain(KEEPER)]


def test_a_ready_line_after_the_process_was_told_to_leave_is_nothing() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.exited(2, 100.5, 0.5, "killed")
    settle(fleet, 100.5)
    assert not fleet.became_ready(3, 101.0)
    assert fleet.slots[3].state is SlotState.LEAVING
