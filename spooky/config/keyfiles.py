"""Reading certificates and private keys from files, with a reason for all that cannot be used.

Takes PEM chains with PKCS#8, PKCS#1 or SEC1 keys, in one file or two, plain or encrypted, and
PKCS#12 bundles. Judges only whether the files are what they should be and belong together;
expiry and names are for `certs.py`. No passphrase and no key ever gets into a message.
"""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12

from spooky.config.model import Certificate

_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
MEMBERS = ("cert", "key", "pkcs12", "passphrase_file")
"""The keys of the configuration that name the files of one identity."""

_PASSPHRASE_WANTED = "is encrypted: name a passphrase_file"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a file cannot be used; `member` is the key of the configuration that names it."""

    member: str
    text: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What could be read of an identity's files, leaf first, and all that is wrong with them."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes | None
    faults: tuple[Fault, ...]


def read_contents(files: Certificate, *, is_whole: bool = True) -> Contents:
    """Read what `files` names. One fault hides no other, as far as it can be told without it.

    Where `files` is not all that the operator wrote (`is_whole`), or contradicts itself, each file
    is judged alone and nothing is said of how they go together.
    """
    faults: list[Fault] = []
    passphrase = _read_passphrase(files.passphrase_file, faults)
    is_whole = is_whole and not faults and (files.cert is None) == (files.pkcs12 is not None)
    chain: tuple[x509.Certificate, ...] = ()
    key = None
    if files.pkcs12 is not None and is_whole and files.key is None:
        chain, key = _read_pkcs12(files.pkcs12, passphrase, faults)
        return Contents(chain, key, tuple(faults))
    if files.cert is not None:
        chain = _read_chain(files.cert, faults)
        if is_whole:
            key = _read_key(files, files.cert, passphrase, faults)
    for member, path in (("key", files.key), ("pkcs12", files.pkcs12)):
        if path is not None and key is None and not any(one.member == member for one in faults):
            read_octets(path, member, faults)
    if key is not None and chain:
        faults += _judge_match(chain, key, files)
    return Contents(chain, key, tuple(faults))


def read_octets(path: Path, member: str, faults: list[Fault]) -> bytes:
    """Read a file; b"" and a fault where it cannot be read or has nothing in it."""
    try:
        mode = path.stat().st_mode
        # A pipe or a device could be waited for, or read, without end.
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            faults.append(Fault(member, f"{path} is no regular file"))
            return b""
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


def _read_pkcs12(
    path: Path, passphrase: bytes | None, faults: list[Fault]
) -> tuple[tuple[x509.Certificate, ...], PrivateKeyTypes | None]:
    data = read_octets(path, "pkcs12", faults)
    if not data:
        return (), None
    if data.lstrip().startswith(b"-----BEGIN"):
        faults.append(Fault("pkcs12", f"{path} is PEM, not PKCS#12; name it as cert and key"))
        return (), None
    try:
        bundle = pkcs12.load_pkcs12(data, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        hint = (
            _PASSPHRASE_WANTED
            if passphrase is None
            else "the passphrase in its passphrase_file does not open it"
        )
        faults.append(Fault("pkcs12", f"{path} is no PKCS#12 bundle, or {hint}"))
        return (), None
    if bundle.key is None or bundle.cert is None:
        lacking = "private key" if bundle.key is None else "certificate of its private key"
        faults.append(Fault("pkcs12", f"{path} has no {lacking} in it"))
        return (), None
    others = [other.certificate for other in bundle.additional_certs]
    return _order_chain(bundle.cert.certificate, others), bundle.key


def _order_chain(
    leaf: x509.Certificate, others: list[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Put each certificate after the one that it certifies: a bundle has them in any order."""
    chain, rest = [leaf], list(others)
    while issuer := next((c for c in rest if c.subject == chain[-1].issuer), None):
        chain.append(issuer)
        rest.remove(issuer)
    return tuple(chain)


def _judge_match(
    chain: tuple[x509.Certificate, ...], key: PrivateKeyTypes, files: Certificate
) -> Iterator[Fault]:
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
    yield Fault("key" if files.key else "cert", text)


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
