"""Offer in, answer out: pure functions between descriptions.

RFC 3264 (the model), 8829 §5.3 and §5.10 (answers), 9143 §7.3 (BUNDLE), 8842 (DTLS), 8839 §4 (ICE), 8445 §6.1.1
(roles), 8858 (rtcp-mux), 8841 (data channels), 8285 §6 and 9143 §15 (header extensions), 5761.

One transport, so one audio section at most and one data section, bundled; whatever else is offered is declined
with port 0. What the answer says follows from the offer and our wishes; what was agreed (`AudioParameters`,
`DataParameters`) is then read off the pair of descriptions, the same way for both roles: `agreement.py`.

Left out: video, re-use of a transport across several sessions, tls-id (every handshake of ours is a new one; a
restarted one is seen by its fingerprint), header extensions offered in one direction only, RTP without mux.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from re import compile as regexp

from stack.core.errors import LocalError, ParseError
from stack.sdp import compose
from stack.sdp.agreement import Agreement, allows_mixed, offers_receiver_rtt, remote_transport, sctp_port
from stack.sdp.description import MediaDescription, SessionDescription
from stack.sdp.grammar import ExtMap, MediaDirection, RtpMap, Setup
from stack.sdp.parameters import (
    Codec,
    DtlsRole,
    LocalAudio,
    LocalParameters,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
)

_RTP_PROTOCOL = regexp(r"((UDP|TCP)/TLS/)?RTP/S?AVPF?")  # RFC 8829 §5.1.2: all of these mean DTLS-SRTP
_SCTP_PROTOCOL = regexp(r"((UDP|TCP)/)?DTLS/SCTP")
_OFFERED_AUDIO_PROTOCOL = "UDP/TLS/RTP/SAVPF"
_OFFERED_DATA_PROTOCOL = "UDP/DTLS/SCTP"
_ALWAYS_ANSWERED_ICE_OPTIONS = ("ice2", "trickle")
_MAX_EXTENSION_ID = 255
"""Ids above are placeholders for the answerer to replace (RFC 8285 §7): we never do."""


def negotiate(offer: SessionDescription, local: LocalParameters) -> Negotiation:
    """Answer an offer; raises `NegotiationError` if no call can come of it."""
    try:
        return _negotiate(offer.resolved(), local)
    except ParseError as error:
        raise NegotiationError(NegotiationFailure.MALFORMED, f"in the offer: {error}") from error


def create_offer(local: LocalParameters, *, audio: bool = True, data: bool = True) -> SessionDescription:
    """Return an offer of everything that `local` brings; sound is section 0, data the one after."""
    sections: list[MediaDescription] = []
    if audio and local.audio is not None:
        place = compose.Section("0", _OFFERED_AUDIO_PROTOCOL, Setup.ACTPASS, is_tagged=True)
        sections.append(compose.audio_section(local, local.audio, place, _offered_terms(local.audio)))
    if data and local.data is not None:
        mid = str(len(sections))
        place = compose.Section(mid, _OFFERED_DATA_PROTOCOL, Setup.ACTPASS, is_tagged=not sections)
        sections.append(compose.data_section(local, local.data, place, sctp_init=True))
    if not sections:
        raise LocalError("an offer needs audio or data")
    mids = [str(index) for index in range(len(sections))]
    return compose.session(local, sections, mids, local.ice_options, mixed=True)


def accept_answer(offer: SessionDescription, answer: SessionDescription, local: LocalParameters) -> Negotiation:
    """Take the answer to an offer of ours; raises `NegotiationError` if it does not fit or leaves nothing."""
    try:
        return _accept_answer(offer.resolved(), answer.resolved(), answer, local)
    except ParseError as error:
        raise NegotiationError(NegotiationFailure.MALFORMED, f"in the answer: {error}") from error


# --- answering -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which sections of an offer we accept, by index, and which of them leads the BUNDLE.

    `tagged` is `audio` or `data`, or else a section that we have no use for but whose transport they need.
    """

    audio: int | None
    data: int | None
    tagged: int
    bundle: tuple[str, ...]


