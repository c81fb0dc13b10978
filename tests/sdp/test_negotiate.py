from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stack.core.errors import LocalError
from stack.core.header_extensions import URI_AUDIO_LEVEL, URI_MID, URI_TRANSPORT_CC
from stack.sdp import (
    OPUS,
    PCMA,
    PCMU,
    ChannelMap,
    DtlsRole,
    LocalData,
    LocalParameters,
    MediaDescription,
    MediaDirection,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
    SdpAttribute,
    SessionDescription,
    Setup,
    accept_answer,
    create_offer,
    negotiate,
    negotiate_for,
    opus,
)
from tests.sdp.offers import (
    AUDIO,
    BUNDLED,
    DATA,
    FINGERPRINT,
    HEAD,
    OFFERS,
    TRANSPORT,
    VECTORS,
    VIDEO,
    failure_of,
    offered,
    our_audio,
    our_client,
    our_side,
    read,
)


def by_name(name: str) -> SessionDescription:
    return read(VECTORS / "offers" / f"{name}.sdp")


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
class TestOffersOfBrowsers:
    def test_the_answer_to_the_letter(self, path: Path) -> None:
        """The stored answers were read line by line; a change of one is a change of what we say on the wire."""
        answer = negotiate(read(path), our_side()).answer
        assert answer.serialize().encode() == (VECTORS / "answers" / path.name).read_bytes()

    def test_sections_keep_their_place(self, path: Path) -> None:
        offer = read(path)
        answer = negotiate(offer, our_side()).answer
        assert [(m.kind, m.mid, m.protocol) for m in answer.media] == [
            (m.kind, m.mid, m.protocol) for m in offer.media
        ]
        kept = [m for m in answer.media if not m.is_rejected]
        assert answer.bundle_groups == (tuple(m.mid for m in kept),)
        assert [m.kind for m in kept] == [m.kind for m in offer.media if m.kind != "video"]

    def test_declining_audio_or_data(self, path: Path) -> None:
        offer = read(path)
        for local, left in ((our_side(audio=None), "application"), (our_side(data=None), "audio")):
            if any(media.kind == left for media in offer.media):
                agreed = negotiate(offer, local)
                used = [m for m in agreed.answer.media if m.port and m.direction is not MediaDirection.INACTIVE]
                assert [m.kind for m in used] == [left]
                assert (agreed.audio is None, agreed.data is None) == (left != "audio", left == "audio")
            else:
                assert failure_of(offer, local).failure is NegotiationFailure.NOTHING_IN_COMMON


