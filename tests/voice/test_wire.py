"""Commands, events and results as bytes: every type of the unions, and bytes that nothing of ours wrote."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stack.audio import AudioFrame, PcmArray, Samples
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.values import TextOrBytes, Value
from stack.ice import IceCredentials
from stack.sctp import MessageReceived, SendBufferFullError
from stack.sdp import negotiate
from stack.session import Ended, EndReason, SessionParameters
from stack.voice import wire
from stack.voice.commands import (
    BeginReply,
    ConversationCommand,
    GetParameters,
    GetQueued,
    GetStatistics,
    GetTurnSettings,
    Interrupt,
    ReportPauses,
    SendMessage,
    Tell,
    Write,
    WriteReply,
)
from stack.voice.events import AudioReceived, ConversationEvent, KeyPressed, Utterance, UtterancePiece
from stack.voice.statistics import CallStatistics
from stack.voice.turns import TurnSettings
from stack.voice.wire import (
    COMMANDS,
    EVENTS,
    decode_command,
    decode_commands,
    decode_event,
    decode_events,
    decode_result,
    encode_command,
    encode_commands,
    encode_error,
    encode_event,
    encode_events,
    encode_result,
)
from tests.sdp.offers import OFFERS, our_side, read

RATE = 16_000
KINDS = [*get_args(ConversationCommand), *get_args(ConversationEvent)]
by_name = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

# -- any value of a type -----------------------------------------------------------------------------------

_ICE_CHARS = st.sampled_from("ABCXYZabcxyz0189+/")
_INTEGERS = st.integers(-(2**63), 2**64 - 1)
_FLOATS = st.floats(allow_nan=False)
_TEXT = st.text(max_size=40)
_JSON = st.recursive(
    st.none() | st.booleans() | _INTEGERS | _FLOATS | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_SHAPES = st.integers(0, 40) | st.tuples(st.integers(0, 20), st.integers(1, 2))
_SOUND = arrays(np.int16, _SHAPES)
_FEW = st.integers(0, 9)
_KNOWN: dict[Any, st.SearchStrategy[Any]] = {
    Samples: _SOUND,
    PcmArray: _SOUND | arrays(np.float32, _SHAPES) | arrays(np.float64, _SHAPES),
    TextOrBytes: _TEXT | st.binary(max_size=40),
    Any: _JSON,
    int: _INTEGERS,
    float: _FLOATS,
    str: _TEXT,
    TurnSettings: st.builds(TurnSettings, threshold=st.floats(0.01, 1.0), pause_ms=st.floats(0.0, 1e6)),
    IceCredentials: st.builds(IceCredentials, st.text(_ICE_CHARS, min_size=4), st.text(_ICE_CHARS, min_size=22)),
    SessionParameters: st.sampled_from(
        [SessionParameters(our_side(), negotiate(read(offer), our_side())) for offer in OFFERS]
    ),
}


def fields(kind: type[Any]) -> tuple[str, ...] | None:
    """Return the names of a struct's, a dataclass's or a named tuple's fields; None for any other type."""
    if dataclasses.is_dataclass(kind):
        return tuple(each.name for each in dataclasses.fields(kind))
    names: tuple[str, ...] | None = getattr(kind, "__struct_fields__", getattr(kind, "_fields", None))
    return names


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a type: a class is built of its fields, what is not known here is hypothesis's."""
    if kind in _KNOWN:
        return _KNOWN[kind]
    arguments = get_args(kind)
    if isinstance(kind, NewType):
        return values(kind.__supertype__)
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([values(each) for each in arguments])
    if get_origin(kind) in (Mapping, dict):
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if get_origin(kind) is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    names = fields(kind)
    if names is None:
        return st.from_type(kind)
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: values(hints[name]) for name in names})


