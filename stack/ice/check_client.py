"""The client side of a connectivity check: which are sent, which are pending, which response counts.

RFC 8445 §7.2 (STUN client procedures), RFC 8489 §9.1.4 and §9.1.5. A response counts only if it belongs to a
pending transaction and its MESSAGE-INTEGRITY is made with the peer's password: if an unsigned error, such as 401,
made a check fail, any host could make any check fail. Such a check is retransmitted until it times out.
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.counters import Counters, declare
from stack.core.machine import Entropy, Instant, Path, Transmit
from stack.core.timers import earliest
from stack.core.ufrag import new_transaction
from stack.ice.candidate import CandidateType, compute_priority
from stack.ice.credentials import IceCredentials
from stack.ice.pair import CandidatePair
from stack.ice.piggyback import Piggyback, sign_with_piggyback
from stack.stun import (
    Attribute,
    ClientTransaction,
    IceControlled,
    IceControlling,
    Message,
    MessageClass,
    Method,
    Nomination,
    Priority,
    RetransmissionPolicy,
    TransactionId,
    TransactionState,
    UseCandidate,
    Username,
    short_term_key,
    verify_integrity,
)

DROPPED_UNEXPECTED_RESPONSE = declare(
    "ice", "dropped_unexpected_response", "Responses to no check of ours that is pending"
)
DROPPED_WRONG_RESPONSE_INTEGRITY = declare(
    "ice", "dropped_wrong_response_integrity", "Responses that the peer's password did not sign (RFC 8489 §9.1.4)"
)

MAX_SENT_CHECKS = 256
"""Pending: of a hundred pairs, each with a cancelled check or two, and the consent checks."""


@dataclass(frozen=True, slots=True)
class CheckCredentials:
    """USERNAME of our checks, and the key that signs them and the peer's responses (RFC 8445 §7.2.2)."""

    username: str
    key: bytes

    @classmethod
    def of(cls, local: IceCredentials, remote: IceCredentials) -> CheckCredentials:
        """Make it from both sides' credentials."""
        return cls(f"{remote.ufrag}:{local.ufrag}", short_term_key(remote.password))


@dataclass(frozen=True, slots=True)
class IceRole:
    """Our role, with the tie-breaker (RFC 8445 §7.1.3)."""

    controlling: bool
    tie_breaker: int

    @property
    def attribute(self) -> Attribute:
        """As it goes into a check."""
        return IceControlling(self.tie_breaker) if self.controlling else IceControlled(self.tie_breaker)


@dataclass(frozen=True, slots=True, eq=False)
class SentCheck:
    """A check of ours that is pending: a response to it still counts."""

    pair: CandidatePair
    path: Path
    credentials: CheckCredentials
    controlling: bool
    nominating: bool
    consent: bool
    transaction: ClientTransaction


class CheckClient:
    """Sends checks, retransmits them, and matches responses to them."""

    def __init__(self, entropy: Entropy, counters: Counters, piggyback: Piggyback | None) -> None:
        self._entropy = entropy
        self._counters = counters
        self._piggyback = piggyback
        self._sent: dict[TransactionId, SentCheck] = {}
        self.waits = False
        """True if the owner of the piggyback has to answer what the last response carried."""

    def send(
        self,
        pair: CandidatePair,
        credentials: CheckCredentials,
        role: IceRole,
        policy: RetransmissionPolicy,
        now: Instant,
        *,
        nominate: bool = False,
        nomination: int = 0,
        consent: bool = False,
    ) -> Transmit:
        """Make a check and remember it; the caller sends what is returned.

        `nomination` numbers a nomination, 0 leaves the number out.
        """
        # RFC 8445 §7.1.1: the priority of our candidate if the peer finds it to be peer-reflexive.
        preference = pair.local.priority >> 8 & 0xFFFF
        kind, protocol = CandidateType.PEER_REFLEXIVE, pair.path.protocol
        priority = compute_priority(kind, preference, protocol=protocol)
        attributes: list[Attribute] = [Username(credentials.username), role.attribute, Priority(priority)]
        if nominate:
            attributes.append(UseCandidate())
            if nomination:
                attributes.append(Nomination(nomination))
        ours = credentials.username.rpartition(":")[2]
        transaction_id = TransactionId(new_transaction(self._entropy, ours))
        message = Message(MessageClass.REQUEST, Method.BINDING, transaction_id, tuple(attributes))
        data = sign_with_piggyback(self._piggyback, message, credentials.key)
        if len(self._sent) >= MAX_SENT_CHECKS:
            self._sent.pop(next(iter(self._sent)))
        transaction = ClientTransaction(data, now, policy)
        self._sent[transaction_id] = SentCheck(
            pair, pair.path, credentials, role.controlling, nominate and not consent, consent, transaction
        )
        return Transmit(data, pair.path)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return earliest(*(check.transaction.poll_timeout() for check in self._sent.values()))

    def handle_timeout(self, now: Instant) -> tuple[list[Transmit], list[SentCheck]]:
        """Return what is to be retransmitted, and the checks that have timed out."""
        again: list[Transmit] = []
        timed_out: list[SentCheck] = []
        for transaction_id, check in list(self._sent.items()):
            data = check.transaction.handle_timeout(now)
            if data is not None:
                again.append(Transmit(data, check.path))
            elif check.transaction.state is TransactionState.TIMED_OUT:
                del self._sent[transaction_id]
                timed_out.append(check)
        return again, timed_out

    def match_response(self, data: bytes, message: Message, path: Path, now: Instant) -> SentCheck | None:
        """Return the check of this response, which is no longer pending; None, counted, if it does not count."""
        check = self._sent.get(message.transaction_id)
        if check is None:
            self._counters.add(DROPPED_UNEXPECTED_RESPONSE)
            return None
        if not verify_integrity(data, check.credentials.key):
            self._counters.add(DROPPED_WRONG_RESPONSE_INTEGRITY)
            return None
        del self._sent[message.transaction_id]
        self.waits = self._piggyback is not None and self._piggyback.receive(message, path, now)
        return check

    def cancel(self, pair: CandidatePair | None, now: Instant) -> None:
        """Retransmit the checks of one pair, or of all pairs, no more; responses to them still count."""
        for check in self._sent.values():
            if not check.consent and pair in (None, check.pair):
                check.transaction.stop_retransmitting(now)

    def has_pending(self, pair: CandidatePair) -> bool:
        """Return True if a check of this pair, other than for consent, is pending."""
        return any(check.pair is pair and not check.consent for check in self._sent.values())

    def clear(self) -> None:
        """Forget every pending check."""
        self._sent.clear()

    def __len__(self) -> int:
        return len(self._sent)
