"""Two backends that fail on demand, and what they have seen of the requests that they were sent."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.backends import Backend, start_backend
from tests.e2e.failing_app import records
from tests.e2e.processes import wait_until


@dataclass(frozen=True, slots=True)
class Failing:
    """The two backends and the file that they share."""

    backends: tuple[Backend, ...]
    file: Path

    @property
    def addresses(self) -> list[str]:
        """Their addresses in the form of the configuration file."""
        return [backend.address for backend in self.backends]

    def tries(self, token: str) -> list[dict[str, Any]]:
        """Return what was tried of the request with that token, in order."""
        return records(self.file, token, "try")

    def wait_until_cancelled(self, token: str, count: int) -> None:
        """Wait until so many of its tries were given up."""
        wait_until(
            lambda: len(records(self.file, token, "cancelled")) == count,
            5.0,
            f"{count} tries given up",
        )


@contextmanager
def start_failing(folder: Path) -> Iterator[Failing]:
    """Start the backends; they are ended with the block."""
    file = folder / "tries"

    def start() -> Backend:
        command = [sys.executable, "-m", "tests.e2e.failing_app"]
        return start_backend("failing", folder, lambda port: [*command, str(port), str(file)])

    with start() as one, start() as other:
        yield Failing((one, other), file)
