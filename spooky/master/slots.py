"""What the master knows of its processes: slots, generations, and their transition tables.

Owns the bookkeeping of the fleet and takes in what was observed (a process is ready, a process
left, an operator's signal). It never acts and reads no clock. There are two banks of slots, one
slot per worker in each, and one more slot for the keeper; a slot holds at most one process, and
its number is the number that connection IDs carry. A generation occupies one bank, so that the
old one may drain in the other.
"""

from dataclasses import dataclass, field
from enum import Enum

from spooky.errors import ExitCode
from spooky.policy import backoff

STABLE_S = 10.0
"""A process that was ready for longer is replaced as if it had never failed."""
DRAIN_MARGIN_S = 1.0
"""Workers end their own drain at the drain timeout; the master steps in this much later."""


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
    (SlotState.READY, SlotEvent.CRASH): SlotState.BACKOFF,
    (SlotState.READY, SlotEvent.EXIT): SlotState.EMPTY,
    (SlotState.DRAINING, SlotEvent.TERMINATE): SlotState.LEAVING,
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
    state: SlotState = SlotState.EMPTY
    generation: int = 0
    deadline: float | None = None
    ready_at: float | None = None
    failures: int = 0

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

    def wait(self, now: float) -> float:
        """Say how many seconds the next process of the slot has to wait; 0: none."""
        if self.state is not SlotState.BACKOFF or self.deadline is None:
            return 0.0
        return max(0.0, self.deadline - now)


@dataclass(slots=True)
class Generation:
    """Workers that were started from one reading of the configuration."""

    number: int
    bank: int
    drain_timeout: float
    state: GenerationState = GenerationState.ROLLING
    failure: str = ""
    """Why it will not become ready; empty while it may."""

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

    workers: int
    slots: list[Slot] = field(default_factory=list)
    generations: dict[int, Generation] = field(default_factory=dict)
    active: int | None = None
    rolling: int | None = None
    last_generation: int = 0
    reload_wanted: bool = False
    stop: Stop = Stop.NO
    stop_deadline: float = 0.0
    exit_code: ExitCode = ExitCode.OK
    cut_short: int = 0
    """Workers that did not finish draining in time."""
    killed: int = 0
    """Workers that did not leave when told to, or hung while they started."""

    def __post_init__(self) -> None:
        self.slots = [Slot(number) for number in range(2 * self.workers + 1)]

    @property
    def keeper(self) -> Slot:
        """The keeper's slot, the last one."""
        return self.slots[2 * self.workers]

    @property
    def worker_slots(self) -> list[Slot]:
        """The slots of both banks."""
        return self.slots[: 2 * self.workers]

    def bank(self, number: int) -> list[Slot]:
        """The slots of one bank."""
        return self.slots[number * self.workers : (number + 1) * self.workers]

    def begin_roll(self, drain_timeout: float) -> Generation:
        """Open a new generation in the bank that the active one does not occupy."""
        if self.rolling is not None:
            raise IllegalTransitionError(f"generation {self.rolling} is still rolling")
        bank = 0 if self.active is None else 1 - self.generations[self.active].bank
        self.last_generation += 1
        generation = Generation(self.last_generation, bank, drain_timeout)
        self.generations[generation.number] = generation
        self.rolling = generation.number
        return generation

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
        slot = self.slots[number]
        if slot.state is not SlotState.STARTING:
            return False
        slot.on(SlotEvent.READY)
        slot.ready_at = now
        return True

    def exited(self, number: int, now: float, chance: float, reason: str) -> None:
        """Take in that a process is gone. `chance` in [0, 1) spreads the wait for the next one."""
        slot = self.slots[number]
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
