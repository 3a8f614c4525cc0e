"""When a change of files is told, with real files and a clock that the test moves."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spooky.master.watch import INTERVAL_S, Watch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration, a key, and a certificate as Kubernetes mounts a secret."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_text(f"certificate {name}")
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "tls.crt").symlink_to("data/tls.crt")
    (tmp_path / "config.yaml").write_text("version: 1\n")
    (tmp_path / "tls.key").write_text("key")
    return tmp_path


def watched(folder: Path) -> list[Path]:
    return [folder / name for name in ("config.yaml", "tls.crt", "tls.key", "later")]


def looks(watch: Watch, count: int) -> list[bool]:
    """What it tells at the next looks."""
    return [watch.changed(watch.next_look) for _ in range(count)]


def rewrite(folder: Path) -> None:
    (folder / "config.yaml").write_text("version: 1\n# more\n")


def replace(folder: Path) -> None:
    """The same size and time, but another file."""
    draft, old = folder / "draft", (folder / "tls.key").stat()
    draft.write_text("kex")
    os.utime(draft, ns=(old.st_atime_ns, old.st_mtime_ns))
    draft.replace(folder / "tls.key")


def same_size(folder: Path) -> None:
    (folder / "tls.key").write_text("kez")
    old = (folder / "tls.key").stat()
    os.utime(folder / "tls.key", ns=(old.st_atime_ns, old.st_mtime_ns + 1))


def swap_link(folder: Path) -> None:
    (folder / "data_tmp").symlink_to("two")
    (folder / "data_tmp").replace(folder / "data")


def remove(folder: Path) -> None:
    (folder / "tls.key").unlink()


def appear(folder: Path) -> None:
    (folder / "later").touch()


def forbid(folder: Path) -> None:
    (folder / "tls.key").chmod(0o600)


@pytest.mark.parametrize("change", [rewrite, replace, same_size, swap_link, remove, appear, forbid])
def test_a_change_is_told_once_after_one_quiet_look(
    folder: Path, change: Callable[[Path], None]
) -> None:
    watch = Watch(watched(folder))
    assert looks(watch, 3) == [False, False, False]
    change(folder)
    assert looks(watch, 4) == [False, True, False, False]


def test_nothing_is_told_in_the_middle_of_a_write(folder: Path) -> None:
    watch = Watch(watched(folder))
    with (folder / "config.yaml").open("a") as file:
        for _ in range(5):
            file.write("# a line\n")
            file.flush()
            assert looks(watch, 1) == [False]
    assert looks(watch, 2) == [True, False]


def test_files_that_are_replaced_one_after_another_are_one_change(folder: Path) -> None:
    watch = Watch(watched(folder))
    swap_link(folder)
    assert looks(watch, 1) == [False]
    replace(folder)
    assert looks(watch, 3) == [False, True, False]


def test_a_file_that_is_gone_for_a_moment_has_not_changed(folder: Path) -> None:
    """As an editor does that moves the old file away and back."""
    watch = Watch(watched(folder))
    (folder / "config.yaml").rename(folder / "aside")
    assert looks(watch, 1) == [False]
    (folder / "aside").rename(folder / "config.yaml")
    assert looks(watch, 3) == [False, False, False]


def test_it_looks_once_in_its_time(folder: Path) -> None:
    asked = itertools.count()

    def stat(path: Path) -> os.stat_result:
        next(asked)
        return path.stat()

    watch = Watch([folder / "config.yaml"], stat)
    assert not watch.changed(100.0)
    assert watch.next_look == 100.0 + INTERVAL_S
    rewrite(folder)
    assert not watch.changed(100.0 + INTERVAL_S / 2)
    assert not watch.changed(100.0 + INTERVAL_S)
    assert watch.changed(100.0 + 2 * INTERVAL_S)
    assert next(asked) == 4, "one look when it is made, and three in time"


def test_what_was_marked_as_read_is_not_told(folder: Path) -> None:
    watch = Watch(watched(folder))
    rewrite(folder)
    watch.mark()
    assert looks(watch, 3) == [False, False, False]
    swap_link(folder)
    assert looks(watch, 1) == [False]
    watch.mark()
    assert looks(watch, 3) == [False, False, False]


def test_a_change_after_the_mark_is_told(folder: Path) -> None:
    watch = Watch(watched(folder))
    watch.mark()
    rewrite(folder)
    watch.follow(watched(folder))
    assert looks(watch, 3) == [False, True, False]


def test_other_files_are_followed(folder: Path) -> None:
    watch = Watch(watched(folder))
    watch.follow([folder / "config.yaml", folder / "two" / "tls.crt"])
    remove(folder)
    assert looks(watch, 3) == [False, False, False]
    (folder / "two" / "tls.crt").write_text("renewed")
    assert looks(watch, 3) == [False, True, False]


def test_a_path_that_no_system_takes_is_a_file_that_is_not_there() -> None:
    assert looks(Watch([Path("/a\0b")]), 2) == [False, False]
