"""Answers to packets of nobody: small, few, and never the beginning of a conversation."""

import os
import select
import socket
from collections.abc import Callable

import pytest

from spooky.protocol.cid import mint
from spooky.protocol.datagram import Kind, classify
from tests.e2e.backends import Backend
from tests.e2e.clients import curl
from tests.e2e.conftest import Spooky
from tests.e2e.operator import status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream
from tests.e2e.test_returning import first_flight

pytestmark = pytest.mark.e2e

SLOT = 77
"""Of no worker."""
QUIET_S = 0.5
OVER_A_SECOND_S = 1.1
"""After which as many may be sent anew."""
BURST = 200


def _start(spooky: Spooky, backend: Backend, **limits: object) -> SpookyProcess:
    one = {"one": upstream(backend.address)}
    return spooky({"worker_processes": 2, "upstream": one, "limits": limits})


def _unknown_version() -> bytes:
    return b"\xc0\x1a\x2a\x3a\x4a\x08" + os.urandom(8) + b"\x08" + os.urandom(1190)


def _of_a_lost_connection(size: int) -> bytes:
    return b"\x40" + mint(SLOT, os.urandom(9)) + os.urandom(size - 12)


def _with_a_made_up_token() -> bytes:
    """An Initial that seems to answer a Retry."""
    token = b"\x10" + os.urandom(16)
    head = b"\xc0\0\0\0\1\x0b" + mint(0, os.urandom(9)) + b"\x08" + os.urandom(8)
    return (head + token + b"\x44\x80").ljust(1250, b"x")


def _answers(sock: socket.socket, quiet: float = QUIET_S) -> list[bytes]:
    """Read until nothing comes for a while."""
    found = []
    while select.select([sock], [], [], quiet)[0]:
        found.append(sock.recv(2048))
    return found


KINDS: dict[str, tuple[Callable[[], bytes], Kind]] = {
    "unknown version": (_unknown_version, Kind.VERSION_NEGOTIATION),
    "lost connection": (lambda: _of_a_lost_connection(1200), Kind.SHORT),
    "small packet of a lost connection": (lambda: _of_a_lost_connection(40), Kind.SHORT),
    "made up token": (_with_a_made_up_token, Kind.INITIAL),
    "first flight": (first_flight, Kind.RETRY),
}


def test_none_is_larger_than_what_it_answers(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, retry="always")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", running.port))
        for name, (make, kind) in KINDS.items():
            asked = make()
            sock.send(asked)
            answers = _answers(sock)
            assert [classify(answer).kind for answer in answers] == [kind], name
            assert len(answers[0]) < len(asked), name


def test_there_are_so_many_a_second(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, stateless_answers=5)
    unsent = 0
    for name, (make, kind) in KINDS.items():
        if kind is Kind.RETRY:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", running.port))
            for _ in range(BURST):
                sock.send(make())
            answers = _answers(sock, OVER_A_SECOND_S)
        # Two workers, and the turn of a second or two.
        assert 5 <= len(answers) <= 40, name
        unsent += BURST - len(answers)
    wait_until(
        lambda: status(running)["bounds"]["stateless_answers"] == unsent,
        5.0,
        "the count of those that were not sent",
    )
    assert curl(running.target, "GET", "/asgi/status?code=204").status == 204


def _converse(one: SpookyProcess, other: SpookyProcess, beginning: bytes) -> list[int]:
    """Carry what each instance answers to the other; list the sizes of all that was carried.

    The beginning goes to `one`, as if from `other`.
    """
    carried: list[int] = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as as_other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as as_one,
    ):
        as_other.connect(("127.0.0.1", one.port))
        as_one.connect(("127.0.0.1", other.port))
        as_other.send(beginning)
        while len(carried) < BURST:
            ready, _, _ = select.select([as_other, as_one], [], [], QUIET_S)
            for sock in ready:
                data = sock.recv(2048)
                carried.append(len(data))
                (as_one if sock is as_other else as_other).send(data)
            if not ready:
                break
    return carried


def test_two_instances_do_not_answer_each_other_for_ever(spooky: Spooky, asgi: Backend) -> None:
    """Somebody sends one a packet with the address of the other as its source."""
    one = _start(spooky, asgi, retry="always")
    other = _start(spooky, asgi, retry="always")
    for name, (make, _) in KINDS.items():
        carried = _converse(one, other, make())
        assert carried, name
        assert len(carried) <= 25, name
        assert carried == sorted(carried, reverse=True), f"{name}: each is smaller"
