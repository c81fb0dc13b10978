"""Reading what was agreed off a pair of descriptions: ours and the peer's, one the answer to the other.

RFC 3264 §6 and §7 (formats, direction), 9143 §7 (whose transport), 8122 §5.1 (fingerprints), 8841 §5 and §6
(data channels), 8285 §6 (header extensions), 4585 §4 (feedback), draft-hancke-tsvwg-snap (sctp-init),
8864 (dcmap).

The offerer and the answerer read the same pair and so come to the same result, directions turned around.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stack.core.certificate_fingerprint import TRUSTED_HASHES, CertificateFingerprint
from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, ParseError
from stack.sdp.dcmap import ChannelMap, acceptable
from stack.sdp.description import MediaDescription, SessionDescription
from stack.sdp.grammar import (
    RtpMap,
    parse_message_size,
    parse_number,
    parse_sctp_init,
)
from stack.sdp.parameters import (
    DEFAULT_MAX_MESSAGE_SIZE,
    AudioParameters,
    DataParameters,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
)

_NOT_A_CODEC = ("red", "telephone-event", "cn")
_DEFAULT_SCTP_PORT = 5000


def remote_transport(remote: SessionDescription, tagged: MediaDescription) -> MediaDescription:
    """Return the section that describes the peer's transport; raises `NegotiationError` if none is whole.

    It is the tagged one, or the first of its BUNDLE group if that one is bundle-only or bare (RFC 9143 §7.1.3).
    """
    group = next((mids for mids in remote.bundle_groups if tagged.mid in mids), ())
    sections = {media.mid: media for media in remote.media}
    for section in (tagged, *(sections[mid] for mid in group if mid in sections)):
        if section.ice_ufrag is not None and section.ice_pwd is not None:
            if not section.fingerprints:  # RFC 5763 §5
                raise NegotiationError(NegotiationFailure.NO_FINGERPRINT, _no_fingerprint(section))
            return section
    raise NegotiationError(NegotiationFailure.NO_ICE_CREDENTIALS, "no a=ice-ufrag with an a=ice-pwd")


def _no_fingerprint(section: MediaDescription) -> str:
    """Say what is there instead of a fingerprint that a certificate could be held against."""
    found = sorted({each.algorithm for each in section.parsed("fingerprint", CertificateFingerprint.parse)})
    if not section.has("fingerprint"):
        return "no a=fingerprint; the certificate must be told by one"
    if not found:
        return "no a=fingerprint that can be read as a hash function and its hexadecimal value"
    return f"only by {', '.join(found)[:60]}, which proves nothing; it takes {' or '.join(TRUSTED_HASHES)}"


def allows_mixed(description: SessionDescription, media: MediaDescription) -> bool:
    """Return True if one-byte and two-byte header extensions may be mixed in a section (RFC 8285 §6)."""
    return description.has("extmap-allow-mixed") or media.has("extmap-allow-mixed")


def offers_receiver_rtt(media: MediaDescription) -> bool:
    """Return True if a section takes part in round-trip times for receivers (RFC 3611 §5.1)."""
    return any("rcvr-rtt" in value for value in media.values("rtcp-xr"))


@dataclass(frozen=True, slots=True)
class Agreement:
    """A resolved pair of descriptions from our side's view; `answered` is whichever of the two is the answer."""

    ours: SessionDescription
    theirs: SessionDescription
    answered: SessionDescription
    transport: MediaDescription
    audio: tuple[int, ...]
    data: int | None
    extmap_allow_mixed: bool

    def negotiation(
        self, answer: SessionDescription, role: DtlsRole, *, ice_controlling: bool, ignored: Mapping[str, int]
    ) -> Negotiation:
        """Return everything that was agreed."""
        ufrag, pwd = self.transport.ice_ufrag, self.transport.ice_pwd
        fingerprints = self.transport.fingerprints
        if ufrag is None or pwd is None or not fingerprints:
            raise LocalError("a transport that is not of remote_transport()")
        return Negotiation(
            answer=answer,
            remote_ice_ufrag=ufrag,
            remote_ice_pwd=pwd,
            remote_ice_lite=self.theirs.is_ice_lite,
            remote_ice_options=self.transport.ice_options,
            # RFC 8122 §5.1: where there are several functions, the strongest one counts
            remote_fingerprints=tuple(f for f in fingerprints if f.strength == fingerprints[0].strength),
            remote_candidates=self.transport.candidates,
            remote_end_of_candidates=self.transport.has("end-of-candidates")
            or self.theirs.has("end-of-candidates"),
            ice_controlling=ice_controlling,
            dtls_role=role,
            media=tuple(
                self._data_parameters(index) if index == self.data else self._audio_parameters(index)
                for index in sorted((*self.audio, *(() if self.data is None else (self.data,))))
            ),
            ignored=ignored,
        )

    def _audio_parameters(self, index: int) -> AudioParameters:
        ours, theirs, answered = self.ours.media[index], self.theirs.media[index], self.answered.media[index]
        shared = dict(_shared_payload_types(ours, theirs, answered))
        payload_type, rtp_map = next(
            ((n, m) for n, m in shared.items() if m.encoding.lower() not in _NOT_A_CODEC), (None, None)
        )
        if payload_type is None or rtp_map is None:
            raise NegotiationError(NegotiationFailure.ANSWER_MISMATCH, "it has no codec of the offer")
        red = RtpMap("red", rtp_map.clock_rate, rtp_map.channels)
        events = RtpMap("telephone-event", rtp_map.clock_rate)
        around = f"{payload_type}/{payload_type}"
        our_ids = {extension.uri: extension.id for extension in ours.extensions}
        their_feedback = theirs.rtcp_feedback(payload_type)
        remote_ssrc, remote_cname = next(iter(theirs.ssrcs.items()), (None, None))
        return AudioParameters(
            mid=ours.mid,
            payload_type=payload_type,
            codec=rtp_map.encoding,
            clock_rate=rtp_map.clock_rate,
            channels=rtp_map.channels,
            direction=ours.direction.intersect(theirs.direction.reversed()),
            local_parameters=ours.format_parameters(payload_type),
            remote_parameters=theirs.format_parameters(payload_type),
            red_payload_type=next(
                (n for n, m in shared.items() if m.matches(red) and around in answered.format_parameters(n)), None
            ),
            telephone_event_payload_type=next((n for n, m in shared.items() if m.matches(events)), None),
            extensions={e.uri: e.id for e in theirs.extensions if our_ids.get(e.uri) == e.id},
            extmap_allow_mixed=self.extmap_allow_mixed,
            rtcp_feedback=tuple(name for name in ours.rtcp_feedback(payload_type) if name in their_feedback),
            rtcp_rsize=ours.has("rtcp-rsize") and theirs.has("rtcp-rsize"),
            receiver_rtt=offers_receiver_rtt(ours) and offers_receiver_rtt(theirs),
            remote_ssrc=remote_ssrc,
            remote_cname=remote_cname,
            remote_msid=theirs.msid,
            ptime=_milliseconds(theirs, "ptime"),
            max_ptime=_milliseconds(theirs, "maxptime"),
        )

    def _data_parameters(self, index: int) -> DataParameters:
        ours, theirs = self.ours.media[index], self.theirs.media[index]
        init = sctp_init(theirs) if ours.has("sctp-init") else None  # both, or the ordinary handshake
        named = channel_maps(theirs)
        if init is not None and self.answered is self.theirs and init == sctp_init(ours):
            # Our own line come back: libdatachannel 0.24 returns the attributes of an offer that it does not know.
            # It has then read neither this one nor a=dcmap, and what they agree on would be agreed on here alone.
            init, named = None, ()
        channels = tuple(each for each in channel_maps(ours) if each in named)
        return DataParameters(
            mid=ours.mid,
            remote_sctp_port=sctp_port(theirs),
            remote_max_message_size=next(
                theirs.parsed("max-message-size", parse_message_size), DEFAULT_MAX_MESSAGE_SIZE
            ),
            remote_sctp_init=init,
            channels=channels,
            channels_by_peer=bool(channels) and self.answered is self.ours,
        )


