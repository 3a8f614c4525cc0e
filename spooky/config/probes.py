"""The keys of `health_check`, and what must hold between them.

Which keys there are depends on the type of the probe: those that ask for something which a type
does not do are faults, so that none is accepted and ignored. It opens no connection; the one file
that it looks for is the program of a command.

A rule: a backend has one health, whichever upstreams it is in, so all of them probe it alike.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from spooky.config.document import Finding, Places, key_of_upstream
from spooky.config.model import HealthCheck, Upstream
from spooky.config.names import UnfitError
from spooky.config.pairs import Arguments, concealing
from spooky.config.scalars import Scalar, choice, duration, integer, size, text
from spooky.config.shapes import Field, Section

_DAY = 86_400
_WAIT = duration(0.001, _DAY)
_RANGE = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_PERCENT = r"^[0-9]{1,2}%$"

KEYS_OF_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("path", "method", "host", "status", "body", "body_regex", "body_bytes", "port"),
    "grpc": ("service", "host", "port"),
    "tcp": ("port",),
    "tls": ("port",),
    "command": ("command",),
}
"""The keys that say what is asked for, by the types that ask for it."""

_OF_SOME_TYPES: Final = frozenset(key for keys in KEYS_OF_TYPE.values() for key in keys)
_BODILESS: Final = "HEAD"


def _statuses() -> Scalar:
    def parse(given: str) -> tuple[tuple[int, int], ...]:
        found = []
        for part in given.replace(" ", "").split(","):
            match = _RANGE.fullmatch(part)
            if match is None:
                raise UnfitError
            low, high = int(match[1]), int(match[2] or match[1])
            if low < 200 or low > high:
                raise UnfitError
            found.append((low, high))
        return tuple(found)

    def write(value: tuple[tuple[int, int], ...]) -> str:
        return ",".join(f"{low}-{high}" if low < high else f"{low}" for low, high in value)

    kind = text("statuses such as 200 or 200-299,404, from 200 to 599", convert=parse)
    json = {"type": ["string", "integer"], "pattern": r"^[2-5][0-9]{2}(-[2-5][0-9]{2})?( *,.*)?$"}
    return replace(kind, json=json, write=write)


def _regex() -> Scalar:
    def parse(given: str) -> str:
        try:
            re.compile(given.encode())
        except re.error as error:
            raise UnfitError(f"is no regular expression: {error}") from None
        return given

    return text("a regular expression", convert=parse)


def _percent(high: int) -> Scalar:
    def parse(given: str) -> float:
        share = int(given.removesuffix("%"))
        if share > high:
            raise UnfitError
        return share / 100

    kind = text(f"0%..{high}%", _PERCENT, convert=parse)
    return replace(kind, write=lambda share: f"{round(share * 100)}%")


def _build(values: dict[str, Any]) -> HealthCheck:
    """Let what is not said follow what is, so that no default contradicts a word of the file."""
    check = HealthCheck(**values)
    following: dict[str, Any] = {"timeout": min(check.timeout, check.interval)}
    if "max_cooldown" in values:
        following["cooldown"] = min(check.cooldown, check.max_cooldown)
    else:
        following["max_cooldown"] = max(check.cooldown, check.max_cooldown)
    return replace(check, **{key: v for key, v in following.items() if key not in values})


def _parts(check: HealthCheck) -> dict[str, Any]:
    """Give the keys that the type has."""
    every = {key: getattr(check, key) for key in HEALTH_CHECK.fields}
    foreign = _OF_SOME_TYPES - set(KEYS_OF_TYPE[check.type])
    return {key: value for key, value in every.items() if key not in foreign}


HEALTH_CHECK = Section(
    HealthCheck,
    {
        "type": Field(choice(KEYS_OF_TYPE)),
        "path": Field(concealing(text("a path that begins with /, such as /health", r"^/[!-~]*$"))),
        "method": Field(
            text("a method such as GET, HEAD or OPTIONS", r"^(?!CONNECT$)[A-Z]{1,32}$")
        ),
        "host": Field(text("a host, with its port if it is to be sent", r"^[\w.:\[\]-]{1,255}$")),
        "status": Field(_statuses()),
        "body": Field(text("a text")),
        "body_regex": Field(_regex()),
        "body_bytes": Field(size(1, 1024 * 1024)),
        "service": Field(text("the name of a gRPC service", r"^[!-~]{1,256}$")),
        "command": Field(Arguments(concealing(text("a text")), at_least=1)),
        "port": Field(integer(1, 65_535)),
        "interval": Field(duration(0.1, _DAY)),
        "jitter": Field(_percent(50)),
        "timeout": Field(_WAIT),
        "failure_threshold": Field(integer(1, 100)),
        "success_threshold": Field(integer(1, 100)),
        "cooldown": Field(duration(0.001, _DAY, zero=True)),
        "max_cooldown": Field(_WAIT),
    },
    _build,
    _parts,
)


# --- what must hold between them ----------------------------------------------------------------


def check_health(upstreams: tuple[Upstream, ...], known: Places) -> Iterator[Finding]:
    """Find what contradicts itself in the health checks of a Config."""
    for upstream in upstreams:
        if upstream.health_check is not None:
            yield from _check_one(upstream, upstream.health_check, known)
    yield from _check_shared(upstreams, known)


def _check_one(upstream: Upstream, check: HealthCheck, known: Places) -> Iterator[Finding]:
    key = _key_of(upstream)
    if check.timeout > check.interval and known.is_sound(f"{key}.timeout", f"{key}.interval"):
        text = "is longer than interval, so that probes would overlap"
        yield Finding(f"{key}.timeout", text)
    sound = known.is_sound(f"{key}.cooldown", f"{key}.max_cooldown")
    if check.cooldown > check.max_cooldown and sound:
        yield Finding(f"{key}.max_cooldown", "is shorter than cooldown, which it limits")
    if known.is_sound(f"{key}.type"):
        yield from _check_type(upstream, check, known)


def _check_type(upstream: Upstream, check: HealthCheck, known: Places) -> Iterator[Finding]:
    """The keys of a probe are those of its type."""
    key, own = _key_of(upstream), KEYS_OF_TYPE[check.type]
    for name in sorted(_OF_SOME_TYPES - set(own)):
        if known.has(f"{key}.{name}"):
            types = [kind for kind, keys in KEYS_OF_TYPE.items() if name in keys]
            text = f"belongs to type {' or '.join(types)}, and this check is of type {check.type}"
            yield Finding(f"{key}.{name}", text)
    match check.type:
        case "http" if check.method == _BODILESS and (check.body or check.body_regex):
            where = "body" if check.body else "body_regex"
            yield Finding(f"{key}.{where}", "an answer to HEAD has no content")
        case "http" if check.body and check.body_regex:
            yield Finding(f"{key}.body_regex", "there is body as well; keep one")
        case "command" if not check.command and known.is_sound(f"{key}.command"):
            yield Finding(f"{key}.command", "missing; write [/path/of/program, ARGUMENT]")
        case "tls":
            for index, backend in enumerate(upstream.backends):
                where = f"{key_of_upstream(upstream.name)}.backends[{index}].address"
                if not backend.tls and known.is_sound(where):
                    text = f"tls can only be probed where it is spoken: {backend.id} is no https://"
                    yield Finding(f"{key}.type", text)
                    break


def _check_shared(upstreams: tuple[Upstream, ...], known: Places) -> Iterator[Finding]:
    """Backends in several upstreams are probed once, so all of them must want the same."""
    first: dict[str, Upstream] = {}
    for upstream in upstreams:
        check, key = upstream.health_check, _key_of(upstream)
        if check is None or not known.is_sound(key):
            continue
        for backend in upstream.backends:
            other = first.setdefault(backend.identity, upstream)
            if not backend.host or other is upstream:
                continue
            alike = other.health_check == check
            if alike and (not backend.tls or check.type == "command" or other.tls == upstream.tls):
                continue
            what = "tls" if alike else "health_check"
            text = (
                f"{backend.address} is also in {other.name}, which has another {what}, and a "
                "backend has one health: write the same in both, or probe it from one alone"
            )
            yield Finding(key, text)
            break


def find_commands(upstreams: tuple[Upstream, ...]) -> Iterator[Finding]:
    """Look whether the programs of health checks are there."""
    for upstream in upstreams:
        check = upstream.health_check
        if check is not None and check.type == "command" and check.command:
            program = check.command[0]
            if shutil.which(program) is None:
                text = f"there is no program {program} that could be started"
                yield Finding(f"{_key_of(upstream)}.command", text)


def _key_of(upstream: Upstream) -> str:
    return f"{key_of_upstream(upstream.name)}.health_check"
