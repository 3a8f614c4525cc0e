"""The TLS files of an upstream: each fault stops with a message that names the file."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from spooky.config.backend_tls import make_client_context
from spooky.config.model import UpstreamTls
from spooky.errors import StartupError
from tests.e2e.certificates import Identity, make_identity


@pytest.fixture
def own(tmp_path: Path) -> Identity:
    return make_identity(tmp_path, "client.test")


def encrypted(own: Identity, folder: Path) -> Path:
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    path = folder / "encrypted.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    return path


def test_an_encrypted_key_and_its_passphrase(own: Identity, tmp_path: Path) -> None:
    key = encrypted(own, tmp_path)
    words = tmp_path / "words"
    words.write_text("open sesame\nsecond line\n")
    make_client_context(UpstreamTls(client_cert=own.cert, client_key=key, passphrase_file=words))
    words.write_text("wrong\n")
    with pytest.raises(StartupError, match="words does not open"):
        make_client_context(
            UpstreamTls(client_cert=own.cert, client_key=key, passphrase_file=words)
        )
    with pytest.raises(StartupError, match="name a passphrase_file"):
        make_client_context(UpstreamTls(client_cert=own.cert, client_key=key))


def test_certificate_and_key_in_one_file(own: Identity, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(own.cert.read_bytes() + own.key.read_bytes())
    make_client_context(UpstreamTls(client_cert=both))


def test_a_key_of_another_certificate(own: Identity, tmp_path: Path) -> None:
    other = make_identity(tmp_path, "other.test")
    with pytest.raises(StartupError, match="key"):
        make_client_context(UpstreamTls(client_cert=own.cert, client_key=other.key))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "no PEM certificate"),
        ("hello", "no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "not a usable PEM"),
    ],
)
def test_authorities_that_are_none(tmp_path: Path, content: str | None, message: str) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(StartupError, match=message) as caught:
        make_client_context(UpstreamTls(ca=ca))
    assert "ca.pem" in str(caught.value)


def test_an_empty_folder_of_authorities(tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    with pytest.raises(StartupError, match="authorities: there is no PEM certificate"):
        make_client_context(UpstreamTls(ca=folder))


@pytest.mark.parametrize("missing", ["client_cert", "client_key", "passphrase_file"])
def test_files_that_are_missing(own: Identity, tmp_path: Path, missing: str) -> None:
    tls = UpstreamTls(client_cert=own.cert, client_key=own.key)
    files = {missing: tmp_path / "absent"}
    with pytest.raises(StartupError, match="absent cannot be read"):
        make_client_context(replace(tls, **files))  # type: ignore[arg-type]


def test_an_empty_passphrase_file(own: Identity, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.touch()
    with pytest.raises(StartupError, match="words is empty"):
        make_client_context(
            UpstreamTls(client_cert=own.cert, client_key=own.key, passphrase_file=words)
        )


def test_a_file_that_is_no_key(own: Identity) -> None:
    with pytest.raises(StartupError, match="has no PEM private key"):
        make_client_context(UpstreamTls(client_cert=own.cert, client_key=own.cert))
