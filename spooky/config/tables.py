"""The file's keys, declared once: what each takes and which model object it becomes.

Nothing but declarations. The loader, the JSON Schema and the dump all walk `CONFIG`; a key's
default and description are those of the field with its name in `model.py`. What holds between
several keys is in `check.py`.
"""

import os
from pathlib import Path
from typing import Any

from spooky.config import names
from spooky.config.admission_tables import ADMISSION, BACKEND_LIMITS, UPSTREAM_ADMISSION
from spooky.config.balancing_tables import BALANCING
from spooky.config.dns_tables import DNS
from spooky.config.engine import Engine
from spooky.config.failing_tables import CIRCUIT_BREAKER, PASSIVE_HEALTH
from spooky.config.limit_tables import LIMITS
from spooky.config.model import (
    Admin,
    Backend,
    Certificate,
    Config,
    Listener,
    ListenTls,
    Log,
    Timeouts,
    Upstream,
    UpstreamTls,
)
from spooky.config.probes import HEALTH_CHECK
from spooky.config.rate_tables import RATE_LIMIT
from spooky.config.repeat_tables import HEDGING, RETRIES, deadline_header
from spooky.config.route_tables import ROUTE, RULE
from spooky.config.scalars import (
    AUTO,
    Scalar,
    backend_address,
    boolean,
    choice,
    destination,
    destination_or_off,
    duration,
    host,
    integer,
    path,
    path_or_off,
    text,
)
from spooky.config.sessions import SESSION_PERSISTENCE
from spooky.config.shapes import Field, ListOf, NamedGroup, OneOrMany, OrOff, Section

DAY = 86_400
MOST_WORKERS = 128
"""Two generations of workers at a time have to share the 256 slots."""

