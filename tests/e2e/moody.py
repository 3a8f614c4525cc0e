"""A backend with moods: Hypercorn and an application that reads from a file how it is to behave.

Started as a program with a port and the path of the file, which holds `well`, `slow SECONDS` or
`fail STATUS`.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

CONTENT = b"hello\n"


def make_application(mood: Path) -> Any:
    """Make the ASGI application."""

    async def application(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status = 200
        match mood.read_text().split():  # noqa: ASYNC240 - a few octets of a warm file
            case ["slow", seconds]:
                await asyncio.sleep(float(seconds))
            case ["fail", code]:
                status = int(code)
            case _:
                pass
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": CONTENT})

    return application


def main() -> None:
    """Serve until killed."""
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = None
    asyncio.run(serve(make_application(Path(sys.argv[2])), config))


if __name__ == "__main__":
    main()