class TestAgreement:
    def test_chromium(self) -> None:
        local = our_side(audio=our_audio(red=True))
        agreed = negotiate(by_name("chromium156-audio_dc"), local)
        assert (agreed.remote_ice_ufrag, agreed.remote_ice_pwd) == ("+FPy", "1+a1GlZqWWWOEGhLAXSYmLbl")
        assert agreed.dtls_role is DtlsRole.SERVER
        assert not agreed.ice_controlling
        assert not agreed.remote_ice_lite
        assert len(agreed.remote_candidates) == 2
        assert not agreed.remote_end_of_candidates
        audio = agreed.audio
        assert audio is not None
        assert (audio.mid, audio.payload_type, audio.codec, audio.clock_rate, audio.channels) == (
            "0",
            111,
            "opus",
            48000,
            2,
        )
        assert audio.red_payload_type == 63
        assert audio.telephone_event_payload_type == 110
        assert audio.extensions == {URI_AUDIO_LEVEL: 1}
        assert audio.rtcp_feedback == ()
        assert audio.rtcp_rsize
        assert audio.receiver_rtt
        assert audio.extmap_allow_mixed
        assert (audio.remote_ssrc, audio.remote_cname) == (1481687500, "2ZPZ0eow2MoWh62R")
        assert audio.local_parameters == OPUS.parameters
        assert audio.remote_parameters == {"minptime": "10", "useinbandfec": "1"}
        assert agreed.data is not None
        assert (agreed.data.remote_sctp_port, agreed.data.remote_max_message_size) == (5000, 262144)

    def test_firefox(self) -> None:
        local = our_side(audio=our_audio(red=True, extensions=(URI_TRANSPORT_CC, URI_AUDIO_LEVEL)))
        agreed = negotiate(by_name("firefox153-audio_dc"), local)
        assert agreed.remote_end_of_candidates
        assert all(" 1 " in candidate[:14] for candidate in agreed.remote_candidates)
        assert agreed.audio is not None
        assert agreed.audio.payload_type == 109
        assert agreed.audio.red_payload_type is None
        assert agreed.audio.telephone_event_payload_type is None, "Firefox has it at 8000 Hz only"
        assert agreed.audio.extensions == {URI_AUDIO_LEVEL: 1, URI_TRANSPORT_CC: 7}
        assert agreed.audio.remote_parameters["stereo"] == "1"
        assert not agreed.audio.rtcp_rsize

    def test_mid_extension_only_when_asked(self) -> None:
        offer = by_name("chromium156-audio")
        plain = negotiate(offer, our_side()).answer.media[0]
        assert URI_MID not in {extension.uri for extension in plain.extensions}
        asked = negotiate(offer, our_side(audio=our_audio(extensions=(URI_MID,))))
        assert asked.audio is not None
        assert asked.audio.extensions == {URI_MID: 4}

    @pytest.mark.parametrize(
        ("codecs", "expected", "events"),
        [
            ((PCMA, OPUS), (8, "PCMA", 8000, 1), 126),
            ((PCMU,), (0, "PCMU", 8000, 1), 126),
            ((OPUS, PCMU), (111, "opus", 48000, 2), 110),
        ],
    )
    def test_our_order_of_codecs_decides(self, codecs: object, expected: object, events: int) -> None:
        audio = negotiate(by_name("chromium156-audio"), our_side(audio=our_audio(codecs=codecs))).audio
        assert audio is not None
        assert (audio.payload_type, audio.codec, audio.clock_rate, audio.channels) == expected
        assert audio.telephone_event_payload_type == events, "at the clock rate of the codec"

    def test_stereo_on_request(self) -> None:
        local = our_side(audio=our_audio(codecs=(opus(stereo=True, dtx=True, inband_fec=False),)))
        answer = negotiate(by_name("chromium156-audio"), local).answer
        assert answer.media[0].format_parameters(111) == {
            "minptime": "10",
            "useinbandfec": "0",
            "stereo": "1",
            "sprop-stereo": "1",
            "usedtx": "1",
        }

    @given(st.sampled_from(MediaDirection), st.sampled_from(MediaDirection))
    def test_direction(self, theirs: MediaDirection, ours: MediaDirection) -> None:
        agreed = negotiate(offered(AUDIO, f"a={theirs.value}\r\n"), our_side(audio=our_audio(direction=ours)))
        assert agreed.audio is not None
        direction = agreed.audio.direction
        assert agreed.answer.media[0].direction is direction
        assert direction.sends == (ours.sends and theirs.receives)
        assert direction.receives == (ours.receives and theirs.sends)
        assert agreed.answer.media[0].has("msid") == direction.sends
        assert agreed.answer.media[0].has("ssrc") == direction.sends

    def test_feedback_is_what_both_want(self) -> None:
        offer = offered(AUDIO, "a=rtcp-fb:111 nack\r\na=rtcp-fb:111 transport-cc\r\n")
        agreed = negotiate(offer, our_side())
        assert agreed.audio is not None
        assert agreed.audio.rtcp_feedback == ("nack",)

    def test_packet_times(self) -> None:
        agreed = negotiate(offered(AUDIO, "a=ptime:40\r\na=maxptime:60\r\n"), our_side(audio=our_audio(ptime=20)))
        assert agreed.audio is not None
        assert (agreed.audio.ptime, agreed.audio.max_ptime) == (40, 60)
        assert agreed.answer.media[0].value("ptime") == "20"
        nonsense = negotiate(offered(AUDIO, "a=ptime:often\r\na=maxptime:0\r\n"), our_side()).audio
        assert nonsense is not None
        assert (nonsense.ptime, nonsense.max_ptime) == (None, None)

    def test_the_strongest_fingerprint_counts(self) -> None:
        weak = "a=fingerprint:sha-1 " + ":".join(["00"] * 20) + "\r\n"
        assert negotiate(offered(AUDIO, weak), our_side()).remote_fingerprints == (FINGERPRINT,)

    def test_no_candidates_at_all(self) -> None:
        assert negotiate(offered(AUDIO), our_side()).remote_candidates == ()

    def test_full_agent_facing_a_lite_one_controls(self) -> None:
        offer = offered(AUDIO, head=HEAD + "a=ice-lite\r\n")
        assert negotiate(offer, our_side(ice_lite=False)).ice_controlling
        assert not negotiate(offered(AUDIO), our_side(ice_lite=False)).ice_controlling


