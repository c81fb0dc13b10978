"""Multicast DNS for candidates with names: what is asked, and what an answer may be."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.core.wire import Writer
from stack.ice.mdns import TYPE_A, TYPE_AAAA, is_mdns_name, parse_answer, serialize_question

NAME = "77e51b28-eed0-4e8f-9f87-69f2a9a3d9e3.local"
ENCODED = b"\x2477e51b28-eed0-4e8f-9f87-69f2a9a3d9e3\x05local\x00"


def answer(*records: tuple[bytes, int, int, bytes], flags: int = 0x8400, questions: int = 0) -> bytes:
    writer = Writer().u16(0).u16(flags).u16(questions).u16(len(records)).u16(0).u16(0)
    if questions:
        writer.put(ENCODED).u16(TYPE_A).u16(1)
    for name, kind, record_class, value in records:
        writer.put(name).u16(kind).u16(record_class).u32(120).u16(len(value)).put(value)
    return writer.finish()


def test_both_families_are_asked_for() -> None:
    question = serialize_question(NAME)
    assert question[:12] == bytes.fromhex("000000000002000000000000")
    assert question[12:] == ENCODED + b"\x00\x01\x00\x01" + ENCODED + b"\x00\x1c\x00\x01"


@pytest.mark.parametrize("name", ["", ".", "a..local", "x" * 64 + ".local", "a." * 128 + "local"])
def test_what_is_no_name_cannot_be_asked_for(name: str) -> None:
    with pytest.raises(LocalError):
        serialize_question(name)


def test_addresses_are_read_whatever_the_case_and_the_cache_flush_bit() -> None:
    upper = ENCODED[:1] + ENCODED[1:37].upper() + ENCODED[37:]
    data = answer((upper, TYPE_A, 0x8001, bytes([192, 168, 1, 7])), (ENCODED, TYPE_AAAA, 1, bytes(15) + b"\x01"))
    assert parse_answer(data, NAME) == ["192.168.1.7", "::1"]


def test_a_name_may_point_back_to_the_question() -> None:
    data = answer((b"\xc0\x0c", TYPE_A, 1, bytes([10, 0, 0, 1])), questions=1)
    assert parse_answer(data, NAME) == ["10.0.0.1"]


def test_what_belongs_to_others_is_passed_over() -> None:
    other = b"\x05other\x05local\x00"
    records = [
        (other, TYPE_A, 1, bytes(4)),
        (ENCODED, TYPE_A, 3, bytes(4)),
        (ENCODED, TYPE_A, 1, bytes(5)),
        (ENCODED, 16, 1, b"text"),
    ]
    assert parse_answer(answer(*records), NAME) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        serialize_question(NAME),
        answer((ENCODED, TYPE_A, 1, bytes(4)))[:-1],
        answer((b"\xc0\x0c", TYPE_A, 1, bytes(4))),  # a name that points at itself
        answer((b"\x80abc", TYPE_A, 1, bytes(4))),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_answer(data, NAME)


@given(st.binary(max_size=120))
def test_hostile_bytes_raise_nothing_but_parse_error(data: bytes) -> None:
    with suppress(ParseError):
        parse_answer(data, NAME)
    with suppress(ParseError):
        parse_answer(b"\0\0\x84\0\0\1\0\2\0\0\0\0" + data, NAME)


def test_which_names_are_asked_for_by_multicast() -> None:
    assert is_mdns_name(NAME)
    assert is_mdns_name("Printer.LOCAL.")
    assert not is_mdns_name("example.com")
    assert not is_mdns_name("local.example")
