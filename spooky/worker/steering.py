"""Who a datagram is for that belongs to no connection of this worker: decisions alone.

It reads shared memory and sends nothing. Rules: a connection ID of ours names the slot of its
owner; what wants a new connection is for the serving generation. For a short while after a
reload, the generation before is asked first whether it knows the client: the rest of a first
flight, or its repetition, must not begin a second connection. A letter says by its `hop` how far
it has come, so none goes round in circles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from spooky.handover import Steering
from spooky.protocol import cid as cids
from spooky.protocol.datagram import Kind
from spooky.shm.instance import Admission, Cell, Serving
from spooky.shm.processes import ProcessState
from spooky.shm.segment import SharedMemory

DETOUR_MS = 5_000
"""How long a client may go on with a first flight: the first repetitions come after 1 and 3 s."""


class Hop(IntEnum):
    """How far a letter has come."""

    DIRECT = 0
    """To the slot that its connection ID names."""
    DETOUR = 1
    """To the generation before, which may know it."""
    FINAL = 2
    """To the one who begins a connection with it."""


class Verdict(Enum):
    """What becomes of a datagram here."""

    OPEN = "open"
    REFUSE = "refuse"
    RESET = "reset"
    """Its connection is gone: tell the client so (RFC 9000 section 10.3)."""
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class HandOver:
    """It goes to another worker. `late`: it wants a connection of one that takes none any more."""

    slot: int
    hop: Hop
    late: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a datagram came here.

    `place` is that of the socket in its group; None where it was handed over, by `sender`.
    `is_shared`: see `handover.BoundListener`.
    """

    place: int | None = None
    hop: Hop | None = None
    sender: int = 0
    is_shared: bool = False


class Steerer:
    """The decisions of one worker."""

    def __init__(
        self,
        slot: int,
        generation: int,
        steering: Steering,
        memory: SharedMemory,
        now_ms: Callable[[], int],
    ) -> None:
        self._slot = slot
        self._generation = generation
        self._steering = steering
        self._instance = memory.instance
        self._processes = memory.processes
        self._now_ms = now_ms

    def is_serving(self) -> bool:
        """Say whether this worker's generation is the one that serves new clients."""
        return self._instance.serving().generation == self._generation

    def decide(self, kind: Kind, dcid: bytes, arrival: Arrival) -> Verdict | HandOver:
        """Say what becomes of a datagram that is for no connection of this worker."""
        if cids.is_ours(dcid):
            owner = cids.slot_of(dcid)
            # The slot in a Retry's connection ID may be that of a worker that drains by now.
            is_passed_on = arrival.hop is Hop.FINAL and kind is Kind.INITIAL
            if owner != self._slot and not is_passed_on and self._is_there(owner):
                # Not a second time: its owner would have known what to do.
                return Verdict.DROP if arrival.hop is not None else HandOver(owner, Hop.DIRECT)
            if kind is Kind.SHORT:
                return Verdict.RESET
        return self._decide_new(dcid, arrival) if kind is Kind.INITIAL else Verdict.DROP

    def _decide_new(self, dcid: bytes, arrival: Arrival) -> Verdict | HandOver:
        serving = self._instance.serving()
        if serving.generation != self._generation:
            if arrival.hop is Hop.DETOUR:
                return HandOver(arrival.sender, Hop.FINAL)
            return HandOver(self._heir(serving, dcid, arrival), Hop.FINAL, late=True)
        if self._instance.admission is not Admission.OPEN:
            return Verdict.REFUSE
        if arrival.hop is Hop.FINAL:
            return Verdict.OPEN
        before = self._predecessor(dcid, arrival)
        if before is not None:
            return HandOver(before, Hop.DETOUR)
        if arrival.is_shared:
            chosen = serving.first + cids.spread(dcid, serving.workers)
            if chosen != self._slot and self._is_there(chosen):
                return HandOver(chosen, Hop.FINAL)
        return Verdict.OPEN

    def _is_there(self, slot: int) -> bool:
        return self._processes.state(slot) is not ProcessState.GONE

    def _heir(self, serving: Serving, dcid: bytes, arrival: Arrival) -> int:
        """Say which worker of another generation has the clients of this one's socket."""
        if self._steering is Steering.KERNEL or arrival.place is None or arrival.is_shared:
            return serving.first + cids.spread(dcid, serving.workers)
        return serving.first + arrival.place % serving.workers

    def _predecessor(self, dcid: bytes, arrival: Arrival) -> int | None:
        """Say who may know of a client from before the last reload; None: nobody any more."""
        since = self._now_ms() - self._instance.get(Cell.SERVING_SINCE_MS)
        previous = self._instance.previous()
        if since > DETOUR_MS or previous.generation == 0:
            return None
        slot = self._heir(previous, dcid, arrival)
        return slot if self._is_there(slot) else None
