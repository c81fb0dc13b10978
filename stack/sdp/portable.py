"""Frozen dataclasses to plain JSON values and back, by their type annotations.

A negotiated session may be built in another process than the one that answered the offer, so what was negotiated
must be text. Handles dataclasses (where one of several may stand, they are told apart by their fields), enums,
tuples and mappings of such, numbers, text, bytes (base64), None, and whatever has text of its own
(`TextMessage`). Nothing else, on purpose.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    Protocol,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from stack.core.errors import LocalError, ParseError

T = TypeVar("T")


@runtime_checkable
class TextMessage(Protocol):
    """A message with text of its own."""

    @classmethod
    def parse(cls, data: str, /) -> Self:
        """Read the text."""
        ...

    def serialize(self) -> str:
        """Return the text."""
        ...


class Portable:
    """Gives a frozen dataclass `to_json` and `from_json`."""

    __slots__ = ()

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return json.dumps(_record(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; raises `ParseError` for anything else."""
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError):
            raise ParseError("not JSON") from None
        return _from_record(cls, plain)


def _record(value: Any) -> dict[str, Any]:
    return {field.name: _to_plain(getattr(value, field.name)) for field in fields(value)}


def _to_plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, TextMessage):
        return value.serialize()
    if is_dataclass(value):
        return _record(value)
    raise LocalError(f"{type(value).__name__} has no portable form")


@cache
def _type_hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _from_record(kind: type[T], plain: Any) -> T:
    if not isinstance(plain, dict):
        raise ParseError(f"{kind.__name__} is not an object")
    hints = _type_hints(cast(Any, kind))  # mypy does not see that a class is hashable
    unknown = plain.keys() - hints.keys()
    if unknown:
        raise ParseError(f"{kind.__name__} has no {min(unknown)[:40]!r}")
    try:
        return kind(**{name: _from_plain(hints[name], value) for name, value in plain.items()})
    except TypeError as error:
        raise ParseError(f"{kind.__name__}: {error}") from None


def _from_plain(kind: Any, plain: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if plain is None and NoneType in arguments:
            return None
        options = [argument for argument in arguments if argument is not NoneType]
        if len(options) == 1:
            return _from_plain(options[0], plain)
        for option in options:
            if isinstance(plain, dict) and plain.keys() == _type_hints(option).keys():
                return _from_record(option, plain)
    if origin is tuple and isinstance(plain, list):
        return tuple(_from_plain(arguments[0], item) for item in plain)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(plain, dict):
        return {key: _from_plain(arguments[1], item) for key, item in plain.items()}
    if isinstance(kind, type):
        return _from_scalar(kind, plain)
    raise ParseError(f"not a {kind}: {str(plain)[:40]!r}")


def _from_scalar(kind: type[Any], plain: Any) -> Any:
    if kind in (bool, int, str) and type(plain) is kind:
        return plain
    try:
        if kind is bytes:
            return b64decode(plain, validate=True)
        if issubclass(kind, Enum):
            return kind(plain)
    except (ValueError, TypeError):
        raise ParseError(f"not a {kind.__name__}: {str(plain)[:40]!r}") from None
    if issubclass(kind, TextMessage) and isinstance(plain, str):
        return kind.parse(plain)
    if is_dataclass(kind):
        return _from_record(kind, plain)
    raise ParseError(f"not a {kind.__name__}: {str(plain)[:40]!r}")
