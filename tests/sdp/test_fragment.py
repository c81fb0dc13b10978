from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.sdp import MAX_CANDIDATES, TrickleFragment

CANDIDATES = st.builds(
    "candidate:{} 1 udp {} 192.0.2.1 {} typ host".format,
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 65535),
)
ICE_CHARS = "ABCxyz019+/"
FRAGMENTS = st.builds(
    lambda credentials, *rest: TrickleFragment(*credentials, *rest),
    st.just((None, None))
    | st.tuples(st.text(ICE_CHARS, min_size=4, max_size=256), st.text(ICE_CHARS, min_size=22, max_size=256)),
    st.lists(CANDIDATES, max_size=5).map(tuple),
    st.booleans(),
    st.none() | st.sampled_from(["0", "audio"]),
)


@given(FRAGMENTS)
def test_round_trip(fragment: TrickleFragment) -> None:
    assert TrickleFragment.parse(fragment.serialize()) == fragment


def test_what_clients_send() -> None:
    text = (
        "a=group:BUNDLE 0 1\na=ice-options:trickle\na=ice-ufrag:user\na=ice-pwd:password+password+password\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\n"
        "a=candidate:1 1 udp 2130706431 d69b508f.local 40000 typ host generation 0 ufrag user\n"
        "a=candidate:1 2 udp 2130706430 d69b508f.local 40001 typ host\na=candidate:broken\na=end-of-candidates\n"
    )
    fragment = TrickleFragment.parse(text.encode())
    assert (fragment.ice_ufrag, fragment.ice_pwd) == ("user", "password+password+password")
    assert [candidate.split()[4] for candidate in fragment.candidates] == ["d69b508f.local"]
    assert fragment.end_of_candidates
    assert fragment.mid == "0"
    assert fragment.ignored == {"candidate": 1}


def test_an_empty_one() -> None:
    assert TrickleFragment.parse("") == TrickleFragment()
    assert TrickleFragment().serialize() == ""


@pytest.mark.parametrize(
    "text",
    [
        "v=0",
        "a=ice-ufrag:abcd",
        "a=ice-ufrag:a\na=ice-pwd:0123456789012345678901",
        "hello",
        b"a=\xff",
    ],
)
def test_refused(text: str | bytes) -> None:
    with pytest.raises(ParseError):
        TrickleFragment.parse(text)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("a=candidate:", "candidate"),
        ("a=", "attribute"),
        ("a=mid:\x01", "mid"),
        ("candidate:", "line"),
        ("c=IN IP4 0.0.0.0", "line"),
        ("\0", "nul"),
    ],
)
def test_an_odd_line_costs_itself(line: str, name: str) -> None:
    fragment = TrickleFragment.parse(
        f"a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n{line}\r\na=end-of-candidates\r\n"
    )
    assert fragment.candidates == ("candidate:1 1 udp 1 192.0.2.1 9 typ host",)
    assert fragment.end_of_candidates
    assert fragment.ignored == {name: 1}


def test_candidates_are_bounded() -> None:
    text = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n" * (MAX_CANDIDATES + 1)
    assert len(TrickleFragment.parse(text).candidates) == MAX_CANDIDATES


@given(st.text() | st.binary())
def test_hostile_text(text: str | bytes) -> None:
    try:
        fragment = TrickleFragment.parse(text)
    except ParseError:
        return
    assert TrickleFragment.parse(fragment.serialize()) == fragment
