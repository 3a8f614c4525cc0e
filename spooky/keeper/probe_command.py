"""A probe that leaves the judgement to a program of the operator's: exit status 0 is well.

The program is started as it is written, without a shell, in a session of its own. Nothing of what
it says is kept.

A rule: whatever ends the probe, a program that has not ended is killed with its process group.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass

from spooky.keeper.probe import ProbeFailedError


@dataclass(frozen=True, slots=True)
class CommandProbe:
    """Takes a backend for well of which a program says so."""

    command: tuple[str, ...]
    """The program, and its arguments."""
    host: str
    port: int
    backend_id: str

    async def ask(self) -> str:
        """Run the program, and judge how it ended. ProbeFailedError, OSError."""
        environment = {
            **os.environ,
            "SPOOKY_BACKEND_ADDRESS": self.host,
            "SPOOKY_BACKEND_PORT": str(self.port),
            "SPOOKY_BACKEND_ID": self.backend_id,
        }
        program = await asyncio.create_subprocess_exec(
            *self.command,
            env=environment,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,
        )
        try:
            status = await program.wait()
        except BaseException:
            await _kill(program)
            raise
        if status:
            raise ProbeFailedError(f"{self.command[0]} {_word(status)}")
        return f"{self.command[0]} ended with status 0"


async def _kill(program: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    # Nothing survives it, so this is no wait that could be long; without it there is a zombie.
    await program.wait()


def _word(status: int) -> str:
    if status > 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
