"""The certificates of both ends of a test, and configurations in which each side knows the other's fingerprint."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from stack.dtls import Certificate, DtlsConfig, DtlsRole
from tests.sim.entropy import entropy

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT_CERTIFICATE = Certificate.generate(entropy(1), EPOCH)
SERVER_CERTIFICATE = Certificate.generate(entropy(2), EPOCH)


def config(role: DtlsRole, **changes: Any) -> DtlsConfig:
    """Return a configuration in which each side knows the other's fingerprint."""
    own, peer = CLIENT_CERTIFICATE, SERVER_CERTIFICATE
    if role is DtlsRole.SERVER:
        own, peer = peer, own
    settings: dict[str, Any] = {"certificate": own, "peer_fingerprints": (peer.fingerprint(),)} | changes
    return DtlsConfig(**settings)
