import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.rtp.extensions import (
    ONE_BYTE_PROFILE,
    TWO_BYTE_PROFILE,
    AudioLevel,
    ExtensionIds,
    ExtensionMap,
    HeaderExtensions,
    PlayoutDelay,
    abs_send_time,
    parse_elements,
    serialize_elements,
)

ALL = ExtensionIds(audio_level=1, abs_send_time=2, transport_sequence=3, mid=4, playout_delay=5)

extensions = st.builds(
    HeaderExtensions,
    audio_level=st.none() | st.builds(AudioLevel, st.integers(0, 127), st.booleans()),
    mid=st.none() | st.text("abc0", min_size=1, max_size=20),
    transport_sequence=st.none() | st.integers(0, 0xFFFF),
    abs_send_time=st.none() | st.integers(0, 0xFFFFFF),
    playout_delay=st.none() | st.builds(PlayoutDelay, st.integers(0, 4095), st.integers(0, 4095)),
)


def test_the_one_byte_form_by_hand() -> None:
    """RFC 8285 §4.2: identifier and length minus one share a byte; padding may stand between elements."""
    elements = [(1, b"\xaa"), (2, b"\xbb\xcc")]
    assert parse_elements(ONE_BYTE_PROFILE, bytes.fromhex("10aa 00 21bbcc 0000")) == elements
    assert serialize_elements(elements) == (ONE_BYTE_PROFILE, bytes.fromhex("10aa21bbcc000000"))


def test_the_two_byte_form_by_hand() -> None:
    """RFC 8285 §4.3: an element may be empty, an identifier may be above 14."""
    data = bytes.fromhex("0100 1403aabbcc 00")
    assert parse_elements(TWO_BYTE_PROFILE | 7, data) == [(1, b""), (20, b"\xaa\xbb\xcc")]
    assert serialize_elements([(1, b""), (20, b"\xaa\xbb\xcc")]) == (TWO_BYTE_PROFILE, data)


def test_identifier_15_ends_the_one_byte_form() -> None:
    assert parse_elements(ONE_BYTE_PROFILE, bytes.fromhex("10aa f0bb 20cc")) == [(1, b"\xaa")]


def test_an_unknown_profile_has_no_elements() -> None:
    assert parse_elements(0x1234, b"\x10\xaa\0\0") == []


@pytest.mark.parametrize(
    ("profile", "data"), [(ONE_BYTE_PROFILE, "13aabb"), (TWO_BYTE_PROFILE, "0105aa"), (TWO_BYTE_PROFILE, "01")]
)
def test_an_element_longer_than_the_extension_is_refused(profile: int, data: str) -> None:
    with pytest.raises(ParseError):
        parse_elements(profile, bytes.fromhex(data))


@given(extensions)
def test_what_is_written_is_read(wanted: HeaderExtensions) -> None:
    mapping = ExtensionMap(ALL)
    profile, data = mapping.serialize(wanted)
    assert mapping.parse(profile, data) == wanted
    assert len(data) % 4 == 0


@given(st.sampled_from([ONE_BYTE_PROFILE, TWO_BYTE_PROFILE, 0]), st.binary(max_size=40))
def test_hostile_bytes(profile: int, data: bytes) -> None:
    try:
        result = ExtensionMap(ALL).parse(profile, data)
    except ParseError:
        return
    assert isinstance(result, HeaderExtensions)


def test_only_what_was_negotiated_is_written_and_read() -> None:
    everything = HeaderExtensions(AudioLevel(30, True), "0", 7, 9, PlayoutDelay(0, 2))
    narrow = ExtensionMap(ExtensionIds(audio_level=1))
    assert narrow.serialize(everything) == (ONE_BYTE_PROFILE, bytes.fromhex("109e0000"))
    assert narrow.parse(*ExtensionMap(ALL).serialize(everything)) == HeaderExtensions(AudioLevel(30, True))
    assert ExtensionMap(ExtensionIds()).serialize(everything) == (None, b"")


def test_identifiers_above_14_take_the_two_byte_form() -> None:
    mapping = ExtensionMap(ExtensionIds(audio_level=20))
    profile, data = mapping.serialize(HeaderExtensions(AudioLevel(127)))
    assert profile == TWO_BYTE_PROFILE
    assert mapping.parse(profile, data).audio_level == AudioLevel(127)


def test_elements_of_a_wrong_length_are_passed_over() -> None:
    profile, data = serialize_elements([(2, b"\0"), (3, b"\0"), (5, b"\0\0"), (1, b"\x85")])
    assert ExtensionMap(ALL).parse(profile, data) == HeaderExtensions(AudioLevel(5, True))


def test_identifiers_must_differ() -> None:
    with pytest.raises(LocalError):
        ExtensionMap(ExtensionIds(audio_level=1, mid=1))


def test_absolute_send_time_wraps_every_64_seconds() -> None:
    assert abs_send_time(1.5) == 3 << 17
    assert abs_send_time(64 + 1.5) == 3 << 17
