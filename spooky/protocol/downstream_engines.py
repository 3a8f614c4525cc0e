"""The engines of QUIC and HTTP/3 towards clients, by the names that the configuration has for them.

An engine is known to the worker by its entry here and by `messages.DownstreamEngine`, and by
nothing else.
"""

from typing import Final

from spooky.protocol import aioquic_engine
from spooky.protocol.downstream import Listen

ENGINES: Final[dict[str, Listen]] = {"aioquic": aioquic_engine.listen}
"""What makes the connections of a listener, by the values of `engine.downstream`."""
