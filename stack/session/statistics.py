"""What a session can say of its connection, in the vocabulary of W3C webrtc-stats.

`transport`, `candidate-pair`, `local-candidate`, `remote-candidate` and `codec`; the `-rtp` types come from
`stack.rtp`. Names are those of the specification in Python's spelling, `as_webrtc` gives the original one.
Bytes and packets are those of DTLS, RTP and RTCP, without IP and UDP headers and without ICE's own checks.

Left out: pairs other than the selected one, `certificate` (its fingerprint stands in the SDP), `data-channel`,
and a `codec` for RED, which is a wrapping and not a codec.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from stack.core.errors import ParseError
from stack.core.machine import Address, Instant, Path
from stack.dtls import HandshakeComplete
from stack.ice import Candidate, CandidateType, IceAgent, IceState, LiteAgent
from stack.rtp import RtpStatistics
from stack.rtp.stats import as_webrtc_object
from stack.sdp import AudioLineParameters, AudioParameters, DtlsRole
from stack.session.parameters import SessionParameters
from stack.session.states import State

TRANSPORT_ID = "transport"
PAIR_ID = "candidate-pair"


class DtlsState(Enum):
    """RTCDtlsTransportState."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


@dataclass(slots=True)
class Traffic:
    """What went over the wire in one direction."""

    packets: int = 0
    octets: int = 0

    def note(self, data: bytes) -> None:
        """Count a datagram of DTLS, RTP or RTCP."""
        self.packets += 1
        self.octets += len(data)


@dataclass(frozen=True, slots=True)
class TransportStats:
    """`transport`: the one path that everything shares. `tls_version` is FEFD for DTLS 1.2, FEFC for 1.3."""

    type: ClassVar[str] = "transport"

    timestamp: Instant
    packets_sent: int
    packets_received: int
    bytes_sent: int
    bytes_received: int
    ice_role: str
    ice_state: str
    ice_local_username_fragment: str
    dtls_state: DtlsState
    dtls_role: str
    tls_version: str | None = None
    dtls_cipher: str | None = None
    dtls_group: str | None = None
    """The group of the key exchange; not in the specification."""
    srtp_cipher: str | None = None
    selected_candidate_pair_id: str | None = None


@dataclass(frozen=True, slots=True)
class CandidatePairStats:
    """`candidate-pair`: the path on which we send."""

    type: ClassVar[str] = "candidate-pair"

    timestamp: Instant
    local_candidate_id: str
    remote_candidate_id: str
    packets_sent: int
    packets_received: int
    bytes_sent: int
    bytes_received: int
    nominated: bool
    current_round_trip_time: float | None
    """Seconds, by our own ICE checks; of a lite agent, which makes none, by what followed its first response."""
    state: str = "succeeded"
    transport_id: str = TRANSPORT_ID


@dataclass(frozen=True, slots=True)
class LocalCandidateStats:
    """`local-candidate`."""

    type: ClassVar[str] = "local-candidate"

    timestamp: Instant
    address: str
    port: int
    protocol: str
    candidate_type: str
    priority: int | None = None
    foundation: str | None = None
    username_fragment: str | None = None
    transport_id: str = TRANSPORT_ID


@dataclass(frozen=True, slots=True)
class RemoteCandidateStats:
    """`remote-candidate`; one that was never signalled is peer-reflexive (RFC 8445 §7.3.1.3)."""

    type: ClassVar[str] = "remote-candidate"

    timestamp: Instant
    address: str
    port: int
    protocol: str
    candidate_type: str
    priority: int | None = None
    foundation: str | None = None
    username_fragment: str | None = None
    transport_id: str = TRANSPORT_ID


@dataclass(frozen=True, slots=True)
class CodecStats:
    """`codec`: how sound is coded; `codec_type` says which way where the two differ."""

    type: ClassVar[str] = "codec"

    timestamp: Instant
    payload_type: int
    mime_type: str
    clock_rate: int
    channels: int
    sdp_fmtp_line: str | None
    codec_type: str | None = None
    transport_id: str = TRANSPORT_ID

    @property
    def id(self) -> str:
        """What the -rtp types refer to."""
        return f"codec-{self.payload_type}" + (f"-{self.codec_type}" if self.codec_type else "")


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """The connection at one moment; what has not begun is None or empty."""

    transport: TransportStats
    candidate_pair: CandidatePairStats | None
    local_candidate: LocalCandidateStats | None
    remote_candidate: RemoteCandidateStats | None
    codecs: tuple[CodecStats, ...]
    rtp: tuple[RtpStatistics, ...]
    """One for each media section."""

    def as_webrtc(self) -> list[dict[str, object]]:
        """Return the dictionaries that a browser's `getStats` would hold, ready for JSON."""
        out = [as_webrtc_object(self.transport, TRANSPORT_ID)]
        if self.candidate_pair is not None:
            out.append(as_webrtc_object(self.candidate_pair, PAIR_ID))
        for candidate in (self.local_candidate, self.remote_candidate):
            if candidate is not None:
                out.append(as_webrtc_object(candidate, candidate.type))
        out += (as_webrtc_object(codec, codec.id) for codec in self.codecs)
        for part in (part for section in self.rtp for part in section.as_webrtc()):
            codec_id = self._codec_of(str(part["type"]))
            out.append(part | {"transportId": TRANSPORT_ID} | ({"codecId": codec_id} if codec_id else {}))
        return out

    def _codec_of(self, part: str) -> str | None:
        way = "encode" if part in ("outbound-rtp", "remote-inbound-rtp") else "decode"
        return next((codec.id for codec in self.codecs if codec.codec_type in (None, way)), None)


