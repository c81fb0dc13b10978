"""The runner's command line: which flags mean what, and a configuration of ours made from them.

A flag that is not in these tables raises `Unimplemented`, and the runner skips the case: the shim never guesses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stack.dtls import (
    AVAILABLE_GROUPS,
    Certificate,
    CertificateFingerprint,
    CipherSuite,
    DtlsConfig,
    NamedGroup,
    SignatureScheme,
    SrtpProfile,
    Version,
)
from stack.dtls.signatures import DEFAULT_SIGNATURE_SCHEMES
from stack.dtls.suites import DEFAULT_CIPHER_SUITES


class Unimplemented(Exception):
    """The case asks for something that we do not do."""


@dataclass
class Flags:
    """What the runner asked for; the names are the flags'."""

    port: int = 0
    shim_id: int = 0
    ipv6: bool = False
    dtls: bool = False
    server: bool = False
    is_handshaker_supported: bool = False
    resume_count: int = 0
    # The endpoint's configuration.
    cert_file: str = ""
    key_file: str = ""
    new_x509_credential: bool = False
    trust_cert: str = ""
    min_version: int = 0
    max_version: int = 0
    no_tls12: bool = False
    no_tls13: bool = False
    mtu: int = 1472
    initial_timeout_duration_ms: int = 400
    verify_peer: bool = False
    require_any_client_certificate: bool = False
    verify_fail: bool = False
    srtp_profiles: str = ""
    cipher: str = ""
    curves: list[int] = field(default_factory=list)
    verify_prefs: list[int] = field(default_factory=list)
    signing_prefs: list[int] = field(default_factory=list)
    advertise_alpn: str = ""
    select_alpn: str = ""
    decline_alpn: bool = False
    reject_alpn: bool = False
    max_cert_list: int = 0
    # What is done after the handshake.
    export_keying_material: int = 0
    export_label: str = ""
    export_context: str = ""
    use_export_context: bool = False
    shim_writes_first: bool = False
    shim_shuts_down: bool = False
    check_close_notify: bool = False
    send_alert: bool = False
    key_update: bool = False
    key_update_before_read: bool = False
    # What must have come of it.
    expect_version: int = 0
    expect_cipher: int = 0
    expect_cipher_aes: int = 0
    expect_curve_id: int = 0
    expect_peer_signature_algorithm: int = 0
    expect_alpn: str = ""
    expect_peer_cert_file: str = ""
    expect_no_peer_cert: bool = False
    expect_hrr: bool = False
    expect_no_hrr: bool = False
    expect_extended_master_secret: bool = False
    expect_secure_renegotiation: bool = False


_IGNORED: Final = {
    # A machine without I/O has no calls that block or are retried, and no callbacks to be called late.
    "async": 0,
    "implicit-handshake": 0,
    "no-op-extra-handshake": 0,
    "use-early-callback": 0,
    "use-custom-verify-callback": 0,
    "use-old-client-cert-callback": 0,
    "expect-verify-result": 0,
    # What these turn off we never do: 1.0 and 1.1, tickets, sessions.
    "no-tls1": 0,
    "no-tls11": 0,
    "no-ticket": 0,
    "renegotiate-freely": 0,
    # There is one certificate to choose from.
    "expect-selected-credential": 1,
    "expect-no-session": 0,
    "expect-no-session-id": 0,
    # These choose between encodings of an extension that we do not have, in cases about its absence.
    "alps-use-new-codepoint": 1,
    "quic-use-legacy-codepoint": 1,
}

_SUITE_NAMES: Final = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    "ECDHE-ECDSA-AES256-GCM-SHA384": CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    "ECDHE-ECDSA-CHACHA20-POLY1305": CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    "ECDHE-RSA-AES128-GCM-SHA256": CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    "ECDHE-RSA-AES256-GCM-SHA384": CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    "ECDHE-RSA-CHACHA20-POLY1305": CipherSuite.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

_SRTP_NAMES: Final = {
    "SRTP_AES128_CM_SHA1_80": SrtpProfile.AES128_CM_HMAC_SHA1_80,
    "SRTP_AES128_CM_SHA1_32": SrtpProfile.AES128_CM_HMAC_SHA1_32,
    "SRTP_AEAD_AES_128_GCM": SrtpProfile.AEAD_AES_128_GCM,
    "SRTP_AEAD_AES_256_GCM": SrtpProfile.AEAD_AES_256_GCM,
}

# The runner reckons with the shares that BoringSSL's client sends unasked; ours sends the second alone.
_SHARES: Final = (NamedGroup.X25519MLKEM768, NamedGroup.X25519)

_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


