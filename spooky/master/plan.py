"""What the master does next: a pure decision, and the record of it.

`plan` reads the fleet and the time and says which actions are due; it changes nothing. The
arbiter enters each action by `record`, the only place where an action changes the fleet, and
carries it out; it plans again until nothing is left to do. The rule of a reload: ready before
retire, and on any doubt the old generation stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from spooky.errors import ExitCode
from spooky.master.slots import (
    DRAIN_MARGIN_S,
    Fleet,
    Generation,
    GenerationEvent,
    GenerationState,
    Slot,
    SlotEvent,
    SlotState,
    Stop,
)

START_TIMEOUT_S = 30.0
"""From the fork to `ready`."""
LEAVE_TIMEOUT_S = 5.0
"""From SIGTERM to SIGKILL."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process in a slot, from the configuration of a generation."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell a process to finish what is open and to leave."""

    slot: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Tell a process to leave at once."""

    slot: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a process that does not do as it is told."""

    slot: int


@dataclass(frozen=True, slots=True)
class Clear:
    """Give up the replacement that a slot waits for."""

    slot: int


@dataclass(frozen=True, slots=True)
class Place:
    """Give a generation its slots, from `first` on."""

    generation: int
    first: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Let a generation serve; the one before it starts to drain."""

    generation: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give up a generation that does not become ready; the active one never noticed."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Forget a generation whose last process is gone."""

    generation: int


@dataclass(frozen=True, slots=True)
class Load:
    """Read the configuration anew and, if it is good, open a generation from it."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up the first start: there is nothing to fall back on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the master: no process is left."""

    code: ExitCode


SlotAction: TypeAlias = Spawn | Drain | Terminate | Kill | Clear
GenerationAction: TypeAlias = Place | Promote | Abandon | Retire
Action: TypeAlias = SlotAction | GenerationAction | Load | Fail | Exit


def plan(fleet: Fleet, now: float) -> list[Action]:
    """Say what is to be done now, at most one thing per slot; empty: wait."""
    if fleet.stop is not Stop.NO:
        is_alone = not (fleet.taken and fleet.is_in_charge)
        if is_alone and all(slot.state is SlotState.EMPTY for slot in fleet.every_slot()):
            return [Exit(fleet.exit_code)]
        steps = [_stopping(fleet, slot, now) for slot in fleet.every_slot()]
        return [step for step in steps if step]
    # What becomes of generations decides what slots are for, so it comes first, on its own.
    return list(_generations(fleet, now)) or [
        step for slot in fleet.every_slot() if (step := _running(fleet, slot, now))
    ]


def next_deadline(fleet: Fleet) -> float | None:
    """Say when `plan` may have something new though nothing happened; None: never."""
    slots = fleet.every_slot()
    due = [*(slot.deadline for slot in slots), *(slot.hangs_at() for slot in slots)]
    return min((moment for moment in due if moment is not None), default=None)


def _generations(fleet: Fleet, now: float) -> Iterator[Action]:
    if fleet.rolling is not None:
        yield from _roll(fleet, fleet.generations[fleet.rolling], now)
    elif fleet.reload_wanted and not fleet.is_handing_over:
        yield Load()
    for generation in fleet.generations.values():
        ended = generation.state in (GenerationState.RETIRING, GenerationState.ABANDONED)
        if ended and all(slot.state is SlotState.EMPTY for slot in fleet.slots_of(generation)):
            yield Retire(generation.number)


def _roll(fleet: Fleet, generation: Generation, now: float) -> Iterator[Action]:
    first = fleet.active is None
    if generation.first is None and not generation.failure:
        room = fleet.find_room(generation.workers)
        if room is not None:
            yield Place(generation.number, room)
        return
    crew = fleet.slots_of(generation) + ([fleet.keeper] if first else [])
    reason = generation.failure
    for slot in crew:
        if not reason and slot.state is SlotState.STARTING and slot.is_overdue(now):
            reason = f"{_title(fleet, slot)} was not ready within {START_TIMEOUT_S:g} s"
    if reason:
        yield Fail(reason) if first else Abandon(generation.number, reason)
    elif all(slot.state is SlotState.READY for slot in crew):
        yield Promote(generation.number)


def _title(fleet: Fleet, slot: Slot) -> str:
    return "keeper" if slot is fleet.keeper else f"worker {fleet.index(slot)}"


