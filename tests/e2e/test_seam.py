"""Another engine towards clients in the real program: relay, pool and policy do not notice.

The plain engine has no QUIC and no cryptography; nothing but its entry in the table of engines is
changed. Its client is in tests/protocol/plain_peer.py.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from spooky.errors import H3Code
from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity
from tests.e2e.content import content
from tests.e2e.processes import free_port
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream
from tests.protocol.plain_peer import PlainPeer
from tests.protocol.quic_pair import Response

pytestmark = pytest.mark.e2e

WAIT_S = 20.0
PREFIX = (sys.executable, "-m", "tests.e2e.plain_program")


class PlainClient:
    """A plain peer on a UDP socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(WAIT_S)
        self.peer = PlainPeer(os.urandom(8))
        self.run(lambda: self.peer.cid)

    def flush(self) -> None:
        for data, _ in self.peer.datagrams_to_send(0.0):
            self.socket.send(data)

    def run(self, until: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_S
        self.flush()
        while not until():
            assert time.monotonic() < deadline
            self.peer.receive_datagram(self.socket.recv(65536), None, 0.0)
            self.flush()

    def fetch(self, path: bytes, method: bytes = b"GET", body: bytes | None = None) -> Response:
        response = self.peer.responses[self.peer.request(method=method, path=path, body=body)]
        self.run(lambda: response.ended or response.reset is not None)
        return response


@pytest.fixture(scope="module")
def plain_front(
    identity: Identity, asgi: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpookyProcess]:
    settings = {
        "worker_processes": 2,
        # What a client sends at once has to fit into the buffer of a socket.
        "limits": {
            "response_buffer": "16KiB",
            "stream_window": "16KiB",
            "request_header_bytes": "8KiB",
        },
        "upstream": {
            "asgi": upstream(asgi.address, path="/asgi"),
            # The first of the two is never there: the second try is policy's doing.
            "dead": upstream(
                f"127.0.0.1:{free_port()}",
                asgi.address,
                path="/half",
                load_balancing={"type": "round-robin"},
            ),
        },
    }
    folder = tmp_path_factory.mktemp("plain")
    with running_spooky(settings, identity, folder, PREFIX) as running:
        yield running


@pytest.fixture
def client(plain_front: SpookyProcess) -> Iterator[PlainClient]:
    client = PlainClient(plain_front.port)
    yield client
    client.peer.close(H3Code.NO_ERROR)
    client.flush()
    client.socket.close()


def test_a_download_through_the_window_of_the_client(client: PlainClient) -> None:
    response = client.fetch(b"/asgi/bytes?n=1000000")
    assert (response.status, bytes(response.body)) == (b"200", content(1_000_000))
    assert (b"via", b"2 spooky") in response.heads[0]


def test_an_upload_comes_back_through_both_windows(client: PlainClient) -> None:
    body = content(300_000)
    response = client.fetch(b"/asgi/echo", b"POST", body)
    assert (response.status, bytes(response.body)) == (b"200", body)


def test_many_requests_at_once(client: PlainClient) -> None:
    streams = [client.peer.request(path=b"/asgi/bytes?n=900") for _ in range(20)]
    responses = [client.peer.responses[stream] for stream in streams]
    client.run(lambda: all(response.ended for response in responses))
    assert {bytes(response.body) for response in responses} == {content(900)}


def test_a_backend_that_is_not_there_is_passed_over(client: PlainClient) -> None:
    assert [client.fetch(b"/half/bytes?n=9").status for _ in range(6)] == [b"200"] * 6


def test_what_has_no_route_is_answered(client: PlainClient) -> None:
    assert client.fetch(b"/nowhere").status == b"404"


def test_a_request_that_is_given_up_leaves_the_connection_well(client: PlainClient) -> None:
    stream = client.peer.request(method=b"POST", path=b"/asgi/echo", body=b"x", end=False)
    client.run(lambda: client.peer.responses[stream].body == b"x")
    client.peer.reset_stream(stream, H3Code.REQUEST_CANCELLED)
    client.run(lambda: client.peer.responses[stream].reset is not None)
    assert client.fetch(b"/asgi/bytes?n=9").status == b"200"


def test_a_drain_is_told_and_ends(
    identity: Identity, asgi: Backend, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"upstream": {"asgi": upstream(asgi.address, path="/asgi")}}
    folder = tmp_path_factory.mktemp("plain-drain")
    with running_spooky(settings, identity, folder, PREFIX) as running:
        client = PlainClient(running.port)
        assert client.fetch(b"/asgi/bytes?n=9").status == b"200"
        running.program.process.terminate()
        client.run(lambda: client.peer.closed)
        assert client.peer.goaways == 2
        assert client.peer.closed == (H3Code.NO_ERROR, "")
        client.socket.close()