def _negotiate(offer: SessionDescription, local: LocalParameters) -> Negotiation:
    choice = _choose(offer, local)
    transport = remote_transport(offer, offer.media[choice.tagged])
    setup = _answered_setup(transport.setup, local.setup)
    sections: list[MediaDescription] = []
    for index, offered in enumerate(offer.media):
        place = compose.Section(offered.mid, offered.protocol, setup, is_tagged=index == choice.tagged)
        if index == choice.audio and local.audio is not None:
            terms = _answered_terms(offered, local.audio)
            sections.append(compose.audio_section(local, local.audio, place, terms))
        elif index == choice.data and local.data is not None:
            init, old = offered.has("sctp-init"), offered.has("sctpmap") and not offered.has("sctp-port")
            sections.append(compose.data_section(local, local.data, place, sctp_init=init, sctpmap=old))
        elif index == choice.tagged:
            sections.append(compose.idle_section(local, offered, place))
        else:
            sections.append(compose.rejected_section(offered))
    options = [o for o in local.ice_options if o in _ALWAYS_ANSWERED_ICE_OPTIONS or o in transport.ice_options]
    mixed = choice.audio is not None and allows_mixed(offer, offer.media[choice.audio])
    answer = compose.session(local, sections, choice.bundle, options, mixed=mixed)
    # RFC 8445 §6.1.1: the offerer controls, unless it is lite and we are not
    controlling = offer.is_ice_lite and not local.ice_lite
    agreement = Agreement(answer, offer, answer, transport, choice.audio, choice.data, mixed)
    role = DtlsRole.CLIENT if setup is Setup.ACTIVE else DtlsRole.SERVER
    return agreement.negotiation(answer, role, ice_controlling=controlling)


def _choose(offer: SessionDescription, local: LocalParameters) -> _Choice:
    """Pick the first audio section that we can speak, and the first data section on the same transport."""
    mids = [media.mid for media in offer.media if media.mid is not None]
    if len(mids) != len(set(mids)):
        raise ParseError("two sections with the same mid")
    refusals: list[str] = []
    audio = data = None
    group: tuple[str, ...] | None = None
    for wanted in ("audio", "application"):
        for index, media in enumerate(offer.media):
            if media.kind != wanted:
                continue
            refusal = _refuse_audio(media, local) if wanted == "audio" else _refuse_data(media, local)
            if refusal is None and group is not None and media.mid not in group:
                refusal = "it is not bundled with the audio"
            if refusal is not None:
                refusals.append(f"section {media.mid or index} ({media.kind}): {refusal}")
                continue
            group = next((mids for mids in offer.bundle_groups if media.mid in mids), ())
            audio, data = (index, data) if wanted == "audio" else (audio, index)
            break
    accepted = [index for index in (audio, data) if index is not None]
    if not accepted or group is None:
        others = {media.kind for media in offer.media} - {"audio", "application"}
        refusals += [f"{kind} is not spoken here" for kind in sorted(others)]
        detail = "; ".join(refusals) or "the offer has no media section"
        raise NegotiationError(NegotiationFailure.NOTHING_IN_COMMON, detail)
    tagged = _choose_tagged(offer, group, accepted)
    leader = offer.media[tagged].mid
    taken = {offer.media[index].mid for index in (*accepted, tagged)}
    bundle = sorted((mid for mid in dict.fromkeys(group) if mid in taken), key=lambda mid: mid != leader)
    return _Choice(audio, data, tagged, tuple(bundle))


def _choose_tagged(offer: SessionDescription, group: tuple[str, ...], accepted: list[int]) -> int:
    """Return the section that leads the BUNDLE: the first of the group that has an address (RFC 9143 §7.3.1).

    If we have no use for that one, it is kept all the same, idle, because it may be the only one whose transport
    exists: a browser with bundlePolicy max-bundle takes no answer that declines it, and its offer looks like any.
    """
    by_mid = {media.mid: index for index, media in enumerate(offer.media)}
    for index in (by_mid[mid] for mid in group if mid in by_mid):
        media = offer.media[index]
        is_rtp = _RTP_PROTOCOL.fullmatch(media.protocol.upper()) is not None
        if media.port and (index in accepted or (is_rtp and media.payload_types and media.has("rtcp-mux"))):
            return index
    return accepted[0]


