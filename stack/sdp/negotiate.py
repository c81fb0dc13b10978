"""Offer in, answer out: pure functions between descriptions.

RFC 3264 (the model), 8829 §5.3 and §5.10 (answers), 9143 §7.3 (BUNDLE), 8842 (DTLS), 8839 §4 (ICE), 8445 §6.1.1
(roles), 8841 (data channels), 8285 §6 and 9143 §15 (header extensions).

One transport, so one voice each way (one audio section, or a pair of which each has its own direction) and one
data section, bundled; whatever else is offered is declined with port 0: `choice.py`. What the answer says
follows from the offer and our wishes; what was agreed (`AudioParameters`, `DataParameters`) is then read off the
pair of descriptions, the same way for both roles: `agreement.py`.

Left out: video, re-use of a transport across several sessions, tls-id (every handshake of ours is a new one; a
restarted one is seen by its fingerprint), header extensions offered in one direction only, RTP without mux.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, ParseError
from stack.core.header_extensions import URI_MID
from stack.sdp import compose
from stack.sdp.agreement import (
    Agreement,
    allows_mixed,
    channel_maps,
    offers_receiver_rtt,
    remote_transport,
    sctp_init,
)
from stack.sdp.choice import Choice, check_reachable, choose
from stack.sdp.description import MediaDescription, SessionDescription
from stack.sdp.grammar import STATIC_PAYLOAD_TYPES, ExtMap, MediaDirection, RtpMap, Setup
from stack.sdp.parameters import (
    CodecDescription,
    LocalAudio,
    LocalParameters,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
)

_OFFERED_AUDIO_PROTOCOL = "UDP/TLS/RTP/SAVPF"
_OFFERED_DATA_PROTOCOL = "UDP/DTLS/SCTP"
_ALWAYS_ANSWERED_ICE_OPTIONS = ("ice2", "trickle")
_MAX_EXTENSION_ID = 255
"""Ids above are placeholders for the answerer to replace (RFC 8285 §7): we never do."""


ChooseCredentials: TypeAlias = Callable[[Negotiation], LocalParameters | None]

LIBPEER = "iot"
"""What libpeer writes as a=msid-semantic; nothing else is known to."""


def awaits_checks(offer: SessionDescription) -> bool:
    """Return True if the peer shows that it only answers checks, so that our side has to send them.

    That is what a lite agent does (RFC 8445 §2.5). Builds of libpeer for small devices do so as well and do not
    say `a=ice-lite`; their descriptions are known by another line.
    """
    return offer.is_ice_lite or (offer.value("msid-semantic") or "").strip() == LIBPEER


def negotiate(offer: SessionDescription, local: LocalParameters) -> Negotiation:
    """Answer an offer; raises `NegotiationError` if no call can come of it."""
    with _in_the_offer():
        return _prepare(offer.resolved, local).negotiation(local)


def negotiate_for(
    offer: SessionDescription, draft: LocalParameters, choose_credentials: ChooseCredentials
) -> Negotiation | None:
    """Answer an offer by credentials that follow from what was agreed on; raises as `negotiate` does.

    `draft` has our wishes, and credentials that go nowhere; `choose_credentials` is given what is agreed on, and
    returns our side with the same wishes, or None, for no answer.
    """
    with _in_the_offer():
        preparation = _prepare(offer.resolved, draft)
        agreed = preparation.negotiation(draft)
        local = choose_credentials(agreed)
        return None if local is None else replace(agreed, answer=preparation.answer(local))


@contextmanager
def _in_the_offer() -> Iterator[None]:
    """Say of what cannot be read that it stands in the offer."""
    try:
        yield
    except ParseError as error:
        raise NegotiationError(NegotiationFailure.MALFORMED, f"in the offer: {error}") from error


def create_offer(local: LocalParameters, *, audio: bool = True, data: bool = True) -> SessionDescription:
    """Return an offer of everything that `local` brings; sound is section 0, data the one after."""
    sections: list[MediaDescription] = []
    if audio and local.audio is not None:
        place = compose.Section("0", _OFFERED_AUDIO_PROTOCOL, Setup.ACTPASS)
        sections.append(compose.audio_section(local, local.audio, place, _offered_terms(local.audio)))
    if data and local.data is not None:
        mid = str(len(sections))
        place = compose.Section(mid, _OFFERED_DATA_PROTOCOL, Setup.ACTPASS)
        sections.append(
            compose.data_section(local, local.data, place, sctp_init=True, channels=local.data.channels)
        )
    if not sections:
        raise LocalError("an offer needs audio or data")
    mids = [str(index) for index in range(len(sections))]
    return compose.session(local, sections, mids, local.ice_options, mixed=True)


def accept_answer(offer: SessionDescription, answer: SessionDescription, local: LocalParameters) -> Negotiation:
    """Take the answer to an offer of ours; raises `NegotiationError` if it does not fit or leaves nothing."""
    try:
        return _accept_answer(offer.resolved, answer.resolved, answer, local)
    except ParseError as error:
        raise NegotiationError(NegotiationFailure.MALFORMED, f"in the answer: {error}") from error


# --- answering -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preparation:
    """What follows from an offer (resolved) and our wishes, before it is known by which credentials we answer."""

    offer: SessionDescription
    choice: Choice
    transport: MediaDescription
    setup: Setup
    terms: dict[int, compose.AudioTerms]

    def answer(self, local: LocalParameters) -> SessionDescription:
        """Return the answer with the credentials of `local`, whose wishes are those that it was prepared for."""
        offer, choice, terms = self.offer, self.choice, self.terms
        sections: list[MediaDescription] = []
        for index, offered in enumerate(offer.media):
            place = compose.Section(offered.mid, offered.protocol, self.setup)
            if index in terms and local.audio is not None:
                sections.append(compose.audio_section(local, local.audio, place, terms[index]))
            elif index == choice.data and local.data is not None:
                init = sctp_init(offered) is not None
                old = offered.has("sctpmap") and not offered.has("sctp-port")
                maps = channel_maps(offered)
                sections.append(
                    compose.data_section(local, local.data, place, sctp_init=init, sctpmap=old, channels=maps)
                )
            elif index == choice.tagged:
                sections.append(compose.idle_section(local, offered, place))
            else:
                sections.append(compose.rejected_section(local, offered, place))
        known = self.transport.ice_options
        options = [o for o in local.ice_options if o in _ALWAYS_ANSWERED_ICE_OPTIONS or o in known]
        return compose.session(local, sections, choice.bundle, options, mixed=self._is_mixed)

    def negotiation(self, local: LocalParameters) -> Negotiation:
        """Return the answer and all that is then agreed on."""
        offer, choice = self.offer, self.choice
        answer = self.answer(local)
        # RFC 8445 §6.1.1: the offerer controls, unless it is lite and we are not
        controlling = offer.is_ice_lite and not local.ice_lite
        agreement = Agreement(answer, offer, answer, self.transport, choice.audio, choice.data, self._is_mixed)
        role = DtlsRole.CLIENT if self.setup is Setup.ACTIVE else DtlsRole.SERVER
        return agreement.negotiation(answer, role, ice_controlling=controlling, ignored=offer.ignored)

    @property
    def _is_mixed(self) -> bool:
        return bool(self.terms) and all(allows_mixed(self.offer, self.offer.media[index]) for index in self.terms)


def _prepare(offer: SessionDescription, local: LocalParameters) -> Preparation:
    choice = choose(offer, local)
    transport = remote_transport(offer, offer.media[choice.tagged])
    check_reachable(offer, local)
    setup = _answered_setup(transport.setup, local.setup)
    return Preparation(offer, choice, transport, setup, _answered_audio(offer, choice, local))


def _answered_audio(
    offer: SessionDescription, choice: Choice, local: LocalParameters
) -> dict[int, compose.AudioTerms]:
    """Return what our audio sections say, by index.

    Two of them carry the MID in every packet where that was offered (RFC 9143 §15): the payload types of both
    are the same. One needs none. Redundancy has one payload type in both, or there is none.
    """
    audio, codec = local.audio, choice.codec
    if audio is None or codec is None:
        return {}
    if len(choice.audio) > 1:
        audio = replace(audio, extensions=tuple(dict.fromkeys((*audio.extensions, URI_MID))))
    sections = [offer.media[index] for index in choice.audio]
    terms = [_answered_terms(offered, audio, codec) for offered in sections]
    if len({each.red_payload_type for each in terms}) > 1:
        terms = [_answered_terms(offered, replace(audio, red=False), codec) for offered in sections]
    return dict(zip(choice.audio, terms, strict=True))


def _answered_terms(offered: MediaDescription, audio: LocalAudio, codec: CodecDescription) -> compose.AudioTerms:
    """Hold our wishes against an offered section that has this codec of ours."""
    payload_type = offered.usable_formats(codec.rtp_map)[0]
    extensions = tuple(_answered_extensions(offered, audio.extensions))
    offered_feedback = offered.rtcp_feedback(payload_type)
    feedback = tuple(name for name in audio.rtcp_feedback if name in offered_feedback)
    formats = [compose.Format.of_codec(payload_type, codec, feedback)]
    if audio.red:
        red = RtpMap("red", codec.clock_rate, codec.channels)
        around = f"{payload_type}/{payload_type}"
        for number in offered.usable_formats(red):
            if around in offered.format_parameters(number):
                formats.insert(0, compose.Format.of_red(number, payload_type, codec))
                break
    if audio.telephone_event:
        for number in offered.usable_formats(RtpMap("telephone-event", codec.clock_rate))[:1]:
            formats.append(compose.Format.of_telephone_event(number, codec.clock_rate))
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
    fixed = {each.encoding.upper(): number for number, each in STATIC_PAYLOAD_TYPES.items()}
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
    check_reachable(answer, local)
    audio = tuple(index for index in accepted.values() if offer.media[index].kind == "audio")
    data = next((index for index in accepted.values() if offer.media[index].kind == "application"), None)
    if not all(answer.media[index].has("rtcp-mux") for index in audio):  # RFC 8858: we offer nothing else
        raise NegotiationError(NegotiationFailure.ANSWER_MISMATCH, "the answer has no a=rtcp-mux")
    mixed = bool(audio) and all(allows_mixed(answer, answer.media[index]) for index in audio)
    # RFC 8445 §6.1.1: the offerer controls, unless it is lite and the answerer is not
    controlling = answer.is_ice_lite or not local.ice_lite
    agreement = Agreement(offer, answer, answer, transport, audio, data, mixed)
    role = DtlsRole.SERVER if setup is Setup.ACTIVE else DtlsRole.CLIENT
    return agreement.negotiation(original, role, ice_controlling=controlling, ignored=answer.ignored)
