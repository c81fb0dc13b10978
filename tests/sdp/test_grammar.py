from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.sdp import Connection, ExtMap, Group, MediaDirection, Msid, Origin, RtpMap, Setup
from stack.sdp.grammar import (
    MAX_DESCRIPTION_SIZE,
    MAX_LINES,
    CandidateSummary,
    Line,
    SdpAttribute,
    SsrcAttribute,
    parse_format_parameters,
    parse_ice_chars,
    parse_number,
    serialize_format_parameters,
    serialize_lines,
    split_lines,
)

DIRECTIONS = st.sampled_from(MediaDirection)
TOKENS = st.from_regex(r"[A-Za-z0-9.+-]{1,12}", fullmatch=True)


def lines_of(text: str) -> tuple[list[Line], Mapping[str, int]]:
    ignored: Counter[str] = Counter()
    return split_lines(text, ignored), dict(ignored)


class TestLines:
    def test_every_kind_of_line_end(self) -> None:
        expected = [Line("v", "0"), Line("s", "-"), Line("t", "0 0")]
        assert lines_of("v=0\r\ns=- \t\n \tt=0 0\n\n\r\n") == (expected, {})

    @pytest.mark.parametrize("text", ["v", "v 0", "=0", "v=0\rm=audio", "v=\0x", "vv=0"])
    def test_what_is_no_line_is_passed_over_and_counted(self, text: str) -> None:
        assert lines_of(f"v=0\n{text}\na=x") == ([Line("v", "0"), Line("a", "x")], {"line": 1})

    def test_the_end_of_a_c_string(self) -> None:
        assert lines_of("v=0\na=x\0") == ([Line("v", "0"), Line("a", "x")], {"nul": 1})
        assert lines_of("v=0\r\n\0") == ([Line("v", "0")], {"nul": 1})

    def test_unicode_line_separators_end_nothing(self) -> None:
        assert lines_of("s=a\u2028b\x0bc\x85d") == ([Line("s", "a\u2028b\x0bc\x85d")], {})

    def test_bounds(self) -> None:
        assert len(lines_of("a=x\n" * MAX_LINES)[0]) == MAX_LINES
        with pytest.raises(ParseError, match="lines"):
            lines_of("a=x\n" * (MAX_LINES + 1))
        with pytest.raises(ParseError, match="characters"):
            lines_of("a=" + "x" * MAX_DESCRIPTION_SIZE)

    def test_written_with_crlf(self) -> None:
        assert serialize_lines([Line("v", "0"), Line("s", "-")]) == "v=0\r\ns=-\r\n"


class TestAttribute:
    @pytest.mark.parametrize("text", ["rtcp-mux", "mid:0", "fmtp:111 a=b", "empty:", "x:y:z"])
    def test_round_trip(self, text: str) -> None:
        assert SdpAttribute.parse(text).serialize() == text

    def test_property_and_empty_value_differ(self) -> None:
        assert SdpAttribute.parse("x") == SdpAttribute("x", None)
        assert SdpAttribute.parse("x:") == SdpAttribute("x", "")
        with pytest.raises(ParseError):
            SdpAttribute.parse(":value")


class TestDirection:
    @given(DIRECTIONS)
    def test_reversing_twice(self, direction: MediaDirection) -> None:
        assert direction.reversed().reversed() is direction
        assert direction.reversed().sends == direction.receives

    @given(DIRECTIONS, DIRECTIONS)
    def test_intersection(self, one: MediaDirection, other: MediaDirection) -> None:
        both = one.intersect(other)
        assert both is other.intersect(one)
        assert both.sends == (one.sends and other.sends)
        assert both.receives == (one.receives and other.receives)


