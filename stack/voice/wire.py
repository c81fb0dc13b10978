"""Commands, events and results as bytes, to cross a process or a backbone.
Each is MessagePack: an array of the version and the value, and a value is an array with the name of its type in
front, as msgspec writes and reads a union of tagged structs. So a new command or event needs no line here; it
stands in its union. What msgspec does not know are arrays of numpy: `["<i2", channels, bytes]`, where 0 channels
stand for the shape (n,).

    [1, ["KeyPressed", "5"]]                                    a value
    [1, [["call", ["KeyPressed", "5"]], …]]                     a batch: values of several calls, in order
    [1, ["Returned", 0.25]]                                     a result
    [1, ["Raised", ["LocalError", "StackError"], "no audio"]]   an error

Another version is refused: the two ends of a link are told apart before they exchange values. What a command
returns is read by the type that its `apply` promises. Left out: which answer belongs to which command (that is for
the link between the processes to say), and compression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    get_args,
    get_type_hints,
)

import msgspec
import numpy as np

from stack.core.errors import LocalError, ParseError, StackError
from stack.core.values import UNREADABLE, TextOrBytes, Value
from stack.voice.commands import ConversationCommand
from stack.voice.conversation import Command
from stack.voice.events import ConversationEvent

VERSION: Final = 1
"""Goes up when a value changes in a way that an older reader cannot take."""
MAX_SIZE = 128 * 1024 * 1024
"""Bytes of a value or a batch: ten minutes of stereo sound at 48 kHz, the most that may wait to be spoken."""
MAX_BATCH = 10_000
"""Values in one batch."""
MAX_CHANNELS = 8
"""Channels of sound in one array."""

ValueT = TypeVar("ValueT", bound=Value)
ResultT = TypeVar("ResultT")
_Batch: TypeAlias = Sequence[tuple[str, ValueT]]

_HEADER = bytes((0x92, VERSION))  # an array of two; the first is the version
_NATIVE: Final[Mapping[str, np.dtype[Any]]] = {
    "<i2": np.dtype(np.int16),
    "<f4": np.dtype(np.float32),
    "<f8": np.dtype(np.float64),
}
_DTYPES = {name: np.dtype(name) for name in _NATIVE}
_DTYPE_NAMES = {native: name for name, native in _NATIVE.items()}


class Returned(Value, Generic[ResultT], frozen=True):
    """What came of a command."""

    value: ResultT


class Raised(Value, frozen=True):
    """What a command raised: the names of its type and of those above it, and its text."""

    kinds: tuple[str, ...]
    message: str


# -- arrays ------------------------------------------------------------------------------------------------


def _encode_unknown(value: object) -> object:
    """Return what msgspec can write for what it cannot: arrays of samples, and single numbers of numpy's."""
    if isinstance(value, np.ndarray):
        name = _DTYPE_NAMES.get(value.dtype)
        channels = value.shape[1] if value.ndim == 2 else 0
        if name is None or value.ndim - 1 != (channels > 0) or channels > MAX_CHANNELS:
            raise TypeError(f"{value.dtype} of shape {value.shape} is no sound")
        samples = np.ascontiguousarray(value, _DTYPES[name])  # its bytes are copied once: into the message
        return name, channels, samples.data.cast("B") if samples.size else b""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot leave the process")


def _decode_unknown(kind: Any, given: Any) -> object:
    """Return the array, or the text or bytes, that msgspec could not read by itself."""
    if kind is TextOrBytes:
        return given
    name, channels, data = given
    wanted = _wanted.get(id(kind)) or _note_wanted(kind)
    plain = type(channels) is int and type(data) is bytes
    if not plain or not 0 <= channels <= MAX_CHANNELS or name not in wanted.names:
        raise ValueError("no sound of the kind that is wanted here")
    samples = np.frombuffer(bytearray(data), _DTYPES[name])  # of its own memory: it may be written to
    if channels:
        samples = samples.reshape(-1, channels)
    return samples.astype(_NATIVE[name], copy=False)


class _Wanted(NamedTuple):
    """The types of samples that an annotation like `NDArray[np.int16]` allows."""

    kind: object
    names: frozenset[str]


_wanted: dict[int, _Wanted] = {}
"""By the identity of the annotation, which is kept: to hash one takes longer than all the rest."""


def _note_wanted(kind: Any) -> _Wanted:
    scalar = get_args(get_args(kind)[1])[0]
    names = frozenset(_DTYPE_NAMES[np.dtype(each)] for each in get_args(scalar) or (scalar,))
    return _wanted.setdefault(id(kind), _Wanted(kind, names))


# -- values ------------------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_unknown)


