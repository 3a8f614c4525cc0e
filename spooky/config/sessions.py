"""Session persistence in the configuration: its keys, what must hold, and the secret's file."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from spooky.config.document import Finding, Places, key_of_upstream
from spooky.config.keyfiles import Fault, read_octets
from spooky.config.model import SessionPersistence, Upstream
from spooky.config.scalars import choice, duration, path, text
from spooky.config.shapes import Field, Section
from spooky.errors import ConfigError

YEAR: Final = 365 * 86_400
LEAST_SECRET_OCTETS: Final = 32

SESSION_PERSISTENCE: Final = Section(
    SessionPersistence,
    {
        "type": Field(choice(["cookie"])),
        "name": Field(
            text(
                "a cookie's name: letters, digits and !#$%&'*+.^_`|~-, at most 64 of them",
                r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$",
            )
        ),
        "timeout": Field(duration(1, YEAR, zero=True)),
        "path": Field(text("a path that begins with /, without ;", r"^/[!-:<-~]*$")),
        "same_site": Field(choice(["lax", "strict", "none"])),
        "when_gone": Field(choice(["pick-another", "fail"], {"pick_another": "pick-another"})),
        "secret_file": Field(path()),
    },
)


def check_sessions(upstreams: Sequence[Upstream], known: Places) -> Iterator[Finding]:
    """Find cookies that no client would keep apart, or keep at all."""
    owner: dict[str, str] = {}
    for upstream, rules in _persistent(upstreams):
        key = f"{key_of_upstream(upstream.name)}.session_persistence"
        name = rules.name
        if name is None or not known.is_sound(f"{key}.name"):
            continue
        first = owner.setdefault(name, upstream.name)
        if first != upstream.name:
            why = f"{name} is already the cookie of {first}: each would undo what the other did"
            yield Finding(f"{key}.name", why)
        if name.startswith("__Host-") and rules.path != "/" and known.is_sound(f"{key}.path"):
            why = f"expected /, without which browsers refuse {name}, got {rules.path}"
            yield Finding(f"{key}.path", why)


def find_secret_faults(upstreams: Sequence[Upstream]) -> Iterator[Finding]:
    """Say which secrets cannot be used."""
    for upstream, rules in _persistent(upstreams):
        if rules.secret_file is not None:
            faults: list[Fault] = []
            _read_secret(rules.secret_file, faults)
            key = f"{key_of_upstream(upstream.name)}.session_persistence.secret_file"
            yield from (Finding(key, fault.text) for fault in faults)


def load_session_keys(upstreams: Sequence[Upstream], known: Places) -> Mapping[str, bytes]:
    """Make the key of each upstream that has a secret of its own, by its name. ConfigError."""
    keys = {}
    for upstream, rules in _persistent(upstreams):
        if rules.secret_file is not None:
            faults: list[Fault] = []
            keys[upstream.name] = sha256(_read_secret(rules.secret_file, faults)).digest()
            key = f"{key_of_upstream(upstream.name)}.session_persistence.secret_file"
            if faults:
                raise ConfigError([known.problem(key, fault.text) for fault in faults])
    return keys


def _persistent(upstreams: Sequence[Upstream]) -> Iterator[tuple[Upstream, SessionPersistence]]:
    for upstream in upstreams:
        if upstream.session_persistence is not None:
            yield upstream, upstream.session_persistence


def _read_secret(file: Path, faults: list[Fault]) -> bytes:
    """Read a secret, without white space around it, so that an editor's last newline is no part."""
    octets = read_octets(file, "secret_file", faults).strip()
    if not faults and len(octets) < LEAST_SECRET_OCTETS:
        why = (
            f"{file} has {len(octets)} octets, a secret needs at least {LEAST_SECRET_OCTETS}: "
            "make one by openssl rand -hex 32"
        )
        faults.append(Fault("secret_file", why))
    return octets
