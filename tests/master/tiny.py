"""A real master with workers that do nothing: the program that the tests of the master start.

`python -m tests.master.tiny FOLDER` reads FOLDER/config.json, and reads it again on a reload.
What a worker does is in its `behaviour`.
"""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from spooky import log
from spooky.config.limits import Limits
from spooky.config.model import Admin, Certificate, Config, Listener, ListenTls, Log
from spooky.errors import ConfigError, Problem, StartupError
from spooky.handover import WorkerSpec
from spooky.keeper.main import run as keeper
from spooky.master import takeover
from spooky.master.arbiter import Arbiter
from spooky.master.blueprint import Program, Resolved
from spooky.shm.processes import Column, ProcessState, Row

BEAT_S = 0.2
HEARD = (signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)


def read(folder: Path) -> Resolved:
    settings: dict[str, Any] = json.loads((folder / "config.json").read_text())
    if settings.get("broken"):
        raise ConfigError([Problem(3, "listen.port", "expected a port, got 'x'")])
    config = Config(
        listen=tuple(
            Listener(ListenTls(Certificate()), address="127.0.0.1", port=port)
            for port in settings["ports"]
        ),
        upstream=(),
        worker_processes=settings.get("workers", 2),
        user=settings.get("user"),
        group=settings.get("group"),
        admin=Admin(port=settings.get("admin_port", 0)),
        log=Log(file=settings.get("log", "-"), access=settings.get("access")),
        limits=Limits(udp_receive_buffer=64 * 1024, udp_send_buffer=64 * 1024),
        drain_timeout=settings.get("drain_timeout", 30.0),
        worker_timeout=settings.get("worker_timeout", 10.0),
        steering=settings.get("steering", "auto"),
        watch=settings.get("watch", False),
        pid=folder / "spooky.pid",
    )
    return Resolved(config, (settings.get("behaviour", "good"),), {}, {})


def worker(spec: WorkerSpec) -> int:
    (behaviour,) = spec.identities
    if behaviour == "cannot start":
        raise StartupError("no such key")
    if behaviour == "has a bug":
        raise ValueError("a bug in the worker")
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    row = spec.memory.processes.row(spec.slot)
    row.set(Column.PID, os.getpid())
    row.set(Column.STATE, ProcessState.READY)
    os.write(spec.ready_fd, b"ready\n")
    os.close(spec.ready_fd)
    return live(behaviour, row)


def live(behaviour: str, row: Row) -> int:
    """Do as the signals say, and beat."""
    while True:
        row.set(Column.HEARTBEAT_MS, time.monotonic_ns() // 1_000_000)
        heard = signal.sigtimedwait(HEARD, BEAT_S)
        match heard.si_signo if heard else None:
            case None:
                pass
            case signal.SIGUSR1:
                log.reopen()
                logging.getLogger("spooky.tiny").info("reopened")
            case signal.SIGQUIT if behaviour in ("drains for ever", "never leaves"):
                row.set(Column.STATE, ProcessState.DRAINING)
            case signal.SIGTERM if behaviour == "never leaves":
                pass
            case signal.SIGQUIT | signal.SIGTERM:
                return 0
            case _:
                # The wait was cut short by SIGCONT: there was no signal to wait for.
                pass


def main(folder: Path) -> int:
    program = Program(
        f"-c {folder}", folder / "config.json", lambda _: read(folder), worker, keeper
    )
    try:
        return Arbiter(program, program.read(""), takeover.receive()).run()
    except StartupError as error:
        print(f"spooky: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
