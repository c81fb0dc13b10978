"""Descriptions of other people's code: aiortc reads ours and we read aiortc's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stack.sdp import (
    DtlsRole,
    MediaDirection,
    SessionDescription,
    Setup,
    accept_answer,
    choose_setup,
    create_offer,
    negotiate,
)
from tests.sdp.offers import OFFERS, our_audio, our_side, read

aiortc = pytest.importorskip("aiortc")
aiortc_sdp = pytest.importorskip("aiortc.sdp")
pytestmark = pytest.mark.peer

LOOPBACK = ("candidate:1 1 udp 2130706431 127.0.0.1 9 typ host",)


@pytest.fixture
async def peer() -> AsyncIterator[object]:
    connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    yield connection
    await connection.close()


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_aiortc_reads_our_answers(path: object) -> None:
    answer = negotiate(read(path), our_side(audio=our_audio(red=True))).answer  # type: ignore[arg-type]
    theirs = aiortc_sdp.SessionDescription.parse(answer.serialize())
    assert [(m.kind, m.port) for m in theirs.media] == [(m.kind, m.port) for m in answer.media]
    for media, ours in zip(theirs.media, answer.media, strict=True):
        assert media.rtp.muxId == ours.mid
        assert media.ice.usernameFragment == "n1abcdef"
        assert media.dtls.role == "server"
        assert [f.algorithm for f in media.dtls.fingerprints] == ["sha-256"]
        assert len(media.ice_candidates) == (0 if ours.is_rejected else 1)


async def test_our_answer_to_aiortc(peer: object) -> None:
    peer.addTransceiver("audio")  # type: ignore[attr-defined]
    peer.createDataChannel("chat")  # type: ignore[attr-defined]
    await peer.setLocalDescription(await peer.createOffer())  # type: ignore[attr-defined]
    offer = SessionDescription.parse(peer.localDescription.sdp)  # type: ignore[attr-defined]
    assert choose_setup(offer) is Setup.ACTIVE, "by the shape of its offer"
    agreed = negotiate(offer, our_side(candidates=LOOPBACK))
    assert agreed.audio is not None
    assert agreed.audio.codec == "opus"
    assert agreed.data is not None
    assert agreed.dtls_role is DtlsRole.SERVER
    assert [f.algorithm for f in agreed.remote_fingerprints] == ["sha-512"]
    description = aiortc.RTCSessionDescription(agreed.answer.serialize(), "answer")
    await peer.setRemoteDescription(description)  # type: ignore[attr-defined]
    assert peer.signalingState == "stable"  # type: ignore[attr-defined]


@pytest.mark.parametrize("policy", ["max-bundle", "balanced", "max-compat"])
async def test_our_answer_that_declines_video(policy: str) -> None:
    """aiortc looks for a transport and for a codec in every section, and takes the candidates of the last."""
    configuration = aiortc.RTCConfiguration(iceServers=[], bundlePolicy=aiortc.RTCBundlePolicy(policy))
    peer = aiortc.RTCPeerConnection(configuration)
    peer.addTransceiver("audio")
    peer.addTransceiver("video")
    peer.createDataChannel("chat")
    await peer.setLocalDescription(await peer.createOffer())
    agreed = negotiate(SessionDescription.parse(peer.localDescription.sdp), our_side(candidates=LOOPBACK))
    assert [media.is_rejected for media in agreed.answer.media] == [False, True, False]
    await peer.setRemoteDescription(aiortc.RTCSessionDescription(agreed.answer.serialize(), "answer"))
    assert peer.signalingState == "stable"
    await peer.close()


async def test_aiortc_s_answer_to_us(peer: object) -> None:
    local = our_side(candidates=LOOPBACK)
    offer = create_offer(local)
    await peer.setRemoteDescription(aiortc.RTCSessionDescription(offer.serialize(), "offer"))  # type: ignore[attr-defined]
    await peer.setLocalDescription(await peer.createAnswer())  # type: ignore[attr-defined]
    answer = SessionDescription.parse(peer.localDescription.sdp)  # type: ignore[attr-defined]
    agreed = accept_answer(offer, answer, local)
    assert agreed.audio is not None
    assert agreed.audio.payload_type == 111
    assert agreed.audio.direction is MediaDirection.SENDONLY, "aiortc was given no track to send"
    assert agreed.data is not None
    assert agreed.dtls_role is DtlsRole.SERVER
