"""1.3 after the handshake: KeyUpdate and what else a peer may send then (RFC 8446 §4.6, RFC 9147 §8).

The keys that we write with change when the peer has acknowledged our KeyUpdate; those that we read with, when a
record under the new ones arrives. Only one update of ours is under way at a time. Session tickets are
acknowledged and thrown away: nothing is ever resumed.
"""

from __future__ import annotations

from typing import Final

from stack.core.dtls_role import DtlsRole
from stack.core.errors import ParseError
from stack.core.machine import Instant
from stack.dtls.alerts import (
    AlertDescription,
    DtlsFailure,
    HandshakeFailure,
    decode_error,
    illegal_parameter,
    unexpected_message,
)
from stack.dtls.handshake_layer import HandshakeLayer
from stack.dtls.keys13 import Keys13
from stack.dtls.messages import HandshakeType
from stack.dtls.messages13 import KeyUpdate
from stack.dtls.reassembly import HandshakeMessage

MAX_UPDATES_WITHOUT_DATA: Final = 32
"""KeyUpdates in a row, without a byte of data in between, that a peer may make us follow."""
_MAX_EPOCH: Final = (1 << 16) - 1
"""Where keys stop being renewed. RFC 9147 §4.2.1 allows 2^48-1; no call gets near either."""


class PostHandshake13:
    """The traffic secrets in use and the updates under way."""

    __slots__ = (
        "_data_before_update",
        "_keys",
        "_layer",
        "_queued",
        "_read_secret",
        "_role",
        "_update_sent",
        "_updates_without_data",
        "_write_secret",
    )

    def __init__(self, layer: HandshakeLayer, keys: Keys13, role: DtlsRole) -> None:
        self._layer = layer
        self._keys = keys
        self._role = role
        server, client = keys.server_application, keys.client_application
        self._write_secret = server if role is DtlsRole.SERVER else client
        self._read_secret = client if role is DtlsRole.SERVER else server
        self._update_sent = False
        self._updates_without_data = 0
        self._data_before_update = 0
        self._queued: bool | None = None
        """An update that waits for our flight to be acknowledged, and whether it asks for one in turn."""

    def handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        """Take a message that came after the handshake."""
        if message.msg_type == HandshakeType.KEY_UPDATE:
            self._handle_key_update(message, now)
        elif message.msg_type == HandshakeType.NEW_SESSION_TICKET and self._role is DtlsRole.CLIENT:
            _check_ticket(message.body)
        else:
            raise unexpected_message(detail=f"type {message.msg_type} after the handshake")

    def _handle_key_update(self, message: HandshakeMessage, now: Instant) -> None:
        if len(message.body) == 1 and message.body[0] > 1:
            raise illegal_parameter(DtlsFailure.BAD_KEY_UPDATE)  # RFC 8446 §4.6.3
        try:
            update = KeyUpdate.parse(message.body)
        except ParseError as error:
            raise decode_error(DtlsFailure.BAD_KEY_UPDATE, str(error)) from None
        records = self._layer.records
        self._layer.require_message_boundary()
        if self._layer.application_records != self._data_before_update:
            self._updates_without_data = 0
        self._data_before_update = self._layer.application_records
        self._updates_without_data += 1
        too_many = self._updates_without_data > MAX_UPDATES_WITHOUT_DATA
        if too_many or records.newest_read_epoch >= _MAX_EPOCH:
            raise HandshakeFailure(AlertDescription.UNEXPECTED_MESSAGE, DtlsFailure.TOO_MANY_KEY_UPDATES)
        self._read_secret = self._keys.next_generation(self._read_secret)
        protection = self._keys.protection(self._read_secret)
        records.install_read_epoch(records.newest_read_epoch + 1, protection)
        # The ACK goes out with the layer's timer (RFC 9147 §7.1 allows the delay); until then the peer goes on
        # under its old keys.
        if update.update_requested and not self._update_sent:
            self.update_keys(False, now)

    def update_keys(self, request_peer: bool, now: Instant) -> None:
        """Announce new keys; they come into use when the announcement is acknowledged (RFC 9147 §8)."""
        if self._update_sent and not request_peer:
            return  # the keys are about to change: the one update will do
        if self._layer.has_unacknowledged_flight:
            self._queued = request_peer or bool(self._queued)
            return
        if self._layer.records.write_epoch >= _MAX_EPOCH:
            raise HandshakeFailure(AlertDescription.INTERNAL_ERROR, DtlsFailure.TOO_MANY_KEY_UPDATES)
        self._update_sent = True
        self._layer.send_message(HandshakeType.KEY_UPDATE, KeyUpdate(request_peer).serialize())
        self._layer.finish_flight(now)

    def handle_flight_acknowledged(self, now: Instant) -> None:
        """Our flight has arrived: change the keys if it was an update, and begin the next one if one waits."""
        if self._update_sent:
            self._update_sent = False
            self._write_secret = self._keys.next_generation(self._write_secret)
            records = self._layer.records
            records.install_write_epoch(records.write_epoch + 1, self._keys.protection(self._write_secret))
            records.discard_write_epochs(set())
        if self._queued is not None:
            request_peer, self._queued = self._queued, None
            self.update_keys(request_peer, now)


def _check_ticket(body: bytes) -> None:
    """A ticket is not used, but a malformed one is still an error (RFC 8446 §4.6.1).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                        ticket_lifetime                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         ticket_age_add                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                          ticket_nonce                         /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                             ticket                            /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                           extensions                          /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    if len(body) < 14:
        raise ParseError("truncated NewSessionTicket")
