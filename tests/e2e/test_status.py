"""`spooky status`, asked of a Spooky that carries requests, reloads and loses workers."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import connect
from tests.e2e.operator import Said, command, reload, rewrite
from tests.e2e.processes import ROOT, free_port, wait_until
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

SEEN_S = 10.0


def status(spooky: SpookyProcess, *more: str) -> Said:
    return command("status", "-p", str(spooky.settings["pid"]), *more)


def snapshot(spooky: SpookyProcess) -> dict[str, Any]:
    said = status(spooky, "--json")
    assert said.status == 0, said
    return dict(json.loads(said.text))


def until_seen(spooky: SpookyProcess, condition: Callable[[dict[str, Any]], bool]) -> None:
    wait_until(lambda: condition(snapshot(spooky)), SEEN_S, "the status to show it")


def backends(seen: dict[str, Any]) -> dict[str, Any]:
    return {backend["name"]: backend for backend in seen["backends"]}


async def ask(port: int, times: int, path: str = "/asgi/status?code=204") -> None:
    async with connect(port) as client:
        for _ in range(times):
            assert (await client.get(path)).status == 204


def columns(table: str, heading: str) -> list[dict[str, str]]:
    """Read a part of the table as a reader does: by where the headings stand."""
    part = next(part for part in table.split("\n\n") if part.startswith(heading))
    header, *lines = part.splitlines()
    names = header.split("  ")
    keys = [name.strip() for name in names if name.strip()]
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def test_the_table_and_the_json_tell_the_same(spooky: Spooky, asgi: Backend) -> None:
    dead = f"127.0.0.1:{free_port()}"
    running = spooky({"worker_processes": 2, "upstream": {"web": upstream(asgi.address, dead)}})
    asyncio.run(ask(running.port, 6))
    until_seen(running, lambda seen: sum(one["requests"] for one in seen["workers"]) == 6)
    seen, said = snapshot(running), status(running)

    master = seen["master"]
    assert (master["pid"], master["state"]) == (running.program.process.pid, "serving")
    assert (master["generation"], master["reloads"], master["last_reload"]) == (1, 0, None)
    assert seen["generations"] == [{"generation": 1, "state": "serving", "workers": 2, "ready": 2}]
    assert {one["pid"] for one in seen["workers"]} == {one.pid for one in running.workers()}
    assert [one["pid"] for one in seen["keepers"]] == [running.children("keeper")[0].pid]
    for process in (master, *seen["workers"], *seen["keepers"]):
        assert 0 < process["usage"]["memory_pss"] <= process["usage"]["memory_rss"]
        assert process["usage"]["cpu_percent"] >= 0
    for process in (*seen["workers"], *seen["keepers"]):
        assert (process["state"], process["generation"]) == ("ready", 1)
        assert process["heartbeat_age_s"] < 5
    alive, failing = backends(seen)["web/b0"], backends(seen)["web/b1"]
    assert alive["address"] == f"http://{asgi.address}"
    assert (alive["requests"], alive["failures"], alive["weight"]) == (6, 0, 100)
    assert sum(bucket["count"] for bucket in alive["latency"]) == 6
    # Asked in turn, it refused each time, and each request went on to the other.
    assert failing["requests"] == failing["failures"] == failing["retries"] > 0

    assert said.status == 0
    assert said.text.startswith("spooky 0.1.0: serving, generation 1, up ")
    processes = columns(said.text, "PROCESS")
    assert [one["PROCESS"] for one in processes][:2] == ["master", "keeper"]
    assert sum(int(one["REQUESTS"]) for one in processes[2:]) == 6
    table = {one["BACKEND"]: one for one in columns(said.text, "BACKEND")}
    assert (table["web/b0"]["REQUESTS"], table["web/b0"]["FAILURES"]) == ("6", "0")
    assert table["web/b1"]["ADDRESS"] == f"http://{dead}"
    assert int(table["web/b1"]["FAILURES"]) == failing["failures"]


def test_requests_under_way_and_the_worker_that_dies_with_them(
    spooky: Spooky, asgi: Backend
) -> None:
    running = spooky({"worker_processes": 1, "upstream": {"web": upstream(asgi.address)}})

    async def scenario() -> None:
        async with connect(running.port) as client:
            for _ in range(3):
                client.open("GET", "/asgi/hang")
            shows = asyncio.to_thread(
                until_seen,
                running,
                lambda seen: (
                    backends(seen)["web/b0"]["in_flight"] == 3
                    and seen["workers"][0]["in_flight"] == 3
                    and seen["workers"][0]["connections"] == 1
                ),
            )
            await shows
            running.workers()[0].kill()
            # What it had is no more, though it did not say so itself.
            await asyncio.to_thread(
                until_seen, running, lambda seen: backends(seen)["web/b0"]["in_flight"] == 0
            )

    asyncio.run(scenario())
    running.wait_until_serving(1)


def test_a_reload_keeps_the_counts_of_backends_that_stay(spooky: Spooky, asgi: Backend) -> None:
    dead = f"127.0.0.1:{free_port()}"
    both = {"web": upstream(asgi.address), "old": upstream(dead, path="/old")}
    running = spooky({"worker_processes": 1, "upstream": both})
    asyncio.run(ask(running.port, 4))
    until_seen(running, lambda seen: backends(seen)["web/b0"]["requests"] == 4)

    renamed = {"shop": upstream(asgi.address)}
    rewrite(running, upstream=renamed)
    assert reload(running).status == 0
    # The row of the other is free as soon as the last worker that has it is gone.
    until_seen(running, lambda seen: set(backends(seen)) == {"shop/b0"})
    asyncio.run(ask(running.port, 1))
    until_seen(running, lambda seen: backends(seen)["shop/b0"]["requests"] == 5)
    seen = snapshot(running)
    assert backends(seen)["shop/b0"]["generation"] == 2
    assert seen["master"]["last_reload"] == "generation 2, 1 worker"

    rewrite(running, upstream=both)
    assert reload(running).status == 0
    assert (backends(snapshot(running))["web/b0"]["requests"]) == 5
    assert (backends(snapshot(running))["old/b0"]["requests"]) == 0


def test_a_reload_that_needs_more_rows_than_there_are_is_refused(
    spooky: Spooky, asgi: Backend
) -> None:
    def many(first: int) -> dict[str, Any]:
        closed = [f"127.0.0.2:{port}" for port in range(first, first + 9)]
        return {"web": upstream(asgi.address, path="/asgi"), "many": upstream(*closed, path="/x")}

    running = spooky({"upstream": many(1001), "limits": {"backend_rows": 16}})
    rewrite(running, upstream=many(2001))
    said = reload(running)
    assert said.status == 1
    assert (
        "limits.backend_rows: there is room for 16 different backends, 10 are in use" in said.text
    )
    asyncio.run(ask(running.port, 1))
    seen = snapshot(running)
    assert len(seen["backends"]) == 10
    assert seen["master"]["last_reload_succeeded"] is False
    # Nothing of the refused one is left behind: as many as there is room for still find it.
    rewrite(running, upstream={**many(1001), "more": upstream("127.0.0.3:1", path="/y")})
    assert reload(running).status == 0


def test_without_a_master_it_says_so(tmp_path: Path) -> None:
    said = command("status", "-p", str(tmp_path / "none.pid"))
    assert said.status == 1
    assert "no pidfile" in said.text
    (tmp_path / "stale.pid").write_text(f"{os.getpid()}\n")
    said = command("status", "-p", str(tmp_path / "stale.pid"))
    assert said.status == 1
    assert "is stale" in said.text


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


# All is imported before, for Python itself may be where nobody may look.
AS_NOBODY = """
import encodings.ascii, os, sys
from spooky import cli
from spooky.status import show, snapshot
os.setuid(65534)
sys.exit(cli.main(["status", "-p", sys.argv[1]]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_permission_it_says_so(
    identity: Identity, asgi: Backend, open_folder: Path
) -> None:
    settings = {"upstream": {"web": upstream(asgi.address)}}
    with running_spooky(settings, identity, open_folder) as running:
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(running.settings["pid"])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "no permission to look into process" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(spooky: Spooky, asgi: Backend) -> None:
    running = spooky({"upstream": {"one": upstream(asgi.address)}})
    line = f"{sys.executable} -m spooky status -p {running.settings['pid']} | head -c 1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("s", "")
