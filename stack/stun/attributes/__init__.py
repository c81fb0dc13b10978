"""STUN attributes (RFC 8489 §14, RFC 8445 §7.1): one file for each, or for those of one shape and purpose.

A class registers itself with `@register_attribute`, and every module of this package is imported here; so a new
attribute is a file beside these, and nothing else has to know of it:

    @register_attribute
    @dataclass(frozen=True, slots=True)
    class ConnectionId(UnsignedAttribute):
        TYPE = 0x002A
        NAME = "CONNECTION-ID"

An attribute without a class is an `UnknownAttribute`: kept as it is, written back as it was.

Left out: USERHASH and PASSWORD-ALGORITHM(S) (RFC 8489 §14.4, §14.11), which TURN servers in use do not ask for.
"""

from __future__ import annotations

from stack.core.registry import import_modules
from stack.stun.attributes.base import (
    Attribute,
    OpaqueAttribute,
    TextAttribute,
    UnknownAttribute,
    UnsignedAttribute,
    parse_attribute,
    register_attribute,
)

import_modules(__name__, __path__)

__all__ = [
    "Attribute",
    "OpaqueAttribute",
    "TextAttribute",
    "UnknownAttribute",
    "UnsignedAttribute",
    "parse_attribute",
    "register_attribute",
]
