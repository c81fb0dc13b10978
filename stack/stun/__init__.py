"""STUN (RFC 8489): the messages by which ICE finds and keeps paths. Docs: `docs/ice.md`.

- `framing`: is it STUN, whose is it? Cheap questions for a router, without building an object.
- `message`, `attributes`: `Message.parse` and `Message.serialize`, one class per attribute.
- `integrity`: MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, over bytes.
- `transaction`: when a request is sent again and when it has failed, with the clock as an argument.

Left out: TURN (RFC 8656), STUN over TCP and TLS, DNS discovery, and the server side of long-term credentials.
None is needed by a server with an address of its own, which the other side can always reach.
"""

from __future__ import annotations

from stack.stun.attributes import (
    Attribute,
    AttributeType,
    DtlsInStun,
    DtlsInStunAcknowledgement,
    ErrorCode,
    ErrorNumber,
    Fingerprint,
    GoogNetworkInfo,
    IceControlled,
    IceControlling,
    MappedAddress,
    MessageIntegrity,
    MessageIntegritySha256,
    Nonce,
    Priority,
    Realm,
    Software,
    UnknownAttribute,
    UnknownAttributes,
    UseCandidate,
    Username,
    XorMappedAddress,
)
from stack.stun.framing import is_stun, peek_username
from stack.stun.integrity import (
    add_fingerprint,
    add_integrity,
    add_integrity_sha256,
    long_term_key,
    short_term_key,
    verify_fingerprint,
    verify_integrity,
    verify_integrity_sha256,
)
from stack.stun.message import Message, MessageClass, Method
from stack.stun.transaction import ClientTransaction, RetransmissionPolicy, TransactionState

__all__ = [
    "Attribute",
    "AttributeType",
    "ClientTransaction",
    "DtlsInStun",
    "DtlsInStunAcknowledgement",
    "ErrorCode",
    "ErrorNumber",
    "Fingerprint",
    "GoogNetworkInfo",
    "IceControlled",
    "IceControlling",
    "MappedAddress",
    "Message",
    "MessageClass",
    "MessageIntegrity",
    "MessageIntegritySha256",
    "Method",
    "Nonce",
    "Priority",
    "Realm",
    "RetransmissionPolicy",
    "Software",
    "TransactionState",
    "UnknownAttribute",
    "UnknownAttributes",
    "UseCandidate",
    "Username",
    "XorMappedAddress",
    "add_fingerprint",
    "add_integrity",
    "add_integrity_sha256",
    "is_stun",
    "long_term_key",
    "peek_username",
    "short_term_key",
    "verify_fingerprint",
    "verify_integrity",
    "verify_integrity_sha256",
]