_PORT = integer(1, 65535)
_IP = host("an IP address such as 0.0.0.0 or ::, without brackets", names.parse_own_ip)
_WAIT = duration(0.001, DAY)
_WAIT_OR_NONE = duration(0.001, DAY, zero=True)
_NAME = text("a name without spaces, of at most 128 characters", r"^[!-~]{1,128}$")
_GROUP_NAME = text("letters, digits, _, - or .", r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_ZONE = text("a word such as eu-1a, of at most 64 characters", r"^[!-~]{1,64}$")

# --- listeners --------------------------------------------------------------------------------

_IDENTITY = {
    "cert": Field(path()),
    "key": Field(path()),
    "pkcs12": Field(path()),
    "passphrase_file": Field(path()),
}
_EITHER = (("cert", "pkcs12"),)

CERTIFICATE = Section(
    Certificate,
    {
        "server_name": Field(
            host("a DNS name, or *. and a DNS name", names.parse_server_name),
        ),
        **_IDENTITY,
    },
    either=_EITHER,
)


def _build_listen_tls(values: dict[str, Any]) -> ListenTls:
    certificates = values.pop("certificates", ())
    return ListenTls(Certificate(**values), certificates)


def _listen_tls_parts(tls: ListenTls) -> dict[str, Any]:
    own = {key: getattr(tls.default, key) for key in _IDENTITY}
    return {**own, "certificates": tls.certificates}


LISTEN_TLS = Section(
    Certificate,
    {
        **_IDENTITY,
        "certificates": Field(
            ListOf(CERTIFICATE),
            about="More identities, chosen by the server name that the client asks for.",
            default=[],
        ),
    },
    _build_listen_tls,
    _listen_tls_parts,
    _EITHER,
)

LISTENER = Section(
    Listener,
    {
        "protocol": Field(choice(["http3"])),
        "address": Field(_IP),
        "port": Field(_PORT),
        "tls": Field(LISTEN_TLS, "missing; HTTP/3 needs one: write {cert: ..., key: ...}"),
    },
)

# --- upstreams --------------------------------------------------------------------------------


def _build_backend(values: dict[str, Any]) -> Backend:
    name, port, tls = values.pop("address")
    backend = Backend(values.pop("id", ""), name, port, tls, **values)
    return backend if backend.id else Backend(backend.address, name, port, tls, **values)


def _backend_parts(backend: Backend) -> dict[str, Any]:
    return {key: getattr(backend, key) for key in BACKEND.fields}


BACKEND = Section(
    Backend,
    {
        "id": Field(_NAME, about="The name in logs and metrics; without it, the address."),
        "address": Field(
            backend_address(),
            "missing; write host:port, or https://host:port for TLS",
            "`host:port` or `http://host:port` for cleartext HTTP/2 (prior knowledge), "
            "`https://host[:port]` for HTTP/2 over TLS; an IPv6 address stands in brackets.",
        ),
        "weight": Field(integer(0, 1000)),
        "priority": Field(integer(0, 127)),
        "zone": Field(_ZONE),
    },
    _build_backend,
    _backend_parts,
)

UPSTREAM_TLS = Section(
    UpstreamTls,
    {
        "verify": Field(boolean()),
        "ca": Field(path()),
        "server_name": Field(host("a DNS name or an IP address", names.parse_host)),
        "client_cert": Field(path()),
        "client_key": Field(path()),
        "passphrase_file": Field(path()),
    },
)

TIMEOUTS = Section(
    Timeouts,
    {
        "connect": Field(_WAIT),
        "response_header": Field(_WAIT_OR_NONE),
        "idle": Field(_WAIT_OR_NONE),
        "total": Field(_WAIT_OR_NONE),
        "queue": Field(_WAIT),
        "deadline_header": Field(deadline_header()),
    },
)


def _build_upstream(values: dict[str, Any]) -> Upstream:
    name, routes = values.pop("name", ""), values.pop("route", ())
    return Upstream(name, routes, **values)


def _upstream_parts(upstream: Upstream) -> dict[str, Any]:
    parts = {key: getattr(upstream, key) for key in UPSTREAM.fields if key != "route"}
    for key in ("health_check", "hedging", "circuit_breaker", "session_persistence"):
        if parts[key] is None:
            del parts[key]
    return {"route": upstream.routes, **parts} if upstream.routes else parts


UPSTREAM = Section(
    Upstream,
    {
        "route": Field(
            OneOrMany(ROUTE),
            about="What the upstream serves: one route or a list of them. Without it, only what "
            "a split or a mirror of another route sends there.",
        ),
        "load_balancing": Field(BALANCING),
        "slow_start": Field(_WAIT_OR_NONE),
        "panic_threshold": Field(integer(0, 100)),
        "session_persistence": Field(SESSION_PERSISTENCE),
        "backends": Field(ListOf(BACKEND, at_least=1), "missing; write [{address: HOST:PORT}]"),
        "tls": Field(UPSTREAM_TLS),
        "timeouts": Field(TIMEOUTS),
        "admission": Field(UPSTREAM_ADMISSION),
        "backend_limits": Field(BACKEND_LIMITS),
        "rate_limits": Field(ListOf(RATE_LIMIT)),
        "retries": Field(RETRIES),
        "hedging": Field(HEDGING),
        "health_check": Field(HEALTH_CHECK),
        "passive_health": Field(PASSIVE_HEALTH),
        "circuit_breaker": Field(CIRCUIT_BREAKER),
    },
    _build_upstream,
    _upstream_parts,
)

# --- the rest ---------------------------------------------------------------------------------

ADMIN = OrOff(Section(Admin, {"address": Field(_IP), "port": Field(_PORT)}), Admin(port=0))

LOG = Section(
    Log,
    {
        "level": Field(choice(["debug", "info", "warning", "error", "off"], {"warn": "warning"})),
        "format": Field(choice(["plain", "json"])),
        "file": Field(destination()),
        "access": Field(destination_or_off()),
    },
)


def _workers() -> Scalar:
    number = integer(1, MOST_WORKERS, instead="auto")

    def parse(given: Any) -> int:
        return usable_cpus() if given.text == "auto" else int(number.parse(given))

    json = {"anyOf": [{"const": "auto"}, number.json]}
    return Scalar(number.expected, parse, json, 1)


def usable_cpus() -> int:
    """Count the CPUs that this process may run on, as far as there can be workers."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


_PID = Path("/run/spooky.pid")


def _build_config(values: dict[str, Any]) -> Config:
    values.setdefault("worker_processes", usable_cpus())
    if values.get("control", AUTO) == AUTO:
        values["control"] = str(values.get("pid", _PID).with_suffix(".sock"))
    return Config(**values)


ENGINE = Section(
    Engine,
    {
        "downstream": Field(choice(["aioquic"])),
        "upstream": Field(choice(["lean", "h2"])),
    },
)

CONFIG = Section(
    Config,
    {
        "version": Field(integer(1, 1)),
        "worker_processes": Field(_workers(), default="auto"),
        "listen": Field(
            OneOrMany(LISTENER), "missing; write {address: 0.0.0.0, port: 443, tls: {...}}"
        ),
        "upstream": Field(
            NamedGroup(UPSTREAM, _GROUP_NAME),
            "missing; write {NAME: {route: {path_prefix: /}, backends: [{address: HOST:PORT}]}}",
        ),
        "routes": Field(ListOf(RULE)),
        "user": Field(text("the name of a user")),
        "group": Field(text("the name of a group")),
        "admin": Field(ADMIN),
        "log": Field(LOG),
        "limits": Field(LIMITS),
        "admission": Field(ADMISSION),
        "dns": Field(DNS),
        "rate_limits": Field(ListOf(RATE_LIMIT)),
        "engine": Field(ENGINE),
        "steering": Field(choice(["auto", "kernel", "userspace"])),
        "worker_timeout": Field(duration(2, DAY, zero=True)),
        "watch": Field(boolean()),
        "drain_timeout": Field(_WAIT_OR_NONE),
        "pid": Field(path()),
        "control": Field(path_or_off(), default="auto"),
        "zone": Field(_ZONE),
    },
    _build_config,
)
