"""The application that Hypercorn serves over cleartext HTTP/2 to Spooky.

The last segment of the path says what it does, the query how much. What becomes of a request
that names a `mark` can be asked for by `/seen?mark=`. Started as a program with a port and
options of Hypercorn, `name=value`; `delay=MS` makes every answer wait so long.
"""

import asyncio
import hashlib
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.e2e.content import chunks, digest

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Fields: TypeAlias = list[tuple[bytes, bytes]]

SEEN: dict[str, str] = {}
"""What became of each token: `begun`, then `disconnected` or `done`."""


class Call:
    """One request, with what the actions need of it."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        query = parse_qs(scope["query_string"].decode())
        self.query = {name: values[0] for name, values in query.items()}

    def number(self, name: str, default: int = 0) -> int:
        """Read a number of the query."""
        return int(self.query.get(name, default))

    async def start(self, status: int, headers: Fields, *, trailers: bool = False) -> None:
        """Send the head."""
        message: Message = {"type": "http.response.start", "status": status, "headers": headers}
        if trailers:
            message["trailers"] = True
        await self.send(message)

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a piece of content."""
        await self.send({"type": "http.response.body", "body": data, "more_body": more})

    async def json(self, value: object) -> None:
        """Answer with a JSON document."""
        data = json.dumps(value).encode()
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await self.start(200, fields)
        await self.body(data, more=False)

    def note(self, what: str) -> None:
        """Remember what became of the request, if it has a token."""
        if "mark" in self.query:
            SEEN[self.query["mark"]] = what


async def echo(call: Call) -> None:
    """Send the content back as it comes."""
    await call.start(200, [(b"content-type", b"application/octet-stream")])
    while (message := await call.receive())["type"] == "http.request":
        more = message.get("more_body", False)
        await call.body(message["body"], more=more)
        if not more:
            return
    call.note("disconnected")


async def echo_later(call: Call) -> None:
    """Send the content back once all of it is here."""
    data = bytearray()
    while (message := await call.receive())["type"] == "http.request":
        data += message["body"]
        if not message.get("more_body", False):
            await call.start(200, [(b"content-length", b"%d" % len(data))])
            await call.body(bytes(data), more=False)
            return


async def sha256(call: Call) -> None:
    """Say the length and hash of the content."""
    hasher, length = hashlib.sha256(), 0
    while (message := await call.receive())["type"] == "http.request":
        hasher.update(message["body"])
        length += len(message["body"])
        if not message.get("more_body", False):
            await call.json({"sha256": hasher.hexdigest(), "length": length})
            return
    call.note("disconnected")


async def octets(call: Call) -> None:
    """Send `n` octets of the known content, with a content-length."""
    length = call.number("n")
    await call.start(200, [(b"content-length", b"%d" % length), (b"etag", b'"v1"')])
    for piece in chunks(length):
        await call.body(piece, more=True)
    await call.body(b"", more=False)


async def status(call: Call) -> None:
    """Answer with the status `code` and nothing else, after `wait` milliseconds."""
    await asyncio.sleep(call.number("wait") / 1000)
    await call.start(call.number("code", 204), [(b"x-answer", b"yes")])
    await call.body(b"", more=False)


async def trailers(call: Call) -> None:
    """Send `n` octets and their hash as a trailer field."""
    length = call.number("n")
    await call.start(200, [(b"trailer", b"x-sha256")], trailers=True)
    for piece in chunks(length):
        await call.body(piece, more=True)
    await call.body(b"", more=False)
    fields = [(b"x-sha256", digest(length).encode())]
    await call.send({"type": "http.response.trailers", "headers": fields, "more_trailers": False})


async def hints(call: Call) -> None:
    """Send 103 (Early Hints), then 200."""
    links = [b"</style.css>; rel=preload; as=style"]
    await call.send({"type": "http.response.early_hint", "links": links})
    await call.json({"hinted": True})


async def headers(call: Call) -> None:
    """Say what arrived: method, path, HTTP version and fields, in order."""
    await call.json(
        {
            "method": call.scope["method"],
            "path": call.scope["raw_path"].decode(),
            "query": call.scope["query_string"].decode(),
            "version": call.scope["http_version"],
            "headers": [[n.decode("latin1"), v.decode("latin1")] for n, v in call.scope["headers"]],
        }
    )


async def altsvc(call: Call) -> None:
    """Answer with fields of our own that a proxy must leave alone."""
    fields = [(b"alt-svc", b'h3=":8443"; ma=60'), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await call.start(200, [*fields, (b"via", b"1.1 inner")])
    await call.body(b"", more=False)


async def slow(call: Call) -> None:
    """Send `n` octets, `chunk` at a time, `pause` milliseconds apart."""
    length, chunk = call.number("n"), call.number("chunk", 1024)
    call.note("begun")
    await call.start(200, [(b"content-length", b"%d" % length)])
    data = b"".join(chunks(length))
    for start in range(0, length, chunk):
        await call.body(data[start : start + chunk], more=True)
        await asyncio.sleep(call.number("pause", 10) / 1000)
    await call.body(b"", more=False)
    call.note("done")


async def hang(call: Call) -> None:
    """Answer nothing until the client gives up."""
    call.note("begun")
    while (await call.receive())["type"] != "http.disconnect":
        pass
    call.note("disconnected")


async def seen(call: Call) -> None:
    """Say what became of the request with that token."""
    await call.json(SEEN.get(call.query.get("mark", ""), "unknown"))


ACTIONS: dict[str, Callable[[Call], Awaitable[None]]] = {
    "echo": echo,
    "echo-later": echo_later,
    "sha256": sha256,
    "bytes": octets,
    "status": status,
    "trailers": trailers,
    "hints": hints,
    "headers": headers,
    "alt-svc": altsvc,
    "slow": slow,
    "hang": hang,
    "seen": seen,
}


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """The ASGI callable."""
    if scope["type"] != "http":
        return
    call = Call(scope, receive, send)
    action = ACTIONS.get(scope["path"].rsplit("/", 1)[-1])
    if action is None:
        await call.start(404, [(b"x-answer", b"no such action")])
        await call.body(b"", more=False)
        return
    await action(call)


def main(port: int, options: dict[str, str]) -> None:
    """Serve until killed. Options are attributes of Hypercorn's configuration."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    # Hypercorn drops the request with which it sends GOAWAY, whoever asks.
    config.keep_alive_max_requests = int(options.pop("keep_alive_max_requests", 1_000_000_000))
    config.keep_alive_timeout = 60
    delay = int(options.pop("delay", 0)) / 1000
    if "ca_certs" in options:
        config.verify_mode = ssl.CERT_REQUIRED
    for name, value in options.items():
        setattr(config, name, value)

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        if delay and scope["type"] == "http":
            await asyncio.sleep(delay)
        await application(scope, receive, send)

    asyncio.run(serve(answer, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(int(sys.argv[1]), dict(option.split("=", 1) for option in sys.argv[2:]))
