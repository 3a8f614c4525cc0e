"""What Hypercorn serves in the bench: an answer of as many octets as the path says.

It reads the whole request first, as the backend behind the proxies does.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

Message = dict[str, Any]


@cache
def _octets(count: int) -> bytes:
    return bytes(count)


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """An ASGI application."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    body = _octets(int(scope["path"].strip("/")))
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
