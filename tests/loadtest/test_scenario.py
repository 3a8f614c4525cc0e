"""Scenarios against the real Spooky, a few seconds each: nothing is lost, and a loss is told."""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from loadtest import scenario as runner
from loadtest.judge import judge
from loadtest.processes import share_cores
from loadtest.scenarios import GET, POST, SCENARIOS, SLOW_GET, SLOW_POST, Group, Scenario
from loadtest.stand import Layout, addresses, stand
from loadtest.timeline import Watch

pytestmark = pytest.mark.e2e
SMALL = tuple(Group(one.shaped(2, 1)) for one in (GET, POST, SLOW_GET, SLOW_POST))
ROOT = Path(__file__).parent.parent.parent


def test_slow_clients_and_reloads_lose_nothing() -> None:
    seen = Scenario("x", "x", SMALL, seconds=4.0, reload_every_s=1.5, workers=2)
    record = runner.run(seen, share_cores())
    beats = [beat for beats in record.groups.values() for beat in beats]
    found = judge(beats, record.samples, is_settled=False)
    assert found.lost == {}
    assert all(sum(beat.requests for beat in beats) for beats in record.groups.values())
    assert record.reloads_done == len(record.reloads) > 0
    assert not runner.is_bad(found, record)
    assert runner.is_bad(found, replace(record, reloads_done=0))


def test_a_backend_that_dies_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killing(Watch):
        def __init__(self, root: psutil.Process) -> None:
            super().__init__(root)
            for process in psutil.Process().children():
                if process.name() == "nghttpd":
                    process.kill()

    monkeypatch.setattr(runner, "Watch", Killing)
    record = runner.run(Scenario("x", "x", (Group(GET.shaped(2, 1)),), seconds=2.0), share_cores())
    beats = [beat for beats in record.groups.values() for beat in beats]
    found = judge(beats, record.samples, is_settled=False)
    assert any("502" in reason or "503" in reason for reason in found.lost)
    assert runner.is_bad(found, record)


def test_a_stand_has_what_its_layout_says() -> None:
    assert len(set(addresses(1000))) == 1000
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(workers=2, backends=300, routes=50, is_crowded=True)
        with stand(Path(folder), share_cores(), layout) as spooky:
            config = str(spooky.site.folder / "spooky.yaml")
            argv = [sys.executable, "-m", "spooky", "status", "-c", config]
            told = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "origin/b299" in told.stdout
    assert "worker in slot 1" in told.stdout


def test_every_scenario_ends_by_itself() -> None:
    for row in SCENARIOS.values():
        assert row.seconds > 0
        assert all(0 <= group.begins < group.ends <= 1 for group in row.groups)


@pytest.mark.skipif(find_spec("locust") is None, reason="of the bench extra")
def test_locust_users_get_their_answers() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        stand(Path(folder), share_cores(), Layout()) as spooky,
    ):
        argv = [
            sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless",
            "-u", "4", "-r", "4", "-t", "4s", "-H", f"https://127.0.0.1:{spooky.site.port}",
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"GET of 1 KiB +[1-9][0-9]* +0\(0\.00%\)", done.stderr)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs a JavaScript parser")
@pytest.mark.parametrize("name", ["admin", "backend"])
def test_k6_scripts_are_javascript(name: str, tmp_path: Path) -> None:
    script = tmp_path / f"{name}.mjs"
    script.write_bytes((ROOT / "loadtest" / "k6" / f"{name}.js").read_bytes())
    subprocess.run(["node", "--check", str(script)], check=True)
