"""Spooky with the plain engine in aioquic's place: `python -m tests.e2e.plain_program COMMAND`.

COMMAND is one that starts Spooky (`python -m spooky ...`); it is done in this process.
"""

import sys

from spooky import cli
from spooky.protocol.downstream_engines import ENGINES
from tests.protocol import plain_engine

if __name__ == "__main__":
    ENGINES["aioquic"] = plain_engine.listen
    sys.exit(cli.main(sys.argv[sys.argv.index("spooky") + 1 :]))
