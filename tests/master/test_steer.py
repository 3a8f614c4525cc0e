"""The kernel's program against the same rules in Python, datagram by datagram."""

import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooky.master import steer
from spooky.master.bind import bind_udp
from spooky.master.steer import Program
from spooky.protocol import cid
from spooky.protocol.datagram import SMALLEST_SHORT, VERSION_1

PLACES = 34
DATAGRAMS = 20_000

PROGRAMS = {
    "first": Program((0, 2), ((0, 2),)),
    "one worker": Program((3, 1), ((3, 1),)),
    "after reloads": Program((4, 3), ((0, 3), (4, 3), (9, 2))),
    "in any order": Program((0, 3), ((20, 4), (0, 3), (7, 1))),
    "side by side": Program((4, 4), ((0, 4), (4, 4), (8, 1))),
    "nobody lives": Program((5, 5), ()),
    # As many as two masters may have together.
    "many": Program((30, 4), (*((2 * n, 1) for n in range(15)), (30, 4))),
}


def choose(program: Program, data: bytes) -> int:
    """Say which slot a datagram is for."""
    first, count = program.serving
    if len(data) < SMALLEST_SHORT:
        return first
    is_long = bool(data[0] & 0x80)
    start = 6 if is_long else 1
    size = data[5] if is_long else cid.CID_LENGTH
    dcid = data[start : start + size]
    if cid.is_ours(dcid):
        slot = cid.slot_of(dcid)
        if any(start <= slot < start + size for start, size in program.living):
            return slot
    return first + cid.spread(data[start:], count)


class Group:
    """Sockets on one port, as the master binds them, and a client."""

    def __init__(self, address: str) -> None:
        first = bind_udp(address, 0, is_first=True)
        where = first.getsockname()[:2]
        others = [bind_udp(*where, is_first=False) for _ in range(PLACES - 1)]
        self.sockets = [first, *others]
        self.client = socket.socket(first.family, socket.SOCK_DGRAM)
        self.client.connect(where)

    def where(self, data: bytes) -> int:
        """Send a datagram; say at which place it came out. Loopback delivers before it returns."""
        self.client.send(data)
        for place, one in enumerate(self.sockets):
            try:
                found = one.recv(2048)
            except BlockingIOError:
                continue
            assert found == data
            return place
        raise AssertionError("it is nowhere")

    def is_at(self, data: bytes, place: int) -> bool:
        """Send a datagram; say whether it came out there."""
        self.client.send(data)
        try:
            return self.sockets[place].recv(2048) == data
        except BlockingIOError:
            return False

    def close(self) -> None:
        for one in (*self.sockets, self.client):
            one.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    made = Group(request.param)
    yield made
    made.close()


def short(dcid: bytes, size: int = 60) -> bytes:
    return b"\x40" + dcid + bytes(size - 1 - len(dcid))


def long(dcid: bytes, size: int = 1200, first: int = 0xC0) -> bytes:
    head = bytes([first]) + VERSION_1.to_bytes(4, "big") + bytes([len(dcid)]) + dcid
    return head + bytes(max(0, size - len(head)))


