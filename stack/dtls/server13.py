"""The 1.3 server: RFC 8446 §4 and §A.2 over DTLS (RFC 9147 §5).

    ClientHello            -->
                           <--  [HelloRetryRequest]
    [ClientHello]          -->
                           <--  ServerHello, EncryptedExtensions, [CertificateRequest], Certificate,
                                CertificateVerify, Finished, (application data)
    Certificate, CertificateVerify, Finished  -->
                           <--  ACK

Left out: PSK, resumption and 0-RTT (a call is set up once; replay protection would cost more than it saves),
post-handshake authentication, and the compatibility mode, which DTLS forbids.
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
)
from stack.dtls.context import HandshakeContext
from stack.dtls.extensions import (
    ExtensionType,
    KeyShareEntry,
    check_certificate_authorities,
    parse_client_key_shares,
    parse_vector16,
    u16_list16,
    vector16,
)
from stack.dtls.groups import NamedGroup, answer_exchange
from stack.dtls.keys13 import (
    CLIENT_SIGNATURE_CONTEXT,
    SERVER_SIGNATURE_CONTEXT,
    Keys13,
    Transcript,
    signed_content,
)
from stack.dtls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    RANDOM_LENGTH,
    CertificateVerify,
    ClientHello,
    HandshakeType,
    ServerHello,
)
from stack.dtls.messages13 import Certificate13, CertificateRequest13, EncryptedExtensions
from stack.dtls.negotiate import (
    answer_alpn,
    answer_use_srtp,
    choose_cipher_suite,
    parse_client_hello,
    parse_groups,
    parse_signature_algorithms,
)
from stack.dtls.post13 import PostHandshake13
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.signatures import PublicKey, SignatureScheme, choose_scheme, sign, verify
from stack.dtls.suites import SUITES, CipherSuite, Version
from stack.dtls.transitions import Transitions, following_states

_COOKIE_LENGTH: Final = 32
_VERSION_13: Final = Version.DTLS_1_3.to_bytes(2, "big")


class Server13State(Enum):
    """What the server waits for."""

    CLIENT_HELLO = "client hello"
    CERTIFICATE = "certificate"
    CERTIFICATE_VERIFY = "certificate verify"
    FINISHED = "finished"
    CONNECTED = "connected"


TRANSITIONS: Final[Transitions[Server13State]] = {
    (Server13State.CLIENT_HELLO, HandshakeType.CLIENT_HELLO): (
        Server13State.CLIENT_HELLO,
        Server13State.CERTIFICATE,
        Server13State.FINISHED,
    ),
    (Server13State.CERTIFICATE, HandshakeType.CERTIFICATE): (
        Server13State.CERTIFICATE_VERIFY,
        Server13State.FINISHED,
    ),
    (Server13State.CERTIFICATE_VERIFY, HandshakeType.CERTIFICATE_VERIFY): (Server13State.FINISHED,),
    (Server13State.FINISHED, HandshakeType.FINISHED): (Server13State.CONNECTED,),
}
"""A ClientHello that is answered with a HelloRetryRequest keeps the state. From CONNECTED on `post13.py` takes the
messages."""


class Server13:
    """One server handshake."""

    def __init__(self, context: HandshakeContext) -> None:
        self._context = context
        self._layer = context.layer
        self._config = context.config
        self._state = Server13State.CLIENT_HELLO
        self._first_hello: ClientHello | None = None
        self._retry_group: NamedGroup | None = None
        self._retry_cookie: bytes | None = None
        self._transcript = Transcript("sha256")
        self._keys: Keys13 | None = None
        self._peer_key: PublicKey | None = None
        self._post: PostHandshake13 | None = None

    @property
    def is_complete(self) -> bool:
        """True once the client's Finished is verified."""
        return self._state is Server13State.CONNECTED

    @property
    def can_send(self) -> bool:
        """True once our own Finished is sent (RFC 8446 §4.4.4 allows data right after it)."""
        return self._keys is not None and self._keys.exporter is not None

    def handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        """Take the next message of the client."""
        if self._post is not None:
            self._post.handle_message(message, now)
            return
        following = following_states(TRANSITIONS, self._state, message.msg_type)
        state = self._HANDLERS[message.msg_type](self, message, now)
        assert state in following
        self._state = state

    # The hellos

    def handle_client_hello(self, hello: ClientHello, message: HandshakeMessage, now: Instant) -> None:
        """Take the first ClientHello, which version negotiation has parsed already."""
        self._state = self._answer_client_hello(hello, message, now)

    def _handle_client_hello(self, message: HandshakeMessage, now: Instant) -> Server13State:
        return self._answer_client_hello(parse_client_hello(message.body), message, now)

    def _answer_client_hello(self, hello: ClientHello, message: HandshakeMessage, now: Instant) -> Server13State:
        """Answer the first ClientHello, or the second after a HelloRetryRequest."""
        negotiated = self._context.negotiated
        if hello.compression_methods != b"\0":  # RFC 8446 §4.1.2
            raise illegal_parameter(DtlsFailure.UNSUPPORTED_COMPRESSION)
        if hello.cookie:  # RFC 9147 §5.3
            raise illegal_parameter(DtlsFailure.BAD_COOKIE, "legacy_cookie is not empty")
        check_certificate_authorities(hello.extensions)
        suite = choose_cipher_suite(self._config, hello.cipher_suites, Version.DTLS_1_3)
        if self._first_hello is None:
            self._transcript = Transcript(SUITES[suite].hash_name)
        else:
            self._check_second_hello(self._first_hello, hello, suite)
        negotiated.cipher_suite = suite
        self._context.client_random = hello.random
        self._transcript.add(message.transcript13)
        schemes = parse_signature_algorithms(hello.extensions)
        share = self._choose_share(hello)
        if schemes is None:
            raise HandshakeFailure(
                AlertDescription.MISSING_EXTENSION, DtlsFailure.MISSING_EXTENSION, "signature_algorithms"
            )
        if share is None or (self._config.cookie and self._first_hello is None):
            self._send_hello_retry_request(hello, share is None, now)
            return Server13State.CLIENT_HELLO
        scheme = choose_scheme(
            self._config.signature_schemes, schemes, self._config.certificate.private_key, Version.DTLS_1_3
        )
        self._send_server_flight(hello, share, scheme, now)
        return Server13State.CERTIFICATE if self._config.request_client_certificate else Server13State.FINISHED

    def _choose_share(self, hello: ClientHello) -> KeyShareEntry | None:
        """Return the best share that the client sent; None if it has to be asked for another."""
        groups = parse_groups(hello.extensions)
        body = hello.extensions.get(ExtensionType.KEY_SHARE)
        if groups is None or body is None:  # RFC 8446 §9.2
            missing = DtlsFailure.MISSING_EXTENSION if groups is None else DtlsFailure.MISSING_KEY_SHARE
            raise HandshakeFailure(AlertDescription.MISSING_EXTENSION, missing)
        shares = parse_client_key_shares(body)
        by_group = {share.group: share for share in shares}
        if len(by_group) != len(shares):
            raise illegal_parameter(DtlsFailure.DUPLICATE_KEY_SHARE)
        common = [group for group in self._config.groups if group in groups]
        if not common:
            raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.NO_SHARED_GROUP)
        if self._retry_group is not None:
            # RFC 8446 §4.2.8: after a retry there is one share, of the group that was asked for.
            if list(by_group) != [self._retry_group]:
                raise illegal_parameter(DtlsFailure.WRONG_GROUP, "not the group that was asked for")
            return by_group[self._retry_group]
        # Any share that is here beats a better group that would cost a round trip.
        for group in common:
            if group in by_group:
                return by_group[group]
        if self._first_hello is not None:
            raise illegal_parameter(DtlsFailure.WRONG_GROUP, "shares changed without need")
        self._retry_group = common[0]
        return None

    def _check_second_hello(self, first: ClientHello, second: ClientHello, suite: CipherSuite) -> None:
        """RFC 8446 §4.1.2: what may change after a HelloRetryRequest is the share and the cookie."""
        if second.random != first.random or second.cipher_suites != first.cipher_suites:
            raise illegal_parameter(DtlsFailure.SECOND_HELLO_MISMATCH)
        if suite != self._context.negotiated.cipher_suite:
            raise illegal_parameter(DtlsFailure.CIPHER_CHANGED)
        if self._retry_cookie is not None:
            body = second.extensions.get(ExtensionType.COOKIE)
            cookie = b"" if body is None else parse_vector16(body, "cookie")
            if not hmac.compare_digest(cookie, self._retry_cookie):
                raise illegal_parameter(DtlsFailure.BAD_COOKIE)

    def _send_hello_retry_request(self, hello: ClientHello, wants_share: bool, now: Instant) -> None:
        negotiated = self._context.negotiated
        assert negotiated.cipher_suite is not None
        extensions: dict[int, bytes] = {ExtensionType.SUPPORTED_VERSIONS: _VERSION_13}
        if wants_share and self._retry_group is not None:
            extensions[ExtensionType.KEY_SHARE] = self._retry_group.to_bytes(2, "big")
        # RFC 8446 §4.2.2 leaves the cookie to the server. It costs nothing when a round trip is spent anyway, and
        # some versions of wolfSSL's client repeat their empty key_share after a HelloRetryRequest without one.
        self._retry_cookie = self._context.entropy(_COOKIE_LENGTH)
        extensions[ExtensionType.COOKIE] = vector16(self._retry_cookie)
        self._first_hello = hello
        negotiated.hello_retried = True
        retry = ServerHello(
            Version.DTLS_1_2, HELLO_RETRY_REQUEST_RANDOM, b"", negotiated.cipher_suite, 0, extensions
        )
        self._transcript.replace_by_message_hash()
        self._send(HandshakeType.SERVER_HELLO, retry.serialize())
        self._layer.finish_flight(now)

    # Our flight

    def _send(self, kind: HandshakeType, body: bytes) -> None:
        self._transcript.add(self._layer.send_message(kind, body).transcript13)

    def _send_server_flight(
        self, hello: ClientHello, share: KeyShareEntry, scheme: SignatureScheme, now: Instant
    ) -> None:
        context, records = self._context, self._layer.records
        negotiated = context.negotiated
        assert negotiated.cipher_suite is not None
        self._layer.require_message_boundary()
        negotiated.group = NamedGroup(share.group)
        public, secret = answer_exchange(negotiated.group, share.key_exchange, context.entropy)
        server_hello = ServerHello(
            legacy_version=Version.DTLS_1_2,
            random=context.entropy(RANDOM_LENGTH),
            session_id=b"",  # RFC 9147 §5: never echoed
            cipher_suite=negotiated.cipher_suite,
            compression_method=0,
            extensions={
                ExtensionType.SUPPORTED_VERSIONS: _VERSION_13,
                ExtensionType.KEY_SHARE: KeyShareEntry(share.group, public).serialize(),
            },
        )
        encrypted = self._encrypted_extensions(hello)
        self._send(HandshakeType.SERVER_HELLO, server_hello.serialize())
        keys = Keys13(SUITES[negotiated.cipher_suite], secret, self._transcript.digest())
        self._keys = keys
        records.install_write_epoch(2, keys.protection(keys.server_handshake))
        records.install_read_epoch(2, keys.protection(keys.client_handshake))
        context.log_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET", keys.client_handshake)
        context.log_secret("SERVER_HANDSHAKE_TRAFFIC_SECRET", keys.server_handshake)
        self._send(HandshakeType.ENCRYPTED_EXTENSIONS, encrypted.serialize())
        if self._config.request_client_certificate:
            schemes: dict[int, bytes] = {
                ExtensionType.SIGNATURE_ALGORITHMS: u16_list16(self._config.signature_schemes)
            }
            self._send(HandshakeType.CERTIFICATE_REQUEST, CertificateRequest13(b"", schemes).serialize())
        certificate = self._config.certificate
        self._send(HandshakeType.CERTIFICATE, Certificate13(b"", certificate.chain).serialize())
        content = signed_content(SERVER_SIGNATURE_CONTEXT, self._transcript.digest())
        signature = sign(scheme, certificate.private_key, content)
        negotiated.signature_scheme = scheme
        self._send(HandshakeType.CERTIFICATE_VERIFY, CertificateVerify(scheme, signature).serialize())
        verify_data = keys.verify_data(keys.server_handshake, self._transcript.digest())
        self._send(HandshakeType.FINISHED, verify_data)
        keys.derive_application(self._transcript.digest())
        records.install_write_epoch(3, keys.protection(keys.server_application))
        context.log_secret("CLIENT_TRAFFIC_SECRET_0", keys.client_application)
        context.log_secret("SERVER_TRAFFIC_SECRET_0", keys.server_application)
        context.log_secret("EXPORTER_SECRET", keys.exporter or b"")
        self._layer.finish_flight(now)

    def _encrypted_extensions(self, hello: ClientHello) -> EncryptedExtensions:
        negotiated = self._context.negotiated
        extensions: dict[int, bytes] = {}
        if (srtp := answer_use_srtp(self._config, hello.extensions)) is not None:
            negotiated.srtp_profile, extensions[ExtensionType.USE_SRTP] = srtp
        if (protocol := answer_alpn(self._config, hello.extensions)) is not None:
            negotiated.alpn, extensions[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = protocol
        return EncryptedExtensions(extensions)

    # The client's flight

    def _handle_certificate(self, message: HandshakeMessage, now: Instant) -> Server13State:
        certificate = Certificate13.parse(message.body)
        if certificate.context:
            raise illegal_parameter(DtlsFailure.DECODE_ERROR, "certificate_request_context is not ours")
        if certificate.leaf_extensions:
            raise HandshakeFailure(AlertDescription.UNSUPPORTED_EXTENSION, DtlsFailure.UNEXPECTED_EXTENSION)
        self._transcript.add(message.transcript13)
        if certificate.chain:
            self._peer_key = self._context.accept_peer_chain(certificate.chain)
            return Server13State.CERTIFICATE_VERIFY
        if self._config.require_client_certificate:
            raise HandshakeFailure(AlertDescription.CERTIFICATE_REQUIRED, DtlsFailure.NO_CERTIFICATE)
        return Server13State.FINISHED

    def _handle_certificate_verify(self, message: HandshakeMessage, now: Instant) -> Server13State:
        proof = CertificateVerify.parse(message.body)
        assert self._peer_key is not None
        content = signed_content(CLIENT_SIGNATURE_CONTEXT, self._transcript.digest())
        offered = self._config.signature_schemes
        verify(proof.algorithm, self._peer_key, proof.signature, content, Version.DTLS_1_3, offered)
        self._context.negotiated.peer_signature_scheme = proof.algorithm
        self._transcript.add(message.transcript13)
        return Server13State.FINISHED

    def _handle_finished(self, message: HandshakeMessage, now: Instant) -> Server13State:
        keys = self._keys
        assert keys is not None
        expected = keys.verify_data(keys.client_handshake, self._transcript.digest())
        if not hmac.compare_digest(expected, message.body):
            raise HandshakeFailure(AlertDescription.DECRYPT_ERROR, DtlsFailure.BAD_FINISHED)
        self._layer.require_message_boundary()
        self._layer.records.install_read_epoch(3, keys.protection(keys.client_application))
        self._layer.in_handshake = False
        self._layer.send_ack()  # RFC 9147 §5.8.1: nothing else tells the client that its Finished arrived
        self._post = PostHandshake13(self._layer, keys, DtlsRole.SERVER)
        return Server13State.CONNECTED

    _HANDLERS: ClassVar[Mapping[int, Callable[[Server13, HandshakeMessage, Instant], Server13State]]] = {
        HandshakeType.CLIENT_HELLO: _handle_client_hello,
        HandshakeType.CERTIFICATE: _handle_certificate,
        HandshakeType.CERTIFICATE_VERIFY: _handle_certificate_verify,
        HandshakeType.FINISHED: _handle_finished,
    }

    # After the handshake

    def handle_flight_acknowledged(self, now: Instant) -> None:
        """The client has all of our flight."""
        if self._post is not None:
            self._post.handle_flight_acknowledged(now)

    def update_keys(self, request_peer: bool, now: Instant) -> None:
        """Begin a KeyUpdate."""
        if self._post is not None:
            self._post.update_keys(request_peer, now)

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes | None:
        """Return exported keying material; it is there from our Finished on."""
        return self._keys.export(label, context, length) if self._keys and self._keys.exporter else None
