import os
from pathlib import Path

from spooky.config.contents import MOST_OCTETS, find_unreadable, read_contents
from spooky.config.files import files_of
from spooky.config.load import load_text
from spooky.config.model import Config
from tests.config.broken import with_top


def config(folder: Path) -> Config:
    rules = "".join(
        f"- {{path_prefix: /{name}, respond: {{file: {name}}}}}\n" for name in ("a", "b", "c", "d")
    )
    again = "- {path_prefix: /f, respond: {file: a}}\n- {path_prefix: /e, respond: {}}\n"
    return load_text(with_top(f"routes:\n{rules}{again}"), str(folder / "c.yaml")).config


def test_each_file_is_read_and_watched(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text(f"content of {name}")
    found = config(tmp_path)
    assert not list(find_unreadable(found))
    assert read_contents(found) == {
        tmp_path / name: f"content of {name}".encode() for name in ("a", "b", "c", "d")
    }
    assert set(read_contents(found)) <= set(files_of(found))


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(MOST_OCTETS))
    (tmp_path / "b").write_bytes(bytes(MOST_OCTETS + 1))
    os.mkfifo(tmp_path / "d")
    told = [(one.key, one.text) for one in find_unreadable(config(tmp_path))]
    assert told == [
        ("routes[1].respond.file", f"{tmp_path}/b is larger than 1 MiB"),
        ("routes[2].respond.file", f"{tmp_path}/c cannot be read: no such file or directory"),
        ("routes[3].respond.file", f"{tmp_path}/d cannot be read: it is no regular file"),
    ]
