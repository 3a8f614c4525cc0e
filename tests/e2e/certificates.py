"""Self-signed P-256 certificates for the tests, and the hash by which Chromium trusts one."""

import base64
import datetime as dt
import hashlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key as PEM files. `spki` is base64 of SHA-256 of the public key."""

    cert: Path
    key: Path
    spki: str


def _names(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    addresses = [x509.IPAddress(ipaddress.ip_address(one)) for one in ADDRESSES]
    return x509.SubjectAlternativeName([*(x509.DNSName(name) for name in names), *addresses])


def _certificate(key: ec.EllipticCurvePrivateKey, names: tuple[str, ...]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        # Chromium takes none that is valid for longer than about 13 months.
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(_names(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def make_identity(folder: Path, *names: str) -> Identity:
    """Write a certificate for DNS `names` and the loopback addresses, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, names)
    stem = names[0].replace("*", "wildcard")
    cert_path, key_path = folder / f"{stem}.pem", folder / f"{stem}.key"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    spki = base64.b64encode(hashlib.sha256(public).digest()).decode()
    return Identity(cert_path, key_path, spki)
