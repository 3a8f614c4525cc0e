"""What lets a client come back cheaply: session tickets, and tokens that prove its address.

Both go out once, right after the handshake (RFC 8446 section 4.6.1, RFC 9000 section 8.1.3). It
owns the messages about them; what is in a ticket or a token is made elsewhere.

A rule: early data is never taken. A client that offers some gets a full handshake instead of its
session, for aioquic takes early data with any session that it resumes.
"""

import datetime as dt
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState

from spooky.protocol.downstream import ServerSettings
from spooky.protocol.tickets import LIFETIME_S, Session

TICKET_MESSAGE_OCTETS = 512
"""Room for a NewSessionTicket message."""
_FRAME_OVERHEAD = 1 + 2
_ALWAYS = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
"""Whether a ticket is too old is known by who opens it."""


class Returning(QuicConnection):
    """The part of a connection that is about the next one."""

    _settings: ServerSettings
    server_name: str | None
    _new_token: bytes | None = None
    """A token that is to be sent."""

    # --- sessions ---------------------------------------------------------------------------

    def _allow_resumption(self, hello: tls.ClientHello) -> None:
        """Let TLS look at the ticket in the ClientHello that it is about to take."""
        if self._settings.tickets is not None and not hello.early_data:
            self.tls.get_session_ticket_cb = self._session_of

    def _bound(self) -> bytes:
        """Make what has to be the same when the session is resumed.

        The version by RFC 9369 section 5, the name for the identity that the client saw then (RFC
        8446 section 4.6.1).
        """
        return b"%d %b" % (self._version or 0, (self.server_name or "").encode())

    def _session_of(self, ticket: bytes) -> tls.SessionTicket | None:
        tickets = self._settings.tickets
        session = None if tickets is None else tickets.open(ticket, self._bound())
        if session is None:
            return None
        return tls.SessionTicket(
            age_add=0,
            cipher_suite=tls.CipherSuite(session.cipher_suite),
            not_valid_before=_ALWAYS[0],
            not_valid_after=_ALWAYS[1],
            resumption_secret=session.secret,
            server_name=self.server_name or "",
            ticket=ticket,
        )

    # --- after the handshake ----------------------------------------------------------------

    def _invite_back(self) -> None:
        """Give the client what it can come back with."""
        context = self.tls
        context.get_session_ticket_cb = None
        if self._settings.tickets is not None and context._psk_key_exchange_mode is not None:
            self._crypto_streams[tls.Epoch.ONE_RTT].sender.write(self._ticket_message())
        if self._settings.new_token is not None:
            path = self._network_paths[0].addr
            self._new_token = self._settings.new_token(self._version or 0, path)

    def _ticket_message(self) -> bytes:
        """Make the NewSessionTicket message of this session."""
        tickets, schedule = self._settings.tickets, self.tls.key_schedule
        assert tickets is not None
        assert schedule is not None
        secret = tls.hkdf_expand_label(
            algorithm=schedule.algorithm,
            secret=schedule.derive_secret(b"res master"),
            label=b"resumption",
            hash_value=b"",
            length=schedule.algorithm.digest_size,
        )
        message = tls.NewSessionTicket(
            ticket_lifetime=LIFETIME_S,
            ticket_age_add=int.from_bytes(self._settings.random(4), "big"),
            ticket_nonce=b"",
            ticket=tickets.seal(Session(int(schedule.cipher_suite), secret), self._bound()),
        )
        buffer = Buffer(capacity=TICKET_MESSAGE_OCTETS)
        tls.push_new_session_ticket(buffer, message)
        return buffer.data

    # --- NEW_TOKEN --------------------------------------------------------------------------

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        # Asked for each packet that aioquic builds after the handshake.
        token = self._new_token
        if token is not None:
            buffer = builder.start_frame(
                QuicFrameType.NEW_TOKEN,
                capacity=_FRAME_OVERHEAD + len(token),
                handler=self._on_new_token_delivery,
                handler_args=(token,),
            )
            buffer.push_uint_var(len(token))
            buffer.push_bytes(token)
            self._new_token = None
        super()._write_connection_limits(builder, space)

    def _on_new_token_delivery(self, delivery: QuicDeliveryState, token: bytes) -> None:
        if delivery is not QuicDeliveryState.ACKED:
            self._new_token = token
