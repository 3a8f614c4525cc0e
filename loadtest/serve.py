"""`python -m loadtest.serve`: Spooky with the bench's backend, for load generators of others.

Prints where it listens, for Locust, k6 and others to be pointed there, and ends with Ctrl-C, with
SIGTERM, or after `--seconds`. Everything is on loopback.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from loadtest.processes import share_cores
from loadtest.stand import Layout, stand


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="loadtest.serve", description="Spooky to be loaded.")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--http1", action="store_true", help="a backend that k6 can speak to")
    parser.add_argument("--seconds", type=float, default=86_400.0)
    options = parser.parse_args(arguments)
    layout = Layout(workers=options.workers, is_crowded=options.http1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with (
        tempfile.TemporaryDirectory(prefix="spooky-serve-") as folder,
        stand(Path(folder), share_cores(), layout) as spooky,
        suppress(KeyboardInterrupt),
    ):
        site = spooky.site
        print(f"export SPOOKY=https://127.0.0.1:{site.port}")
        print(f"export ADMIN=http://127.0.0.1:{site.spare_port}")
        print(f"export BACKEND=http://127.0.0.1:{site.backend_port}", flush=True)
        time.sleep(options.seconds)


if __name__ == "__main__":
    main()
