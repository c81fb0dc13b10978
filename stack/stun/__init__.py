"""STUN (RFC 8489): the messages by which ICE finds and keeps paths. Docs: `docs/ice.md`.

- `stack.core.stun_framing`: what a demultiplexer asks of a datagram (is it STUN, which USERNAME),
  without building an object.
- `message`, `attributes`: `Message.parse` and `Message.serialize`; an attribute is a file that registers itself.
- `integrity`: MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, over bytes.
- `transaction`: when a request is sent again and when it has failed, with the clock as an argument.

Left out: DNS discovery by SRV and NAPTR records, and the server side of long-term credentials. The TURN client
(RFC 8656), whose messages are read and written here, is `stack.ice.turn`.
"""

from __future__ import annotations

from stack.core.stun_framing import TransactionId, is_stun, peek_username
from stack.stun.attributes import Attribute, UnknownAttribute, register_attribute
from stack.stun.attributes.address import MappedAddress, XorMappedAddress
from stack.stun.attributes.credentials import Nonce, Realm, Username
from stack.stun.attributes.dtls_in_stun import DtlsInStun, DtlsInStunAcknowledgement
from stack.stun.attributes.error_code import ErrorCode, ErrorNumber, UnknownAttributes
from stack.stun.attributes.goog_network_info import GoogNetworkInfo
from stack.stun.attributes.ice import IceControlled, IceControlling, Priority, UseCandidate
from stack.stun.attributes.integrity import Fingerprint, MessageIntegrity, MessageIntegritySha256
from stack.stun.attributes.nomination import Nomination
from stack.stun.attributes.software import Software
from stack.stun.attributes.turn import (
    AdditionalAddressFamily,
    AddressErrorCode,
    AddressFamily,
    AlternateServer,
    ChannelNumber,
    Data,
    Lifetime,
    RequestedAddressFamily,
    RequestedTransport,
    XorPeerAddress,
    XorRelayedAddress,
)
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
    "AdditionalAddressFamily",
    "AddressErrorCode",
    "AddressFamily",
    "AlternateServer",
    "Attribute",
    "ChannelNumber",
    "ClientTransaction",
    "Data",
    "DtlsInStun",
    "DtlsInStunAcknowledgement",
    "ErrorCode",
    "ErrorNumber",
    "Fingerprint",
    "GoogNetworkInfo",
    "IceControlled",
    "IceControlling",
    "Lifetime",
    "MappedAddress",
    "Message",
    "MessageClass",
    "MessageIntegrity",
    "MessageIntegritySha256",
    "Method",
    "Nomination",
    "Nonce",
    "Priority",
    "Realm",
    "RequestedAddressFamily",
    "RequestedTransport",
    "RetransmissionPolicy",
    "Software",
    "TransactionId",
    "TransactionState",
    "UnknownAttribute",
    "UnknownAttributes",
    "UseCandidate",
    "Username",
    "XorMappedAddress",
    "XorPeerAddress",
    "XorRelayedAddress",
    "add_fingerprint",
    "add_integrity",
    "add_integrity_sha256",
    "is_stun",
    "long_term_key",
    "peek_username",
    "register_attribute",
    "short_term_key",
    "verify_fingerprint",
    "verify_integrity",
    "verify_integrity_sha256",
]
