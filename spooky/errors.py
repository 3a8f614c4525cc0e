"""What can go wrong, and the one table of what follows from it.

Two families. Errors of the operator (`ConfigError`, `StartupError`) stop the program with a
message that says where and what. Failures of an exchange are not exceptions but a `Kind`; the
table `CONSEQUENCES` says for each kind what the client is told, whose fault it was and whether
another attempt is safe. No other file decides that.
"""

import errno
import os
import socket
import ssl
from dataclasses import dataclass
from enum import Enum, IntEnum


class SpookyError(Exception):
    """Any error that Spooky raises for its operator."""


class StartupError(SpookyError):
    """The program cannot start or go on: a port taken, a missing right, a stale pidfile."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault in the configuration: `line` counts from 1, 0 where there is none."""

    line: int
    path: str
    text: str

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        return f"{self.path}: {self.text}{where}" if self.path else f"{self.text}{where}"


class ConfigError(SpookyError):
    """The configuration is not usable; `problems` has every fault that was found."""

    def __init__(self, problems: list[Problem], file: str = "") -> None:
        self.problems = problems
        self.file = file
        super().__init__("\n".join(str(problem) for problem in problems))


class ExitCode(IntEnum):
    """What the `spooky` command and its processes exit with."""

    OK = 0
    FAILURE = 1
    """A command could not be carried out: no master to signal, no right to, or one that stays."""
    CONFIG = 2
    """Wrong configuration or wrong command line; so too `-s reload`, which tests the file before it
    signals. What a running master itself refuses is in its log alone."""
    BOOT = 3
    """The master could not bind or write what it must, or a worker could not start."""


class H3Code(IntEnum):
    """HTTP/3 error codes (RFC 9114 section 8.1)."""

    NO_ERROR = 0x100
    GENERAL_PROTOCOL_ERROR = 0x101
    INTERNAL_ERROR = 0x102
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    REQUEST_CANCELLED = 0x10C
    REQUEST_INCOMPLETE = 0x10D
    MESSAGE_ERROR = 0x10E
    CONNECT_ERROR = 0x10F
    VERSION_FALLBACK = 0x110


class H2Code(IntEnum):
    """HTTP/2 error codes (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


H3_OF_H2: dict[int, H3Code] = {
    H2Code.NO_ERROR: H3Code.NO_ERROR,
    H2Code.PROTOCOL_ERROR: H3Code.GENERAL_PROTOCOL_ERROR,
    H2Code.INTERNAL_ERROR: H3Code.INTERNAL_ERROR,
    H2Code.REFUSED_STREAM: H3Code.REQUEST_REJECTED,
    H2Code.CANCEL: H3Code.REQUEST_CANCELLED,
    H2Code.CONNECT_ERROR: H3Code.CONNECT_ERROR,
    H2Code.ENHANCE_YOUR_CALM: H3Code.EXCESSIVE_LOAD,
    H2Code.HTTP_1_1_REQUIRED: H3Code.VERSION_FALLBACK,
}
"""The HTTP/3 code that says what an HTTP/2 code said (RFC 9114 appendix A.4); the others are
faults between us and the backend, an INTERNAL_ERROR to the client."""


class Origin(Enum):
    """Whose fault a failure is."""

    CLIENT = "client"
    BACKEND = "backend"
    SELF = "self"


class Retry(Enum):
    """When another backend may be asked instead."""

    NEVER = "never"
    IF_UNSENT = "if unsent"
    """Only if the backend never got the request, or promised not to have acted on it."""
    IF_IDEMPOTENT = "if idempotent"
    """Also if it may have got it, where the method is idempotent (RFC 9110 section 9.2.2)."""


class Kind(Enum):
    """What happened to an exchange; the value is its name in logs and metrics."""

    BAD_REQUEST = "bad_request"
    NO_ROUTE = "no_route"
    BODY_TOO_LARGE = "body_too_large"
    MISDIRECTED = "misdirected"
    HEADERS_TOO_LARGE = "headers_too_large"
    TOO_MANY_HEADERS = "too_many_headers"
    METHOD_NOT_SUPPORTED = "method_not_supported"
    RATE_LIMITED = "rate_limited"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    BAD_RESPONSE = "bad_response"
    BACKEND_RESET = "backend_reset"
    BACKEND_GONE = "backend_gone"
    RESPONSE_TIMEOUT = "response_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    TRY_TIMEOUT = "try_timeout"
    """One try took too long; others may follow."""
    BAD_STATUS = "bad_status"
    """The response has a status that counts as a failed try."""
    DEADLINE = "deadline"
    """The time is over that the client itself was ready to wait."""
    NO_BACKEND = "no_backend"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    CLIENT_TIMEOUT = "client_timeout"
    HEADERS_TIMEOUT = "headers_timeout"
    """The header section of a request did not come in time."""
    SLOW_REQUEST = "slow_request"
    """The client sends content more slowly than it must."""
    SLOW_READER = "slow_reader"
    """The client takes the response more slowly than it must."""
    CLIENT_RESET = "client_reset"
    CLIENT_GONE = "client_gone"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from a `Kind`.

    `status` answers the client while the response has not begun; after that its stream is reset
    with `h3_code`. `retry_after` is seconds for the Retry-After field, 0 for none.
    """

    status: int
    h3_code: H3Code
    origin: Origin
    retry: Retry
    text: str
    retry_after: int = 0


