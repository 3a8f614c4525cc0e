"""The master's decisions, case by case and under a seeded simulation of bad luck."""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

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
    Promote,
    Retire,
    Spawn,
    Terminate,
    next_deadline,
    plan,
    record,
)
from spooky.master.slots import STABLE_S, Fleet, SlotState, Stop

DRAIN_S = 30.0


def settle(fleet: Fleet, now: float) -> list[Action]:
    """Carry out all that is planned, as the arbiter does, and return what it was."""
    done: list[Action] = []
    for _ in range(20):
        before = copy.deepcopy(fleet)
        actions = plan(fleet, now)
        assert fleet == before, "plan changed the fleet"
        for action in actions:
            if isinstance(action, Load):
                fleet.begin_roll(DRAIN_S)
            record(fleet, action, now)
            done.append(action)
        if not actions or isinstance(actions[-1], Exit):
            return done
    raise AssertionError(f"never settles: {done}")


def booted(workers: int = 2) -> Fleet:
    """A fleet whose first generation serves since time 0."""
    fleet = Fleet(workers)
    fleet.begin_roll(DRAIN_S)
    settle(fleet, 0.0)
    for number in (*range(workers), 2 * workers):
        assert fleet.became_ready(number, 0.0)
    assert Promote(1) in settle(fleet, 0.0)
    return fleet


def reload(fleet: Fleet, now: float) -> list[Action]:
    fleet.reload_wanted = True
    return settle(fleet, now)


def test_first_start_spawns_all_and_promotes_when_all_are_ready() -> None:
    fleet = Fleet(2)
    fleet.begin_roll(DRAIN_S)
    assert settle(fleet, 0.0) == [Spawn(0, 1), Spawn(1, 1), Spawn(4, 1)]
    fleet.became_ready(0, 1.0)
    fleet.became_ready(1, 1.0)
    assert settle(fleet, 1.0) == []
    fleet.became_ready(4, 2.0)
    assert settle(fleet, 2.0) == [Promote(1)]
    assert next_deadline(fleet) is None


@pytest.mark.parametrize("slot", [0, 1, 4])
def test_first_start_fails_when_any_process_dies(slot: int) -> None:
    fleet = Fleet(2)
    fleet.begin_roll(DRAIN_S)
    settle(fleet, 0.0)
    fleet.exited(slot, 1.0, 0.5, "no such key")
    others = [Terminate(number) for number in (0, 1) if number != slot]
    cleared = [Clear(4)] if slot == 4 else []
    assert settle(fleet, 1.0) == [Fail("no such key"), *others, *cleared]
    for number in {0, 1} - {slot}:
        fleet.exited(number, 1.5, 0.5, "told to")
    if slot != 4:
        assert settle(fleet, 1.5) == [Terminate(4)]
        fleet.exited(4, 1.6, 0.5, "told to")
    assert settle(fleet, 2.0)[-1] == Exit(ExitCode.BOOT)


def test_first_start_fails_when_a_process_is_not_ready_in_time() -> None:
    fleet = Fleet(1)
    fleet.begin_roll(DRAIN_S)
    settle(fleet, 0.0)
    fleet.became_ready(2, 0.0)
    assert next_deadline(fleet) == START_TIMEOUT_S
    assert settle(fleet, START_TIMEOUT_S)[:2] == [
        Fail("worker 0 was not ready within 30 s"),
        Terminate(0),
    ]


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


def test_a_replacement_that_hangs_is_killed_and_replaced() -> None:
    fleet = booted()
    fleet.exited(1, 20.0, 0.5, "killed")
    assert settle(fleet, 20.0) == [Spawn(1, 1)]
    assert settle(fleet, 20.0 + START_TIMEOUT_S) == [Kill(1)]
    fleet.exited(1, 51.0, 0.5, "killed")
    assert settle(fleet, 51.0) == [Spawn(1, 1)]


def test_reload_starts_the_other_bank_and_drains_the_old_after_it_is_ready() -> None:
    fleet = booted()
    assert reload(fleet, 100.0) == [Load(), Spawn(2, 2), Spawn(3, 2)]
    fleet.became_ready(3, 101.0)
    assert settle(fleet, 101.0) == []
    fleet.became_ready(2, 102.0)
    assert settle(fleet, 102.0) == [Promote(2), Drain(0), Drain(1), Drain(4)]
    fleet.exited(4, 102.1, 0.5, "left")
    assert settle(fleet, 102.1) == [Spawn(4, 2)]
    fleet.became_ready(4, 102.2)
    fleet.exited(0, 103.0, 0.5, "left")
    fleet.exited(1, 104.0, 0.5, "left")
    assert settle(fleet, 104.0) == [Retire(1)]
    assert fleet.active == 2
    assert next_deadline(fleet) is None