def _refuse_audio(media: MediaDescription, local: LocalParameters) -> str | None:
    """Return why an offered audio section cannot be accepted; None if it can."""
    if local.audio is None:
        return "no audio is wanted here"
    if media.is_rejected:
        return "its port is 0"
    if _RTP_PROTOCOL.fullmatch(media.protocol.upper()) is None:
        return f"protocol {media.protocol[:40]} is not RTP over DTLS"
    if not media.has("rtcp-mux"):  # RFC 8858: we have no second port for RTCP
        return "it has no a=rtcp-mux"
    if _match_codec(media, local.audio.codecs) is None:
        ours = ", ".join(codec.encoding for codec in local.audio.codecs)
        theirs = ", ".join(sorted({rtp_map.encoding for rtp_map in media.payload_types.values()})[:10])
        return f"no codec in common (ours: {ours}; theirs: {theirs or 'none'})"
    return None


def _refuse_data(media: MediaDescription, local: LocalParameters) -> str | None:
    """Return why an offered application section cannot be accepted; None if it can."""
    if local.data is None:
        return "no data channels are wanted here"
    if media.is_rejected:
        return "its port is 0"
    if _SCTP_PROTOCOL.fullmatch(media.protocol.upper()) is None:
        return f"protocol {media.protocol[:40]} is not SCTP over DTLS"
    if "webrtc-datachannel" not in media.formats and not media.has("sctpmap"):
        return "it does not carry webrtc-datachannel"
    if sctp_port(media) == 0:  # RFC 8841 §5.3
        return "its SCTP port is closed"
    return None


def _match_codec(media: MediaDescription, codecs: Sequence[Codec]) -> tuple[int, Codec] | None:
    """Return the first of our codecs that a section offers, with the payload type that it has there."""
    offered = media.payload_types
    for codec in codecs:
        for payload_type, rtp_map in offered.items():
            if rtp_map.matches(codec.rtp_map):
                return payload_type, codec
    return None


def _find(media: MediaDescription, rtp_map: RtpMap) -> Iterator[int]:
    return (number for number, candidate in media.payload_types.items() if candidate.matches(rtp_map))


def _answered_terms(offered: MediaDescription, audio: LocalAudio) -> compose.AudioTerms:
    """Hold our wishes against an offered section that has a codec of ours."""
    matched = _match_codec(offered, audio.codecs)
    if matched is None:  # `_refuse_audio` has seen to it
        raise LocalError("no codec in common")
    payload_type, codec = matched
    extensions = tuple(_answered_extensions(offered, audio.extensions))
    offered_feedback = offered.rtcp_feedback(payload_type)
    feedback = tuple(name for name in audio.rtcp_feedback if name in offered_feedback)
    formats = [compose.Format.of_codec(payload_type, codec, feedback)]
    if audio.red:
        red = RtpMap("red", codec.clock_rate, codec.channels)
        around = f"{payload_type}/{payload_type}"
        for number in _find(offered, red):
            if around in offered.format_parameters(number):
                formats.insert(0, compose.Format.of_red(number, payload_type, codec))
                break
    if audio.telephone_event:
        events = next(_find(offered, RtpMap("telephone-event", codec.clock_rate)), None)
        if events is not None:
            formats.append(compose.Format.of_telephone_event(events, codec.clock_rate))
    return compose.AudioTerms(
        tuple(formats),
        extensions,
        audio.direction.intersect(offered.direction.reversed()),
        rtcp_rsize=offered.has("rtcp-rsize"),
        receiver_rtt=audio.receiver_rtt and offers_receiver_rtt(offered),
    )


def _answered_extensions(offered: MediaDescription, wanted: Sequence[str]) -> Iterator[ExtMap]:
    """Return the header extensions that we take, under the ids of the offer and in its order (RFC 8285 §6)."""
    ids: set[int] = set()
    uris: set[str] = set()
    for extension in offered.extensions:
        usable = 1 <= extension.id <= _MAX_EXTENSION_ID and extension.direction is MediaDirection.SENDRECV
        if usable and extension.uri in wanted and extension.id not in ids and extension.uri not in uris:
            yield extension
        ids.add(extension.id)
        uris.add(extension.uri)