CONSEQUENCES: dict[Kind, Consequence] = {
    Kind.BAD_REQUEST: Consequence(
        400, H3Code.MESSAGE_ERROR, Origin.CLIENT, Retry.NEVER, "The request is malformed."
    ),
    Kind.NO_ROUTE: Consequence(
        404, H3Code.NO_ERROR, Origin.CLIENT, Retry.NEVER, "No route matches this host and path."
    ),
    Kind.BODY_TOO_LARGE: Consequence(
        413, H3Code.REQUEST_CANCELLED, Origin.CLIENT, Retry.NEVER, "The content is too large."
    ),
    Kind.MISDIRECTED: Consequence(
        421,
        H3Code.NO_ERROR,
        Origin.CLIENT,
        Retry.NEVER,
        "This connection does not serve that authority; open another one for it.",
    ),
    Kind.HEADERS_TOO_LARGE: Consequence(
        431, H3Code.MESSAGE_ERROR, Origin.CLIENT, Retry.NEVER, "The header section is too large."
    ),
    Kind.TOO_MANY_HEADERS: Consequence(
        431, H3Code.MESSAGE_ERROR, Origin.CLIENT, Retry.NEVER, "There are too many header fields."
    ),
    Kind.METHOD_NOT_SUPPORTED: Consequence(
        501, H3Code.NO_ERROR, Origin.CLIENT, Retry.NEVER, "The method is not supported."
    ),
    Kind.RATE_LIMITED: Consequence(
        429, H3Code.EXCESSIVE_LOAD, Origin.CLIENT, Retry.NEVER, "There were too many requests."
    ),
    Kind.CONNECT_FAILED: Consequence(
        502, H3Code.INTERNAL_ERROR, Origin.BACKEND, Retry.IF_UNSENT, "The backend is unreachable."
    ),
    Kind.CONNECT_TIMEOUT: Consequence(
        504,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.IF_UNSENT,
        "The backend did not accept the connection in time.",
    ),
    Kind.BAD_RESPONSE: Consequence(
        502,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.NEVER,
        "The backend sent an invalid response.",
    ),
    Kind.BACKEND_RESET: Consequence(
        502,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.IF_IDEMPOTENT,
        "The backend gave the request up.",
    ),
    Kind.BACKEND_GONE: Consequence(
        502,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.IF_IDEMPOTENT,
        "The connection to the backend was lost.",
    ),
    Kind.RESPONSE_TIMEOUT: Consequence(
        504,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.NEVER,
        "The backend did not answer in time.",
    ),
    Kind.IDLE_TIMEOUT: Consequence(
        504,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.NEVER,
        "The exchange stood still for too long.",
    ),
    Kind.TOTAL_TIMEOUT: Consequence(
        504,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.NEVER,
        "The exchange took too long.",
    ),
    Kind.TRY_TIMEOUT: Consequence(
        504,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.IF_IDEMPOTENT,
        "The backend did not answer in time.",
    ),
    Kind.BAD_STATUS: Consequence(
        502,
        H3Code.INTERNAL_ERROR,
        Origin.BACKEND,
        Retry.IF_IDEMPOTENT,
        "The backend answered with an error.",
    ),
    Kind.DEADLINE: Consequence(
        504,
        H3Code.REQUEST_CANCELLED,
        Origin.CLIENT,
        Retry.NEVER,
        "The time is over that the request asked for.",
    ),
    Kind.NO_BACKEND: Consequence(
        503,
        H3Code.REQUEST_REJECTED,
        Origin.SELF,
        Retry.NEVER,
        "No backend is available.",
        retry_after=1,
    ),
    Kind.OVERLOADED: Consequence(
        503,
        H3Code.EXCESSIVE_LOAD,
        Origin.SELF,
        Retry.IF_UNSENT,
        "Too many requests are waiting for a backend.",
        retry_after=1,
    ),
    Kind.DRAINING: Consequence(
        503,
        H3Code.REQUEST_REJECTED,
        Origin.SELF,
        Retry.NEVER,
        "The server is shutting down.",
        retry_after=1,
    ),
    Kind.CLIENT_TIMEOUT: Consequence(
        408,
        H3Code.REQUEST_CANCELLED,
        Origin.CLIENT,
        Retry.NEVER,
        "The client sent or took nothing for too long.",
    ),
    Kind.HEADERS_TIMEOUT: Consequence(
        408,
        H3Code.REQUEST_CANCELLED,
        Origin.CLIENT,
        Retry.NEVER,
        "The header section did not come in time.",
    ),
    Kind.SLOW_REQUEST: Consequence(
        408,
        H3Code.REQUEST_CANCELLED,
        Origin.CLIENT,
        Retry.NEVER,
        "The content came too slowly.",
    ),
    Kind.SLOW_READER: Consequence(
        408,
        H3Code.REQUEST_CANCELLED,
        Origin.CLIENT,
        Retry.NEVER,
        "The response was taken too slowly.",
    ),
    Kind.CLIENT_RESET: Consequence(
        499,
        H3Code.REQUEST_CANCELLED,
        Origin.CLIENT,
        Retry.NEVER,
        "The client cancelled the request.",
    ),
    Kind.CLIENT_GONE: Consequence(
        499, H3Code.REQUEST_CANCELLED, Origin.CLIENT, Retry.NEVER, "The client went away."
    ),
    Kind.INTERNAL: Consequence(
        500, H3Code.INTERNAL_ERROR, Origin.SELF, Retry.NEVER, "Something went wrong here."
    ),
}


def describe_failure(error: Exception) -> str:
    """Say in a few words why no connection came about."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case socket.gaierror():
            return f"its name cannot be looked up: {(error.strerror or str(error)).lower()}"
        case OSError() if error.errno is not None and error.errno > 0:
            return os.strerror(error.errno).lower()
        case _:
            return str(error) or type(error).__name__


_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_shortage(error: Exception) -> bool:
    """Say whether it failed because this process, or this machine, has no descriptor or memory.

    That says nothing of the backend, which must not be held to be down for it.
    """
    return isinstance(error, OSError) and error.errno in _SHORTAGES


class RefusedError(SpookyError):
    """What an operator wants of a running instance cannot be done; the text says why."""