class TestHeaderExtensions:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (f"a=extmap:300 {URI_AUDIO_LEVEL}\r\n", {}),
            (f"a=extmap:0 {URI_AUDIO_LEVEL}\r\n", {}),
            (f"a=extmap:15 {URI_AUDIO_LEVEL} vad=on\r\n", {URI_AUDIO_LEVEL: 15}),
            (f"a=extmap:1/recvonly {URI_AUDIO_LEVEL}\r\n", {}),
            (f"a=extmap:1 urn:x\r\na=extmap:1 {URI_AUDIO_LEVEL}\r\n", {}),
            (
                f"a=extmap:1 {URI_AUDIO_LEVEL}\r\na=extmap:2 {URI_AUDIO_LEVEL}\r\n",
                {URI_AUDIO_LEVEL: 1},
            ),
        ],
    )
    def test_ids_are_those_of_the_offer_or_none(self, lines: str, expected: dict[str, int]) -> None:
        audio = negotiate(offered(AUDIO, lines), our_side()).audio
        assert audio is not None
        assert audio.extensions == expected


class TestSetup:
    @pytest.mark.parametrize(
        ("theirs", "preferred", "answered", "role"),
        [
            ("actpass", Setup.PASSIVE, "passive", DtlsRole.SERVER),
            ("actpass", Setup.ACTIVE, "active", DtlsRole.CLIENT),
            ("active", Setup.ACTIVE, "passive", DtlsRole.SERVER),
            ("passive", Setup.PASSIVE, "active", DtlsRole.CLIENT),
        ],
    )
    def test_roles(self, theirs: str, preferred: Setup, answered: str, role: DtlsRole) -> None:
        offer = offered(AUDIO.replace("actpass", theirs))
        agreed = negotiate(offer, our_side(setup=preferred))
        assert agreed.dtls_role is role
        assert agreed.answer.media[0].value("setup") == answered

    def test_none_means_active(self) -> None:
        assert (
            negotiate(offered(AUDIO.replace("a=setup:actpass\r\n", "")), our_side()).dtls_role is DtlsRole.SERVER
        )

    def test_holdconn(self) -> None:
        error = failure_of(offered(AUDIO.replace("actpass", "holdconn")))
        assert error.failure is NegotiationFailure.SETUP_CONFLICT


