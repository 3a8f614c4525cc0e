"""The keys that the master keeps: what it forgets of them, and what its successor has."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooky.config.model import Config
from spooky.master.blueprint import Estate, Program
from spooky.protocol import ratchet


@pytest.fixture
def estate() -> Iterator[Estate]:
    def never(*_: object) -> int:
        raise AssertionError("no process is started")

    program = Program("", Path("x"), never, never, never)  # type: ignore[arg-type]
    made = Estate(program, Config(listen=(), upstream=(), control=None), None)
    yield made
    os.close(made.wake_fd)
    os.close(made.memory.fd)


def test_old_keys_of_tickets_are_not_passed_on(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    first = bytes.fromhex(estate.describe()["ticket"])
    later = now + 5 * ratchet.PERIOD_S
    monkeypatch.setattr("spooky.master.blueprint.time.monotonic", lambda: later)
    left = bytes.fromhex(estate.describe()["ticket"])
    period = ratchet.period_at(later)
    assert left == ratchet.advance(first, later) != first
    secret = ratchet.secret_of(left, period, later)
    assert secret == ratchet.secret_of(first, period, later) is not None
