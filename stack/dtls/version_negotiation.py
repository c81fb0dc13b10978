"""Version negotiation: the first messages, which decide which of the four handshakes goes on.

RFC 8446 §4.2.1 and §D, RFC 9147 §5.3–5.5, RFC 6347 §4.2.1 (HelloVerifyRequest), RFC 7507 (fallback SCSV). One
datagram exchange at most is spent here: on a cookie, if a 1.2 server wants one.
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from stack.core.machine import Instant
from stack.dtls.alerts import (
    AlertDescription,
    DtlsFailure,
    HandshakeFailure,
    illegal_parameter,
    unexpected_message,
)
from stack.dtls.client12 import Client12
from stack.dtls.client13 import Client13
from stack.dtls.client_hello import ClientHelloBuilder
from stack.dtls.context import HandshakeContext, Handshaker
from stack.dtls.extensions import ExtensionType, parse_supported_versions, parse_u16
from stack.dtls.messages import ClientHello, HandshakeType, ServerHello
from stack.dtls.messages12 import HelloVerifyRequest
from stack.dtls.negotiate import parse_client_hello
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.server12 import Server12
from stack.dtls.server13 import Server13
from stack.dtls.suites import Version

_FALLBACK_SCSV: Final = 0x5600
_COOKIE_LENGTH: Final = 32


class VersionNegotiation(Protocol):
    """One side of the negotiation."""

    def handle_message(self, message: HandshakeMessage, now: Instant) -> Handshaker | None:
        """Take a message; return the handshake that goes on, once the version is known."""
        ...


def _wrong_version(reason: DtlsFailure, detail: str) -> HandshakeFailure:
    return HandshakeFailure(AlertDescription.PROTOCOL_VERSION, reason, detail)


class ClientVersionNegotiation:
    """Sends the ClientHello and takes the version from the server's answer."""

    def __init__(self, context: HandshakeContext) -> None:
        self._context = context
        self._builder = ClientHelloBuilder(context.config, context.entropy)
        self._hello: HandshakeMessage | None = None
        self._verified = False
        context.client_random = self._builder.hello.random

    def start(self, now: Instant) -> None:
        """Send the ClientHello."""
        self._send(self._builder.hello, now)

    def _send(self, hello: ClientHello, now: Instant) -> None:
        layer = self._context.layer
        self._hello = layer.send_message(HandshakeType.CLIENT_HELLO, hello.serialize())
        layer.finish_flight(now)

    def handle_message(self, message: HandshakeMessage, now: Instant) -> Handshaker | None:
        """Take HelloVerifyRequest or ServerHello."""
        if message.msg_type == HandshakeType.HELLO_VERIFY_REQUEST and not self._verified:
            self._verified = True
            # RFC 6347 §4.2.1: its version is no negotiation; neither it nor the first hello is in the transcript.
            request = HelloVerifyRequest.parse(message.body)
            self._send(self._builder.after_hello_verify_request(request.cookie), now)
            return None
        if message.msg_type != HandshakeType.SERVER_HELLO:
            raise unexpected_message(detail=f"type {message.msg_type} while waiting for server hello")
        assert self._hello is not None
        version = self._chosen_version(ServerHello.parse(message.body))
        if self._verified and version is Version.DTLS_1_3:  # RFC 9147 §5.1: 1.3 asks with HelloRetryRequest
            raise illegal_parameter(DtlsFailure.HELLO_VERIFY_REQUEST_IN_13)
        self._context.negotiated.version = version
        self._context.layer.records.set_version(version)
        handshaker = (Client13 if version is Version.DTLS_1_3 else Client12)(
            self._context, self._builder, self._hello
        )
        handshaker.handle_message(message, now)
        return handshaker

    def _chosen_version(self, hello: ServerHello) -> Version:
        versions = self._context.config.versions
        body = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
        if body is None:
            if hello.legacy_version == Version.DTLS_1_2 and Version.DTLS_1_2 in versions:
                return Version.DTLS_1_2
            raise _wrong_version(DtlsFailure.UNSUPPORTED_PROTOCOL, f"{hello.legacy_version:#06x}")
        if Version.DTLS_1_3 not in versions:  # we sent no such extension
            raise HandshakeFailure(AlertDescription.UNSUPPORTED_EXTENSION, DtlsFailure.UNEXPECTED_EXTENSION)
        if parse_u16(body, "version") != Version.DTLS_1_3:
            # RFC 8446 §4.2.1: only versions from 1.3 on are chosen this way.
            raise illegal_parameter(DtlsFailure.WRONG_VERSION)
        return Version.DTLS_1_3


class ServerVersionNegotiation:
    """Takes the ClientHello and chooses the version."""

    def __init__(self, context: HandshakeContext) -> None:
        self._context = context
        self._cookie: bytes | None = None

    def handle_message(self, message: HandshakeMessage, now: Instant) -> Handshaker | None:
        """Take the ClientHello."""
        if message.msg_type != HandshakeType.CLIENT_HELLO:
            raise unexpected_message(detail=f"type {message.msg_type} while waiting for client hello")
        hello = parse_client_hello(message.body)
        context = self._context
        version = self._choose_version(hello)
        if version is Version.DTLS_1_2 and context.config.cookie and not self._has_cookie(hello, now):
            return None
        context.negotiated.version = version
        context.layer.records.set_version(version)
        handshaker = Server13(context) if version is Version.DTLS_1_3 else Server12(context)
        handshaker.handle_client_hello(hello, message, now)
        return handshaker

    def _choose_version(self, hello: ClientHello) -> Version:
        versions = self._context.config.versions
        body = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
        if body is not None:
            offered = parse_supported_versions(body)
            chosen = next((version for version in versions if version in offered), None)
        else:
            # RFC 8446 §D.2: an old client names the newest version that it supports; smaller numbers are newer.
            new_enough = hello.legacy_version <= Version.DTLS_1_2
            chosen = Version.DTLS_1_2 if new_enough and Version.DTLS_1_2 in versions else None
        if chosen is None:
            raise _wrong_version(DtlsFailure.UNSUPPORTED_PROTOCOL, f"{hello.legacy_version:#06x}")
        if _FALLBACK_SCSV in hello.cipher_suites and chosen is not versions[0]:  # RFC 7507 §3
            raise HandshakeFailure(AlertDescription.INAPPROPRIATE_FALLBACK, DtlsFailure.INAPPROPRIATE_FALLBACK)
        return chosen

    def _has_cookie(self, hello: ClientHello, now: Instant) -> bool:
        """Return True if the client echoed our cookie; otherwise ask it to (RFC 6347 §4.2.1)."""
        if self._cookie is not None and hmac.compare_digest(self._cookie, hello.cookie):
            return True
        if self._cookie is not None:
            raise illegal_parameter(DtlsFailure.BAD_COOKIE)
        self._cookie = self._context.entropy(_COOKIE_LENGTH)
        # RFC 6347 §4.2.1: the version here is 1.0 whatever is negotiated later.
        request = HelloVerifyRequest(Version.DTLS_1_0, self._cookie)
        layer = self._context.layer
        layer.send_message(HandshakeType.HELLO_VERIFY_REQUEST, request.serialize())
        layer.finish_flight(now, expects_answer=False)
        return False