class TestValues:
    @given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from(["127.0.0.1", "::1"]))
    def test_origin(self, session_id: int, version: int, address: str) -> None:
        origin = Origin(session_id, version, "-", address)
        assert Origin.parse(origin.serialize()) == origin

    @given(TOKENS, st.integers(1, 2**32 - 1), st.integers(1, 255))
    def test_rtp_map(self, encoding: str, rate: int, channels: int) -> None:
        rtp_map = RtpMap(encoding, rate, channels)
        assert RtpMap.parse(rtp_map.serialize()) == rtp_map
        assert rtp_map.matches(RtpMap(encoding.swapcase(), rate, channels))
        assert not rtp_map.matches(RtpMap(encoding, rate, channels + 1))

    def test_one_channel_may_be_said(self) -> None:
        assert RtpMap.parse("G722/8000/1") == RtpMap("G722", 8000)

    @given(st.integers(0, 65535), TOKENS, DIRECTIONS)
    def test_ext_map(self, number: int, uri: str, direction: MediaDirection) -> None:
        extension = ExtMap(number, uri, direction)
        assert ExtMap.parse(extension.serialize()) == extension

    @given(st.dictionaries(TOKENS.map(str.lower), TOKENS | st.just("")))
    def test_format_parameters(self, parameters: dict[str, str]) -> None:
        assert parse_format_parameters(serialize_format_parameters(parameters)) == parameters

    def test_format_parameters_of_others(self) -> None:
        assert parse_format_parameters(" minptime=10; UseInbandFec=1;;minptime=20") == {
            "minptime": "10",
            "useinbandfec": "1",
        }
        assert parse_format_parameters("111/111") == {"111/111": ""}

    def test_small_ones(self) -> None:
        assert Group.parse("BUNDLE 0 1") == Group("BUNDLE", ("0", "1"))
        assert Msid.parse("{stream} {track}") == Msid("{stream}", "{track}")
        assert Msid.parse("-").serialize() == "-"
        assert Msid.parse("stream track appdata") == Msid("stream", "track")
        assert Setup.parse("ACTPASS") is Setup.ACTPASS
        assert Connection.parse("IN IP6 ::1") == Connection("::1")
        assert SsrcAttribute.parse("17 cname:a:b") == SsrcAttribute(17, "cname", "a:b")

    @pytest.mark.parametrize(
        ("parse", "text"),
        [
            (Origin.parse, "- 1 IN IP4 127.0.0.1"),
            (Origin.parse, f"- {2**64} 1 IN IP4 127.0.0.1"),
            (RtpMap.parse, "opus"),
            (RtpMap.parse, "opus/x"),
            (RtpMap.parse, "opus/48000/2/1"),
            (ExtMap.parse, "4"),
            (ExtMap.parse, "4/sideways urn:x"),
            (ExtMap.parse, "-1 urn:x"),
            (Group.parse, ""),
            (Group.parse, "BUNDLE a\x01"),
            (Msid.parse, ""),
            (Setup.parse, "sometimes"),
            (Connection.parse, "IN IP5 x"),
            (SsrcAttribute.parse, f"{2**32} cname:x"),
            (CandidateSummary.parse, "candidate:1 1 udp"),
        ],
    )
    def test_refused(self, parse: object, text: str) -> None:
        with pytest.raises(ParseError):
            parse(text)  # type: ignore[operator]

    def test_numbers_are_ascii(self) -> None:
        assert parse_number("65535", "n") == 65535
        for text in ("", "65536", "-1", "+1", "1_0", "\u0661", "9" * 5000):
            with pytest.raises(ParseError):
                parse_number(text, "n")

    def test_ice_chars(self) -> None:
        assert parse_ice_chars("+/aZ", "ufrag", 4) == "+/aZ"
        for text in ("abc", "a" * 257, "abc=", "abc d"):
            with pytest.raises(ParseError):
                parse_ice_chars(text, "ufrag", 4)

    def test_candidate(self) -> None:
        text = "candidate:0 2 UDP 2122187006 d69b508f.local 37938 typ host"
        summary = CandidateSummary.parse(text)
        assert summary == (2, "udp", "d69b508f.local", 37938, "host")
        assert not summary.is_literal
        assert CandidateSummary.parse(text.replace("d69b508f.local", "::1")).is_literal
