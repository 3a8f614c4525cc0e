"""What must hold between several keys, and what the files they name must hold.

`check` is pure: it looks at a Config alone and is part of every load. `inspect_files` opens
certificates and looks up users, for `spooky -t` and before a start. Neither stops at the first
fault, and neither looks a backend's name up: names may come and go while Spooky runs.
"""

import grp
import os
import pwd
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from spooky.config.backend_tls import make_client_context
from spooky.config.balancing_tables import balancing_notices, check_balancing
from spooky.config.certs import judge_dates, load_identities
from spooky.config.check_admission import check_admission
from spooky.config.check_repeats import check_repeats, repeats_notices
from spooky.config.check_routes import all_routes, check_routes
from spooky.config.contents import find_unreadable
from spooky.config.document import Finding, Places, key_of_upstream, parent
from spooky.config.failing_tables import check_circuit_breaker, check_passive_health
from spooky.config.keyfiles import MEMBERS, read_contents
from spooky.config.limits import Limits
from spooky.config.logfiles import find_log_faults, judge_folder
from spooky.config.model import Certificate, Config, Listener, ListenTls, Upstream, UpstreamTls
from spooky.config.probes import check_health, find_commands
from spooky.config.rate_limits import RateLimit
from spooky.config.rate_tables import check_rate_limits
from spooky.config.sessions import check_sessions, find_secret_faults
from spooky.errors import ConfigError, Problem, StartupError


def check(config: Config, known: Places) -> Iterator[Finding]:
    """Find what contradicts itself in a Config, without opening any file.

    The Config may have stand-ins where `known` says so: nothing is concluded from them.
    """
    yield from _check_listeners(config.listen, known)
    yield from check_routes(config, known)
    for upstream in config.upstream:
        yield from _check_backends(upstream, known)
        yield from _check_client_identity(upstream, known)
        key = key_of_upstream(upstream.name)
        yield from check_passive_health(upstream.passive_health, f"{key}.passive_health", known)
        yield from check_circuit_breaker(upstream.circuit_breaker, f"{key}.circuit_breaker", known)
        yield from check_balancing(upstream, known)
        yield from check_repeats(upstream, known)
    yield from check_sessions(config.upstream, known)
    yield from check_health(config.upstream, known)
    yield from _check_limits(config.limits, known)
    yield from check_rate_limits(_rate_limits(config), known)
    yield from _check_rows(config, known)
    yield from check_admission(config, known)


def _repeated(things: Iterable[tuple[str, Hashable]]) -> Iterator[tuple[str, str]]:
    """Pair the key of each thing that was there before with the key of the first such thing."""
    seen: dict[Hashable, str] = {}
    for key, thing in things:
        first = seen.setdefault(thing, key)
        if first != key:
            yield key, first


def _check_rows(config: Config, known: Places) -> Iterator[Finding]:
    """Backends are told apart by address and scheme, whichever upstreams they are in."""
    every = (backend for upstream in config.upstream for backend in upstream.backends)
    different = len({(one.host, one.port, one.tls) for one in every if one.host})
    rows = config.limits.backend_rows
    if different > rows and known.is_sound("limits.backend_rows"):
        text = f"has {different} different backends, more than limits.backend_rows, which is {rows}"
        yield Finding("upstream", text)


def _rate_limits(config: Config) -> Iterator[tuple[str, tuple[RateLimit, ...]]]:
    yield "rate_limits", config.rate_limits
    for upstream in config.upstream:
        yield f"{key_of_upstream(upstream.name)}.rate_limits", upstream.rate_limits
    for key, route in all_routes(config):
        yield f"{key}.rate_limits", route.rate_limits


def _check_limits(limits: Limits, known: Places) -> Iterator[Finding]:
    if not known.is_sound("limits.stream_window"):
        return
    window = f"stream_window, which is {limits.stream_window} octets"
    key = "limits.connection_window"
    if limits.connection_window < limits.stream_window and known.is_sound(key):
        yield Finding(key, f"expected at least {window}, got {limits.connection_window}")
    key = "limits.request_header_bytes"
    if limits.request_header_bytes * 2 > limits.stream_window and known.is_sound(key):
        # A header section is read only when it is whole, so that it has to fit into the window.
        yield Finding(key, f"expected at most half of {window}, got {limits.request_header_bytes}")


