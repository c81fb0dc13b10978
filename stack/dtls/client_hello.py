"""The ClientHello that we send: RFC 8446 §4.1.2, RFC 9147 §5.3, and the second one after a HelloRetryRequest.

One hello serves both versions. It offers no session to resume and no early data: a call is set up once, its
keys live as long as it does, and a ticket would only be one more secret to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from stack.core.machine import Entropy
from stack.dtls.config import DtlsConfig
from stack.dtls.extensions import (
    EMPTY_RENEGOTIATION_INFO,
    UNCOMPRESSED_POINTS,
    ExtensionType,
    KeyShareEntry,
    UseSrtp,
    alpn,
    client_key_shares,
    supported_versions,
    u16_list16,
    vector16,
)
from stack.dtls.groups import HybridClientExchange, KeyExchange, NamedGroup, X25519Exchange, start_exchange
from stack.dtls.messages import RANDOM_LENGTH, ClientHello
from stack.dtls.suites import SUITES, Version

_NULL_COMPRESSION: Final = b"\0"


class ClientHelloBuilder:
    """Builds the first and the second ClientHello, and keeps the private halves of its key shares."""

    __slots__ = ("_config", "_entropy", "exchanges", "hello")

    def __init__(self, config: DtlsConfig, entropy: Entropy) -> None:
        self._config = config
        self._entropy = entropy
        self.exchanges: dict[NamedGroup, KeyExchange] = {}
        if Version.DTLS_1_3 in config.versions:
            self._start_exchanges(config.offered_shares)
        self.hello = self._build(entropy(RANDOM_LENGTH))

    def _start_exchanges(self, groups: Sequence[NamedGroup]) -> None:
        x25519: X25519Exchange | None = None
        for group in groups:
            if group in (NamedGroup.X25519, NamedGroup.X25519MLKEM768):
                # The hybrid and the plain share may be of one key (draft-ietf-tls-hybrid-design §3.2): one
                # multiplication less.
                x25519 = x25519 or X25519Exchange(self._entropy)
            if group is NamedGroup.X25519MLKEM768:
                self.exchanges[group] = HybridClientExchange(self._entropy, x25519)
            elif group is NamedGroup.X25519 and x25519 is not None:
                self.exchanges[group] = x25519
            else:
                self.exchanges[group] = start_exchange(group, self._entropy)

    def _build(self, random: bytes) -> ClientHello:
        config = self._config
        versions = config.versions
        # Those with a share come first: a server that goes by our order (BoringSSL) would spend a round trip on a
        # HelloRetryRequest for a better one. RFC 8446 §4.2.8 wants the shares in the order of the groups.
        groups = (*self.exchanges, *(group for group in config.groups if group not in self.exchanges))
        extensions: dict[int, bytes] = {}
        if Version.DTLS_1_2 in versions:
            extensions[ExtensionType.EXTENDED_MASTER_SECRET] = b""
            extensions[ExtensionType.RENEGOTIATION_INFO] = EMPTY_RENEGOTIATION_INFO
            extensions[ExtensionType.EC_POINT_FORMATS] = UNCOMPRESSED_POINTS
        if Version.DTLS_1_3 in versions:
            extensions[ExtensionType.SUPPORTED_VERSIONS] = supported_versions(versions)
            extensions[ExtensionType.KEY_SHARE] = self._key_shares()
        else:
            groups = tuple(group for group in groups if group is not NamedGroup.X25519MLKEM768)
        extensions[ExtensionType.SUPPORTED_GROUPS] = u16_list16(groups)
        extensions[ExtensionType.SIGNATURE_ALGORITHMS] = u16_list16(config.signature_schemes)
        if config.srtp_profiles:
            extensions[ExtensionType.USE_SRTP] = UseSrtp(config.srtp_profiles).serialize()
        if config.alpn:
            extensions[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = alpn(config.alpn)
        return ClientHello(
            legacy_version=Version.DTLS_1_2,
            random=random,
            session_id=b"",  # RFC 9147 §5: no middlebox compatibility mode in DTLS
            cookie=b"",
            cipher_suites=tuple(suite for suite in config.cipher_suites if SUITES[suite].version in versions),
            compression_methods=_NULL_COMPRESSION,
            extensions=extensions,
        )

    def _key_shares(self) -> bytes:
        return client_key_shares([KeyShareEntry(group, own.public) for group, own in self.exchanges.items()])

    def after_hello_verify_request(self, cookie: bytes) -> ClientHello:
        """Answer a HelloVerifyRequest: the same hello with the cookie (RFC 6347 §4.2.1)."""
        self.hello = replace(self.hello, cookie=cookie)
        return self.hello

    def after_hello_retry_request(self, group: NamedGroup | None, cookie: bytes | None) -> ClientHello:
        """Answer a HelloRetryRequest: a share of the group it names, the cookie it brought (RFC 8446 §4.1.2)."""
        extensions = dict(self.hello.extensions)
        if group is not None:
            self.exchanges = {group: start_exchange(group, self._entropy)}
            extensions[ExtensionType.KEY_SHARE] = self._key_shares()
        if cookie is not None:
            extensions[ExtensionType.COOKIE] = vector16(cookie)
        self.hello = replace(self.hello, extensions=extensions)
        return self.hello