class TestBundle:
    def test_without_a_group_there_is_one_section(self) -> None:
        agreed = negotiate(offered(DATA, AUDIO), our_side())
        assert agreed.audio is not None
        assert agreed.data is None
        assert [media.port for media in agreed.answer.media] == [0, 3478]
        assert agreed.answer.bundle_groups == ()

    def test_data_in_another_group_is_declined(self) -> None:
        head = HEAD + "a=group:BUNDLE d\r\na=group:BUNDLE a\r\n"
        agreed = negotiate(offered(DATA, AUDIO, head=head), our_side())
        assert agreed.data is None
        assert agreed.answer.bundle_groups == (("a",),)

    def test_the_first_of_the_group_leads(self) -> None:
        agreed = negotiate(offered(AUDIO, DATA, head=HEAD + "a=group:BUNDLE d a\r\n"), our_side())
        assert agreed.answer.bundle_groups == (("d", "a"),)
        audio, data = agreed.answer.media
        assert data.candidates == ("candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",)
        assert audio.candidates == data.candidates, "aiortc takes those of the last section"

    def test_bundle_only_sections_take_the_transport_of_the_tagged_one(self) -> None:
        bare = (
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=bundle-only\r\na=sctp-port:5000\r\n"
        )
        agreed = negotiate(offered(AUDIO, bare, head=BUNDLED), our_side())
        assert agreed.data is not None
        assert agreed.answer.media[1].port == 3478
        assert not agreed.answer.media[1].has("bundle-only")

    def test_video_in_front_of_the_group_is_kept_idle(self) -> None:
        agreed = negotiate(offered(VIDEO, AUDIO, head=HEAD + "a=group:BUNDLE v a\r\n"), our_side())
        assert [media.direction.value for media in agreed.answer.media] == ["inactive", "sendrecv"]
        behind = negotiate(offered(VIDEO, AUDIO, head=HEAD + "a=group:BUNDLE a v\r\n"), our_side())
        assert [media.port for media in behind.answer.media] == [0, 3478]

    def test_data_in_front_that_we_do_not_want(self) -> None:
        agreed = negotiate(offered(DATA, AUDIO, head=HEAD + "a=group:BUNDLE d a\r\n"), our_side(data=None))
        assert [media.port for media in agreed.answer.media] == [0, 3478]
        assert agreed.answer.bundle_groups == (("a",),)
        assert agreed.answer.media[1].candidates

    def test_a_section_that_only_lends_its_transport(self) -> None:
        bare = AUDIO.replace("m=audio 9", "m=audio 0").replace(TRANSPORT, "a=bundle-only\r\n")
        agreed = negotiate(offered(VIDEO, bare, head=HEAD + "a=group:BUNDLE v a\r\n"), our_side())
        assert agreed.remote_ice_ufrag == "abcd"
        assert agreed.answer.bundle_groups == (("v", "a"),)
        video, audio = agreed.answer.media
        assert (video.port, audio.port) == (3478, 3478)
        assert video.direction is MediaDirection.INACTIVE
        assert video.formats == ("96",)
        assert video.candidates
        assert agreed.audio is not None
        assert agreed.audio.direction is MediaDirection.SENDRECV

    def test_a_second_audio_section_is_declined(self) -> None:
        second = AUDIO.replace("mid:a", "mid:b")
        agreed = negotiate(offered(AUDIO, second, head=HEAD + "a=group:BUNDLE a b\r\n"), our_side())
        assert [media.is_rejected for media in agreed.answer.media] == [False, True]
        assert agreed.answer.bundle_groups == (("a",),)

    def test_an_audio_section_without_our_codec_is_passed_over(self) -> None:
        first = AUDIO.replace("opus", "speex")
        agreed = negotiate(offered(first, AUDIO.replace("mid:a", "mid:b")), our_side())
        assert agreed.audio is not None
        assert agreed.audio.mid == "b"

    def test_a_rejected_section_stays_rejected(self) -> None:
        agreed = negotiate(offered(AUDIO.replace("m=audio 9", "m=audio 0"), DATA, head=BUNDLED), our_side())
        assert agreed.audio is None
        assert agreed.data is not None

    def test_without_mids(self) -> None:
        agreed = negotiate(offered(AUDIO.replace("a=mid:a\r\n", "")), our_side())
        assert agreed.audio is not None
        assert agreed.audio.mid is None
        assert not agreed.answer.media[0].has("mid")

    def test_mids_are_unique(self) -> None:
        error = failure_of(offered(AUDIO, AUDIO, head=BUNDLED))
        assert error.failure is NegotiationFailure.MALFORMED


