"""The asking side of a connectivity check: what is sent, what is still open, what an answer has to look like.

RFC 8445 §7.2 (STUN client procedures), RFC 8489 §9.1.4 and §9.1.5. An answer counts only if it belongs to an open
transaction and its MESSAGE-INTEGRITY is made with the peer's password: an unsigned error, such as 401, cannot make
a check fail, or anybody could make any check fail; the check is sent again until its time is up.
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.machine import Entropy, Instant, Path, Transmit
from stack.core.trace import Counters
from stack.ice.candidate import CandidateType, compute_priority
from stack.ice.credentials import IceCredentials
from stack.ice.pair import CandidatePair
from stack.ice.piggyback import Piggyback, sign_with
from stack.stun import (
    Attribute,
    ClientTransaction,
    IceControlled,
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    RetransmissionPolicy,
    TransactionId,
    TransactionState,
    UseCandidate,
    Username,
    short_term_key,
    verify_integrity,
)

MAX_OPEN_CHECKS = 256
"""A hundred pairs, each with a cancelled check or two, and the consent checks."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks whom: USERNAME, and the key that signs questions and answers (RFC 8445 §7.2.2)."""

    username: str
    key: bytes

    @classmethod
    def of(cls, local: IceCredentials, remote: IceCredentials) -> Identity:
        """Make it from both sides' credentials."""
        return cls(f"{remote.ufrag}:{local.ufrag}", short_term_key(remote.password))


@dataclass(frozen=True, slots=True)
class Role:
    """Ours, with the tie-breaker (RFC 8445 §7.1.3)."""

    controlling: bool
    tie_breaker: int

    @property
    def attribute(self) -> Attribute:
        """As it goes into a check."""
        return IceControlling(self.tie_breaker) if self.controlling else IceControlled(self.tie_breaker)


@dataclass(frozen=True, slots=True, eq=False)
class OpenCheck:
    """A check that was sent and may still be answered."""

    pair: CandidatePair
    path: Path
    identity: Identity
    controlling: bool
    nominating: bool
    consent: bool
    transaction: ClientTransaction


class CheckClient:
    """Sends checks, sends them again, and matches answers to them."""

    def __init__(self, entropy: Entropy, counters: Counters, piggyback: Piggyback | None) -> None:
        self._entropy = entropy
        self._counters = counters
        self._piggyback = piggyback
        self._open: dict[TransactionId, OpenCheck] = {}

    def send(
        self,
        pair: CandidatePair,
        identity: Identity,
        role: Role,
        policy: RetransmissionPolicy,
        now: Instant,
        *,
        nominate: bool = False,
        consent: bool = False,
    ) -> Transmit:
        """Make a check and remember it; the caller sends what is returned."""
        # RFC 8445 §7.1.1: what our candidate would be worth if it turned out to be peer-reflexive.
        priority = compute_priority(CandidateType.PEER_REFLEXIVE, pair.local.priority >> 8 & 0xFFFF)
        attributes: list[Attribute] = [Username(identity.username), role.attribute, Priority(priority)]
        if nominate:
            attributes.append(UseCandidate())
        transaction_id = TransactionId(self._entropy(12))
        message = Message(MessageClass.REQUEST, Method.BINDING, transaction_id, tuple(attributes))
        data = sign_with(self._piggyback, message, identity.key)
        if len(self._open) >= MAX_OPEN_CHECKS:
            self._open.pop(next(iter(self._open)))
        transaction = ClientTransaction(data, now, policy)
        self._open[transaction_id] = OpenCheck(
            pair, pair.path, identity, role.controlling, nominate and not consent, consent, transaction
        )
        return Transmit(data, pair.path)

    @property
    def deadline(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        deadlines = (check.transaction.deadline for check in self._open.values())
        return min((at for at in deadlines if at is not None), default=None)

    def handle_timeout(self, now: Instant) -> tuple[list[Transmit], list[OpenCheck]]:
        """Return what is to be sent again, and the checks that have had no answer for good."""
        again: list[Transmit] = []
        timed_out: list[OpenCheck] = []
        for transaction_id, check in list(self._open.items()):
            data = check.transaction.handle_timeout(now)
            if data is not None:
                again.append(Transmit(data, check.path))
            elif check.transaction.state is TransactionState.TIMED_OUT:
                del self._open[transaction_id]
                timed_out.append(check)
        return again, timed_out

    def match(self, data: bytes, message: Message, path: Path, now: Instant) -> OpenCheck | None:
        """Return the check that this response answers, and close it; None, counted, if it does not count."""
        check = self._open.get(message.transaction_id)
        if check is None:
            self._counters.add("dropped.unexpected_response")
            return None
        if not verify_integrity(data, check.identity.key):
            self._counters.add("dropped.wrong_response_integrity")
            return None
        del self._open[message.transaction_id]
        if self._piggyback is not None:
            self._piggyback.receive(message, path, now)
        return check

    def cancel(self, pair: CandidatePair | None, now: Instant) -> None:
        """Send the checks of one pair, or of all pairs, no more; answers to them still count."""
        for check in self._open.values():
            if not check.consent and pair in (None, check.pair):
                check.transaction.stop_retransmitting(now)

    def has_open(self, pair: CandidatePair) -> bool:
        """Return True if a check of this pair, other than for consent, may still be answered."""
        return any(check.pair is pair and not check.consent for check in self._open.values())

    def clear(self) -> None:
        """Forget every open check."""
        self._open.clear()

    def __len__(self) -> int:
        return len(self._open)
