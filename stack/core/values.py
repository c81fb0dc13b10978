"""Values that can leave the process: the base of those that are told apart by type, and JSON for dataclasses.

`Value` is for commands and events: a frozen `msgspec.Struct`, in MessagePack an array with the name of its type in
front (`stack.voice.wire`). `docs/decisions/0007-values-across-a-process.md` says why. `to_json` and `from_json`
are for what is written once per call and read by people as well.
"""

from __future__ import annotations

import json
from abc import ABC
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import msgspec

from stack.core.errors import LocalError, ParseError, StackError

MAX_JSON_SIZE = 524_288
"""Bytes of JSON that are read; what was negotiated with a browser takes 5,000."""

T = TypeVar("T")

UNREADABLE = (msgspec.MsgspecError, StackError, ValueError, TypeError, OverflowError, RecursionError)
"""What msgspec, or a class that checks its own fields, raises for data that is not what its type says."""


if TYPE_CHECKING:
    TextOrBytes: TypeAlias = str | bytes
else:

    class TextOrBytes(ABC):  # noqa: B024 - nothing is made of it
        """A `str` or `bytes`. msgspec takes no union of the two, which JSON cannot tell apart; MessagePack can."""

    TextOrBytes.register(str)
    TextOrBytes.register(bytes)


class Value(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """A command or an event. A new one is one class, and a place in the union of its kind."""

    unshown: ClassVar[frozenset[str]] = frozenset()
    """Fields that `repr` leaves out: sound, and what is too long."""

    def __repr__(self) -> str:
        shown = (name for name in self.__struct_fields__ if name not in self.unshown)
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def is_unicode(text: str) -> bool:
    """Return False if there is half of a surrogate pair in it, which has no UTF-8."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def as_unicode(text: str) -> str:
    """Return the text with halves of surrogate pairs put together, and replaced by U+FFFD where there is but one.

    JSON that others write may have them as escapes, and names of files that are no UTF-8 as Python reads them.
    Raises `LocalError` for what is no `str`.
    """
    if not isinstance(text, str):
        raise LocalError(f"text is a str, not {type(text).__name__}")
    return text if is_unicode(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


MAX_JSON_DEPTH = 64
"""Lists and objects inside one another in a value that `check_json` lets pass."""


def check_json(value: object, depth: int = 0) -> None:
    """Raise `LocalError` for what is not the same after it was written as JSON, or as MessagePack, and read.

    So the names in an object are text, numbers have 64 bits and are finite, and text is Unicode.
    """
    if depth > MAX_JSON_DEPTH:
        raise LocalError(f"JSON of more than {MAX_JSON_DEPTH} levels")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise LocalError(f"in JSON a name is text, not {type(name).__name__}")
            check_json(name)
            check_json(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            check_json(item, depth + 1)
    elif isinstance(value, str):
        if not is_unicode(value):
            raise LocalError("JSON holds no half of a surrogate pair")
    elif isinstance(value, int):  # a bool, too
        if not -(1 << 63) <= value < 1 << 64:
            raise LocalError(f"a number of more than 64 bits in JSON: {value:.3e}")
    elif isinstance(value, float):
        if not isfinite(value):
            raise LocalError(f"JSON has no {value}")
    elif value is not None:
        raise LocalError(f"JSON has no {type(value).__name__}")


def read_json_object(text: str | bytes, most: int) -> dict[str, Any]:
    """Return a JSON object that a peer has sent; raises `ParseError` for what is longer than `most`, or is none.

    What `check_json` refuses is none either: it could not be handed on.
    """
    if len(text) > most:
        raise ParseError(f"JSON of {len(text)} characters; at most {most} are read")
    try:
        value = json.loads(text)
        check_json(value)
    except (ValueError, RecursionError, LocalError) as error:
        raise ParseError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ParseError("not a JSON object")
    return value


def to_json(value: object) -> str:
    """Return a dataclass as JSON text; raises `LocalError` for one that JSON cannot hold."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError) as error:
        raise LocalError(f"{type(value).__name__} cannot be written as JSON: {error}") from error


def from_json(kind: type[T], text: str | bytes) -> T:
    """Read what `to_json` wrote; raises `ParseError` for anything else.

    A field with a default may be missing, as in what an older version wrote; one that no type knows may not be
    there.
    """
    if len(text) > MAX_JSON_SIZE:
        raise ParseError(f"JSON of {len(text)} characters; at most {MAX_JSON_SIZE} are read")
    try:
        value = msgspec.json.decode(text, type=kind)
        given, known = msgspec.json.decode(text), msgspec.json.decode(msgspec.json.encode(value))
    except UNREADABLE as error:
        raise ParseError(f"not a {kind.__name__}: {error}") from error
    if not _holds(known, given):
        raise ParseError(f"not a {kind.__name__}: there is more in it than its types say")
    return value


def _holds(known: Any, given: Any) -> bool:
    """Return True if all that is `given` is `known`, at any depth.

    msgspec passes over a field that a dataclass does not have.
    """
    if isinstance(given, dict):
        return isinstance(known, dict) and all(
            name in known and _holds(known[name], item) for name, item in given.items()
        )
    if isinstance(given, list):
        return isinstance(known, list) and len(known) == len(given) and all(map(_holds, known, given))
    return bool(known == given)