class TestData:
    def test_sizes_and_ports(self) -> None:
        data = negotiate(offered(DATA.replace("5000", "5001")), our_side()).data
        assert data is not None
        assert (data.remote_sctp_port, data.remote_max_message_size) == (5001, 65536)
        unlimited = negotiate(offered(DATA, "a=max-message-size:0\r\n"), our_side()).data
        assert unlimited is not None
        assert unlimited.remote_max_message_size == 0

    def test_closed_port(self) -> None:
        assert "closed" in failure_of(offered(DATA.replace("5000", "0"))).detail

    def test_the_old_form(self) -> None:
        old = (
            "m=application 9 DTLS/SCTP 5000\r\na=mid:data\r\na=sctpmap:5000 webrtc-datachannel 1024\r\n"
            + TRANSPORT
        )
        agreed = negotiate(offered(old), our_side())
        assert agreed.data is not None
        assert agreed.data.remote_sctp_port == 5000
        answered = agreed.answer.media[0]
        assert (answered.protocol, answered.formats) == ("DTLS/SCTP", ("5000",))
        assert answered.value("sctpmap") == "5000 webrtc-datachannel 1024"
        assert not answered.has("sctp-port")

    def test_sctp_init_needs_both_sides(self) -> None:
        theirs = "a=sctp-init:AQAAHqXTF4MAUAAA/////7WEcU/AAAAEgAgABoLA\r\n"
        init = b"\x01\x00\x00\x14" + bytes(16)
        both = negotiate(offered(DATA, theirs), our_side(data=LocalData(sctp_init=init)))
        assert both.data is not None
        assert both.data.remote_sctp_init is not None
        assert both.data.remote_sctp_init[:4] == b"\x01\x00\x00\x1e"
        assert both.answer.media[0].value("sctp-init") == "AQAAFAAAAAAAAAAAAAAAAAAAAAA="
        for offer, local in (
            (offered(DATA, theirs), our_side()),
            (offered(DATA), our_side(data=LocalData(sctp_init=init))),
        ):
            agreed = negotiate(offer, local)
            assert agreed.data is not None
            assert agreed.data.remote_sctp_init is None
            assert not agreed.answer.media[0].has("sctp-init")

    def test_channels_are_agreed_on_where_the_offer_names_them(self) -> None:
        line = 'a=dcmap:0 label="events"\r\na=dcmap:0 label="again"\r\na=dcmap:x\r\n'
        agreed = negotiate(offered(DATA, line), our_side())
        assert agreed.data is not None
        assert agreed.data.channels == (ChannelMap(0, "events"),)
        assert agreed.data.channels_by_peer
        assert agreed.answer.media[0].values("dcmap") == ('0 label="events"',)
        assert agreed.ignored["dcmap"] == 1
        plain = negotiate(offered(DATA), our_side(data=LocalData(channels=(ChannelMap(0, "events"),))))
        assert plain.data is not None
        assert plain.data.channels == ()
        assert not plain.answer.media[0].has("dcmap"), "an answer names none that the offer does not"

    def test_an_offer_names_channels_and_an_answer_may_leave_them_out(self) -> None:
        ours = our_client(data=LocalData(channels=(ChannelMap(0, "events"),)))
        offer = create_offer(ours)
        answer = negotiate(SessionDescription.parse(offer.serialize()), our_side()).answer.serialize()
        taken = accept_answer(offer, SessionDescription.parse(answer), ours)
        assert taken.data is not None
        assert taken.data.channels == (ChannelMap(0, "events"),)
        assert not taken.data.channels_by_peer
        without = "".join(line for line in answer.splitlines(keepends=True) if not line.startswith("a=dcmap"))
        left = accept_answer(offer, SessionDescription.parse(without), ours)
        assert left.data is not None
        assert left.data.channels == ()

    @pytest.mark.parametrize(
        "chunk",
        [b"", b"\x01\x00\x00\x04", b"\x02\x00\x00\x14" + bytes(16), b"\x01\x00\x00\x15" + bytes(16), bytes(20)],
    )
    def test_what_is_no_init_chunk_counts_as_absent(self, chunk: bytes) -> None:
        line = f"a=sctp-init:{b64encode(chunk).decode()}\r\n"
        agreed = negotiate(
            offered(DATA, line), our_side(data=LocalData(sctp_init=b"\x01\x00\x00\x14" + bytes(16)))
        )
        assert agreed.data is not None
        assert agreed.data.remote_sctp_init is None
        assert not agreed.answer.media[0].has("sctp-init")
        assert agreed.ignored["sctp-init"] == 1

    def test_what_cannot_be_read_counts_as_absent(self) -> None:
        local = our_side(data=LocalData(sctp_init=bytes(20)))
        agreed = negotiate(offered(DATA, "a=sctp-init:?\r\na=max-message-size:huge\r\n"), local)
        assert agreed.data is not None
        assert agreed.data.remote_sctp_init is None
        assert agreed.data.remote_max_message_size == 65536
        assert not agreed.answer.media[0].has("sctp-init")
        assert agreed.ignored == {"max-message-size": 1, "sctp-init": 1}
        assert "sctp-port" in failure_of(offered(DATA.replace("5000", "often"))).detail


class TestOurOffers:
    def test_it_can_be_answered_and_both_sides_agree(self) -> None:
        init = b"\x01\x00\x00\x14" + bytes(range(16))
        audio = our_audio(red=True, extensions=(URI_AUDIO_LEVEL, URI_TRANSPORT_CC))
        client = our_client(audio=audio, data=LocalData(sctp_init=init), ice_ufrag="client")
        theirs = b"\x01\x00\x00\x14" + bytes(range(16, 32))
        server = our_side(audio=replace(audio, ssrc=7), data=LocalData(sctp_init=theirs), ice_ufrag="server")
        offer = SessionDescription.parse(create_offer(client).serialize())
        there = negotiate(offer, server)
        here = accept_answer(offer, SessionDescription.parse(there.answer.serialize()), client)
        assert (here.dtls_role, there.dtls_role) == (DtlsRole.CLIENT, DtlsRole.SERVER)
        assert (here.ice_controlling, there.ice_controlling) == (True, False)
        assert (here.remote_ice_ufrag, there.remote_ice_ufrag) == ("server", "client")
        assert here.remote_ice_lite
        assert here.audio is not None
        assert there.audio is not None
        assert here.audio == structs.replace(there.audio, remote_ssrc=7)
        assert here.audio.red_payload_type is not None
        assert here.audio.telephone_event_payload_type is not None
        assert here.audio.rtcp_feedback == ("nack",)
        assert here.audio.extensions == {URI_AUDIO_LEVEL: 1, URI_TRANSPORT_CC: 2}
        assert here.data is not None
        assert there.data is not None
        assert here.data == structs.replace(there.data, remote_sctp_init=theirs)
        assert there.data.remote_sctp_init == init

    @pytest.mark.parametrize("is_echo", [True, False])
    def test_an_answer_that_returns_our_own_sctp_init_read_nothing_of_ours(self, is_echo: bool) -> None:
        """The channels that it returns are then no agreement either; beside another INIT the same line is one."""
        init, another = (b"\x01\x00\x00\x14" + bytes(range(n, n + 16)) for n in (0, 16))
        events = ChannelMap(0, "events")
        client = our_client(data=LocalData(sctp_init=init, channels=(events,)))
        offer = create_offer(client)
        there = negotiate(offer, our_side(data=LocalData(sctp_init=init if is_echo else another)))
        for name, is_returned in (("sctp-init", is_echo), ("dcmap", True)):
            assert (there.answer.media[1].value(name) == offer.media[1].value(name)) is is_returned
        here = accept_answer(offer, there.answer, client)
        assert here.data is not None
        assert here.data.remote_sctp_init == (None if is_echo else another)
        assert here.data.channels == (() if is_echo else (events,))

    @pytest.mark.parametrize(
        ("direction", "answered"),
        [
            (MediaDirection.SENDONLY, MediaDirection.SENDRECV),
            (MediaDirection.RECVONLY, MediaDirection.RECVONLY),
            (MediaDirection.SENDRECV, MediaDirection.SENDONLY),
        ],
    )
    def test_directions(self, direction: MediaDirection, answered: MediaDirection) -> None:
        client = our_client(audio=our_audio(direction=direction))
        server = our_side(audio=our_audio(direction=answered))
        offer = create_offer(client)
        there = negotiate(offer, server)
        here = accept_answer(offer, there.answer, client)
        assert here.audio is not None
        assert there.audio is not None
        assert here.audio.direction is there.audio.direction.reversed()

    def test_audio_or_data_alone(self) -> None:
        assert [m.kind for m in create_offer(our_side(), data=False).media] == ["audio"]
        alone = create_offer(our_side(), audio=False)
        assert [(m.kind, m.mid) for m in alone.media] == [("application", "0")]
        assert alone.media[0].candidates
        with pytest.raises(LocalError):
            create_offer(our_side(audio=None), data=False)

    def test_an_active_server(self) -> None:
        offer = create_offer(our_client())
        here = accept_answer(offer, negotiate(offer, our_side(setup=Setup.ACTIVE)).answer, our_client())
        assert here.dtls_role is DtlsRole.SERVER

    @pytest.mark.parametrize(
        ("change", "failure"),
        [
            (lambda answer: replace(answer, media=answer.media[:1]), NegotiationFailure.ANSWER_MISMATCH),
            (lambda answer: replace(answer, media=answer.media[::-1]), NegotiationFailure.ANSWER_MISMATCH),
            (lambda answer: with_line(answer, "mid", "7"), NegotiationFailure.ANSWER_MISMATCH),
            (lambda answer: with_line(answer, "rtpmap", "111 speex/16000"), NegotiationFailure.ANSWER_MISMATCH),
            (lambda answer: without_line(answer, "rtcp-mux"), NegotiationFailure.ANSWER_MISMATCH),
            (lambda answer: replace(answer, attributes=()), NegotiationFailure.NOT_BUNDLED),
            (lambda answer: with_line(answer, "setup", "actpass"), NegotiationFailure.SETUP_CONFLICT),
            (lambda answer: without_line(answer, "fingerprint"), NegotiationFailure.NO_FINGERPRINT),
            (lambda answer: with_line(answer, "ice-pwd", "short"), NegotiationFailure.MALFORMED),
            (
                lambda answer: replace(answer, media=tuple(replace(m, port=0) for m in answer.media)),
                NegotiationFailure.NOTHING_IN_COMMON,
            ),
        ],
    )
    def test_answers_that_do_not_fit(self, change: object, failure: NegotiationFailure) -> None:
        client = our_client(audio=our_audio(codecs=(OPUS,)))
        offer = create_offer(client)
        answer = negotiate(offer, our_side()).answer
        with pytest.raises(NegotiationError) as caught:
            accept_answer(offer, change(answer), client)  # type: ignore[operator]
        assert caught.value.failure is failure

    def test_an_answer_that_declines_data(self) -> None:
        offer = create_offer(our_client())
        here = accept_answer(offer, negotiate(offer, our_side(data=None)).answer, our_client())
        assert here.audio is not None
        assert here.data is None


