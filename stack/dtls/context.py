"""What the four handshakes share, and the interface that they have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from stack.core.machine import Entropy, Instant
from stack.dtls.certificate import check_fingerprint, peer_public_key
from stack.dtls.config import DtlsConfig
from stack.dtls.handshake_layer import HandshakeLayer
from stack.dtls.negotiate import NegotiatedParameters
from stack.dtls.reassembly import HandshakeMessage
from stack.dtls.signatures import PublicKey


@dataclass(slots=True)
class HandshakeContext:
    """The things of one connection that all its handshake states share."""

    config: DtlsConfig
    entropy: Entropy
    layer: HandshakeLayer
    negotiated: NegotiatedParameters = field(default_factory=NegotiatedParameters)
    client_random: bytes = b""

    def log_secret(self, label: str, secret: bytes) -> None:
        """Hand a secret to the key log, if there is one (the format of SSLKEYLOGFILE)."""
        if self.config.key_log is not None:
            self.config.key_log(f"{label} {self.client_random.hex()} {secret.hex()}")

    def accept_peer_chain(self, chain: tuple[bytes, ...]) -> PublicKey:
        """Hold the peer's certificate against the fingerprint (RFC 8827 §6.5) and return its key.

        This happens when the Certificate message arrives: a peer with the wrong one never gets our Finished (in
        1.2 and as a 1.3 client; a 1.3 server has sent its Finished by then, but completes nothing).
        """
        check_fingerprint(chain[0], self.config.peer_fingerprints)
        key = peer_public_key(chain[0])
        self.negotiated.peer_chain = chain
        return key


class Handshaker(Protocol):
    """One of the four handshakes: `Client12`, `Server12`, `Client13`, `Server13`."""

    @property
    def is_complete(self) -> bool:
        """True once the peer's Finished is verified and ours is sent."""
        ...

    @property
    def can_send(self) -> bool:
        """True once application data may be sent: in 1.3 a server may do so right after its Finished."""
        ...

    def handle_message(self, message: HandshakeMessage, now: Instant) -> None:
        """Take the next message; `HandshakeFailure` or `ParseError` if it may not be."""
        ...

    def handle_flight_acknowledged(self, now: Instant) -> None:
        """The peer has all of our flight (1.3)."""
        ...

    def update_keys(self, request_peer: bool, now: Instant) -> None:
        """Begin a KeyUpdate (1.3); nothing in 1.2, which has none."""
        ...

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes | None:
        """Return exported keying material; None while there is none."""
        ...
