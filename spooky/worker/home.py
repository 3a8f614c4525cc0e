"""What a client connection needs of the intake that it belongs to; it does nothing."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from spooky.worker.client import Client


class ClientHome(Protocol):
    """Where client connections are known."""

    def touch(self, client: "Client") -> None:
        """Flush the client at the end of this turn."""

    def learn(self, cid: bytes, client: "Client") -> None:
        """Route a connection ID to the client."""

    def forget(self, cid: bytes, client: "Client") -> None:
        """Stop routing a connection ID."""

    def ready(self, client: "Client", *, resumed: bool) -> None:
        """Note that the client's handshake is complete."""

    def remove(self, client: "Client") -> None:
        """Forget the client."""
