"""An application that fails the first tries of a request, and writes down every try it gets.

The query says how: the first `fail` tries of a `token`, counted over all programs that share one
file, are answered with `code`, or not at all where `hang` is there; each waits `wait` ms first.
Started as a program with a port and that file, which gets a line of JSON for each try.
"""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.e2e.asgi_app import Call, Message, Receive, Send


class Log:
    """The file that all these programs write to; each line is written at once."""

    def __init__(self, file: Path, port: int) -> None:
        self._file = file
        self._port = port
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, token: str, event: str, **facts: object) -> None:
        """Add a line."""
        line = {"token": token, "event": event, "port": self._port, **facts}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    def tries(self, token: str) -> int:
        """Count the tries of a token."""
        begin = json.dumps({"token": token, "event": "try"}).encode()[:-1]
        return self._file.read_bytes().count(begin)


def records(file: Path, token: str, event: str) -> list[dict[str, Any]]:
    """Read what happened to the request with a token."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    found = [json.loads(line) for line in lines]
    return [one for one in found if (one["token"], one["event"]) == (token, event)]


class Application:
    """The ASGI callable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            return
        call = Call(scope, receive, send)
        token = call.query.get("mark", "")
        data = bytearray()
        while (message := await receive())["type"] == "http.request":
            data += message["body"]
            if not message.get("more_body", False):
                break
        fields = {n.decode("latin1"): v.decode("latin1") for n, v in scope["headers"]}
        digest = hashlib.sha256(data).hexdigest()
        self._log.write(token, "try", method=scope["method"], sha256=digest, headers=fields)
        if "fail" not in call.query or self._log.tries(token) > call.number("fail"):
            await call.json({"token": token, "sha256": digest})
            return
        await asyncio.sleep(call.number("wait") / 1000)
        if "hang" in call.query:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._log.write(token, "cancelled")
            return
        await call.start(call.number("code", 503), [(b"x-answer", b"the backend's own")])
        await call.body(b"failed", more=False)


def main(port: int, file: Path) -> None:
    """Serve until killed."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    config.keep_alive_max_requests = 1_000_000_000
    asyncio.run(serve(Application(Log(file, port)), config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
