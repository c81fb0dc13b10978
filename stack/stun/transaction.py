"""A STUN client transaction over UDP: when to send a request again, when to give up (RFC 8489 §6.2.1).

A request is sent at 0, RTO, 3·RTO, 7·RTO … until Rc have been sent; Rm·RTO after the last one the transaction
has failed. The same bytes are sent each time. Time is an argument; the owner asks `poll_timeout`.

Left out: requests over TCP (RFC 8489 §6.2.2), which are sent once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stack.core.errors import LocalError
from stack.core.machine import Instant


class TransactionState(Enum):
    """In protocol order: pending ends in one of the other two."""

    PENDING = "pending"
    ANSWERED = "answered"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class RetransmissionPolicy:
    """RTO in seconds; Rc and Rm by their names in RFC 8489 §6.2.1."""

    rto: float = 0.5
    rc: int = 7
    rm: int = 16

    def __post_init__(self) -> None:
        if self.rto <= 0 or self.rc < 1 or self.rm < 1:
            raise LocalError("a retransmission policy needs a positive RTO, Rc and Rm")


class ClientTransaction:
    """One request on its way; the first transmission is the owner's, at the instant given here."""

    __slots__ = ("_deadline", "_interval", "_last_sent", "_policy", "_sent_at", "_transmissions", "data", "state")

    def __init__(self, data: bytes, now: Instant, policy: RetransmissionPolicy | None = None) -> None:
        self.data = data
        self.state = TransactionState.PENDING
        self._policy = policy or RetransmissionPolicy()
        self._sent_at = now
        self._transmissions = 1
        self._last_sent = self._policy.rc == 1
        self._interval = self._policy.rto
        self._deadline = now + self._wait()

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called; None once the transaction is over."""
        return self._deadline if self.state is TransactionState.PENDING else None

    @property
    def transmissions(self) -> int:
        """How often the request has been sent."""
        return self._transmissions

    def _wait(self) -> float:
        return self._policy.rm * self._policy.rto if self._last_sent else self._interval

    def handle_timeout(self, now: Instant) -> bytes | None:
        """Return the request if it is to be sent again now; `state` says whether the transaction has failed."""
        if self.state is not TransactionState.PENDING or now < self._deadline:
            return None
        if self._last_sent:
            self.state = TransactionState.TIMED_OUT
            return None
        self._transmissions += 1
        self._last_sent = self._transmissions >= self._policy.rc
        self._interval *= 2
        self._deadline = now + self._wait()
        return self.data

    def stop_retransmitting(self, now: Instant) -> None:
        """Send no more, but wait for an answer for as long as after a last transmission.

        What RFC 8445 §7.3.1.4 and §8.1.2 call cancelling: no retransmission, yet a response still counts.
        """
        if self.state is TransactionState.PENDING and not self._last_sent:
            self._last_sent = True
            self._deadline = now + self._wait()

    def handle_response(self, now: Instant) -> float | None:
        """End the transaction; return the round-trip time in seconds if it can be known.

        A request that was sent more than once gives none, for the answer may belong to any of them (Karn's rule).
        """
        self.state = TransactionState.ANSWERED
        return max(0.0, now - self._sent_at) if self._transmissions == 1 else None
