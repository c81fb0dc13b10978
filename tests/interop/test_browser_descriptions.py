"""Browsers read our descriptions and we read theirs: no call is held, only offers and answers change hands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from interop.browsers import Browser, launch
from stack.core.header_extensions import URI_AUDIO_LEVEL
from stack.sdp import (
    PCMU,
    DtlsRole,
    LocalData,
    LocalParameters,
    MediaDirection,
    SessionDescription,
    Setup,
    accept_answer,
    create_offer,
    negotiate,
)
from tests.sdp.offers import our_audio, our_side

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

HERE = ("candidate:1 1 udp 2130706431 127.0.0.1 9 typ host",)
OFFER = """(async (order, config) => {
  window.pc = new RTCPeerConnection(config);
  window.channel = null;
  for (const section of order) {
    const [kind, direction] = section.split(":");
    if (kind === "data") channel = pc.createDataChannel("test");
    else pc.addTransceiver(kind, { direction: direction ?? "sendrecv" });
  }
  await pc.setLocalDescription(await pc.createOffer());
  return pc.localDescription.sdp;
})"""
TAKE = """(async sdp => {
  window.streams = [];
  pc.ontrack = event => streams.push(event.streams.map(stream => stream.id));
  await pc.setRemoteDescription({ type: "answer", sdp });
  return state();
})"""
ANSWER = """(async sdp => {
  window.pc = new RTCPeerConnection();
  window.streams = [];
  pc.ontrack = event => streams.push(event.streams.map(stream => stream.id));
  await pc.setRemoteDescription({ type: "offer", sdp });
  await pc.setLocalDescription(await pc.createAnswer());
  return { sdp: pc.localDescription.sdp, ...state() };
})"""
STATE = """window.state = () => ({
  signaling: pc.signalingState,
  directions: pc.getTransceivers().map(transceiver => transceiver.currentDirection),
  codecs: pc.getTransceivers().map(t => (t.sender.getParameters().codecs || []).map(codec => codec.payloadType)),
  sctp: pc.sctp !== null,
  largest: pc.sctp ? pc.sctp.maxMessageSize : null,
  streams,
})"""


@pytest.fixture
async def browser(browser_name: str, loopback: bool) -> AsyncIterator[Browser]:
    async with launch(browser_name) as started:
        await started.evaluate(f"({STATE}, 0)")
        yield started


async def offer_of(browser: Browser, *order: str, **config: str) -> SessionDescription:
    text = await browser.evaluate(f"{OFFER}({json.dumps(order)}, {json.dumps(config)})")
    return SessionDescription.parse(text)


async def take(browser: Browser, answer: SessionDescription) -> dict[str, object]:
    state: dict[str, object] = await browser.evaluate(f"{TAKE}({json.dumps(answer.serialize())})")
    await browser.evaluate("pc.close()")
    return state


async def test_answers_of_ours(browser: Browser) -> None:
    """One browser takes them all, because starting it is what costs."""
    sides: list[tuple[str, LocalParameters]] = [
        ("plain", our_side(candidates=HERE)),
        ("active", our_side(candidates=HERE, setup=Setup.ACTIVE)),
        (
            "redundancy",
            our_side(candidates=HERE, audio=our_audio(red=True, rtcp_feedback=("nack", "transport-cc"))),
        ),
        ("PCMU", our_side(candidates=HERE, audio=our_audio(codecs=(PCMU,), extensions=()))),
        ("no candidates", our_side(candidates=(), end_of_candidates=False, ice_lite=False)),
        ("sctp-init", our_side(candidates=HERE, data=LocalData(sctp_init=bytes(20)))),
        ("data alone", our_side(candidates=HERE, audio=None)),
        ("long ufrag", our_side(candidates=HERE, ice_ufrag="u" * 90)),
    ]
    for name, local in sides:
        for order in (("audio",), ("audio", "data"), ("audio", "video", "data"), ("data",)):
            for config in ({}, {"bundlePolicy": "max-bundle"}):
                if local.audio is None and "data" not in order:
                    continue
                agreed = negotiate(await offer_of(browser, *order, **config), local)
                state = await take(browser, agreed.answer)
                case = f"{name} {order} {config}"
                assert state["signaling"] == "stable", case
                assert state["sctp"] is ("data" in order), case
                if "audio" in order and local.audio is not None:
                    assert agreed.audio is not None
                    directions = state["directions"]
                    assert isinstance(directions, list)
                    assert directions[0] == "sendrecv", case
                    assert directions[1:] in ([], ["inactive"], [None], ["stopped"]), case
                    assert state["streams"] == [["voice"]], case
                if "data" in order:
                    assert state["largest"] == 262144, case


async def test_video_in_front(browser: Browser) -> None:
    """With max-bundle the only transport is that of the video, so it may not be declined."""
    for config in ({}, {"bundlePolicy": "max-bundle"}):
        offer = await offer_of(browser, "video", "audio", "data", **config)
        agreed = negotiate(offer, our_side(candidates=HERE))
        assert agreed.remote_ice_ufrag
        state = await take(browser, agreed.answer)
        assert state["signaling"] == "stable"
        assert isinstance(state["directions"], list)
        assert state["directions"] == ["inactive", "sendrecv"]
        assert state["streams"] == [["voice"]]
        assert state["sctp"] is True


async def test_sound_by_two_sections(browser: Browser) -> None:
    """One voice in each direction, with video declined behind them."""
    for order in (("sendonly", "recvonly"), ("recvonly", "sendonly")):
        for config in ({}, {"bundlePolicy": "max-bundle"}):
            sections = [f"audio:{direction}" for direction in order]
            offer = await offer_of(browser, *sections, "video", "data", **config)
            agreed = negotiate(offer, our_side(candidates=HERE, audio=our_audio(red=True)))
            assert [section.mid for section in agreed.media] == ["0", "1", "3"]
            state = await take(browser, agreed.answer)
            assert state["signaling"] == "stable"
            assert isinstance(state["directions"], list)
            assert state["directions"][:2] == list(order)
            assert state["streams"] == [["voice"]]
            assert state["sctp"] is True


async def test_directions(browser: Browser) -> None:
    for ours, theirs in (
        (MediaDirection.SENDONLY, "recvonly"),
        (MediaDirection.RECVONLY, "sendonly"),
        (MediaDirection.INACTIVE, "inactive"),
    ):
        local = our_side(candidates=HERE, audio=our_audio(direction=ours))
        state = await take(browser, negotiate(await offer_of(browser, "audio"), local).answer)
        assert state["directions"] == [theirs]


async def test_offers_of_ours(browser: Browser) -> None:
    audio = our_audio(red=True)
    for local, sections in (
        (our_side(candidates=HERE, ice_lite=False, audio=audio), ["audio", "application"]),
        (our_side(candidates=(), audio=replace(audio, red=False), data=None), ["audio"]),
        (our_side(candidates=HERE, audio=None), ["application"]),
    ):
        offer = create_offer(local)
        assert [media.kind for media in offer.media] == sections
        state = await browser.evaluate(f"{ANSWER}({json.dumps(offer.serialize())})")
        await browser.evaluate("pc.close()")
        assert state["signaling"] == "stable"
        agreed = accept_answer(offer, SessionDescription.parse(state["sdp"]), local)
        assert agreed.dtls_role is DtlsRole.SERVER, "browsers answer setup:active"
        assert (agreed.audio is not None) == ("audio" in sections)
        assert (agreed.data is not None) == ("application" in sections)
        if agreed.audio is not None:
            assert state["streams"] == [["voice"]]
            assert (agreed.audio.codec, agreed.audio.payload_type) == ("opus", 111)
            assert agreed.audio.extensions == {URI_AUDIO_LEVEL: 1}
            assert agreed.audio.direction is MediaDirection.SENDONLY, "the page has no microphone"
