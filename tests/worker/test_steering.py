"""Every verdict on a datagram that belongs to no connection of the worker."""

import itertools
from dataclasses import dataclass

import pytest

from spooky.handover import Steering
from spooky.protocol import cid as cids
from spooky.protocol.datagram import Kind
from spooky.shm.instance import Admission, Cell, Serving
from spooky.shm.processes import Column, ProcessState
from spooky.shm.segment import SharedMemory
from spooky.worker.steering import DETOUR_MS, Arrival, HandOver, Hop, Steerer, Verdict

SINCE_MS = 1_000_000
"""When the third generation began to serve."""
OLD, NEW = Serving(2, 0, 2), Serving(3, 4, 3)


def slots_of(serving: Serving) -> range:
    return range(serving.first, serving.first + serving.workers)


SOCKET = Arrival(place=0)
SHARED = Arrival(place=0, is_shared=True)
RAND = bytes(range(9))

DIRECT = Arrival(hop=Hop.DIRECT, sender=5)
DETOUR = Arrival(hop=Hop.DETOUR, sender=5)
FINAL = Arrival(hop=Hop.FINAL, sender=5)


def theirs(number: int) -> bytes:
    """Make a connection ID that a client chose, for which `spread` counts from `number`."""
    return number.to_bytes(4, "big") + bytes(4)


@dataclass
class Instance:
    """Slots 0 and 1 belong to generation 2, slots 4 to 6 to generation 3, which serves."""

    memory: SharedMemory
    now_ms: int = SINCE_MS + 2 * DETOUR_MS

    def __post_init__(self) -> None:
        self.memory.instance.promote(OLD, 0)
        self.memory.instance.promote(NEW, SINCE_MS)
        for serving, state in ((OLD, ProcessState.DRAINING), (NEW, ProcessState.READY)):
            for slot in range(serving.first, serving.first + serving.workers):
                self.memory.processes.row(slot).begin(serving.generation)
                self.memory.processes.row(slot).set(Column.STATE, state)

    def at(self, slot: int, steering: Steering = Steering.KERNEL) -> Steerer:
        generation = 2 if slot in slots_of(OLD) else 3
        return Steerer(slot, generation, steering, self.memory, lambda: self.now_ms)

    def soon(self) -> "Instance":
        """Let the reload have been just now."""
        self.now_ms = SINCE_MS + DETOUR_MS
        return self


@pytest.fixture
def instance(memory: SharedMemory) -> Instance:
    return Instance(memory)


def test_who_serves_is_read_out_of_the_memory(instance: Instance) -> None:
    old, new = instance.at(0), instance.at(4)
    assert (old.is_serving(), new.is_serving()) == (False, True)
    instance.memory.instance.promote(Serving(4, 7, 1), 0)
    assert (old.is_serving(), new.is_serving()) == (False, False)


# --- connection IDs of ours --------------------------------------------------------------------

OWNERS = [
    (0, Kind.SHORT, HandOver(0, Hop.DIRECT)),
    (0, Kind.HANDSHAKE, HandOver(0, Hop.DIRECT)),
    (0, Kind.INITIAL, HandOver(0, Hop.DIRECT)),
    (0, Kind.ZERO_RTT, HandOver(0, Hop.DIRECT)),
    (6, Kind.SHORT, HandOver(6, Hop.DIRECT)),
    # Its own, which it does not know: it was of another process of the slot, or is over.
    (4, Kind.SHORT, Verdict.RESET),
    (4, Kind.HANDSHAKE, Verdict.DROP),
    (4, Kind.ZERO_RTT, Verdict.DROP),
    # Nobody has the slot any more.
    (3, Kind.SHORT, Verdict.RESET),
    (3, Kind.HANDSHAKE, Verdict.DROP),
    (3, Kind.RETRY, Verdict.DROP),
    (255, Kind.SHORT, Verdict.RESET),
    # A client may choose what looks like ours.
    (3, Kind.INITIAL, Verdict.OPEN),
    (4, Kind.INITIAL, Verdict.OPEN),
]


@pytest.mark.parametrize("steering", Steering)
@pytest.mark.parametrize(("owner", "kind", "verdict"), OWNERS)
def test_ids_of_ours_name_their_owner(
    instance: Instance,
    steering: Steering,
    owner: int,
    kind: Kind,
    verdict: Verdict | HandOver,
) -> None:
    assert instance.at(4, steering).decide(kind, cids.mint(owner, RAND), SOCKET) == verdict


