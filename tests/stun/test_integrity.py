"""MESSAGE-INTEGRITY in both forms and FINGERPRINT, against the vectors of RFC 5769 and RFC 8489."""

from __future__ import annotations

from hmac import digest
from pathlib import Path as FilePath

import pytest

from stack.stun import (
    Message,
    MessageClass,
    Method,
    Priority,
    Username,
    add_fingerprint,
    add_integrity,
    add_integrity_sha256,
    long_term_key,
    short_term_key,
    verify_fingerprint,
    verify_integrity,
    verify_integrity_sha256,
)

PASSWORD = short_term_key("VOkJxbRl1RmTxUk/WvJxBt")
# RFC 5769 §2.4: the user name is six katakana, the password as it is after preparation.
LONG_TERM = long_term_key("\u30de\u30c8\u30ea\u30c3\u30af\u30b9", "example.org", "TheMatrIX")
MESSAGE = Message(MessageClass.REQUEST, Method.BINDING, bytes(12), (Username("a:b"), Priority(7)))


def vector(name: str) -> bytes:
    text = (FilePath(__file__).parents[1] / "vectors" / "rfc5769.txt").read_text()
    lines = text.split(f"[{name}]")[1].split("\n", 1)[1].split("[")[0]
    return bytes.fromhex(lines)


@pytest.mark.parametrize("name", ["request", "ipv4_response", "ipv6_response"])
def test_short_term_vectors(name: str) -> None:
    data = vector(name)
    assert verify_integrity(data, PASSWORD)
    assert verify_fingerprint(data)
    assert not verify_integrity(data, PASSWORD + b"x")
    # The same bytes up to the trailers give the same trailers.
    bare = data[: -(24 + 8)]
    assert add_fingerprint(add_integrity(bare, PASSWORD)) == data


def test_long_term_vector() -> None:
    assert verify_integrity(vector("long_term_request"), LONG_TERM)
    assert not verify_integrity(vector("long_term_request"), PASSWORD)


def test_long_term_vector_with_sha256() -> None:
    assert verify_integrity_sha256(vector("long_term_request_sha256"), LONG_TERM)
    assert not verify_integrity_sha256(vector("long_term_request_sha256"), PASSWORD)


def test_signed_messages_verify_and_every_flipped_bit_is_noticed() -> None:
    data = MESSAGE.sign(PASSWORD)
    assert verify_integrity(data, PASSWORD)
    assert verify_fingerprint(data)
    for position in range(len(data) - 8):
        broken = data[:position] + bytes([data[position] ^ 0x01]) + data[position + 1 :]
        assert not verify_integrity(broken, PASSWORD), position
        assert not verify_fingerprint(broken), position


@pytest.mark.parametrize("size", [16, 20, 24, 28, 32])
def test_sha256_may_be_truncated_down_to_sixteen_bytes(size: int) -> None:
    covered = MESSAGE.serialize()
    # The length field is covered, so a truncated value is made over a message of its own length.
    header = covered[:2] + (len(covered) - 20 + 4 + size).to_bytes(2, "big") + covered[4:]
    value = digest(PASSWORD, header, "sha256")[:size]
    data = header + b"\x00\x1c" + size.to_bytes(2, "big") + value
    assert verify_integrity_sha256(data, PASSWORD)
    assert not verify_integrity_sha256(data, b"other")


def test_sha256_of_our_own() -> None:
    data = add_fingerprint(add_integrity_sha256(MESSAGE.serialize(), PASSWORD))
    assert verify_integrity_sha256(data, PASSWORD)
    assert not verify_integrity_sha256(data, b"other")
    assert not verify_integrity(data, PASSWORD)
    assert Message.parse(data).get(Username) == Username("a:b")


@pytest.mark.parametrize("data", [b"", bytes(20), MESSAGE.serialize()])
def test_nothing_to_verify_is_no_proof(data: bytes) -> None:
    assert not verify_integrity(data, PASSWORD)
    assert not verify_integrity_sha256(data, PASSWORD)
    assert not verify_fingerprint(data)
