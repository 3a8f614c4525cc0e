import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, PrivateFormat

from spooky.config.certs import load_identities
from spooky.config.model import Certificate, ListenTls
from tests.config.identities import SECRET, Made, load, make, passphrase, problems_of

SITE = make("www.example.com")
RSA_SITE = make("www.example.com", key=rsa.generate_private_key(65537, 2048))


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


# --- forms of files ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("made", [SITE, RSA_SITE], ids=["EC", "RSA"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_forms_of_pem_keys(
    tmp_path: Path, made: Made, form: PrivateFormat, encrypted: bool
) -> None:
    cert, key = made.write(tmp_path, "site")
    key.write_bytes(made.key_pem(form, BestAvailableEncryption(SECRET) if encrypted else None))
    opened_by = passphrase(tmp_path) if encrypted else None
    store = load(Certificate(None, cert, key, None, opened_by))
    assert store.default.chain == (made.certificate,)
    assert store.default.key.private_numbers() == made.key.private_numbers()  # type: ignore[union-attr]
    assert store.default.source == str(cert)


def test_an_ec_key_as_openssl_writes_it_with_its_parameters(tmp_path: Path) -> None:
    key, cert = tmp_path / "ec.key", tmp_path / "ec.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", key)
    assert b"EC PARAMETERS" in key.read_bytes()
    openssl("req", "-x509", "-key", key, "-out", cert, "-days", "30", "-subj", "/CN=a.example")
    tls = ListenTls(Certificate(cert=cert, key=key))
    assert load_identities(tls, datetime.now(UTC)).default.names == ("a.example",)


@pytest.mark.parametrize(
    "arguments",
    [
        ("rsa", "-aes256", "-traditional"),
        ("rsa", "-aes128"),
        ("pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES"),
    ],
    ids=["PKCS#1", "PKCS#8", "PKCS#8 of old"],
)
def test_keys_that_openssl_encrypted(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    cert, key = RSA_SITE.write(tmp_path, "site")
    locked, opened_by = tmp_path / "locked.key", passphrase(tmp_path)
    openssl(*arguments, "-in", key, "-out", locked, "-passout", f"file:{opened_by}")
    store = load(Certificate(None, cert, locked, None, opened_by))
    assert store.default.chain == (RSA_SITE.certificate,)


@pytest.mark.parametrize("key_first", [False, True])
def test_chain_and_key_in_one_file(tmp_path: Path, key_first: bool) -> None:
    root = make("root", common_name="root")
    site = make("a.example", issuer=root)
    parts = [site.cert_pem() + root.cert_pem(), site.key_pem()]
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(reversed(parts) if key_first else parts))
    store = load(Certificate(cert=both))
    assert store.default.chain == (site.certificate, root.certificate)


def test_a_passphrase_for_a_key_that_needs_none_does_no_harm(tmp_path: Path) -> None:
    cert, key = SITE.write(tmp_path, "site")
    store = load(Certificate(None, cert, key, None, passphrase(tmp_path)))
    assert store.default.chain == (SITE.certificate,)


@pytest.mark.parametrize("locked", [True, False])
def test_pkcs12_with_its_chain_in_any_order(tmp_path: Path, locked: bool) -> None:
    root = make("root", common_name="root")
    middle = make("middle", issuer=root, common_name="middle")
    site = make("a.example", issuer=middle)
    bundle = tmp_path / "site.p12"
    secret = SECRET if locked else None
    bundle.write_bytes(site.bundle(secret, root.certificate, middle.certificate))
    opened_by = passphrase(tmp_path) if locked else None
    store = load(Certificate(None, None, None, bundle, opened_by))
    assert store.default.chain == (site.certificate, middle.certificate, root.certificate)
    assert store.default.source == str(bundle)


def test_pkcs12_as_openssl_writes_it(tmp_path: Path) -> None:
    cert, key = SITE.write(tmp_path, "site")
    bundle, opened_by = tmp_path / "site.p12", passphrase(tmp_path)
    to = ("-out", bundle, "-passout", f"file:{opened_by}")
    openssl("pkcs12", "-export", "-in", cert, "-inkey", key, *to)
    store = load(Certificate(None, None, None, bundle, opened_by))
    assert store.default.chain == (SITE.certificate,)


# --- what cannot be used ----------------------------------------------------------------------

