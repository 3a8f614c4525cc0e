"""Spooky as a program: its configuration file, its processes, its logs, its orderly end.

Ready means what the operator would go by: `/ready` of the admin port. Closing it checks what
must hold after every scenario: no fault of Spooky's own in the log and exit status 0.
"""

import json
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import yaml

from tests.e2e.certificates import Identity
from tests.e2e.clients import Target
from tests.e2e.processes import START_S, Program, free_port, wait_until

Settings: TypeAlias = Mapping[str, Any]

STOP_S = 20.0
ACCESS_S = 5.0
"""Access lines are written in batches."""
START_ATTEMPTS = 3


def upstream(*addresses: str, path: str = "/", **more: Any) -> dict[str, Any]:
    """Make the section of one upstream of the configuration file."""
    backends = [{"id": f"b{i}", "address": address} for i, address in enumerate(addresses)]
    return {"route": {"path_prefix": path}, "backends": backends, **more}


@dataclass(slots=True)
class SpookyProcess:
    """A Spooky that runs."""

    program: Program
    settings: dict[str, Any]
    folder: Path
    file: Path
    """The configuration."""
    target: Target
    expected_status: int = 0
    """What the master ends with; negative: the signal that kills it."""

    @property
    def port(self) -> int:
        """The UDP port of the first listener."""
        return self.target.port

    @property
    def admin_port(self) -> int:
        """The TCP port of the keeper."""
        return int(self.settings["admin"]["port"])

    @property
    def access_log(self) -> Path:
        """The file of the access log."""
        return Path(self.settings["log"]["access"])

    def access_lines(self, count: int) -> list[str]:
        """Wait until the access log has `count` lines, and no more; return them."""

        def read() -> list[str]:
            return self.access_log.read_text().splitlines()

        wait_until(lambda: len(read()) >= count, ACCESS_S, f"{count} access lines")
        assert len(read()) == count
        return read()

    def access_records(self, count: int) -> list[dict[str, Any]]:
        """The same, of JSON lines."""
        return [json.loads(line) for line in self.access_lines(count)]

    def log(self) -> str:
        """All that was logged."""
        return self.program.log()

    def check_log(self) -> None:
        """AssertionError if anything in the log is a fault of Spooky's own."""
        log = self.log()
        for fault in ("Traceback", "internal error"):
            assert fault not in log, log[max(log.index(fault) - 1000, 0) :][:6000]

    def is_ready(self) -> bool:
        """Ask the admin port."""
        url = f"http://127.0.0.1:{self.admin_port}/ready"
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def children(self, title: str) -> list[psutil.Process]:
        """List the processes below the master whose title begins with `spooky: ` and `title`."""
        found = []
        for process in psutil.Process(self.program.process.pid).children(recursive=True):
            try:
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if command.startswith(f"spooky: {title}"):
                found.append(process)
        return sorted(found, key=lambda one: one.pid)

    def workers(self) -> list[psutil.Process]:
        """List the worker processes."""
        return self.children("worker")

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        self.program.process.send_signal(number)

    def stop(self) -> int:
        """Stop gracefully; return the exit status."""
        if self.program.is_running():
            self.signal(signal.SIGTERM)
        return self.program.wait(STOP_S)

    def wait_until_serving(self, workers: int) -> None:
        """Wait until so many workers run and Spooky is ready."""
        wait_until(
            lambda: len(self.workers()) == workers and self.is_ready(),
            START_S,
            f"{workers} workers; log: {self.log()[-2000:]}",
        )


def _complete(settings: Settings, identity: Identity, folder: Path, port: int) -> dict[str, Any]:
    """Fill in what a test did not say."""
    listen = {
        "protocol": "http3",
        "address": "127.0.0.1",
        "port": port,
        "tls": {"cert": str(identity.cert), "key": str(identity.key)},
    }
    return {
        "version": 1,
        "worker_processes": 1,
        "drain_timeout": "5s",
        "pid": str(folder / "spooky.pid"),
        **settings,
        "listen": {**listen, **settings.get("listen", {})},
        "admin": {"address": "127.0.0.1", "port": free_port()},
        "log": {
            "level": "info",
            "format": "json",
            "access": str(folder / "access.log"),
            **settings.get("log", {}),
        },
    }


def _start(
    settings: Settings, identity: Identity, folder: Path, attempt: int, prefix: Sequence[str]
) -> SpookyProcess:
    port = free_port(socket.SOCK_DGRAM)
    complete = _complete(settings, identity, folder, port)
    file = folder / f"spooky-{attempt}.yaml"
    file.write_text(yaml.safe_dump(complete))
    command = [*prefix, sys.executable, "-m", "spooky", "-c", str(file)]
    program = Program("spooky", command, folder / f"spooky-{attempt}.log")
    return SpookyProcess(program, complete, folder, file, Target(port, identity.cert))


def _start_ready(
    settings: Settings, identity: Identity, folder: Path, prefix: Sequence[str]
) -> SpookyProcess:
    for attempt in range(START_ATTEMPTS):
        spooky = _start(settings, identity, folder, attempt, prefix)
        try:
            spooky.program.wait_until(spooky.is_ready, START_S, "ready")
        except AssertionError:
            spooky.program.kill()
            if "in use" not in spooky.log():
                raise
        else:
            return spooky
    msg = f"no free port found: {spooky.log()}"
    raise AssertionError(msg)


@contextmanager
def running_spooky(
    settings: Settings, identity: Identity, folder: Path, prefix: Sequence[str] = ()
) -> Iterator[SpookyProcess]:
    """Run Spooky with `settings`, completed, until the block ends.

    `prefix` is a command that becomes the one that it is given, in the same process.
    """
    spooky = _start_ready(settings, identity, folder, prefix)
    try:
        yield spooky
        status = spooky.stop()
    finally:
        spooky.program.kill()
    spooky.check_log()
    assert status == spooky.expected_status, f"exit status {status}: {spooky.log()[-3000:]}"
