"""What RFC 3264, 8829 and 9143 ask of every answer, for the offers of browsers and other stacks in many shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stack.sdp import (
    LocalParameters,
    MediaDescription,
    NegotiationError,
    SdpAttribute,
    SessionDescription,
    Setup,
    negotiate,
)
from tests.sdp.offers import OFFERS, our_audio, our_side, read

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
SIDES = (
    our_side(),
    our_side(
        audio=our_audio(red=True, rtcp_feedback=("nack", "transport-cc")), setup=Setup.ACTIVE, ice_lite=False
    ),
    our_side(audio=None),
    our_side(data=None),
)


def directed(media: MediaDescription, direction: str, mid: str | None = None) -> MediaDescription:
    kept = tuple(
        each for each in media.attributes if each.name not in DIRECTIONS and (each.name, mid) != ("mid", mid)
    )
    named = kept if mid is None else (*(each for each in kept if each.name != "mid"), SdpAttribute("mid", mid))
    return replace(media, attributes=(*named, SdpAttribute(direction)))


def grouped(offer: SessionDescription, *groups: tuple[str | None, ...]) -> SessionDescription:
    others = tuple(each for each in offer.attributes if each.name != "group")
    lines = tuple(SdpAttribute("group", " ".join(("BUNDLE", *map(str, mids)))) for mids in groups)
    return replace(offer, attributes=(*others, *lines))


def reversed_sections(offer: SessionDescription) -> SessionDescription:
    media = offer.media[::-1]
    return grouped(replace(offer, media=media), tuple(each.mid for each in media))


def two_sections(first: str, second: str) -> Callable[[SessionDescription], SessionDescription]:
    def change(offer: SessionDescription) -> SessionDescription:
        sound = [each for each in offer.media if each.kind == "audio"]
        rest = tuple(each for each in offer.media if each.kind != "audio")
        pair = tuple(directed(each, way, mid) for each in sound for way, mid in ((first, "one"), (second, "two")))
        media = (*pair, *rest)
        return grouped(replace(offer, media=media), tuple(each.mid for each in media))

    return change


SHAPES: dict[str, Callable[[SessionDescription], SessionDescription]] = {
    "as it is": lambda offer: offer,
    "no group": grouped,
    "each by itself": lambda offer: grouped(offer, *((media.mid,) for media in offer.media)),
    "from behind": reversed_sections,
    "only the last bundled": lambda offer: grouped(offer, (offer.media[-1].mid,)),
    "sendonly and recvonly": two_sections("sendonly", "recvonly"),
    "recvonly and sendonly": two_sections("recvonly", "sendonly"),
    "inactive and sendrecv": two_sections("inactive", "sendrecv"),
    "sendonly twice": two_sections("sendonly", "sendonly"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("side", range(len(SIDES)))
def test_no_rule_is_broken(path: Path, shape: str, side: int) -> None:
    offer, local = SHAPES[shape](read(path)), SIDES[side]
    try:
        agreed = negotiate(offer, local)
    except NegotiationError:
        wanted = {"audio"} if local.data is None else {"application"} if local.audio is None else set()
        assert wanted, "both sides have something in common"
        assert not any(media.kind in wanted for media in offer.media)
        return
    hold_against(offer.resolved, agreed.answer, local)
    assert SessionDescription.parse(agreed.answer.serialize()) == agreed.answer


def hold_against(offer: SessionDescription, answer: SessionDescription, local: LocalParameters) -> None:
    # RFC 3264 §6: as many sections in the same order, of the same kinds and protocols; RFC 5888 §9.1: mids
    assert [(m.kind, m.protocol, m.mid) for m in answer.media] == [
        (m.kind, m.protocol, m.mid) for m in offer.media
    ]
    grouped_mids = [mid for mids in answer.bundle_groups for mid in mids]
    by_mid = {media.mid: media for media in answer.media}
    for mids in answer.bundle_groups:
        # RFC 9143 §7.3: mids of one offered group, no section with port 0; the first has the transport
        assert any(set(mids) <= set(theirs) for theirs in offer.bundle_groups)
        assert all(by_mid[mid].port for mid in mids)
        assert by_mid[mids[0]].candidates == local.candidates
    accepted = [media for media in answer.media if media.port]
    assert len(accepted) == 1 or all(media.mid in grouped_mids for media in accepted), "one transport"
    for ours, theirs in zip(answer.media, offer.media, strict=True):
        section_rules(ours, theirs)


def section_rules(ours: MediaDescription, theirs: MediaDescription) -> None:
    assert ours.formats, "RFC 8866 §9: one format at least"
    assert set(ours.formats) <= set(theirs.formats)
    assert not (theirs.is_rejected and ours.port), "RFC 3264 §6: what was declined stays declined"
    assert ours.setup in (Setup.ACTIVE, Setup.PASSIVE), "RFC 5763 §5"
    assert set(ours.extensions) <= set(theirs.extensions), "RFC 8285 §6"
    assert len(set(ours.extensions)) == len(ours.extensions)
    for name in ("rtcp-mux", "rtcp-rsize", "sctp-init"):  # RFC 5761 §5.1.1, RFC 5506 §5
        assert theirs.has(name) or not ours.has(name)
    assert not ours.direction.sends or theirs.direction.receives, "RFC 3264 §6.1"
    assert not ours.direction.receives or theirs.direction.sends
    assert (
        ours.has("msid") is ours.has("ssrc") is (ours.kind == "audio" and bool(ours.port) and ours.direction.sends)
    )
    for payload_type, rtp_map in ours.payload_types.items():
        assert rtp_map.matches(theirs.payload_types[payload_type])
        assert set(ours.rtcp_feedback(payload_type)) <= set(theirs.rtcp_feedback(payload_type))
