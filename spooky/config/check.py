"""What must hold between several keys, and what the files they name must hold.

`check` is pure: it looks at a Config alone and is part of every load. `inspect_files` opens
certificates and looks up users, for `spooky -t` and before a start. Neither stops at the first
fault, and neither looks a backend's name up: names may come and go while Spooky runs.
"""

import grp
import pwd
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from spooky.config.backend_tls import make_client_context
from spooky.config.certs import judge_dates, load_identities
from spooky.config.document import Finding, Places, key_of_upstream
from spooky.config.keyfiles import UnusableError, read_material
from spooky.config.model import Certificate, Config, Limits, Listener, Upstream, UpstreamTls
from spooky.errors import ConfigError, Problem, StartupError


def check(config: Config) -> Iterator[Finding]:
    """Find what contradicts itself in a Config, without opening any file."""
    yield from _check_listeners(config.listen)
    yield from _check_routes(config.upstream)
    for upstream in config.upstream:
        yield from _check_backends(upstream)
        yield from _check_client_identity(upstream)
        yield from _check_health(upstream)
    yield from _check_limits(config.limits)
    yield from _check_rows(config)


def _check_rows(config: Config) -> Iterator[Finding]:
    """Backends are told apart by address and scheme, whichever upstreams they are in."""
    every = (backend for upstream in config.upstream for backend in upstream.backends)
    different = len({(one.host, one.port, one.tls) for one in every})
    rows = config.limits.backend_rows
    if different > rows:
        text = f"has {different} different backends, more than limits.backend_rows, which is {rows}"
        yield Finding("upstream", text, ("limits.backend_rows",))


def _check_limits(limits: Limits) -> Iterator[Finding]:
    if limits.connection_window < limits.stream_window:
        yield Finding(
            "limits.connection_window",
            f"expected at least stream_window, which is {limits.stream_window} octets, "
            f"got {limits.connection_window}",
            ("limits.connection_window", "limits.stream_window"),
        )
    if limits.request_header_bytes * 2 > limits.stream_window:
        # A header section is read only when it is whole, so that it has to fit into the window.
        yield Finding(
            "limits.request_header_bytes",
            f"expected at most half of stream_window, which is {limits.stream_window} octets, "
            f"got {limits.request_header_bytes}",
            ("limits.request_header_bytes", "limits.stream_window"),
        )


def notices(config: Config) -> Iterator[Finding]:
    """Find what an operator may not expect of a Config that is in order."""
    for upstream in config.upstream:
        key = key_of_upstream(upstream.name)
        has_tls = any(backend.tls for backend in upstream.backends)
        if upstream.health_check is not None:
            text = "accepted, but this version does not probe backends yet"
            yield Finding(f"{key}.health_check", text)
        if upstream.tls != UpstreamTls() and not has_tls:
            yield Finding(f"{key}.tls", "has no effect: no backend of it is https://")
        elif has_tls and not upstream.tls.verify:
            text = "off: anybody who answers at their addresses is taken for these backends"
            yield Finding(f"{key}.tls.verify", text)


# --- listeners --------------------------------------------------------------------------------


def _check_listeners(listeners: tuple[Listener, ...]) -> Iterator[Finding]:
    seen: dict[tuple[str, int], str] = {}
    for index, listener in enumerate(listeners):
        key = f"listen[{index}]"
        where = (listener.address, listener.port)
        first = seen.setdefault(where, key)
        if first != key:
            text = f"{listener.address} port {listener.port} is already taken by {first}"
            parts = [f"{k}.{part}" for k in (first, key) for part in ("address", "port")]
            yield Finding(key, text, (key, *parts))
        yield from _check_identity(listener.tls.default, f"{key}.tls")
        names: dict[str, int] = {}
        for number, files in enumerate(listener.tls.certificates):
            here = f"{key}.tls.certificates[{number}]"
            yield from _check_identity(files, here)
            name = files.server_name
            if name is not None and names.setdefault(name, number) != number:
                text = f"{name} already has a certificate, in certificates[{names[name]}]"
                yield Finding(f"{here}.server_name", text)


def _check_identity(files: Certificate, key: str) -> Iterator[Finding]:
    """A certificate comes from exactly one of PEM and PKCS#12."""
    own = tuple(f"{key}.{part}" for part in ("cert", "key", "pkcs12", "passphrase_file"))
    if files.cert and files.pkcs12:
        yield Finding(key, "has both cert and pkcs12; keep one", own)
    elif files.pkcs12 and files.key:
        yield Finding(f"{key}.key", "a PKCS#12 bundle has its key inside; remove key", own)
    elif not files.cert and not files.pkcs12:
        yield Finding(key, "has no certificate; write cert and key, or pkcs12", (key, *own))


# --- upstreams --------------------------------------------------------------------------------


