"""STUN attributes (RFC 8489 §14, RFC 8445 §7.1): one file for each, or for those of one shape and purpose.

A class registers itself with `@register_attribute`, and every module of this package is imported here; so a new
attribute is a file beside these, and nothing else has to know of it:

    @register_attribute
    @dataclass(frozen=True, slots=True)
    class Lifetime(UnsignedAttribute):
        TYPE = 0x000D
        NAME = "LIFETIME"

An attribute without a class is an `UnknownAttribute`: kept as it is, written back as it was.

Left out: the attributes of TURN (RFC 8656), USERHASH, PASSWORD-ALGORITHM(S) and ALTERNATE-SERVER, which only
a client or server with long-term credentials needs.
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
