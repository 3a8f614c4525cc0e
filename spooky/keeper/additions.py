"""Backends that operators add to an upstream, or remove from it, while Spooky runs.

What is changed is left in shared memory, and the master is asked for a reload, in which it lays
that over the file. So a change does all that a reload does, and is refused where one would be;
workers that drain then finish with the backends that they have.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Final

from spooky.config import names, overlay
from spooky.config.model import Backend, Upstream
from spooky.config.overlay import Entry, Overlay
from spooky.errors import RefusedError
from spooky.handover import KeeperSpec
from spooky.shm.clock import now_ms
from spooky.shm.instance import Change

POLL_S: Final = 0.01
RELOAD_MS: Final = 60_000
MOST_WEIGHT: Final = 1000


@dataclass(frozen=True, slots=True)
class Addition:
    """A backend as an operator names it: `upstream/id`, its address, its weight as text."""

    name: str
    address: str
    weight: str


class Additions:
    """Carries them out, one after the other."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._upstreams = {upstream.name: upstream for upstream in spec.config.upstream}
        self._memory = spec.memory
        self._wake_fd = spec.wake_fd
        self._lock = asyncio.Lock()

    async def add(self, wish: Addition) -> str:
        """Add a backend and say what is so then; RefusedError."""
        upstream, name = self._find(wish.name)
        backend = _backend(name, wish)
        if any(one.id == name for one in upstream.backends):
            raise RefusedError(f"{wish.name} is there already")
        twin = next((one for one in upstream.backends if one.identity == backend.identity), None)
        if twin is not None:
            raise RefusedError(f"{wish.address} is {upstream.name}/{twin.id} already")
        async with self._lock:
            await self._change(self._overlay().with_added(Entry(upstream.name, backend)))
        return f"added: {backend.address} with weight {backend.weight}"

    async def remove(self, wish: str) -> str:
        """Remove a backend and say what is so then; RefusedError."""
        upstream, name = self._find(wish)
        backend = next((one for one in upstream.backends if one.id == name), None)
        if backend is None:
            known = ", ".join(one.id for one in upstream.backends)
            raise RefusedError(f"no backend {name!r} in {upstream.name}: there are {known}")
        if len(upstream.backends) == 1:
            raise RefusedError(f"{wish} is the last backend of {upstream.name}")
        async with self._lock:
            await self._change(self._overlay().with_removed(Entry(upstream.name, backend)))
        return "removed"

    def _find(self, name: str) -> tuple[Upstream, str]:
        upstream, slash, backend = name.partition("/")
        if not slash or not backend:
            raise RefusedError(f"expected UPSTREAM/ID, got {name!r}")
        if upstream not in self._upstreams:
            known = ", ".join(self._upstreams)
            raise RefusedError(f"no upstream {upstream!r}: there are {known}")
        return self._upstreams[upstream], backend

    def _overlay(self) -> Overlay:
        return overlay.read(self._memory.notes.read())

    async def _change(self, changed: Overlay) -> None:
        """Leave it for the master and wait until it has been taken, or take it back."""
        notes, instance = self._memory.notes, self._memory.instance
        before = notes.read()
        try:
            notes.write(overlay.write(changed))
        except ValueError:
            raise RefusedError(
                "there is no room for more changes: write them in the file"
            ) from None
        begun = instance.begun(Change.RELOAD)
        os.eventfd_write(self._wake_fd, 1)
        waiting_until = now_ms() + RELOAD_MS
        # The master has no other way to tell us than shared memory.
        while (outcome := instance.outcome(Change.RELOAD)).ended <= begun:
            if now_ms() > waiting_until:
                raise RefusedError(
                    "the reload takes long: `spooky status` will show what comes of it"
                )
            await asyncio.sleep(POLL_S)
        if not outcome.succeeded:
            notes.write(before)
            raise RefusedError(outcome.text)


def _backend(name: str, wish: Addition) -> Backend:
    try:
        host, port, tls = names.parse_backend(wish.address)
    except names.UnfitError as error:
        said = str(error) or "expected HOST:PORT, or https://HOST:PORT for TLS"
        raise RefusedError(f"{said}, got {wish.address!r}") from None
    weight = wish.weight or "100"
    if not (weight.isascii() and weight.isdigit() and int(weight) <= MOST_WEIGHT):
        raise RefusedError(f"a weight is 0 to {MOST_WEIGHT}; got {weight!r}")
    return Backend(name, host, port, tls, int(weight))
