"""What the master binds: options, order, buffers, refusals."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooky.config.model import Admin, Certificate, Limits, Listener, ListenTls
from spooky.errors import StartupError
from spooky.master.sockets import IP_PKTINFO, MIB, Sockets, format_address, shortage

TLS = ListenTls(Certificate())
SMALL = Limits(udp_receive_buffer=64 * 1024, udp_send_buffer=64 * 1024)
OFF = Admin(port=0)


@pytest.fixture
def make() -> Iterator[Callable[[int], Sockets]]:
    """Makes the sockets of a number of workers, and closes them in the end."""
    made: list[Sockets] = []

    def make_for(workers: int) -> Sockets:
        made.append(Sockets(workers))
        return made[-1]

    yield make_for
    for sockets in made:
        sockets.close_except([])


def listener(address: str = "127.0.0.1", port: int = 0) -> Listener:
    return Listener(TLS, address=address, port=port)


def test_each_worker_has_its_own_socket_on_the_one_port(make: Callable[[int], Sockets]) -> None:
    sockets = make(3)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    mine = [sockets.listeners_of([where], index)[0].socket for index in range(3)]
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
    make: Callable[[int], Sockets], address: str, level: int, option: int
) -> None:
    sockets = make(1)
    where = listener(address)
    sockets.bind([where], OFF, SMALL)
    (bound,) = sockets.listeners_of([where], 0)
    assert bound.socket.getsockopt(level, option)


def test_both_wildcards_share_a_port(make: Callable[[int], Sockets]) -> None:
    sockets = make(1)
    first = listener("0.0.0.0")
    sockets.bind([first], OFF, SMALL)
    port = sockets.listeners_of([first], 0)[0].socket.getsockname()[1]
    sockets.bind([first, listener("::", port)], OFF, SMALL)


def test_binding_again_keeps_what_there_is(make: Callable[[int], Sockets]) -> None:
    sockets = make(1)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    before = sockets.listeners_of([where], 0)[0].socket
    sockets.bind([where, listener("127.0.0.2")], OFF, SMALL)
    assert sockets.listeners_of([where], 0)[0].socket is before
    sockets.keep_only([where], [])
    assert before.fileno() >= 0
    with pytest.raises(KeyError):
        sockets.listeners_of([listener("127.0.0.2")], 0)
    sockets.keep_only([], [])
    assert before.fileno() == -1


def test_a_refusal_leaves_nothing_new_behind(make: Callable[[int], Sockets]) -> None:
    sockets = make(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        # Even where the other would share it, it is not ours to share.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        fresh = listener("127.0.0.3")
        with pytest.raises(StartupError, match=f"cannot bind udp 127.0.0.1:{port}: .*in use"):
            sockets.bind([fresh, listener(port=port)], OFF, SMALL)
    with pytest.raises(KeyError):
        sockets.listeners_of([fresh], 0)


def test_an_address_of_another_machine_is_refused(make: Callable[[int], Sockets]) -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1:.* does not have that address"):
        make(1).bind([listener("192.0.2.1")], OFF, SMALL)


def test_the_admin_socket_is_taken_once_and_kept(make: Callable[[int], Sockets]) -> None:
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


def test_what_is_in_a_mailbox_waits_for_its_reader(make: Callable[[int], Sockets]) -> None:
    sockets = make(2)
    first, third = sockets.mailboxes_of(0), sockets.mailboxes_of(2)
    assert len(first.of) == 4
    for number in range(500):
        first.of[2].send(number.to_bytes(2, "big") + bytes(1200))
    assert [third.mine.recv(2000)[:2] for _ in range(500)] == [
        number.to_bytes(2, "big") for number in range(500)
    ]
    with pytest.raises(BlockingIOError):
        first.mine.recv(2000)


def test_a_child_closes_what_is_not_its_own(make: Callable[[int], Sockets]) -> None:
    sockets = make(2)
    where = listener()
    sockets.bind([where], OFF, SMALL)
    mine, other = (sockets.listeners_of([where], index)[0].socket for index in range(2))
    boxes = sockets.mailboxes_of(1)
    sockets.close_except([mine, boxes.mine, *boxes.of])
    assert mine.fileno() >= 0
    assert other.fileno() == -1
    assert boxes.mine.fileno() >= 0
    assert sockets.mailboxes_of(0).mine.fileno() == -1


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ((8 * MIB, 8 * MIB), ""),
        (
            (4 * MIB, 8 * MIB),
            (
                "udp receive buffer is 4.0 MiB, wanted 8.0 MiB: "
                'run "sysctl -w net.core.rmem_max=8388608" and restart'
            ),
        ),
        (
            (4 * MIB, 212_992),
            (
                "udp receive buffer is 4.0 MiB, wanted 8.0 MiB; "
                "udp send buffer is 0.2 MiB, wanted 8.0 MiB: "
                'run "sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608" and restart'
            ),
        ),
    ],
)
def test_the_warning_names_the_remedy(given: tuple[int, int], warning: str) -> None:
    assert shortage(given, (8 * MIB, 8 * MIB)) == warning


UNPRIVILEGED = """
import logging, os
from spooky.config.model import *
from spooky.master.sockets import Sockets
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
logging.basicConfig(format="%(levelname)s %(message)s")
listeners = [Listener(ListenTls(Certificate()), address=f"127.0.0.{n}", port=0) for n in (1, 2)]
sockets = Sockets(2)
for _ in range(2):
    sockets.bind(listeners, Admin(port=0), Limits(udp_receive_buffer=1 << 29))
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
def test_a_low_port_without_the_right_is_explained(make: Callable[[int], Sockets]) -> None:
    with pytest.raises(StartupError, match="no right to bind a port below 1024"):
        make(1).bind([listener(port=443)], OFF, SMALL)


def test_addresses_are_written_as_in_a_url(
    make: Callable[[int], Sockets], caplog: pytest.LogCaptureFixture
) -> None:
    assert format_address("192.0.2.1", 443) == "192.0.2.1:443"
    assert format_address("::1", 443) == "[::1]:443"
    with caplog.at_level(logging.INFO, "spooky"):
        make(1).bind([listener("::1")], OFF, SMALL)
    assert "listening on udp [::1]:" in caplog.text