@pytest.mark.parametrize(
    ("kind", "arrival"),
    [
        *itertools.product([Kind.SHORT, Kind.HANDSHAKE], [DIRECT, DETOUR, FINAL]),
        (Kind.INITIAL, DIRECT),
        (Kind.INITIAL, DETOUR),
    ],
)
def test_a_letter_is_not_handed_to_an_owner_a_second_time(
    instance: Instance, kind: Kind, arrival: Arrival
) -> None:
    assert instance.at(4).decide(kind, cids.mint(0, RAND), arrival) is Verdict.DROP


def test_the_answer_to_a_retry_of_a_worker_that_drains_is_served(instance: Instance) -> None:
    """It handed the client over, whose connection ID still names it."""
    assert instance.at(4).decide(Kind.INITIAL, cids.mint(0, RAND), FINAL) is Verdict.OPEN


@pytest.mark.parametrize("steering", Steering)
def test_the_owner_of_a_letter_that_does_not_know_it_resets(
    instance: Instance, steering: Steering
) -> None:
    for slot in (0, 4):
        steerer = instance.at(slot, steering)
        assert steerer.decide(Kind.SHORT, cids.mint(slot, RAND), DIRECT) is Verdict.RESET


@pytest.mark.parametrize("state", [ProcessState.STARTING, ProcessState.READY])
def test_a_slot_whose_next_process_starts_has_an_owner(
    instance: Instance, state: ProcessState
) -> None:
    instance.memory.processes.row(5).set(Column.STATE, state)
    found = instance.at(4).decide(Kind.SHORT, cids.mint(5, RAND), SOCKET)
    assert found == HandOver(5, Hop.DIRECT)
    instance.memory.processes.row(5).end()
    assert instance.at(4).decide(Kind.SHORT, cids.mint(5, RAND), SOCKET) is Verdict.RESET


# --- connection IDs of theirs ------------------------------------------------------------------


@pytest.mark.parametrize("slot", [0, 4])
@pytest.mark.parametrize(
    "kind", [Kind.SHORT, Kind.HANDSHAKE, Kind.ZERO_RTT, Kind.RETRY, Kind.VERSION_NEGOTIATION]
)
def test_only_an_initial_begins_anything(instance: Instance, kind: Kind, slot: int) -> None:
    assert instance.at(slot).decide(kind, theirs(1), SOCKET) is Verdict.DROP


@pytest.mark.parametrize("steering", Steering)
@pytest.mark.parametrize("arrival", [SOCKET, DIRECT, FINAL])
def test_who_serves_opens(instance: Instance, steering: Steering, arrival: Arrival) -> None:
    assert instance.at(4, steering).decide(Kind.INITIAL, theirs(1), arrival) is Verdict.OPEN


@pytest.mark.parametrize("admission", [Admission.DRAINED, Admission.STOPPING])
@pytest.mark.parametrize("arrival", [SOCKET, SHARED, DIRECT, FINAL])
def test_who_serves_refuses_when_nobody_is_to_come_in(
    instance: Instance, admission: Admission, arrival: Arrival
) -> None:
    instance.memory.instance.set(Cell.ADMISSION, admission)
    assert instance.soon().at(4).decide(Kind.INITIAL, theirs(1), arrival) is Verdict.REFUSE
    # What belongs to somebody still reaches him.
    found = instance.at(4).decide(Kind.SHORT, cids.mint(0, RAND), SOCKET)
    assert found == HandOver(0, Hop.DIRECT)


@pytest.mark.parametrize(
    ("steering", "arrival", "number", "slot"),
    [
        # In the kernel's way by the client's ID, from 4 to 6.
        (Steering.KERNEL, SOCKET, 0, 4),
        (Steering.KERNEL, SOCKET, 1, 5),
        (Steering.KERNEL, Arrival(place=1), 5, 6),
        # In userspace by the socket, which the successor reads.
        (Steering.USERSPACE, Arrival(place=0), 1, 4),
        (Steering.USERSPACE, Arrival(place=1), 0, 5),
        (Steering.USERSPACE, Arrival(place=5), 0, 6),
        (Steering.USERSPACE, Arrival(place=1, is_shared=True), 2, 6),
        (Steering.USERSPACE, FINAL, 2, 6),
    ],
)
def test_who_serves_no_more_hands_new_clients_on(
    instance: Instance, steering: Steering, arrival: Arrival, number: int, slot: int
) -> None:
    found = instance.at(1, steering).decide(Kind.INITIAL, theirs(number), arrival)
    assert found == HandOver(slot, Hop.FINAL, late=True)


