"""What a session tells its owner. Events of media and data channels are handed up unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from stack.core.machine import Path
from stack.core.values import Value
from stack.sctp import SctpEvent
from stack.session.media_plane import MediaEvent


class EndReason(Enum):
    """Why a session is over."""

    HUNG_UP = "hung up"
    """Our side ended it."""
    PEER_CLOSED = "the peer closed"
    """close_notify, or RTCP BYE followed by it."""
    SETUP_TIMEOUT = "no connection in time"
    ICE_FAILED = "no path to the peer"
    CONSENT_EXPIRED = "the peer fell silent"
    """Nothing authenticated arrived for 30 s."""
    CONSENT_UNANSWERED = "the peer answers no consent checks"
    """RFC 7675 §5.1: a full agent that has had no answer for 30 s may not send, even if the peer still does."""
    FINGERPRINT_MISMATCH = "the peer's certificate is not the one in its SDP"
    DTLS_FAILED = "the DTLS handshake failed"
    WORKER_FAILED = "the media worker failed"
    """The process that carried the call is gone. A session says so where it was the peer's: an alert of
    internal_error after the handshake. Of our own process it is who has started it that says so."""


class Connected(Value, frozen=True):
    """There are a path and keys: media and data can be sent.

    Where `authenticated` is false the peer has not proved who it is yet (RFC 8446 §4.4.4): nothing is taken from
    it before `Authenticated`. `steps` are the milliseconds from the offer's arrival to each step of the set-up.
    """

    path: Path
    dtls_version: str
    cipher_suite: str
    group: str
    srtp_profile: str | None
    steps: Mapping[str, float]
    authenticated: bool = True


class Authenticated(Value, frozen=True):
    """The peer has proved that it holds the certificate of its description; follows a `Connected` that said no."""


class MediaHeld(Value, frozen=True):
    """No sound is sent as long as the peer has not proved who and where it is (`allowance.py`), or again.

    What is said waits; the conversation deals with it, and a program is not told.
    """

    held: bool


class ConnectionPaused(Value, frozen=True):
    """Nothing came of the peer for so long that nothing may be sent to it any more (RFC 7675 §5.1).

    What is said waits. `ConnectionResumed` follows when the peer is back, from wherever, and `Ended` if it is not
    in `seconds`.
    """

    seconds: float


class ConnectionResumed(Value, frozen=True):
    """The peer is back: what waited is sent."""

    path: Path


class Ended(Value, frozen=True):
    """The session is over; nothing follows."""

    reason: EndReason
    detail: str = ""


SessionEvent = (
    Connected | Authenticated | MediaHeld | ConnectionPaused | ConnectionResumed | MediaEvent | Ended | SctpEvent
)
