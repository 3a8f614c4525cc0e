"""What the master binds: groups and their places, options, refusals, who gets which."""

import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooky.config.limits import Limits
from spooky.config.model import Admin, Certificate, Listener, ListenTls
from spooky.errors import StartupError
from spooky.handover import Steering
from spooky.master import sockets as module
from spooky.master import steer
from spooky.master.activation import Kind, Passed
from spooky.master.bind import IP_PKTINFO, bind_tcp, bind_udp
from spooky.master.sockets import SMALLEST_GROUP, Crew, Sockets

TLS = ListenTls(Certificate())
SMALL = Limits(udp_receive_buffer=64 * 1024, udp_send_buffer=64 * 1024)
OFF = Admin(port=0)
WISHES = ("kernel", "userspace")

Make = Callable[..., Sockets]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes sockets with room for a number of workers, and closes them in the end."""
    made: list[Sockets] = []

    def make_for(workers: int, wish: str = "auto") -> Sockets:
        sockets = Sockets(wish)
        made.append(sockets)
        sockets.make_room(workers, workers, SMALL)
        return sockets

    yield make_for
    for sockets in made:
        sockets.close_except([])


def listener(address: str = "127.0.0.1", port: int = 0) -> Listener:
    return Listener(TLS, address=address, port=port)


def group(sockets: Sockets, where: Listener) -> list[socket.socket]:
    """List the sockets of a listener, in the order of their places."""
    workers = 256
    (bound,) = sockets.listeners_of([where], Crew(0, 1), 0)[:1]
    if sockets.steering is Steering.USERSPACE:
        return [one for _, one in bound.reads]
    found = []
    for slot in range(workers):
        (bound,) = sockets.listeners_of([where], Crew(slot, 1), 0)
        found += [one for _, one in bound.reads]
    return found


# --- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", WISHES)
def test_each_worker_has_its_own_socket_on_the_one_port(make: Make, wish: str) -> None:
    sockets = make(3, wish)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    mine = [sockets.listeners_of([where], Crew(0, 3), index)[0].sender for index in range(3)]
    assert len({one.fileno() for one in mine}) == 3
    assert len({one.getsockname() for one in mine}) == 1
    for one in mine:
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert not one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert not one.getblocking()
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 == 64 * 1024
        assert not one.getsockopt(socket.IPPROTO_IP, IP_PKTINFO), "the kernel knows the address"


@pytest.mark.parametrize(
    ("address", "level", "option"),
    [
        ("0.0.0.0", socket.IPPROTO_IP, IP_PKTINFO),
        ("::", socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO),
    ],
)
def test_a_wildcard_socket_says_which_address_was_written_to(
    make: Make, address: str, level: int, option: int
) -> None:
    sockets = make(1)
    where = listener(address)
    sockets.bind([where], OFF, SMALL)
    assert [one.getsockopt(level, option) for one in group(sockets, where)] == [1] * SMALLEST_GROUP


def test_both_wildcards_share_a_port(make: Make) -> None:
    sockets = make(1)
    first = listener("0.0.0.0")
    sockets.bind([first], OFF, SMALL)
    port = group(sockets, first)[0].getsockname()[1]
    sockets.bind([first, listener("::", port)], OFF, SMALL)


# --- groups ------------------------------------------------------------------------------------


def test_binding_again_keeps_what_there_is(make: Make) -> None:
    sockets = make(1)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    before = group(sockets, where)
    sockets.bind([where, listener("127.0.0.2")], OFF, SMALL)
    assert group(sockets, where) == before
    sockets.keep_only([where], [])
    assert before[0].fileno() >= 0
    with pytest.raises(KeyError):
        group(sockets, listener("127.0.0.2"))
    sockets.keep_only([], [])
    assert {one.fileno() for one in before} == {-1}


def test_a_group_has_two_sockets_at_least_for_a_program_needs_a_group(make: Make) -> None:
    sockets = make(1)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    assert len(group(sockets, where)) == SMALLEST_GROUP


@pytest.mark.parametrize("wish", WISHES)
def test_groups_grow_at_the_end_and_never_shrink(make: Make, wish: str) -> None:
    sockets = make(2, wish)
    first, second = listener(), listener("127.0.0.2")
    sockets.bind([first], OFF, SMALL)
    before = group(sockets, first)
    assert len(before) == 2
    sockets.make_room(5, 5, SMALL)
    grown = group(sockets, first)
    assert (grown[:2], len(grown)) == (before, 5)
    assert len({one.getsockname() for one in grown}) == 1
    assert grown[-1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 == 64 * 1024
    sockets.make_room(3, 3, SMALL)
    assert group(sockets, first) == grown
    sockets.bind([first, second], OFF, SMALL)
    assert len(group(sockets, second)) == 5, "a new address begins as large as the others"


def test_in_the_kernel_there_is_a_place_for_each_slot(make: Make) -> None:
    sockets = make(2, "kernel")
    where = listener()
    sockets.bind([where], OFF, SMALL)
    sockets.make_room(7, 3, SMALL)
    places = group(sockets, where)
    assert len(places) == 7
    for crew in (Crew(0, 2), Crew(2, 2), Crew(4, 3)):
        for index in range(crew.workers):
            (bound,) = sockets.listeners_of([where], crew, index)
            slot = crew.first + index
            assert bound.reads == ((slot, places[slot]),)
            assert bound.sender is places[slot]
            assert not bound.is_shared


def test_in_userspace_workers_share_all_places_whatever_their_slots(make: Make) -> None:
    sockets = make(2, "userspace")
    where = listener()
    sockets.bind([where], OFF, SMALL)
    sockets.make_room(9, 5, SMALL)
    places = group(sockets, where)
    assert len(places) == 5
    for crew in (Crew(0, 2), Crew(2, 2), Crew(7, 3), Crew(4, 5)):
        found = [sockets.listeners_of([where], crew, index)[0] for index in range(crew.workers)]
        read = [dict(bound.reads) for bound in found]
        assert [sorted(one) for one in read] == [
            [*range(index, 5, crew.workers)] for index in range(crew.workers)
        ]
        for bound, mine in zip(found, read, strict=True):
            assert all(udp is places[place] for place, udp in mine.items())
            assert bound.sender is bound.reads[0][1]
            assert not bound.is_shared


def test_with_fewer_sockets_than_workers_they_are_shared(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = make(2, "userspace")
    where = listener()
    sockets.bind([where], OFF, SMALL)
    places = group(sockets, where)
    found = [sockets.listeners_of([where], Crew(2, 3), index)[0] for index in range(3)]
    assert [bound.reads for bound in found] == [((0, places[0]),), ((1, places[1]),), ()]
    assert found[2].sender is places[0]
    assert all(bound.is_shared for bound in found)


def test_who_serves_no_more_of_an_address_still_reads_it_in_userspace(make: Make) -> None:
    sockets = make(2, "userspace")
    old, new = listener(), listener("127.0.0.2")
    sockets.bind([old], OFF, SMALL)
    sockets.bind([new], OFF, SMALL)
    first, left = sockets.listeners_of([new], Crew(2, 2), 1)
    assert (first.number, first.listener) == (1, new)
    assert (left.number, left.listener) == (0, None)
    assert left.reads == ((1, group(sockets, old)[1]),)


def test_the_number_of_an_address_lasts(make: Make) -> None:
    sockets = make(1)
    one, two = listener(), listener("127.0.0.2")
    sockets.bind([one, two], OFF, SMALL)
    found = sockets.listeners_of([two, one], Crew(0, 1), 0)
    assert [(bound.number, bound.listener) for bound in found] == [(1, two), (0, one)]
    sockets.keep_only([two], [])
    three = listener("127.0.0.3")
    sockets.bind([two, three], OFF, SMALL)
    found = sockets.listeners_of([two, three], Crew(0, 1), 0)
    assert [bound.number for bound in found] == [1, 2], "none is given out twice"


# --- which way of steering ---------------------------------------------------------------------


def refuse(udp: socket.socket, program: steer.Program) -> None:
    raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))


def test_the_kernel_steers_where_nothing_else_is_wished(make: Make) -> None:
    sockets = make(2)
    sockets.bind([listener()], OFF, SMALL)
    assert sockets.steering is Steering.KERNEL


def test_where_the_kernel_cannot_workers_do(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steer, "attach", refuse)
    sockets = make(2)
    where = listener()
    sockets.bind([where, listener("127.0.0.2")], OFF, SMALL)
    assert sockets.steering is Steering.USERSPACE
    assert caplog.messages.count(
        "the kernel does not steer datagrams to workers (Protocol not available): "
        "workers hand them over to one another"
    ) == len(caplog.messages)
    assert len(caplog.messages) == 1
    # Then places are for workers, not for slots.
    sockets.make_room(9, 2, SMALL)
    assert len(group(sockets, where)) == 2


def test_where_the_kernel_has_to_and_cannot_the_start_fails(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer, "attach", refuse)
    sockets = make(2, "kernel")
    with pytest.raises(StartupError, match=r"Protocol not available\): set `steering: userspace`"):
        sockets.bind([listener()], OFF, SMALL)
    with pytest.raises(KeyError):
        group(sockets, listener())


def test_an_address_that_comes_later_does_not_change_the_way(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = make(2)
    sockets.bind([listener()], OFF, SMALL)
    monkeypatch.setattr(steer, "attach", refuse)
    with pytest.raises(StartupError, match="set `steering: userspace`"):
        sockets.bind([listener(), listener("127.0.0.2")], OFF, SMALL)
    assert sockets.steering is Steering.KERNEL


@pytest.mark.parametrize("wish", WISHES)
def test_only_the_addresses_that_are_served_are_steered(
    make: Make, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    sockets = make(4, wish)
    one, two = listener(), listener("127.0.0.2")
    sockets.bind([one, two], OFF, SMALL)
    told: list[tuple[socket.socket, steer.Program]] = []
    monkeypatch.setattr(steer, "attach", lambda udp, program: told.append((udp, program)))
    sockets.steer({("127.0.0.2", 0): Crew(2, 2)}, [Crew(0, 2), Crew(2, 2)])
    program = steer.Program(serving=(2, 2), living=((0, 2), (2, 2)))
    kernel = [(group(sockets, two)[0], program)]
    assert told == (kernel if wish == "kernel" else [])


def test_what_the_kernel_cannot_be_told_later_is_logged(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sockets = make(2)
    sockets.bind([listener()], OFF, SMALL)
    monkeypatch.setattr(steer, "attach", refuse)
    sockets.steer({("127.0.0.1", 0): Crew(0, 2)}, [Crew(0, 2)])
    assert "steering of udp 127.0.0.1:0: Protocol not available" in caplog.text


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", WISHES)
def test_a_refusal_leaves_nothing_new_behind(make: Make, wish: str) -> None:
    sockets = make(2, wish)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        # Even where the other would share it, it is not ours to share.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        fresh = listener("127.0.0.3")
        with pytest.raises(StartupError, match=f"cannot bind udp 127.0.0.1:{port}: .*in use"):
            sockets.bind([fresh, listener(port=port)], OFF, SMALL)
    with pytest.raises(KeyError):
        group(sockets, fresh)


@pytest.mark.parametrize("first", WISHES)
@pytest.mark.parametrize("second", WISHES)
@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
@pytest.mark.parametrize("turned", [False, True])
def test_a_second_master_on_the_same_port_is_refused(
    make: Make, first: str, second: str, addresses: tuple[str, str], turned: bool
) -> None:
    here, there = reversed(addresses) if turned else addresses
    masters = make(2, first), make(3, second)
    masters[0].bind([listener(here)], OFF, SMALL)
    port = group(masters[0], listener(here))[0].getsockname()[1]
    with pytest.raises(StartupError, match=f":{port}: the address is already in use"):
        masters[1].bind([listener(there, port)], OFF, SMALL)


def test_a_group_that_cannot_grow_is_an_error_and_stays(make: Make) -> None:
    sockets = make(2)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    before = group(sockets, where)
    for one in before:
        # Without the option nobody else may join; so would a system that has run out of sockets.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    with pytest.raises(StartupError, match=r"cannot bind udp 127\.0\.0\.1:"):
        sockets.make_room(4, 2, SMALL)
    assert group(sockets, where) == before


def test_an_address_of_another_machine_is_refused(make: Make) -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1:.* does not have that address"):
        make(1).bind([listener("192.0.2.1")], OFF, SMALL)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
def test_a_low_port_without_the_right_is_explained(make: Make) -> None:
    with pytest.raises(StartupError, match="no right to bind a port below 1024"):
        make(1).bind([listener(port=443)], OFF, SMALL)


def test_the_admin_socket_is_taken_once_and_kept(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        admin = Admin(port=probe.getsockname()[1])
    sockets = make(1)
    sockets.bind([], admin, SMALL)
    assert sockets.admin_of(OFF) is None
    bound = sockets.admin_of(admin)
    sockets.bind([], admin, SMALL)
    assert sockets.admin_of(admin) is bound
    with pytest.raises(StartupError, match="cannot bind the admin endpoint"):
        make(1).bind([], admin, SMALL)


# --- mailboxes ---------------------------------------------------------------------------------


def test_what_is_in_a_mailbox_waits_for_its_reader(make: Make) -> None:
    sockets = make(2)
    first, third = sockets.mailboxes_of(0), sockets.mailboxes_of(2)
    for number in range(500):
        first.of[2].send(number.to_bytes(2, "big") + bytes(1200))
    assert [third.mine.recv(2000)[:2] for _ in range(500)] == [
        number.to_bytes(2, "big") for number in range(500)
    ]
    with pytest.raises(BlockingIOError):
        first.mine.recv(2000)


def test_there_are_mailboxes_for_slots_that_come_later(make: Make) -> None:
    sockets = make(2)
    before = sockets.mailboxes_of(0)
    assert len(before.of) == 16
    sockets.make_room(10, 2, SMALL)
    assert sockets.mailboxes_of(0) == before
    sockets.make_room(20, 2, SMALL)
    assert sockets.mailboxes_of(0).of[:16] == before.of
    assert len(sockets.mailboxes_of(19).of) == 20


def test_a_child_closes_what_is_not_its_own(make: Make) -> None:
    sockets = make(2)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    mine, other = group(sockets, where)
    boxes = sockets.mailboxes_of(1)
    sockets.close_except([mine, boxes.mine, *boxes.of])
    assert mine.fileno() >= 0
    assert other.fileno() == -1
    assert boxes.mine.fileno() >= 0
    assert sockets.mailboxes_of(0).mine.fileno() == -1


# --- buffers -----------------------------------------------------------------------------------

UNPRIVILEGED = """
import logging, os
from spooky.config.model import *
from spooky.master.sockets import Sockets
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
logging.basicConfig(format="%(levelname)s %(message)s")
listeners = [Listener(ListenTls(Certificate()), address=f"127.0.0.{n}", port=0) for n in (1, 2)]
limits = Limits(udp_receive_buffer=1 << 29)
sockets = Sockets("auto")
for workers in (2, 3):
    sockets.make_room(workers, workers, limits)
    sockets.bind(listeners, Admin(port=0), limits)
