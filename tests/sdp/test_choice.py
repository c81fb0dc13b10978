"""Which sections of an offer are taken, what the declined ones say, and which offers nothing could come of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stack.core.header_extensions import URI_MID
from stack.sdp import (
    MediaDescription,
    MediaDirection,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
    Setup,
    accept_answer,
    create_offer,
    negotiate,
)
from tests.sdp.offers import (
    AUDIO,
    BUNDLED,
    DATA,
    FINGERPRINT,
    HEAD,
    OFFERS,
    VIDEO,
    failure_of,
    offered,
    our_audio,
    our_client,
    our_side,
    read,
)

GROUPED = HEAD + "a=group:BUNDLE a b d\r\n"


def audio_of(mid: str, direction: str, *, codec: str = "111 opus/48000/2") -> str:
    number = codec.partition(" ")[0]
    return AUDIO.replace("mid:a", f"mid:{mid}").replace("111 opus/48000/2", codec).replace(
        "SAVPF 111", f"SAVPF {number}"
    ) + (f"a={direction}\r\na=extmap:4 {URI_MID}\r\n")


class TestTwoAudioSections:
    """One voice in each direction, by one section or by two."""

    @pytest.mark.parametrize("order", [("sendonly", "recvonly"), ("recvonly", "sendonly")])
    def test_a_pair_is_one_call(self, order: tuple[str, str]) -> None:
        sections = [audio_of(mid, direction) for mid, direction in zip("ab", order, strict=True)]
        agreed = negotiate(offered(*sections, DATA, head=GROUPED), our_side())
        answered = [MediaDirection(direction).reversed() for direction in order]
        assert [media.direction for media in agreed.answer.media[:2]] == answered
        assert all(media.port and media.candidates for media in agreed.answer.media)
        assert agreed.answer.bundle_groups == (("a", "b", "d"),)
        assert [section.mid for section in agreed.media] == ["a", "b", "d"]
        audio, received = agreed.audio, agreed.received_audio
        assert audio is not None
        assert received is not None
        assert (audio.mid, received.mid) == (("b", "a") if order[0] == "sendonly" else ("a", "b"))
        assert (audio.direction.value, received.direction.value) == ("sendonly", "recvonly")
        assert audio.extensions == received.extensions == {URI_MID: 4}, "the payload types are the same"
        assert [media.has("ssrc") for media in agreed.answer.media[:2]] == [d.sends for d in answered]
        assert agreed.data is not None
        assert Negotiation.from_json(agreed.to_json()) == agreed

    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_one_that_does_both_goes_first(self, at: int) -> None:
        directions = ["sendonly", "recvonly"]
        directions.insert(at, "sendrecv")
        sections = [audio_of(mid, direction) for mid, direction in zip("abc", directions, strict=True)]
        agreed = negotiate(offered(*sections, head=HEAD + "a=group:BUNDLE a b c\r\n"), our_side())
        assert len(agreed.media) == 1
        assert agreed.audio is agreed.received_audio is not None
        assert agreed.audio.mid == "abc"[at]
        assert agreed.audio.direction is MediaDirection.SENDRECV

    def test_an_inactive_one_goes_last(self) -> None:
        agreed = negotiate(offered(audio_of("a", "inactive"), audio_of("b", "recvonly"), head=GROUPED), our_side())
        assert agreed.audio is not None
        assert agreed.audio.mid == "b"

    @pytest.mark.parametrize(
        ("first", "second", "head"),
        [
            (audio_of("a", "sendonly"), audio_of("b", "recvonly"), HEAD),  # another transport
            (audio_of("a", "sendonly"), audio_of("b", "sendonly"), HEAD + "a=group:BUNDLE a b\r\n"),
            (
                audio_of("a", "sendonly"),
                audio_of("b", "recvonly", codec="0 PCMU/8000"),  # one codec for the call
                HEAD + "a=group:BUNDLE a b\r\n",
            ),
        ],
    )
    def test_what_is_no_pair(self, first: str, second: str, head: str) -> None:
        agreed = negotiate(offered(first, second, head=head), our_side())
        assert [media.is_rejected for media in agreed.answer.media] == [False, True]
        assert agreed.audio is agreed.received_audio is not None

    def test_the_codec_is_one_that_both_have(self) -> None:
        both = "m=audio 9 UDP/TLS/RTP/SAVPF 111 0"
        first = audio_of("a", "sendonly").replace("m=audio 9 UDP/TLS/RTP/SAVPF 111", both)
        agreed = negotiate(
            offered(first, audio_of("b", "recvonly", codec="0 PCMU/8000"), head=GROUPED), our_side()
        )
        assert agreed.audio is not None
        assert agreed.received_audio is not None
        assert agreed.audio.payload_type == agreed.received_audio.payload_type == 0

    def test_redundancy_has_one_payload_type_or_is_left_out(self) -> None:
        def with_red(section: str, number: int) -> str:
            listed = section.replace("SAVPF 111", f"SAVPF 111 {number}")
            return f"{listed}a=rtpmap:{number} red/48000/2\r\na=fmtp:{number} 111/111\r\n"

        for numbers, expected in (((63, 63), 63), ((63, 62), None)):
            first, second = audio_of("a", "sendonly"), audio_of("b", "recvonly")
            offer = offered(with_red(first, numbers[0]), with_red(second, numbers[1]), head=GROUPED)
            agreed = negotiate(offer, our_side(audio=our_audio(red=True)))
            assert agreed.audio is not None
            assert agreed.received_audio is not None
            assert agreed.audio.red_payload_type == agreed.received_audio.red_payload_type == expected

    def test_we_only_listen_or_only_speak(self) -> None:
        offer = offered(audio_of("a", "recvonly"), audio_of("b", "sendonly"), head=GROUPED)
        for ours, mid in ((MediaDirection.RECVONLY, "b"), (MediaDirection.SENDONLY, "a")):
            agreed = negotiate(offer, our_side(audio=our_audio(direction=ours)))
            assert agreed.audio is not None
            assert (agreed.audio.mid, len(agreed.media)) == (mid, 1)


class TestDeclinedSections:
    """GStreamer, Pion, werift, str0m, webrtc-rs and aiortc read a declined section like any other."""

    def declined(self, section: str, head: str = BUNDLED, **changes: object) -> MediaDescription:
        answer = negotiate(offered(AUDIO, section, head=head), our_side(**changes)).answer
        media = answer.media[1]
        assert (media.port, media.direction) == (0, MediaDirection.INACTIVE)
        assert media.mid not in answer.bundle_groups[0] if answer.bundle_groups else True
        assert (media.ice_ufrag, media.ice_pwd) == ("n1abcdef", "pwdpwdpwdpwdpwdpwdpwdpwd")
        assert media.fingerprints == (FINGERPRINT,)
        assert media.setup is Setup.PASSIVE
        assert media.candidates == ()
        return media

    def test_video(self) -> None:
        section = VIDEO.replace("SAVPF 96", "SAVPF 96 97") + "a=fmtp:96 max-fs=12288;max-fr=60\r\n"
        for head in (HEAD, HEAD + "a=group:BUNDLE a v\r\n"):
            media = self.declined(section, head)
            assert (media.mid, media.formats) == ("v", ("96",))
            assert media.payload_types[96].serialize() == "VP8/90000"
            assert media.format_parameters(96) == {"max-fs": "12288", "max-fr": "60"}
            assert media.has("rtcp-mux")

    def test_a_second_audio_section(self) -> None:
        media = self.declined(AUDIO.replace("mid:a", "mid:b"))
        assert media.formats == ("111",)
        assert media.has("rtcp-mux")

    def test_data_of_another_transport_or_unwanted(self) -> None:
        for media in (self.declined(DATA, HEAD), self.declined(DATA, data=None)):
            assert media.formats == ("webrtc-datachannel",)
            assert media.value("sctp-port") == "5000"
            assert not media.has("rtcp-mux")

    def test_nothing_is_said_that_was_not_offered(self) -> None:
        assert not self.declined(VIDEO.replace("a=rtcp-mux\r\n", "")).has("rtcp-mux")
        bare = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:v\r\n"
        assert self.declined(bare).formats == ("96", "97"), "none has a meaning"
        assert self.declined(VIDEO.replace("a=mid:v\r\n", "")).mid is None

    def test_a_section_without_formats_is_answered_with_one(self) -> None:
        media = self.declined("m=video 9 UDP/TLS/RTP/SAVPF\r\na=mid:v\r\n")
        assert media.formats == ("0",), "an m= line has one at least"

    @pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
    def test_every_accepted_section_has_the_candidates(self, path: Path) -> None:
        answer = negotiate(read(path), our_side()).answer
        for media in answer.media:
            assert (media.candidates != ()) is media.has("end-of-candidates") is not media.is_rejected


UDP = "a=candidate:1 1 udp 2130706431 192.0.2.9 4000 typ host\r\n"
TCP = "a=candidate:2 1 TCP 1518280447 192.0.2.9 9 typ host tcptype active\r\n"
RELAY = "a=candidate:3 1 udp 41885439 198.51.100.7 5000 typ relay raddr 0.0.0.0 rport 0\r\n"
MDNS = "a=candidate:4 1 udp 2113937151 0f1e2d3c.local 4000 typ host\r\n"
UDP6 = "a=candidate:5 1 udp 2130706431 2001:db8::9 4000 typ host\r\n"
RTCP_ONLY = "a=candidate:6 2 udp 2130706430 192.0.2.9 4001 typ host\r\n"
HERE = "candidate:1 1 udp 2130706431 127.0.0.1 3478 typ host"


class TestReachability:
    """What could only be waited for in vain is refused at the offer."""

    @pytest.mark.parametrize(
        "lines",
        [
            UDP6,
            UDP6 + RELAY + "a=end-of-candidates\r\n",
            UDP6 + MDNS + "a=end-of-candidates\r\n",
            RTCP_ONLY,
            "",
            UDP,
            UDP + TCP,
            RELAY,
            RELAY + TCP,
            MDNS,
            MDNS + "a=end-of-candidates\r\n",
        ],
    )
    def test_what_may_work(self, lines: str) -> None:
        assert negotiate(offered(AUDIO, lines), our_side()).audio is not None

    @pytest.mark.parametrize(
        ("lines", "word"),
        [
            (TCP, "ours: udp; theirs: tcp"),
            (TCP + "a=end-of-candidates\r\n", "theirs: tcp"),
            (RELAY.replace("udp", "tcp"), "theirs: tcp"),
            ("a=end-of-candidates\r\n", "not one candidate"),
            (UDP6 + "a=end-of-candidates\r\n", "ours: IPv4; theirs: IPv6"),
            (RTCP_ONLY + "a=end-of-candidates\r\n", "no candidate of component 1"),
        ],
    )
    def test_what_cannot(self, lines: str, word: str) -> None:
        error = failure_of(offered(AUDIO, lines))
        assert error.failure is NegotiationFailure.UNREACHABLE
        assert word in error.detail

    def test_tcp_is_enough_where_we_have_it(self) -> None:
        ours = "candidate:9 1 tcp 1518280447 192.0.2.7 443 typ host tcptype passive"
        assert negotiate(offered(AUDIO, TCP), our_side(candidates=(HERE, ours))).audio is not None
        assert negotiate(offered(AUDIO, TCP), our_side(candidates=())).audio is not None, "ours come later"

    def test_lite_facing_lite(self) -> None:
        offer = offered(AUDIO, UDP, head=HEAD + "a=ice-lite\r\n")
        error = failure_of(offer)
        assert error.failure is NegotiationFailure.UNREACHABLE
        assert "ICE-lite" in error.detail
        assert negotiate(offer, our_side(ice_lite=False)).ice_controlling

    def test_relays_do_not_reach_the_loopback_address_of_another_machine(self) -> None:
        local = our_side(candidates=(HERE,))
        assert failure_of(offered(AUDIO, RELAY), local).failure is NegotiationFailure.UNREACHABLE
        near = RELAY.replace("198.51.100.7", "127.0.0.1")
        for lines in (RELAY + UDP, RELAY + MDNS, near):
            assert negotiate(offered(AUDIO, lines), local).audio is not None

    def test_an_answer_that_cannot_be_reached(self) -> None:
        client = our_client()
        offer = create_offer(client)
        tcp = our_side(candidates=("candidate:9 1 tcp 1518280447 192.0.2.7 443 typ host tcptype passive",))
        bare = tuple(without(media, "candidate", "end-of-candidates") for media in offer.media)
        answer = negotiate(replace(offer, media=bare), tcp).answer
        with pytest.raises(NegotiationError) as caught:
            accept_answer(offer, answer, client)
        assert caught.value.failure is NegotiationFailure.UNREACHABLE


def without(media: MediaDescription, *names: str) -> MediaDescription:
    return replace(media, attributes=tuple(each for each in media.attributes if each.name not in names))
