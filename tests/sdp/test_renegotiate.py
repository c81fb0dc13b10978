"""A further offer, held against what runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stack.sdp import (
    CertificateFingerprint,
    LocalAudio,
    LocalParameters,
    MediaDescription,
    MediaDirection,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
    SdpAttribute,
    SessionDescription,
    negotiate,
    renegotiate,
    restarts_ice,
)

OFFERS = sorted((Path(__file__).parent.parent / "vectors/offers").glob("*.sdp"))
LOCAL = LocalParameters(
    ice_ufrag="ours",
    ice_pwd="p" * 24,
    fingerprint=CertificateFingerprint.parse("sha-256 " + ":".join(["AB"] * 32)),
    session_id=4711,
    candidates=("candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host",),
    ice_lite=True,
    audio=LocalAudio(ssrc=1, cname="c", red=True),
)
NEXT = replace(LOCAL, session_version=2)
BOTH = (Path(__file__).parent.parent / "vectors/offers/chromium156-audio_dc.sdp").read_text()


def first(text: str) -> Negotiation:
    return negotiate(SessionDescription.parse(text), LOCAL)


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_the_same_offer_again_gets_the_same_answer_in_a_higher_version(path: Path) -> None:
    text = path.read_text()
    former = first(text)
    again = renegotiate(SessionDescription.parse(text), former, NEXT)
    assert again.answer.media == former.answer.media
    assert again.answer.origin == replace(former.answer.origin, session_version=2)
    assert not restarts_ice(again, former)


@pytest.mark.parametrize(
    ("said", "answered"),
    [("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive"), ("sendrecv", "sendrecv")],
)
def test_directions_change(said: str, answered: str) -> None:
    former = first(BOTH)
    agreed = renegotiate(SessionDescription.parse(BOTH.replace("a=sendrecv", f"a={said}")), former, NEXT)
    assert agreed.audio is not None
    assert agreed.audio.direction is MediaDirection(answered)
    assert agreed.answer.media[0].direction is MediaDirection(answered)


def test_ice_restarts() -> None:
    former = first(BOTH)
    ufrag = former.remote_ice_ufrag
    restarted = SessionDescription.parse(BOTH.replace(f"ice-ufrag:{ufrag}", "ice-ufrag:other"))
    agreed = renegotiate(restarted, former, NEXT)
    assert restarts_ice(agreed, former)
    assert agreed.remote_ice_ufrag == "other"


def test_sections_that_are_declined_may_come_and_go() -> None:
    former = first(BOTH)
    video = (
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
    )
    more = renegotiate(SessionDescription.parse(BOTH + video), former, NEXT)
    assert [media.port == 0 for media in more.answer.media] == [False, False, True]
    recycled = (BOTH + video).replace("a=mid:2", "a=mid:3")
    assert len(renegotiate(SessionDescription.parse(recycled), more, NEXT).answer.media) == 3


def _sections(change: Callable[[tuple[MediaDescription, ...]], tuple[MediaDescription, ...]]) -> str:
    description = SessionDescription.parse(BOTH)
    return replace(description, media=change(description.media)).serialize()


_PRINT = first(BOTH).remote_fingerprints[0].value
REFUSED = {
    "the connection has 2": _sections(lambda media: media[:1]),
    "section 0 is application": _sections(lambda media: (media[1], media[0])),
    "section 1 is application 9, not application 1": BOTH.replace("a=mid:1", "a=mid:9").replace("0 1", "0 9"),
    "another fingerprint": BOTH.replace(_PRINT, "00" + _PRINT[2:]),
    "DTLS roles": BOTH.replace("a=setup:actpass", "a=setup:passive"),
    "say a=inactive": _sections(lambda media: (replace(media[0], port=0), media[1])),
    "data channels cannot be taken away": _sections(lambda media: (media[0], replace(media[1], port=0))),
    "payload type of the sound": BOTH.replace("111", "112"),
    "SCTP port": BOTH.replace("a=sctp-port:5000", "a=sctp-port:5001"),
}


@pytest.mark.parametrize(("why", "text"), REFUSED.items(), ids=list(REFUSED))
def test_what_cannot_be_changed_is_refused_in_words(why: str, text: str) -> None:
    former = first(BOTH)
    with pytest.raises(NegotiationError, match=why) as refused:
        renegotiate(SessionDescription.parse(text), former, NEXT)
    assert refused.value.failure is NegotiationFailure.CANNOT_CHANGE


@pytest.mark.parametrize(
    ("name", "why"),
    [("chromium156-audio", "data channels cannot be added"), ("chromium156-dc", "sound cannot be")],
)
def test_what_was_not_there_cannot_be_added(name: str, why: str) -> None:
    offer = SessionDescription.parse(next(path for path in OFFERS if path.stem == name).read_text())
    transport = ("mid", "ice-ufrag", "ice-pwd", "fingerprint")
    other = next(media for media in SessionDescription.parse(BOTH).media if media.kind != offer.media[0].kind)
    own = (attribute for attribute in other.attributes if attribute.name not in transport)
    shared = (attribute for attribute in offer.media[0].attributes if attribute.name in transport[1:])
    added = replace(other, attributes=(*own, *shared, SdpAttribute("mid", "5")))
    grown = replace(offer, media=(*offer.media, added)).serialize().replace("BUNDLE 0", "BUNDLE 0 5")
    with pytest.raises(NegotiationError, match=why):
        renegotiate(SessionDescription.parse(grown), first(offer.serialize()), NEXT)
