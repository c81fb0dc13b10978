"""The table of attributes: a new one is a class that registers itself, and all of them show their bits."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stack.core.errors import LocalError, ParseError
from stack.stun import Message, MessageClass, Method, TransactionId, UnknownAttribute, register_attribute
from stack.stun.attributes import OpaqueAttribute, TextAttribute, UnsignedAttribute, base

TRANSACTION_ID = TransactionId(bytes(range(12)))
RULER = "0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1"


def concrete(kind: type[base.Attribute]) -> list[type[base.Attribute]]:
    found = [each for child in kind.__subclasses__() for each in concrete(child)]
    return [*found, kind] if hasattr(kind, "TYPE") else found


def test_a_new_attribute_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONNECTION-ID (RFC 6062), as a file of its own would hold it."""
    monkeypatch.setattr(base, "_PARSERS", dict(base._PARSERS))
    data = Message(
        MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID, (UnknownAttribute(0x002A, b"\0\0\2\x58"),)
    ).serialize()
    assert Message.parse(data).unknown_required == (0x002A,)

    @register_attribute
    @dataclass(frozen=True, slots=True)
    class ConnectionId(UnsignedAttribute):
        TYPE = 0x002A
        NAME = "CONNECTION-ID"

    message = Message.parse(data)
    assert message.get(ConnectionId) == ConnectionId(600)
    assert message.unknown_required == ()
    assert message.serialize() == data
    with pytest.raises(ParseError, match="CONNECTION-ID has 2 bytes"):
        Message.parse(data[:3] + b"\x08" + data[4:20] + b"\0\x2a\0\2\0\0\0\0")
    with pytest.raises(LocalError, match="registered already"):
        register_attribute(ConnectionId)


def test_every_attribute_of_the_package_is_registered_and_shows_its_bits() -> None:
    kinds = {kind for kind in concrete(base.Attribute) if kind.__module__.startswith("stack.stun.attributes.")}
    registered = {parse.__self__ for parse in base._PARSERS.values()}  # type: ignore[attr-defined]
    shapes = {OpaqueAttribute, TextAttribute, UnsignedAttribute}
    # `slots=True` makes a class anew: the first one is a subclass, too, until it is collected.
    assert {kind.__qualname__ for kind in kinds - shapes} == {kind.__qualname__ for kind in registered}
    for kind in registered:
        assert RULER in (kind.__doc__ or ""), f"{kind.__name__} shows no bits"
        assert kind.NAME.upper() == kind.NAME
