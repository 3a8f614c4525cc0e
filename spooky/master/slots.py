"""What the master knows of its processes: slots, generations, and their transition tables.

Owns the bookkeeping of the fleet and takes in what was observed (a process is ready, a process
left, an operator's signal). It never acts and reads no clock. A slot holds at most one process,
and its number is the number that connection IDs carry. A generation has slots of its own, in a
row, from before its first process is started until its last one is gone; so any number of old
generations may drain beside the one that serves. The keeper has a slot beyond theirs.
"""

from dataclasses import dataclass, field
from enum import Enum

from spooky.errors import ExitCode
from spooky.policy import backoff
from spooky.shm.processes import KEEPER_ROWS, SLOT_LIMIT

STABLE_S = 10.0
"""A process that was ready for longer is replaced as if it had never failed."""
DRAIN_MARGIN_S = 1.0
"""Workers end their own drain at the drain timeout; the master steps in this much later."""
MOST_GENERATIONS = 8
"""With more than these the next reload waits: each holds the memory of all of its workers."""
LOOK_S = 1.0
"""Between two looks at whether processes come round their loops."""


class SlotState(Enum):
    """How far the process of a slot is, as the master sees it."""

    EMPTY = "empty"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """Was told to finish what is open and to leave."""
    LEAVING = "leaving"
    """Was told to leave at once."""
    KILLED = "killed"
    BACKOFF = "backoff"
    """No process; one is started when the wait is over."""


class SlotEvent(Enum):
    """What can happen to a slot."""

    SPAWN = "spawn"
    READY = "ready"
    DRAIN = "drain"
    TERMINATE = "terminate"
    KILL = "kill"
    EXIT = "exit"
    """The process is gone and nobody is to take its place."""
    CRASH = "crash"
    """The process is gone and is to be replaced."""
    CLEAR = "clear"
    """A replacement is no longer wanted."""


SLOT_TRANSITIONS: dict[tuple[SlotState, SlotEvent], SlotState] = {
    (SlotState.EMPTY, SlotEvent.SPAWN): SlotState.STARTING,
    (SlotState.BACKOFF, SlotEvent.SPAWN): SlotState.STARTING,
    (SlotState.BACKOFF, SlotEvent.CLEAR): SlotState.EMPTY,
    (SlotState.STARTING, SlotEvent.READY): SlotState.READY,
    (SlotState.STARTING, SlotEvent.TERMINATE): SlotState.LEAVING,
    (SlotState.STARTING, SlotEvent.KILL): SlotState.KILLED,
    (SlotState.STARTING, SlotEvent.CRASH): SlotState.BACKOFF,
    (SlotState.STARTING, SlotEvent.EXIT): SlotState.EMPTY,
    (SlotState.READY, SlotEvent.DRAIN): SlotState.DRAINING,
    (SlotState.READY, SlotEvent.TERMINATE): SlotState.LEAVING,
    (SlotState.READY, SlotEvent.KILL): SlotState.KILLED,
    (SlotState.READY, SlotEvent.CRASH): SlotState.BACKOFF,
    (SlotState.READY, SlotEvent.EXIT): SlotState.EMPTY,
    (SlotState.DRAINING, SlotEvent.TERMINATE): SlotState.LEAVING,
    (SlotState.DRAINING, SlotEvent.KILL): SlotState.KILLED,
    (SlotState.DRAINING, SlotEvent.EXIT): SlotState.EMPTY,
    (SlotState.LEAVING, SlotEvent.KILL): SlotState.KILLED,
    (SlotState.LEAVING, SlotEvent.CRASH): SlotState.BACKOFF,
    (SlotState.LEAVING, SlotEvent.EXIT): SlotState.EMPTY,
    (SlotState.KILLED, SlotEvent.CRASH): SlotState.BACKOFF,
    (SlotState.KILLED, SlotEvent.EXIT): SlotState.EMPTY,
}


class GenerationState(Enum):
    """How far a generation of workers is."""

    ROLLING = "rolling"
    """Its processes are being started; nobody depends on them yet."""
    ACTIVE = "active"
    RETIRING = "retiring"
    """A newer one took over; its processes drain."""
    ABANDONED = "abandoned"
    """It did not become ready; its processes are sent away."""
    GONE = "gone"


