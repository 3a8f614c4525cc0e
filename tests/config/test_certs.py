from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from spooky.config.certs import covers
from spooky.config.model import Certificate
from tests.config.identities import DAY, NOW, AnyKey, files, load, make, problems_of

SITE = make("www.example.com")
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "key",
    [RSA, EC, ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()],
    ids=["RSA", "P-256", "Ed25519", "Ed448"],
)
def test_types_of_keys(tmp_path: Path, key: AnyKey) -> None:
    store = load(files(tmp_path, make("a.example", key=key), "site"))
    assert store.default.names == ("a.example",)


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    store = load(files(tmp_path, SITE, "site"))
    assert "PrivateKey" not in repr(store.default)
    assert "PrivateKey" not in repr(store)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (rsa.generate_private_key(65537, 1024), "RSA of 1024 bits"),
        (ec.generate_private_key(ec.SECP384R1()), "EC on secp384r1"),
    ],
    ids=["short RSA", "P-384"],
)
def test_keys_that_tls_cannot_use(tmp_path: Path, key: AnyKey, what: str) -> None:
    site = files(tmp_path, make("a.example", key=key), "site")
    (problem,) = problems_of(site)
    assert problem == (
        f"listen.tls.key: the key in {site.key} is {what}; supported are RSA of at least 2048 "
        "bits, EC on P-256, Ed25519 and Ed448"
    )


def test_expired_and_not_yet_valid_and_all_problems_at_once(tmp_path: Path) -> None:
    old = files(tmp_path, make("a.example", valid=(NOW - 9 * DAY, NOW - DAY)), "old")
    new = files(tmp_path, make("b.example", valid=(NOW + DAY, NOW + 9 * DAY)), "new")
    gone = Certificate(cert=tmp_path / "gone.pem", key=tmp_path / "gone.key")
    assert problems_of(old, new, gone) == [
        f"listen.tls.cert: {old.cert} expired on 2026-05-31 12:00 UTC",
        f"listen.tls.certificates[0].cert: {new.cert} is not valid before 2026-06-02 12:00 UTC",
        f"listen.tls.certificates[1].cert: {gone.cert} cannot be read: no such file or directory",
        f"listen.tls.certificates[1].key: {gone.key} cannot be read: no such file or directory",
    ]


def test_an_expired_authority_in_the_chain(tmp_path: Path) -> None:
    root = make("root", common_name="root", valid=(NOW - 9 * DAY, NOW - DAY))
    site = make("a.example", issuer=root)
    cert, key = site.write(tmp_path, "site")
    cert.write_bytes(site.cert_pem() + root.cert_pem())
    assert problems_of(Certificate(cert=cert, key=key)) == [
        f"listen.tls.cert: certificate 2 in {cert} expired on 2026-05-31 12:00 UTC"
    ]


# --- notices ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "told"), [(14, True), (15, False)])
def test_a_certificate_that_expires_soon_is_told_of(tmp_path: Path, days: int, told: bool) -> None:
    site = files(tmp_path, make("a.example", valid=(NOW - DAY, NOW + days * DAY)), "site")
    notice = f"listen.tls.cert: {site.cert} expires on 2026-06-15 12:00 UTC; renew it"
    assert load(site).notices == ((notice,) if told else ())


def test_a_certificate_for_another_name_is_told_of(tmp_path: Path) -> None:
    default = files(tmp_path, SITE, "site")
    wild = files(tmp_path, make("*.b.example"), "wild", "a.b.example")
    other = files(tmp_path, make("c.example", "10.0.0.1"), "other", "d.example")
    (notice,) = load(default, wild, other).notices
    assert notice == (
        f"listen.tls.certificates[1].server_name: the certificate in {other.cert} is not for "
        "d.example but for c.example, 10.0.0.1; clients will refuse it"
    )


# --- choosing ---------------------------------------------------------------------------------


def test_exact_wins_over_wildcard_wins_over_default(tmp_path: Path) -> None:
    store = load(
        files(tmp_path, make("example.com", "only.default"), "default"),
        files(tmp_path, make("*.example.com"), "wild", "*.example.com"),
        files(tmp_path, make("shop.example.com", "*.example.com"), "shop", "shop.example.com"),
        files(tmp_path, make("Two.Example", "*.two.example"), "two"),
    )

    def chosen(name: str | None) -> str:
        return Path(store.select(name).source).stem

    assert chosen(None) == "default"
    assert chosen("shop.example.com") == "shop"
    assert chosen("SHOP.example.com.") == "shop"
    assert chosen("other.example.com") == "wild"
    assert chosen("example.com") == "default"
    assert chosen("a.b.example.com") == "default"
    assert chosen("two.example") == "two"
    assert chosen("x.two.example") == "two"
    assert chosen("localhost") == "default"
    assert chosen("") == "default"


def test_what_the_file_says_wins_over_what_certificates_say(tmp_path: Path) -> None:
    store = load(
        files(tmp_path, make("a.example"), "default"),
        files(tmp_path, make("a.example"), "said", "a.example"),
    )
    assert Path(store.select("a.example").source).stem == "said"


def test_covers(tmp_path: Path) -> None:
    made = make("Example.com", "*.example.com", "10.0.0.1", "2001:db8::1")
    identity = load(files(tmp_path, made, "site")).default
    for host in ("example.com", "EXAMPLE.COM.", "a.example.com", "10.0.0.1", "[2001:DB8:0::1]"):
        assert covers(identity, host), host
    for host in ("a.b.example.com", "example.org", "com", "", "10.0.0.2", "*.com", "0.0.1"):
        assert not covers(identity, host), host