def notices(config: Config) -> Iterator[Finding]:
    """Find what an operator may not expect of a Config that is in order."""
    for upstream in config.upstream:
        key = key_of_upstream(upstream.name)
        has_tls = any(backend.tls for backend in upstream.backends)
        yield from balancing_notices(upstream)
        yield from repeats_notices(upstream)
        if not any(backend.weight for backend in upstream.backends):
            yield Finding(f"{key}.backends", "get no new requests: the weight of each is 0")
        if upstream.tls != UpstreamTls() and not has_tls:
            yield Finding(f"{key}.tls", "has no effect: no backend of it is https://")
        elif has_tls and not upstream.tls.verify:
            text = "off: anybody who answers at their addresses is taken for these backends"
            yield Finding(f"{key}.tls.verify", text)
    yield from _zone_notices(config)


def _zone_notices(config: Config) -> Iterator[Finding]:
    """Find zones that nothing is compared with."""
    zones = [
        (f"{key_of_upstream(upstream.name)}.backends[{place}].zone", backend.zone)
        for upstream in config.upstream
        for place, backend in enumerate(upstream.backends)
        if backend.zone is not None
    ]
    if config.zone is None:
        for key, _ in zones[:1]:
            yield Finding(key, "has no effect: the instance has none, write zone at the top too")
    elif config.zone not in {zone for _, zone in zones}:
        yield Finding("zone", f"has no effect: no backend stands in {config.zone}")


# --- listeners --------------------------------------------------------------------------------


def _check_listeners(listeners: tuple[Listener, ...], known: Places) -> Iterator[Finding]:
    where = {f"listen[{i}]": (one.address, one.port) for i, one in enumerate(listeners)}
    sound = [at for at in where.items() if known.is_sound(f"{at[0]}.address", f"{at[0]}.port")]
    for key, first in _repeated(sound):
        address, port = where[key]
        yield Finding(key, f"{address} port {port} is already taken by {first}")
    for index, listener in enumerate(listeners):
        yield from _check_identities(listener.tls, f"listen[{index}].tls", known)


def _check_identities(tls: ListenTls, key: str, known: Places) -> Iterator[Finding]:
    yield from _check_identity(tls.default, key, known)
    named = []
    for number, files in enumerate(tls.certificates):
        here = f"{key}.certificates[{number}]"
        yield from _check_identity(files, here, known)
        if files.server_name is not None:
            named.append((f"{here}.server_name", files.server_name))
    for name_key, first in _repeated(named):
        owner = parent(first).removeprefix(f"{key}.")
        yield Finding(name_key, f"{dict(named)[name_key]} already has a certificate, in {owner}")


def _check_identity(files: Certificate, key: str, known: Places) -> Iterator[Finding]:
    """A certificate comes from exactly one of PEM and PKCS#12."""
    if not known.is_sound(*(f"{key}.{member}" for member in MEMBERS)):
        return
    if files.cert and files.pkcs12:
        yield Finding(key, "has both cert and pkcs12; keep one")
    elif files.pkcs12 and files.key:
        yield Finding(f"{key}.key", "a PKCS#12 bundle has its key inside; remove key")
    elif not files.cert and not files.pkcs12:
        yield Finding(key, "has no certificate; write cert and key, or pkcs12")


# --- upstreams --------------------------------------------------------------------------------


def _check_backends(upstream: Upstream, known: Places) -> Iterator[Finding]:
    backends = {
        f"{key_of_upstream(upstream.name)}.backends[{index}]": backend
        for index, backend in enumerate(upstream.backends)
    }
    placed = {key: one for key, one in backends.items() if known.is_sound(f"{key}.address")}
    same_address = dict(_repeated((key, (one.host, one.port)) for key, one in placed.items()))
    for key, first in same_address.items():
        text = f"{backends[key].address} is already the address of {_last_step(first)}"
        yield Finding(f"{key}.address", text)
    # An id that was not written is the address.
    named = [
        (key, one.id)
        for key, one in backends.items()
        if known.is_sound(f"{key}.id") and (key in placed or one.id != one.address)
    ]
    for key, first in _repeated(named):
        is_told = same_address.get(key) == first and backends[key].id == backends[key].address
        if not is_told:
            text = f"{backends[key].id} is already the id of {_last_step(first)}"
            yield Finding(f"{key}.id", text)