def anything(luck: random.Random) -> bytes:
    """Make a datagram of one of the kinds that reach a server, or of none."""
    slot = luck.choice([luck.randrange(PLACES), luck.randrange(256)])
    ours = cid.mint(slot, luck.randbytes(9))
    theirs = luck.randbytes(luck.choice([0, 4, 8, 11, 11, 16, 18, 20]))
    size = luck.choice([luck.randrange(12, 60), 1200])
    kind = luck.random()
    if kind < 0.3:
        data = short(luck.choice([ours, ours, luck.randbytes(11)]), size)
    elif kind < 0.6:
        data = long(luck.choice([ours, theirs]), size, luck.randrange(0x80, 0x100))
    elif kind < 0.8:
        # Cut anywhere, as no peer would.
        data = luck.choice([short(ours), long(ours), long(theirs)])
        return data[: luck.randrange(SMALLEST_SHORT + 4)]
    else:
        return luck.randbytes(luck.randrange(80))
    # Octets after the header are anything, too.
    return data[:26] + luck.randbytes(max(0, len(data) - 26))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_kernel_does_as_choose_says(group: Group, name: str) -> None:
    program = PROGRAMS[name]
    steer.attach(group.sockets[0], program)
    luck = random.Random(name)
    chosen: Counter[int] = Counter()
    for number in range(DATAGRAMS // len(PROGRAMS) + 1):
        data = anything(luck)
        place = choose(program, data)
        assert group.is_at(data, place), f"datagram {number}: {data.hex()} is not at {place}"
        chosen[place] += 1
    living = {slot for first, count in program.living for slot in range(first, first + count)}
    serving = set(range(program.serving[0], sum(program.serving)))
    assert set(chosen) == living | serving


FIRST, COUNT = 4, 3
PROGRAM = Program((FIRST, COUNT), ((0, 3), (4, 3), (9, 2)))
RAND = bytes(range(1, 10))


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", FIRST),
        (b"\x40", FIRST),
        (short(cid.mint(10, RAND), SMALLEST_SHORT), 10),
        (short(cid.mint(10, RAND), SMALLEST_SHORT - 1), FIRST),
        (long(cid.mint(10, RAND)), 10),
        (long(cid.mint(10, RAND), first=0x80), 10),
        # Nobody reads these slots: to those who serve, and always to the same of them.
        (short(cid.mint(3, RAND)), FIRST + 0xEA010203 % COUNT),
        (short(cid.mint(8, RAND)), FIRST + 0xEA010203 % COUNT),
        (long(cid.mint(255, RAND)), FIRST + 0xEA010203 % COUNT),
        # The first and the last of each range.
        *[(short(cid.mint(slot, RAND)), slot) for slot in (0, 2, 4, 6, 9, 10)],
        # What a client has chosen.
        (long(bytes([0, 0, 0, 7]) + bytes(4)), FIRST + 1),
        (long(bytes([0, 0, 0, 8]) + bytes(16)), FIRST + 2),
        (long(bytes([0xFF] * 20)), FIRST + 0xFFFFFFFF % COUNT),
        (short(bytes([0, 0, 0, 8]) + bytes(7)), FIRST + 2),
        # An ID of ours, but for its length.
        (long(cid.mint(10, RAND) + b"x"), FIRST + 0xEA010203 % COUNT),
    ],
)
def test_choose(data: bytes, place: int) -> None:
    assert choose(PROGRAM, data) == place


def test_new_connections_switch_at_once_and_old_ones_stay(group: Group) -> None:
    before = Program((0, 2), ((0, 2), (2, 3)))
    after = Program((2, 3), ((0, 2), (2, 3)))
    luck = random.Random(3)
    old = [short(cid.mint(slot, luck.randbytes(9))) for slot in (0, 1)]
    new = [long(luck.randbytes(8)) for _ in range(60)]
    for _ in range(3):
        for program in (before, after):
            first, count = program.serving
            steer.attach(group.sockets[0], program)
            assert {group.where(data) for data in new} == {*range(first, first + count)}
            assert [group.where(data) for data in old] == [0, 1]


def test_any_socket_of_the_group_will_do(group: Group) -> None:
    steer.attach(group.sockets[-1], Program((7, 1), ((7, 1),)))
    assert group.where(long(b"12345678")) == 7


def test_what_waits_in_a_socket_is_not_moved(group: Group) -> None:
    steer.attach(group.sockets[0], Program((0, 1), ((0, 1),)))
    group.client.send(long(b"12345678"))
    steer.attach(group.sockets[0], Program((1, 1), ((1, 1),)))
    assert group.sockets[0].recv(2048) == long(b"12345678")


def test_a_retransmission_from_another_port_goes_to_the_same_place(group: Group) -> None:
    steer.attach(group.sockets[0], Program((0, PLACES), ((0, PLACES),)))
    luck = random.Random(5)
    for _ in range(20):
        initial = long(luck.randbytes(8))
        place = group.where(initial)
        with socket.socket(group.client.family, socket.SOCK_DGRAM) as other:
            other.sendto(initial, group.sockets[0].getsockname())
        assert group.sockets[place].recv(2048) == initial


def test_a_socket_that_cannot_be_steered_is_an_error() -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as pipe,
        pytest.raises(OSError, match="Invalid argument"),
    ):
        steer.attach(pipe, PROGRAMS["first"])


UNPRIVILEGED = """
import os
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
from spooky.master import steer
from tests.master.test_steer import Group, PROGRAM, RAND, choose, long, short
from spooky.protocol import cid
with open("/proc/self/status") as status:
    assert [line.split()[1] for line in status if line.startswith("CapEff")] == ["0" * 16]
group = Group("127.0.0.1")
steer.attach(group.sockets[0], PROGRAM)
for data in (short(cid.mint(10, RAND)), long(bytes(8)), long(cid.mint(2, RAND))):
    assert group.where(data) == choose(PROGRAM, data)
"""


def test_no_right_is_needed() -> None:
    # Imported before the rights are dropped: the user may not be able to read the sources.
    imports = "from spooky.master import steer\nimport tests.master.test_steer\n"
    subprocess.run(
        [sys.executable, "-c", imports + UNPRIVILEGED],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )
