from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.sdp import (
    MAX_CANDIDATES,
    MAX_FORMATS,
    MAX_MEDIA_DESCRIPTIONS,
    Connection,
    MediaDescription,
    MediaDirection,
    Origin,
    RtpMap,
    SdpAttribute,
    SessionDescription,
    Setup,
)
from stack.sdp.grammar import ExtMap, Line
from stack.sdp.reading import MAX_REMEMBERED_LENGTH, MAX_REMEMBERED_LIST
from tests.sdp.offers import AUDIO, HEAD, OFFERS, TRANSPORT, VECTORS, offered, read

WORDS = st.from_regex(r"[A-Za-z0-9.+-]{1,10}", fullmatch=True)
VALUES = st.none() | st.from_regex(r"([!-~\u00e4][ -~\u00e4]*)?[!-~\u00e4]", fullmatch=True)
ATTRIBUTES = st.lists(st.builds(SdpAttribute, WORDS, VALUES), max_size=6).map(tuple)
CONNECTIONS = st.none() | st.builds(Connection, st.sampled_from(["192.0.2.1", "2001:db8::1", "host.invalid"]))
MEDIA = st.builds(
    MediaDescription,
    WORDS.map(str.lower),
    st.integers(0, 65535),
    WORDS,
    st.lists(WORDS, min_size=1, max_size=4).map(tuple),
    CONNECTIONS,
    ATTRIBUTES,
    st.lists(WORDS, max_size=2).map(tuple),
    st.sampled_from([(), (Line("i", "a title"),), (Line("i", "a title"), Line("k", "prompt"))]),
)
DESCRIPTIONS = st.builds(
    SessionDescription,
    st.builds(Origin, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), WORDS),
    st.lists(MEDIA, max_size=4).map(tuple),
    ATTRIBUTES,
    WORDS,
    CONNECTIONS,
    st.lists(WORDS, max_size=2).map(tuple),
    st.sampled_from([(Line("t", "0 0"),), (Line("t", "1 2"), Line("r", "7d 1h 0 25h"))]),
    st.sampled_from(
        [(), (Line("i", "about"), Line("u", "http://x.invalid"), Line("e", "a@b"), Line("k", "prompt"))]
    ),
)


def written(attribute: SdpAttribute) -> str:
    return f"a={attribute.serialize()}\r\n"


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_offers_of_browsers_survive_to_the_letter(path: Path) -> None:
    assert read(path).serialize().encode() == path.read_bytes()


@given(DESCRIPTIONS)
def test_round_trip(description: SessionDescription) -> None:
    assert SessionDescription.parse(description.serialize()) == description


def test_a_firefox_offer_by_property() -> None:
    description = read(VECTORS / "offers" / "firefox153-audio_dc.sdp")
    assert description.bundle_groups == (("0", "1"),)
    assert not description.is_ice_lite
    audio, data = description.media
    assert audio.fingerprints == ()
    audio, data = description.resolved.media
    assert (audio.kind, audio.port, audio.mid, audio.direction) == ("audio", 32788, "0", MediaDirection.SENDRECV)
    assert audio.fingerprints == data.fingerprints
    assert len(audio.fingerprints[0].digest) == 32
    assert (audio.ice_ufrag, audio.ice_pwd) == ("c23838d4", "bcd5cee28f3e991cf090b64188e36db5")
    assert audio.ice_options == ("trickle",)
    assert audio.setup is Setup.ACTPASS
    assert audio.payload_types[109] == RtpMap("opus", 48000, 2)
    assert list(audio.payload_types) == [109, 9, 0, 8, 101]
    assert audio.format_parameters(109) == {"maxplaybackrate": "48000", "stereo": "1", "useinbandfec": "1"}
    assert audio.rtcp_feedback(109) == ("transport-cc",)
    assert audio.ssrcs == {2368557909: "{0c4559d3-186c-40a1-b00c-4f92d5e6275b}"}
    assert [(e.id, e.direction.value) for e in audio.extensions][:2] == [(1, "sendrecv"), (2, "recvonly")]
    assert len(audio.candidates) == 4, "those of component 2 are left out"
    assert data.value("max-message-size") == "1073741823"


class TestInheritance:
    def test_a_section_s_own_goes_first(self) -> None:
        head = HEAD + "a=ice-ufrag:session\r\na=setup:active\r\na=recvonly\r\na=extmap:5 urn:s\r\n"
        media = offered("m=audio 9 RTP/AVP 0\r\na=ice-ufrag:mine\r\na=sendonly\r\na=extmap:6 urn:m\r\n", head=head)
        section = media.resolved.media[0]
        assert section.ice_ufrag == "mine"
        assert section.setup is Setup.ACTIVE
        assert section.direction is MediaDirection.SENDONLY
        assert [extension.uri for extension in section.extensions] == ["urn:m", "urn:s"]

    def test_direction_and_connection(self) -> None:
        head = HEAD + "c=IN IP4 192.0.2.1\r\na=inactive\r\n"
        section = offered("m=audio 9 RTP/AVP 0\r\n", head=head).resolved.media[0]
        assert section.direction is MediaDirection.INACTIVE
        assert section.connection == Connection("192.0.2.1")

    def test_what_belongs_to_the_session_stays_there(self) -> None:
        section = offered(AUDIO, head=HEAD + "a=ice-lite\r\na=group:BUNDLE a\r\na=tool:x\r\n").resolved.media[0]
        assert not any(section.has(name) for name in ("ice-lite", "group", "tool"))


class TestLeniency:
    def test_line_feeds_alone_and_blanks(self) -> None:
        text = (HEAD + AUDIO).replace("\r\n", "  \n")
        assert SessionDescription.parse(text) == offered(AUDIO)

    def test_missing_name_and_time(self) -> None:
        description = SessionDescription.parse("v=0\no=- 1 1 IN IP4 0.0.0.0\nm=audio 9 RTP/AVP 0\n")
        assert description.name == "-"
        assert description.times == (Line("t", "0 0"),)

    def test_byte_order_mark_and_bytes(self) -> None:
        assert SessionDescription.parse(b"\xef\xbb\xbf" + HEAD.encode()) == offered()

    def test_broken_candidates_are_passed_over(self) -> None:
        lines = "a=candidate:rubbish\r\na=candidate:1 1 udp 5 192.0.2.1 9 typ host\r\na=candidate\r\n"
        assert offered(AUDIO, lines).media[0].candidates == ("candidate:1 1 udp 5 192.0.2.1 9 typ host",)

    def test_static_payload_types_need_no_rtpmap(self) -> None:
        media = offered("m=audio 9 RTP/AVP 0 8 77\r\n").media[0]
        assert media.payload_types == {0: RtpMap("PCMU", 8000), 8: RtpMap("PCMA", 8000)}

    def test_several_fingerprints_strongest_first(self) -> None:
        values = [("sha-1", 20), ("md5", 16), ("sha-512", 64), ("sha-256", 32)]
        lines = [f"a=fingerprint:{name} {':'.join(['0a'] * size)}\r\n" for name, size in values]
        media = offered("m=audio 9 RTP/AVP 0\r\n", *lines).media[0]
        assert [f.algorithm for f in media.fingerprints] == ["sha-512", "sha-256"]

    def test_feedback_for_every_payload_type(self) -> None:
        media = offered(AUDIO, "a=rtcp-fb:* nack\r\na=rtcp-fb:111 transport-cc\r\na=rtcp-fb:8 ccm fir\r\n").media[
            0
        ]
        assert media.rtcp_feedback(111) == ("nack", "transport-cc")


ODD_LINES = [
    ("a=rtpmap:128 x/8000", "rtpmap"),
    ("a=rtpmap:96 opus", "rtpmap"),
    ("a=rtpmap:", "rtpmap"),
    ("a=ssrc:4294967296 cname:x", "ssrc"),
    ("a=ssrc:", "ssrc"),
    ("a=msid:", "msid"),
    ("a=extmap:x urn:x", "extmap"),
    ("a=extmap:4/sideways urn:x", "extmap"),
    ("a=fingerprint:sha-256 AB", "fingerprint"),
    ("a=candidate:", "candidate"),
    ("a=max-message-size:huge", "max-message-size"),
    ("a=sctp-init:?", "sctp-init"),
    ("a=", "attribute"),
    ("a=:value", "attribute"),
    ("c=IN IP4", "connection"),
    ("c=nowhere", "connection"),
    ("a=mid\0:x", "line"),
    ("hello", "line"),
    ("\0", "nul"),
]


class TestIgnored:
    """What cannot be read is passed over and counted; the rest of the description is what it was."""

    @pytest.mark.parametrize(("line", "name"), ODD_LINES)
    def test_in_a_section(self, line: str, name: str) -> None:
        description = offered(AUDIO, f"{line}\r\n")
        assert description.ignored == {name: 1}
        section, plain = description.media[0], offered(AUDIO).media[0]
        for each in (
            "mid",
            "payload_types",
            "fingerprints",
            "candidates",
            "extensions",
            "msid",
            "ssrcs",
            "connection",
        ):
            assert getattr(section, each) == getattr(plain, each)

    @pytest.mark.parametrize(
        ("line", "name"), [(line, name) for line, name in ODD_LINES if name != "rtpmap"] + [("a=group:", "group")]
    )
    def test_in_the_session(self, line: str, name: str) -> None:
        description = offered(AUDIO, head=HEAD + f"{line}\r\n")
        assert description.ignored == {name: 1}
        assert description.bundle_groups == ()

    def test_a_section_without_formats(self) -> None:
        description = offered("m=video 9 UDP/TLS/RTP/SAVPF\r\n", AUDIO)
        assert description.media[0].formats == ()
        assert SessionDescription.parse(description.serialize()) == description

    def test_formats_that_are_no_payload_types(self) -> None:
        description = offered("m=audio 9 RTP/AVP 0 128 x \u0661\r\n")
        assert list(description.media[0].payload_types) == [0]
        assert description.ignored == {"format": 3}

    def test_a_mid_that_is_no_token(self) -> None:
        description = offered(AUDIO.replace("a=mid:a", "a=mid:\x01"))
        assert description.media[0].mid is None
        assert description.ignored == {"mid": 1}

    @pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
    def test_nothing_in_the_offers_of_browsers(self, path: Path) -> None:
        assert read(path).ignored == {}