def _answered_setup(offered: Setup | None, preferred: Setup) -> Setup:
    """Return our side of a=setup (RFC 5763 §5); without one in the offer, the offerer is active (RFC 4145 §4)."""
    match offered:
        case Setup.ACTPASS:
            return preferred
        case Setup.ACTIVE | None:
            return Setup.PASSIVE
        case Setup.PASSIVE:
            return Setup.ACTIVE
    raise NegotiationError(NegotiationFailure.SETUP_CONFLICT, "the offer says setup:holdconn")


# --- offering --------------------------------------------------------------------------------------------------


def _offered_terms(audio: LocalAudio) -> compose.AudioTerms:
    """Give every codec, its redundancy and its telephone events a payload type."""
    fixed = {"PCMU": 0, "PCMA": 8}
    free = iter(range(111, 128))
    formats: list[compose.Format] = []
    for codec in audio.codecs:
        payload_type = fixed.get(codec.encoding.upper())
        if payload_type is None:
            payload_type = next(free)
        if audio.red and payload_type not in fixed.values():
            formats.append(compose.Format.of_red(next(free), payload_type, codec))
        formats.append(compose.Format.of_codec(payload_type, codec, audio.rtcp_feedback))
    if audio.telephone_event:
        rates = dict.fromkeys(codec.clock_rate for codec in audio.codecs)
        formats += [compose.Format.of_telephone_event(next(free), rate) for rate in rates]
    extensions = tuple(ExtMap(number, uri) for number, uri in enumerate(audio.extensions, start=1))
    return compose.AudioTerms(
        tuple(formats), extensions, audio.direction, rtcp_rsize=True, receiver_rtt=audio.receiver_rtt
    )


def _accept_answer(
    offer: SessionDescription, answer: SessionDescription, original: SessionDescription, local: LocalParameters
) -> Negotiation:
    """Hold an answer against our offer; both are resolved, `original` is the answer as it came."""
    if len(answer.media) != len(offer.media):
        detail = f"it has {len(answer.media)} media sections, the offer has {len(offer.media)}"
        raise NegotiationError(NegotiationFailure.ANSWER_MISMATCH, detail)
    accepted: dict[str, int] = {}
    for index, (offered, answered) in enumerate(zip(offer.media, answer.media, strict=True)):
        if offered.kind != answered.kind or (answered.mid or offered.mid) != offered.mid:
            detail = f"section {index} is {answered.kind} {answered.mid}, not {offered.kind} {offered.mid}"
            raise NegotiationError(NegotiationFailure.ANSWER_MISMATCH, detail)
        if not answered.is_rejected and offered.mid is not None:
            accepted[offered.mid] = index
    if not accepted:
        raise NegotiationError(NegotiationFailure.NOTHING_IN_COMMON, "the answer declines every section")
    bundle = next(iter(answer.bundle_groups), tuple(accepted)[:1])
    if not accepted.keys() <= set(bundle):
        raise NegotiationError(NegotiationFailure.NOT_BUNDLED, "the answer wants more than one transport")
    tagged = next((accepted[mid] for mid in bundle if mid in accepted), 0)
    transport = remote_transport(answer, answer.media[tagged])
    setup = transport.setup or Setup.PASSIVE  # the default of an answer (RFC 4145 §4)
    if setup not in (Setup.ACTIVE, Setup.PASSIVE):
        raise NegotiationError(NegotiationFailure.SETUP_CONFLICT, f"the answer says setup:{setup.value}")
    by_kind = {offer.media[index].kind: index for index in accepted.values()}
    audio = by_kind.get("audio")
    if audio is not None and not answer.media[audio].has("rtcp-mux"):  # RFC 8858: we offer nothing else
        raise NegotiationError(NegotiationFailure.ANSWER_MISMATCH, "the answer has no a=rtcp-mux")
    mixed = audio is not None and allows_mixed(answer, answer.media[audio])
    # RFC 8445 §6.1.1: the offerer controls, unless it is lite and the answerer is not
    controlling = answer.is_ice_lite or not local.ice_lite
    agreement = Agreement(offer, answer, answer, transport, audio, by_kind.get("application"), mixed)
    role = DtlsRole.SERVER if setup is Setup.ACTIVE else DtlsRole.CLIENT
    return agreement.negotiation(original, role, ice_controlling=controlling)
