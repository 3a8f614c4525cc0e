"""Who may begin a connection, as two workers see it."""

from dataclasses import replace
from typing import Any, cast

import pytest

from spooky.bounds import Bound
from spooky.config.limits import Limits
from spooky.protocol.messages import Path
from spooky.shm.bounds import BoundTable
from spooky.shm.connections import ConnectionTable
from spooky.worker.client import Client
from spooky.worker.door import Door

KEY = b"k" * 32
NONE = Limits(connections=0, connections_per_address=0, handshakes=0, connections_per_second=0)


class Caller:
    """A client connection, as far as the door looks at it."""

    def __init__(self, address: str) -> None:
        self.path = Path((address, 40000))


def caller(address: str = "192.0.2.1") -> Client:
    return cast("Client", Caller(address))


class Doors:
    """Two workers with the same bounds."""

    def __init__(self, **limits: int) -> None:
        def cells(count: int) -> "memoryview[int]":
            return memoryview(bytearray(8 * count)).cast("Q")

        self.now = 100.0
        self.table = ConnectionTable(cells(ConnectionTable.cells_needed(2)), 2)
        self.bounds = BoundTable(cells(BoundTable.cells_needed(2)), 2)
        settings = replace(NONE, **cast("Any", limits))
        self.one, self.other = (
            Door(self.table.counts(i), settings, self.bounds.counts(i), KEY, lambda: self.now)
            for i in range(2)
        )

    def reached(self) -> dict[str, int]:
        """What was counted."""
        return {name: times for name, times in self.bounds.totals().items() if times}


@pytest.mark.parametrize(
    "bound", [Bound.CONNECTIONS, Bound.HANDSHAKES, Bound.CONNECTIONS_PER_SECOND]
)
def test_a_bound_holds_over_both_workers(bound: Bound) -> None:
    doors = Doors(**{bound.name.lower(): 2})
    assert not doors.one.is_closed("192.0.2.1")
    doors.one.begin()
    assert not doors.other.is_closed("192.0.2.2")
    doors.other.begin()
    for door in (doors.one, doors.other):
        assert door.is_closed("192.0.2.3")
    assert doors.reached() == {bound.name.lower(): 2}


def test_what_makes_room_again() -> None:
    doors = Doors(handshakes=1)
    client = caller()
    doors.one.begin()
    assert doors.one.complete(client)
    assert not doors.one.is_closed("192.0.2.1")
    doors = Doors(connections=1)
    doors.one.begin()
    doors.one.complete(client)
    assert doors.one.is_closed("192.0.2.1")
    doors.one.end(client)
    assert not doors.one.is_closed("192.0.2.1")
    doors = Doors(connections_per_second=1)
    doors.one.begin()
    assert doors.one.is_closed("192.0.2.1")
    doors.now += 1
    assert not doors.one.is_closed("192.0.2.1")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:0:0:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_an_address_has_so_many(first: str, second: str, same: bool) -> None:
    doors = Doors(connections_per_address=1)
    doors.one.begin()
    assert doors.one.complete(caller(first))
    assert doors.other.is_closed(second) is same
    assert doors.reached() == ({"connections_per_address": 1} if same else {})


def test_a_forged_address_uses_nothing_up() -> None:
    """Only a handshake that is complete proves it; too many that end at once are told of then."""
    doors = Doors(connections_per_address=1)
    for _ in range(5):
        doors.one.begin()
    assert not doors.one.is_closed("192.0.2.1")
    clients = [caller() for _ in range(3)]
    assert [doors.one.complete(client) for client in clients] == [True, False, False]
    assert doors.reached() == {"connections_per_address": 2}
    for client in clients:
        doors.one.end(client)
    assert not doors.other.is_closed("192.0.2.1")


def test_no_bound() -> None:
    doors = Doors()
    for _ in range(100):
        doors.one.begin()
        doors.one.complete(caller())
    assert not doors.other.is_closed("192.0.2.1")
    assert doors.reached() == {}