class Described(Protocol):
    """What a session must tell for `describe`."""

    parameters: SessionParameters
    security: HandshakeComplete | None
    sent: Traffic
    received: Traffic

    @property
    def path(self) -> Path | None: ...
    @property
    def ice(self) -> IceAgent | LiteAgent: ...
    @property
    def state(self) -> State: ...
    def rtp_statistics(self, now: Instant) -> Sequence[RtpStatistics]: ...


_DTLS_STATES = {
    State.CHECKING: DtlsState.NEW,
    State.HANDSHAKING: DtlsState.CONNECTING,
    State.CONNECTED: DtlsState.CONNECTED,
    State.ENDED: DtlsState.CLOSED,
}


def describe(session: Described, now: Instant) -> SessionStatistics:
    """Return the statistics of a session."""
    transport = _transport(session, now)
    pair = local = remote = None
    path = session.path
    if path is not None:
        local = _local_candidate(session, path, now)
        remote = _remote_candidate(session, path, now)
        pair = CandidatePairStats(
            now,
            local.type,
            remote.type,
            *(transport.packets_sent, transport.packets_received, transport.bytes_sent, transport.bytes_received),
            nominated=session.ice.state is IceState.COMPLETED,
            current_round_trip_time=session.ice.round_trip_time,
        )
    agreed = session.parameters.negotiation
    return SessionStatistics(
        transport,
        pair,
        local,
        remote,
        tuple(codec for line in agreed.audio_lines for codec in _codecs(line, now)),
        tuple(session.rtp_statistics(now)),
    )


def _transport(session: Described, now: Instant) -> TransportStats:
    local, agreed = session.parameters.local, session.parameters.negotiation
    security = session.security
    is_controlling = isinstance(session.ice, IceAgent) and session.ice.controlling  # a role conflict may change it
    return TransportStats(
        timestamp=now,
        packets_sent=session.sent.packets,
        packets_received=session.received.packets,
        bytes_sent=session.sent.octets,
        bytes_received=session.received.octets,
        ice_role="controlling" if is_controlling else "controlled",
        ice_state=session.ice.state.value,
        ice_local_username_fragment=local.ice_ufrag,
        dtls_state=_DTLS_STATES[session.state],
        dtls_role="client" if agreed.dtls_role is DtlsRole.CLIENT else "server",
        tls_version=f"{security.version:04X}" if security is not None else None,
        dtls_cipher=security.cipher_suite.name if security is not None else None,
        dtls_group=security.group.name if security is not None else None,
        srtp_cipher=security.srtp_profile.name if security is not None and security.srtp_profile else None,
        selected_candidate_pair_id=PAIR_ID if session.path is not None else None,
    )


def _local_candidate(session: Described, path: Path, now: Instant) -> LocalCandidateStats:
    local, pair = session.parameters.local, None
    if isinstance(session.ice, IceAgent):
        pair = session.ice.selected_pair
    if isinstance(session.ice, IceAgent) and pair is not None and pair.path == path:
        found: Candidate | None = pair.local
        kind = session.ice.local_type(pair)
    else:
        found = _find(local.candidates, path.local)
        kind = found.type if found is not None else CandidateType.HOST  # the base of one that a 1:1 NAT translates
    return LocalCandidateStats(
        now,
        path.local.host,
        path.local.port,
        path.protocol.value,
        kind.value,
        found.priority if found is not None else None,
        found.foundation if found is not None else None,
        local.ice_ufrag,
    )


def _remote_candidate(session: Described, path: Path, now: Instant) -> RemoteCandidateStats:
    agreed = session.parameters.negotiation
    found = _find(agreed.remote_candidates, path.remote)
    kind = found.type if found is not None else CandidateType.PEER_REFLEXIVE
    return RemoteCandidateStats(
        now,
        path.remote.host,
        path.remote.port,
        path.protocol.value,
        kind.value,
        found.priority if found is not None else None,
        found.foundation if found is not None else None,
        agreed.remote_ice_ufrag,
    )


def _find(lines: Iterable[str], address: Address) -> Candidate | None:
    for line in lines:
        try:
            candidate = Candidate.parse(line)
        except ParseError:
            continue
        if candidate.is_address and candidate.address == address:
            return candidate
    return None


def _codecs(line: AudioLineParameters, now: Instant) -> tuple[CodecStats, ...]:
    """One `codec` if both sides ask for the same under one payload type, else one for each way."""
    sent, received = line

    def codec(audio: AudioParameters, parameters: Mapping[str, str], way: str | None) -> CodecStats:
        mime = f"{audio.kind}/{audio.codec}"
        line = ";".join(f"{name}={value}" if value else name for name, value in parameters.items())
        return CodecStats(now, audio.payload_type, mime, audio.clock_rate, audio.channels, line or None, way)

    if sent.payload_type == received.payload_type and sent.remote_parameters == received.local_parameters:
        return (codec(sent, sent.remote_parameters, None),)
    return codec(sent, sent.remote_parameters, "encode"), codec(received, received.local_parameters, "decode")