def _last_step(key: str) -> str:
    """The last name in a key, with its index."""
    return key.rpartition(".")[2]


def _check_client_identity(upstream: Upstream, known: Places) -> Iterator[Finding]:
    tls, key = upstream.tls, f"{key_of_upstream(upstream.name)}.tls"
    if tls.client_cert is not None or not known.is_sound(f"{key}.client_cert"):
        return
    if tls.client_key is not None:
        yield Finding(f"{key}.client_key", "there is no client_cert that it is the key of")
    elif tls.passphrase_file is not None:
        text = "there is no client_cert whose key it would open"
        yield Finding(f"{key}.passphrase_file", text)


# --- files and users --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in the files that a Config names: faults, and things to know."""

    problems: tuple[Problem, ...]
    notices: tuple[str, ...]


def inspect_files(config: Config, now: datetime, places: Places | None = None) -> Inspection:
    """Open all files that a Config names. `now` has a time zone; `places` gives the lines.

    The Config may have stand-ins where `places` says so: nothing is concluded from them.
    """
    known = places or Places()
    problems: list[Problem] = []
    told: list[str] = []
    for index, listener in enumerate(config.listen):
        try:
            told += load_identities(listener.tls, now, f"listen[{index}].tls", known).notices
        except ConfigError as error:
            problems += error.problems
    findings = [*_find_account(config), *find_log_faults(config), *_find_pidfile(config)]
    findings += find_commands(config.upstream)
    findings += find_secret_faults(config.upstream)
    findings += find_unreadable(config)
    for upstream in config.upstream:
        findings += _find_client_tls(upstream, now, known)
    problems += [
        known.problem(finding.key, finding.text)
        for finding in findings
        if known.is_sound(finding.key)
    ]
    return Inspection(tuple(sorted(problems)), tuple(told))


_CLIENT_MEMBERS = {
    "cert": "client_cert",
    "key": "client_key",
    "passphrase_file": "passphrase_file",
}


def _find_client_tls(upstream: Upstream, now: datetime, known: Places) -> Iterator[Finding]:
    tls, key = upstream.tls, f"{key_of_upstream(upstream.name)}.tls"
    if tls.ca is not None:
        yield from _find_refusal(replace(tls, client_cert=None), f"{key}.ca")
    files = Certificate(None, tls.client_cert, tls.client_key, None, tls.passphrase_file)
    members = {member: f"{key}.{name}" for member, name in _CLIENT_MEMBERS.items()}
    contents = read_contents(files, is_whole=known.is_sound(*members.values()))
    faults = [*contents.faults, *judge_dates(contents, files, now)]
    for fault in faults:
        yield Finding(members[fault.member], fault.text)
    if tls.client_cert is not None and not faults:
        yield from _find_refusal(replace(tls, ca=None, verify=False), members["cert"])


def _find_refusal(tls: UpstreamTls, key: str) -> Iterator[Finding]:
    """Say what TLS itself does not take of a part of the settings."""
    try:
        make_client_context(tls)
    except StartupError as error:
        yield Finding(key, str(error))


def _find_account(config: Config) -> Iterator[Finding]:
    if config.user is not None:
        try:
            pwd.getpwnam(config.user)
        except KeyError:
            yield Finding("user", f"there is no user {config.user} on this system")
    if config.group is not None:
        try:
            grp.getgrnam(config.group)
        except KeyError:
            yield Finding("group", f"there is no group {config.group} on this system")


def _find_pidfile(config: Config) -> Iterator[Finding]:
    """A file that Spooky writes needs its folder; Spooky makes none."""
    fault = judge_folder(config.pid)
    if not fault and os.path.isdir(config.pid):
        fault = f"{config.pid} is a folder; name a file"
    if fault:
        yield Finding("pid", fault)
