"""What a DTLS endpoint is told: its certificate, the peer's fingerprints, and its preferences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.errors import LocalError
from stack.core.srtp_profile import SrtpProfile
from stack.dtls.certificate import Certificate
from stack.dtls.groups import AVAILABLE_GROUPS, NamedGroup
from stack.dtls.reassembly import MAX_MESSAGE_LENGTH
from stack.dtls.signatures import DEFAULT_SIGNATURE_SCHEMES, SignatureScheme
from stack.dtls.suites import DEFAULT_CIPHER_SUITES, SUITES, CipherSuite, Version

KeyLog: TypeAlias = Callable[[str], None]
"""Takes the lines of an SSLKEYLOGFILE, without line ends. Who reads them can read the call."""

DEFAULT_SRTP_PROFILES: Final = (
    SrtpProfile.AEAD_AES_128_GCM,
    SrtpProfile.AES128_CM_HMAC_SHA1_80,
    SrtpProfile.AEAD_AES_256_GCM,
)
DEFAULT_ALPN: Final = (b"webrtc", b"c-webrtc")  # RFC 8833
DEFAULT_MTU: Final = 1200
MIN_MTU: Final = 228
"""Room for a record with a little progress in it, whatever the version and the suite."""
DEFAULT_INITIAL_TIMEOUT: Final = 0.4
DEFAULT_MAX_TIMEOUT: Final = 60.0
"""RFC 9147 §5.8.2: the doubling stops at no less than a minute, unless more is known of the path."""


@dataclass(frozen=True, slots=True)
class DtlsConfig:
    """The configuration of one endpoint; every sequence of preferences has the most wanted first."""

    certificate: Certificate
    peer_fingerprints: tuple[CertificateFingerprint, ...] | None
    """The fingerprints from the peer's SDP, of which one must match; None: any certificate is accepted."""
    min_version: Version = Version.DTLS_1_2
    max_version: Version = Version.DTLS_1_3
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES
    groups: tuple[NamedGroup, ...] = AVAILABLE_GROUPS
    key_shares: tuple[NamedGroup, ...] | None = None
    """For which groups a client sends shares unasked; None: X25519, or else the first of `groups`. The hybrid's
    share would split the ClientHello over two datagrams, which mbedTLS and wolfSSL do not take as servers."""
    signature_schemes: tuple[SignatureScheme, ...] = DEFAULT_SIGNATURE_SCHEMES
    """What we accept from the peer and what we sign with."""
    srtp_profiles: tuple[SrtpProfile, ...] = DEFAULT_SRTP_PROFILES
    """Empty: use_srtp is neither offered nor answered."""
    alpn: tuple[bytes, ...] = DEFAULT_ALPN
    mtu: int = DEFAULT_MTU
    """The largest datagram that we send in the handshake, in bytes of UDP payload."""
    initial_timeout: float = DEFAULT_INITIAL_TIMEOUT
    """Seconds until the first retransmission; it doubles up to `max_timeout`."""
    max_timeout: float = DEFAULT_MAX_TIMEOUT
    request_client_certificate: bool = True
    require_client_certificate: bool = True
    require_extended_master_secret: bool = False
    cookie: bool = False
    """A server asks the client to echo a cookie before it does any work. Not needed behind ICE, which has
    validated the path, and it costs a round trip."""
    max_message_length: int = MAX_MESSAGE_LENGTH
    mtu_is_known: bool = False
    """False: records become smaller after repeated losses, in case the path drops datagrams of `mtu` bytes
    (RFC 9147 §4.4)."""
    strict_plaintext: bool = False
    """False: a record of epoch 0 that breaks the rules is dropped and counted, and an alert in epoch 0 is believed
    only once the peer has stopped answering: any host can forge them. True: both end the handshake at once, as in
    BoringSSL, whose conformance runner expects it."""
    key_log: KeyLog | None = None

    def __post_init__(self) -> None:
        if self.mtu < MIN_MTU:
            raise LocalError(f"an MTU of {self.mtu} is below {MIN_MTU}")
        if self.min_version < self.max_version or Version.DTLS_1_0 in (self.min_version, self.max_version):
            raise LocalError("versions are 1.2 and 1.3, and the least is not above the greatest")
        if not self.groups or not self.signature_schemes:
            raise LocalError("at least one group and one signature scheme are needed")
        for version in self.versions:
            if not any(SUITES[suite].version is version for suite in self.cipher_suites):
                raise LocalError(f"no cipher suite for {version.label}")

    @property
    def versions(self) -> tuple[Version, ...]:
        """The versions that we speak, newest first."""
        return tuple(
            version
            for version in (Version.DTLS_1_3, Version.DTLS_1_2)
            if self.max_version <= version <= self.min_version
        )

    @property
    def offered_shares(self) -> tuple[NamedGroup, ...]:
        """The groups for which a client sends shares."""
        if self.key_shares is not None:
            return self.key_shares
        return (NamedGroup.X25519,) if NamedGroup.X25519 in self.groups else self.groups[:1]
