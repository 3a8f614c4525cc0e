"""The operator's word on backends, over the control socket.

A connection carries one command, a JSON object on one line, and one answer. What is changed is
the backend's row in shared memory, where every worker sees it; a row belongs to an address, so
the word holds in all upstreams that have the address. Only the owner of the socket can write to
it, so nothing else is asked of who does.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spooky.config.model import Config
from spooky.errors import RefusedError
from spooky.keeper.additions import Addition, Additions
from spooky.keeper.revision import Revision
from spooky.shm.backend_cells import BackendColumn, Duty, Health
from spooky.shm.backends import BackendRow, BackendTable

log = logging.getLogger(__name__)

LINE_BYTES: Final = 4096
TIMEOUT_S: Final = 5.0
MOST_WEIGHT: Final = 1000


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator wants of a backend."""

    action: str
    backend: str
    value: str = ""
    weight: str = ""
    """Of a backend that is added."""


class Controls:
    """Carries commands out."""

    def __init__(self, config: Config, table: BackendTable, rows: Mapping[str, int]) -> None:
        """Take the configuration that serves, and where its backends' rows are, by identity."""
        self._rows = _rows_by_name(config, rows)
        self._table = table

    def carry_out(self, command: Command) -> str:
        """Do it and say what is so now; RefusedError."""
        if command.action not in _ACTIONS:
            known = ", ".join((*_ACTIONS, "add", "remove"))
            raise RefusedError(f"no action {command.action!r}: there are {known}")
        number = self._rows.get(command.backend)
        if number is None:
            known = ", ".join(name for name in self._rows if "/" in name and "//" not in name)
            raise RefusedError(f"no backend {command.backend!r}: there are {known}")
        said = _ACTIONS[command.action](self._table.row(number), command.value)
        log.info("by command: backend %s is %s", command.backend, said)
        return said


def _rows_by_name(config: Config, rows: Mapping[str, int]) -> dict[str, int]:
    """Find rows by `upstream/id`, by address as in the file, and by identity."""
    found = {}
    for upstream in config.upstream:
        for backend in upstream.backends:
            row = rows[backend.identity]
            for name in (f"{upstream.name}/{backend.id}", backend.address, backend.identity):
                found[name] = row
    return found


def _put(duty: Duty, said: str) -> Callable[[BackendRow, str], str]:
    def act(row: BackendRow, _value: str) -> str:
        row.set(BackendColumn.DUTY, duty)
        return said

    return act


def _weigh(row: BackendRow, value: str) -> str:
    if value == "default":
        row.set(BackendColumn.WEIGHT_SET, 0)
        return f"back at its weight of {row.get(BackendColumn.WEIGHT)}"
    if not (value.isascii() and value.isdigit() and int(value) <= MOST_WEIGHT):
        raise RefusedError(f"a weight is 0 to {MOST_WEIGHT}, or `default`; got {value!r}")
    row.set(BackendColumn.WEIGHT_SET_OVER, row.get(BackendColumn.WEIGHT))
    row.set(BackendColumn.WEIGHT_SET, int(value) + 1)
    return f"at weight {value}"


_FORCED: Final = {"up": Health.HEALTHY, "down": Health.UNHEALTHY, "auto": Health.UNKNOWN}


def _force(row: BackendRow, value: str) -> str:
    if value not in _FORCED:
        raise RefusedError(f"health is set to {', '.join(_FORCED)}; got {value!r}")
    row.set(BackendColumn.FORCED_HEALTH, _FORCED[value])
    return "as healthy as it is found to be" if value == "auto" else f"taken to be {value}"


_ACTIONS: Final[dict[str, Callable[[BackendRow, str], str]]] = {
    "enable": _put(Duty.SERVING, "enabled: it gets requests"),
    "drain": _put(Duty.DRAINING, "drained: it finishes what it has"),
    "disable": _put(Duty.OUT, "disabled: it gets nothing"),
    "weight": _weigh,
    "health": _force,
}


class ControlEndpoint:
    """The server behind the control socket."""

    def __init__(self, revision: Revision, additions: Additions) -> None:
        self._revision = revision
        self._additions = additions
        self._open = 0
        self.idle = asyncio.Event()
        """Set while no connection is open."""
        self.idle.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one command of a connection; never raises for what comes."""
        self._open += 1
        self.idle.clear()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                line = await reader.readline()
            if line:
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                async with asyncio.timeout(TIMEOUT_S):
                    await writer.drain()
        except (TimeoutError, OSError, ValueError) as error:
            log.debug("control: a connection failed: %s", error or type(error).__name__)
        except asyncio.CancelledError:
            # asyncio would log the end of the process as a fault of this task.
            log.debug("control: a connection was cut off by the end of this process")
        finally:
            writer.close()
            self._open -= 1
            if not self._open:
                self.idle.set()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, "text": await self._carry_out(_read(line))}
        except RefusedError as error:
            return {"ok": False, "text": str(error)}

    async def _carry_out(self, command: Command) -> str:
        match command.action:
            case "add":
                wish = Addition(command.backend, command.value, command.weight)
                said = await self._additions.add(wish)
            case "remove":
                said = await self._additions.remove(command.backend)
            case _:
                spec = self._revision.current()
                controls = Controls(spec.config, spec.memory.backends, spec.backend_rows)
                return controls.carry_out(command)
        log.info("by command: backend %s is %s", command.backend, said)
        return said


def _read(line: bytes) -> Command:
    try:
        given = json.loads(line)
        return Command(
            str(given["action"]),
            str(given["backend"]),
            str(given.get("value", "")),
            str(given.get("weight", "")),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        expected = '{"action": ..., "backend": ..., "value": ...}'
        raise RefusedError(f"expected {expected} on one line") from None
