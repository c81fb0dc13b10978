"""What a DTLS endpoint reports to the session; `PeerClosed` and `DtlsFailed` are the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stack.core.srtp_profile import SrtpProfile
from stack.dtls.alerts import DtlsFailure
from stack.dtls.groups import NamedGroup
from stack.dtls.suites import CipherSuite, Version


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    """Both sides have proved who they are; keying material can be exported."""

    version: Version
    cipher_suite: CipherSuite
    group: NamedGroup
    srtp_profile: SrtpProfile | None
    alpn: bytes | None
    peer_certificate: bytes | None
    """The peer's certificate in DER; None if it was not asked for one."""


@dataclass(frozen=True, slots=True)
class ApplicationData:
    """What the peer sent in one record."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer will send nothing more (close_notify)."""


@dataclass(frozen=True, slots=True)
class DtlsFailed:
    """The connection has ended by a fault."""

    reason: DtlsFailure
    alert: int | None
    """The alert that was sent, or received if `remote`; None if none was sent."""
    remote: bool
    detail: str = ""


DtlsEvent: TypeAlias = HandshakeComplete | ApplicationData | PeerClosed | DtlsFailed