def test_reload_gives_up_when_a_new_worker_dies_and_the_old_one_stays() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 100.5)
    fleet.exited(3, 101.0, 0.5, "no such key")
    assert settle(fleet, 101.0) == [Abandon(2, "no such key"), Drain(2)]
    fleet.exited(2, 101.5, 0.5, "left")
    assert settle(fleet, 101.5) == [Retire(2)]
    assert fleet.active == 1
    assert [slot.state for slot in fleet.bank(0)] == [SlotState.READY] * 2
    assert reload(fleet, 102.0) == [Load(), Spawn(2, 3), Spawn(3, 3)]


def test_reload_gives_up_when_a_new_worker_is_not_ready_in_time() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 100.5)
    assert settle(fleet, 130.0) == [
        Abandon(2, "worker 1 was not ready within 30 s"),
        Drain(2),
        Terminate(3),
    ]


def test_an_old_worker_that_dies_during_a_reload_is_replaced_from_the_old_generation() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.exited(0, 100.5, 0.5, "killed")
    assert settle(fleet, 100.5) == [Spawn(0, 1)]


def test_a_reload_during_a_reload_waits_for_its_end() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    assert reload(fleet, 100.5) == []
    fleet.became_ready(2, 101.0)
    fleet.became_ready(3, 101.0)
    done = settle(fleet, 101.0)
    assert done[:2] == [Promote(2), Load()]
    assert {Drain(0), Drain(1)} <= set(done)
    assert {Terminate(0), Terminate(1)} <= set(done), "the third generation needs their slots"


def test_a_third_generation_cuts_the_oldest_drain_short() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 101.0)
    fleet.became_ready(3, 101.0)
    settle(fleet, 101.0)
    fleet.exited(1, 101.5, 0.5, "left")
    done = reload(fleet, 102.0)
    assert done == [Load(), Terminate(0), Spawn(1, 3)]
    assert settle(fleet, 102.0 + LEAVE_TIMEOUT_S)[0] == Kill(0)
    fleet.exited(0, 107.1, 0.5, "killed")
    assert settle(fleet, 107.1) == [Retire(1), Spawn(0, 3)]
    assert (fleet.cut_short, fleet.killed) == (1, 1)


def test_the_drain_of_an_old_worker_is_bounded() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 101.0)
    fleet.became_ready(3, 101.0)
    settle(fleet, 101.0)
    fleet.exited(4, 101.0, 0.5, "left")
    settle(fleet, 101.0)
    fleet.became_ready(4, 101.0)
    due = next_deadline(fleet)
    assert due == 101.0 + DRAIN_S + 1
    assert settle(fleet, due) == [Terminate(0), Terminate(1)]


def test_a_stop_drains_workers_then_ends_the_keeper_and_exits() -> None:
    fleet = booted()
    fleet.request_stop(50.0)
    assert settle(fleet, 50.0) == [Drain(0), Drain(1)]
    assert next_deadline(fleet) == 50.0 + DRAIN_S + 1
    fleet.exited(0, 51.0, 0.5, "left")
    fleet.exited(1, 52.0, 0.5, "left")
    assert settle(fleet, 52.0) == [Terminate(4)]
    fleet.exited(4, 52.1, 0.5, "left")
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


def test_a_stop_during_a_reload_ends_both_generations() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.became_ready(2, 100.5)
    fleet.request_stop(101.0)
    assert settle(fleet, 101.0) == [Drain(0), Drain(1), Drain(2), Terminate(3)]


def test_a_ready_line_after_the_process_was_told_to_leave_is_nothing() -> None:
    fleet = booted()
    reload(fleet, 100.0)
    fleet.exited(2, 100.5, 0.5, "killed")
    settle(fleet, 100.5)
    assert not fleet.became_ready(3, 101.0)
    assert fleet.slots[3].state is SlotState.LEAVING


# --- simulation --------------------------------------------------------------------------------


@dataclass
class Process:
    """A process as unreliable as they come: what it will do, and when."""

    generation: int
    ready_at: float
    dies_at: float
    obeys: bool


