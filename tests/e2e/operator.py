"""What an operator does to a Spooky that runs, and what it answers: exit status and text."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import yaml

from tests.e2e.processes import ROOT
from tests.e2e.spooky_process import SpookyProcess

COMMAND_S = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, on both outputs together, and its exit status."""

    status: int
    text: str


def command(*arguments: str) -> Said:
    """Run `spooky` with arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "spooky", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    return Said(done.returncode, done.stdout)


def reload(spooky: SpookyProcess) -> Said:
    """Reload by the pidfile, so that only the master reads the configuration."""
    return command("-s", "reload", "-p", str(spooky.settings["pid"]))


def reload_by_file(spooky: SpookyProcess) -> Said:
    """Reload by the configuration, which the command then reads and tests first."""
    return command("-s", "reload", "-c", str(spooky.file))


def rewrite(spooky: SpookyProcess, **changes: Any) -> None:
    """Write the configuration anew, with other values of some keys at its top."""
    spooky.settings.update(changes)
    spooky.file.write_text(yaml.safe_dump(spooky.settings))


def readiness(spooky: SpookyProcess) -> dict[str, Any]:
    """Ask the admin port for the state of the instance, ready or not."""
    url = f"http://127.0.0.1:{spooky.admin_port}/ready"
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


def status(spooky: SpookyProcess) -> dict[str, Any]:
    """Ask for the state of the processes and backends."""
    said = command("status", "--json", "-p", str(spooky.settings["pid"]))
    assert said.status == 0, said
    return dict(json.loads(said.text))
