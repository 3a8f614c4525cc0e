"""What the keeper notes of each backend, and what it tells of an upstream."""

import logging
from dataclasses import fields

import pytest

from spooky.config.load import load_text
from spooky.config.model import Config
from spooky.keeper.eligibility import Eligibility
from spooky.policy.eligibility import Member, Standing
from spooky.shm.backend_cells import BackendColumn, Breaker, Duty, Fitness, Health, Use
from spooky.shm.backends import BackendRow
from spooky.shm.segment import SharedMemory
from tests.config.broken import LISTEN

TEXT = (
    LISTEN
    + """
zone: a
upstream:
  api:
    route: {path_prefix: /}
    slow_start: 10s
    backends:
      - {id: one, address: "h:1", zone: a}
      - {id: two, address: "h:2", zone: b}
      - {id: spare, address: "h:3", priority: 1}
"""
)


class Probe:
    """A keeper's eye on three backends, and its clock."""

    def __init__(self) -> None:
        self.memory = SharedMemory.create(16)
        config: Config = load_text(TEXT).config
        backends = config.upstream[0].backends
        numbers = self.memory.backends.assign([one.identity for one in backends])
        self.rows: list[BackendRow] = [
            self.memory.backends.row(numbers[one.identity]) for one in backends
        ]
        self.eligibility = Eligibility(config, self.memory.backends, numbers)
        self.now_ms = 1_000_000

    def uses(self, after_ms: int = 50) -> list[Use]:
        self.now_ms += after_ms
        self.eligibility.look(self.now_ms)
        return [Use(row.get(BackendColumn.USE)) for row in self.rows]


def test_every_standing_has_its_number() -> None:
    assert {one.name for one in Standing} == {one.name for one in Use} - {"UNKNOWN"}


def test_a_row_tells_the_fields_of_a_member_in_their_order() -> None:
    assert [one.name for one in fields(Member)][3:] == list(Fitness._fields)


def test_what_each_is_used_for() -> None:
    probe = Probe()
    one, two, _ = probe.rows
    assert probe.uses() == [Use.SERVING, Use.OTHER_ZONE, Use.STANDBY]
    one.set(BackendColumn.HEALTH, Health.UNHEALTHY)
    assert probe.uses() == [Use.UNHEALTHY, Use.SERVING, Use.SERVING]
    two.set(BackendColumn.DUTY, Duty.DRAINING)
    assert probe.uses() == [Use.UNHEALTHY, Use.DRAINING, Use.SERVING]
    one.set(BackendColumn.HEALTH, Health.HEALTHY)
    two.set(BackendColumn.DUTY, Duty.SERVING)
    assert probe.uses(1) == [Use.SLOW_START, Use.OTHER_ZONE, Use.STANDBY]
    assert probe.uses(10_000) == [Use.SERVING, Use.OTHER_ZONE, Use.STANDBY]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (BackendColumn.HEALTH, Health.UNHEALTHY),
        (BackendColumn.FORCED_HEALTH, Health.UNHEALTHY),
        (BackendColumn.DUTY, Duty.OUT),
        (BackendColumn.BREAKER, Breaker.OPEN),
        (BackendColumn.BREAKER, Breaker.HALF_OPEN),
    ],
)
def test_a_slow_start_begins_when_it_was_last_seen_out(column: BackendColumn, value: int) -> None:
    probe = Probe()
    row = probe.rows[0]
    row.set(column, value)
    probe.uses()
    probe.uses(3000)
    row.set(column, 0)
    probe.uses(40)
    assert row.fitness(probe.now_ms).well_for == 0.04
    assert row.fitness(probe.now_ms + 1000).well_for == 1.04


def test_draining_is_no_illness() -> None:
    probe = Probe()
    probe.rows[0].set(BackendColumn.DUTY, Duty.DRAINING)
    probe.uses()
    assert probe.rows[0].get(BackendColumn.LAST_ILL_MS) == 0


def test_backups_and_panic_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    probe = Probe()

    def told() -> list[str]:
        for _ in range(3):
            probe.uses()
        found = [f"{one.levelname} {one.message}" for one in caplog.records]
        caplog.clear()
        return found

    assert told() == []
    for row in probe.rows[:2]:
        row.set(BackendColumn.HEALTH, Health.UNHEALTHY)
    assert told() == ["WARNING upstream api: backends of priority 1 are needed"]
    probe.rows[2].set(BackendColumn.HEALTH, Health.UNHEALTHY)
    assert told() == ["WARNING upstream api: less than 1 % of it is well, its health is ignored"]
    for row in probe.rows:
        row.set(BackendColumn.HEALTH, Health.HEALTHY)
    assert told() == [
        "INFO upstream api: its health counts again",
        "INFO upstream api: backends of priority 0 suffice again",
    ]