@dataclass
class World:
    """A fleet, its processes and the clock, driven by one random generator."""

    luck: random.Random
    fleet: Fleet
    now: float = 0.0
    processes: dict[int, Process] = field(default_factory=dict)
    died: set[int] = field(default_factory=set)
    """Active slots that lost their process since the last check."""

    def apply(self, action: Action) -> bool:
        """Carry out one action; say whether it was the end."""
        match action:
            case Spawn(slot, generation):
                assert self.fleet.stop is Stop.NO, "a process was started after the stop"
                assert slot not in self.processes, "two processes in one slot"
                self.processes[slot] = self._process(generation)
            case Drain(slot) | Terminate(slot) if self.processes[slot].obeys:
                longest = 60.0 if isinstance(action, Drain) else 1.0
                process = self.processes[slot]
                process.dies_at = min(process.dies_at, self.now + self.luck.random() * longest)
            case Kill(slot):
                self.processes[slot].dies_at = self.now
            case Load():
                if self.luck.random() < 0.8:
                    self.fleet.begin_roll(20.0)
            case Exit():
                assert not self.processes, "the master left processes behind"
                return True
        record(self.fleet, action, self.now)
        return False

    def _process(self, generation: int) -> Process:
        luck = self.luck
        boot = luck.choice([0.1, 1.0, 5.0, 29.0]) if luck.random() < 0.95 else 1000.0
        life = luck.expovariate(1 / 300) if self.fleet.active else 10_000.0
        if self.fleet.active is None:
            boot = min(boot, 29.0)
        return Process(generation, self.now + boot, self.now + life, luck.random() < 0.9)

    def observe(self) -> None:
        """Let everything that is due happen to the processes."""
        for slot, process in list(self.processes.items()):
            if process.dies_at <= self.now:
                del self.processes[slot]
                if process.generation == self.fleet.active:
                    self.died.add(slot)
                self.fleet.exited(slot, self.now, self.luck.random(), "died")
            elif process.ready_at <= self.now:
                self.fleet.became_ready(slot, self.now)

    def moments(self) -> Iterator[float]:
        """All times at which something may come about."""
        due = next_deadline(self.fleet)
        if due is not None:
            yield due
        for slot, process in self.processes.items():
            yield process.dies_at
            if self.fleet.slots[slot].state is SlotState.STARTING:
                yield process.ready_at

    def ready(self) -> set[int]:
        """Workers that take new clients: those of the active generation."""
        return {
            slot.number % self.fleet.workers
            for slot in self.fleet.worker_slots
            if slot.state is SlotState.READY and slot.generation == self.fleet.active
        }

    def settle(self) -> bool:
        """Plan and apply until nothing is left; say whether the master ended."""
        for _ in range(20):
            actions = plan(self.fleet, self.now)
            if not actions:
                due = next_deadline(self.fleet)
                assert due is None or due > self.now, "a deadline that nothing comes of"
                return False
            if any(self.apply(action) for action in actions):
                return True
        raise AssertionError("the plan never comes to rest")


def simulate(seed: int) -> None:
    luck = random.Random(seed)
    world = World(luck, Fleet(luck.randint(1, 4)))
    world.fleet.begin_roll(20.0)
    stop_at = luck.uniform(100.0, 2000.0)
    ready: set[int] = set()
    while world.now < stop_at + 200.0:
        if world.settle():
            assert world.fleet.stop is not Stop.NO
            assert world.fleet.exit_code is ExitCode.OK
            return
        if world.fleet.stop is Stop.NO:
            lost = {slot % world.fleet.workers for slot in world.died}
            assert world.ready() >= ready - lost, "a ready worker was taken away"
        ready, world.died = world.ready(), set()
        moment = min(world.moments(), default=stop_at + 200.0)
        step = luck.expovariate(1 / 20.0)
        world.now = max(world.now, min(moment, world.now + step))
        if world.now >= stop_at and (world.fleet.stop is Stop.NO or luck.random() < 0.02):
            world.fleet.request_stop(world.now)
        elif luck.random() < 0.1:
            world.fleet.reload_wanted = True
        world.observe()
    raise AssertionError("it does not end after the stop")


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_simulated_bad_luck_keeps_the_promises(start: int) -> None:
    for seed in range(start, start + 50):
        try:
            simulate(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
