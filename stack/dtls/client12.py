"""The 1.2 client: RFC 5246 §7.3 over DTLS (RFC 6347 §4.2), ECDHE only. The picture is in `server12.py`.

It comes into being when the ServerHello says that the version is 1.2. Left out: what the server leaves out, for
the same reasons.
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
from stack.dtls.client_hello import ClientHelloBuilder
from stack.dtls.context import HandshakeContext
from stack.dtls.extensions import EMPTY_RENEGOTIATION_INFO, ExtensionType, parse_point_formats
from stack.dtls.groups import NamedGroup, answer_exchange
from stack.dtls.keys12 import Keys12
from stack.dtls.messages import (
    DOWNGRADE_SENTINEL_11,
    DOWNGRADE_SENTINEL_12,
    CertificateVerify,
    HandshakeType,
    ServerHello,
)
from stack.dtls.messages12 import Certificate12, CertificateRequest12, ClientKeyExchange, ServerKeyExchange
from stack.dtls.negotiate import check_alpn, check_offered, check_use_srtp
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.signatures import PublicKey, authentication_of, choose_scheme, sign, verify
from stack.dtls.suites import SUITES, CipherSuite, Version
from stack.dtls.transitions import Transitions, following_states

_NOT_IN_SERVER_HELLO_12: Final = frozenset(
    (
        # Nor does supported_groups belong here (RFC 8422 §5.2), but webrtc-rs echoes it, and browsers ignore that.
        ExtensionType.SIGNATURE_ALGORITHMS,
        ExtensionType.SUPPORTED_VERSIONS,
        ExtensionType.KEY_SHARE,
        ExtensionType.COOKIE,
    )
)


class Client12State(Enum):
    """What the client waits for."""

    SERVER_HELLO = "server hello"
    CERTIFICATE = "certificate"
    SERVER_KEY_EXCHANGE = "server key exchange"
    REQUEST_OR_DONE = "certificate request or server hello done"
    SERVER_HELLO_DONE = "server hello done"
    FINISHED = "finished"
    CONNECTED = "connected"


TRANSITIONS: Final[Transitions[Client12State]] = {
    (Client12State.SERVER_HELLO, HandshakeType.SERVER_HELLO): (Client12State.CERTIFICATE,),
    (Client12State.CERTIFICATE, HandshakeType.CERTIFICATE): (Client12State.SERVER_KEY_EXCHANGE,),
    (Client12State.SERVER_KEY_EXCHANGE, HandshakeType.SERVER_KEY_EXCHANGE): (Client12State.REQUEST_OR_DONE,),
    (Client12State.REQUEST_OR_DONE, HandshakeType.CERTIFICATE_REQUEST): (Client12State.SERVER_HELLO_DONE,),
    (Client12State.REQUEST_OR_DONE, HandshakeType.SERVER_HELLO_DONE): (Client12State.FINISHED,),
    (Client12State.SERVER_HELLO_DONE, HandshakeType.SERVER_HELLO_DONE): (Client12State.FINISHED,),
    (Client12State.FINISHED, HandshakeType.FINISHED): (Client12State.CONNECTED,),
}


class Client12:
    """One client handshake, from the ServerHello on."""

    def __init__(self, context: HandshakeContext, builder: ClientHelloBuilder, hello: HandshakeMessage) -> None:
        self._context = context
        self._layer = context.layer
        self._config = context.config
        self._builder = builder
        self._state = Client12State.SERVER_HELLO
        self._transcript = bytearray(hello.transcript12)
        self._server_random = b""
        self._peer_key: PublicKey | None = None
        self._server_share = b""
        self._request: CertificateRequest12 | None = None
        self._keys: Keys12 | None = None

    @property
    def is_complete(self) -> bool:
        """True once both Finished messages are through."""
        return self._state is Client12State.CONNECTED

    @property
    def can_send(self) -> bool:
        """True once the handshake is complete."""
        return self.is_complete

    def handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        """Take the next message of the server."""
        following = following_states(TRANSITIONS, self._state, message.msg_type)
        state = self._HANDLERS[message.msg_type](self, message, now)
        assert state in following
        self._state = state

    # The server's flight

    def _handle_server_hello(self, message: HandshakeMessage, now: Instant) -> Client12State:
        hello = ServerHello.parse(message.body)
        negotiated = self._context.negotiated
        self._check_downgrade(hello)
        suite = hello.cipher_suite
        if (
            suite not in self._builder.hello.cipher_suites
            or SUITES[CipherSuite(suite)].version != Version.DTLS_1_2
        ):
            raise illegal_parameter(DtlsFailure.WRONG_CIPHER, f"{suite:#06x}")
        if hello.compression_method != 0:
            raise illegal_parameter(DtlsFailure.UNSUPPORTED_COMPRESSION)
        extensions = hello.extensions
        check_offered(extensions, self._builder.hello.extensions)
        for kind in extensions:
            if kind in _NOT_IN_SERVER_HELLO_12:
                raise HandshakeFailure(AlertDescription.UNSUPPORTED_EXTENSION, DtlsFailure.UNEXPECTED_EXTENSION)
        if extensions.get(ExtensionType.RENEGOTIATION_INFO, EMPTY_RENEGOTIATION_INFO) != EMPTY_RENEGOTIATION_INFO:
            raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.RENEGOTIATION_MISMATCH)
        if extensions.get(ExtensionType.EXTENDED_MASTER_SECRET):
            raise ParseError("extended_master_secret is not empty")
        formats = extensions.get(ExtensionType.EC_POINT_FORMATS)
        if formats is not None and 0 not in parse_point_formats(formats):  # RFC 8422 §5.2
            raise illegal_parameter(DtlsFailure.BAD_EXTENSION, "uncompressed points are not supported")
        negotiated.cipher_suite = CipherSuite(suite)
        negotiated.extended_master_secret = ExtensionType.EXTENDED_MASTER_SECRET in extensions
        if self._config.require_extended_master_secret and not negotiated.extended_master_secret:
            raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.EXTENDED_MASTER_SECRET_REQUIRED)
        negotiated.srtp_profile = check_use_srtp(self._config, extensions)
        negotiated.alpn = check_alpn(self._config, extensions)
        self._server_random = hello.random
        self._transcript += message.transcript12
        return Client12State.CERTIFICATE

    def _check_downgrade(self, hello: ServerHello) -> None:
        """RFC 8446 §4.1.3: a server that could have spoken a newer version says so in its random."""
        offered_13 = Version.DTLS_1_3 in self._config.versions
        tail = hello.random[-len(DOWNGRADE_SENTINEL_12) :]
        if offered_13 and tail in (DOWNGRADE_SENTINEL_12, DOWNGRADE_SENTINEL_11):
            raise illegal_parameter(DtlsFailure.DOWNGRADE)

    def _handle_certificate(self, message: HandshakeMessage, now: Instant) -> Client12State:
        certificate = Certificate12.parse(message.body)
        suite = self._context.negotiated.cipher_suite
        assert suite is not None
        if not certificate.chain:
            raise HandshakeFailure(AlertDescription.DECODE_ERROR, DtlsFailure.NO_CERTIFICATE)
        self._peer_key = self._context.accept_peer_chain(certificate.chain)
        if authentication_of(self._peer_key) is not SUITES[suite].authentication:
            raise illegal_parameter(DtlsFailure.WRONG_CERTIFICATE_TYPE)
        self._transcript += message.transcript12
        return Client12State.SERVER_KEY_EXCHANGE

    def _handle_server_key_exchange(self, message: HandshakeMessage, now: Instant) -> Client12State:
        exchange = ServerKeyExchange.parse(message.body)
        assert self._peer_key is not None
        group = next((group for group in self._config.groups if group == exchange.group), None)
        if group is None or group is NamedGroup.X25519MLKEM768:
            raise illegal_parameter(DtlsFailure.WRONG_GROUP)
        signed = self._context.client_random + self._server_random
        signed += ServerKeyExchange.parameters(exchange.group, exchange.public)
        offered = self._config.signature_schemes
        verify(exchange.algorithm, self._peer_key, exchange.signature, signed, Version.DTLS_1_2, offered)
        negotiated = self._context.negotiated
        negotiated.group = group
        negotiated.peer_signature_scheme = exchange.algorithm
        self._server_share = exchange.public
        self._transcript += message.transcript12
        return Client12State.REQUEST_OR_DONE

    def _handle_certificate_request(self, message: HandshakeMessage, now: Instant) -> Client12State:
        self._request = CertificateRequest12.parse(message.body)
        self._transcript += message.transcript12
        return Client12State.SERVER_HELLO_DONE

    # Our flight

    def _handle_server_hello_done(self, message: HandshakeMessage, now: Instant) -> Client12State:
        if message.body:
            raise ParseError("ServerHelloDone is not empty")
        context, negotiated, records = self._context, self._context.negotiated, self._layer.records
        assert negotiated.group is not None
        assert negotiated.cipher_suite is not None
        self._layer.require_message_boundary()
        self._transcript += message.transcript12
        if self._request is not None:
            self._send(HandshakeType.CERTIFICATE, Certificate12(self._config.certificate.chain).serialize())
        public, secret = answer_exchange(negotiated.group, self._server_share, context.entropy)
        self._send(HandshakeType.CLIENT_KEY_EXCHANGE, ClientKeyExchange(public).serialize())
        self._keys = keys = Keys12.derive(
            SUITES[negotiated.cipher_suite],
            secret,
            context.client_random,
            self._server_random,
            bytes(self._transcript) if negotiated.extended_master_secret else None,
        )
        context.log_secret("CLIENT_RANDOM", keys.master_secret)
        if self._request is not None:
            self._send_certificate_verify(self._request)
        client_writes, server_writes = keys.protections()
        self._layer.send_change_cipher_spec()
        records.install_write_epoch(1, client_writes)
        self._send(HandshakeType.FINISHED, keys.verify_data(b"client finished", bytes(self._transcript)))
        records.install_read_epoch(1, server_writes)
        self._layer.finish_flight(now)
        return Client12State.FINISHED

    def _send_certificate_verify(self, request: CertificateRequest12) -> None:
        key = self._config.certificate.private_key
        scheme = choose_scheme(self._config.signature_schemes, request.signature_algorithms, key, Version.DTLS_1_2)
        self._context.negotiated.signature_scheme = scheme
        signature = sign(scheme, key, bytes(self._transcript))
        self._send(HandshakeType.CERTIFICATE_VERIFY, CertificateVerify(scheme, signature).serialize())

    def _send(self, kind: HandshakeType, body: bytes) -> None:
        self._transcript += self._layer.send_message(kind, body).transcript12

    def _handle_finished(self, message: HandshakeMessage, now: Instant) -> Client12State:
        keys = self._keys
        assert keys is not None
        if not hmac.compare_digest(keys.verify_data(b"server finished", bytes(self._transcript)), message.body):
            raise HandshakeFailure(AlertDescription.DECRYPT_ERROR, DtlsFailure.BAD_FINISHED)
        self._layer.require_message_boundary()
        self._layer.discard_flight()
        self._layer.in_handshake = False
        self._transcript.clear()
        return Client12State.CONNECTED

    _HANDLERS: ClassVar[Mapping[int, Callable[[Client12, HandshakeMessage, Instant], Client12State]]] = {
        HandshakeType.SERVER_HELLO: _handle_server_hello,
        HandshakeType.CERTIFICATE: _handle_certificate,
        HandshakeType.SERVER_KEY_EXCHANGE: _handle_server_key_exchange,
        HandshakeType.CERTIFICATE_REQUEST: _handle_certificate_request,
        HandshakeType.SERVER_HELLO_DONE: _handle_server_hello_done,
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
