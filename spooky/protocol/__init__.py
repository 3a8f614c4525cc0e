"""Sans-IO protocol code: no asyncio, socket, time, logging or random."""
