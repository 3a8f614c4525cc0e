"""The master's decisions under bad luck: thousands of random events, and no promise is broken.

A seed makes a world: processes that start slowly or never, die, hang and disobey; operators who
reload, change the number of workers, upgrade, stop, and stop again; a master that is itself put
to sleep. The clock is the simulation's, so nothing waits, and a failure repeats by its seed.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from spooky.errors import ExitCode
from spooky.master.plan import (
    LEAVE_TIMEOUT_S,
    Abandon,
    Action,
    Drain,
    Exit,
    Fail,
    GenerationAction,
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
    LOOK_S,
    MOST_GENERATIONS,
    Fleet,
    GenerationState,
    Slot,
    SlotState,
    Stop,
)
from spooky.shm.processes import SLOT_LIMIT

SEEDS = 300
FOR_EVER = float("inf")
DRAINS_S = (5.0, 20.0, 60.0)
ALIVE = (SlotState.READY, SlotState.DRAINING)


@dataclass
class Process:
    """A process as unreliable as they come: what it will do, and when."""

    generation: int
    ready_at: float
    hangs_at: float
    dies_at: float
    obeys: bool
    hung_since: float = FOR_EVER

    @property
    def is_hung(self) -> bool:
        return self.hung_since < FOR_EVER


@dataclass
class World:
    """A fleet, its processes and the clock, driven by one random generator."""

    luck: random.Random
    fleet: Fleet
    now: float = 0.0
    looked_at: float = 0.0
    processes: dict[int, Process] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    """Slots that lost their process, or had it killed for a hang, since the last check."""
    failed: bool = False
    stopped_at: float | None = None
    is_hasty: bool = False
    """Processes are quick to start, and operators to reload."""
    seen: Counter[str] = field(default_factory=Counter)

    def _pairs(self) -> Iterator[tuple[Slot, Process]]:
        for number, process in self.processes.items():
            yield self.fleet.slot(number), process

    # --- what the arbiter does ------------------------------------------------------------------

    def run(self) -> bool:
        """Look, plan and apply until nothing is left; say whether the master ended."""
        for _ in range(40):
            self._look()
            actions = plan(self.fleet, self.now)
            if not actions:
                due = next_deadline(self.fleet)
                assert due is None or due > self.now, "a deadline that nothing comes of"
                return False
            for action in actions:
                self._check_action(action)
                record(self.fleet, action, self.now)
                self._apply(action)
                if isinstance(action, Exit):
                    return True
        raise AssertionError("the plan never comes to rest")

    def _look(self) -> None:
        slept = self.now - self.looked_at > 3 * LOOK_S
        self.looked_at = self.now
        for slot, process in self._pairs():
            if slot.state not in ALIVE:
                continue
            beat = slot.heartbeat if process.is_hung else round(self.now * 1000) + 1
            self.fleet.heard(slot.number, beat, self.now, slept=slept)
            if process.is_hung and slept:
                process.hung_since = self.now

    def _apply(self, action: Action) -> None:
        self.seen[type(action).__name__] += 1
        match action:
            case Spawn(slot, generation):
                assert slot not in self.processes, "two processes in one slot"
                self.processes[slot] = self._process(generation)
            case Drain(slot) | Terminate(slot):
                process = self.processes[slot]
                if process.obeys and not process.is_hung:
                    longest = 70.0 if isinstance(action, Drain) else 1.0
                    process.dies_at = min(process.dies_at, self.now + self.luck.random() * longest)
            case Kill(slot):
                self.processes[slot].dies_at = self.now
                self.lost.add(slot)
            case Load():
                if self.luck.random() < 0.85:
                    self._open()
            case Place(generation) if self.luck.random() < 0.03:
                self.fleet.generations[generation].failure = "too many open files"
            case Fail():
                self.failed = True

    def _open(self) -> None:
        workers = self.luck.choice([1, 2, 2, 3, 6, 12])
        patience = self.luck.choice([0.0, 2.0, 10.0])
        self.fleet.begin_roll(workers, self.luck.choice(DRAINS_S), patience)

    # --- what happens ---------------------------------------------------------------------------

    def _process(self, generation: int) -> Process:
        luck, now = self.luck, self.now
        boot = luck.choice([0.1] if self.is_hasty else [0.1, 1.0, 5.0, 29.0])
        if luck.random() < 0.04 * (self.fleet.active is not None):
            boot = 1000.0
            self.seen["slow boot"] += 1
        life = luck.expovariate(1 / 300)
        hang = luck.expovariate(1 / 100) if luck.random() < 0.3 else FOR_EVER
        if self.fleet.active is None and luck.random() < 0.99:
            life += 40.0
        return Process(generation, now + boot, now + hang, now + life, luck.random() < 0.9)

    def begin(self) -> None:
        self.is_hasty = self.luck.random() < 0.2
        if self.luck.random() < 0.3:
            # Beside another master, which may leave too little room.
            free = self.luck.choice([1, 4, 12, 40])
            self.fleet.taken = (range(SLOT_LIMIT - free),)
            self.seen["takeover"] += 1
        self._open()

    def observe(self) -> None:
        """Let everything that is due happen to the processes."""
        for slot, process in list(self.processes.items()):
            if process.dies_at <= self.now:
                del self.processes[slot]
                self.lost.add(slot)
                self.seen["death"] += 1
                self.fleet.exited(slot, self.now, self.luck.random(), "died")
            elif process.hangs_at <= self.now and not process.is_hung:
                # It came round until now, which a look every second would have seen.
                self._look()
                process.hung_since = self.now
                process.dies_at = FOR_EVER
                self.seen["hang"] += 1
            elif process.ready_at <= self.now and not process.is_hung:
                self.fleet.became_ready(slot, self.now)

    def disturb(self, stop_at: float) -> None:
        """Let operators and the other master do what they do."""
        luck, fleet = self.luck, self.fleet
        if self.now >= stop_at and fleet.stop is Stop.NO:
            fleet.is_superseded = luck.random() < 0.2
            self._stop("stop")
        elif fleet.stop is not Stop.NO and luck.random() < 0.01:
            self._stop("second stop")
        elif luck.random() < (0.6 if self.is_hasty else 0.15):
            fleet.reload_wanted = True
            self.seen["reload"] += 1
        elif luck.random() < 0.05:
            fleet.is_handing_over = not fleet.is_handing_over
            self.seen["upgrade"] += 1
        elif fleet.taken and luck.random() < 0.02:
            fleet.taken = ()

    def _stop(self, what: str) -> None:
        self.fleet.request_stop(self.now)
        self.seen[what] += 1

    def advance(self) -> None:
        """Go on to some moment, not past the next at which something may come about."""
        step = self.luck.expovariate(1 / 10.0)
        if self.luck.random() < 0.01:
            self.now += 60.0
            self.seen["sleep"] += 1
            return
        watched = any(
            process.is_hung and slot.patience and slot.state in ALIVE
            for slot, process in self._pairs()
        )
        moment = min(self._moments(), default=FOR_EVER)
        # The arbiter looks once a second; only where somebody hangs does it make a difference.
        step = min(step, LOOK_S) if watched else step
        self.now = max(self.now, min(moment, self.now + step))

    def _moments(self) -> Iterator[float]:
        due = next_deadline(self.fleet)
        if due is not None:
            yield due
        for slot, process in self._pairs():
            yield process.dies_at
            if not process.is_hung:
                yield process.hangs_at
                if slot.state is SlotState.STARTING:
                    yield process.ready_at

    # --- the promises ---------------------------------------------------------------------------

    def ready(self) -> set[int]:
        """Workers that take new clients: those of the active generation."""
        return {
            slot.number
            for slot in self.fleet.slots.values()
            if slot.state is SlotState.READY and slot.generation == self.fleet.active
        }

    def _check_action(self, action: Action) -> None:
        fleet = self.fleet
        match action:
            case Spawn():
                assert fleet.stop is Stop.NO, "a process was started after the stop"
            case Drain(slot) | Terminate(slot) | Kill(slot):
                self._check_removal(slot, is_kill=isinstance(action, Kill))
            case Load():
                assert fleet.rolling is None
                assert not fleet.is_handing_over, "a reload while another master starts"
            case Fail():
                assert fleet.active is None
            case Place() | Promote() | Abandon() | Retire():
                self._check_change(action)
            case Exit(code):
                assert not self.processes, "the master left processes behind"
                assert fleet.stop is not Stop.NO
                assert code is (ExitCode.BOOT if self.failed else ExitCode.OK)

    def _check_change(self, action: GenerationAction) -> None:
        fleet = self.fleet
        match action:
            case Place(generation, first):
                self._check_place(generation, first)
            case Promote(generation):
                slots = fleet.slots_of(fleet.generations[generation])
                assert {slot.state for slot in slots} == {SlotState.READY}, "ready before retire"
                self.lost.clear()
            case Abandon(generation):
                assert generation != fleet.active
            case Retire(generation):
                assert not set(fleet.generations[generation].slots) & set(self.processes)

    def _check_removal(self, number: int, *, is_kill: bool) -> None:
        slot, process = self.fleet.slot(number), self.processes[number]
        if is_kill and slot.state in ALIVE:
            assert process.is_hung, "a process was killed that came round its loop"
            silent = self.now - process.hung_since
            # Heartbeats tell milliseconds apart.
            assert silent >= slot.patience - 0.002, "it was not given its time"
        elif self.fleet.stop is Stop.NO and slot.state is SlotState.READY:
            serves = slot is not self.fleet.keeper and slot.generation == self.fleet.active
            assert not serves, "a ready worker was taken away"

    def _check_place(self, generation: int, first: int) -> None:
        fleet = self.fleet
        mine = set(range(first, first + fleet.generations[generation].workers))
        others = [one.slots for one in fleet.generations.values() if one.slots]
        used = set().union(*others, *fleet.taken)
        assert mine <= set(range(SLOT_LIMIT)), "slots that no connection ID can name"
        assert not mine & used, "a slot of two generations"
        assert len(others) < MOST_GENERATIONS

    def check(self, before: tuple[int | None, set[int]]) -> None:
        """Check what has to be so whenever nothing is left to do."""
        fleet = self.fleet
        serving = [
            one.number for one in fleet.generations.values() if one.state is GenerationState.ACTIVE
        ]
        assert serving == ([] if fleet.active is None else [fleet.active]), "two generations serve"
        if fleet.stop is not Stop.NO:
            return
        active, ready = before
        if active == fleet.active:
            assert self.ready() >= ready - self.lost, "fewer serve than before"
        else:
            assert fleet.active is not None, "nobody serves any more"
            assert self.ready() >= set(fleet.generations[fleet.active].slots) - self.lost
        for slot in fleet.slots.values():
            if slot.state is SlotState.READY:
                assert slot.generation in (fleet.active, fleet.rolling), "two take new connections"
        self._check_patience()
        waits = fleet.generations.get(fleet.rolling or 0)
        if waits is not None and waits.first is None:
            assert fleet.find_room(waits.workers) is None, "it waits though there is room"
            self.seen["wait for room"] += 1

    def _check_patience(self) -> None:
        for slot, process in self._pairs():
            if process.is_hung and slot.state in ALIVE and slot.patience:
                silent = self.now - process.hung_since
                assert silent <= slot.patience + 2 * LOOK_S, "a hung process is left alone"


LONGEST_STOP_S = max(DRAINS_S) + DRAIN_MARGIN_S + 3 * LEAVE_TIMEOUT_S
"""Workers drain, are told to leave, are killed; the keeper is told to leave, is killed."""


def simulate(seed: int) -> Counter[str]:
    """Live through a world from its start to its end; return what happened in it."""
    luck = random.Random(seed)
    world = World(luck, Fleet())
    world.begin()
    stop_at = luck.uniform(20.0, 300.0)
    before: tuple[int | None, set[int]] = (None, set())
    while not world.run():
        world.check(before)
        before = (world.fleet.active, world.ready())
        world.lost.clear()
        world.advance()
        if world.fleet.stop is not Stop.NO and world.stopped_at is None:
            world.stopped_at = world.now
        # A sleep of the master itself may come in between.
        end = (world.stopped_at or stop_at) + LONGEST_STOP_S + 60.0 * (1 + world.seen["sleep"])
        assert world.now < end, "it does not end after the stop"
        world.observe()
        world.disturb(stop_at)
    return world.seen


def live_through(seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        try:
            seen += simulate(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return seen


HAPPENINGS = (
    *("death", "hang", "slow boot", "sleep", "reload", "upgrade", "takeover"),
    *("stop", "second stop", "wait for room"),
    *("Place", "Spawn", "Promote", "Abandon", "Retire", "Fail"),
    *("Drain", "Terminate", "Kill", "Clear", "Load", "Exit"),
)


@pytest.mark.parametrize("start", range(0, SEEDS, 50))
def test_bad_luck_breaks_no_promise(start: int) -> None:
    seen = live_through(range(start, start + 50))
    # Else the simulation has become too kind to show anything.
    assert not [what for what in HAPPENINGS if not seen[what]], seen
