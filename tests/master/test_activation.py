"""Sockets passed by a service manager, to a real process that takes them over."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest

from spooky.master.activation import take

# What the service manager does between fork and exec: number the descriptors, name itself.
LAUNCHER = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
for number, fd in enumerate(high, 3):
    os.dup2(fd, number, inheritable=True)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.environ.setdefault("LISTEN_FDS", str(len(fds)))
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""

SERVICE = """
import fcntl, json, os
from spooky.errors import StartupError
from spooky.master.activation import take
try:
    found = take()
except StartupError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({
        "left": sorted(key for key in os.environ if key.startswith("LISTEN_")),
        "passed": [
            {
                "kind": one.kind.value,
                "where": [one.address, one.port],
                "name": one.name,
                "fd": one.socket.fileno(),
                "blocking": not fcntl.fcntl(one.socket, fcntl.F_GETFL) & os.O_NONBLOCK,
                "inheritable": one.socket.get_inheritable(),
            }
            for one in found
        ],
    }))
"""


def start(sockets: Sequence[Any], **variables: str) -> dict[str, Any]:
    """Start the service with these sockets and tell what it found."""
    fds = [one.fileno() for one in sockets]
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, ",".join(map(str, fds)), SERVICE],
        pass_fds=fds,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def bound(
    kind: socket.SocketKind, address: str = "127.0.0.1", *, reuse: bool = True, v6only: bool = True
) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as one:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse))
        one.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            one.listen()
        yield one


def test_sockets_are_taken_over_in_order() -> None:
    with (
        bound(socket.SOCK_DGRAM) as first,
        bound(socket.SOCK_DGRAM, "::1", reuse=False) as second,
        bound(socket.SOCK_STREAM) as admin,
    ):
        wanted = [list(one.getsockname()[:2]) for one in (first, second, admin)]
        found = start([first, second, admin], LISTEN_FDNAMES="quic:quic:admin")
    assert found["left"] == [], "a child must not take them for its own"
    passed = found["passed"]
    assert [one["kind"] for one in passed] == ["udp", "udp", "tcp"]
    assert [one["where"] for one in passed] == wanted
    assert [one["name"] for one in passed] == ["quic", "quic", "admin"]
    assert [one["fd"] for one in passed] == [3, 4, 5]
    assert not any(one["blocking"] or one["inheritable"] for one in passed)


def test_what_waits_in_a_passed_socket_is_not_lost() -> None:
    program = "from spooky.master.activation import take; print(take()[0].socket.recv(99).decode())"
    with bound(socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"early", one.getsockname())
        command = [sys.executable, "-c", LAUNCHER, str(one.fileno()), program]
        output = subprocess.check_output(command, pass_fds=[one.fileno()], timeout=30)
    assert output == b"early\n"


def test_names_may_be_missing() -> None:
    with bound(socket.SOCK_DGRAM) as one, bound(socket.SOCK_DGRAM) as two:
        assert [p["name"] for p in start([one, two])["passed"]] == ["", ""]
        found = start([one, two], LISTEN_FDNAMES="only")
    assert [p["name"] for p in found["passed"]] == ["only", ""]


@pytest.mark.parametrize("variables", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "1"}])
def test_nothing_is_passed_to_this_process(variables: dict[str, str]) -> None:
    environ = {**variables, "LISTEN_FDNAMES": "x", "PATH": "/bin"}
    if "LISTEN_PID" in variables:
        environ["LISTEN_FDS"] = "1"
    assert take(environ) == []
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("count", ["", "many", "-1", "²"])
def test_a_count_that_is_no_number(count: str) -> None:
    found = start([], LISTEN_FDS=count)
    assert found == {"error": f"socket activation: LISTEN_FDS is {count!r}: expected a number"}


def test_what_is_no_ip_socket_is_refused() -> None:
    with bound(socket.SOCK_DGRAM) as good:
        for sort, reason in (
            ((socket.AF_UNIX, socket.SOCK_DGRAM), "its family is AF_UNIX"),
            ((socket.AF_INET, socket.SOCK_STREAM), "a TCP connection, not a listening socket"),
        ):
            with socket.socket(*sort) as bad:
                error = start([good, bad], LISTEN_FDNAMES="quic:spooky.socket")["error"]
            assert error.startswith(
                f"socket activation: cannot use descriptor 4 (spooky.socket): {reason}"
            )
            assert "ListenDatagram=" in error, "says how to put it right"


def test_a_descriptor_that_is_no_socket_is_refused() -> None:
    with open(os.devnull, "rb") as file:
        assert "cannot use descriptor 3: no socket" in start([file])["error"]
    assert "cannot use descriptor 3: no socket" in start([], LISTEN_FDS="1")["error"]


def test_udp_that_takes_both_families_is_refused() -> None:
    with bound(socket.SOCK_DGRAM, "::", v6only=False) as both:
        assert "BindIPv6Only=ipv6-only" in start([both])["error"]
    with bound(socket.SOCK_STREAM, "::", v6only=False) as admin:
        assert start([admin])["passed"][0]["kind"] == "tcp", "an admin endpoint may"


def test_sockets_of_the_same_user_may_join() -> None:
    with bound(socket.SOCK_DGRAM) as first, closing(socket.socket(type=socket.SOCK_DGRAM)) as two:
        two.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        two.bind(first.getsockname())
        assert two.getsockname() == first.getsockname()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_sockets_of_another_user_may_not_join() -> None:
    """Why packaging/spooky.socket lists an address once for every socket that is needed."""
    program = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "one = socket.socket(type=socket.SOCK_DGRAM)\n"
        "one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        "try: one.bind(('127.0.0.1', int(sys.argv[1])))\n"
        "except OSError as error: print(error.strerror)\n"
    )
    with bound(socket.SOCK_DGRAM) as first:
        command = [sys.executable, "-S", "-c", program, str(first.getsockname()[1])]
        output = subprocess.check_output(command, text=True, timeout=30)
    assert output == "Address already in use\n"
