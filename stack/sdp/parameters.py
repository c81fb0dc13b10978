"""What goes into a negotiation and what comes out of it, as plain values.

`LocalParameters` is what our side brings: credentials, certificate, candidates, codecs and wishes. `Negotiation`
is what both sides agreed on, seen from our side: it is all that a session needs to be built, here or in another
process (`to_json`, `from_json`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, NamedTuple, Self

import msgspec

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, RemoteError
from stack.core.header_extensions import URI_AUDIO_LEVEL
from stack.core.values import from_json, to_json
from stack.sdp.dcmap import ChannelMap
from stack.sdp.description import SessionDescription
from stack.sdp.grammar import MediaDirection, Msid, RtpMap, Setup

UNLIMITED_MESSAGE_SIZE = 0
"""The value of max-message-size that means any size (RFC 8841 §6.1)."""
DEFAULT_MAX_MESSAGE_SIZE = 65_536
"""What a peer takes that says nothing (RFC 8841 §6.1)."""


class NegotiationFailure(Enum):
    """Why an offer or an answer could not be taken."""

    NOTHING_IN_COMMON = "nothing in common"
    NO_ICE_CREDENTIALS = "no ICE credentials"
    NO_FINGERPRINT = "no fingerprint"
    SETUP_CONFLICT = "setup conflict"
    NOT_BUNDLED = "not bundled"
    ANSWER_MISMATCH = "the answer does not fit the offer"
    UNREACHABLE = "no way to connect"
    CANNOT_CHANGE = "a connection that is up cannot be changed so"
    MALFORMED = "malformed"


class NegotiationError(RemoteError):
    """The peer's description is well-formed, but no call can come of it; `failure` says why in one word."""

    def __init__(self, failure: NegotiationFailure, detail: str) -> None:
        super().__init__(f"{failure.value}: {detail}")
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class CodecDescription:
    """A codec that we speak; `parameters` (fmtp) say what we want to receive."""

    encoding: str
    clock_rate: int
    channels: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def rtp_map(self) -> RtpMap:
        """The codec as it stands in an a=rtpmap line."""
        return RtpMap(self.encoding, self.clock_rate, self.channels)


def opus(*, stereo: bool = False, inband_fec: bool = True, dtx: bool = False) -> CodecDescription:
    """Return Opus with what we want to receive (RFC 7587 §6.1); its rtpmap says two channels in any case (§7)."""
    parameters = {"minptime": "10", "useinbandfec": "1" if inband_fec else "0"}
    if stereo:
        parameters |= {"stereo": "1", "sprop-stereo": "1"}
    if dtx:
        parameters |= {"usedtx": "1"}
    return CodecDescription("opus", 48000, 2, parameters)


OPUS = opus()
PCMU = CodecDescription("PCMU", 8000)
PCMA = CodecDescription("PCMA", 8000)


@dataclass(frozen=True, slots=True)
class LocalAudio:
    """What we bring to an audio section; codecs, and header extensions by URI, in order of preference.

    `red` asks for RFC 2198 redundancy around the codec and lists it first, because a browser uses it only then.
    `telephone_event` is taken at the codec's clock rate only (RFC 4733 §2.1). `ptime` is in milliseconds.
    """

    ssrc: int
    cname: str
    stream_id: str = "voice"
    track_id: str = "audio"
    direction: MediaDirection = MediaDirection.SENDRECV
    codecs: tuple[CodecDescription, ...] = (OPUS, PCMU, PCMA)
    extensions: tuple[str, ...] = (URI_AUDIO_LEVEL,)
    rtcp_feedback: tuple[str, ...] = ("nack",)
    red: bool = False
    telephone_event: bool = True
    receiver_rtt: bool = True
    ptime: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ssrc <= 0xFFFFFFFF or not self.codecs:
            raise LocalError("audio needs an SSRC of 32 bits and at least one codec")

    @property
    def msid(self) -> Msid:
        """The stream and track that our sound belongs to."""
        return Msid(self.stream_id, self.track_id)


@dataclass(frozen=True, slots=True)
class LocalData:
    """What we bring to a data channel section; `sctp_init` is our INIT chunk, for a peer that shows its own.

    `channels` are those that our offer names; an answer takes the ones of the offer.
    """

    sctp_port: int = 5000
    max_message_size: int = 262_144
    sctp_init: bytes | None = None
    channels: tuple[ChannelMap, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalParameters:
    """What our side brings to a negotiation.

    Each of `candidates` reads `candidate:…` (RFC 8839 §5.1). `setup` is what we answer to an offer that leaves it
    to us (PASSIVE: we are the DTLS server); every offer of ours says actpass (RFC 8842 §5.2). `audio` or `data`
    None: such sections are declined. `ice_options` other than trickle and ice2 are answered only when offered.
    """

    ice_ufrag: str
    ice_pwd: str
    fingerprint: CertificateFingerprint
    session_id: int
    session_version: int = 1
    candidates: tuple[str, ...] = ()
    end_of_candidates: bool = True
    ice_lite: bool = False
    bases: tuple[str, ...] = ()
    """Candidates that a full agent of ours checks from where a 1:1 NAT stands in front and `candidates` name its
    addresses (RFC 8445 §5.1.1.2); they are not signalled. Empty: it checks from `candidates`."""
    ice_options: tuple[str, ...] = ("ice2", "trickle")
    setup: Setup = Setup.PASSIVE
    audio: LocalAudio | None = None
    data: LocalData | None = field(default_factory=LocalData)

    def __post_init__(self) -> None:
        if not (4 <= len(self.ice_ufrag) <= 256 and 22 <= len(self.ice_pwd) <= 256):
            raise LocalError("an ICE ufrag has 4 to 256 characters, a password 22 to 256 (RFC 8839 §5.4)")
        if self.setup not in (Setup.ACTIVE, Setup.PASSIVE):
            raise LocalError("our side of a=setup is active or passive")

    def to_json(self) -> str:
        """Return everything as JSON text. It holds our ICE password: treat it as a secret."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; raises `ParseError` for anything else."""
        local = from_json(cls, text)
        local.check()
        return local

    def check(self) -> None:
        """Raise `ParseError` if its text is not SDP."""
        CertificateFingerprint.parse(self.fingerprint.serialize())


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="section"):
    """An agreed section. Its JSON names its kind, because JSON knows no types."""


