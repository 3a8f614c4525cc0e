"""What an operator has changed of the backends while Spooky runs, over what the file says.

Pure. It is kept as text, one JSON object, in shared memory, and every process lays it over the
file that it has been started with. Rules: the file has the last word where it speaks of the same:
a backend that was added and that the file has by now is the file's, and what was removed is
forgotten once the file has it no more. Generations of older files may still finish then, so what
is forgotten goes on to hold for those.
"""

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from spooky.config.model import Backend, Config, Upstream


@dataclass(frozen=True, slots=True)
class Entry:
    """A backend of an upstream, by name; `until`: the first generation that it is nothing to, for
    its file speaks of it; 0: none yet."""

    upstream: str
    backend: Backend
    until: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.upstream, self.backend.identity


@dataclass(frozen=True, slots=True)
class Overlay:
    """Backends that were added, and those that were removed; one that is in both was replaced."""

    added: tuple[Entry, ...] = ()
    removed: tuple[Entry, ...] = ()

    def with_added(self, entry: Entry) -> "Overlay":
        """Add a backend; to add just what was removed takes that back."""
        if any(_is_undone_by(one, entry) for one in self.removed):
            return replace(self, removed=_without(self.removed, entry))
        return replace(self, added=(*self.added, entry))

    def with_removed(self, entry: Entry) -> "Overlay":
        """Remove a backend, or take its addition back."""
        added = _without(self.added, entry)
        if len(added) < len(self.added):
            return replace(self, added=added)
        return replace(self, removed=(*self.removed, entry))

    def was_removed(self, entry: Entry) -> Backend | None:
        """Return the file's backend with the address of an entry, if it was removed."""
        found = (one.backend for one in self.removed if one.key == entry.key and not one.until)
        return next(found, None)

    def as_of(self, generation: int) -> "Overlay":
        """Return what of it is something to a generation."""

        def of_it(entries: Iterable[Entry]) -> tuple[Entry, ...]:
            return tuple(one for one in entries if not one.until or generation < one.until)

        return Overlay(of_it(self.added), of_it(self.removed))

    def once_served(self, config: Config, generation: int) -> "Overlay":
        """Forget what the file of a generation that serves now speaks of itself.

        For older generations it holds on, until another one serves.
        """
        in_file = {upstream.name: upstream.backends for upstream in config.upstream}

        def is_gone(entry: Entry) -> bool:
            there = in_file.get(entry.upstream, ())
            return all(one.identity != entry.backend.identity for one in there)

        gone = {one.key for one in self.removed if not one.until}

        def is_of_file(entry: Entry) -> bool:
            more = entry.backend
            return any(
                (one.identity == more.identity or one.id == more.id)
                and (entry.upstream, one.identity) not in gone
                for one in in_file.get(entry.upstream, ())
            )

        return Overlay(
            _age(self.added, is_of_file, generation), _age(self.removed, is_gone, generation)
        )


def _age(
    entries: Iterable[Entry], is_spoken_of: Callable[[Entry], bool], generation: int
) -> tuple[Entry, ...]:
    return tuple(
        replace(one, until=generation) if not one.until and is_spoken_of(one) else one
        for one in entries
        if one.until in (0, generation)
    )


def _is_undone_by(removed: Entry, added: Entry) -> bool:
    was, now = removed.backend, added.backend
    return (
        not removed.until
        and removed.key == added.key
        and (was.id, was.weight) == (now.id, now.weight)
    )


def _without(entries: tuple[Entry, ...], entry: Entry) -> tuple[Entry, ...]:
    return tuple(one for one in entries if one.key != entry.key or one.until)


def lay_over(overlay: Overlay, config: Config, with_tls: Collection[str] | None = None) -> Config:
    """Return the configuration with the changes that mean something to it.

    `with_tls` names the upstreams that can have backends by TLS; None: all.
    """
    if overlay == Overlay():
        return config
    upstreams = tuple(
        _change(overlay, upstream, tls=with_tls is None or upstream.name in with_tls)
        for upstream in config.upstream
    )
    return replace(config, upstream=upstreams)


def _change(overlay: Overlay, upstream: Upstream, *, tls: bool) -> Upstream:
    gone = {one.backend.identity for one in overlay.removed if one.upstream == upstream.name}
    backends = [backend for backend in upstream.backends if backend.identity not in gone]
    for entry in overlay.added:
        more = entry.backend
        if entry.upstream != upstream.name or (more.tls and not tls):
            continue
        if all(more.identity != one.identity and more.id != one.id for one in backends):
            backends.append(more)
    # An upstream without any backend is none that a file could have.
    return replace(upstream, backends=tuple(backends) or upstream.backends)


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
    one = entry.backend
    return [entry.upstream, one.id, one.host, one.port, one.tls, one.weight, entry.until]


def read(text: str) -> Overlay:
    """Read what `write` wrote."""
    if not text:
        return Overlay()
    parts = json.loads(text)
    return Overlay(*(tuple(map(_read_entry, parts[name])) for name in ("added", "removed")))


def _read_entry(parts: list[str | int | bool]) -> Entry:
    upstream, name, host, port, tls, weight, until = parts
    backend = Backend(str(name), str(host), int(port), bool(tls), int(weight))
    return Entry(str(upstream), backend, int(until))
