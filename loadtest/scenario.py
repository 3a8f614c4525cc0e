"""`python -m loadtest.scenario NAME`: puts Spooky through a scenario; `make soak` is one of them.

Says what was lost (nothing is expected to be) and what it cost, and writes a page with plots to
.bench/scenario-NAME.html. Exit code: 0 well, 1 something was lost or leaks, 2 wrong usage.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from loadtest.charts import charts
from loadtest.crowd import Beat
from loadtest.judge import Judgement, describe, judge
from loadtest.peers import ROOT
from loadtest.plots import page
from loadtest.processes import Cores, share_cores, talking
from loadtest.scenarios import SCENARIOS, Group, Scenario
from loadtest.stand import Layout, Stand, share, stand
from loadtest.timeline import Sample, Watch

RELOAD_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Record:
    """What was seen while a scenario ran."""

    groups: dict[str, list[Beat]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    reloads: list[float] = field(default_factory=list)
    """When each was asked for, by the monotonic clock."""
    reloads_done: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a scenario and print what came of it; the exit code."""
    parser = argparse.ArgumentParser(prog="loadtest.scenario", description="Try Spooky's patience.")
    rows = "\n".join(f"{row.name}: {row.what}" for row in SCENARIOS.values())
    parser.add_argument("name", choices=SCENARIOS, help=rows)
    parser.add_argument("--seconds", type=float, help="instead of the scenario's own time")
    parser.add_argument("--minutes", type=float, help="the same, in minutes")
    options = parser.parse_args(arguments)
    scenario = SCENARIOS[options.name]
    seconds = options.seconds or (options.minutes or 0) * 60 or scenario.seconds
    scenario = replace(scenario, seconds=seconds)
    print(f"{scenario.name}: {scenario.what}, {seconds:g} s", flush=True)
    record = run(scenario, share_cores())
    found = judge(
        [beat for beats in record.groups.values() for beat in beats],
        record.samples,
        is_settled=scenario.is_settled,
    )
    text = describe(found) + _reloads(record)
    print(text)
    print(f"plots: {_written(scenario, record, text).relative_to(ROOT)}")
    return int(is_bad(found, record))


def is_bad(found: Judgement, record: Record) -> bool:
    """Something was lost or leaks, or a reload did not come about."""
    return found.is_bad or record.reloads_done < len(record.reloads)


def run(scenario: Scenario, cores: Cores) -> Record:
    """Run it; what was seen."""
    record = Record()
    layout = Layout(workers=scenario.workers)
    with (
        tempfile.TemporaryDirectory(prefix="spooky-scenario-") as folder,
        stand(Path(folder), cores, layout) as spooky,
    ):
        watch = Watch(spooky.master)
        try:
            with ExitStack() as stack:
                threads = [
                    threading.Thread(target=_listen, args=(client, record.groups[name]))
                    for name, client in _clients(stack, scenario, spooky, cores, record)
                ]
                for thread in threads:
                    thread.start()
                if scenario.reload_every_s:
                    _reload(spooky, scenario, record)
                for thread in threads:
                    thread.join()
        finally:
            record.samples = watch.stop()
    return record


def _clients(
    stack: ExitStack, scenario: Scenario, spooky: Stand, cores: Cores, record: Record
) -> list[tuple[str, "subprocess.Popen[str]"]]:
    """Start the clients of each group; a group that comes later waits by itself."""
    clients = []
    where = cores.others if scenario.workers == 1 else share(cores, scenario.workers)
    for place, group in enumerate(scenario.groups, 1):
        name = f"{place}: {group.workload.what}, {group.workload.connections} connections"
        record.groups[name] = []
        arguments = _arguments(group, scenario.seconds, spooky.site.port)
        client = talking("loadtest.crowd", *arguments, cores=where)
        clients.append((name, stack.enter_context(client)))
    return clients


def _arguments(group: Group, seconds: float, port: int) -> list[str]:
    return [
        str(port), json.dumps(asdict(group.workload)), "--after", str(group.begins * seconds),
        "--seconds", str((group.ends - group.begins) * seconds),
    ]  # fmt: skip


def _listen(client: "subprocess.Popen[str]", beats: list[Beat]) -> None:
    assert client.stdout is not None
    beats.extend(Beat(**json.loads(line)) for line in client.stdout)
    if client.wait() != 0:
        now = time.monotonic()
        beats.append(Beat(now, 0.0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, {"the clients ended early": 1}))


def _reload(spooky: Stand, scenario: Scenario, record: Record) -> None:
    """Reload as often as fits, each when the one before is done."""
    end = time.monotonic() + scenario.seconds
    while time.monotonic() + scenario.reload_every_s < end:
        time.sleep(scenario.reload_every_s)
        before = _reloads_done(spooky)
        record.reloads.append(time.monotonic())
        os.kill(spooky.master.pid, signal.SIGHUP)
        limit = time.monotonic() + RELOAD_TIMEOUT_S
        while _reloads_done(spooky) == before and time.monotonic() < limit:
            time.sleep(0.2)
    record.reloads_done = _reloads_done(spooky)


def _reloads_done(spooky: Stand) -> int:
    config = spooky.site.folder / "spooky.yaml"
    argv = [sys.executable, "-m", "spooky", "status", "-c", str(config), "--json"]
    told = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT)
    return int(json.loads(told.stdout)["master"]["reloads"])


def _reloads(record: Record) -> str:
    if not record.reloads:
        return ""
    return f"\nreloads: {record.reloads_done} done of {len(record.reloads)} asked for"


def _written(scenario: Scenario, record: Record, text: str) -> Path:
    """Write the page with the plots; where it is."""
    path = ROOT / ".bench" / f"scenario-{scenario.name}.html"
    path.parent.mkdir(exist_ok=True)
    start, end = record.samples[0].at, record.samples[-1].at
    drawn = charts(record.groups, record.samples)
    title = f"Spooky, scenario {scenario.name}: {scenario.what}"
    marks = [at - start for at in record.reloads]
    path.write_text(page(title, text, drawn, end - start, marks))
    return path


if __name__ == "__main__":
    sys.exit(main())
