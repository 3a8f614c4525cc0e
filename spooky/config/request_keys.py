"""How the configuration names what requests are told apart by.

`policy/hashkey.py` finds it in them. Balancers and rate limits have these forms in common, and
each may have words of its own besides.
"""

import re
from collections.abc import Mapping
from typing import Final

from spooky.config.document import Word
from spooky.config.names import UnfitError
from spooky.config.scalars import Json, Scalar

_PLAIN: Final = ("client_ip", "path", "authority", "cid")
_NAMED: Final = r"(?:header|cookie|query):[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}"
"""The name is a token (RFC 9110 section 5.6.2)."""
_FORMS: Final = "client_ip, header:NAME, cookie:NAME, query:NAME, path, authority"


def request_key(*own: str, aliases: Mapping[str, str]) -> Scalar:
    """Read a key, or one of the `own` words; `aliases` are other spellings."""
    words = (*_PLAIN, *own)
    last = ("cid", *own)
    expected = f"{', '.join((_FORMS, *last[:-1]))} or {last[-1]}"
    named = re.compile(_NAMED)

    def parse(given: Word) -> str:
        text = aliases.get(given.text, given.text)
        if text not in words and not named.fullmatch(text):
            raise UnfitError
        return text

    json: Json = {"type": "string", "pattern": f"^(?:{'|'.join((*words, *aliases))}|{_NAMED})$"}
    return Scalar(expected, parse, json, "client_ip")
