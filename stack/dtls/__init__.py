"""DTLS 1.2 and 1.3, client and server, for WebRTC: sans-IO, from primitives (RFC 6347, RFC 9147, RFC 5764).

`DtlsEndpoint` is the machine; `DtlsConfig` is what it is told; `Certificate` is ours, and SDP carries its
`CertificateFingerprint`. How a handshake travels through the files: `docs/dtls.md`.
"""

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.dtls_role import DtlsRole
from stack.core.srtp_profile import SrtpProfile
from stack.dtls.alerts import AlertDescription, DtlsFailure
from stack.dtls.certificate import Certificate
from stack.dtls.config import DtlsConfig, KeyLog
from stack.dtls.endpoint import DtlsEndpoint, DtlsEndpointState
from stack.dtls.events import ApplicationData, DtlsEvent, DtlsFailed, HandshakeComplete, PeerClosed
from stack.dtls.groups import AVAILABLE_GROUPS, CLASSICAL_GROUPS, NamedGroup
from stack.dtls.negotiate import NegotiatedParameters
from stack.dtls.signatures import SignatureScheme
from stack.dtls.suites import CipherSuite, Version

__all__ = [
    "AVAILABLE_GROUPS",
    "CLASSICAL_GROUPS",
    "AlertDescription",
    "ApplicationData",
    "Certificate",
    "CertificateFingerprint",
    "CipherSuite",
    "DtlsConfig",
    "DtlsEndpoint",
    "DtlsEndpointState",
    "DtlsEvent",
    "DtlsFailed",
    "DtlsFailure",
    "DtlsRole",
    "HandshakeComplete",
    "KeyLog",
    "NamedGroup",
    "NegotiatedParameters",
    "PeerClosed",
    "SignatureScheme",
    "SrtpProfile",
    "Version",
]
