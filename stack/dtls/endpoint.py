"""The DTLS endpoint: the one public machine (RFC 6347, RFC 9147, RFC 5764, RFC 8827 §6.5).

Owns the channel, decides what each record is for, and turns whatever goes wrong into an alert, a counter and a
`Failed` event. The handshakes themselves are in `opening.py` and the four files named after role and version.

Left out of the whole layer: resumption, 0-RTT, renegotiation and connection ids. A call is set up once, over a
path that ICE watches; each of these would add state, attack surface or another secret and save nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, TypeAlias

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy, Instant, TerminalEvents, Tunnel
from stack.core.trace import Counters
from stack.dtls.alerts import (
    Alert,
    AlertDescription,
    AlertLevel,
    FailureReason,
    HandshakeFailure,
    decode_error,
    illegal_parameter,
    unexpected_message,
)
from stack.dtls.channel import Channel
from stack.dtls.config import MIN_MTU, DtlsConfig, Role
from stack.dtls.context import Context, Handshaker
from stack.dtls.extensions import DuplicateExtensionError, ExtensionError, SrtpProfile
from stack.dtls.groups import NamedGroup
from stack.dtls.messages import HandshakeType
from stack.dtls.negotiate import Negotiated
from stack.dtls.opening import ClientOpening, ServerOpening
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.record import MAX_PLAINTEXT_LENGTH, ContentType, Record
from stack.dtls.suites import CipherSuite, Version

MAX_WARNING_ALERTS: Final = 4
"""Warning alerts in a row that are overlooked."""
ALERT_BELIEVED_AFTER: Final = 3
"""Retransmissions in vain after which an alert that nothing authenticates is believed."""
MAX_HANDSHAKE_BYTES: Final = 1 << 20
"""Bytes of datagrams that a peer may make us look at before the handshake is complete."""
HANDSHAKE_BYTES_PER_SECOND: Final = 1 << 18
"""How fast this allowance comes back, so that a flood of a stranger delays a handshake and does not end it."""


class State(Enum):
    """Where a connection is."""

    NEW = "new"
    HANDSHAKE = "handshake"
    CONNECTED = "connected"
    CLOSED = "closed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    """Both sides have proved who they are; keying material can be exported."""

    version: Version
    cipher_suite: CipherSuite
    group: NamedGroup
    srtp_profile: SrtpProfile | None
    alpn: bytes | None
    peer_certificate: bytes | None
    """The peer's certificate in DER; None if it was not asked for one."""


@dataclass(frozen=True, slots=True)
class ApplicationData:
    """What the peer sent in one record."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer will send nothing more (close_notify)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The connection is dead."""

    reason: FailureReason
    alert: int | None
    """The alert that was sent, or received if `remote`; None if nobody was told."""
    remote: bool
    detail: str = ""


DtlsEvent: TypeAlias = HandshakeComplete | ApplicationData | PeerClosed | Failed


