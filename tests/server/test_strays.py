"""Which senders are in the middle of a session that a process does not have."""

from __future__ import annotations

import pytest

from stack.core.machine import Address, Path
from stack.server import Endpoint, UnknownCheck
from stack.server import strays as module
from stack.server.strays import ENOUGH, MAX_STRAYS, MEMORY, Strays
from stack.stun import Message, MessageClass, Method, TransactionId, Username

SERVER = Address("192.0.2.1", 3478)
RTP = b"\x80\x6f" + bytes(20)


def path(port: int = 5000) -> Path:
    return Path(SERVER, Address("198.51.100.1", port))


@pytest.mark.parametrize("data", [RTP, b"\x80\xc8" + bytes(20), b"\x17\xfe\xfd" + bytes(20), b"\x2f" + bytes(20)])
def test_media_and_encrypted_records_make_a_stray(data: bytes) -> None:
    strays = Strays()
    for number in range(ENOUGH):
        assert not strays.has(path(), 0.0), number
        strays.note(data, path(), 0.0)
    assert strays.has(path(), MEMORY)
    assert not strays.has(path(), MEMORY + 0.1)
    assert not strays.has(path(5001), 0.0)


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x16\xfe\xfd" + bytes(60), b"\x00\x01" + bytes(18), b"\xff" * 30]
)
def test_what_begins_a_session_makes_none(data: bytes) -> None:
    strays = Strays()
    for _ in range(2 * ENOUGH):
        strays.note(data, path(), 0.0)
    assert not strays.has(path(), 0.0)


def test_they_are_bounded_and_what_is_old_begins_anew() -> None:
    strays = Strays()
    for port in range(1, MAX_STRAYS + 2):
        for _ in range(ENOUGH):
            strays.note(RTP, path(port), 0.0)
    assert not strays.has(path(1), 0.0)
    assert strays.has(path(2), 0.0)
    strays.note(RTP, path(2), MEMORY + 1.0)
    assert not strays.has(path(2), MEMORY + 1.0)


def test_an_endpoint_says_so_of_a_check() -> None:
    seen: list[UnknownCheck] = []

    def resolve(unknown: UnknownCheck, now: float) -> None:
        seen.append(unknown)

    endpoint: Endpoint[object] = Endpoint(resolve)
    username = Username("0+0123456789ab:abcd")
    check = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(bytes(12)), (username,)).serialize()
    endpoint.handle_datagrams([(check, path())], 0.0)
    endpoint.handle_datagrams([(RTP, path())] * module.ENOUGH + [(check, path())], 1.0)
    assert [each.is_stray for each in seen] == [False, True]
