"""Alerts, and why a connection failed: RFC 8446 §6, RFC 5246 §7.2, RFC 7301 §3.2.

An alert is what the peer is told; a `DtlsFailure` is what our side is told. The reasons are finer than the
alerts: many mistakes share `illegal_parameter`, and the log of a call has to say which it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Self

from stack.core.errors import ParseError, RemoteError


class AlertLevel(IntEnum):
    """RFC 5246 §7.2; DTLS 1.3 keeps the byte but only the description counts."""

    WARNING = 1
    FATAL = 2


class AlertDescription(IntEnum):
    """RFC 8446 §6; those that only TLS 1.2 knows are here because a peer may send them."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    DECOMPRESSION_FAILURE = 30
    HANDSHAKE_FAILURE = 40
    NO_CERTIFICATE = 41
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    NO_RENEGOTIATION = 100
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


class DtlsFailure(Enum):
    """Why a connection failed."""

    # The peer sent what it may not send.
    UNEXPECTED_MESSAGE = "unexpected message"
    UNEXPECTED_RECORD = "unexpected record"
    EXCESS_HANDSHAKE_DATA = "handshake data outside the current epoch"
    BAD_HANDSHAKE_RECORD = "malformed handshake fragment"
    FRAGMENT_MISMATCH = "fragments of one message disagree"
    EXCESSIVE_MESSAGE_SIZE = "handshake message too long"
    DECODE_ERROR = "malformed message"
    BAD_CLIENT_HELLO = "malformed ClientHello"
    BAD_CHANGE_CIPHER_SPEC = "malformed ChangeCipherSpec"
    BAD_ALERT = "malformed alert"
    TOO_MANY_WARNING_ALERTS = "too many warning alerts"
    UNKNOWN_ALERT_TYPE = "unknown alert level"
    RECORD_TOO_LONG = "record too long"
    EMPTY_RECORD = "record without a content type"
    BAD_ACK = "malformed ACK"
    # Negotiation.
    UNSUPPORTED_PROTOCOL = "no common protocol version"
    WRONG_VERSION = "the peer chose a version that was not offered"
    DOWNGRADE = "downgrade detected"
    INAPPROPRIATE_FALLBACK = "inappropriate fallback"
    NO_SHARED_CIPHER = "no common cipher suite"
    WRONG_CIPHER = "the peer chose a cipher suite that was not offered"
    UNSUPPORTED_COMPRESSION = "compression was not disabled"
    NO_SHARED_GROUP = "no common key exchange group"
    WRONG_GROUP = "the peer chose a group that was not offered"
    BAD_KEY_SHARE = "invalid key share"
    DUPLICATE_KEY_SHARE = "duplicate key share"
    NO_COMMON_SIGNATURE_ALGORITHM = "no common signature algorithm"
    WRONG_SIGNATURE_ALGORITHM = "signature algorithm was not offered or does not fit the key"
    DUPLICATE_EXTENSION = "duplicate extension"
    UNEXPECTED_EXTENSION = "extension was not offered or does not belong here"
    MISSING_EXTENSION = "required extension is missing"
    MISSING_KEY_SHARE = "key share is missing"
    BAD_EXTENSION = "malformed extension"
    BAD_SRTP_PROFILE = "SRTP profile was not offered"
    BAD_SRTP_MKI = "SRTP MKI was not offered"
    NO_APPLICATION_PROTOCOL = "no common application protocol"
    BAD_APPLICATION_PROTOCOL = "application protocol was not offered"
    EXTENDED_MASTER_SECRET_REQUIRED = "the peer does not support extended master secret"
    RENEGOTIATION_MISMATCH = "invalid renegotiation_info"
    RENEGOTIATION_REFUSED = "renegotiation is not supported"
    BAD_COOKIE = "invalid cookie"
    HELLO_VERIFY_REQUEST_IN_13 = "HelloVerifyRequest before a 1.3 ServerHello"
    BAD_HELLO_RETRY_REQUEST = "HelloRetryRequest changes nothing"
    SECOND_HELLO_MISMATCH = "the second ClientHello does not match HelloRetryRequest"
    SECOND_HELLO_RETRY_REQUEST = "second HelloRetryRequest"
    CIPHER_CHANGED = "cipher suite changed after HelloRetryRequest"
    BAD_SESSION_ID = "unexpected session id"
    # Certificates and proofs.
    NO_CERTIFICATE = "the peer sent no certificate"
    BAD_CERTIFICATE = "unusable certificate"
    WRONG_CERTIFICATE_TYPE = "certificate does not fit the cipher suite"
    KEY_USAGE = "certificate may not sign"
    FINGERPRINT_MISMATCH = "certificate does not match the fingerprint"
    BAD_SIGNATURE = "invalid signature"
    BAD_FINISHED = "Finished does not verify"
    BAD_KEY_UPDATE = "invalid KeyUpdate"
    TOO_MANY_KEY_UPDATES = "too many key updates"
    # The path and ourselves.
    TIMEOUT = "the peer does not answer"
    AEAD_LIMIT = "AEAD limit reached"
    ALERT_RECEIVED = "fatal alert from the peer"
    ABORTED = "given up by our side"
    INTERNAL_ERROR = "internal error"


class HandshakeFailure(RemoteError):
    """The peer broke the protocol: the alert that tells it so, and the reason that tells us."""

    def __init__(self, alert: AlertDescription, reason: DtlsFailure, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.alert = alert
        self.reason = reason


def illegal_parameter(reason: DtlsFailure, detail: str = "") -> HandshakeFailure:
    """Return the failure for a field that is well formed but wrong (the commonest kind)."""
    return HandshakeFailure(AlertDescription.ILLEGAL_PARAMETER, reason, detail)


def decode_error(reason: DtlsFailure = DtlsFailure.DECODE_ERROR, detail: str = "") -> HandshakeFailure:
    """Return the failure for a message that cannot be parsed."""
    return HandshakeFailure(AlertDescription.DECODE_ERROR, reason, detail)


def unexpected_message(reason: DtlsFailure = DtlsFailure.UNEXPECTED_MESSAGE, detail: str = "") -> HandshakeFailure:
    """Return the failure for a message that the state does not allow."""
    return HandshakeFailure(AlertDescription.UNEXPECTED_MESSAGE, reason, detail)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert record's content.

    ```
     0                   1
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     level     |  description  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

    level: int
    description: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an alert; it may not be fragmented or coalesced (RFC 8446 §5.1)."""
        if len(data) != 2:
            raise ParseError("an alert is two bytes")
        return cls(data[0], data[1])

    def serialize(self) -> bytes:
        """Return the two bytes."""
        return bytes((self.level, self.description))
