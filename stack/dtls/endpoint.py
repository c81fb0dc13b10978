"""The DTLS endpoint: the one public machine (RFC 6347, RFC 9147, RFC 5764, RFC 8827 §6.5).

Owns the handshake layer, decides what each record is for, and turns every fault into an alert, a counter and a
`DtlsFailed` event. The handshakes themselves are in `version_negotiation.py` and the four files named after role
and version.

Left out of the whole layer: resumption, 0-RTT, renegotiation and connection ids. A call is set up once, over a
path that ICE watches; each of these would add state, attack surface or another secret and save nothing.

Over 500 lines: the table of states and what each record may do in them are one decision, read in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import ClassVar, Final

import stack.dtls.counters as counted
from stack.core.counters import Counters
from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy, Instant, TerminalEvents, Tunnel
from stack.core.srtp_profile import SrtpProfile
from stack.dtls.alerts import (
    Alert,
    AlertDescription,
    AlertLevel,
    DtlsFailure,
    HandshakeFailure,
    decode_error,
    illegal_parameter,
    unexpected_message,
)
from stack.dtls.config import MIN_MTU, DtlsConfig
from stack.dtls.context import HandshakeContext, Handshaker
from stack.dtls.events import ApplicationData, DtlsEvent, DtlsFailed, HandshakeComplete, PeerClosed
from stack.dtls.extensions import DuplicateExtensionError, ExtensionError
from stack.dtls.groups import NamedGroup
from stack.dtls.handshake_layer import HandshakeLayer
from stack.dtls.messages import HandshakeType
from stack.dtls.negotiate import NegotiatedParameters
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.record import MAX_PLAINTEXT_LENGTH, ContentType, Record
from stack.dtls.suites import CipherSuite, Version
from stack.dtls.version_negotiation import ClientVersionNegotiation, ServerVersionNegotiation

MAX_WARNING_ALERTS: Final = 4
"""Warning alerts in a row that are ignored."""
UNAUTHENTICATED_ALERT_AFTER: Final = 3
"""Retransmissions without an answer after which an alert that was not authenticated ends the connection."""
MAX_HANDSHAKE_BYTES: Final = 1 << 20
"""Bytes of datagrams that are parsed before the handshake is complete."""
HANDSHAKE_BYTES_PER_SECOND: Final = 1 << 18
"""How fast this allowance comes back, so that a flood from off the path delays a handshake and does not end it."""


class DtlsEndpointState(Enum):
    """Where a connection is; that the peer has closed its direction first (1.3) is known beside it."""

    NEW = "new"
    HANDSHAKE = "handshake"
    CONNECTED = "connected"
    CLOSED = "closed"
    FAILED = "failed"


class DtlsEndpointInput(Enum):
    """What changes the state of a connection."""

    START = "start, or the first datagram"
    HANDSHAKE_COMPLETE = "both Finished"
    CLOSE = "close"
    CLOSE_NOTIFY = "close_notify in 1.2"
    FAILURE = "fatal alert, timeout, abort"


_S, _I = DtlsEndpointState, DtlsEndpointInput
TRANSITIONS: Final[Mapping[tuple[DtlsEndpointState, DtlsEndpointInput], DtlsEndpointState]] = {
    (_S.NEW, _I.START): _S.HANDSHAKE,
    (_S.NEW, _I.CLOSE): _S.CLOSED,
    (_S.HANDSHAKE, _I.HANDSHAKE_COMPLETE): _S.CONNECTED,
    (_S.HANDSHAKE, _I.CLOSE): _S.CLOSED,
    (_S.HANDSHAKE, _I.CLOSE_NOTIFY): _S.CLOSED,
    (_S.HANDSHAKE, _I.FAILURE): _S.FAILED,
    (_S.CONNECTED, _I.CLOSE): _S.CLOSED,
    (_S.CONNECTED, _I.CLOSE_NOTIFY): _S.CLOSED,
    (_S.CONNECTED, _I.FAILURE): _S.FAILED,
    (_S.CLOSED, _I.CLOSE): _S.CLOSED,
    (_S.CLOSED, _I.FAILURE): _S.FAILED,
    (_S.FAILED, _I.CLOSE): _S.FAILED,
}
"""Only `_advance` sets the state. RFC 8446 §6.1: in 1.3 a close_notify closes the peer's direction alone."""
_LIVE: Final = (_S.HANDSHAKE, _S.CONNECTED)