"""


def test_one_warning_for_all_sockets_when_the_kernel_gives_less() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    warnings = [line for line in done.stderr.splitlines() if "receive buffer" in line]
    assert len(warnings) == 1, done.stderr
    assert "wanted 512.0 MiB" in warnings[0]
    assert "net.core.rmem_max=536870912" in warnings[0]


def test_what_is_bound_is_told(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, module.log.name):
        sockets = make(1)
        sockets.bind([listener("::1")], OFF, SMALL)
        sockets.keep_only([], [])
    assert caplog.messages == [
        "listening on udp [::1]:0",
        "no longer listening on udp [::1]:0",
    ]


def test_what_was_passed_and_is_not_wanted_is_closed(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    sockets = make(1)
    udp, tcp = bind_udp("127.0.0.1", 0, is_first=True), bind_tcp("127.0.0.1", 0)
    sockets.give(
        Passed(one, kind, "127.0.0.1", one.getsockname()[1], "")
        for one, kind in ((udp, Kind.UDP), (tcp, Kind.TCP))
    )
    sockets.refuse_the_rest(OFF)
    assert (udp.fileno(), tcp.fileno()) == (-1, -1)
    assert "passed, but no listener: udp 127.0.0.1:" in caplog.text
    assert "passed, but not the admin endpoint: tcp 127.0.0.1:" in caplog.text
