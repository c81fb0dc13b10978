"""Messages and attributes: round trips, the bytes of RFC 5769, what is refused, and hostile bytes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path as FilePath
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address
from stack.stun import (
    Attribute,
    DtlsInStun,
    DtlsInStunAcknowledgement,
    ErrorCode,
    Fingerprint,
    GoogNetworkInfo,
    IceControlled,
    IceControlling,
    MappedAddress,
    Message,
    MessageClass,
    MessageIntegrity,
    Method,
    Nonce,
    Priority,
    Realm,
    Software,
    UnknownAttribute,
    UnknownAttributes,
    UseCandidate,
    Username,
    XorMappedAddress,
    is_stun,
    peek_username,
    verify_integrity,
)

TRANSACTION_ID = bytes(range(12))
KEY = b"VOkJxbRl1RmTxUk/WvJxBt"


def load_vectors() -> dict[str, bytes]:
    vectors: dict[str, str] = {}
    name = ""
    for line in (FilePath(__file__).parents[1] / "vectors" / "rfc5769.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            name = line.strip("[]")
            vectors[name] = ""
        elif name:
            vectors[name] += line
    return {name: bytes.fromhex(text) for name, text in vectors.items()}


VECTORS = load_vectors()

ATTRIBUTES: list[Attribute] = [
    Username("evtj:h6vY"),
    MappedAddress(Address("192.0.2.1", 32853)),
    XorMappedAddress(Address("192.0.2.1", 32853)),
    XorMappedAddress(Address("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ErrorCode(487, "Role Conflict"),
    UnknownAttributes((0x7FFE, 0x7FFF)),
    Software("voice"),
    Realm("example.org"),
    Nonce("abc"),
    Priority(0x6E0001FF),
    UseCandidate(),
    IceControlled(0x932FF9B151263B36),
    IceControlling(2**64 - 1),
    GoogNetworkInfo(1, 50),
    DtlsInStun(b"\x16\xfe\xff" + bytes(10)),
    DtlsInStun(b""),
    DtlsInStunAcknowledgement(b"\xc1\xa7\x71\x3a"),
    UnknownAttribute(0xC0FE, b"12345"),
]


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: type(attribute).__name__)
def test_every_attribute_survives_a_round_trip(attribute: Attribute) -> None:
    message = Message(MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID, (attribute,))
    assert Message.parse(message.serialize()) == message
    assert len(message.serialize()) % 4 == 0


@pytest.mark.parametrize("message_class", list(MessageClass))
@pytest.mark.parametrize("method", [0x001, 0x003, 0x0AB, 0x0FF])
def test_class_and_method_are_interleaved_and_taken_apart(message_class: MessageClass, method: int) -> None:
    message = Message(message_class, method, TRANSACTION_ID)
    assert Message.parse(message.serialize()) == message


def test_the_four_binding_types_are_those_of_the_specification() -> None:
    first_bytes = [Message(c, Method.BINDING, TRANSACTION_ID).serialize()[:2].hex() for c in MessageClass]
    assert first_bytes == ["0001", "0011", "0101", "0111"]


def test_the_sample_request_parses() -> None:
    message = Message.parse(VECTORS["request"])
    assert message.message_class is MessageClass.REQUEST
    assert message.method == Method.BINDING
    assert message.get(Software) == Software("STUN test client")
    assert message.get(Priority) == Priority(0x6E0001FF)
    assert message.get(IceControlled) == IceControlled(0x932FF9B151263B36)
    assert message.get(Username) == Username("evtj:h6vY")
    assert message.get(UseCandidate) is None


@pytest.mark.parametrize(
    ("name", "address"),
    [("ipv4_response", "192.0.2.1"), ("ipv6_response", "2001:db8:1234:5678:11:2233:4455:6677")],
)
def test_the_sample_responses_parse_and_are_made_again_to_the_byte_but_for_padding(
    name: str, address: str
) -> None:
    message = Message.parse(VECTORS[name])
    assert message.get(XorMappedAddress) == XorMappedAddress(Address(address, 32853))
    assert message.get(Software) == Software("test vector")
    # The sample pads SOFTWARE with a space, we pad with zero (RFC 8489 §14), so only the padding byte and the
    # two checksums behind it differ.
    ours = message.serialize()
    differing = [i for i, (a, b) in enumerate(zip(ours, VECTORS[name], strict=True)) if a != b]
    assert differing == [35]


def test_what_follows_message_integrity_is_left_out() -> None:
    signed = Message(MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID, (Priority(1),)).sign(KEY)
    without_fingerprint = bytearray(signed[:-8])
    smuggled = b"\x00\x25\x00\x00"
    without_fingerprint[2:4] = (len(without_fingerprint) - 20 + len(smuggled)).to_bytes(2, "big")
    message = Message.parse(bytes(without_fingerprint) + smuggled)
    assert verify_integrity(bytes(without_fingerprint) + smuggled, KEY)
    assert message.get(UseCandidate) is None
    assert message.get(MessageIntegrity) is not None


def test_a_fingerprint_that_does_not_fit_is_refused() -> None:
    data = Message(MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID).serialize_with_fingerprint()
    assert Message.parse(data).get(Fingerprint) is not None
    with pytest.raises(ParseError, match="FINGERPRINT"):
        Message.parse(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_fingerprint_that_is_not_last_is_refused() -> None:
    data = bytearray(Message(MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID).serialize_with_fingerprint())
    data += b"\x00\x25\x00\x00"
    data[2:4] = (len(data) - 20).to_bytes(2, "big")
    with pytest.raises(ParseError, match="FINGERPRINT"):
        Message.parse(bytes(data))


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (0x0006, b"\xff\xfe"),
        (0x0006, b"a" * 514),
        (0x0008, bytes(19)),
        (0x001C, bytes(17)),
        (0x0009, b"\0\0\x02\0"),
        (0x0009, b"\0\0\x04\x64"),
        (0x0009, b"\0"),
        (0x000A, b"\0"),
        (0x0020, b"\0\x03\0\0abcd"),
        (0x0020, b"\0\x01\0\0abc"),
        (0x0020, b"\0\x01\0\0abcde"),
        (0x0024, b"\0\0\0"),
        (0x8029, bytes(4)),
        (0xC057, bytes(5)),
    ],
)
def test_malformed_values_are_refused(number: int, value: bytes) -> None:
    attribute = UnknownAttribute(number, value)
    with pytest.raises(ParseError):
        Message.parse(Message(MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID, (attribute,)).serialize())


def test_too_many_attributes_are_refused() -> None:
    attributes = (UseCandidate(),) * 65
    with pytest.raises(ParseError, match="more than"):
        Message.parse(Message(MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID, attributes).serialize())


def test_unknown_attributes_that_need_understanding_are_named() -> None:
    message = Message(
        MessageClass.REQUEST,
        Method.BINDING,
        TRANSACTION_ID,
        (UnknownAttribute(0x7F00, b""), UnknownAttribute(0xFF00, b"x")),
    )
    assert Message.parse(message.serialize()).unknown_required == (0x7F00,)


def test_our_own_mistakes_are_ours() -> None:
    with pytest.raises(LocalError):
        Message(MessageClass.REQUEST, Method.BINDING, b"short")
    with pytest.raises(LocalError):
        Message(MessageClass.REQUEST, 0x100, TRANSACTION_ID)


def test_the_username_is_found_without_parsing() -> None:
    assert peek_username(VECTORS["request"]) == "evtj:h6vY"
    assert peek_username(VECTORS["ipv4_response"]) is None
    assert peek_username(b"\x80\x60" + bytes(30)) is None
    assert peek_username(VECTORS["request"][:-4]) is None


def test_only_the_shape_of_stun_is_stun() -> None:
    request = VECTORS["request"]
    assert is_stun(request)
    assert not is_stun(request + b"\0\0\0\0")
    assert not is_stun(b"\x16" + request[1:])
    assert not is_stun(request[:4] + b"\0\0\0\0" + request[8:])
    assert not is_stun(b"")


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_raise_nothing_but_parse_error(data: bytes) -> None:
    peek_username(data)
    with pytest.raises(ParseError):
        Message.parse(data)


@given(st.sampled_from(sorted(VECTORS)), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_mutated_messages_raise_nothing_but_parse_error(name: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(VECTORS[name])
    for position, value in edits:
        data[position % len(data)] = value
    peek_username(bytes(data))
    verify_integrity(bytes(data), KEY)
    with suppress(ParseError):
        message = Message.parse(bytes(data))
        # What was accepted can be written, and read again if its checksum is made anew.
        kept = tuple(attribute for attribute in message.attributes if not isinstance(attribute, Fingerprint))
        again = replace(message, attributes=kept)
        assert Message.parse(again.serialize()) == again


@given(st.binary(max_size=120))
@settings(max_examples=200, deadline=None)
def test_random_attributes_behind_a_good_header_raise_nothing_but_parse_error(body: bytes) -> None:
    body = body[: len(body) // 4 * 4]
    data = b"\0\x01" + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TRANSACTION_ID + body
    assert is_stun(data)
    peek_username(data)
    with suppress(ParseError):
        assert Message.parse(data).transaction_id == TRANSACTION_ID


def load_browser_checks() -> dict[str, bytes]:
    text = (FilePath(__file__).parents[1] / "vectors" / "browser-checks.txt").read_text()
    sections = (section.split("]\n", 1) for section in text.split("[")[1:])
    return {name: bytes.fromhex(body) for name, body in sections}


BROWSERS = load_browser_checks()


@pytest.mark.parametrize("name", sorted(BROWSERS))
def test_what_browsers_send_is_read_and_written_again_to_the_byte(name: str) -> None:
    data = BROWSERS[name]
    message = Message.parse(data)
    written = message.serialize()
    # Chromium and Firefox pad with zero, as we do.
    assert written == data
    assert not message.unknown_required
    assert (message.get(UseCandidate) is not None) == ("nominating" in name)


def test_the_network_information_of_chromium() -> None:
    message = Message.parse(BROWSERS["chromium_check"])
    assert message.get(GoogNetworkInfo) == GoogNetworkInfo(1, 50)
    assert message.get(IceControlled) == IceControlled(0x72CD958AAEF32FE7)
    assert peek_username(BROWSERS["chromium_check"]) == "B57h:8Z+z"


def test_dtls_in_stun_of_chromium_is_acknowledged_by_its_checksum() -> None:
    embedded = Message.parse(BROWSERS["chromium_sped_check"]).get(DtlsInStun)
    acknowledgement = Message.parse(BROWSERS["chromium_sped_answer"]).get(DtlsInStunAcknowledgement)
    assert embedded is not None
    assert acknowledgement is not None
    assert acknowledgement.value == crc32(embedded.value).to_bytes(4, "big")
