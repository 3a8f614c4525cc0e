"""What an operator has changed of the backends while Spooky runs, over what the file says.

Pure. It is kept as text, one JSON object, in shared memory, and laid over each configuration that
is read. A rule: the file has the last word where it speaks of the same: a backend that was added
and that the file has by now is the file's, and what was removed is forgotten once the file has it
no more.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from spooky.config.model import Backend, Config, Upstream


@dataclass(frozen=True, slots=True)
class Entry:
    """A backend of an upstream, by name."""

    upstream: str
    backend: Backend


@dataclass(frozen=True, slots=True)
class Overlay:
    """Backends that were added, and those that were removed."""

    added: tuple[Entry, ...] = ()
    removed: tuple[Entry, ...] = ()

    def with_added(self, entry: Entry) -> "Overlay":
        """Add a backend, or take its removal back."""
        removed = _without(self.removed, entry)
        if len(removed) < len(self.removed):
            return replace(self, removed=removed)
        return replace(self, added=(*self.added, entry))

    def with_removed(self, entry: Entry) -> "Overlay":
        """Remove a backend, or take its addition back."""
        added = _without(self.added, entry)
        if len(added) < len(self.added):
            return replace(self, added=added)
        return replace(self, removed=(*self.removed, entry))


def _without(entries: tuple[Entry, ...], entry: Entry) -> tuple[Entry, ...]:
    return tuple(one for one in entries if _same(one) != _same(entry))


def _same(entry: Entry) -> tuple[str, str]:
    return entry.upstream, entry.backend.identity


def lay_over(overlay: Overlay, config: Config) -> Config:
    """Return the configuration with the changes that still mean something to it."""
    if overlay == Overlay():
        return config
    upstreams = tuple(_change(overlay, upstream) for upstream in config.upstream)
    return replace(config, upstream=upstreams)


def _change(overlay: Overlay, upstream: Upstream) -> Upstream:
    present = {backend.identity for backend in upstream.backends}
    gone = set(_identities(overlay.removed, upstream.name))
    ids = {backend.id for backend in upstream.backends}
    more = [
        entry.backend
        for entry in overlay.added
        if entry.upstream == upstream.name
        and entry.backend.identity not in present
        and entry.backend.id not in ids
    ]
    kept = [backend for backend in upstream.backends if backend.identity not in gone]
    # An upstream without any backend is none that a file could have.
    backends = tuple(kept + more) or upstream.backends
    return replace(upstream, backends=backends)


def _identities(entries: tuple[Entry, ...], upstream: str) -> Iterator[str]:
    return (entry.backend.identity for entry in entries if entry.upstream == upstream)


def write(overlay: Overlay) -> str:
    """Write it as text; empty where there is nothing in it."""
    if overlay == Overlay():
        return ""
    parts = {"added": overlay.added, "removed": overlay.removed}
    return json.dumps(
        {name: [_write_entry(entry) for entry in entries] for name, entries in parts.items()},
        separators=(",", ":"),
    )


def _write_entry(entry: Entry) -> list[str | int | bool]:
    backend = entry.backend
    return [entry.upstream, backend.id, backend.host, backend.port, backend.tls, backend.weight]


def read(text: str) -> Overlay:
    """Read what `write` wrote."""
    if not text:
        return Overlay()
    parts = json.loads(text)
    return Overlay(*(tuple(map(_read_entry, parts[name])) for name in ("added", "removed")))


def _read_entry(parts: list[str | int | bool]) -> Entry:
    upstream, name, host, port, tls, weight = parts
    backend = Backend(str(name), str(host), int(port), bool(tls), int(weight))
    return Entry(str(upstream), backend)
