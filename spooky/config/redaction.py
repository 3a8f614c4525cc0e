"""Secrets in text that is shown: what is taken for one, and how it is hidden.

Pure: text in, text out. It knows secrets by the names that they go by (`authorization`,
`api_key=`) and by their place in a URL (`//user:password@`). It never decides what is shown; who
prints or logs what an operator or a client wrote asks it. The rule that is not obvious: to hide
too much costs an operator a look into a file, to hide too little costs the secret, so a name is
taken for a secret's when in doubt.
"""

import re
from typing import Final

HIDDEN: Final = "***"

_SECRET: Final = (
    r"auth|authorization|cookie|token|jwt|bearer|secret|password|passwd|passphrase|pwd|pass"
    r"|credentials?|session|sessionid|sid|signature|sig|key|api-?key"
)
_NAME = rf"(?:[A-Za-z0-9]+[-_.])*(?:[A-Za-z0-9]*(?:token|secret|password|apikey)|{_SECRET})"
_SECRET_NAME = re.compile(rf"(?:{_NAME})(?:[-_.]?(?:id|value|[0-9]+))?", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(//)[^/?#\s\"']*@")
_NAMED = re.compile(rf"(?<![A-Za-z0-9])({_NAME}=)[^\s&;,\"']+", re.IGNORECASE)
_FIELD = re.compile(rf"(?<![A-Za-z0-9])({_NAME}:\s+)[^\"']+", re.IGNORECASE)
_FLAG = re.compile(rf"--?{_NAME}|-u|--(?:proxy-)?user", re.IGNORECASE)
_IN_QUERY = re.compile(rf"(?<=[?&;])({_NAME}=)[^&;#]+".encode(), re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Say whether a field, cookie or parameter of that name holds a secret, most likely."""
    return _SECRET_NAME.fullmatch(name) is not None


def hide_user(text: str) -> str:
    """Hide who a URL logs in as, and with which password."""
    return _USER_IN_URL.sub(rf"\1{HIDDEN}@", text)


def hide(text: str) -> str:
    """Hide what is a secret in a single value: a URL, `name=value`, or a field line."""
    return _FIELD.sub(rf"\1{HIDDEN}", _NAMED.sub(rf"\1{HIDDEN}", hide_user(text)))


def hide_in_arguments(arguments: list[str]) -> list[str]:
    """Hide the secrets among a program's arguments, also those that follow their flag."""
    shown: list[str] = []
    before = ""
    for argument in arguments:
        shown.append(HIDDEN if _FLAG.fullmatch(before) else hide(argument))
        before = argument
    return shown


def hide_in_query(path: bytes) -> bytes:
    """Hide the secrets in the query of a request's path."""
    return _IN_QUERY.sub(rb"\1" + HIDDEN.encode(), path)