UNUSABLE = [
    ("none", "site.key", "cert: {}/none cannot be read: no such file or directory"),
    ("site.pem", ".", "key: {} cannot be read: is a directory"),
    ("empty", "site.key", "cert: {}/empty is empty"),
    ("site.key", "site.key", "cert: {}/site.key has no PEM certificate in it"),
    ("damaged.pem", "site.key", "cert: {}/damaged.pem has a damaged certificate in it"),
    ("site.pem", "site.pem", "key: {}/site.pem has no PEM private key in it"),
    (
        "site.pem",
        None,
        "cert: {}/site.pem has no PEM private key in it; name the file of it as key",
    ),
    ("site.pem", "damaged.key", "key: {}/damaged.key has a damaged private key in it"),
    (
        "site.pem",
        "other.key",
        "key: {0}/other.key does not belong to the certificate in {0}/site.pem",
    ),
    (
        "both.pem",
        None,
        "cert: the private key in {}/both.pem does not belong to the certificate in it",
    ),
    (
        "swapped.pem",
        "site.key",
        (
            "key: the private key belongs to certificate 2 in {}/swapped.pem; the server's own "
            "certificate has to be the first"
        ),
    ),
]


@pytest.fixture
def drawer(tmp_path: Path) -> Path:
    """A folder with the files that `UNUSABLE` names."""
    SITE.write(tmp_path, "site")
    other = make("b.example")
    other.write(tmp_path, "other")
    (tmp_path / "empty").touch()
    frame = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "damaged.pem").write_bytes(frame)
    (tmp_path / "damaged.key").write_bytes(SITE.key_pem().replace(b"M", b"N", 1))
    (tmp_path / "both.pem").write_bytes(SITE.cert_pem() + other.key_pem())
    (tmp_path / "swapped.pem").write_bytes(other.cert_pem() + SITE.cert_pem())
    return tmp_path


@pytest.mark.parametrize(("cert", "key", "text"), UNUSABLE)
def test_files_that_make_no_identity(drawer: Path, cert: str, key: str | None, text: str) -> None:
    site = Certificate(cert=drawer / cert, key=drawer / key if key else None)
    assert problems_of(site) == [f"listen.tls.{text.format(drawer)}"]


def locked(folder: Path, opened_by: Path | None) -> tuple[Certificate, Path]:
    cert, key = SITE.write(folder, "site")
    key.write_bytes(SITE.key_pem(encryption=BestAvailableEncryption(SECRET)))
    return Certificate(None, cert, key, None, opened_by), key


def test_an_encrypted_key_without_passphrase(tmp_path: Path) -> None:
    site, key = locked(tmp_path, None)
    assert problems_of(site) == [f"listen.tls.key: {key} is encrypted: name a passphrase_file"]


def test_a_wrong_passphrase_is_not_shown(tmp_path: Path) -> None:
    site, key = locked(tmp_path, passphrase(tmp_path, b"battery staple"))
    (problem,) = problems_of(site)
    opened_by = tmp_path / "pass"
    assert problem == (
        f"listen.tls.passphrase_file: the passphrase in {opened_by} does not open {key}"
    )


@pytest.mark.parametrize(
    ("text", "reason"), [(b"", "is empty"), (b"\nsecret\n", ": the first line is empty")]
)
def test_a_passphrase_file_without_passphrase(tmp_path: Path, text: bytes, reason: str) -> None:
    opened_by = passphrase(tmp_path, text)
    site, _ = locked(tmp_path, opened_by)
    (problem,) = problems_of(site)
    assert problem.replace(" ", "") == (
        f"listen.tls.passphrase_file: {opened_by} {reason}".replace(" ", "")
    )


@pytest.mark.parametrize(
    ("data", "secret", "text"),
    [
        (
            SITE.bundle(SECRET),
            None,
            "is no PKCS#12 bundle, or is encrypted: name a passphrase_file",
        ),
        (
            SITE.bundle(SECRET),
            b"wrong",
            "is no PKCS#12 bundle, or the passphrase in its passphrase_file does not open it",
        ),
        (SITE.cert_pem(), None, "is PEM, not PKCS#12; name it as cert and key"),
    ],
    ids=["no passphrase", "wrong passphrase", "PEM"],
)
def test_bundles_that_do_not_open(
    tmp_path: Path, data: bytes, secret: bytes | None, text: str
) -> None:
    bundle = tmp_path / "site.p12"
    bundle.write_bytes(data)
    opened_by = passphrase(tmp_path, secret) if secret else None
    site = Certificate(None, None, None, bundle, opened_by)
    assert problems_of(site) == [f"listen.tls.pkcs12: {bundle} {text}"]


def test_a_bundle_named_as_cert(tmp_path: Path) -> None:
    bundle = tmp_path / "site.p12"
    bundle.write_bytes(SITE.bundle(None))
    assert problems_of(Certificate(cert=bundle))[0] == (
        f"listen.tls.cert: {bundle} has no PEM certificate in it; it may be DER (convert it to "
        "PEM) or PKCS#12 (name it as pkcs12)"
    )
