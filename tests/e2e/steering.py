"""The two ways in which datagrams find their worker, as parameters of tests.

`kernel` is a program attached to the sockets, `userspace` the hand-over between workers alone.
"""

from dataclasses import fields

import pytest

from spooky.config.model import Config

IS_KNOWN = any(field.name == "steering" for field in fields(Config))


def steered(mode: str) -> dict[str, str]:
    """Make the settings for one mode."""
    return {"steering": mode} if IS_KNOWN else {}


both = pytest.mark.parametrize(
    "steering",
    [
        "kernel",
        pytest.param(
            "userspace", marks=pytest.mark.skipif(not IS_KNOWN, reason="there is one mode only")
        ),
    ],
)
"""Runs a test once in each mode."""
