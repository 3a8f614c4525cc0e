"""What routes name: methods, fields, values, paths, authorities, and keys of a split.

As in `names.py`: each function takes the text of the file, gives the normal form, and raises
`UnfitError`, with a sentence where "expected ..., got ..." does not say enough. What rules may
touch and which variables there are, is known to `policy.header_rules`, too; a test holds both to
the same.
"""

import re

from spooky.config import names
from spooky.config.names import UnfitError

UNTOUCHABLE = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
        *("te", "trailer", "content-length", "host"),
    )
)
VARIABLES = ("client_ip", "request_id", "host", "method", "path", "upstream")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_PATH = re.compile(r"/[\x21-\x22\x24-\x3e\x40-\x7e]*")
"""Visible ASCII without # and ?."""
_REFERENCE = re.compile(r"\\(?:([1-9][0-9]?)|g<([A-Za-z_][A-Za-z0-9_]*|[1-9][0-9]?)>|(\\)|())")
_VARIABLE = re.compile(r"\$\$\{|\$\{([^{}]*)(\})?")
_PLACES = ("header", "cookie", "query")


def parse_method(text: str) -> str:
    """Read a method, which is a word in upper case."""
    if not _TOKEN.fullmatch(text):
        raise UnfitError
    if text != text.upper():
        raise UnfitError(f"methods are told apart by case: write {text.upper()}")
    return text


def parse_field_name(text: str) -> str:
    """Read the name of a field that is looked at."""
    if text.startswith(":"):
        raise UnfitError(
            f"{text} is no field of its own: host, path_prefix, methods and query ask for it"
        )
    if not _TOKEN.fullmatch(text):
        raise UnfitError
    return text.lower()


def parse_ruled_name(text: str) -> str:
    """Read the name of a field that is added, set or removed."""
    if text.startswith(":"):
        raise UnfitError(f"{text} is no field that rules may touch; rewrite has the path and host")
    if not _TOKEN.fullmatch(text):
        raise UnfitError
    name = text.lower()
    if name == "host":
        raise UnfitError("the host is no field that rules may touch; write rewrite: {host: ...}")
    if name in UNTOUCHABLE:
        raise UnfitError(f"{name} is for one hop or frames the message; rules may not touch it")
    return name


def parse_field_value(text: str) -> str:
    """Read a field's value as it is sent."""
    if not _VALUE.fullmatch(text):
        raise UnfitError
    return text


def parse_ruled_value(text: str) -> str:
    """Read a value that may have variables."""
    for found in _VARIABLE.finditer(parse_field_value(text)):
        if found[0] == "$${":
            continue
        if not found[2]:
            raise UnfitError(f"{found[0]} is not closed; what is to be sent as it is begins $${{")
        if found[1] not in VARIABLES:
            known = ", ".join(f"${{{name}}}" for name in VARIABLES)
            raise UnfitError(f"there is no variable {found[0]}; there are {known}")
    return text


def parse_new_path(text: str) -> str:
    """Read a path that is put in the place of another."""
    if not _PATH.fullmatch(text):
        raise UnfitError
    return text


def parse_pair_name(text: str) -> str:
    """Read the name of a cookie or of a parameter, in its own case."""
    if not text.isprintable():
        raise UnfitError
    return text


def parse_authority(text: str) -> str:
    """Read a host that requests are sent to, with a port where it is not the scheme's own."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    elif not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise UnfitError
    if host.startswith("*."):
        raise UnfitError("expected one host, not a wildcard")
    name = names.parse_route_host(host)
    return f"{name}:{port}" if port else name


def parse_split_key(text: str) -> str:
    """Read what a client is known by."""
    if text in {"client_ip", "random"}:
        return text
    place, colon, name = text.partition(":")
    if place not in _PLACES or not colon or not name:
        raise UnfitError
    return f"{place}:{parse_field_name(name) if place == 'header' else parse_pair_name(name)}"


def missing_group(template: str, groups: int, named: frozenset[str]) -> str:
    """Say which group a template names that its pattern has not; "" where there is none."""
    for found in _REFERENCE.finditer(template):
        reference = found[1] or found[2]
        if found[3]:
            continue
        if reference is None:
            return "one by a \\ without a number; a backslash itself is written \\\\"
        known = int(reference) <= groups if reference.isdigit() else reference in named
        if not known:
            return reference
    return ""