def same(left: Any, right: Any) -> bool:
    """Compare by content, whatever the types call equal."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes() and left.shape == right.shape
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    names = fields(type(left))
    if names is not None:
        return all(same(getattr(left, name), getattr(right, name)) for name in names)
    if isinstance(left, tuple | list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@by_name
def test_every_command_and_event_is_a_frozen_value(kind: type[Any]) -> None:
    assert issubclass(kind, Value)
    assert kind.__struct_config__.frozen
    assert kind.__struct_config__.forbid_unknown_fields
    assert kind.__struct_config__.tag == kind.__name__
    assert "__dict__" not in dir(kind)


@by_name
def test_every_command_and_event_arrives_as_it_was(kind: type[Any]) -> None:
    codec: Any = EVENTS if kind in EVENTS.kinds else COMMANDS

    @given(values(kind), _TEXT)
    @settings(max_examples=30)
    def check(value: Any, call_id: str) -> None:
        data = codec.encode(value)
        assert same(codec.decode(data), value)
        assert codec.encode(codec.decode(data)) == data
        batch = ((call_id, value), ("other", value))
        assert same(codec.decode_batch(codec.encode_batch(batch)), batch)

    check()


def promised(kind: type[Any]) -> Any:
    return get_type_hints(kind.apply)["return"]


@pytest.mark.parametrize("kind", get_args(ConversationCommand), ids=lambda kind: kind.__name__)
def test_what_comes_of_every_command_arrives_as_it_was(kind: type[Any]) -> None:
    @given(values(kind), values(promised(kind)))
    @settings(max_examples=20)
    def check(command: Any, result: Any) -> None:
        assert same(decode_result(command, encode_result(result)), result)
        with pytest.raises(LocalError, match=r"^no audio was negotiated$"):
            decode_result(command, encode_error(LocalError("no audio was negotiated")))

    check()


# -- what is in them ---------------------------------------------------------------------------------------


def test_sound_is_raw_bytes_with_its_type_and_shape() -> None:
    frame = AudioFrame(np.arange(320, dtype=np.int16), RATE, 1.5)
    data = encode_event(AudioReceived(frame))
    assert len(data) <= 2 * 320 + 50
    assert frame.samples.astype("<i2").tobytes() in data
    sound = ["<i2", 0, frame.samples.astype("<i2").tobytes()]
    assert msgspec.msgpack.decode(data) == [1, ["AudioReceived", [sound, RATE, 1.5, False]]]


def test_sound_that_arrived_may_be_written_to() -> None:
    command = decode_command(encode_command(Write(np.zeros((4, 2), np.float32), RATE)))
    assert isinstance(command, Write)
    command.pcm[:] = 1.0
    assert command.pcm.sum() == 8.0


def test_sound_that_does_not_lie_in_one_piece() -> None:
    every_other = np.arange(20, dtype=np.int16)[::2]
    sides = np.arange(20, dtype=np.int16).reshape(2, 10).T
    for sound in (every_other, sides, every_other.astype(">i2").astype(np.int16)):
        command = decode_command(encode_command(Write(sound, RATE)))
        assert isinstance(command, Write)
        assert np.array_equal(command.pcm, sound)


def test_single_numbers_of_numpy_are_numbers() -> None:
    event = KeyPressed("5")
    assert decode_result(BeginReply(), encode_result(np.int64(7))) == 7
    assert decode_result(Interrupt(), encode_result(np.bool_(True))) is True
    assert decode_event(encode_event(event)) == event


def test_text_and_bytes_stay_apart() -> None:
    for data in ("abc", b"abc", "", b""):
        command = decode_command(encode_command(SendMessage(3, data)))
        assert isinstance(command, SendMessage)
        assert command.data == data
        assert type(command.data) is type(data)


def test_results_are_of_the_type_that_the_command_promises() -> None:
    assert promised(GetStatistics) is CallStatistics
    assert promised(GetTurnSettings) is TurnSettings
    assert promised(GetParameters) is SessionParameters
    assert type(decode_result(GetQueued(1), encode_result(2))) is float


def test_errors_keep_their_type_and_text() -> None:
    with pytest.raises(SendBufferFullError, match=r"^too much waits$") as caught:
        decode_result(SendMessage(1, "a"), encode_error(SendBufferFullError("too much waits")))
    assert isinstance(caught.value, LocalError)


def test_an_error_that_is_not_known_here_is_the_nearest_that_is() -> None:
    class Odd(LocalError):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    data = encode_error(Odd(1, 2))
    with pytest.raises(Odd, match=r"^1 and 2$"):
        decode_result(BeginReply(), data)
    with pytest.raises(LocalError, match=r"^1 and 2$") as caught:
        decode_result(BeginReply(), data.replace(b"Odd", b"Add"))
    assert type(caught.value) is LocalError
    with pytest.raises(StackError):
        decode_result(BeginReply(), encode_error(StackError("of no kind")))


# -- what does not leave -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        Write(np.zeros(3, np.int32), RATE),
        Write(np.zeros((1, 1, 1), np.int16), RATE),
        Write(np.zeros((3, 0), np.int16), RATE),
        Write(np.zeros((3, 9), np.int16), RATE),
        Write(np.zeros(3, ">i2"), RATE),
    ],
    ids=["int32", "a cube", "no channel", "nine", "the other byte order"],
)
def test_what_is_no_value_does_not_leave(command: Any) -> None:
    with pytest.raises(LocalError, match="cannot leave the process"):
        encode_command(command)


@pytest.mark.parametrize(
    "message",
    [{1: 2}, {"a": [{None: 1}]}, {"a": object()}, {"a": 1 << 70}, {"a": "\ud800"}, {"a": {1, 2}}],
    ids=["a number as a name", "deeper", "an object", "a number too large", "a surrogate", "a set"],
)
def test_what_is_no_json_is_refused_where_it_is_told(message: Any) -> None:
    with pytest.raises(LocalError, match="is JSON"):
        Tell(message)


def test_what_is_told_may_nest() -> None:
    message = {"a": [1, 2.5, None, True, {"b": "c"}], "d": {}}
    assert decode_command(encode_command(Tell(message))) == Tell(message)


def test_each_way_has_its_own_values() -> None:
    with pytest.raises(LocalError, match="none of the values"):
        encode_command(KeyPressed("5"))
    with pytest.raises(LocalError, match="none of the values"):
        encode_events([("call", BeginReply())])  # type: ignore[list-item]
    with pytest.raises(ParseError):
        decode_command(encode_event(KeyPressed("5")))
    with pytest.raises(ParseError):
        decode_event(encode_events([("call", KeyPressed("5"))]))
    with pytest.raises(ParseError):
        decode_result(BeginReply(), encode_result("three"))


def test_sizes_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [("call", KeyPressed("5"))] * (wire.MAX_BATCH + 1)
    assert len(decode_events(encode_events(batch[1:]))) == wire.MAX_BATCH
    with pytest.raises(LocalError, match="at most"):
        encode_events(batch)
    with pytest.raises(ParseError):
        decode_events(msgspec.msgpack.encode((1, batch)))
    large = Write(np.zeros(1000, np.int16), RATE)
    data = encode_command(large)
    monkeypatch.setattr(wire, "MAX_SIZE", 1000)
    with pytest.raises(LocalError, match="at most 1000"):
        encode_command(large)
    with pytest.raises(ParseError, match="at most 1000"):
        decode_command(data)


# -- what does not arrive ----------------------------------------------------------------------------------

PIECE = ["UtterancePiece", ["<i2", 0, b"\0\0"]]


def packed(what: object) -> bytes:
    return msgspec.msgpack.encode(what)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x92",
        b"\x92\x01",
        b"\xc1",
        packed([2, PIECE]),
        packed([1]),
        packed([1, PIECE, 1]),
        packed([1, PIECE]) + b"\0",
        packed(PIECE),
        packed([1, []]),
        packed([1, ["NoSuchEvent"]]),
        packed([1, ["KeyPressed"]]),
        packed([1, ["KeyPressed", 5]]),
        packed([1, ["KeyPressed", b"5"]]),
        packed([1, ["KeyPressed", "5", "6"]]),
        packed([1, {"type": "KeyPressed", "digit": "5"}]),
        packed([1, ["MessageReceived", 1, 5]]),
        packed([1, ["MessageReceived", True, "a"]]),
        packed([1, ["Ended", "no such reason", ""]]),
        packed([1, ["TurnChanged", "LISTENING"]]),
        packed([1, ["UtterancePiece", b"\0\0"]]),
        packed([1, ["UtterancePiece", ["<i2", 0]]]),
        packed([1, ["UtterancePiece", ["<i2", 0, "ab"]]]),
        packed([1, ["UtterancePiece", ["<i2", 0, 1 << 40]]]),
        packed([1, ["UtterancePiece", ["<i2", 0, [1, 2]]]]),
        packed([1, ["UtterancePiece", ["<i2", 0, b"abc"]]]),
        packed([1, ["UtterancePiece", ["<i2", 3, b"abcd"]]]),
        packed([1, ["UtterancePiece", ["<i2", -1, b"ab"]]]),
        packed([1, ["UtterancePiece", ["<i2", True, b"ab"]]]),
        packed([1, ["UtterancePiece", ["<i2", 1 << 62, b"ab"]]]),
        packed([1, ["UtterancePiece", ["<f4", 0, b"abcd"]]]),
        packed([1, ["UtterancePiece", ["|O", 0, b"abcdefgh"]]]),
        packed([1, ["UtterancePiece", [["<i2"], 0, b"ab"]]]),
        packed([1, ["UtterancePiece", None]]),
        packed([1, ["UtterancePiece", msgspec.msgpack.Ext(1, b"ab")]]),
        packed([1, ["SessionUpdated", {"a": msgspec.msgpack.Ext(1, b"ab")}]]),
        packed([1, ["SessionUpdated", {1: 2}]]),
        b"\x92\x01\x92\xaeSessionUpdated" + b"\x81\xa1a" * 100_000,
        b"\x92\x01\x92\xaeSessionUpdated\xdf\xff\xff\xff\xff",
        b"\x92\x01\xdd\xff\xff\xff\xff",
        b"\x92\x01\x92\xaaKeyPressed\xdb\xff\xff\xff\xff",
        b"\x92\x01\x92\xaaKeyPressed\xa1\xff",
    ],
)
def test_malformed_events(data: bytes) -> None:
    with pytest.raises(ParseError):
        decode_event(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "server_vad", "threshold": 7.0},
        {"mode": "no mode"},
        {"threshold": "0.5"},
    ],
)
def test_what_a_class_refuses_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(ParseError):
        decode_command(packed([1, ["ConfigureTurns", fields]]))
    with pytest.raises(ParseError):
        decode_result(GetTurnSettings(), packed([1, ["Returned", fields]]))


_SAMPLES: list[Any] = [
    AudioReceived(AudioFrame(np.arange(9, dtype=np.int16), RATE, 1.0)),
    Utterance(np.zeros(4, np.int16), RATE, 1.0, 2.0, 300.0, "Hello", {"instructions": ["a", 1, None]}),
    MessageReceived(4, b"bytes"),
    Ended(EndReason.HUNG_UP, "why"),
    WriteReply(3, np.zeros((3, 2), np.float64), RATE),
    ReportPauses(True),
]
_WRITTEN = [encode_event(each) if type(each) in EVENTS.kinds else encode_command(each) for each in _SAMPLES]
_READERS = (decode_event, decode_events, decode_command, decode_commands)


def read_all(data: bytes) -> None:
    """Whatever is read without an error can be written again; anything else is a `ParseError`."""
    for reader in (*_READERS, lambda data: decode_result(GetStatistics(), data)):
        try:
            value: Any = reader(data)
        except StackError:  # a result may hold any of them
            continue
        if reader is decode_event:
            encode_event(value)
        elif reader is decode_command:
            encode_command(value)


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=500)
def test_any_bytes(data: bytes, versioned: bool) -> None:
    read_all((b"\x92\x01" if versioned else b"") + data)


@given(st.data())
@settings(max_examples=1000)
def test_bytes_that_were_damaged_on_the_way(data: st.DataObject) -> None:
    written = bytearray(data.draw(st.sampled_from(_WRITTEN)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(written) - 1))
        written[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not written:
            break
    read_all(bytes(written))


@given(_JSON)
@settings(max_examples=300)
def test_any_array_of_values(what: object) -> None:
    read_all(packed([1, what]))
    for kind in ("Connected", "ChannelOpened", "Utterance", "TurnPaused", "RestartIce", "Renegotiate", "Returned"):
        read_all(packed([1, [kind, *what] if isinstance(what, list) else [kind, what]]))


def test_values_are_shown_without_their_sound() -> None:
    assert repr(KeyPressed("5")) == "KeyPressed(digit='5')"
    assert repr(UtterancePiece(np.zeros(9, np.int16))) == "UtterancePiece()"
    assert "samples" not in repr(Utterance(np.zeros(9, np.int16), RATE, 0.0, 1.0, 2.0, "Hello"))


def test_batches_of_commands_keep_their_order() -> None:
    batch = [(f"call{index}", SendMessage(index, str(index))) for index in range(100)]
    assert list(decode_commands(encode_commands(batch))) == batch
    assert list(decode_commands(encode_commands([]))) == []
    assert math.inf == decode_result(WriteReply(1, np.zeros(1, np.int16), RATE), encode_result(math.inf))
