"""What refuses an offer, in which words, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.sdp import (
    Negotiation,
    NegotiationError,
    NegotiationFailure,
    SessionDescription,
    negotiate,
)
from tests.sdp.offers import (
    AUDIO,
    BUNDLED,
    DATA,
    FINGERPRINT,
    HEAD,
    OFFERS,
    TRANSPORT,
    VIDEO,
    failure_of,
    offered,
    our_audio,
    our_side,
)


class TestRefusal:
    @pytest.mark.parametrize(
        ("removed", "failure"),
        [
            ("a=ice-ufrag:abcd\r\n", NegotiationFailure.NO_ICE_CREDENTIALS),
            ("a=ice-pwd:0123456789abcdefghijkl\r\n", NegotiationFailure.NO_ICE_CREDENTIALS),
            (f"a=fingerprint:{FINGERPRINT.serialize()}\r\n", NegotiationFailure.NO_FINGERPRINT),
            ("a=rtcp-mux\r\n", NegotiationFailure.NOTHING_IN_COMMON),
        ],
    )
    def test_something_is_missing(self, removed: str, failure: NegotiationFailure) -> None:
        assert failure_of(offered(AUDIO.replace(removed, ""))).failure is failure

    def test_no_codec_in_common_is_explained(self) -> None:
        error = failure_of(offered(AUDIO.replace("opus/48000/2", "speex/16000"), VIDEO))
        assert error.failure is NegotiationFailure.NOTHING_IN_COMMON
        assert "ours: opus/48000/2, PCMU/8000, PCMA/8000; theirs: speex/16000" in str(error)
        assert "video is not spoken here" in str(error)

    @pytest.mark.parametrize("codec", ["opus/48000", "speex/16000"])
    def test_sound_in_vain_beside_data(self, codec: str) -> None:
        """A call that connects and stays mute tells its caller nothing."""
        error = failure_of(offered(AUDIO.replace("opus/48000/2", codec), DATA, head=BUNDLED))
        assert error.failure is NegotiationFailure.NOTHING_IN_COMMON
        assert f"ours: opus/48000/2, PCMU/8000, PCMA/8000; theirs: {codec}" in error.detail
        without = AUDIO.replace("a=rtcp-mux\r\n", "")
        assert "rtcp-mux" in failure_of(offered(without, DATA, head=BUNDLED)).detail

    def test_sound_that_was_not_asked_for(self) -> None:
        speex = AUDIO.replace("opus/48000/2", "speex/16000")
        for section in (speex + "a=inactive\r\n", speex.replace("m=audio 9", "m=audio 0")):
            agreed = negotiate(offered(section, DATA, head=BUNDLED), our_side())
            assert agreed.audio is None
            assert agreed.data is not None
        assert negotiate(offered(speex, DATA, head=BUNDLED), our_side(audio=None)).data is not None

    @pytest.mark.parametrize("number", [64, 72, 95])
    def test_payload_types_that_rtcp_takes(self, number: int) -> None:
        """RFC 5761 §4: with the marker bit they are packet types of RTCP."""
        opus_there = AUDIO.replace("111", str(number))
        error = failure_of(offered(opus_there))
        assert f"opus/48000/2 is {number}" in error.detail
        assert "RFC 5761" in error.detail
        beside = opus_there.replace(f"SAVPF {number}", f"SAVPF {number} 0")
        agreed = negotiate(offered(beside), our_side()).audio
        assert agreed is not None
        assert (agreed.payload_type, agreed.codec) == (0, "PCMU")

    def test_helpers_of_the_codec_under_such_payload_types(self) -> None:
        helpers = (
            "a=rtpmap:80 red/48000/2\r\na=fmtp:80 111/111\r\na=rtpmap:81 telephone-event/48000\r\n"
            "a=rtpmap:96 telephone-event/48000\r\n"
        )
        offer = offered(AUDIO.replace("SAVPF 111", "SAVPF 111 80 81 96"), helpers)
        agreed = negotiate(offer, our_side(audio=our_audio(red=True)))
        assert agreed.audio is not None
        assert (agreed.audio.red_payload_type, agreed.audio.telephone_event_payload_type) == (None, 96)
        assert agreed.answer.media[0].formats == ("111", "96")

    @pytest.mark.parametrize(("name", "size"), [("sha-1", 20), ("sha-224", 28), ("md5", 16)])
    def test_a_fingerprint_that_can_never_match(self, name: str, size: int) -> None:
        weak = f"a=fingerprint:{name} " + ":".join(["00"] * size)
        error = failure_of(offered(AUDIO.replace(f"a=fingerprint:{FINGERPRINT.serialize()}", weak)))
        assert error.failure is NegotiationFailure.NO_FINGERPRINT
        assert name in error.detail
        assert "sha-256" in error.detail

    def test_a_fingerprint_that_cannot_be_read(self) -> None:
        garbled = offered(AUDIO.replace(FINGERPRINT.serialize(), "sha-256 AB:CD"))
        assert failure_of(garbled).failure is NegotiationFailure.NO_FINGERPRINT
        beside = negotiate(offered(AUDIO, "a=fingerprint:sha-512 AB:CD\r\n"), our_side())
        assert beside.remote_fingerprints == (FINGERPRINT,)
        assert beside.ignored == {"fingerprint": 1}

    @pytest.mark.parametrize(
        "section",
        [
            VIDEO + "a=setup:?\r\na=ice-pwd:short\r\n",
            VIDEO.replace(
                TRANSPORT, "a=ice-ufrag:x\r\na=ice-pwd:short\r\na=fingerprint:sha-1 AB\r\na=setup:holdconn\r\n"
            ),
            VIDEO.replace("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8\r\nc=IN IP4\r\na="),
            "m=video 9 UDP/TLS/RTP/SAVPF\r\n",
            "m=image 9 udptl t38\r\nc=\r\n",
            DATA.replace("5000", "often"),
        ],
    )
    def test_nonsense_in_a_section_that_is_declined(self, section: str) -> None:
        agreed = negotiate(offered(AUDIO, section, head=HEAD), our_side())
        assert agreed.audio is not None
        assert [media.is_rejected for media in agreed.answer.media] == [False, True]
        assert SessionDescription.parse(agreed.answer.serialize()) == agreed.answer

    def test_odd_lines_are_counted(self) -> None:
        odd = "a=ssrc:99999999999 cname:x\r\na=msid:a b c\r\na=rtpmap:96 ?\r\na=\r\n\0"
        agreed = negotiate(offered(AUDIO, odd), our_side())
        assert agreed.ignored == {"attribute": 1, "nul": 1, "rtpmap": 1, "ssrc": 1}
        assert agreed.audio is not None
        assert agreed.audio.remote_msid is not None
        assert agreed.audio.remote_msid.serialize() == "a b"

    def test_only_md5(self) -> None:
        md5 = "a=fingerprint:md5 " + ":".join(["00"] * 16)
        offer = offered(AUDIO.replace(f"a=fingerprint:{FINGERPRINT.serialize()}", md5))
        assert failure_of(offer).failure is NegotiationFailure.NO_FINGERPRINT

    @pytest.mark.parametrize(
        "offer",
        [
            offered(),
            offered(VIDEO),
            offered(AUDIO.replace("UDP/TLS/RTP/SAVPF", "UDP/BFCP")),
            offered(DATA.replace("webrtc-datachannel", "bfcp")),
        ],
    )
    def test_nothing_for_us(self, offer: SessionDescription) -> None:
        assert failure_of(offer).failure is NegotiationFailure.NOTHING_IN_COMMON

    def test_old_profiles_are_taken(self) -> None:
        for protocol in ("RTP/AVP", "RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"):
            answer = negotiate(offered(AUDIO.replace("UDP/TLS/RTP/SAVPF", protocol)), our_side()).answer
            assert answer.media[0].protocol == protocol

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_hostile_offers(self, data: st.DataObject) -> None:
        """Lines of real offers dropped, doubled, swapped and scribbled over: a call, or one of two errors."""
        lines = data.draw(st.sampled_from(OFFERS)).read_text().split("\n")
        for _ in range(data.draw(st.integers(1, 12))):
            index = data.draw(st.integers(0, len(lines) - 1))
            match data.draw(st.sampled_from(["drop", "double", "swap", "scribble"])):
                case "drop" if len(lines) > 1:
                    del lines[index]
                case "double":
                    lines.insert(index, lines[index])
                case "swap":
                    lines[0], lines[index] = lines[index], lines[0]
                case _:
                    at = data.draw(st.integers(0, len(lines[index])))
                    lines[index] = lines[index][:at] + data.draw(st.text(max_size=4)) + lines[index][at + 1 :]
        try:
            agreed = negotiate(SessionDescription.parse("\n".join(lines)), our_side(audio=our_audio(red=True)))
        except (ParseError, NegotiationError):
            return
        assert SessionDescription.parse(agreed.answer.serialize()) == agreed.answer
        assert Negotiation.from_json(agreed.to_json()) == agreed