def _write(what: object) -> bytes:
    try:
        data = _encoder.encode((VERSION, what))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalError(f"this cannot leave the process: {error}") from error
    if len(data) > MAX_SIZE:
        raise LocalError(f"a value of {len(data)} bytes; at most {MAX_SIZE} leave the process")
    return data


class _Reader:
    """Reads what `_write` wrote of one type."""

    def __init__(self, kind: Any) -> None:
        versioned: Any = tuple[Literal[1], kind]  # VERSION
        self._decode: Callable[[bytes | memoryview], tuple[int, Any]] = msgspec.msgpack.Decoder(
            versioned, dec_hook=_decode_unknown, ext_hook=_refuse
        ).decode

    def read(self, data: bytes | memoryview) -> Any:
        """Return the value; raises `ParseError` for anything else."""
        if data[:2] != _HEADER:
            raise ParseError("not a value of this version")
        if len(data) > MAX_SIZE:
            raise ParseError(f"a value of {len(data)} bytes; at most {MAX_SIZE} are read")
        try:
            return self._decode(data)[1]
        except UNREADABLE as error:
            raise ParseError(f"not a value: {error}") from error


def _refuse(code: int, data: memoryview) -> object:
    raise ValueError(f"an extension of type {code}")


class ValueCodec(Generic[ValueT]):
    """Writes and reads the values of one union of types."""

    def __init__(self, union: Any) -> None:
        self.kinds: frozenset[type[Any]] = frozenset(get_args(union) or (union,))
        self._one = _Reader(union)
        items: Any = tuple[tuple[str, union], ...]
        self._batch = _Reader(Annotated[items, msgspec.Meta(max_length=MAX_BATCH)])

    def encode(self, value: ValueT) -> bytes:
        """Return a value as bytes; raises `LocalError` for one of another type, or that is too big."""
        self._check(value)
        return _write(value)

    def decode(self, data: bytes | memoryview) -> ValueT:
        """Return what `encode` wrote; raises `ParseError` for anything else."""
        value: ValueT = self._one.read(data)
        return value

    def encode_batch(self, batch: _Batch[ValueT]) -> bytes:
        """Return values, each with the id of its call, as bytes; raises `LocalError` as `encode` does."""
        if len(batch) > MAX_BATCH:
            raise LocalError(f"a batch of {len(batch)} values; at most {MAX_BATCH} leave the process at once")
        for _, value in batch:
            self._check(value)
        return _write(batch)

    def decode_batch(self, data: bytes) -> _Batch[ValueT]:
        """Return what `encode_batch` wrote; raises `ParseError` for anything else."""
        batch: _Batch[ValueT] = self._batch.read(data)
        return batch

    def _check(self, value: object) -> None:
        if type(value) not in self.kinds:
            raise LocalError(f"{type(value).__name__} is none of the values that cross here")


COMMANDS: Final[ValueCodec[ConversationCommand]] = ValueCodec(ConversationCommand)
EVENTS: Final[ValueCodec[ConversationEvent]] = ValueCodec(ConversationEvent)

encode_command, decode_command = COMMANDS.encode, COMMANDS.decode
encode_commands, decode_commands = COMMANDS.encode_batch, COMMANDS.decode_batch
encode_event, decode_event = EVENTS.encode, EVENTS.decode
encode_events, decode_events = EVENTS.encode_batch, EVENTS.decode_batch


# -- results -----------------------------------------------------------------------------------------------


def encode_result(result: object) -> bytes:
    """Return what a command returned as bytes; raises `LocalError` for what is no value."""
    return _write(Returned(result))


def encode_error(error: StackError) -> bytes:
    """Return what a command raised as bytes."""
    kinds = tuple(each.__name__ for each in type(error).__mro__ if issubclass(each, StackError))
    return _write(Raised(kinds, str(error)))


def decode_result(command: Command[ResultT], data: bytes) -> ResultT:
    """Return, or raise, what came of a command on the other side; raises `ParseError` for no answer to it.

    An error is of the nearest type that is known here; of what it held, its text is left.
    """
    answer = _result_reader(type(command)).read(data)
    if isinstance(answer, Raised):
        raise _as_error(answer)
    result: ResultT = answer.value
    return result


@cache
def _result_reader(kind: type[Any]) -> _Reader:
    promised: Any = get_type_hints(kind.apply)["return"]
    return _Reader(Returned[promised] | Raised)


def _as_error(raised: Raised) -> StackError:
    known = _errors(StackError)
    kind = next((known[name] for name in raised.kinds if name in known), StackError)
    error = kind.__new__(kind)
    error.args = (raised.message,)
    return error


def _errors(kind: type[StackError]) -> Mapping[str, type[StackError]]:
    known = {kind.__name__: kind}
    for each in kind.__subclasses__():
        known |= _errors(each)
    return known
