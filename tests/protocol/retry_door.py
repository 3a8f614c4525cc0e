"""A server in memory that asks every client to come again before it opens a connection.

It is what a worker's intake does with `spooky.protocol.retry`, without the sockets, and stands
where an engine stands in a `Pair`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from spooky.protocol.aioquic_engine import AioquicEngine
from spooky.protocol.cid import mint
from spooky.protocol.datagram import Kind, classify
from spooky.protocol.downstream import Retried, ServerSettings
from spooky.protocol.messages import DownstreamEvent, Path
from spooky.protocol.quic import configuration_of
from spooky.protocol.retry import RetryTokens, make_retry, was_retried
from spooky.protocol.stateless import INVALID_TOKEN, refusal

KEY = bytes(range(32, 64))
ISSUER = 9
"""The slot that the Retry's connection ID carries."""


class RetryDoor:
    """The engine of a client once it has proved its address; before that, the answers to it."""

    def __init__(self, settings: ServerSettings, _first_cid: bytes) -> None:
        self.settings = settings
        self.tokens = RetryTokens(KEY)
        self.engine: AioquicEngine | None = None
        self.accepted: Retried | None = None
        self.sent: list[bytes] = []
        self.tamper: Callable[[bytes], bytes] = lambda token: token
        """What happens to a token on its way to the client."""
        self.delay = 0.0
        """How much later than it is it seems to be when a token comes."""
        self._out: list[tuple[bytes, Path]] = []

    def receive(self, datagrams: Iterable[tuple[bytes, Path]], now: float) -> list[DownstreamEvent]:
        told: list[DownstreamEvent] = []
        for data, path in datagrams:
            if self.engine is None:
                self._judge(data, path, now)
            if self.engine is not None:
                told += self.engine.receive([(data, path)], now)
        return told

    def _judge(self, data: bytes, path: Path, now: float) -> None:
        initial = classify(data)
        if initial.kind is not Kind.INITIAL:
            return
        self.accepted = self.tokens.open(initial, path, now + self.delay)
        if self.accepted is not None:
            original = self.accepted.original_destination_cid
            configuration = configuration_of(self.settings)
            self.engine = AioquicEngine(self.settings, configuration, original, self.accepted)
            return
        if was_retried(initial):
            answer = refusal(initial, initial.dcid, INVALID_TOKEN)
        else:
            source_cid = mint(ISSUER, self.settings.random(11))
            rand = self.settings.random(16)
            token = self.tamper(self.tokens.seal(initial, path, source_cid, now, rand))
            answer = make_retry(initial, source_cid, token)
        self.sent.append(answer)
        self._out.append((answer, path))

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Path]]:
        out, self._out = self._out, []
        return out + (self.engine.datagrams_to_send(now) if self.engine else [])

    def events(self) -> list[DownstreamEvent]:
        return self.engine.events() if self.engine else []

    def deadline(self) -> float | None:
        return self.engine.deadline() if self.engine else None

    def __getattr__(self, name: str) -> Any:
        """All else is asked of the engine."""
        return getattr(self.__dict__["engine"], name)