class TestRefusal:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "v=1\r\n",
            "o=- 1 1 IN IP4 0.0.0.0\r\nv=0\r\n",
            "v=0\r\ns=-\r\n",
            HEAD + "o=- 2 2 IN IP4 0.0.0.0\r\n",
            HEAD + "x=unknown\r\n",
            HEAD + "m=audio 9\r\n",
            HEAD + "m=audio 65536 RTP/AVP 0\r\n",
            HEAD + "m=audio 9 RTP/AVP" + " 0" * (MAX_FORMATS + 1),
            HEAD + "m=audio 9 RTP/AVP 0\r\n" * (MAX_MEDIA_DESCRIPTIONS + 1),
        ],
    )
    def test_not_a_description(self, text: str) -> None:
        with pytest.raises(ParseError):
            SessionDescription.parse(text)

    def test_not_utf8(self) -> None:
        with pytest.raises(ParseError):
            SessionDescription.parse(b"v=0\r\ns=\xff\r\n")

    @pytest.mark.parametrize(
        ("line", "name"),
        [("ice-ufrag:x", "ice_ufrag"), ("ice-pwd:short", "ice_pwd"), ("setup:?", "setup")],
    )
    def test_bad_values_are_seen_when_they_are_read(self, line: str, name: str) -> None:
        media = offered(f"m=audio 9 RTP/AVP 0\r\na={line}\r\n").media[0]
        with pytest.raises(ParseError):
            getattr(media, name)

    def test_what_a_line_says_is_remembered_but_not_a_long_one(self) -> None:
        def read(line: str) -> ExtMap:
            (extension,) = offered(f"m=audio 9 RTP/AVP 0\r\na=extmap:{line}\r\n").media[0].extensions
            return extension

        short, long = "3 urn:x", "4 urn:" + "x" * MAX_REMEMBERED_LENGTH
        assert read(short) is read(short)
        assert read(long) == read(long)
        assert read(long) is not read(long)

    def test_what_a_list_of_lines_says_is_remembered_but_not_a_long_one(self) -> None:
        def read(formats: int, name: str = "a") -> MediaDescription:
            maps = "".join(f"a=rtpmap:{number} {name}{number}/8000\r\n" for number in range(formats))
            numbers = " ".join(map(str, range(formats)))
            return offered(f"m=audio 9 RTP/AVP {numbers}\r\n{maps}").media[0]

        assert read(3).payload_types is read(3).payload_types
        for long in (read(MAX_REMEMBERED_LIST + 1), read(1, "x" * MAX_REMEMBERED_LENGTH)):
            again = offered("m=audio 9 RTP/AVP " + " ".join(long.formats) + "\r\n", *map(written, long.attributes))
            assert again.media[0].payload_types == long.payload_types
            assert again.media[0].payload_types is not long.payload_types

    def test_a_secret_is_not_remembered(self) -> None:
        first, second = (
            {
                each.name: each
                for each in offered(AUDIO, "a=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\r\n").media[0].attributes
            }
            for _ in range(2)
        )
        assert first["rtpmap"] is second["rtpmap"]
        assert first["ice-pwd"] == second["ice-pwd"]
        assert first["ice-pwd"] is not second["ice-pwd"]

    def test_candidates_are_bounded(self) -> None:
        lines = "a=candidate:1 1 udp 5 192.0.2.1 9 typ host\r\n" * (MAX_CANDIDATES + 5)
        assert len(offered(AUDIO, lines).media[0].candidates) == MAX_CANDIDATES

    @settings(max_examples=200)
    @given(
        st.text()
        | st.lists(st.sampled_from((HEAD + AUDIO + TRANSPORT).split("\r\n")) | st.text(max_size=30)).map("\n".join)
    )
    def test_hostile_text(self, text: str) -> None:
        try:
            description = SessionDescription.parse(text)
        except ParseError:
            return
        assert SessionDescription.parse(description.serialize()).serialize() == description.serialize()
