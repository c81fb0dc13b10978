"""The base of commands and events, and JSON for dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from stack.core.errors import LocalError, ParseError
from stack.core.values import MAX_JSON_SIZE, TextOrBytes, Value, from_json, read_json_object, to_json


class Said(Value, frozen=True):
    """A value with something that is not shown."""

    unshown: ClassVar[frozenset[str]] = frozenset({"sound"})
    who: str
    sound: bytes = b""


@dataclass(frozen=True, slots=True)
class Inner:
    """A dataclass that checks itself."""

    number: int = 1

    def __post_init__(self) -> None:
        if self.number < 0:
            raise LocalError("negative")


@dataclass(frozen=True, slots=True)
class Outer:
    """A dataclass around others."""

    data: bytes
    inner: tuple[Inner, ...] = ()
    names: dict[str, Inner] = field(default_factory=dict)


def test_a_value_is_frozen_and_shows_what_is_to_be_shown() -> None:
    said = Said("Ada", b"\0" * 1000)
    assert repr(said) == "Said(who='Ada')"
    assert said == Said("Ada", b"\0" * 1000) != Said("Ada")
    with pytest.raises(AttributeError):
        said.who = "Bob"  # type: ignore[misc]


def test_text_or_bytes_is_either() -> None:
    assert isinstance("a", TextOrBytes)  # type: ignore[arg-type]
    assert isinstance(b"a", TextOrBytes)  # type: ignore[arg-type]
    assert not isinstance(5, TextOrBytes)  # type: ignore[arg-type]


def test_a_dataclass_survives_as_json() -> None:
    outer = Outer(b"\0\xff", (Inner(2), Inner(3)), {"a": Inner(4)})
    assert from_json(Outer, to_json(outer)) == outer
    assert from_json(Outer, '{"data": "AP8=", "inner": [{}]}') == Outer(b"\0\xff", (Inner(),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        b"\xff",
        '{"data": "AP8"}',
        '{"data": 5}',
        '{"data": "AP8=", "more": 1}',
        '{"data": "AP8=", "inner": [{"more": 1}]}',
        '{"data": "AP8=", "inner": [{"number": true}]}',
        '{"data": "AP8=", "inner": [{"number": -1}]}',
        '{"data": "AP8=", "names": {"a": {"more": {}}}}',
        '{"data": "AP8=", "names": {"a": null}}',
        "[" * 100_000,
        " " * MAX_JSON_SIZE + '{"data": ""}',
    ],
)
def test_json_of_another_shape(text: str | bytes) -> None:
    with pytest.raises(ParseError):
        from_json(Outer, text)


def test_what_json_cannot_hold() -> None:
    with pytest.raises(LocalError, match="JSON"):
        to_json(object())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "null",
        "{",
        b"\xff",
        "[" * 100_000,
        '{"a": ' * 100 + "1" + "}" * 100,
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": 99999999999999999999999}',
        '{"a": "\\ud800"}',
        '{"a": "' + "x" * 1000 + '"}',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_a_peer_sends_is_a_bounded_json_object(text: str | bytes) -> None:
    with pytest.raises(ParseError):
        read_json_object(text, 200_000 if not isinstance(text, bytes) and text[:3] == "[[[" else 1000)


def test_a_json_object_of_a_peer_is_read() -> None:
    assert read_json_object(b'{"a": [1, "\xc3\xa9", null, 0.5]}', 100) == {"a": [1, "é", None, 0.5]}
