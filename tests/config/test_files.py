import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from spooky.config.check import inspect_files
from spooky.config.load import Loaded, load
from tests.config.identities import DAY, NOW, make

TEXT = """\
listen:
  tls:
    cert: site.pem
    key: site.key
upstream:
  api:
    route: {path_prefix: /}
    backends: [{address: "https://h"}]
    tls:
      ca: ca.pem
      client_cert: client.pem
      client_key: client.key
pid: spooky.pid
log: {access: access.log}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder where everything that `TEXT` names is in order."""
    make("a.example").write(tmp_path, "site")
    make("root", common_name="root").write(tmp_path, "ca")
    make("client", common_name="client").write(tmp_path, "client")
    return tmp_path


def loaded(folder: Path, text: str = TEXT) -> Loaded:
    (folder / "spooky.yaml").write_text(text)
    return load(folder / "spooky.yaml")


def problems(folder: Path, text: str = TEXT) -> list[str]:
    file = loaded(folder, text)
    found = inspect_files(file.config, NOW, file.places).problems
    return [str(problem) for problem in found]


def test_nothing_is_wrong_with_files_in_order(folder: Path) -> None:
    assert problems(folder) == []
    assert inspect_files(loaded(folder).config, NOW).problems == ()


def endless_authority(at: Path) -> None:
    (at / "ca.pem").unlink()
    (at / "ca.pem").symlink_to("/dev/zero")


def piped_key(at: Path) -> None:
    (at / "site.key").unlink()
    os.mkfifo(at / "site.key")


Spoil = Callable[[Path], object]
SPOILT: list[tuple[str, Spoil, str]] = [
    (
        "listening certificate",
        lambda at: (at / "site.pem").unlink(),
        "listen.tls.cert: {}/site.pem cannot be read: no such file or directory (line 3)",
    ),
    (
        "authority",
        lambda at: (at / "ca.pem").unlink(),
        "upstream.api.tls.ca: {}/ca.pem: cannot be read: No such file or directory (line 10)",
    ),
    (
        "authority that is a device",
        endless_authority,
        "upstream.api.tls.ca: {}/ca.pem: is no regular file (line 10)",
    ),
    (
        "listening key that is a pipe",
        piped_key,
        "listen.tls.key: {}/site.key is no regular file (line 4)",
    ),
    (
        "authority that is none",
        lambda at: (at / "ca.pem").write_bytes((at / "ca.key").read_bytes()),
        (
            "upstream.api.tls.ca: {}/ca.pem: there is no PEM certificate of an authority to trust "
            "(line 10)"
        ),
    ),
    (
        "client key",
        lambda at: (at / "client.key").write_bytes((at / "ca.key").read_bytes()),
        (
            "upstream.api.tls.client_key: {0}/client.key does not belong to the certificate in "
            "{0}/client.pem (line 12)"
        ),
    ),
    (
        "client key that is too short for TLS",
        lambda at: make("c", key=generate_private_key(65537, 1024)).write(at, "client"),
        (
            "upstream.api.tls.client_cert: {}/client.pem: not a usable certificate for TLS: "
            "EE_KEY_TOO_SMALL (line 11)"
        ),
    ),
    (
        "client certificate",
        lambda at: make("c", valid=(NOW - 9 * DAY, NOW - DAY)).write(at, "client"),
        "upstream.api.tls.client_cert: {}/client.pem expired on 2026-05-31 12:00 UTC (line 11)",
    ),
    (
        "pidfile",
        lambda at: (at / "spooky.pid").mkdir(),
        "pid: {}/spooky.pid is a folder; name a file (line 13)",
    ),
]


@pytest.mark.parametrize(("case", "spoil", "text"), SPOILT, ids=[case for case, *_ in SPOILT])
def test_a_file_that_is_not_in_order(folder: Path, case: str, spoil: Spoil, text: str) -> None:
    spoil(folder)
    assert problems(folder) == [text.format(folder)]


def test_accounts_and_folders_that_are_not_there(folder: Path) -> None:
    text = TEXT.replace("access.log", "logs/access.log")
    text += "user: nobody-of-that-name\ngroup: none-of-that-name\n"
    assert problems(folder, text) == [
        f"log.access: the folder {folder}/logs does not exist; create it first (line 14)",
        "user: there is no user nobody-of-that-name on this system (line 15)",
        "group: there is no group none-of-that-name on this system (line 16)",
    ]


def test_the_user_that_is_there_is_found(folder: Path) -> None:
    assert problems(folder, TEXT + "user: root\ngroup: root\n") == []


def test_what_expires_soon_is_told_of(folder: Path) -> None:
    make("a.example", valid=(NOW - DAY, NOW + DAY)).write(folder, "site")
    file = loaded(folder)
    found = inspect_files(file.config, NOW, file.places)
    assert found.problems == ()
    (notice,) = found.notices
    assert notice == (
        f"listen.tls.cert: {folder}/site.pem expires on 2026-06-02 12:00 UTC; renew it (line 3)"
    )
