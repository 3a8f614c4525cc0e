"""Asking a backend, through Spooky, what became of a request that had a token."""

import json
from typing import Any

from tests.e2e.h3_client import H3Client


async def seen(client: H3Client, token: str, backend: str = "scripted") -> dict[str, Any]:
    """Return what the scripted backend remembers of the request with that token."""
    exchange = await client.get(f"/{backend}/seen?of={token}")
    assert exchange.status == 200
    told: dict[str, Any] = json.loads(exchange.kept)
    return told
