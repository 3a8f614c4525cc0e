"""Backends that operators add to an upstream, or remove from it, while Spooky runs.

What is changed is left in shared memory, where the master gives it rows and lets all processes
know (`master.revision`). An upstream that had no backend by TLS so far has no context for one
either: its first one takes a reload, in which the master makes it.

A rule: what was left and is refused is taken back before the operator hears of it.
"""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spooky.config import names, overlay
from spooky.config.check import check
from spooky.config.document import Places
from spooky.config.model import Backend, Config, Upstream
from spooky.config.overlay import Entry, Overlay
from spooky.errors import RefusedError
from spooky.handover import RELOAD_WISH, KeeperSpec
from spooky.keeper.revision import Revision
from spooky.shm.backend_cells import BackendColumn
from spooky.shm.clock import now_ms
from spooky.shm.instance import Cell, Change

POLL_S: Final = 0.002
WAIT_MS: Final = 60_000
MOST_WEIGHT: Final = 1000
_ID: Final = re.compile(r"[!-~]{1,128}")
_SAID: Final = (BackendColumn.DUTY, BackendColumn.WEIGHT_SET, BackendColumn.FORCED_HEALTH)
"""What operators said of a backend."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A backend as an operator names it: `upstream/id`, its address, its weight as text."""

    name: str
    address: str
    weight: str


class Additions:
    """Carries them out, one after the other."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self._memory = revision.current().memory
        self._lock = asyncio.Lock()

    async def add(self, wish: Addition) -> str:
        """Add a backend and say what is so then; RefusedError."""
        async with self._lock:
            spec, changes = self._now()
            upstream, name = _find(spec.config, wish.name)
            wanted = _backend(name, wish)
            if any(one.id == name for one in upstream.backends):
                raise RefusedError(f"{wish.name} is there already")
            twin = next((one for one in upstream.backends if one.identity == wanted.identity), None)
            if twin is not None:
                raise RefusedError(f"{wish.address} is {upstream.name}/{twin.id} already")
            was = changes.was_removed(Entry(upstream.name, wanted))
            backend = was if was and was.id == name and not wish.weight else wanted
            changed = changes.with_added(Entry(upstream.name, backend))
            _check(overlay.lay_over(changed.as_of(spec.generation), spec.own))
            is_first = backend.tls and upstream.name not in spec.client_contexts
            await self._change(changed, is_reload=is_first)
            if backend.identity not in spec.backend_rows:
                self._begin_afresh(backend.identity)
        return f"added: {backend.address} with weight {backend.weight}"

    async def remove(self, wish: str) -> str:
        """Remove a backend and say what is so then; RefusedError."""
        async with self._lock:
            spec, changes = self._now()
            upstream, name = _find(spec.config, wish)
            backend = next((one for one in upstream.backends if one.id == name), None)
            if backend is None:
                known = ", ".join(one.id for one in upstream.backends)
                raise RefusedError(f"no backend {name!r} in {upstream.name}: there are {known}")
            if len(upstream.backends) == 1:
                raise RefusedError(f"{wish} is the last backend of {upstream.name}")
            await self._change(changes.with_removed(Entry(upstream.name, backend)))
        return "removed: it finishes what it has"

    async def forget(self) -> None:
        """Forget what the file of this keeper's generation speaks of, once that serves."""
        await self._revision.until_in_charge()
        async with self._lock:
            spec, changes = self._now()
            left = changes.once_served(spec.own, spec.generation)
            if left != changes:
                self._leave(overlay.write(left))

    def _now(self) -> tuple[KeeperSpec, Overlay]:
        if not self._revision.is_in_charge():
            raise RefusedError("a reload or an upgrade has just ended here: say it once more")
        return self._revision.current(), overlay.read(self._memory.notes.read().text)

    def _begin_afresh(self, identity: str) -> None:
        """Forget what was said of a backend that was there before."""
        for number in self._memory.backends.find([identity]).values():
            row = self._memory.backends.row(number)
            for column in _SAID:
                row.set(column, 0)

    async def _change(self, changed: Overlay, *, is_reload: bool = False) -> None:
        """Leave it for the master and wait until it has been taken, or take it back."""
        before = self._memory.notes.read().text
        try:
            number = self._leave(overlay.write(changed))
        except ValueError:
            raise RefusedError(
                "there is no room for more changes: write them in the file"
            ) from None
        instance = self._memory.instance
        refused = Cell.CHANGES_REFUSED
        await _until(lambda: number in (instance.get(Cell.CHANGES), instance.get(refused)))
        reason = ""
        if instance.get(refused) == number:
            reason = instance.outcome(Change.BACKENDS).text
        elif is_reload:
            reason = await self._reload()
        if reason:
            self._leave(before)
            raise RefusedError(reason)

    def _leave(self, text: str) -> int:
        number = self._memory.notes.write(text)
        os.eventfd_write(self._revision.current().wake_fd, 1)
        return number

    async def _reload(self) -> str:
        """Have a reload; return why it was refused, empty if it was not."""
        instance = self._memory.instance
        begun = instance.begun(Change.RELOAD)
        os.eventfd_write(self._revision.current().wake_fd, RELOAD_WISH)
        await _until(lambda: instance.outcome(Change.RELOAD).ended > begun)
        outcome = instance.outcome(Change.RELOAD)
        return "" if outcome.succeeded else outcome.text


async def _until(is_so: Callable[[], bool]) -> None:
    waiting_until = now_ms() + WAIT_MS
    # The master has no other way to tell us than shared memory.
    while not is_so():
        if now_ms() > waiting_until:
            raise RefusedError(
                "a reload or an upgrade takes long, and the change comes after it: `spooky status` "
                "will show it"
            )
        await asyncio.sleep(POLL_S)


def _find(config: Config, name: str) -> tuple[Upstream, str]:
    wanted, slash, backend = name.partition("/")
    if not slash or not backend:
        raise RefusedError(f"expected UPSTREAM/ID, got {name!r}")
    found = next((one for one in config.upstream if one.name == wanted), None)
    if found is None:
        known = ", ".join(one.name for one in config.upstream)
        raise RefusedError(f"no upstream {wanted!r}: there are {known}")
    return found, backend


def _check(config: Config) -> None:
    """Refuse what no file may say either."""
    for finding in check(config, Places()):
        raise RefusedError(f"{finding.key}: {finding.text}")


def _backend(name: str, wish: Addition) -> Backend:
    if not _ID.fullmatch(name):
        raise RefusedError(f"an id has no spaces and at most 128 characters; got {name!r}")
    try:
        host, port, tls = names.parse_backend(wish.address)
    except names.UnfitError as error:
        said = str(error) or "expected HOST:PORT, or https://HOST:PORT for TLS"
        raise RefusedError(f"{wish.address!r}: {said}") from None
    weight = wish.weight or "100"
    if not (weight.isascii() and weight.isdigit() and int(weight) <= MOST_WEIGHT):
        raise RefusedError(f"a weight is 0 to {MOST_WEIGHT}; got {weight!r}")
    return Backend(name, host, port, tls, int(weight))
