"""What is settled before the first packet: ports, sizes, extensions, timeouts."""

from __future__ import annotations

from dataclasses import dataclass

from stack.sctp.chunks import Capabilities

DEFAULT_PORT = 5000
DEFAULT_MTU = 1160
"""1200 bytes of UDP payload less the DTLS 1.2 record (13 + 8 + 16 bytes), in whole words."""
OUTBOUND_STREAMS = INBOUND_STREAMS = 0xFFFF
"""As many as there are (RFC 8831 §6.2); their identifiers are below this."""
DEFAULT_MAX_MESSAGE_SIZE = 262_144
UNSTATED_MAX_MESSAGE_SIZE = 65_536
"""What a peer takes if its SDP does not say (RFC 8841 §6.1)."""


@dataclass(frozen=True, slots=True)
class SctpConfig:
    """The settings of one association and its data channels."""

    is_dtls_client: bool
    """True: our stream identifiers are even, otherwise odd (RFC 8832 §6)."""
    local_port: int = DEFAULT_PORT
    remote_port: int = DEFAULT_PORT
    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    """The longest message that we take, in bytes; a longer one ends the association."""
    peer_max_message_size: int = UNSTATED_MAX_MESSAGE_SIZE
    """The longest message that the peer takes, from its SDP; 0: any."""
    mtu: int = DEFAULT_MTU
    """The longest packet handed to DTLS, in bytes."""
    receive_window: int = 4 << 20
    """What may wait for missing pieces or for a program that does not read, in bytes."""
    send_buffer: int = 16 << 20
    """What may wait to be sent, over all channels, in bytes; `send` refuses more."""
    partial_reliability: bool = True
    interleaving: bool = True
    zero_checksum: bool = True
    local_init: bytes | None = None
    """Our INIT chunk as our SDP has shown it (`make_local_init`); None: it was not shown; drawn at random."""
    rtt_hint: float | None = None
    """A round trip that ICE measured on this path, in seconds."""
    heartbeat_interval: float = 30.0
    """Seconds of silence before a HEARTBEAT; consent freshness guards the path anyway."""
    max_retransmissions: int = 20
    """Timeouts in a row that end the association (RFC 9260 §8.1); about a minute."""
    max_init_retransmissions: int = 16
    """INITs or COOKIE ECHOs without an answer that end the attempt; about 45 seconds."""

    @property
    def capabilities(self) -> Capabilities:
        """The extensions that we announce."""
        return Capabilities(self.partial_reliability, self.interleaving, True, self.zero_checksum)
