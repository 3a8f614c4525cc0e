"""The identities that a listener can show: chains and keys in memory, chosen by server name.

Owns which certificate answers which server name: an exact name wins over a wildcard, and that
over the default. A wildcard stands for exactly one left-most label (RFC 9525 section 6.3). Files
are read once, by a process that may read keys; a key is never shown, not even by `repr`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from spooky.config.document import Places
from spooky.config.keyfiles import MEMBERS, Contents, Fault, read_contents
from spooky.config.model import Certificate, ListenTls
from spooky.config.names import UnfitError, parse_ip
from spooky.errors import ConfigError, Problem

EXPIRES_SOON = timedelta(days=14)
_LEAST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """One certificate chain (leaf first) and its key.

    `names` are the lower-case DNS names, wildcards and IP addresses that the leaf is for;
    `source` is the file that it came from.
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes = field(repr=False)
    names: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class IdentityStore:
    """The identities of one listener. `notices` is what the operator should know about them."""

    default: Identity
    exact: dict[str, Identity] = field(default_factory=dict)
    wildcard: dict[str, Identity] = field(default_factory=dict)
    """By the name below which the wildcard stands: `example.com` for `*.example.com`."""
    notices: tuple[str, ...] = ()

    def select(self, server_name: str | None) -> Identity:
        """Choose the identity for the server name of a ClientHello (RFC 6066 section 3)."""
        if server_name is None:
            return self.default
        name = server_name.lower().removesuffix(".")
        found = self.exact.get(name)
        if found is None:
            found = self.wildcard.get(name.partition(".")[2])
        return self.default if found is None else found


def covers(identity: Identity, host: str) -> bool:
    """Say whether the certificate is for that host (a name or an address, without port)."""
    name = host.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    if name in identity.names:
        return True
    try:
        return parse_ip(name) in identity.names
    except UnfitError:
        _, dot, parent = name.partition(".")
        return bool(dot) and f"*.{parent}" in identity.names


def load_identities(
    tls: ListenTls, now: datetime, key: str = "listen.tls", places: Places | None = None
) -> IdentityStore:
    """Read and judge all certificates of a listener. `now` has a time zone.

    `key` is the key of `tls` in `places`, for the paths and lines of problems. Raises
    ConfigError with all that is wrong with any of them.
    """
    loading = _Loading(now, places or Places())
    default = loading.load(tls.default, key)
    others = [
        (files, loading.load(files, f"{key}.certificates[{index}]"))
        for index, files in enumerate(tls.certificates)
    ]
    if default is None or loading.problems:
        raise ConfigError(sorted(loading.problems))
    loaded = [(files, identity) for files, identity in others if identity is not None]
    exact, wildcard = _index([(tls.default, default), *loaded])
    return IdentityStore(default, exact, wildcard, tuple(loading.notices))


@dataclass(slots=True)
class _Loading:
    now: datetime
    places: Places
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def load(self, files: Certificate, key: str) -> Identity | None:
        """Load one identity; record why it cannot be used."""
        is_whole = self.places.is_sound(*(f"{key}.{member}" for member in MEMBERS))
        contents = read_contents(files, is_whole=is_whole)
        names: tuple[str, ...] = ()
        try:
            faults = [*contents.faults, *judge_dates(contents, files, self.now)]
            faults += judge_key(contents, files)
            if contents.chain:
                names = _names_of(contents.chain[0])
        except ValueError:
            faults = [Fault(_main(files), f"{_source(files)} has malformed names or extensions")]
        self.problems += [self.places.problem(f"{key}.{f.member}", f.text) for f in faults]
        if faults or contents.key is None or not contents.chain:
            return None
        self.notices += self._notices(contents, names, files, key)
        return Identity(contents.chain, contents.key, names, _source(files))

    def _notices(
        self, contents: Contents, names: tuple[str, ...], files: Certificate, key: str
    ) -> Iterator[str]:
        ends = min(certificate.not_valid_after_utc for certificate in contents.chain)
        where = f"{key}.{_main(files)}"
        if ends - self.now <= EXPIRES_SOON:
            text = f"{_source(files)} expires on {ends:%Y-%m-%d %H:%M} UTC; renew it"
            yield str(self.places.problem(where, text))
        wanted = files.server_name
        if wanted is not None and not {wanted, _wildcard_above(wanted)} & set(names):
            text = (
                f"the certificate in {_source(files)} is not for {wanted} but for "
                f"{', '.join(names) or 'no name at all'}; clients will refuse it"
            )
            yield str(self.places.problem(f"{key}.server_name", text))


def judge_key(contents: Contents, files: Certificate) -> Iterator[Fault]:
    """Say whether TLS 1.3 can be served with this key."""
    match contents.key:
        case None:
            return
        case rsa.RSAPrivateKey(key_size=bits):
            if bits >= _LEAST_RSA_BITS:
                return
            what = f"RSA of {bits} bits"
        case ec.EllipticCurvePrivateKey(curve=curve):
            if isinstance(curve, ec.SECP256R1):
                return
            what = f"EC on {curve.name}"
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return
        case other:
            what = type(other).__name__.removesuffix("PrivateKey").lstrip("_")
    yield Fault(
        "key" if files.key else _main(files),
        f"the key in {files.key or _source(files)} is {what}; supported are RSA of at least "
        f"{_LEAST_RSA_BITS} bits, EC on P-256, Ed25519 and Ed448",
    )


def judge_dates(contents: Contents, files: Certificate, now: datetime) -> Iterator[Fault]:
    """Say whether each certificate of the chain is valid at that time."""
    for number, certificate in enumerate(contents.chain, 1):
        what = _source(files) if number == 1 else f"certificate {number} in {_source(files)}"
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > ends:
            yield Fault(_main(files), f"{what} expired on {ends:%Y-%m-%d %H:%M} UTC")
        elif now < begins:
            yield Fault(_main(files), f"{what} is not valid before {begins:%Y-%m-%d %H:%M} UTC")


def _main(files: Certificate) -> str:
    return "cert" if files.cert else "pkcs12"


def _source(files: Certificate) -> str:
    return str(files.cert or files.pkcs12)


def _wildcard_above(name: str) -> str:
    return f"*.{name.partition('.')[2]}"


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names of a certificate; its common name only where it has no alternative names."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(attribute.value).lower() for attribute in common)
    hosts = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return (*hosts, *addresses)


def _index(
    identities: list[tuple[Certificate, Identity]],
) -> tuple[dict[str, Identity], dict[str, Identity]]:
    """Index by name: what the file says first, then what is in the certificates, in order."""
    exact: dict[str, Identity] = {}
    wildcard: dict[str, Identity] = {}
    said = [(files.server_name, i) for files, i in identities if files.server_name is not None]
    own = [(n, i) for files, i in identities if files.server_name is None for n in i.names]
    for name, identity in [*said, *own]:
        if name.startswith("*."):
            wildcard.setdefault(name[2:], identity)
        else:
            exact.setdefault(name, identity)
    return exact, wildcard