# --- just after a reload -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steering", "arrival", "number", "slot"),
    [
        (Steering.KERNEL, SOCKET, 0, 0),
        (Steering.KERNEL, SOCKET, 1, 1),
        (Steering.USERSPACE, Arrival(place=0), 1, 0),
        (Steering.USERSPACE, Arrival(place=1), 0, 1),
        (Steering.USERSPACE, Arrival(place=2), 1, 0),
        (Steering.USERSPACE, SHARED, 1, 1),
        (Steering.KERNEL, DIRECT, 1, 1),
    ],
)
def test_the_generation_before_is_asked_first(
    instance: Instance, steering: Steering, arrival: Arrival, number: int, slot: int
) -> None:
    new = instance.soon().at(4, steering)
    assert new.decide(Kind.INITIAL, theirs(number), arrival) == HandOver(slot, Hop.DETOUR)


def test_one_that_does_not_know_the_client_sends_the_letter_back(instance: Instance) -> None:
    asked = instance.soon().at(4).decide(Kind.INITIAL, theirs(1), SOCKET)
    assert asked == HandOver(1, Hop.DETOUR)
    arrival = Arrival(hop=Hop.DETOUR, sender=4)
    back = instance.at(1).decide(Kind.INITIAL, theirs(1), arrival)
    assert back == HandOver(4, Hop.FINAL)
    arrival = Arrival(hop=Hop.FINAL, sender=1)
    assert instance.at(4).decide(Kind.INITIAL, theirs(1), arrival) is Verdict.OPEN


def test_the_detour_is_over_in_time(instance: Instance) -> None:
    instance.soon().now_ms += 1
    assert instance.at(4).decide(Kind.INITIAL, theirs(1), SOCKET) is Verdict.OPEN


def test_nobody_is_asked_who_is_gone(instance: Instance) -> None:
    instance.soon().memory.processes.row(1).end()
    assert instance.at(4).decide(Kind.INITIAL, theirs(1), SOCKET) is Verdict.OPEN
    assert instance.at(4).decide(Kind.INITIAL, theirs(2), SOCKET) == HandOver(0, Hop.DETOUR)


def test_before_the_first_reload_there_is_nobody_to_ask(memory: SharedMemory) -> None:
    memory.instance.promote(Serving(1, 0, 1), 100)
    memory.processes.row(0).begin(1)
    steerer = Steerer(0, 1, Steering.KERNEL, memory, lambda: 100)
    assert steerer.decide(Kind.INITIAL, theirs(1), SOCKET) is Verdict.OPEN


# --- fewer sockets than workers ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (0, Verdict.OPEN),
        (1, HandOver(5, Hop.FINAL)),
        (2, HandOver(6, Hop.FINAL)),
        (3, Verdict.OPEN),
    ],
)
def test_who_reads_a_shared_socket_gives_all_their_part(
    instance: Instance, number: int, verdict: Verdict | HandOver
) -> None:
    reader = instance.at(4, Steering.USERSPACE)
    assert reader.decide(Kind.INITIAL, theirs(number), SHARED) == verdict
    instance.memory.processes.row(5).end()
    instance.memory.processes.row(6).end()
    assert reader.decide(Kind.INITIAL, theirs(number), SHARED) is Verdict.OPEN


# --- no letter goes round in circles -----------------------------------------------------------


@pytest.mark.parametrize("steering", Steering)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("begin", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("lost", [None, 0, 1, 4, 5, 6])
def test_every_datagram_comes_to_rest_with_one_worker(
    instance: Instance, steering: Steering, shared: bool, begin: int, lost: int | None
) -> None:
    if lost is not None:
        instance.memory.processes.row(lost).end()
    ids = [theirs(number) for number in range(6)] + [cids.mint(slot, RAND) for slot in range(8)]
    for now_ms in (SINCE_MS, SINCE_MS + 2 * DETOUR_MS):
        instance.now_ms = now_ms
        for dcid in ids:
            for kind in (Kind.INITIAL, Kind.SHORT):
                slot, arrival = begin, Arrival(place=0, is_shared=shared)
                for _ in range(4):
                    found = instance.at(slot, steering).decide(kind, dcid, arrival)
                    if isinstance(found, Verdict):
                        break
                    arrival = Arrival(hop=found.hop, sender=slot)
                    slot = found.slot
                assert isinstance(found, Verdict), f"{dcid.hex()} is still under way"
                if found is Verdict.OPEN:
                    assert slot in slots_of(NEW), "a worker opened that does not serve"
