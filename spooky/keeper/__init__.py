"""The keeper process: what one process does for all workers, off the data path."""
