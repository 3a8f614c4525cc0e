"""Certificates and keys for tests, made on the spot, in all the forms that files have."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from spooky.config.certs import IdentityStore, load_identities
from spooky.config.model import Certificate, ListenTls
from spooky.errors import ConfigError

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECRET = b"correct horse"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
AnyKey = Key | ed448.Ed448PrivateKey


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its key, with the authority that signed it, if it was not itself."""

    certificate: x509.Certificate
    key: AnyKey

    def cert_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(
        self,
        form: PrivateFormat = PrivateFormat.PKCS8,
        encryption: KeySerializationEncryption | None = None,
    ) -> bytes:
        return self.key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())

    def write(self, folder: Path, stem: str) -> tuple[Path, Path]:
        cert, key = folder / f"{stem}.pem", folder / f"{stem}.key"
        cert.write_bytes(self.cert_pem())
        key.write_bytes(self.key_pem())
        return cert, key

    def bundle(self, passphrase: bytes | None, *others: x509.Certificate) -> bytes:
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return pkcs12.serialize_key_and_certificates(
            b"site", self.key, self.certificate, list(others), encryption
        )


def make(
    *names: str,
    key: AnyKey | None = None,
    issuer: Made | None = None,
    valid: tuple[datetime, datetime] = (NOW - DAY, NOW + 90 * DAY),
    common_name: str = "",
) -> Made:
    """Make a certificate for DNS names and IP addresses; without any, only a common name."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or names[0])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    signer = issuer.key if issuer else own
    is_edwards = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return Made(builder.sign(signer, None if is_edwards else hashes.SHA256()), own)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def load(default: Certificate, *others: Certificate) -> IdentityStore:
    return load_identities(ListenTls(default, others), NOW)


def problems_of(default: Certificate, *others: Certificate) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(default, *others)
    return [str(problem) for problem in caught.value.problems]


def files(folder: Path, made: Made, stem: str, server_name: str | None = None) -> Certificate:
    cert, key = made.write(folder, stem)
    return Certificate(server_name, cert, key)


def passphrase(folder: Path, text: bytes = SECRET + b"\nsecond line\n") -> Path:
    path = folder / "pass"
    path.write_bytes(text)
    return path