class DtlsEndpoint(Tunnel[DtlsEvent]):
    """One side of a DTLS connection: datagrams, time and commands in, datagrams and events out."""

    terminal_events: ClassVar[TerminalEvents] = (PeerClosed, DtlsFailed)

    def __init__(self, role: DtlsRole, config: DtlsConfig, entropy: Entropy) -> None:
        self.role = role
        self.state = DtlsEndpointState.NEW
        self.counters = Counters()
        self._config = config
        self._layer = HandshakeLayer(
            config.mtu,
            config.initial_timeout,
            config.max_message_length,
            self.counters,
            mtu_is_known=config.mtu_is_known,
            strict_plaintext=config.strict_plaintext,
            max_timeout=config.max_timeout,
        )
        self._context = HandshakeContext(config, entropy, self._layer)
        self._version_negotiation = (
            ClientVersionNegotiation(self._context)
            if role is DtlsRole.CLIENT
            else ServerVersionNegotiation(self._context)
        )
        self._handshaker: Handshaker | None = None
        self._events: list[DtlsEvent] = []
        self._warnings = 0
        self._unauthenticated_alert: Record | None = None
        self._retransmissions_since_alert = 0
        self._handshake_bytes = 0.0
        self._allowance_at: Instant = 0.0
        self._peer_closed = False
        self.protected_records = 0
        """Records received that only the peer can have sent: authentic, and not replayed."""

    def _advance(self, change: DtlsEndpointInput) -> None:
        self.state = TRANSITIONS[self.state, change]

    # Commands

    def start(self, now: Instant) -> None:
        """A client sends its ClientHello; a server begins to listen."""
        if self.state is not DtlsEndpointState.NEW:
            raise LocalError("already started")
        self._advance(DtlsEndpointInput.START)
        if isinstance(self._version_negotiation, ClientVersionNegotiation):
            self._version_negotiation.start(now)

    def send(self, data: bytes, now: Instant) -> None:
        """Send application data in one record, without regard to the MTU."""
        if not self.can_send:
            raise LocalError(f"cannot send while {self.state.value}")
        if len(data) > MAX_PLAINTEXT_LENGTH:
            raise LocalError(f"{len(data)} bytes do not fit a record")
        try:
            self._layer.send_record(ContentType.APPLICATION_DATA, data)
            if self._layer.records.wants_key_update:
                self.update_keys(now)
        except HandshakeFailure as failure:
            self._fail(failure)

    def update_keys(self, now: Instant, request_peer: bool = False) -> None:
        """Renew our keys (1.3), and the peer's if `request_peer`; nothing happens in 1.2."""
        if self.state is not DtlsEndpointState.CONNECTED or self._handshaker is None:
            raise LocalError(f"cannot update keys while {self.state.value}")
        try:
            self._handshaker.update_keys(request_peer, now)
        except HandshakeFailure as failure:
            self._fail(failure)

    def close(self, now: Instant) -> None:
        """Send close_notify and send nothing more; what the peer still sends is delivered until it closes too."""
        if self.state in _LIVE:
            self._send_alert(AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
        self._advance(DtlsEndpointInput.CLOSE)
        self._layer.stop_timers()

    def abort(self, alert: AlertDescription) -> None:
        """Give the connection up at once and tell the peer why; nothing is sent or delivered after it."""
        if self.state in _LIVE:
            self._fail(HandshakeFailure(alert, DtlsFailure.ABORTED))

    def failure_alert(self) -> bytes | None:
        """Return a datagram with a fatal alert, for one to send who finds that this side is gone; None: not now.

        The peer ends the connection at it (RFC 8446 §6.2). Nothing is sent here, and the connection goes on. It is
        the same datagram for the next `KEPT_AHEAD` records; after as many a new one is to be asked for.
        """
        if self.state is not DtlsEndpointState.CONNECTED:
            return None
        alert = Alert(AlertLevel.FATAL, AlertDescription.INTERNAL_ERROR)
        return self._layer.records.seal_to_keep(ContentType.ALERT, alert.serialize())

    def set_mtu(self, mtu: int) -> None:
        """Change the largest datagram that the handshake sends; it holds from the next transmission on."""
        if mtu < MIN_MTU:
            raise LocalError(f"an MTU of {mtu} is below {MIN_MTU}")
        self._layer.mtu = mtu

    def set_initial_timeout(self, timeout: float) -> None:
        """Set the first retransmission timeout in seconds, say from a measured round trip; running timers move."""
        self._layer.set_initial_timeout(timeout)

    def restart_timer(self, now: Instant) -> None:
        """The flight could leave only now: its retransmission timer starts again."""
        self._layer.restart_timer(now)

    def send_again(self, now: Instant) -> None:
        """Send what has not been acknowledged of our flight: it did not leave when it was due."""
        if self.state in _LIVE:
            self._layer.send_again(now)

    def export_keying_material(self, label: str, context: bytes | None, length: int) -> bytes:
        """Return keying material (RFC 5705, RFC 8446 §7.5); a 1.3 server has it from its own Finished on."""
        material = None
        if self._handshaker is not None:
            material = self._handshaker.export(label.encode("ascii"), context, length)
        if material is None:
            raise LocalError("keying material can be exported once the handshake is complete")
        return material

    # What is known

    @property
    def can_send(self) -> bool:
        """True while `send` is allowed; a 1.3 server may before the handshake is complete."""
        live = self.state in _LIVE
        return live and self._handshaker is not None and self._handshaker.can_send

    @property
    def is_flight_acknowledged(self) -> bool:
        """True if the peer has answered or acknowledged all that we have sent of the handshake (never in 1.2)."""
        return not self._layer.has_unacknowledged_flight

    @property
    def negotiated(self) -> NegotiatedParameters:
        """What was agreed on so far."""
        return self._context.negotiated

    @property
    def version(self) -> Version | None:
        """The protocol version, once it is known."""
        return self._context.negotiated.version

    @property
    def cipher_suite(self) -> CipherSuite | None:
        """The cipher suite, once it is known."""
        return self._context.negotiated.cipher_suite

    @property
    def group(self) -> NamedGroup | None:
        """The key exchange group, once it is known."""
        return self._context.negotiated.group

    @property
    def srtp_profile(self) -> SrtpProfile | None:
        """The SRTP profile; None if none was negotiated."""
        return self._context.negotiated.srtp_profile

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER; None if it sent none."""
        chain = self._context.negotiated.peer_chain
        return chain[0] if chain else None

    # The machine's contract

    def drain_transmits(self) -> Sequence[bytes]:
        """Every datagram to be sent since the last call, in order."""
        return self._layer.drain_transmits()

    def drain_events(self) -> Sequence[DtlsEvent]:
        """Everything that happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called next; None: never."""
        return self._layer.poll_timeout()

    def handle_timeout(self, now: Instant) -> None:
        """Send again what was not answered; give up after a dozen times."""
        if self.state in _LIVE:
            try:
                if self._layer.handle_timeout(now):
                    self._apply_unauthenticated_alert()
            except HandshakeFailure as failure:
                self._fail(failure)

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Take datagrams that arrived together. Never raises for anything that a peer can send."""
        for data in batch:
            self.handle_datagram(data, now)

    def handle_datagram(self, data: bytes, now: Instant) -> None:
        """Take one datagram."""
        if self.state is DtlsEndpointState.NEW:
            self._advance(DtlsEndpointInput.START)
        if self._read_side_closed:
            self.counters.add(counted.DROPPED_DATAGRAM_AFTER_END)
            return
        if self._layer.in_handshake and not self._take_allowance(len(data), now):
            self.counters.add(counted.DROPPED_HANDSHAKE_BYTES_EXCEEDED)
            return
        try:
            self._handle_records(data, now)
            for deferred in self._layer.records.take_deferred():
                # A record that came before its keys: perhaps they are here now.
                if not self._read_side_closed:
                    self._handle_records(deferred, now)
            self._ask_for_server_hello(now)
        except HandshakeFailure as failure:
            self._fail(failure)
        except DuplicateExtensionError as error:
            self._fail(decode_error(DtlsFailure.DUPLICATE_EXTENSION, str(error)))
        except ExtensionError as error:
            self._fail(decode_error(DtlsFailure.BAD_EXTENSION, str(error)))
        except ParseError as error:
            self._fail(decode_error(detail=str(error)))

    def _ask_for_server_hello(self, now: Instant) -> None:
        """What follows a ServerHello of 1.3 has come without it."""
        waits = self.state is DtlsEndpointState.HANDSHAKE and self.version is None and self.role is DtlsRole.CLIENT
        if waits and self._layer.records.has_deferred_13:
            self._layer.note_out_of_order(now)

    def _take_allowance(self, size: int, now: Instant) -> bool:
        returned = (now - self._allowance_at) * HANDSHAKE_BYTES_PER_SECOND
        self._allowance_at = now
        self._handshake_bytes = max(0.0, self._handshake_bytes - returned)
        if self._handshake_bytes + size > MAX_HANDSHAKE_BYTES:
            return False
        self._handshake_bytes += size
        return True

    @property
    def _read_side_closed(self) -> bool:
        return self.state is DtlsEndpointState.FAILED or self._peer_closed

    def _handle_records(self, data: bytes, now: Instant) -> None:
        for record in self._layer.records.open(data, now):
            if record.number.epoch == 0:
                self._handle_plaintext(record, now)
            else:
                self.protected_records += 1
                self._unauthenticated_alert = None
                self._handle_record(record, now)
            if not self._read_side_closed:
                self._handle_messages(now)
            if self._read_side_closed:
                return

    def _handle_plaintext(self, record: Record, now: Instant) -> None:
        """Take a record of epoch 0, which any host that knows the path's addresses can have sent.

        It never touches what was authenticated, and ends no handshake: what breaks the rules is dropped (RFC 9147
        §4.5.2). Only a whole message in its turn is judged as the peer's; a forged one cannot be told from it.
        """
        kind = record.content_type
        if self._layer.records.current_read_epoch > 0 and (kind != ContentType.HANDSHAKE or self._is_complete):
            # The peer has keys and uses them; in the clear it can only repeat what it said before it had them.
            self.counters.add(counted.DROPPED_PLAINTEXT_AFTER_KEYS)
        elif self._config.strict_plaintext:
            self._handle_record(record, now)
        elif kind == ContentType.ALERT:
            self._keep_unauthenticated_alert(record)
        else:
            try:
                self._handle_record(record, now)
            except HandshakeFailure as failure:
                self.counters.add(counted.DROPPED_PLAINTEXT[failure.reason])

    @property
    def _is_complete(self) -> bool:
        return self._handshaker is not None and self._handshaker.is_complete

    def _handle_record(self, record: Record, now: Instant) -> None:
        kind = record.content_type
        if kind == ContentType.ALERT:
            self._handle_alert(record)
            return
        self._warnings = 0
        if kind == ContentType.APPLICATION_DATA:
            self._handle_application_data(record)
        elif kind == ContentType.HANDSHAKE and self.state is DtlsEndpointState.CLOSED:
            self.counters.add(counted.DROPPED_HANDSHAKE_AFTER_CLOSE)
        elif kind == ContentType.HANDSHAKE:
            self._handle_handshake_record(record, now)
        elif kind == ContentType.CHANGE_CIPHER_SPEC:
            self._handle_change_cipher_spec(record)
        elif kind == ContentType.ACK:
            self._handle_ack(record, now)
        else:
            raise unexpected_message(DtlsFailure.UNEXPECTED_RECORD, f"content type {kind}")

    def _handle_application_data(self, record: Record) -> None:
        # RFC 9147 §6.1: application data belongs to epoch 3 and later; in 1.2 to every protected epoch.
        least = 3 if self.version is Version.DTLS_1_3 else 1
        if record.number.epoch < least:
            raise unexpected_message(DtlsFailure.UNEXPECTED_RECORD, "application data in the handshake's epoch")
        if not self._is_complete:
            # 1.2: data that overtook the Finished of its sender. It cannot be trusted yet.
            self.counters.add(counted.DROPPED_APPLICATION_DATA_EARLY)
        elif record.payload:
            self._layer.application_records += 1
            self._events.append(ApplicationData(record.payload))

    def _handle_handshake_record(self, record: Record, now: Instant) -> None:
        if not record.payload:  # RFC 8446 §5.1
            raise unexpected_message(DtlsFailure.BAD_HANDSHAKE_RECORD, "empty handshake record")
        received = self._layer.receive_fragments(record, now)
        if received.is_new:
            self._unauthenticated_alert = None
        is_over = self._is_complete and self.version is Version.DTLS_1_2
        # A repeated Finished asks for our last flight (RFC 6347 §4.2.4); all else is renegotiation.
        if is_over and (received.is_new or record.payload[0] != HandshakeType.FINISHED):
            raise unexpected_message(DtlsFailure.RENEGOTIATION_REFUSED)
        if received.requests_retransmission:
            self._layer.retransmit_on_request(record.number.epoch, now)

    def _handle_messages(self, now: Instant) -> None:
        while (message := self._layer.next_message()) is not None:
            self._handle_message(message, now)

    def _handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        if self._handshaker is None:
            self._handshaker = self._version_negotiation.handle_message(message, now)
            return
        self._handshaker.handle_message(message, now)
        if self._handshaker.is_complete and self.state is DtlsEndpointState.HANDSHAKE:
            self._advance(DtlsEndpointInput.HANDSHAKE_COMPLETE)
            self._events.append(self._completion())

    def _completion(self) -> HandshakeComplete:
        negotiated = self._context.negotiated
        assert negotiated.version is not None
        assert negotiated.cipher_suite is not None
        assert negotiated.group is not None
        return HandshakeComplete(
            version=negotiated.version,
            cipher_suite=negotiated.cipher_suite,
            group=negotiated.group,
            srtp_profile=negotiated.srtp_profile,
            alpn=negotiated.alpn,
            peer_certificate=self.peer_certificate,
        )

    def _handle_change_cipher_spec(self, record: Record) -> None:
        if record.payload != b"\x01":
            raise illegal_parameter(DtlsFailure.BAD_CHANGE_CIPHER_SPEC)
        if record.number.epoch != 0:  # a renegotiation's, or a mistake
            raise unexpected_message(DtlsFailure.UNEXPECTED_RECORD, "protected ChangeCipherSpec")
        self.counters.add(counted.CHANGE_CIPHER_SPEC)

    def _handle_ack(self, record: Record, now: Instant) -> None:
        if self.version is None:
            # RFC 9147 §7: an ACK of our ClientHello may come before we know that the server speaks 1.3.
            self.counters.add(counted.DROPPED_ACK_BEFORE_VERSION)
        elif self.version is Version.DTLS_1_2:
            raise unexpected_message(DtlsFailure.UNEXPECTED_RECORD, "ACK in 1.2")
        elif self._layer.receive_ack(record, now) and self._handshaker is not None:
            self._handshaker.handle_flight_acknowledged(now)

    # Alerts

    def _keep_unauthenticated_alert(self, record: Record) -> None:
        """Keep an alert of epoch 0 for the case that the peer answers nothing more.

        An honest peer that fails before it has keys can say so only in the clear, and then answers nothing more.
        """
        try:
            alert = Alert.parse(record.payload)
        except ParseError:
            self.counters.add(counted.DROPPED_PLAINTEXT[DtlsFailure.BAD_ALERT])
            return
        self.counters.add(counted.PLAINTEXT_ALERT)
        if alert.level == AlertLevel.FATAL or alert.description == AlertDescription.CLOSE_NOTIFY:
            self._unauthenticated_alert, self._retransmissions_since_alert = record, 0

    def _apply_unauthenticated_alert(self) -> None:
        """Our flight had to be sent again: after several times the alert in the clear is taken for the peer's."""
        self._retransmissions_since_alert += 1
        if (
            self._unauthenticated_alert is not None
            and self._retransmissions_since_alert >= UNAUTHENTICATED_ALERT_AFTER
        ):
            self._handle_alert(self._unauthenticated_alert)

    def _handle_alert(self, record: Record) -> None:
        try:
            alert = Alert.parse(record.payload)
        except ParseError as error:
            raise decode_error(DtlsFailure.BAD_ALERT, str(error)) from None
        if alert.level == AlertLevel.FATAL:
            self._advance(DtlsEndpointInput.FAILURE)
            self._layer.stop_timers()
            self._events.append(DtlsFailed(DtlsFailure.ALERT_RECEIVED, alert.description, remote=True))
            return
        if alert.level != AlertLevel.WARNING:
            raise illegal_parameter(DtlsFailure.UNKNOWN_ALERT_TYPE)
        if alert.description == AlertDescription.CLOSE_NOTIFY:
            self._handle_close_notify()
            return
        if self.version is Version.DTLS_1_3 and alert.description != AlertDescription.USER_CANCELED:
            raise decode_error(DtlsFailure.BAD_ALERT, "there are no warnings in 1.3")  # RFC 8446 §6
        self.counters.add(counted.ALERT_WARNING)
        self._warnings += 1
        if self._warnings > MAX_WARNING_ALERTS:
            raise unexpected_message(DtlsFailure.TOO_MANY_WARNING_ALERTS)

    def _handle_close_notify(self) -> None:
        self._peer_closed = True
        self._events.append(PeerClosed())
        if self.state in _LIVE and self.version is not Version.DTLS_1_3:
            # RFC 5246 §7.2.1: 1.2 answers at once. 1.3 closes each direction by itself (RFC 8446 §6.1).
            self._send_alert(AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
            self._advance(DtlsEndpointInput.CLOSE_NOTIFY)
        self._layer.stop_timers()

    def _send_alert(self, level: AlertLevel, description: AlertDescription) -> None:
        self._layer.send_record(ContentType.ALERT, Alert(level, description).serialize())

    def _fail(self, failure: HandshakeFailure) -> None:
        """The connection is over: tell the peer and our side why."""
        alert: AlertDescription | None = failure.alert
        if failure.reason in (DtlsFailure.TIMEOUT, DtlsFailure.AEAD_LIMIT):
            alert = None  # the peer does not answer, or nothing may be sealed any more
        if alert is not None:
            self._send_alert(AlertLevel.FATAL, alert)
        self._advance(DtlsEndpointInput.FAILURE)
        self._layer.stop_timers()
        self.counters.add(counted.FAILED[failure.reason])
        if not self._peer_closed:  # after the terminal event comes nothing
            self._events.append(DtlsFailed(failure.reason, alert, remote=False, detail=str(failure)))