class GenerationEvent(Enum):
    """What can happen to a generation."""

    PROMOTE = "promote"
    ABANDON = "abandon"
    SUPERSEDE = "supersede"
    EMPTIED = "emptied"


GENERATION_TRANSITIONS: dict[tuple[GenerationState, GenerationEvent], GenerationState] = {
    (GenerationState.ROLLING, GenerationEvent.PROMOTE): GenerationState.ACTIVE,
    (GenerationState.ROLLING, GenerationEvent.ABANDON): GenerationState.ABANDONED,
    (GenerationState.ACTIVE, GenerationEvent.SUPERSEDE): GenerationState.RETIRING,
    (GenerationState.RETIRING, GenerationEvent.EMPTIED): GenerationState.GONE,
    (GenerationState.ABANDONED, GenerationEvent.EMPTIED): GenerationState.GONE,
}


class IllegalTransitionError(Exception):
    """A slot or generation was told of an event that its state does not know: a bug here."""


@dataclass(slots=True)
class Slot:
    """One place for a process. `deadline` is when its state has lasted too long, or long enough."""

    number: int
    home: int = 0
    """The generation whose slot it is; 0: the keeper's, which serves them all."""
    state: SlotState = SlotState.EMPTY
    generation: int = 0
    """The one that its process was started from."""
    deadline: float | None = None
    ready_at: float | None = None
    failures: int = 0
    patience: float = 0.0
    """How long the loop of its process may stand still, seconds; 0: for ever."""
    heartbeat: int = 0
    heard_at: float = 0.0
    """When the heartbeat was last seen to change."""

    def on(self, event: SlotEvent, deadline: float | None = None) -> None:
        """Move to the state that `event` leads to, until `deadline`; IllegalTransitionError."""
        try:
            self.state = SLOT_TRANSITIONS[self.state, event]
        except KeyError:
            raise IllegalTransitionError(
                f"slot {self.number}: {event} while {self.state}"
            ) from None
        self.deadline = deadline

    def is_overdue(self, now: float) -> bool:
        """Say whether the deadline of the state has come."""
        return self.deadline is not None and self.deadline <= now

    def is_hung(self, now: float) -> bool:
        """Say whether its process is there and does not come round its loop."""
        due = self.hangs_at()
        return due is not None and due <= now

    def hangs_at(self) -> float | None:
        """Say when it counts as hung if nothing more is heard of it; None: never."""
        alive = self.state in (SlotState.READY, SlotState.DRAINING)
        return self.heard_at + self.patience if alive and self.patience else None

    def wait(self, now: float) -> float:
        """Say how many seconds the next process of the slot has to wait; 0: none."""
        if self.state is not SlotState.BACKOFF or self.deadline is None:
            return 0.0
        return max(0.0, self.deadline - now)


@dataclass(slots=True)
class Generation:
    """Workers that were started from one reading of the configuration."""

    number: int
    workers: int
    drain_timeout: float
    patience: float = 0.0
    """See `Slot.patience`."""
    first: int | None = None
    """Its first slot; None while it waits for room."""
    state: GenerationState = GenerationState.ROLLING
    failure: str = ""
    """Why it will not become ready; empty while it may."""

    @property
    def slots(self) -> range:
        """The numbers of its slots."""
        return range(0) if self.first is None else range(self.first, self.first + self.workers)

    def on(self, event: GenerationEvent) -> None:
        """Move to the state that `event` leads to; IllegalTransitionError."""
        try:
            self.state = GENERATION_TRANSITIONS[self.state, event]
        except KeyError:
            text = f"generation {self.number}: {event} while {self.state}"
            raise IllegalTransitionError(text) from None


class Stop(Enum):
    """Whether the whole instance is to end."""

    NO = "no"
    GRACEFUL = "graceful"
    NOW = "now"


