"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from spooky.shm.segment import SharedMemory

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("spooky", deadline=None)
settings.load_profile("spooky")

BACKEND_ROWS = 4
"""Of the shared memory that tests make."""


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Make the shared memory of an instance."""
    made = SharedMemory.create(BACKEND_ROWS)
    yield made
    os.close(made.fd)