def _running(fleet: Fleet, slot: Slot, now: float) -> SlotAction | None:
    """Say what a slot needs while the instance is to serve."""
    source = _source(fleet, slot)
    wanted = slot.generation == source
    match slot.state:
        case SlotState.EMPTY if source is not None:
            return Spawn(slot.number, source)
        case SlotState.BACKOFF if source is None:
            return Clear(slot.number)
        case SlotState.BACKOFF if source is not None and slot.is_overdue(now):
            return Spawn(slot.number, source)
        case SlotState.EMPTY | SlotState.BACKOFF:
            return None
        case SlotState.STARTING if not wanted and slot is not fleet.keeper:
            return Terminate(slot.number)
        case SlotState.READY if not wanted and not slot.is_hung(now):
            return Drain(slot.number)
    return _overdue(slot, now)


def _overdue(slot: Slot, now: float) -> SlotAction | None:
    """Say what a process gets that has taken too long."""
    if slot.is_hung(now):
        return Kill(slot.number)
    if not slot.is_overdue(now):
        return None
    return Terminate(slot.number) if slot.state is SlotState.DRAINING else Kill(slot.number)


def _source(fleet: Fleet, slot: Slot) -> int | None:
    """Say from which generation a process in this slot would be started now; None: not at all."""
    if slot is fleet.keeper:
        return fleet.active if fleet.active is not None else fleet.rolling
    return slot.home if slot.home in (fleet.active, fleet.rolling) else None


def _stopping(fleet: Fleet, slot: Slot, now: float) -> SlotAction | None:
    """Say what a slot needs while the instance is to end; the keeper goes last."""
    if slot.state is SlotState.BACKOFF:
        return Clear(slot.number)
    workers_left = any(one.state is not SlotState.EMPTY for one in fleet.slots.values())
    if slot is fleet.keeper and workers_left and not fleet.is_superseded:
        return _overdue(slot, now)
    # One that is not the last answers who has just asked it.
    at_once = fleet.stop is Stop.NOW or (slot is fleet.keeper and not fleet.is_superseded)
    match slot.state:
        case SlotState.READY if not at_once and not slot.is_hung(now):
            return Drain(slot.number)
        case SlotState.DRAINING if not at_once:
            return _overdue(slot, now)
        case SlotState.STARTING | SlotState.READY | SlotState.DRAINING if not slot.is_hung(now):
            return Terminate(slot.number)
    return _overdue(slot, now)


def record(fleet: Fleet, action: Action, now: float) -> None:
    """Enter in the fleet that `action` is carried out; IllegalTransitionError."""
    match action:
        case Spawn() | Drain() | Terminate() | Kill() | Clear():
            _record_slot(fleet, action, now)
        case Place() | Promote() | Abandon() | Retire():
            _record_generation(fleet, action)
        case Load():
            fleet.reload_wanted = False
        case Fail():
            fleet.stop, fleet.exit_code = Stop.NOW, ExitCode.BOOT
        case Exit():
            pass
        case _:
            assert_never(action)


def _record_generation(fleet: Fleet, action: GenerationAction) -> None:
    generation = fleet.generations[action.generation]
    match action:
        case Place():
            generation.first = action.first
            fleet.slots |= {slot: Slot(slot, home=generation.number) for slot in generation.slots}
        case Promote(number):
            if fleet.active is not None:
                fleet.generations[fleet.active].on(GenerationEvent.SUPERSEDE)
            generation.on(GenerationEvent.PROMOTE)
            fleet.active, fleet.rolling = number, None
        case Abandon():
            generation.on(GenerationEvent.ABANDON)
            fleet.rolling = None
        case Retire(number):
            generation.on(GenerationEvent.EMPTIED)
            del fleet.generations[number]
            for slot in generation.slots:
                del fleet.slots[slot]
        case _:
            assert_never(action)


def _record_slot(fleet: Fleet, action: SlotAction, now: float) -> None:
    slot = fleet.slot(action.slot)
    is_worker = slot is not fleet.keeper
    match action:
        case Spawn(_, generation):
            slot.on(SlotEvent.SPAWN, deadline=now + START_TIMEOUT_S)
            slot.generation = generation
            slot.patience = fleet.generations[generation].patience
        case Drain():
            slot.on(SlotEvent.DRAIN, deadline=_drain_deadline(fleet, slot, now))
        case Terminate():
            fleet.cut_short += is_worker and slot.state is SlotState.DRAINING
            slot.on(SlotEvent.TERMINATE, deadline=now + LEAVE_TIMEOUT_S)
        case Kill():
            fleet.killed += is_worker
            slot.on(SlotEvent.KILL)
        case Clear():
            slot.on(SlotEvent.CLEAR)
            slot.generation, slot.failures = 0, 0
        case _:
            assert_never(action)


def _drain_deadline(fleet: Fleet, slot: Slot, now: float) -> float:
    if slot is fleet.keeper:
        return now + LEAVE_TIMEOUT_S
    if fleet.stop is not Stop.NO:
        return fleet.stop_deadline
    return now + fleet.generations[slot.generation].drain_timeout + DRAIN_MARGIN_S