@dataclass(slots=True)
class Fleet:
    """All slots and generations, and what the operator wants of them."""

    keeper: Slot = field(default_factory=lambda: Slot(KEEPER_ROWS[0]))
    slots: dict[int, Slot] = field(default_factory=dict)
    """Those of the generations that there are, by number."""
    taken: tuple[range, ...] = ()
    """Slots of other masters, from which this one takes over, while they have processes."""
    is_in_charge: bool = False
    """This master has taken over: those before it start no process any more, and its end is not
    before theirs, for whoever stops the instance means all of it."""
    generations: dict[int, Generation] = field(default_factory=dict)
    active: int | None = None
    rolling: int | None = None
    last_generation: int = 0
    reload_wanted: bool = False
    is_handing_over: bool = False
    """A new master starts up; until it serves, or gives up, nothing is reloaded."""
    is_superseded: bool = False
    """Another master serves; this one drains."""
    stop: Stop = Stop.NO
    stop_deadline: float = 0.0
    exit_code: ExitCode = ExitCode.OK
    cut_short: int = 0
    """Workers that did not finish draining in time."""
    killed: int = 0
    """Workers that did not leave when told to, or hung."""

    def every_slot(self) -> list[Slot]:
        """List the workers' slots and the keeper's, the last one."""
        return [*self.slots.values(), self.keeper]

    def slot(self, number: int) -> Slot:
        """Find a slot by its number; KeyError."""
        return self.keeper if number == self.keeper.number else self.slots[number]

    def slots_of(self, generation: Generation) -> list[Slot]:
        """List the slots of a generation."""
        return [self.slots[number] for number in generation.slots]

    def index(self, slot: Slot) -> int:
        """Say which worker of its generation has the slot."""
        return slot.number - self.generations[slot.home].slots.start

    def begin_roll(self, workers: int, drain_timeout: float, patience: float = 0.0) -> Generation:
        """Open a new generation, which has no slots yet."""
        if self.rolling is not None:
            raise IllegalTransitionError(f"generation {self.rolling} is still rolling")
        self.last_generation += 1
        generation = Generation(self.last_generation, workers, drain_timeout, patience)
        self.generations[generation.number] = generation
        self.rolling = generation.number
        return generation

    def find_room(self, workers: int) -> int | None:
        """Say from which slot on so many are free; None: there is no room now."""
        used = [generation.slots for generation in self.generations.values()]
        if sum(map(bool, used)) >= MOST_GENERATIONS:
            return None
        first = 0
        for taken in sorted((*used, *self.taken), key=lambda one: one.start):
            if taken and taken.start < first + workers:
                first = max(first, taken.stop)
        return first if first + workers <= SLOT_LIMIT else None

    def heard(self, number: int, heartbeat: int, now: float, *, slept: bool) -> None:
        """Take in the heartbeat of a process; `slept`: the master itself stood still before."""
        slot = self.slot(number)
        if heartbeat != slot.heartbeat or slept:
            slot.heartbeat, slot.heard_at = heartbeat, now

    def request_stop(self, now: float) -> None:
        """Take in a signal to stop; the second one means at once."""
        if self.stop is not Stop.NO:
            self.stop = Stop.NOW
            return
        serving = self.generations.get(self.active or 0)
        wait = serving.drain_timeout if serving else 0.0
        self.stop, self.stop_deadline = Stop.GRACEFUL, now + wait + DRAIN_MARGIN_S

    def became_ready(self, number: int, now: float) -> bool:
        """Take in that a process says it is ready; False when it came too late to matter."""
        slot = self.slot(number)
        if slot.state is not SlotState.STARTING:
            return False
        slot.on(SlotEvent.READY)
        slot.ready_at = slot.heard_at = now
        return True

    def exited(self, number: int, now: float, chance: float, reason: str) -> None:
        """Take in that a process is gone. `chance` in [0, 1) spreads the wait for the next one."""
        slot = self.slot(number)
        booting = self.active is None and slot is self.keeper
        rolling = self.generations.get(self.rolling or 0)
        if rolling and (booting or slot.generation == rolling.number):
            rolling.failure = rolling.failure or reason
        if self._is_replaced(slot):
            stable = slot.ready_at is not None and now - slot.ready_at > STABLE_S
            slot.failures = 0 if stable else slot.failures + 1
            slot.on(SlotEvent.CRASH, deadline=now + backoff.delay(slot.failures, chance))
        else:
            slot.on(SlotEvent.EXIT)
            slot.generation, slot.failures = 0, 0
        slot.ready_at = None

    def _is_replaced(self, slot: Slot) -> bool:
        if self.stop is not Stop.NO or slot.state is SlotState.DRAINING:
            return False
        return slot is self.keeper or slot.generation == self.active
