"""The worker process: the data path, and the only user of asyncio beside the keeper."""
