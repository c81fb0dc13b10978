"""Which sections of an offer we take, and the words for those that we don't.

RFC 3264 §6 (a section is declined by itself), 9143 §7.3 (BUNDLE), 8858 (rtcp-mux), 5761 §4 (payload types that
RTCP takes), 8841 §5 (data), 8445 §6.1.1 (lite and lite).

Sound comes by one section that sends and receives, or else by two, one for each direction. A section of sound that
is offered in earnest and cannot be taken is a reason to refuse the whole offer, even beside data: a call that
connects and stays mute tells its caller nothing. For the same reason an offer is refused of which no packet
could ever come: it would be waited for in vain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from re import compile as regexp

from stack.core.errors import ParseError
from stack.sdp.agreement import sctp_port
from stack.sdp.compose import read_own_candidates
from stack.sdp.description import MediaDescription, SessionDescription
from stack.sdp.grammar import CandidateSummary, MediaDirection
from stack.sdp.parameters import (
    CodecDescription,
    LocalAudio,
    LocalParameters,
    NegotiationError,
    NegotiationFailure,
)

_RTP_PROTOCOL = regexp(r"((UDP|TCP)/TLS/)?RTP/S?AVPF?")  # RFC 8829 §5.1.2: all of these mean DTLS-SRTP
_SCTP_PROTOCOL = regexp(r"((UDP|TCP)/)?DTLS/SCTP")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sections of an offer we accept, by index in the order of the offer, and which leads the BUNDLE.

    `audio` has one section, or two that are one voice in each direction, or none. `tagged` is one of those
    accepted, or else a section that we have no use for but whose transport they need. `codec` is the one for
    sound.
    """

    audio: tuple[int, ...]
    data: int | None
    tagged: int
    bundle: tuple[str, ...]
    codec: CodecDescription | None


def choose(offer: SessionDescription, local: LocalParameters) -> Choice:
    """Choose among the sections of a resolved offer; raises `NegotiationError` if no call can come of it."""
    mids = [media.mid for media in offer.media if media.mid is not None]
    if len(mids) != len(set(mids)):
        raise ParseError("two sections with the same mid")
    refusals: list[str] = []
    audio = _choose_audio(offer, local, refusals)
    group = _group(offer, audio[0]) if audio else None
    data = _choose_data(offer, local, group, refusals)
    accepted = [*audio, *(() if data is None else (data,))]
    if not accepted:
        raise _nothing_in_common(offer, refusals)
    group = _group(offer, accepted[0])
    tagged = _choose_tagged(offer, group, accepted)
    leader = offer.media[tagged].mid
    taken = {offer.media[index].mid for index in (*accepted, tagged)}
    bundle = sorted((mid for mid in dict.fromkeys(group) if mid in taken), key=lambda mid: mid != leader)
    codec = None
    if audio and local.audio is not None:
        codec = _common_codec([offer.media[index] for index in audio], local.audio.codecs)
    return Choice(audio, data, tagged, tuple(bundle), codec)


