"""The 1.2 server: RFC 5246 §7.3 over DTLS (RFC 6347 §4.2), ECDHE only (RFC 8422).

    ClientHello                 -->
                                <--  ServerHello, Certificate, ServerKeyExchange, [CertificateRequest],
                                     ServerHelloDone
    [Certificate], ClientKeyExchange, [CertificateVerify], ChangeCipherSpec, Finished  -->
                                <--  ChangeCipherSpec, Finished

A ChangeCipherSpec says nothing that the epoch of a record does not say already: its form is checked (in
`endpoint.py`) and it is ignored. Left out: resumption and tickets, renegotiation (refused), and everything that
is not ECDHE with an AEAD.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from enum import Enum
from typing import ClassVar, Final

from stack.core.errors import ParseError
from stack.core.machine import Instant
from stack.dtls.alerts import (
    AlertDescription,
    DtlsFailure,
    HandshakeFailure,
    illegal_parameter,
)
from stack.dtls.context import HandshakeContext
from stack.dtls.extensions import (
    EMPTY_RENEGOTIATION_INFO,
    UNCOMPRESSED_POINTS,
    ExtensionType,
    parse_point_formats,
)
from stack.dtls.groups import KeyExchange, NamedGroup, start_exchange
from stack.dtls.keys12 import Keys12
from stack.dtls.messages import (
    DOWNGRADE_SENTINEL_12,
    RANDOM_LENGTH,
    CertificateVerify,
    ClientHello,
    HandshakeType,
    ServerHello,
)
from stack.dtls.messages12 import Certificate12, CertificateRequest12, ClientKeyExchange, ServerKeyExchange
from stack.dtls.negotiate import (
    answer_alpn,
    answer_use_srtp,
    choose_cipher_suite,
    parse_client_hello,
    parse_groups,
    parse_signature_algorithms,
)
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.record import Protection12
from stack.dtls.signatures import PublicKey, SignatureScheme, choose_scheme, sign, verify
from stack.dtls.suites import SUITES, Version
from stack.dtls.transitions import Transitions, following_states

_RENEGOTIATION_SCSV: Final = 0x00FF  # RFC 5746 §3.3
_CERTIFICATE_TYPES: Final = bytes((64, 1))  # ecdsa_sign, rsa_sign


class Server12State(Enum):
    """What the server waits for."""

    CLIENT_HELLO = "client hello"
    CERTIFICATE = "certificate"
    CLIENT_KEY_EXCHANGE = "client key exchange"
    CERTIFICATE_VERIFY = "certificate verify"
    FINISHED = "finished"
    CONNECTED = "connected"


TRANSITIONS: Final[Transitions[Server12State]] = {
    (Server12State.CLIENT_HELLO, HandshakeType.CLIENT_HELLO): (
        Server12State.CERTIFICATE,
        Server12State.CLIENT_KEY_EXCHANGE,
    ),
    (Server12State.CERTIFICATE, HandshakeType.CERTIFICATE): (Server12State.CLIENT_KEY_EXCHANGE,),
    (Server12State.CLIENT_KEY_EXCHANGE, HandshakeType.CLIENT_KEY_EXCHANGE): (
        Server12State.CERTIFICATE_VERIFY,
        Server12State.FINISHED,
    ),
    (Server12State.CERTIFICATE_VERIFY, HandshakeType.CERTIFICATE_VERIFY): (Server12State.FINISHED,),
    (Server12State.FINISHED, HandshakeType.FINISHED): (Server12State.CONNECTED,),
}


class Server12:
    """One server handshake."""

    def __init__(self, context: HandshakeContext) -> None:
        self._context = context
        self._layer = context.layer
        self._config = context.config
        self._state = Server12State.CLIENT_HELLO
        self._transcript = bytearray()
        self._server_random = b""
        self._exchange: KeyExchange | None = None
        self._keys: Keys12 | None = None
        self._protections: tuple[Protection12, Protection12] | None = None
        self._peer_key: PublicKey | None = None

    @property
    def is_complete(self) -> bool:
        """True once both Finished messages are through."""
        return self._state is Server12State.CONNECTED

    @property
    def can_send(self) -> bool:
        """True once the handshake is complete."""
        return self.is_complete

    def handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        """Take the next message of the client."""
        following = following_states(TRANSITIONS, self._state, message.msg_type)
        state = self._HANDLERS[message.msg_type](self, message, now)
        assert state in following
        self._state = state

    # Our first flight

    def handle_client_hello(self, hello: ClientHello, message: HandshakeMessage, now: Instant) -> None:
        """Take the ClientHello, which version negotiation has parsed already."""
        self._state = self._answer_client_hello(hello, message, now)

    def _handle_client_hello(self, message: HandshakeMessage, now: Instant) -> Server12State:
        return self._answer_client_hello(parse_client_hello(message.body), message, now)

    def _answer_client_hello(self, hello: ClientHello, message: HandshakeMessage, now: Instant) -> Server12State:
        config, negotiated = self._config, self._context.negotiated
        self._check_hello(hello)
        suite = choose_cipher_suite(config, hello.cipher_suites, Version.DTLS_1_2)
        group = self._choose_group(hello)
        schemes = parse_signature_algorithms(hello.extensions) or ()
        scheme = choose_scheme(config.signature_schemes, schemes, config.certificate.private_key, Version.DTLS_1_2)
        negotiated.cipher_suite, negotiated.group, negotiated.signature_scheme = suite, group, scheme
        negotiated.extended_master_secret = ExtensionType.EXTENDED_MASTER_SECRET in hello.extensions
        if config.require_extended_master_secret and not negotiated.extended_master_secret:
            raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.EXTENDED_MASTER_SECRET_REQUIRED)
        self._context.client_random = hello.random
        self._server_random = self._make_random()
        self._transcript += message.transcript12
        answer = ServerHello(
            legacy_version=Version.DTLS_1_2,
            random=self._server_random,
            session_id=b"",  # nothing to resume
            cipher_suite=suite,
            compression_method=0,
            extensions=self._server_extensions(hello),
        )
        self._layer.require_message_boundary()
        self._send(HandshakeType.SERVER_HELLO, answer.serialize())
        self._send(HandshakeType.CERTIFICATE, Certificate12(config.certificate.chain).serialize())
        self._send(HandshakeType.SERVER_KEY_EXCHANGE, self._server_key_exchange(group, scheme))
        if config.request_client_certificate:
            request = CertificateRequest12(_CERTIFICATE_TYPES, tuple(config.signature_schemes))
            self._send(HandshakeType.CERTIFICATE_REQUEST, request.serialize())
        self._send(HandshakeType.SERVER_HELLO_DONE, b"")
        self._layer.finish_flight(now)
        return (
            Server12State.CERTIFICATE if config.request_client_certificate else Server12State.CLIENT_KEY_EXCHANGE
        )

    def _check_hello(self, hello: ClientHello) -> None:
        if 0 not in hello.compression_methods:
            raise illegal_parameter(DtlsFailure.UNSUPPORTED_COMPRESSION)
        formats = hello.extensions.get(ExtensionType.EC_POINT_FORMATS)
        if formats is not None and 0 not in parse_point_formats(formats):  # RFC 8422 §5.1.2
            raise illegal_parameter(DtlsFailure.BAD_EXTENSION, "uncompressed points are not supported")
        renegotiation = hello.extensions.get(ExtensionType.RENEGOTIATION_INFO)
        if renegotiation is not None and renegotiation != EMPTY_RENEGOTIATION_INFO:  # RFC 5746 §3.6
            raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.RENEGOTIATION_MISMATCH)
        if hello.extensions.get(ExtensionType.EXTENDED_MASTER_SECRET):
            raise ParseError("extended_master_secret is not empty")

    def _choose_group(self, hello: ClientHello) -> NamedGroup:
        groups = parse_groups(hello.extensions)
        for group in self._config.groups:
            # Without the extension the choice is ours (RFC 8422 §4); every peer has P-256.
            wanted = group is NamedGroup.SECP256R1 if groups is None else group in groups
            if wanted and group is not NamedGroup.X25519MLKEM768:
                return group
        raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.NO_SHARED_GROUP)

    def _make_random(self) -> bytes:
        random = self._context.entropy(RANDOM_LENGTH)
        if Version.DTLS_1_3 in self._config.versions:  # RFC 8446 §4.1.3
            random = random[: -len(DOWNGRADE_SENTINEL_12)] + DOWNGRADE_SENTINEL_12
        return random

    def _server_extensions(self, hello: ClientHello) -> dict[int, bytes]:
        negotiated = self._context.negotiated
        extensions: dict[int, bytes] = {}
        if ExtensionType.RENEGOTIATION_INFO in hello.extensions or _RENEGOTIATION_SCSV in hello.cipher_suites:
            extensions[ExtensionType.RENEGOTIATION_INFO] = EMPTY_RENEGOTIATION_INFO
        if negotiated.extended_master_secret:
            extensions[ExtensionType.EXTENDED_MASTER_SECRET] = b""
        if ExtensionType.EC_POINT_FORMATS in hello.extensions:
            extensions[ExtensionType.EC_POINT_FORMATS] = UNCOMPRESSED_POINTS
        if (srtp := answer_use_srtp(self._config, hello.extensions)) is not None:
            negotiated.srtp_profile, extensions[ExtensionType.USE_SRTP] = srtp
        if (protocol := answer_alpn(self._config, hello.extensions)) is not None:
            negotiated.alpn, extensions[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = protocol
        return extensions

    def _server_key_exchange(self, group: NamedGroup, scheme: SignatureScheme) -> bytes:
        self._exchange = start_exchange(group, self._context.entropy)
        public = self._exchange.public
        signed = self._context.client_random + self._server_random + ServerKeyExchange.parameters(group, public)
        signature = sign(scheme, self._config.certificate.private_key, signed)
        return ServerKeyExchange(group, public, scheme, signature).serialize()

    def _send(self, kind: HandshakeType, body: bytes) -> None:
        self._transcript += self._layer.send_message(kind, body).transcript12

    # The client's flight

    def _handle_certificate(self, message: HandshakeMessage, now: Instant) -> Server12State:
        certificate = Certificate12.parse(message.body)
        self._transcript += message.transcript12
        if certificate.chain:
            self._peer_key = self._context.accept_peer_chain(certificate.chain)
        elif self._config.require_client_certificate:  # RFC 5246 §7.4.6
            raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.NO_CERTIFICATE)
        return Server12State.CLIENT_KEY_EXCHANGE

    def _handle_client_key_exchange(self, message: HandshakeMessage, now: Instant) -> Server12State:
        exchange = ClientKeyExchange.parse(message.body)
        negotiated = self._context.negotiated
        assert self._exchange is not None
        assert negotiated.cipher_suite is not None
        self._transcript += message.transcript12
        self._keys = Keys12.derive(
            SUITES[negotiated.cipher_suite],
            self._exchange.shared_secret(exchange.public),
            self._context.client_random,
            self._server_random,
            bytes(self._transcript) if negotiated.extended_master_secret else None,
        )
        self._exchange = None
        self._protections = self._keys.protections()
        self._context.log_secret("CLIENT_RANDOM", self._keys.master_secret)
        if self._peer_key is not None:
            return Server12State.CERTIFICATE_VERIFY
        return self._expect_finished()

    def _handle_certificate_verify(self, message: HandshakeMessage, now: Instant) -> Server12State:
        proof = CertificateVerify.parse(message.body)
        assert self._peer_key is not None
        offered = self._config.signature_schemes
        signed = bytes(self._transcript)
        verify(proof.algorithm, self._peer_key, proof.signature, signed, Version.DTLS_1_2, offered)
        self._context.negotiated.peer_signature_scheme = proof.algorithm
        self._transcript += message.transcript12
        return self._expect_finished()

    def _expect_finished(self) -> Server12State:
        """The client's next message comes under the new keys, and only under them."""
        assert self._protections is not None
        self._layer.require_message_boundary()
        self._layer.records.install_read_epoch(1, self._protections[0])
        return Server12State.FINISHED

    def _handle_finished(self, message: HandshakeMessage, now: Instant) -> Server12State:
        keys, protections = self._keys, self._protections
        assert keys is not None
        assert protections is not None
        if not hmac.compare_digest(keys.verify_data(b"client finished", bytes(self._transcript)), message.body):
            raise HandshakeFailure(AlertDescription.DECRYPT_ERROR, DtlsFailure.BAD_FINISHED)
        self._transcript += message.transcript12
        self._layer.require_message_boundary()
        self._layer.send_change_cipher_spec()
        self._layer.records.install_write_epoch(1, protections[1])
        self._layer.send_message(
            HandshakeType.FINISHED, keys.verify_data(b"server finished", bytes(self._transcript))
        )
        # RFC 6347 §4.2.4: the last flight is not answered; it is repeated when the client repeats its own.
        self._layer.finish_flight(now, expects_answer=False)
        self._layer.in_handshake = False
        self._transcript.clear()
        return Server12State.CONNECTED

    _HANDLERS: ClassVar[Mapping[int, Callable[[Server12, HandshakeMessage, Instant], Server12State]]] = {
        HandshakeType.CLIENT_HELLO: _handle_client_hello,
        HandshakeType.CERTIFICATE: _handle_certificate,
        HandshakeType.CLIENT_KEY_EXCHANGE: _handle_client_key_exchange,
        HandshakeType.CERTIFICATE_VERIFY: _handle_certificate_verify,
        HandshakeType.FINISHED: _handle_finished,
    }

    # After the handshake

    def handle_flight_acknowledged(self, now: Instant) -> None:
        """There are no ACKs in 1.2."""

    def update_keys(self, request_peer: bool, now: Instant) -> None:
        """There is no KeyUpdate in 1.2."""

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes | None:
        """Return exported keying material, once the handshake is complete."""
        return self._keys.export(label, context, length) if self._keys and self.is_complete else None
