"""Whether files have changed: the configuration, and all that it names.

Compares what stat(2) says once a second; it opens nothing, and never decides what follows. It
follows symbolic links, for a certificate is often replaced by pointing a link elsewhere, and it
looks at paths, not at open files, for others are replaced by a rename. The rule that is not
obvious: a change counts once it has stayed the same for one more look, so that a file that is
being written, or several that are replaced one after another, make one reload of the whole.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

INTERVAL_S = 1.0
"""Between two looks."""

Stat: TypeAlias = Callable[[Path], os.stat_result]
_Look: TypeAlias = tuple[int, ...] | None
"""What a file looks like: who it is, how long, when written, who may read it; None: not there."""


class Watch:
    """The files, and what they looked like when they were read."""

    def __init__(self, paths: Iterable[Path], stat: Stat = os.stat) -> None:
        """Take the present state of `paths` as known."""
        self._stat = stat
        self._known = {path: self._look_at(path) for path in paths}
        self._last = dict(self._known)
        self.next_look = 0.0
        """When `changed` is to be called next, on the clock that it is given."""

    def changed(self, now: float) -> bool:
        """Say whether files have changed and were quiet for one look since; told once.

        Does nothing before `next_look`. A file that is gone, or may no longer be read, has
        changed as well. What changed and changed back in between has not.
        """
        if now < self.next_look:
            return False
        self.next_look = now + INTERVAL_S
        before, self._last = self._last, {path: self._look_at(path) for path in self._known}
        if self._last == self._known or self._last != before:
            return False
        self._known = self._last
        return True

    def mark(self) -> None:
        """Take the present state as known; to be called just before the files are read.

        Otherwise a change that somebody reloads for by a signal would be told once more.
        """
        self._known = {path: self._look_at(path) for path in self._known}
        self._last = dict(self._known)

    def follow(self, paths: Iterable[Path]) -> None:
        """Watch these from now on, as a new configuration names them.

        What is known of a file that was watched already stays: it may have changed since it was
        read.
        """
        self._known = {
            path: self._known[path] if path in self._known else self._look_at(path)
            for path in paths
        }
        self._last = {
            path: self._last[path] if path in self._last else self._known[path]
            for path in self._known
        }

    def _look_at(self, path: Path) -> _Look:
        try:
            found = self._stat(path)
        except (OSError, ValueError):
            return None
        return (
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_mode,
            found.st_uid,
            found.st_gid,
        )
