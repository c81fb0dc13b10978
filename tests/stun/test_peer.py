"""Our bytes against aioice's, both ways."""

from __future__ import annotations

import pytest

from stack.core.machine import Address
from stack.stun import (
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    UseCandidate,
    Username,
    XorMappedAddress,
    verify_integrity,
)

pytestmark = pytest.mark.peer

KEY = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION_ID = bytes(range(12))


def test_a_check_has_the_same_bytes() -> None:
    stun = pytest.importorskip("aioice.stun")
    theirs = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, TRANSACTION_ID)
    theirs.attributes["USERNAME"] = "evtj:h6vY"
    theirs.attributes["PRIORITY"] = 1853817087
    theirs.attributes["ICE-CONTROLLING"] = 2**63 + 5
    theirs.attributes["USE-CANDIDATE"] = None
    theirs.add_message_integrity(KEY)
    ours = Message(
        MessageClass.REQUEST,
        Method.BINDING,
        TRANSACTION_ID,
        (Username("evtj:h6vY"), Priority(1853817087), IceControlling(2**63 + 5), UseCandidate()),
    )
    assert ours.sign(KEY) == bytes(theirs)


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_a_response_is_read_by_either(host: str) -> None:
    stun = pytest.importorskip("aioice.stun")
    theirs = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, TRANSACTION_ID)
    theirs.attributes["XOR-MAPPED-ADDRESS"] = (host, 4711)
    theirs.add_message_integrity(KEY)
    ours = Message.parse(bytes(theirs))
    assert verify_integrity(bytes(theirs), KEY)
    assert ours.get(XorMappedAddress) == XorMappedAddress(Address(host, 4711))

    made = Message(
        MessageClass.SUCCESS_RESPONSE, Method.BINDING, TRANSACTION_ID, (XorMappedAddress(Address(host, 4711)),)
    )
    parsed = stun.parse_message(made.sign(KEY))
    assert parsed.attributes["XOR-MAPPED-ADDRESS"] == (host, 4711)