class AudioParameters(_Section, frozen=True, tag="audio"):
    """An agreed audio section. Directions and payload types hold both ways: we answer with those of the offer.

    `local_parameters` (fmtp) is what we asked to receive, `remote_parameters` what the peer asks us to send.
    Times are in milliseconds. `remote_ssrc` is what the description names, often nothing.
    """

    kind: ClassVar[str] = "audio"

    mid: str | None
    payload_type: int
    codec: str
    clock_rate: int
    channels: int
    direction: MediaDirection
    local_parameters: Mapping[str, str]
    remote_parameters: Mapping[str, str]
    red_payload_type: int | None = None
    telephone_event_payload_type: int | None = None
    extensions: Mapping[str, int] = msgspec.field(default_factory=dict)
    extmap_allow_mixed: bool = False
    rtcp_feedback: tuple[str, ...] = ()
    rtcp_rsize: bool = False
    receiver_rtt: bool = False
    remote_ssrc: int | None = None
    remote_cname: str | None = None
    remote_msid: Msid | None = None
    ptime: int | None = None
    max_ptime: int | None = None


class AudioLineParameters(NamedTuple):
    """The section by which the sound of one line is sent, and the one by which it comes: mostly the same."""

    sent: AudioParameters
    received: AudioParameters

    @property
    def sections(self) -> tuple[AudioParameters, ...]:
        """Both, or the one."""
        return (self.sent,) if self.received is self.sent else (self.sent, self.received)

    def has_feedback(self, name: str) -> bool:
        """Return True if a kind of RTCP feedback was agreed on for the whole line."""
        return all(name in section.rtcp_feedback for section in self.sections)


class DataParameters(_Section, frozen=True, tag="data"):
    """An agreed data channel section.

    `remote_max_message_size` is what the peer takes, in bytes; 0: any size. With both INIT chunks exchanged in
    the descriptions (`remote_sctp_init` is the peer's) the association needs no handshake. `channels` are open
    from its beginning (RFC 8864); `channels_by_peer`: the peer's offer has named them.
    """

    mid: str | None
    remote_sctp_port: int
    remote_max_message_size: int
    remote_sctp_init: bytes | None = None
    channels: tuple[ChannelMap, ...] = ()
    channels_by_peer: bool = False


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What both sides agreed on; `answer` is ours to send, or the one that we accepted.

    `media` has the accepted sections in the order of the description: at most one for data, and for sound one or a
    pair of which each has its own direction. `remote_ice_pwd` is empty where a ticket made the session, whose
    `answer` is no more than an outline (`stack.session.ticket_terms`). `ignored` counts the
    lines of the peer's description that were passed over (`SessionDescription.ignored`).
    """

    answer: SessionDescription
    remote_ice_ufrag: str
    remote_ice_pwd: str
    remote_ice_lite: bool
    remote_ice_options: tuple[str, ...]
    remote_fingerprints: tuple[CertificateFingerprint, ...]
    remote_candidates: tuple[str, ...]
    remote_end_of_candidates: bool
    ice_controlling: bool
    dtls_role: DtlsRole
    media: tuple[AudioParameters | DataParameters, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def audio_lines(self) -> tuple[AudioLineParameters, ...]:
        """The lines of sound, each by one section or by two that share the directions between them."""
        lines: list[AudioLineParameters] = []
        left = [section for section in self.media if isinstance(section, AudioParameters)]
        while left:
            sent = next((section for section in left if section.direction.sends), left[0])
            receiving = [section for section in left if section.direction.receives]
            received = sent if sent in receiving or not receiving else receiving[0]
            lines.append(AudioLineParameters(sent, received))
            left = [section for section in left if section is not sent and section is not received]
        return tuple(lines)

    @property
    def audio(self) -> AudioParameters | None:
        """The section by which we send the sound of the first line; None without sound."""
        return next((line.sent for line in self.audio_lines), None)

    @property
    def received_audio(self) -> AudioParameters | None:
        """The section by which the sound of the first line comes; None without sound."""
        return next((line.received for line in self.audio_lines), None)

    @property
    def data(self) -> DataParameters | None:
        """The section of the data channels; None without them."""
        return next((section for section in self.media if isinstance(section, DataParameters)), None)

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; raises `ParseError` for anything else."""
        negotiation = from_json(cls, text)
        negotiation.check()
        return negotiation

    def check(self) -> None:
        """Raise `ParseError` if its text is not SDP."""
        SessionDescription.parse(self.answer.serialize())
        for fingerprint in self.remote_fingerprints:
            CertificateFingerprint.parse(fingerprint.serialize())
