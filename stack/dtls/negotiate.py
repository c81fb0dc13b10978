"""What was negotiated, and the choices that lead there: pure functions over both sides' preferences.

RFC 8446 §4.1.1, §4.2; RFC 5764 §4.1.1; RFC 7301 §3.2. The server's order decides, except for ALPN, where the
difference between `webrtc` and `c-webrtc` is the client's to make (RFC 8833).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stack.core.errors import ParseError
from stack.core.srtp_profile import SrtpProfile
from stack.dtls.alerts import AlertDescription, DtlsFailure, HandshakeFailure, decode_error, illegal_parameter
from stack.dtls.config import DtlsConfig
from stack.dtls.extensions import (
    DuplicateExtensionError,
    Extensions,
    ExtensionType,
    UseSrtp,
    alpn,
    parse_alpn,
    parse_u16_list16,
)
from stack.dtls.groups import NamedGroup
from stack.dtls.messages import ClientHello
from stack.dtls.signatures import authentication_of
from stack.dtls.suites import SUITES, Authentication, CipherSuite, Version


@dataclass(slots=True)
class NegotiatedParameters:
    """What the two sides agreed on; filled in as the handshake goes on."""

    version: Version | None = None
    cipher_suite: CipherSuite | None = None
    group: NamedGroup | None = None
    srtp_profile: SrtpProfile | None = None
    alpn: bytes | None = None
    extended_master_secret: bool = False
    peer_chain: tuple[bytes, ...] = ()
    peer_signature_scheme: int | None = None
    signature_scheme: int | None = None
    hello_retried: bool = False


def parse_client_hello(body: bytes) -> ClientHello:
    """Return the ClientHello; `HandshakeFailure` if it is malformed."""
    try:
        return ClientHello.parse(body)
    except DuplicateExtensionError:
        raise
    except ParseError as error:
        raise decode_error(DtlsFailure.BAD_CLIENT_HELLO, str(error)) from None


def choose_cipher_suite(config: DtlsConfig, offered: Sequence[int], version: Version) -> CipherSuite:
    """Return the first suite of ours that the client offers, fits the version and (in 1.2) our certificate."""
    ours = authentication_of(config.certificate.private_key)
    for suite in config.cipher_suites:
        parameters = SUITES[suite]
        fits_key = parameters.authentication in (Authentication.ANY, ours)
        if suite in offered and parameters.version is version and fits_key:
            return suite
    raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.NO_SHARED_CIPHER)


def parse_groups(extensions: Extensions) -> tuple[int, ...] | None:
    """Return the client's groups; None if it does not say."""
    body = extensions.get(ExtensionType.SUPPORTED_GROUPS)
    return None if body is None else parse_u16_list16(body, "groups")


def parse_signature_algorithms(extensions: Extensions) -> tuple[int, ...] | None:
    """Return the signature algorithms that the peer accepts; None if it does not say."""
    body = extensions.get(ExtensionType.SIGNATURE_ALGORITHMS)
    return None if body is None else parse_u16_list16(body, "signature algorithms")


def answer_use_srtp(config: DtlsConfig, extensions: Extensions) -> tuple[SrtpProfile, bytes] | None:
    """Return the chosen profile and the server's extension; None to leave it out (RFC 5764 §4.1.1)."""
    body = extensions.get(ExtensionType.USE_SRTP)
    if body is None:
        return None
    offered = UseSrtp.parse(body)
    for profile in config.srtp_profiles:
        if profile in offered.profiles:
            # An MKI is never echoed: WebRTC does not use it (RFC 8827 §6.5 has bundled, single-key sessions).
            return profile, UseSrtp((profile,)).serialize()
    return None


def check_use_srtp(config: DtlsConfig, extensions: Extensions) -> SrtpProfile | None:
    """Return the profile that the server chose; it must be one that we offered, alone, without an MKI."""
    body = extensions.get(ExtensionType.USE_SRTP)
    if body is None:
        return None
    try:
        answer = UseSrtp.parse(body)
    except ParseError as error:
        raise decode_error(DtlsFailure.BAD_SRTP_PROFILE, str(error)) from None
    if len(answer.profiles) != 1:
        raise decode_error(DtlsFailure.BAD_SRTP_PROFILE, "not exactly one profile")
    if answer.mki:
        raise illegal_parameter(DtlsFailure.BAD_SRTP_MKI)
    for profile in config.srtp_profiles:
        if profile == answer.profiles[0]:
            return profile
    raise illegal_parameter(DtlsFailure.BAD_SRTP_PROFILE)


def answer_alpn(config: DtlsConfig, extensions: Extensions) -> tuple[bytes, bytes] | None:
    """Return the chosen protocol and the server's extension; None to leave it out."""
    body = extensions.get(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
    if body is None or not config.alpn:
        return None
    for name in parse_alpn(body):
        if name in config.alpn:
            return name, alpn((name,))
    # RFC 7301 §3.2: no overlap is fatal.
    raise HandshakeFailure(AlertDescription.NO_APPLICATION_PROTOCOL, DtlsFailure.NO_APPLICATION_PROTOCOL)


def check_alpn(config: DtlsConfig, extensions: Extensions) -> bytes | None:
    """Return the protocol that the server chose; it must be one that we offered, alone."""
    body = extensions.get(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
    if body is None:
        return None
    try:
        names = parse_alpn(body)
    except ParseError as error:
        raise decode_error(DtlsFailure.BAD_APPLICATION_PROTOCOL, str(error)) from None
    if len(names) != 1:
        raise decode_error(DtlsFailure.BAD_APPLICATION_PROTOCOL, "not exactly one protocol")
    if names[0] not in config.alpn:
        raise illegal_parameter(DtlsFailure.BAD_APPLICATION_PROTOCOL)
    return names[0]


def check_offered(extensions: Extensions, offered: Sequence[int] | Extensions) -> None:
    """The peer may only answer extensions that we sent (RFC 8446 §4.2)."""
    for kind in extensions:
        if kind not in offered:
            raise HandshakeFailure(
                AlertDescription.UNSUPPORTED_EXTENSION, DtlsFailure.UNEXPECTED_EXTENSION, str(kind)
            )