def sctp_init(media: MediaDescription) -> bytes | None:
    """Return the INIT chunk that a section shows (draft-hancke-tsvwg-snap); None if there is none to be read."""
    return next(media.parsed("sctp-init", parse_sctp_init), None)


def channel_maps(media: MediaDescription) -> Sequence[ChannelMap]:
    """Return the channels that a section names (RFC 8864), as far as they can be agreed on."""
    return acceptable(media.parsed("dcmap", ChannelMap.parse))


def sctp_port(media: MediaDescription) -> int:
    """Return the SCTP port of a section (RFC 8841 §5), 0 if it is closed; older forms say it in `a=sctpmap`."""
    value = media.value("sctp-port") or (media.value("sctpmap") or "").partition(" ")[0]
    return parse_number(value, "sctp-port") if value else _DEFAULT_SCTP_PORT


def _shared_payload_types(
    ours: MediaDescription, theirs: MediaDescription, answered: MediaDescription
) -> Iterator[tuple[int, RtpMap]]:
    """Return the payload types that mean the same on both sides, in the answer's order (RFC 3264 §6.1)."""
    our_types, their_types = ours.payload_types, theirs.payload_types
    for number in answered.usable_payload_types:
        if number in our_types and number in their_types and our_types[number].matches(their_types[number]):
            yield number, our_types[number]


def _milliseconds(media: MediaDescription, name: str) -> int | None:
    """Return a=ptime or a=maxptime; None if there is none or it makes no sense."""
    try:
        return parse_number((media.value(name) or "").strip(), name, 1000) or None
    except ParseError:
        return None