def check_reachable(remote: SessionDescription, local: LocalParameters) -> None:
    """Raise `NegotiationError` if no packet of the peer could reach us, whatever it does.

    Candidates that are missing prove nothing: they may come later, or never, and the first check tells the address
    anyway. It is another matter if the peer says that it has no more: a browser whose policy is "relay" has none
    when its relay does not answer (Firefox says so; Chromium's offer looks like one without candidates).
    Those that are there show every transport of the peer: no client is known that tells TCP ahead of UDP. One that
    is relayed over UDP is as good as any, whatever the client speaks with its relay.
    """
    if remote.is_ice_lite and local.ice_lite:
        # RFC 8445 §6.1.1 lets two lite agents send to default candidates unasked; nothing here sends unasked.
        detail = "both sides are ICE-lite, so neither would send a connectivity check; be a full agent"
        raise NegotiationError(NegotiationFailure.UNREACHABLE, detail)
    lines = any(media.has("candidate") for media in remote.media)
    ended = remote.has("end-of-candidates") or any(media.has("end-of-candidates") for media in remote.media)
    if ended and not lines:  # RFC 8840 §8.2: the peer gathers no more
        raise NegotiationError(NegotiationFailure.UNREACHABLE, "end-of-candidates, and not one candidate")
    theirs = [candidate for media in remote.media for candidate in media.candidate_summaries]
    if ended and not any(candidate.component == 1 for candidate in theirs):
        detail = "no candidate of component 1, and with a=rtcp-mux there is no other (RFC 8445 §13)"
        raise NegotiationError(NegotiationFailure.UNREACHABLE, detail)
    ours = read_own_candidates(local.candidates)
    if not theirs or not ours:
        return
    protocols = [sorted({candidate.transport for candidate in side}) for side in (ours, theirs)]
    if not set(protocols[0]) & set(protocols[1]):
        detail = "no candidate of a transport in common (ours: {}; theirs: {})".format(*map(", ".join, protocols))
        raise NegotiationError(NegotiationFailure.UNREACHABLE, detail)
    if ended:
        _check_families(ours, theirs)
    relayed = all(candidate.kind == "relay" and candidate.is_literal for candidate in theirs)
    if relayed and all(map(_is_loopback, ours)) and not any(map(_is_loopback, theirs)):
        detail = "every candidate is relayed, and no relay elsewhere reaches the loopback address of ours"
        raise NegotiationError(NegotiationFailure.UNREACHABLE, detail)


def _check_families(ours: Sequence[CandidateSummary], theirs: Sequence[CandidateSummary]) -> None:
    """Raise `NegotiationError` if one side has addresses of IPv4 only, and the other of IPv6."""
    families = [{_family(candidate) for candidate in side} for side in (ours, theirs)]
    if None not in families[0] | families[1] and not families[0] & families[1]:
        detail = "no candidate of an address family in common (ours: {}; theirs: {})".format(
            *(", ".join(f"IPv{version}" for version in sorted(filter(None, side))) for side in families)
        )
        raise NegotiationError(NegotiationFailure.UNREACHABLE, detail)


# --- sound -----------------------------------------------------------------------------------------------------


def _choose_audio(offer: SessionDescription, local: LocalParameters, refusals: list[str]) -> tuple[int, ...]:
    """Choose the section that both sends and receives, else two that do so together, else the first of any use."""
    usable: dict[int, MediaDirection] = {}
    is_asked_in_vain = False
    for index, media in enumerate(offer.media):
        if media.kind != "audio":
            continue
        refusal = _refuse_audio(media, local.audio)
        if refusal is not None:
            refusals.append(_words(media, index, refusal))
            is_offered = not media.is_rejected and media.direction is not MediaDirection.INACTIVE
            is_asked_in_vain |= is_offered and local.audio is not None
        elif local.audio is not None:
            usable[index] = local.audio.direction.intersect(media.direction.reversed())
    if is_asked_in_vain and all(offer.media[index].direction is MediaDirection.INACTIVE for index in usable):
        raise _nothing_in_common(offer, refusals)
    if not usable or local.audio is None:
        return ()
    best = max(usable, key=lambda index: usable[index].sends + usable[index].receives)  # the first of the best
    other = _counterpart(offer, usable, best, local.audio.codecs)
    return (best,) if other is None else tuple(sorted((best, other)))


def _counterpart(
    offer: SessionDescription, usable: Mapping[int, MediaDirection], best: int, codecs: Sequence[CodecDescription]
) -> int | None:
    """Return the section that has the direction which the best one lacks, on its transport and with its codec."""
    direction, group = usable[best], _group(offer, best)
    if direction.sends == direction.receives:
        return None
    for index, other in usable.items():
        completes = other is direction.reversed() and offer.media[index].mid in group
        if completes and _common_codec((offer.media[best], offer.media[index]), codecs) is not None:
            return index
    return None


def _common_codec(
    sections: Sequence[MediaDescription], codecs: Sequence[CodecDescription]
) -> CodecDescription | None:
    """Return the first of our codecs that every section offers."""
    for codec in codecs:
        rtp_map = codec.rtp_map
        if all(media.usable_formats(rtp_map) for media in sections):
            return codec
    return None


