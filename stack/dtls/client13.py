"""The 1.3 client: RFC 8446 §4 and §A.1 over DTLS (RFC 9147 §5). The picture is in `server13.py`.

It comes into being when the ServerHello, or a HelloRetryRequest, says that the version is 1.3. Left out: what
the server leaves out, for the same reasons.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from enum import Enum
from typing import ClassVar, Final

from stack.core.dtls_role import DtlsRole
from stack.core.machine import Instant
from stack.dtls.alerts import (
    AlertDescription,
    DtlsFailure,
    HandshakeFailure,
    illegal_parameter,
    unexpected_message,
)
from stack.dtls.client_hello import ClientHelloBuilder
from stack.dtls.context import HandshakeContext
from stack.dtls.extensions import (
    ExtensionType,
    KeyShareEntry,
    check_certificate_authorities,
    parse_u16,
    parse_vector16,
)
from stack.dtls.groups import NamedGroup
from stack.dtls.keys13 import (
    CLIENT_SIGNATURE_CONTEXT,
    SERVER_SIGNATURE_CONTEXT,
    Keys13,
    Transcript,
    signed_content,
)
from stack.dtls.messages import CertificateVerify, HandshakeType, ServerHello
from stack.dtls.messages13 import Certificate13, CertificateRequest13, EncryptedExtensions
from stack.dtls.negotiate import check_alpn, check_offered, check_use_srtp, parse_signature_algorithms
from stack.dtls.post13 import PostHandshake13
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.signatures import PublicKey, choose_scheme, sign, verify
from stack.dtls.suites import SUITES, CipherSuite, Version
from stack.dtls.transitions import Transitions, following_states

_IN_SERVER_HELLO = (ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE)
_IN_RETRY_REQUEST = (ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.COOKIE)
_IN_ENCRYPTED_EXTENSIONS = (
    ExtensionType.USE_SRTP,
    ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION,
    ExtensionType.SUPPORTED_GROUPS,
)


class Client13State(Enum):
    """What the client waits for."""

    SERVER_HELLO = "server hello"
    ENCRYPTED_EXTENSIONS = "encrypted extensions"
    CERTIFICATE_OR_REQUEST = "certificate or certificate request"
    CERTIFICATE = "certificate"
    CERTIFICATE_VERIFY = "certificate verify"
    FINISHED = "finished"
    CONNECTED = "connected"


TRANSITIONS: Final[Transitions[Client13State]] = {
    (Client13State.SERVER_HELLO, HandshakeType.SERVER_HELLO): (
        Client13State.SERVER_HELLO,
        Client13State.ENCRYPTED_EXTENSIONS,
    ),
    (Client13State.ENCRYPTED_EXTENSIONS, HandshakeType.ENCRYPTED_EXTENSIONS): (
        Client13State.CERTIFICATE_OR_REQUEST,
    ),
    (Client13State.CERTIFICATE_OR_REQUEST, HandshakeType.CERTIFICATE_REQUEST): (Client13State.CERTIFICATE,),
    (Client13State.CERTIFICATE_OR_REQUEST, HandshakeType.CERTIFICATE): (Client13State.CERTIFICATE_VERIFY,),
    (Client13State.CERTIFICATE, HandshakeType.CERTIFICATE): (Client13State.CERTIFICATE_VERIFY,),
    (Client13State.CERTIFICATE_VERIFY, HandshakeType.CERTIFICATE_VERIFY): (Client13State.FINISHED,),
    (Client13State.FINISHED, HandshakeType.FINISHED): (Client13State.CONNECTED,),
}
"""A HelloRetryRequest is a ServerHello that keeps the state. From CONNECTED on `post13.py` takes the messages."""


class Client13:
    """One client handshake, from the ServerHello on."""

    def __init__(
        self, context: HandshakeContext, builder: ClientHelloBuilder, first_hello: HandshakeMessage
    ) -> None:
        self._context = context
        self._layer = context.layer
        self._config = context.config
        self._builder = builder
        self._hello_message = first_hello
        self._state = Client13State.SERVER_HELLO
        self._transcript: Transcript | None = None
        self._keys: Keys13 | None = None
        self._request: CertificateRequest13 | None = None
        self._peer_key: PublicKey | None = None
        self._post: PostHandshake13 | None = None

    @property
    def is_complete(self) -> bool:
        """True once the server's Finished is verified and our flight is sent."""
        return self._state is Client13State.CONNECTED

    @property
    def can_send(self) -> bool:
        """True once the handshake is complete."""
        return self.is_complete

    def handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        """Take the next message of the server."""
        if self._post is not None:
            self._post.handle_message(message, now)
            return
        following = following_states(TRANSITIONS, self._state, message.msg_type)
        state = self._HANDLERS[message.msg_type](self, message, now)
        assert state in following
        self._state = state

    @property
    def _running(self) -> Transcript:
        assert self._transcript is not None
        return self._transcript

    # The hellos

    def _handle_server_hello(self, message: HandshakeMessage, now: Instant) -> Client13State:
        hello = ServerHello.parse(message.body)
        version = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
        if version is None or parse_u16(version, "version") != Version.DTLS_1_3:
            raise illegal_parameter(DtlsFailure.WRONG_VERSION, "version changed after HelloRetryRequest")
        if hello.legacy_version != Version.DTLS_1_2:  # RFC 9147 §5.4
            raise illegal_parameter(DtlsFailure.WRONG_VERSION, "legacy_version")
        if hello.session_id:  # RFC 9147 §5: never echoed, and ours was empty
            raise illegal_parameter(DtlsFailure.BAD_SESSION_ID)
        if hello.compression_method != 0:
            raise illegal_parameter(DtlsFailure.UNSUPPORTED_COMPRESSION)
        suite = self._check_suite(hello.cipher_suite)
        if self._transcript is None:
            self._transcript = Transcript(SUITES[suite].hash_name)
            self._transcript.add(self._hello_message.transcript13)
        if hello.is_hello_retry_request:
            self._handle_hello_retry_request(hello, message, now)
            return Client13State.SERVER_HELLO
        check_offered(hello.extensions, _IN_SERVER_HELLO)
        body = hello.extensions.get(ExtensionType.KEY_SHARE)
        if body is None:
            raise HandshakeFailure(AlertDescription.MISSING_EXTENSION, DtlsFailure.MISSING_KEY_SHARE)
        share = KeyShareEntry.parse(body)
        exchange = next((own for group, own in self._builder.exchanges.items() if group == share.group), None)
        if exchange is None:
            raise illegal_parameter(DtlsFailure.WRONG_GROUP)
        self._context.negotiated.group = NamedGroup(share.group)
        secret = exchange.shared_secret(share.key_exchange)
        self._transcript.add(message.transcript13)
        self._layer.require_message_boundary()
        keys = Keys13(SUITES[suite], secret, self._transcript.digest())
        self._keys = keys
        records = self._layer.records
        records.install_read_epoch(2, keys.protection(keys.server_handshake))
        records.install_write_epoch(2, keys.protection(keys.client_handshake))
        self._context.log_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET", keys.client_handshake)
        self._context.log_secret("SERVER_HANDSHAKE_TRAFFIC_SECRET", keys.server_handshake)
        return Client13State.ENCRYPTED_EXTENSIONS

    def _check_suite(self, number: int) -> CipherSuite:
        negotiated = self._context.negotiated
        if (
            number not in self._builder.hello.cipher_suites
            or SUITES[CipherSuite(number)].version != Version.DTLS_1_3
        ):
            raise illegal_parameter(DtlsFailure.WRONG_CIPHER, f"{number:#06x}")
        if negotiated.cipher_suite not in (None, number):  # RFC 8446 §4.1.4
            raise illegal_parameter(DtlsFailure.CIPHER_CHANGED)
        negotiated.cipher_suite = CipherSuite(number)
        return negotiated.cipher_suite

    def _handle_hello_retry_request(self, retry: ServerHello, message: HandshakeMessage, now: Instant) -> None:
        negotiated = self._context.negotiated
        if negotiated.hello_retried:  # RFC 8446 §4.1.4
            raise unexpected_message(DtlsFailure.SECOND_HELLO_RETRY_REQUEST)
        check_offered(retry.extensions, _IN_RETRY_REQUEST)
        group: NamedGroup | None = None
        cookie: bytes | None = None
        if (body := retry.extensions.get(ExtensionType.KEY_SHARE)) is not None:
            wanted = parse_u16(body, "key_share")
            group = next((own for own in self._config.groups if own == wanted), None)
            if group is None or group in self._builder.exchanges:  # RFC 8446 §4.2.8
                raise illegal_parameter(DtlsFailure.WRONG_GROUP)
        if (body := retry.extensions.get(ExtensionType.COOKIE)) is not None:
            cookie = parse_vector16(body, "cookie")
        if group is None and cookie is None:
            raise illegal_parameter(DtlsFailure.BAD_HELLO_RETRY_REQUEST)
        negotiated.hello_retried = True
        self._layer.require_message_boundary()
        self._running.replace_by_message_hash()
        self._running.add(message.transcript13)
        self._send(HandshakeType.CLIENT_HELLO, self._builder.after_hello_retry_request(group, cookie).serialize())
        self._layer.finish_flight(now)

    # The server's flight

    def _handle_encrypted_extensions(self, message: HandshakeMessage, now: Instant) -> Client13State:
        extensions = EncryptedExtensions.parse(message.body).extensions
        check_offered(extensions, self._builder.hello.extensions)
        for kind in extensions:
            if kind not in _IN_ENCRYPTED_EXTENSIONS:
                raise HandshakeFailure(
                    AlertDescription.UNSUPPORTED_EXTENSION, DtlsFailure.UNEXPECTED_EXTENSION, str(kind)
                )
        negotiated = self._context.negotiated
        negotiated.srtp_profile = check_use_srtp(self._config, extensions)
        negotiated.alpn = check_alpn(self._config, extensions)
        self._running.add(message.transcript13)
        return Client13State.CERTIFICATE_OR_REQUEST

    def _handle_certificate_request(self, message: HandshakeMessage, now: Instant) -> Client13State:
        request = CertificateRequest13.parse(message.body)
        if request.context:  # RFC 8446 §4.3.2: empty in the handshake
            raise illegal_parameter(DtlsFailure.DECODE_ERROR, "certificate_request_context is not empty")
        if ExtensionType.SIGNATURE_ALGORITHMS not in request.extensions:
            raise HandshakeFailure(AlertDescription.MISSING_EXTENSION, DtlsFailure.MISSING_EXTENSION)
        parse_signature_algorithms(request.extensions)
        check_certificate_authorities(request.extensions)
        self._request = request
        self._running.add(message.transcript13)
        return Client13State.CERTIFICATE

    def _handle_certificate(self, message: HandshakeMessage, now: Instant) -> Client13State:
        certificate = Certificate13.parse(message.body)
        if certificate.context:
            raise illegal_parameter(DtlsFailure.DECODE_ERROR, "certificate_request_context is not empty")
        if not certificate.chain:  # RFC 8446 §4.4.2.4
            raise HandshakeFailure(AlertDescription.DECODE_ERROR, DtlsFailure.NO_CERTIFICATE)
        if certificate.leaf_extensions:
            raise HandshakeFailure(AlertDescription.UNSUPPORTED_EXTENSION, DtlsFailure.UNEXPECTED_EXTENSION)
        self._peer_key = self._context.accept_peer_chain(certificate.chain)
        self._running.add(message.transcript13)
        return Client13State.CERTIFICATE_VERIFY

    def _handle_certificate_verify(self, message: HandshakeMessage, now: Instant) -> Client13State:
        proof = CertificateVerify.parse(message.body)
        assert self._peer_key is not None
        content = signed_content(SERVER_SIGNATURE_CONTEXT, self._running.digest())
        offered = self._config.signature_schemes
        verify(proof.algorithm, self._peer_key, proof.signature, content, Version.DTLS_1_3, offered)
        self._context.negotiated.peer_signature_scheme = proof.algorithm
        self._running.add(message.transcript13)
        return Client13State.FINISHED

    def _handle_finished(self, message: HandshakeMessage, now: Instant) -> Client13State:
        keys = self._keys
        assert keys is not None
        expected = keys.verify_data(keys.server_handshake, self._running.digest())
        if not hmac.compare_digest(expected, message.body):
            raise HandshakeFailure(AlertDescription.DECRYPT_ERROR, DtlsFailure.BAD_FINISHED)
        self._layer.require_message_boundary()
        self._running.add(message.transcript13)
        keys.derive_application(self._running.digest())
        self._context.log_secret("CLIENT_TRAFFIC_SECRET_0", keys.client_application)
        self._context.log_secret("SERVER_TRAFFIC_SECRET_0", keys.server_application)
        self._context.log_secret("EXPORTER_SECRET", keys.exporter or b"")
        if self._request is not None:
            self._send_certificate(self._request)
        self._send(HandshakeType.FINISHED, keys.verify_data(keys.client_handshake, self._running.digest()))
        self._layer.finish_flight(now)
        records = self._layer.records
        records.install_write_epoch(3, keys.protection(keys.client_application))
        records.install_read_epoch(3, keys.protection(keys.server_application))
        self._layer.in_handshake = False
        self._post = PostHandshake13(self._layer, keys, DtlsRole.CLIENT)
        return Client13State.CONNECTED

    # Our flight

    def _send(self, kind: HandshakeType, body: bytes) -> None:
        self._running.add(self._layer.send_message(kind, body).transcript13)

    def _send_certificate(self, request: CertificateRequest13) -> None:
        certificate = self._config.certificate
        schemes = parse_signature_algorithms(request.extensions) or ()
        scheme = choose_scheme(self._config.signature_schemes, schemes, certificate.private_key, Version.DTLS_1_3)
        self._send(HandshakeType.CERTIFICATE, Certificate13(b"", certificate.chain).serialize())
        content = signed_content(CLIENT_SIGNATURE_CONTEXT, self._running.digest())
        signature = sign(scheme, certificate.private_key, content)
        self._context.negotiated.signature_scheme = scheme
        self._send(HandshakeType.CERTIFICATE_VERIFY, CertificateVerify(scheme, signature).serialize())

    _HANDLERS: ClassVar[Mapping[int, Callable[[Client13, HandshakeMessage, Instant], Client13State]]] = {
        HandshakeType.SERVER_HELLO: _handle_server_hello,
        HandshakeType.ENCRYPTED_EXTENSIONS: _handle_encrypted_extensions,
        HandshakeType.CERTIFICATE_REQUEST: _handle_certificate_request,
        HandshakeType.CERTIFICATE: _handle_certificate,
        HandshakeType.CERTIFICATE_VERIFY: _handle_certificate_verify,
        HandshakeType.FINISHED: _handle_finished,
    }

    # After the handshake

    def handle_flight_acknowledged(self, now: Instant) -> None:
        """The server has all of our flight."""
        if self._post is not None:
            self._post.handle_flight_acknowledged(now)

    def update_keys(self, request_peer: bool, now: Instant) -> None:
        """Begin a KeyUpdate."""
        if self._post is not None:
            self._post.update_keys(request_peer, now)

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes | None:
        """Return exported keying material; it is there once the handshake is complete."""
        return self._keys.export(label, context, length) if self._keys and self._keys.exporter else None
