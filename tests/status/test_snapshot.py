"""What is read out of shared memory, state by state, and how it is worded for people."""

import json
import os
import time
from collections.abc import Callable

import pytest

from spooky.bounds import Bound
from spooky.shm.backend_cells import BackendColumn, Breaker, Duty, Health
from spooky.shm.clock import now_ms
from spooky.shm.instance import Admission, Cell, Change, Serving
from spooky.shm.processes import KEEPER_ROWS, Column, ProcessState
from spooky.shm.segment import SharedMemory
from spooky.status import records, snapshot
from spooky.status.show import as_json, as_table

ADDRESS = "http://10.0.0.1:80"
GONE = 2**22 + 1
"""A pid that no process can have."""


def worker(memory: SharedMemory, slot: int, generation: int, state: ProcessState) -> None:
    row = memory.processes.row(slot)
    row.begin(generation)
    row.set(Column.PID, GONE)
    row.set(Column.STATE, state)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SAMPLE_S", 0.0)


@pytest.fixture
def memory() -> SharedMemory:
    """An instance whose second generation serves while the first one drains."""
    memory = SharedMemory.create(16)
    memory.instance.set(Cell.STARTED_MS, max(1, time.monotonic_ns() // 1_000_000 - 90_000))
    memory.instance.set_version("1.2.3")
    memory.instance.promote(Serving(1, 0, 1), 1)
    memory.instance.promote(Serving(2, 1, 2), 2)
    worker(memory, 0, 1, ProcessState.DRAINING)
    worker(memory, 1, 2, ProcessState.READY)
    worker(memory, 2, 2, ProcessState.STARTING)
    worker(memory, KEEPER_ROWS[1], 2, ProcessState.READY)
    (row,) = memory.backends.assign([ADDRESS]).values()
    memory.backends.row(row).describe("web/b0", 100, 2)
    return memory


def take(memory: SharedMemory) -> records.Snapshot:
    return snapshot.take(os.getpid(), memory)


def test_generations_and_processes(memory: SharedMemory) -> None:
    worker(memory, 3, 3, ProcessState.READY)
    seen = take(memory)
    assert [(one.generation, one.state, one.workers, one.ready) for one in seen.generations] == [
        (1, "draining", 1, 0),
        (2, "serving", 2, 1),
        # It is ready, but does not serve before all of it is.
        (3, "starting", 1, 1),
    ]
    assert [(one.slot, one.state) for one in seen.workers] == [
        (0, "draining"),
        (1, "ready"),
        (2, "starting"),
        (3, "ready"),
    ]
    assert [one.state for one in seen.keepers] == ["ready"]
    assert (seen.master.version, seen.master.generation) == ("1.2.3", 2)
    assert 90 <= seen.master.uptime_s < 180


def test_a_process_that_is_gone_has_no_usage(memory: SharedMemory) -> None:
    seen = take(memory)
    assert seen.workers[0].usage == records.Usage(None, None, None)
    assert seen.master.usage.memory_rss is not None
    line = next(one for one in as_table(seen).splitlines() if one.startswith("worker in slot 0"))
    assert line.split()[-3:] == ["-", "-", "-"]


def test_limits_over_all_workers(memory: SharedMemory) -> None:
    assert "WAITING" not in as_table(take(memory))
    rows = memory.limits.assign({"upstream web": 10, "instance": 20})
    for process in (1, 2):
        memory.limits.row(rows["upstream web"], process).say(4, 3, claims=True)
    table = as_table(take(memory)).splitlines()
    assert [line.split() for line in table[-3:]] == [
        ["LIMIT", "IN", "FLIGHT", "OF", "WAITING"],
        ["instance", "0", "20", "0"],
        ["upstream", "web", "8", "10", "6"],
    ]
    assert json.loads(as_json(take(memory)))["limits"][1] == {
        "name": "upstream web",
        "most": 10,
        "in_flight": 8,
        "waiting": 6,
    }


def test_what_each_rate_limit_did(memory: SharedMemory) -> None:
    assert "RATE LIMIT" not in as_table(take(memory))
    rows = memory.rate_counts.assign(["login", "all"])
    for process in (1, 2):
        memory.rate_counts.counter(rows["login"], process).admitted()
    memory.rate_counts.counter(rows["login"], 0).refused()
    table = as_table(take(memory)).splitlines()
    assert [line.split() for line in table[-3:]] == [
        ["RATE", "LIMIT", "ADMITTED", "REFUSED", "SPARED"],
        ["all", "0", "0", "0"],
        ["login", "2", "1", "0"],
    ]
    assert json.loads(as_json(take(memory)))["rate_limits"]["limits"][1] == {
        "name": "login",
        "admitted": 2,
        "refused": 1,
        "spared": 0,
    }


def stop_serving(memory: SharedMemory) -> None:
    memory.processes.row(1).end()


STATES: list[tuple[str, Callable[[SharedMemory], None]]] = [
    ("serving", lambda _: None),
    ("drained", lambda memory: memory.instance.set(Cell.ADMISSION, Admission.DRAINED)),
    ("stopping", lambda memory: memory.instance.set(Cell.ADMISSION, Admission.STOPPING)),
    ("reloading", lambda memory: memory.instance.begin_change(Change.RELOAD)),
    ("starting", stop_serving),
]


@pytest.mark.parametrize(("state", "change"), STATES, ids=[state for state, _ in STATES])
def test_the_state_of_the_instance(
    memory: SharedMemory, state: str, change: Callable[[SharedMemory], None]
) -> None:
    change(memory)
    seen = take(memory)
    assert seen.master.state == state
    assert as_table(seen).startswith(f"spooky 1.2.3: {state}, generation 2, up 1 min ")


@pytest.mark.parametrize(
    ("succeeded", "line"),
    [
        (True, "reloaded: two lines"),
        (False, "last reload refused: two lines"),
    ],
)
def test_how_the_last_reload_ended(memory: SharedMemory, succeeded: bool, line: str) -> None:
    assert take(memory).master.last_reload is None
    memory.instance.begin_change(Change.RELOAD)
    memory.instance.end_change(Change.RELOAD, "two\nlines", succeeded=succeeded)
    seen = take(memory)
    assert (seen.master.reloads, seen.master.last_reload_succeeded) == (1, succeeded)
    assert as_table(seen).splitlines()[1] == line


@pytest.mark.parametrize(
    ("cells", "health", "weight"),
    [
        ({}, "unknown", "100"),
        ({BackendColumn.HEALTH: Health.UNHEALTHY}, "unhealthy", "100"),
        ({BackendColumn.DUTY: Duty.DRAINING}, "unknown, draining", "100"),
        ({BackendColumn.BREAKER: Breaker.HALF_OPEN}, "unknown, breaker half open", "100"),
        ({BackendColumn.EJECTED_UNTIL_MS: 1}, "unknown, ejected for 0 s", "100"),
        ({BackendColumn.WEIGHT_CUT: 750}, "unknown", "25 of 100"),
    ],
)
def test_what_may_be_said_of_a_backend(
    memory: SharedMemory, cells: dict[BackendColumn, int], health: str, weight: str
) -> None:
    for column, value in cells.items():
        memory.backends.row(0).set(column, value)
    line = as_table(take(memory)).splitlines()[-1]
    cells_shown = [cell.strip() for cell in line.split("  ") if cell.strip()]
    assert cells_shown[:4] == ["web/b0", ADDRESS, health, weight]


@pytest.mark.parametrize(
    ("health", "forced", "line"),
    [
        (Health.UNHEALTHY, Health.UNKNOWN, "web/b0: unhealthy for 1 h 1 min: it says no"),
        (Health.DEGRADED, Health.UNKNOWN, "web/b0: degraded for 1 h 1 min: it says no"),
        (Health.RECOVERING, Health.UNKNOWN, "web/b0: recovering for 1 h 1 min: it says no"),
        (Health.HEALTHY, Health.UNKNOWN, None),
        (Health.UNHEALTHY, Health.HEALTHY, None),
        (Health.HEALTHY, Health.UNHEALTHY, None),
    ],
)
def test_what_is_wrong_with_a_backend_stands_below(
    memory: SharedMemory, health: Health, forced: Health, line: str | None
) -> None:
    row = memory.backends.row(0)
    row.set(BackendColumn.HEALTH, health)
    row.set(BackendColumn.HEALTH_SINCE_MS, now_ms() - 3_690_000)
    row.explain("it says no")
    row.set(BackendColumn.FORCED_HEALTH, forced)
    seen = take(memory)
    assert seen.backends[0].health_reason == "it says no"
    assert 3690 <= (seen.backends[0].health_for_s or 0) < 3710
    last = as_table(seen).splitlines()[-1]
    assert (last if last.startswith("web/b0: ") else None) == line


def test_columns_stand_below_each_other(memory: SharedMemory) -> None:
    worker(memory, 200, 2, ProcessState.READY)
    memory.processes.row(200).set(Column.CONNECTIONS, 123_456_789_012)
    part = as_table(take(memory)).split("\n\n")[2].splitlines()
    header = part[0]
    end = header.index("CONNECTIONS") + len("CONNECTIONS")
    assert [line[:end].split()[-1] for line in part[1:3]] == ["-", "-"]
    assert part[-1][:end].endswith(" 123456789012")
    assert {line[end] for line in part} == {" "}


KEYS = {
    "master": (
        "generation last_reload last_reload_succeeded pid reloads state uptime_s usage version"
    ),
    "intake": (
        "connections_opened connections_refused datagrams_handed_over handshakes_resumed "
        "late_initials retries_sent stateless_resets_sent"
    ),
    "rate_limits": "limits refused spared",
    "generations": "generation ready state workers",
    "workers": ("connections generation heartbeat_age_s in_flight pid requests slot state usage"),
    "keepers": "generation heartbeat_age_s pid state usage",
    "backends": (
        "address backend_time_us breaker breaker_s client_failures connect_failures connections "
        "duty effective_weight ejected_s ejections error_responses failures generation health "
        "health_for_s health_forced health_reason in_flight latency name octets_in octets_out "
        "own_failures queued requests resets retries timeouts use weight"
    ),
    "limits": "in_flight most name waiting",
    "bounds": " ".join(sorted(bound.name.lower() for bound in Bound)),
}


def test_json_has_the_keys_that_scripts_rely_on(memory: SharedMemory) -> None:
    memory.limits.assign({"instance": 1})
    told = json.loads(as_json(take(memory)))
    assert {key: " ".join(sorted(_first(value))) for key, value in told.items()} == KEYS
    assert sorted(told["master"]["usage"]) == ["cpu_percent", "memory_pss", "memory_rss"]
    assert sorted(told["backends"][0]["latency"][0]) == ["count", "up_to_ms"]


def _first(value: dict[str, object] | list[dict[str, object]]) -> dict[str, object]:
    return value[0] if isinstance(value, list) else value


def test_bounds_that_were_reached_are_told(memory: SharedMemory) -> None:
    assert "bounds reached" not in as_table(take(memory))
    memory.bounds.counts(3).reached(Bound.CONNECTIONS, 2)
    assert "bounds reached: connections 2\n" in as_table(take(memory))
