"""One socket: its options, its refusals, the warning about its buffers, and mailboxes."""

import contextlib
import errno
import os
import socket

import pytest

from spooky.master.bind import (
    IP_MTU_DISCOVER,
    IPV6_MTU_DISCOVER,
    MIB,
    PMTUDISC_PROBE,
    bind_tcp,
    bind_udp,
    enlarge,
    family,
    format_address,
    mailbox,
    refusal,
    shortage,
)


@pytest.mark.parametrize(
    ("address", "written", "of"),
    [("192.0.2.1", "192.0.2.1:443", socket.AF_INET), ("::1", "[::1]:443", socket.AF_INET6)],
)
def test_addresses_are_written_as_in_a_url(
    address: str, written: str, of: socket.AddressFamily
) -> None:
    assert format_address(address, 443) == written
    assert family(address) is of


@pytest.mark.parametrize(
    ("address", "level", "option"),
    [
        ("127.0.0.1", socket.IPPROTO_IP, IP_MTU_DISCOVER),
        ("::1", socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER),
    ],
)
def test_datagrams_are_never_fragmented(address: str, level: int, option: int) -> None:
    with bind_udp(address, 0, is_first=True) as udp:
        assert udp.getsockopt(level, option) == PMTUDISC_PROBE
        assert not udp.getblocking()


@pytest.mark.parametrize(
    ("first", "second", "fine"),
    [(True, False, True), (True, True, False)],
)
def test_the_first_of_a_group_is_alone_and_others_join(
    first: bool, second: bool, fine: bool
) -> None:
    with bind_udp("127.0.0.1", 0, is_first=first) as udp:
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        port = udp.getsockname()[1]
        if fine:
            with bind_udp("127.0.0.1", port, is_first=second) as other:
                assert other.getsockname() == udp.getsockname()
        else:
            with pytest.raises(OSError, match="in use") as caught:
                bind_udp("127.0.0.1", port, is_first=second)
            assert caught.value.errno == errno.EADDRINUSE


def test_a_failed_bind_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="assign"):
        bind_udp("192.0.2.1", 0, is_first=True)
    with pytest.raises(OSError, match="assign"):
        bind_tcp("192.0.2.1", 0)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EADDRINUSE, "is already in use: is another Spooky or other server running?"),
        (errno.EACCES, "no right to bind a port below 1024: start as root with `user` set"),
        (errno.EPERM, "CAP_NET_BIND_SERVICE, or choose a higher port than 443"),
        (errno.EADDRNOTAVAIL, "this machine does not have that address"),
        (errno.ENOBUFS, "No buffer space available"),
    ],
)
def test_refusals_are_worded(number: int, text: str) -> None:
    made = str(refusal("udp", "::1", 443, OSError(number, os.strerror(number))))
    assert made.startswith("cannot bind udp [::1]:443: ")
    assert text in made


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


def test_buffers_are_what_was_asked_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert enlarge(udp, 33, socket.SO_RCVBUF, 64 * 1024) == 64 * 1024


def test_a_mailbox_holds_many_letters_and_drops_rather_than_waits() -> None:
    box = mailbox()
    with box.reader, box.writer:
        held = 0
        with contextlib.suppress(BlockingIOError):
            while box.writer.send(bytes(1200)):
                held += 1
        # Far more than the ten of net.unix.max_dgram_qlen.
        assert held > 100
        assert len(box.reader.recv(2000)) == 1200
        box.writer.send(b"x")
