"""Writing our media sections, of an offer or an answer: the same lines in the same order.

RFC 8829 §5.2.1 and §5.3.1, RFC 8839 §4.2, RFC 8841 §5, RFC 9143 §7.1.3, RFC 9429 where it differs from 8829.

Deviations from RFC 9143 §7.1.3, where all of this stands in the BUNDLE-tagged section alone, for peers that read
each section by itself: ICE credentials, fingerprint and setup stand in every section, as browsers write them,
and in those that are declined as well, with one format and its rtpmap (GStreamer, Pion, werift, str0m, webrtc-rs
and aiortc refuse an answer of which a declined section lacks them); candidates stand in every accepted section,
since aiortc with max-bundle takes those of the last. No `a=rtcp`: RTCP always shares the port (rtcp-mux).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stack.core.errors import LocalError, ParseError
from stack.sdp.dcmap import ChannelMap
from stack.sdp.description import MediaDescription, SessionDescription
from stack.sdp.grammar import (
    CandidateSummary,
    Connection,
    ExtMap,
    Group,
    MediaDirection,
    Origin,
    RtpMap,
    SdpAttribute,
    Setup,
    serialize_format_parameters,
)
from stack.sdp.parameters import CodecDescription, LocalAudio, LocalData, LocalParameters

DISCARD_PORT = 9
"""The port of a section whose address is not known yet (RFC 8839 §4.2.1.1 with 8840 §4.1.1)."""
MAX_REMEMBERED = 16
"""Lists of our own candidates of which the default address is remembered: a server has one for all its calls."""


@dataclass(frozen=True, slots=True)
class Format:
    """A payload type with all its lines."""

    payload_type: int
    rtp_map: RtpMap
    parameters: dict[str, str]
    feedback: tuple[str, ...] = ()

    @classmethod
    def of_codec(cls, payload_type: int, codec: CodecDescription, feedback: tuple[str, ...]) -> Format:
        """Return a codec under a payload type."""
        return cls(payload_type, codec.rtp_map, dict(codec.parameters), feedback)

    @classmethod
    def of_red(cls, payload_type: int, around: int, codec: CodecDescription) -> Format:
        """Return redundancy of one generation around a payload type (RFC 2198 §5)."""
        rtp_map = RtpMap("red", codec.clock_rate, codec.channels)
        return cls(payload_type, rtp_map, {f"{around}/{around}": ""})

    @classmethod
    def of_telephone_event(cls, payload_type: int, clock_rate: int) -> Format:
        """Return the sixteen DTMF events (RFC 4733 §2.4.1)."""
        return cls(payload_type, RtpMap("telephone-event", clock_rate), {"0-15": ""})

    def lines(self) -> Iterator[SdpAttribute]:
        """Return its attributes."""
        number = self.payload_type
        yield SdpAttribute("rtpmap", f"{number} {self.rtp_map.serialize()}")
        yield from (SdpAttribute("rtcp-fb", f"{number} {name}") for name in self.feedback)
        if self.parameters:
            yield SdpAttribute("fmtp", f"{number} {serialize_format_parameters(self.parameters)}")


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section of ours stands: its name, its protocol, and our setup role."""

    mid: str | None
    protocol: str
    setup: Setup


@dataclass(frozen=True, slots=True)
class AudioTerms:
    """What an audio section of ours says, after our wishes were held against the offer (if there is one)."""

    formats: tuple[Format, ...]
    extensions: tuple[ExtMap, ...]
    direction: MediaDirection
    rtcp_rsize: bool
    receiver_rtt: bool

    @property
    def red_payload_type(self) -> int | None:
        """The payload type of redundancy; None without it."""
        return next((each.payload_type for each in self.formats if each.rtp_map.encoding == "red"), None)


def audio_section(
    local: LocalParameters, audio: LocalAudio, section: Section, terms: AudioTerms
) -> MediaDescription:
    """Return an audio section of ours."""
    attributes = list(_transport(local, section))
    attributes.append(SdpAttribute(terms.direction.value))
    if terms.direction.sends:  # RFC 8829 §5.2.1; clients play event.streams[0]
        attributes.append(SdpAttribute("msid", audio.msid.serialize()))
    attributes.append(SdpAttribute("rtcp-mux"))
    if terms.rtcp_rsize:
        attributes.append(SdpAttribute("rtcp-rsize"))
    if terms.receiver_rtt:
        attributes.append(SdpAttribute("rtcp-xr", "rcvr-rtt=all"))
    attributes += (SdpAttribute("extmap", extension.serialize()) for extension in terms.extensions)
    for entry in terms.formats:
        attributes += entry.lines()
    if audio.ptime is not None:
        attributes.append(SdpAttribute("ptime", str(audio.ptime)))
    if terms.direction.sends:
        attributes.append(SdpAttribute("ssrc", f"{audio.ssrc} cname:{audio.cname}"))
    formats = tuple(str(entry.payload_type) for entry in terms.formats)
    return _section("audio", section.protocol, formats, attributes, local)


