"""What the service manager is told, on a real unix datagram socket."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooky.master.notify import Notifier

OWN, OTHER = str(os.getpid()), str(os.getpid() + 1)


class Listener:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.variable = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def told(self) -> dict[str, str]:
        fields = self.socket.recv(4096).decode().split("\n")
        return dict(field.split("=", 1) for field in fields)


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    name = {"file": str(tmp_path / "notify"), "abstract": f"@spooky-test-{os.getpid()}"}
    found = Listener(name[request.param])
    yield found
    found.socket.close()


@pytest.mark.parametrize(
    ("say", "told"),
    [
        (lambda n: n.ready("serving"), {"READY": "1", "MAINPID": OWN, "STATUS": "serving"}),
        (lambda n: n.stopping(), {"STOPPING": "1", "STATUS": "stopping"}),
        (lambda n: n.ping(), {"WATCHDOG": "1"}),
        (lambda n: n.successor(77), {"MAINPID": "77"}),
        (lambda n: n.extend(1.5), {"EXTEND_TIMEOUT_USEC": "1500000"}),
    ],
    ids=["ready", "stopping", "ping", "successor", "extend"],
)
def test_messages(
    listener: Listener, say: Callable[[Notifier], None], told: dict[str, str]
) -> None:
    say(Notifier({"NOTIFY_SOCKET": listener.variable}))
    assert listener.told() == told


def test_the_beginning_of_a_reload_has_its_time(listener: Listener) -> None:
    """Type=notify-reload ignores a message from before its signal."""
    before = time.monotonic_ns() // 1000
    Notifier({"NOTIFY_SOCKET": listener.variable}).reloading()
    found = listener.told()
    assert found["RELOADING"] == "1"
    assert before <= int(found["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": OWN}, 15.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": OTHER}, None),
        ({"WATCHDOG_USEC": "0", "WATCHDOG_PID": OWN}, None),
        ({"WATCHDOG_USEC": "soon", "WATCHDOG_PID": OWN}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_PID": OWN}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_pinged_twice_in_its_time(
    variables: dict[str, str], interval: float | None
) -> None:
    environ = {"NOTIFY_SOCKET": "@nobody", **variables}
    assert Notifier(environ).watchdog_interval() == interval
    assert environ == {}, "a child must not speak for the master"


def test_without_a_service_manager_nobody_watches() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "30000000"})
    assert notifier.watchdog_interval() is None
    assert notifier.environment() == {}


@pytest.mark.parametrize("address", ["", "@spooky-test-nobody", "/nonexistent/notify", "x" * 200])
def test_nobody_listens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("serving")
    notifier.ping()


def test_a_listener_that_does_not_read_holds_nobody_up(listener: Listener) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": listener.variable})
    began = time.monotonic()
    for _ in range(2000):
        notifier.ping()
    assert time.monotonic() - began < 5


def test_a_successor_goes_on(listener: Listener) -> None:
    """As in an upgrade: another process gets the variables, and its pings count."""
    program = (
        "import os\n"
        "from spooky.master.notify import Notifier\n"
        "notifier = Notifier()\n"
        "left = [key for key in os.environ if key.startswith(('NOTIFY', 'WATCHDOG'))]\n"
        "notifier.ready(f'{notifier.watchdog_interval()} {left}')\n"
    )
    given = {"NOTIFY_SOCKET": listener.variable, "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": OWN}
    old = Notifier(given)
    environ = {**os.environ, **old.environment()}
    with subprocess.Popen([sys.executable, "-c", program], env=environ) as child:
        assert child.wait(20) == 0
    told = listener.told()
    assert told == {"READY": "1", "MAINPID": str(child.pid), "STATUS": "4.0 []"}
