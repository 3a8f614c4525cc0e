"""What stands around a proxy in a run: its certificate, and the HTTP/2 backend behind it.

The backend is nghttpd of Debian's nghttp2-server: cleartext HTTP/2, one file per answer length.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from loadtest.processes import Launch
from loadtest.workloads import WORKLOADS

WINDOW_BITS = "20"
"""nghttpd's receive windows, 1 MiB: the backend shall not be what an upload waits for."""

REPLIES = (1 << 10, 64 << 10, 1 << 20)
"""Lengths of answers that there are beside those of the workloads."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a peer is configured from. `folder` is its own to write its files in."""

    folder: Path
    certificate: Path
    key: Path
    port: int
    backend_port: int
    spare_port: int
    """For an admin endpoint that cannot be switched off."""


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A fresh self-signed P-256 certificate for localhost and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_path, key_path


def backend(folder: Path, port: int) -> Launch:
    """The backend, with its files written; SystemExit when it is not installed."""
    program = shutil.which("nghttpd")
    if program is None:
        raise SystemExit("bench: nghttpd is not installed: apt-get install nghttp2-server")
    files = folder / "www"
    files.mkdir()
    for octets in {*REPLIES, *(workload.reply_bytes for workload in WORKLOADS.values())}:
        (files / str(octets)).write_bytes(bytes(octets))
    windows = ("-w", WINDOW_BITS, "-W", WINDOW_BITS)
    return Launch((program, "--no-tls", "-a", "127.0.0.1", *windows, "-d", str(files), str(port)))
