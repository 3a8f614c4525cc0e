"""The master process: binds, forks, watches, signals. No asyncio, no protocol code."""