class DtlsEndpoint(Tunnel[DtlsEvent]):
    """One side of a DTLS connection: datagrams, time and commands in, datagrams and events out."""

    terminal_events: ClassVar[TerminalEvents] = (PeerClosed, Failed)

    def __init__(self, role: Role, config: DtlsConfig, entropy: Entropy) -> None:
        self.role = role
        self.state = State.NEW
        self.counters = Counters()
        self._config = config
        self._channel = Channel(
            config.mtu,
            config.initial_timeout,
            config.max_message_length,
            self.counters,
            mtu_is_known=config.mtu_is_known,
            strict_plaintext=config.strict_plaintext,
        )
        self._context = Context(config, entropy, self._channel)
        self._opening = ClientOpening(self._context) if role is Role.CLIENT else ServerOpening(self._context)
        self._handshaker: Handshaker | None = None
        self._events: list[DtlsEvent] = []
        self._warnings = 0
        self._doubtful_alert: Record | None = None
        self._doubted = 0
        self._handshake_bytes = 0.0
        self._looked_at: Instant = 0.0
        self._peer_closed = False
        self._now: Instant = 0.0
        self.protected_records = 0
        """Records received that only the peer can have sent: authentic, and not replayed."""

    # Commands

    def start(self, now: Instant) -> None:
        """A client sends its ClientHello; a server begins to listen."""
        if self.state is not State.NEW:
            raise LocalError("already started")
        self.state = State.HANDSHAKE
        if isinstance(self._opening, ClientOpening):
            self._opening.start(now)

    def send(self, data: bytes, now: Instant) -> None:
        """Send application data in one record, without regard to the MTU."""
        if not self.can_send:
            raise LocalError(f"cannot send while {self.state.value}")
        if len(data) > MAX_PLAINTEXT_LENGTH:
            raise LocalError(f"{len(data)} bytes do not fit a record")
        try:
            self._channel.send_record(ContentType.APPLICATION_DATA, data)
            if self._channel.records.wants_key_update:
                self.update_keys(now)
        except HandshakeFailure as failure:
            self._fail(failure)

    def update_keys(self, now: Instant, request_peer: bool = False) -> None:
        """Renew our keys (1.3), and the peer's if `request_peer`; nothing happens in 1.2."""
        if self.state is not State.CONNECTED or self._handshaker is None:
            raise LocalError(f"cannot update keys while {self.state.value}")
        try:
            self._handshaker.update_keys(request_peer, now)
        except HandshakeFailure as failure:
            self._fail(failure)

    def close(self, now: Instant) -> None:
        """Send close_notify and send nothing more; what the peer still sends is delivered until it closes too."""
        if self.state in (State.HANDSHAKE, State.CONNECTED):
            self._send_alert(AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
        if self.state is not State.FAILED:
            self.state = State.CLOSED
        self._channel.stop_timers()

    def abort(self, alert: AlertDescription) -> None:
        """Give the connection up at once and tell the peer why; nothing is sent or delivered after it."""
        if self.state in (State.HANDSHAKE, State.CONNECTED):
            self._fail(HandshakeFailure(alert, FailureReason.ABORTED))

    def set_mtu(self, mtu: int) -> None:
        """Change the largest datagram that the handshake sends; it holds from the next transmission on."""
        if mtu < MIN_MTU:
            raise LocalError(f"an MTU of {mtu} is below {MIN_MTU}")
        self._channel.mtu = mtu

    def set_initial_timeout(self, timeout: float) -> None:
        """Set the first retransmission timeout in seconds, say from a measured round trip; running timers move."""
        self._channel.set_initial_timeout(timeout)

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
        live = self.state in (State.HANDSHAKE, State.CONNECTED)
        return live and self._handshaker is not None and self._handshaker.can_send

    @property
    def negotiated(self) -> Negotiated:
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
        return self._channel.drain_transmits()

    def drain_events(self) -> Sequence[DtlsEvent]:
        """Everything that happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called next; None: never."""
        return self._channel.poll_timeout()

    def handle_timeout(self, now: Instant) -> None:
        """Send again what was not answered; give up after a dozen times."""
        if self.state in (State.HANDSHAKE, State.CONNECTED):
            try:
                if self._channel.handle_timeout(now):
                    self._believe_alert()
            except HandshakeFailure as failure:
                self._fail(failure)

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Take datagrams that arrived together. Never raises for anything that a peer can send."""
        for data in batch:
            self.handle_datagram(data, now)

    def handle_datagram(self, data: bytes, now: Instant) -> None:
        """Take one datagram."""
        if self.state is State.NEW:
            self.state = State.HANDSHAKE
        if self._is_deaf:
            self.counters.add("datagram_after_end")
            return
        if self._channel.in_handshake and not self._may_look_at(len(data), now):
            self.counters.add("handshake_bytes_exceeded")
            return
        try:
            self._handle_records(data, now)
            for deferred in self._channel.records.take_deferred():
                # A record that came before its keys: perhaps they are here now.
                if not self._is_deaf:
                    self._handle_records(deferred, now)
        except HandshakeFailure as failure:
            self._fail(failure)
        except DuplicateExtensionError as error:
            self._fail(decode_error(FailureReason.DUPLICATE_EXTENSION, str(error)))
        except ExtensionError as error:
            self._fail(decode_error(FailureReason.BAD_EXTENSION, str(error)))
        except ParseError as error:
            self._fail(decode_error(detail=str(error)))

    def _may_look_at(self, size: int, now: Instant) -> bool:
        returned = (now - self._looked_at) * HANDSHAKE_BYTES_PER_SECOND
        self._looked_at = now
        self._handshake_bytes = max(0.0, self._handshake_bytes - returned)
        if self._handshake_bytes + size > MAX_HANDSHAKE_BYTES:
            return False
        self._handshake_bytes += size
        return True

    @property
    def _is_deaf(self) -> bool:
        return self.state is State.FAILED or self._peer_closed

    def _handle_records(self, data: bytes, now: Instant) -> None:
        for record in self._channel.records.open(data, now):
            if record.number.epoch == 0:
                self._handle_plaintext(record, now)
            else:
                self.protected_records += 1
                self._doubtful_alert = None
                self._handle_record(record, now)
            if not self._is_deaf:
                self._handle_messages(now)
            if self._is_deaf:
                return

    def _handle_plaintext(self, record: Record, now: Instant) -> None:
        """Take a record of epoch 0, which anybody can have sent who knows the path's addresses.

        It never touches what was authenticated, and ends no handshake: what breaks the rules is dropped (RFC 9147
        §4.5.2). Only a whole message in its turn is judged as the peer's; a forged one cannot be told from it.
        """
        kind = record.content_type
        if self._channel.records.current_read_epoch > 0 and (kind != ContentType.HANDSHAKE or self._is_complete):
            # The peer has keys and uses them; in the clear it can only repeat what it said before it had them.
            self.counters.add("plaintext_after_keys")
        elif self._config.strict_plaintext:
            self._handle_record(record, now)
        elif kind == ContentType.ALERT:
            self._note_alert(record)
        else:
            try:
                self._handle_record(record, now)
            except HandshakeFailure as failure:
                self.counters.add("plaintext_" + failure.reason.name.lower())

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
        elif kind == ContentType.HANDSHAKE and self.state is State.CLOSED:
            self.counters.add("handshake_after_close")
        elif kind == ContentType.HANDSHAKE:
            self._handle_handshake_record(record, now)
        elif kind == ContentType.CHANGE_CIPHER_SPEC:
            self._handle_change_cipher_spec(record)
        elif kind == ContentType.ACK:
            self._handle_ack(record, now)
        else:
            raise unexpected_message(FailureReason.UNEXPECTED_RECORD, f"content type {kind}")

    def _handle_application_data(self, record: Record) -> None:
        # RFC 9147 §6.1: application data belongs to epoch 3 and later; in 1.2 to every protected epoch.
        least = 3 if self.version is Version.DTLS_1_3 else 1
        if record.number.epoch < least:
            raise unexpected_message(FailureReason.UNEXPECTED_RECORD, "application data in the handshake's epoch")
        if not self._is_complete:
            # 1.2: data that overtook the Finished of its sender. It cannot be trusted yet.
            self.counters.add("application_data_early")
        elif record.payload:
            self._channel.application_records += 1
            self._events.append(ApplicationData(record.payload))

    def _handle_handshake_record(self, record: Record, now: Instant) -> None:
        if not record.payload:  # RFC 8446 §5.1
            raise unexpected_message(FailureReason.BAD_HANDSHAKE_RECORD, "empty handshake record")
        received = self._channel.receive_fragments(record, now)
        if received.is_new:
            self._doubtful_alert = None
        is_over = self._is_complete and self.version is Version.DTLS_1_2
        # A repeated Finished asks for our last flight (RFC 6347 §4.2.4); all else is renegotiation.
        if is_over and (received.is_new or record.payload[0] != HandshakeType.FINISHED):
            raise unexpected_message(FailureReason.RENEGOTIATION_REFUSED)
        if received.asks_again:
            self._channel.answer_repeat(record.number.epoch, now)

    def _handle_messages(self, now: Instant) -> None:
        while (message := self._channel.next_message()) is not None:
            self._handle_message(message, now)

    def _handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        if self._handshaker is None:
            self._handshaker = self._opening.handle_message(message, now)
            return
        self._handshaker.handle_message(message, now)
        if self._handshaker.is_complete and self.state is State.HANDSHAKE:
            self.state = State.CONNECTED
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
            raise illegal_parameter(FailureReason.BAD_CHANGE_CIPHER_SPEC)
        if record.number.epoch != 0:  # a renegotiation's, or a mistake
            raise unexpected_message(FailureReason.UNEXPECTED_RECORD, "protected ChangeCipherSpec")
        self.counters.add("change_cipher_spec")

    def _handle_ack(self, record: Record, now: Instant) -> None:
        if self.version is None:
            # RFC 9147 §7: an ACK of our ClientHello may come before we know that the server speaks 1.3.
            self.counters.add("ack_before_version")
        elif self.version is Version.DTLS_1_2:
            raise unexpected_message(FailureReason.UNEXPECTED_RECORD, "ACK in 1.2")
        elif self._channel.receive_ack(record) and self._handshaker is not None:
            self._handshaker.handle_flight_acknowledged(now)

    # Alerts

    def _note_alert(self, record: Record) -> None:
        """Keep an alert of epoch 0 for the case that the peer falls silent.

        An honest peer that fails before it has keys can say so only in the clear, and then answers nothing more.
        """
        try:
            alert = Alert.parse(record.payload)
        except ParseError:
            self.counters.add("plaintext_bad_alert")
            return
        self.counters.add("plaintext_alert")
        if alert.level == AlertLevel.FATAL or alert.description == AlertDescription.CLOSE_NOTIFY:
            self._doubtful_alert, self._doubted = record, 0

    def _believe_alert(self) -> None:
        """Our flight had to be repeated: with an alert before it, that is soon enough to give up."""
        self._doubted += 1
        if self._doubtful_alert is not None and self._doubted >= ALERT_BELIEVED_AFTER:
            self._handle_alert(self._doubtful_alert)

    def _handle_alert(self, record: Record) -> None:
        try:
            alert = Alert.parse(record.payload)
        except ParseError as error:
            raise decode_error(FailureReason.BAD_ALERT, str(error)) from None
        if alert.level == AlertLevel.FATAL:
            self.state = State.FAILED
            self._channel.stop_timers()
            self._events.append(Failed(FailureReason.ALERT_RECEIVED, alert.description, remote=True))
            return
        if alert.level != AlertLevel.WARNING:
            raise illegal_parameter(FailureReason.UNKNOWN_ALERT_TYPE)
        if alert.description == AlertDescription.CLOSE_NOTIFY:
            self._handle_close_notify()
            return
        if self.version is Version.DTLS_1_3 and alert.description != AlertDescription.USER_CANCELED:
            raise decode_error(FailureReason.BAD_ALERT, "there are no warnings in 1.3")  # RFC 8446 §6
        self.counters.add("alert_warning")
        self._warnings += 1
        if self._warnings > MAX_WARNING_ALERTS:
            raise unexpected_message(FailureReason.TOO_MANY_WARNING_ALERTS)

    def _handle_close_notify(self) -> None:
        self._peer_closed = True
        self._events.append(PeerClosed())
        if self.state in (State.HANDSHAKE, State.CONNECTED) and self.version is not Version.DTLS_1_3:
            # RFC 5246 §7.2.1: 1.2 answers at once. 1.3 closes each direction by itself (RFC 8446 §6.1).
            self._send_alert(AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
            self.state = State.CLOSED
        self._channel.stop_timers()

    def _send_alert(self, level: AlertLevel, description: AlertDescription) -> None:
        self._channel.send_record(ContentType.ALERT, Alert(level, description).serialize())

    def _fail(self, failure: HandshakeFailure) -> None:
        """The connection is over: tell the peer and our side why."""
        alert: AlertDescription | None = failure.alert
        if failure.reason in (FailureReason.TIMEOUT, FailureReason.AEAD_LIMIT):
            alert = None  # nobody listens, or nothing may be sealed any more
        if alert is not None:
            self._send_alert(AlertLevel.FATAL, alert)
        self.state = State.FAILED
        self._channel.stop_timers()
        self.counters.add("failed_" + failure.reason.name.lower())
        if not self._peer_closed:  # after the terminal event comes nothing
            self._events.append(Failed(failure.reason, alert, remote=False, detail=str(failure)))