class TestOurSide:
    @pytest.mark.parametrize(
        "change",
        [{"ice_ufrag": "abc"}, {"ice_pwd": "short"}, {"setup": Setup.ACTPASS}, {"candidates": ("rubbish",)}],
    )
    def test_what_the_caller_must_not_do(self, change: dict[str, object]) -> None:
        with pytest.raises(LocalError):
            negotiate(offered(AUDIO), our_side(**change))

    def test_default_address(self) -> None:
        host = "candidate:1 1 udp 1 192.0.2.7 3478 typ host"
        tcp = "candidate:2 1 tcp 1 192.0.2.7 3478 typ host tcptype passive"
        relay = "candidate:3 1 udp 1 2001:db8::9 1000 typ relay raddr :: rport 0"
        for candidates, port, address in (
            ((tcp, host), 3478, "192.0.2.7"),
            ((host, relay), 1000, "2001:db8::9"),
            ((tcp,), 9, "0.0.0.0"),
        ):
            media = negotiate(offered(AUDIO), our_side(candidates=candidates)).answer.media[0]
            assert media.connection is not None
            assert (media.port, media.connection.address) == (port, address)

    def test_ice_options_of_our_choice_are_answered_when_offered(self) -> None:
        local = our_side(ice_options=("ice2", "trickle", "sped"))
        assert negotiate(offered(AUDIO), local).answer.value("ice-options") == "ice2 trickle"
        agreed = negotiate(offered(AUDIO, "a=ice-options:trickle sped googspedv1\r\n"), local)
        assert agreed.answer.value("ice-options") == "ice2 trickle sped"
        assert agreed.remote_ice_options == ("trickle", "sped", "googspedv1")


def with_line(description: SessionDescription, name: str, value: str) -> SessionDescription:
    first, *rest = description.media
    return replace(description, media=(_changed(first, name, [SdpAttribute(name, value)]), *rest))


def without_line(description: SessionDescription, name: str) -> SessionDescription:
    return replace(description, media=tuple(_changed(media, name, []) for media in description.media))


def _changed(media: MediaDescription, name: str, instead: list[SdpAttribute]) -> MediaDescription:
    assert media.has(name) or not instead
    return replace(media, attributes=(*(a for a in media.attributes if a.name != name), *instead))


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_an_answer_whose_credentials_come_last_is_the_same_answer(path: Path) -> None:
    """What they follow from is what is agreed on, so that is found first, and once."""
    offer = read(path)
    draft = our_side(ice_ufrag="draft", ice_pwd="d" * 22, session_id=17)
    shown: list[Negotiation] = []

    def choose_credentials(agreed: Negotiation) -> LocalParameters:
        shown.append(agreed)
        return our_side()

    assert negotiate_for(offer, draft, choose_credentials) == negotiate(offer, our_side())
    assert shown == [negotiate(offer, draft)]
    assert negotiate_for(offer, draft, lambda agreed: None) is None