def _check_routes(upstreams: tuple[Upstream, ...]) -> Iterator[Finding]:
    seen: dict[tuple[str | None, str], tuple[str, str]] = {}
    for upstream in upstreams:
        for index, route in enumerate(upstream.routes):
            key = f"{key_of_upstream(upstream.name)}.route[{index}]"
            first, owner = seen.setdefault((route.host, route.path_prefix), (key, upstream.name))
            if first != key:
                what = f"{route.host or 'any host'} with {route.path_prefix}"
                yield Finding(key, f"{what} is already a route of {owner}", (first, key))


def _check_backends(upstream: Upstream) -> Iterator[Finding]:
    ids: dict[str, int] = {}
    addresses: dict[tuple[str, int], int] = {}
    for index, backend in enumerate(upstream.backends):
        key = f"{key_of_upstream(upstream.name)}.backends[{index}]"
        same_address = addresses.setdefault((backend.host, backend.port), index)
        if same_address != index:
            text = f"{backend.address} is already the address of backends[{same_address}]"
            yield Finding(f"{key}.address", text)
        same_id = ids.setdefault(backend.id, index)
        is_told = same_id == same_address and backend.id == backend.address
        if same_id != index and not is_told:
            yield Finding(f"{key}.id", f"{backend.id} is already the id of backends[{same_id}]")


def _check_client_identity(upstream: Upstream) -> Iterator[Finding]:
    tls, key = upstream.tls, f"{key_of_upstream(upstream.name)}.tls"
    involved = (f"{key}.client_cert", f"{key}.client_key", f"{key}.passphrase_file")
    if tls.client_cert is None and tls.client_key is not None:
        yield Finding(
            f"{key}.client_key", "there is no client_cert that it is the key of", involved
        )
    elif tls.client_cert is None and tls.passphrase_file is not None:
        text = "there is no client_cert whose key it would open"
        yield Finding(f"{key}.passphrase_file", text, involved)


def _check_health(upstream: Upstream) -> Iterator[Finding]:
    probe = upstream.health_check
    if probe is not None and probe.timeout > probe.interval:
        key = f"{key_of_upstream(upstream.name)}.health_check"
        text = "is longer than interval, so that probes would overlap"
        yield Finding(f"{key}.timeout", text, (f"{key}.timeout", f"{key}.interval"))


# --- files and users --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in the files that a Config names: faults, and things to know."""

    problems: tuple[Problem, ...]
    notices: tuple[str, ...]


def check_files(config: Config, now: datetime, places: Places | None = None) -> list[Problem]:
    """Find what is wrong with the files, users and groups that a Config names."""
    return list(inspect_files(config, now, places).problems)


def inspect_files(config: Config, now: datetime, places: Places | None = None) -> Inspection:
    """Open all files that a Config names. `now` has a time zone; `places` gives the lines."""
    known = places or Places()
    problems: list[Problem] = []
    told: list[str] = []
    for index, listener in enumerate(config.listen):
        try:
            told += load_identities(listener.tls, now, f"listen[{index}].tls", known).notices
        except ConfigError as error:
            problems += error.problems
    findings = [*_find_account(config), *_find_folders(config)]
    for upstream in config.upstream:
        findings += _find_client_tls(upstream, now)
    problems += [known.problem(finding.key, finding.text) for finding in findings]
    return Inspection(tuple(sorted(problems)), tuple(told))


_MEMBERS = {"cert": "client_cert", "key": "client_key", "passphrase_file": "passphrase_file"}


def _find_client_tls(upstream: Upstream, now: datetime) -> Iterator[Finding]:
    tls, key = upstream.tls, f"{key_of_upstream(upstream.name)}.tls"
    if tls.ca is not None:
        yield from _find_refusal(replace(tls, client_cert=None), f"{key}.ca")
    if tls.client_cert is None:
        return
    files = Certificate(None, tls.client_cert, tls.client_key, None, tls.passphrase_file)
    try:
        faults = list(judge_dates(read_material(files), files, now))
    except UnusableError as unusable:
        faults = unusable.faults
    for fault in faults:
        yield Finding(f"{key}.{_MEMBERS[fault.member]}", fault.text)
    if not faults:
        yield from _find_refusal(replace(tls, ca=None, verify=False), f"{key}.client_cert")


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


def _find_folders(config: Config) -> Iterator[Finding]:
    """A file that Spooky writes needs its folder; Spooky makes none."""
    written = {"log.file": config.log.file, "log.access": config.log.access, "pid": config.pid}
    for key, file in written.items():
        if file is None or file == "-":
            continue
        folder = Path(file).parent
        if not folder.is_dir():
            yield Finding(key, f"the folder {folder} does not exist; create it first")
        elif Path(file).is_dir():
            yield Finding(key, f"{file} is a folder; name a file")
