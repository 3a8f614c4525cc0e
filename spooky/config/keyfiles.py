"""Reading certificates and private keys from files, with a reason for all that cannot be used.

Takes PEM chains with PKCS#8, PKCS#1 or SEC1 keys, in one file or two, plain or encrypted, and
PKCS#12 bundles. Judges only whether the files are what they should be and belong together;
expiry and names are for `certs.py`. No passphrase and no key ever gets into a message.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12

from spooky.config.model import Certificate

_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_PASSPHRASE_WANTED = "is encrypted: name a passphrase_file"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a file cannot be used; `member` is the key of the configuration that names it."""

    member: str
    text: str


class UnusableError(Exception):
    """The files make no identity; `faults` says why, all of it."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(fault.text for fault in faults))


@dataclass(frozen=True, slots=True)
class Material:
    """A certificate chain, leaf first, and the private key of its leaf."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes


def read_material(files: Certificate) -> Material:
    """Read what `files` names. Raises UnusableError with all that is wrong with them."""
    faults: list[Fault] = []
    passphrase = _read_passphrase(files.passphrase_file, faults)
    if faults:
        raise UnusableError(faults)
    if files.pkcs12 is not None:
        return _read_pkcs12(files.pkcs12, passphrase)
    if files.cert is None:
        raise UnusableError([Fault("cert", "missing")])
    chain = _read_chain(files.cert, faults)
    key = _read_key(files, files.cert, passphrase, faults)
    if key is None or not chain:
        raise UnusableError(faults)
    _require_match(chain, key, files)
    return Material(chain, key)


def read_octets(path: Path, member: str, faults: list[Fault]) -> bytes:
    """Read a file; b"" and a fault where it cannot be read or has nothing in it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        faults.append(Fault(member, f"{path} cannot be read: {reason}"))
        return b""
    if not data.strip():
        faults.append(Fault(member, f"{path} is empty"))
        return b""
    return data


def _read_passphrase(path: Path | None, faults: list[Fault]) -> bytes | None:
    if path is None:
        return None
    data = read_octets(path, "passphrase_file", faults)
    first = data.split(b"\n", 1)[0].rstrip(b"\r")
    if data and not first:
        faults.append(Fault("passphrase_file", f"{path}: the first line is empty"))
    return first


def _read_chain(path: Path, faults: list[Fault]) -> tuple[x509.Certificate, ...]:
    data = read_octets(path, "cert", faults)
    if not data:
        return ()
    if b"-----BEGIN CERTIFICATE-----" not in data:
        other = ""
        if data.startswith(b"\x30"):
            other = "; it may be DER (convert it to PEM) or PKCS#12 (name it as pkcs12)"
        faults.append(Fault("cert", f"{path} has no PEM certificate in it{other}"))
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        faults.append(Fault("cert", f"{path} has a damaged certificate in it"))
        return ()


def _read_key(
    files: Certificate, cert: Path, passphrase: bytes | None, faults: list[Fault]
) -> PrivateKeyTypes | None:
    path, member = (files.key, "key") if files.key else (cert, "cert")
    # A file that is both was already complained of as the certificate.
    data = read_octets(path, member, faults if files.key else [])
    found = _PRIVATE_KEY.search(data)
    if found is None:
        if data:
            where = "" if files.key else "; name the file of it as key"
            faults.append(Fault(member, f"{path} has no PEM private key in it{where}"))
        return None
    try:
        return _decode_key(found[0], passphrase)
    except TypeError:
        faults.append(Fault(member, f"{path} {_PASSPHRASE_WANTED}"))
    except UnsupportedAlgorithm:
        faults.append(Fault(member, f"{path} has a private key of an unknown type"))
    except ValueError:
        is_encrypted = b"ENCRYPTED" in found[0] and passphrase is not None
        text = (
            f"the passphrase in {files.passphrase_file} does not open {path}"
            if is_encrypted
            else f"{path} has a damaged private key in it"
        )
        faults.append(Fault("passphrase_file" if is_encrypted else member, text))
    return None


def _decode_key(pem: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    # A passphrase for a key that needs none is a TypeError, as is none for one that does.
    is_encrypted = b"ENCRYPTED" in pem
    return serialization.load_pem_private_key(pem, passphrase if is_encrypted else None)


def _read_pkcs12(path: Path, passphrase: bytes | None) -> Material:
    faults: list[Fault] = []
    data = read_octets(path, "pkcs12", faults)
    if data.lstrip().startswith(b"-----BEGIN"):
        faults.append(Fault("pkcs12", f"{path} is PEM, not PKCS#12; name it as cert and key"))
    if faults:
        raise UnusableError(faults)
    try:
        bundle = pkcs12.load_pkcs12(data, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        hint = (
            _PASSPHRASE_WANTED
            if passphrase is None
            else "the passphrase in its passphrase_file does not open it"
        )
        text = f"{path} is no PKCS#12 bundle, or {hint}"
        raise UnusableError([Fault("pkcs12", text)]) from None
    if bundle.key is None or bundle.cert is None:
        lacking = "private key" if bundle.key is None else "certificate of its private key"
        raise UnusableError([Fault("pkcs12", f"{path} has no {lacking} in it")])
    others = [other.certificate for other in bundle.additional_certs]
    return Material(_order_chain(bundle.cert.certificate, others), bundle.key)


def _order_chain(
    leaf: x509.Certificate, others: list[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Put each certificate after the one that it certifies: a bundle has them in any order."""
    chain, rest = [leaf], list(others)
    while issuer := next((c for c in rest if c.subject == chain[-1].issuer), None):
        chain.append(issuer)
        rest.remove(issuer)
    return tuple(chain)


def _require_match(
    chain: tuple[x509.Certificate, ...], key: PrivateKeyTypes, files: Certificate
) -> None:
    own = _public_octets(key)
    owner = next((i for i, cert in enumerate(chain) if _certified_octets(cert) == own), None)
    if owner == 0:
        return
    if owner is None:
        text = (
            f"{files.key} does not belong to the certificate in {files.cert}"
            if files.key
            else f"the private key in {files.cert} does not belong to the certificate in it"
        )
    else:
        text = (
            f"the private key belongs to certificate {owner + 1} in {files.cert}; "
            "the server's own certificate has to be the first"
        )
    raise UnusableError([Fault("key" if files.key else "cert", text)])


def _public_octets(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _certified_octets(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, UnsupportedAlgorithm):
        return None