def _refuse_audio(media: MediaDescription, audio: LocalAudio | None) -> str | None:
    """Return why an offered audio section cannot be accepted; None if it can."""
    if audio is None:
        return "no audio is wanted here"
    if media.is_rejected:
        return "its port is 0"
    if _RTP_PROTOCOL.fullmatch(media.protocol.upper()) is None:
        return f"protocol {media.protocol[:40]} is not RTP over DTLS"
    if not media.has("rtcp-mux"):  # RFC 8858: we have no second port for RTCP
        return "it has no a=rtcp-mux"
    if _common_codec((media,), audio.codecs) is not None:
        return None
    ours = ", ".join(codec.rtp_map.serialize() for codec in audio.codecs)
    offered, usable = media.payload_types, media.usable_payload_types
    theirs = ", ".join(sorted({offered[number].serialize() for number in usable})[:10])
    detail = f"no codec in common (ours: {ours}; theirs: {theirs or 'none'}"
    taken = [f"{m.serialize()} is {n}" for n, m in offered.items() if n not in usable][:10]
    if taken:
        detail += f"; payload types 64 to 95 are taken by RTCP with rtcp-mux (RFC 5761): {', '.join(taken)}"
    return detail + ")"


# --- data, and the transport -----------------------------------------------------------------------------------


def _choose_data(
    offer: SessionDescription, local: LocalParameters, group: tuple[str, ...] | None, refusals: list[str]
) -> int | None:
    """Choose the first data section, on the transport of the sound if there is any."""
    for index, media in enumerate(offer.media):
        if media.kind != "application":
            continue
        refusal = _refuse_data(media, local)
        if refusal is None and group is not None and media.mid not in group:
            refusal = "it is not bundled with the audio"
        if refusal is None:
            return index
        refusals.append(_words(media, index, refusal))
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
    try:
        is_closed = sctp_port(media) == 0  # RFC 8841 §5.3
    except ParseError as error:
        return str(error)
    return "its SCTP port is closed" if is_closed else None


def _choose_tagged(offer: SessionDescription, group: tuple[str, ...], accepted: list[int]) -> int:
    """Return the section that leads the BUNDLE: the first of the group that has an address (RFC 9143 §7.3.1).

    If we have no use for that one, it is kept all the same, idle, because it may be the only one whose transport
    exists: a browser with bundlePolicy max-bundle takes no answer that declines it, and its offer looks like any.
    """
    by_mid = {media.mid: index for index, media in enumerate(offer.media)}
    for index in (by_mid[mid] for mid in group if mid in by_mid):
        media = offer.media[index]
        is_rtp = _RTP_PROTOCOL.fullmatch(media.protocol.upper()) is not None and media.has("rtcp-mux")
        if media.port and (index in accepted or (is_rtp and media.usable_payload_types)):
            return index
    return accepted[0]


def _group(offer: SessionDescription, index: int) -> tuple[str, ...]:
    """Return the BUNDLE group of a section; empty without one."""
    mid = offer.media[index].mid
    return next((mids for mids in offer.bundle_groups if mid in mids), ())


def _nothing_in_common(offer: SessionDescription, refusals: Sequence[str]) -> NegotiationError:
    others = {media.kind for media in offer.media} - {"audio", "application"}
    details = [*refusals, *(f"{kind} is not spoken here" for kind in sorted(others))]
    detail = "; ".join(details) or "the offer has no media section"
    return NegotiationError(NegotiationFailure.NOTHING_IN_COMMON, detail)


def _words(media: MediaDescription, index: int, refusal: str) -> str:
    return f"section {media.mid or index} ({media.kind}): {refusal}"


def _family(candidate: CandidateSummary) -> int | None:
    """Return the version of IP; None for a name, which may stand for either."""
    try:
        return ip_address(candidate.address).version
    except ValueError:
        return None


def _is_loopback(candidate: CandidateSummary) -> bool:
    try:
        return ip_address(candidate.address).is_loopback
    except ValueError:
        return False
