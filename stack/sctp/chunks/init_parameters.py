"""The parameters of INIT and INIT ACK (RFC 9260 §3.3.2.1, §3.3.3.1; RFC 3758, 5061, 9653).

Recognised and ignored, because a tunnel over DTLS has one path and no addresses of its own (RFC 8261 §6): IPv4 and
IPv6 address (5, 6), cookie preservative (9), supported address types (12), ECN capable (0x8000).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import ClassVar, Protocol, Self, TypeVar

from stack.core.errors import ParseError
from stack.core.registry import add_once
from stack.sctp.chunks.tlv import Parameter, RawParameter, build_parameter

ERROR_DETECTION_DTLS = 1
"""The alternate error detection method "SCTP over DTLS" (RFC 9653 §8)."""
_U32 = Struct("!I")


class InitParameter(Parameter, Protocol):
    """A parameter that its own class reads."""

    parameter_type: ClassVar[int]

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value; raises `ParseError` only."""
        ...


ParameterT = TypeVar("ParameterT", bound=InitParameter)
INIT_PARAMETERS: dict[int, Callable[[bytes], Parameter]] = {}
"""What reads the value of each parameter that is recognised in INIT and INIT ACK."""


def register_init_parameter(cls: type[ParameterT]) -> type[ParameterT]:
    """Make a class the one that reads its type of parameter."""
    parse: Callable[[bytes], Parameter] = cls.parse
    add_once(INIT_PARAMETERS, cls.parameter_type, parse)
    return cls


def read_init_parameter(raw: RawParameter) -> Parameter:
    """Return what a parameter says; as it came if its type is unknown, or its value not what the type asks for."""
    parse = INIT_PARAMETERS.get(raw.parameter_type)
    if parse is None:
        return raw
    try:
        return parse(raw.value)
    except ParseError:
        return raw


for _ignored in (5, 6, 9, 12, 0x8000):
    INIT_PARAMETERS[_ignored] = partial(RawParameter, _ignored)


@register_init_parameter
@dataclass(frozen=True, slots=True)
class StateCookieParameter:
    r"""State Cookie, in INIT ACK (RFC 9260 §3.3.3.1.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |       Parameter Type = 7      |        Parameter Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                             Cookie                            \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 7
    cookie: bytes

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        return cls(value)

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, self.cookie)


@register_init_parameter
@dataclass(frozen=True, slots=True)
class UnrecognizedParameter:
    r"""Unrecognized Parameter, in INIT ACK: one of INIT's comes back (RFC 9260 §3.3.3.1.2).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |       Parameter Type = 8      |        Parameter Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                     Unrecognized Parameter                    \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 8
    parameter: bytes

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        return cls(value)

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, self.parameter)


@register_init_parameter
@dataclass(frozen=True, slots=True)
class HostNameAddressParameter:
    r"""Host Name Address, which no receiver may use (RFC 9260 §3.3.2.1.4).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Parameter Type = 11      |        Parameter Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                           Host Name                           \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 11
    host_name: bytes

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        return cls(value)

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, self.host_name)


@register_init_parameter
@dataclass(frozen=True, slots=True)
class ZeroChecksumAcceptableParameter:
    """Zero Checksum Acceptable (RFC 9653 §4).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Type = 0x8001         |           Length = 8          |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |           Error Detection Method Identifier (EDMID)           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 0x8001
    edmid: int = ERROR_DETECTION_DTLS

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        if len(value) != _U32.size:
            raise ParseError("Zero Checksum Acceptable of a wrong size")
        return cls(*_U32.unpack(value))

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, _U32.pack(self.edmid))


@register_init_parameter
@dataclass(frozen=True, slots=True)
class SupportedExtensionsParameter:
    r"""Supported Extensions: chunk types, one a byte (RFC 5061 §4.2.7).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Parameter Type = 0x8008    |        Parameter Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |  CHUNK TYPE 1 |  CHUNK TYPE 2 |  CHUNK TYPE 3 |  CHUNK TYPE 4 |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                              ...                              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 0x8008
    chunk_types: bytes

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        return cls(value)

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, self.chunk_types)


@register_init_parameter
@dataclass(frozen=True, slots=True)
class ForwardTsnSupportedParameter:
    """Forward-TSN-Supported (RFC 3758 §3.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Parameter Type = 0xC000    |      Parameter Length = 4     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 0xC000

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value, which is empty; whatever it holds is passed over."""
        return cls()

    def serialize(self) -> bytes:
        """Return the bytes."""
        return build_parameter(self.parameter_type, b"")
