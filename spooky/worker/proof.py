"""Which clients have proved their address before their first packet is acted on, and by what.

It owns the tokens that this worker makes and takes (RFC 9000 section 8.1), and sees to it that one
of a NEW_TOKEN frame is taken once. Whether to ask for a proof is decided elsewhere.

A rule: what is remembered of tokens is bounded and this worker's own. Who has many addresses can
have one taken more than once, and gains by it what a Retry would have cost him.
"""

import os
import time
from collections import OrderedDict
from typing import Final

from spooky.protocol.datagram import Datagram
from spooky.protocol.downstream import Retried
from spooky.protocol.messages import Path
from spooky.protocol.new_token import SEED_OCTETS, NewTokens
from spooky.protocol.retry import RetryTokens, was_retried

REMEMBERED: Final = 16_384
"""Tokens that were taken and are known by heart, some 2 MB of them."""


class Proofs:
    """Makes tokens and judges those that clients bring."""

    def __init__(self, key: bytes) -> None:
        """Take the key that all workers have."""
        self._retry = RetryTokens(key)
        self._new = NewTokens(key)
        self._spent: OrderedDict[bytes, None] = OrderedDict()

    def of(self, initial: Datagram, path: Path) -> Retried | None:
        """Return what the token of a client's Initial proves; None: nothing."""
        if not initial.token:
            return None
        now = time.monotonic()
        if was_retried(initial):
            retried = self._retry.open(initial, path, now)
            if retried is not None:
                return retried
        seed = self._new.open(initial.token, initial.version, path, now)
        if seed is None or seed in self._spent:
            return None
        self._spent[seed] = None
        if len(self._spent) > REMEMBERED:
            self._spent.popitem(last=False)
        return Retried(path, initial.dcid, None)

    def for_retry(self, initial: Datagram, path: Path, source_cid: bytes) -> bytes:
        """Make the token of the Retry that answers `initial`; `source_cid` is the Retry's."""
        rand = os.urandom(SEED_OCTETS)
        return self._retry.seal(initial, path, source_cid, time.monotonic(), rand)

    def for_next_time(self, version: int, path: Path) -> bytes:
        """Make a token for the next connection of the client at the end of `path`."""
        return self._new.seal(version, path, time.monotonic(), os.urandom(SEED_OCTETS))
