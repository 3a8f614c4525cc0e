"""The contract of a downstream engine, kept by the one on aioquic; and what is its own."""

from spooky.protocol.aioquic_engine import AioquicEngine
from spooky.protocol.messages import DownstreamEngine
from spooky.protocol.quic import ServerSettings
from tests.protocol.contract_downstream import DownstreamContract


class TestAioquicEngine(DownstreamContract):
    def make(self, settings: ServerSettings, original_destination_cid: bytes) -> DownstreamEngine:
        return AioquicEngine(settings, settings.configuration(), original_destination_cid)