def data_section(
    local: LocalParameters,
    data: LocalData,
    section: Section,
    *,
    sctp_init: bool,
    sctpmap: bool = False,
    channels: Sequence[ChannelMap] = (),
) -> MediaDescription:
    """Return a data channel section of ours; `sctpmap`: in the form from before RFC 8841, for such a peer."""
    attributes = list(_transport(local, section))
    if sctpmap:
        attributes.append(SdpAttribute("sctpmap", f"{data.sctp_port} webrtc-datachannel 1024"))
    else:
        attributes.append(SdpAttribute("sctp-port", str(data.sctp_port)))
    attributes.append(SdpAttribute("max-message-size", str(data.max_message_size)))
    if sctp_init and data.sctp_init is not None:  # draft-hancke-tsvwg-snap
        attributes.append(SdpAttribute("sctp-init", b64encode(data.sctp_init).decode()))
    attributes += [SdpAttribute("dcmap", each.serialize()) for each in channels]  # RFC 8864 §5.1
    formats = (str(data.sctp_port),) if sctpmap else ("webrtc-datachannel",)
    return _section("application", section.protocol, formats, attributes, local)


def idle_section(local: LocalParameters, offered: MediaDescription, section: Section) -> MediaDescription:
    """Return the answer to a section of which we want the transport only: its first format, both ways inactive."""
    kept = _first_format(offered)
    attributes = [*_transport(local, section), SdpAttribute("inactive"), SdpAttribute("rtcp-mux"), *kept.lines()]
    return _section(offered.kind, section.protocol, (str(kept.payload_type),), attributes, local)


def rejected_section(local: LocalParameters, offered: MediaDescription, section: Section) -> MediaDescription:
    """Return the answer to a section that we decline: port 0 (RFC 3264 §6), with what peers read all the same."""
    attributes = [*_transport(local, section, declined=True), SdpAttribute("inactive")]
    formats = offered.formats or ("0",)  # RFC 8866 §9: one at least, even where the offer had none
    if offered.payload_types:
        kept = _first_format(offered)
        formats = (str(kept.payload_type),)
        if offered.has("rtcp-mux"):  # RFC 5761 §5.1.1: never in an answer alone
            attributes.append(SdpAttribute("rtcp-mux"))
        attributes += kept.lines()
    elif offered.has("sctp-port"):
        attributes.append(SdpAttribute("sctp-port", str((local.data or LocalData()).sctp_port)))
    return MediaDescription(offered.kind, 0, offered.protocol, formats, Connection(), tuple(attributes))


def _first_format(offered: MediaDescription) -> Format:
    """Return the first format of an offered section that has a meaning, one beside RTCP if there is any."""
    number, rtp_map = next(iter((offered.usable_payload_types or offered.payload_types).items()))
    return Format(number, rtp_map, offered.format_parameters(number))


def session(
    local: LocalParameters,
    media: Sequence[MediaDescription],
    bundle: Sequence[str],
    options: Sequence[str],
    *,
    mixed: bool,
) -> SessionDescription:
    """Return a description of ours around its media sections."""
    attributes = []
    if bundle:
        attributes.append(SdpAttribute("group", Group("BUNDLE", tuple(bundle)).serialize()))
    if local.ice_lite:
        attributes.append(SdpAttribute("ice-lite"))
    if options:
        attributes.append(SdpAttribute("ice-options", " ".join(options)))
    if mixed:  # RFC 8285 §6
        attributes.append(SdpAttribute("extmap-allow-mixed"))
    attributes.append(SdpAttribute("msid-semantic", "WMS *"))  # what a=msid needed before RFC 8830; ignored since
    return SessionDescription(Origin(local.session_id, local.session_version), tuple(media), tuple(attributes))


def _transport(local: LocalParameters, section: Section, *, declined: bool = False) -> Iterator[SdpAttribute]:
    if section.mid is not None:
        yield SdpAttribute("mid", section.mid)
    yield SdpAttribute("ice-ufrag", local.ice_ufrag)
    yield SdpAttribute("ice-pwd", local.ice_pwd)
    yield SdpAttribute("fingerprint", local.fingerprint.serialize())
    yield SdpAttribute("setup", section.setup.value)
    if not declined:
        yield from _candidate_lines(local.candidates)
        if local.end_of_candidates:
            yield SdpAttribute("end-of-candidates")


@lru_cache(MAX_REMEMBERED)
def _candidate_lines(candidates: tuple[str, ...]) -> Sequence[SdpAttribute]:
    return tuple(SdpAttribute("candidate", candidate.removeprefix("candidate:")) for candidate in candidates)


def _section(
    kind: str, protocol: str, formats: tuple[str, ...], attributes: list[SdpAttribute], local: LocalParameters
) -> MediaDescription:
    port, connection = _default_address(local.candidates)
    return MediaDescription(kind, port, protocol, formats, connection, tuple(attributes))


@lru_cache(MAX_REMEMBERED)
def read_own_candidates(candidates: tuple[str, ...]) -> Sequence[CandidateSummary]:
    """Read candidates of ours; raises `LocalError` if one is none."""
    try:
        return tuple(CandidateSummary.parse(candidate) for candidate in candidates)
    except ParseError as error:
        raise LocalError(f"a candidate of ours: {error}") from error


@lru_cache(MAX_REMEMBERED)
def _default_address(candidates: tuple[str, ...]) -> tuple[int, Connection]:
    """Return port and c= line of the default candidate: the one most likely to work (RFC 8839 §4.2.1.2)."""
    parsed = read_own_candidates(candidates)
    usable = [c for c in parsed if c.component == 1 and c.transport == "udp" and c.is_literal]
    for kind in ("relay", "srflx", "host"):
        for candidate in usable:
            if candidate.kind == kind:
                return candidate.port, Connection(candidate.address)
    return DISCARD_PORT, Connection()