def parse(arguments: Sequence[str]) -> Flags:
    """Read the command line of a first connection."""
    flags = Flags()
    left = list(arguments)
    while left:
        given = left.pop(0)
        name = given.removeprefix("-")
        if name.startswith(("on-shim-", "on-handshaker-", "on-resume-", "on-retry-")):
            raise Unimplemented(given)  # connections that we do not make
        name = name.removeprefix("on-initial-")
        if name in _IGNORED:
            del left[: _IGNORED[name]]
            continue
        attribute = name.replace("-", "_")
        current: Any = getattr(flags, attribute, None)
        if current is None:
            raise Unimplemented(given)
        if name == "new-x509-credential" and (flags.cert_file or flags.new_x509_credential):
            raise Unimplemented("an endpoint has one certificate")
        if isinstance(current, bool):
            setattr(flags, attribute, True)
        elif isinstance(current, list):
            current.append(int(left.pop(0)))
        else:
            setattr(flags, attribute, type(current)(left.pop(0)))
    return flags


def _known(kind: Any, numbers: Sequence[int]) -> tuple[Any, ...]:
    """Return the members of an enumeration; a number that it does not have is one that we do not speak."""
    try:
        return tuple(kind(number) for number in numbers)
    except ValueError as error:
        raise Unimplemented(str(error)) from None


def _names(table: dict[str, Any], text: str) -> tuple[Any, ...]:
    try:
        return tuple(table[name] for name in text.split(":"))
    except KeyError as error:
        raise Unimplemented(f"no {error}") from None


def _alpn(flags: Flags) -> tuple[bytes, ...]:
    if flags.select_alpn:
        return (flags.select_alpn.encode(),)
    if flags.reject_alpn:
        return (b"what no client offers",)
    names, wire = [], flags.advertise_alpn.encode()
    while wire:
        names.append(wire[1 : 1 + wire[0]])
        wire = wire[1 + wire[0] :]
    return tuple(names)


def _certificate(flags: Flags) -> Certificate:
    if not flags.cert_file:
        return Certificate.generate(os.urandom, _EPOCH)
    return Certificate.from_pem(Path(flags.cert_file).read_bytes(), Path(flags.key_file).read_bytes())


def configuration(flags: Flags) -> DtlsConfig:
    """Return what the flags mean in our terms."""
    versions = [
        version
        for version, off in ((Version.DTLS_1_2, flags.no_tls12), (Version.DTLS_1_3, flags.no_tls13))
        # A smaller number is a newer version.
        if not off and version >= flags.max_version and (not flags.min_version or version <= flags.min_version)
    ]
    if not versions:
        raise Unimplemented("neither 1.2 nor 1.3")
    certificate = _certificate(flags)
    schemes = DEFAULT_SIGNATURE_SCHEMES
    if flags.signing_prefs or flags.verify_prefs:
        schemes = _known(SignatureScheme, flags.signing_prefs or flags.verify_prefs)
    elif not isinstance(certificate.private_key, Ed25519PrivateKey):
        # The runner takes Ed25519 for off unless it is asked for.
        schemes = tuple(scheme for scheme in schemes if scheme is not SignatureScheme.ED25519)
    suites = DEFAULT_CIPHER_SUITES
    if flags.cipher:
        chosen = _names(_SUITE_NAMES, flags.cipher)
        suites = tuple(suite for suite in suites if "_WITH_" not in suite.name) + chosen
    groups = _known(NamedGroup, flags.curves) if flags.curves else AVAILABLE_GROUPS
    shares = tuple(group for group in groups if group in _SHARES) or groups[:1]
    verifies = flags.verify_peer or flags.require_any_client_certificate or not flags.server
    return DtlsConfig(
        certificate=certificate,
        # A fingerprint that nothing has is how a certificate is refused.
        peer_fingerprints=(CertificateFingerprint("sha-256", bytes(32)),)
        if flags.verify_fail and verifies
        else None,
        min_version=versions[0],
        max_version=versions[-1],
        cipher_suites=suites,
        groups=groups,
        key_shares=shares,
        signature_schemes=schemes,
        srtp_profiles=_names(_SRTP_NAMES, flags.srtp_profiles) if flags.srtp_profiles else (),
        alpn=_alpn(flags),
        mtu=flags.mtu,
        mtu_is_known=True,  # the runner says what it is, and refuses needless fragments
        strict_plaintext=True,  # it also expects forged plaintext to be fatal, which by default it is not
        initial_timeout=flags.initial_timeout_duration_ms / 1000,
        request_client_certificate=flags.verify_peer or flags.require_any_client_certificate,
        require_client_certificate=flags.require_any_client_certificate,
        **({"max_message_length": flags.max_cert_list} if flags.max_cert_list else {}),
    )
