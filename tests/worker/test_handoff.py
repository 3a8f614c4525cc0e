"""Letters between workers: sealed and unsealed the same, counted, dropped when the box is full."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.handover import Mailboxes
from spooky.protocol.messages import Path
from spooky.worker.handoff import READS_PER_WAKEUP, Handoff, Letter, seal, unseal
from spooky.worker.steering import Hop

ports = st.integers(0, 65535)
words = st.integers(0, 2**32 - 1)
v4 = st.builds(
    Path,
    st.tuples(st.ip_addresses(v=4).map(str), ports),
    st.none() | st.binary(min_size=4, max_size=4),
    words,
)
v6 = st.builds(
    Path,
    st.tuples(st.ip_addresses(v=6).map(str), ports, words, words),
    st.none() | st.binary(min_size=16, max_size=16),
    words,
)
octets = st.integers(0, 255)
letters = st.builds(
    Letter,
    st.integers(0, 65535),
    v4 | v6,
    st.binary(max_size=1500),
    st.sampled_from(Hop),
    octets,
)


@given(letters)
def test_a_letter_is_unsealed_as_it_was_sealed(letter: Letter) -> None:
    assert unseal(seal(letter)) == letter


def test_a_zone_is_carried_by_its_number() -> None:
    path = Path(("fe80::1%eth0", 443, 0, 7), ipaddress.ip_address("fe80::2").packed, 7)
    assert unseal(seal(Letter(0, path, b"x", Hop.DIRECT, 0))).path == Path(
        ("fe80::1", 443, 0, 7), path.local, path.interface
    )


@pytest.fixture
def offices() -> Iterator[list[Handoff]]:
    """Make the mailboxes of three slots."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3)]
    for ends in pairs:
        for end in ends:
            end.setblocking(False)
    writing = tuple(pair[1] for pair in pairs)
    yield [Handoff(slot, Mailboxes(pairs[slot][0], writing)) for slot in range(3)]
    for ends in pairs:
        for end in ends:
            end.close()


def letter(number: int, size: int = 20) -> Letter:
    path = Path(("192.0.2.1", number), b"\xc0\x00\x02\x07")
    return Letter(1, path, bytes([number % 251]) * size, Hop.DIRECT, 0)


def test_letters_reach_their_slot_in_order(offices: list[Handoff]) -> None:
    here, there, other = offices
    sent = [letter(number) for number in range(5)]
    for each in sent:
        here.send(1, each)
    assert there.receive() == sent
    assert (there.receive(), other.receive(), here.receive()) == ([], [], [])
    assert (here.sent, here.dropped, there.received) == (5, 0, 5)
    assert there.socket.fileno() != here.socket.fileno()


def test_the_largest_datagram_there_is_fits(offices: list[Handoff]) -> None:
    path = Path(("2001:db8::1", 1, 2, 3), bytes(16), 9)
    largest = Letter(65_535, path, b"d" * 65_527, Hop.FINAL, 255)
    offices[0].send(2, largest)
    assert offices[2].receive() == [largest]


@pytest.mark.parametrize("slot", [3, 255])
def test_a_mailbox_that_was_made_later_drops_and_counts(offices: list[Handoff], slot: int) -> None:
    offices[0].send(slot, letter(1))
    assert (offices[0].sent, offices[0].dropped) == (0, 1)


def test_a_full_mailbox_drops_and_counts_and_recovers(offices: list[Handoff]) -> None:
    here, there, _ = offices
    for number in range(3000):
        here.send(1, letter(number, 1200))
    assert here.dropped > 0
    assert here.sent + here.dropped == 3000
    found: list[Letter] = []
    while batch := there.receive():
        assert len(batch) <= READS_PER_WAKEUP
        found += batch
    assert found == [letter(number, 1200) for number in range(here.sent)]
    assert there.received == here.sent
    here.send(1, letter(7))
    assert there.receive() == [letter(7)]


def test_the_mailbox_of_a_worker_that_is_gone_drops(offices: list[Handoff]) -> None:
    here, there, _ = offices
    there.socket.close()
    here.send(1, letter(1))
    assert (here.sent, here.dropped) == (0, 1)
