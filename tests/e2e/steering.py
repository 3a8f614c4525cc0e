"""The two ways in which datagrams find their worker, as parameters of tests.

`kernel` is a program attached to the sockets, `userspace` the hand-over between workers alone.
"""

import pytest

both = pytest.mark.parametrize("steering", ["kernel", "userspace"])
"""Runs a test once in each mode."""
