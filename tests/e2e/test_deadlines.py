"""Deadlines that requests carry: honoured, lowered for each try, passed on; and limits of tries."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from spooky.policy.deadline import parse_grpc_timeout
from tests.e2e.certificates import Identity
from tests.e2e.failing import Failing
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

Fields = list[tuple[bytes, bytes]]

OWN = {"timeouts": {"deadline_header": "X-Request-Timeout"}}
UPSTREAMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "own": {**OWN, "retries": {"statuses": [503]}},
    "later": {
        **OWN,
        "retries": {"statuses": [503], "backoff": {"initial": "24h", "max": "24h"}},
    },
    "total": {"timeouts": {"deadline_header": "x-request-timeout", "total": "700ms"}},
    "try": {**OWN, "retries": {"per_try_timeout": "3s"}},
}
GRPC = (b"content-type", b"application/grpc")


@pytest.fixture(scope="module")
def running(
    identity: Identity, failing: Failing, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpookyProcess]:
    settings = {
        "upstream": {
            name: upstream(*failing.addresses, path=f"/{name}", **more)
            for name, more in UPSTREAMS.items()
        }
    }
    with running_spooky(settings, identity, tmp_path_factory.mktemp("deadlines")) as spooky:
        yield spooky


@dataclass(slots=True)
class Asked:
    """A request that was made, how long it took, and what backends were told of it."""

    exchange: Exchange
    seconds: float
    token: str
    told: list[dict[str, str]]
    """The fields of each try."""


def _ask(
    running: SpookyProcess, failing: Failing, path: str, fields: Fields, method: str = "GET"
) -> Asked:
    token = uuid.uuid4().hex

    async def scenario() -> tuple[Exchange, float]:
        async with connect(running.port) as client:
            began = time.monotonic()
            exchange = client.open(method, f"{path}&mark={token}", fields)
            return await client.over(exchange), time.monotonic() - began

    exchange, seconds = asyncio.run(scenario())
    told = [dict(one["headers"]) for one in failing.tries(token)]
    return Asked(exchange, seconds, token, told)


def _error(running: SpookyProcess, token: str) -> bool:
    """Say whether the access log blames the deadline."""
    wait_until(lambda: token in running.access_log.read_text(), 5.0, "the access line")
    (line,) = (line for line in running.access_log.read_text().splitlines() if token in line)
    return '"error":"deadline"' in line


def test_a_request_ends_when_its_client_said(running: SpookyProcess, failing: Failing) -> None:
    asked = _ask(running, failing, "/own/x?fail=1&hang=1", [(b"x-request-timeout", b"300")])
    assert asked.exchange.status == 504
    assert 0.25 <= asked.seconds < 2
    assert 0 < int(asked.told[0]["x-request-timeout"]) <= 300
    assert _error(running, asked.token)
    failing.wait_until_cancelled(asked.token, 1)


def test_each_try_is_told_what_is_left(running: SpookyProcess, failing: Failing) -> None:
    fields = [(b"x-request-timeout", b"5000")]
    asked = _ask(running, failing, "/own/x?fail=1&code=503&wait=200", fields)
    first, second = (int(one["x-request-timeout"]) for one in asked.told)
    assert asked.exchange.status == 200
    assert second <= first - 200 <= 4800


def test_no_retry_is_waited_for_that_would_come_too_late(
    running: SpookyProcess, failing: Failing
) -> None:
    fields = [(b"x-request-timeout", b"2000")]
    asked = _ask(running, failing, "/later/x?fail=1&code=503", fields)
    assert asked.exchange.header(b"x-answer") == b"the backend's own"
    assert len(asked.told) == 1
    assert asked.seconds < 1.5


@pytest.mark.parametrize(
    ("path", "fields", "most"),
    [
        ("/total/x?a=b", [], 700),
        ("/total/x?a=b", [(b"x-request-timeout", b"60000")], 700),
        ("/total/x?a=b", [(b"x-request-timeout", b"100")], 100),
        ("/try/x?a=b", [], 3000),
        ("/try/x?a=b", [(b"x-request-timeout", b"60000")], 3000),
    ],
)
def test_a_client_shortens_what_is_allowed_and_never_lengthens_it(
    running: SpookyProcess, failing: Failing, path: str, fields: Fields, most: int
) -> None:
    (told,) = _ask(running, failing, path, fields).told
    assert most - 90 < int(told["x-request-timeout"]) <= most


@pytest.mark.parametrize("value", [b"soon", b"-1", b"1.5", b"9" * 40])
def test_what_cannot_be_read_is_no_deadline(
    running: SpookyProcess, failing: Failing, value: bytes
) -> None:
    asked = _ask(running, failing, "/own/x?a=b", [(b"x-request-timeout", value)])
    assert asked.exchange.status == 200
    assert asked.told[0]["x-request-timeout"] == value.decode()


def test_a_field_that_was_not_configured_is_left_alone(
    running: SpookyProcess, failing: Failing
) -> None:
    asked = _ask(running, failing, "/plain/x?a=b", [(b"x-request-timeout", b"1")])
    assert (asked.exchange.status, asked.told[0]["x-request-timeout"]) == (200, "1")


@pytest.mark.parametrize(("value", "tries"), [(b"300m", 1), (b"0S", 0)])
def test_a_grpc_call_is_told_that_its_deadline_is_over(
    running: SpookyProcess, failing: Failing, value: bytes, tries: int
) -> None:
    fields = [GRPC, (b"te", b"trailers"), (b"grpc-timeout", value)]
    asked = _ask(running, failing, "/plain/x?fail=1&hang=1", fields, "POST")
    exchange = asked.exchange
    assert (exchange.status, exchange.header(b"grpc-status")) == (200, b"4")
    assert exchange.header(b"content-type") == b"application/grpc"
    assert len(asked.told) == tries
    for one in asked.told:
        left = parse_grpc_timeout(one["grpc-timeout"].encode())
        assert left is not None
        assert 0.2 < left <= 0.3
    assert _error(running, asked.token)


def test_only_grpc_calls_have_a_grpc_timeout(running: SpookyProcess, failing: Failing) -> None:
    asked = _ask(running, failing, "/plain/x?a=b", [(b"grpc-timeout", b"1n")], "POST")
    assert (asked.exchange.status, asked.told[0]["grpc-timeout"]) == (200, "1n")
