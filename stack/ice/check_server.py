"""The answering side of a connectivity check, the same for lite and full agents.

RFC 8489 §9.1.3 (short-term credentials), §6.3.1 (unknown attributes); RFC 8445 §7.3 (STUN server procedures).
`open` decides whether a request is authentic and makes the refusal if it is not; `accept` and `refuse` make the
answers to an authentic one. Nothing is believed, remembered or answered at length before MESSAGE-INTEGRITY:

- A refusal without authentication is never longer than the request, so it amplifies nothing.
- The last answers are remembered by transaction: a repeated request gets the same bytes again and has no other
  effect, and one that comes from another address than the first time was captured by somebody, and is dropped.

Left out: MESSAGE-INTEGRITY-SHA256, which no ICE agent sends (RFC 8445 §7 names HMAC-SHA1 only).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from stack.core.machine import Instant, Path, Transmit
from stack.core.trace import Counters
from stack.ice.candidate import CandidateType, compute_priority
from stack.ice.credentials import IceCredentials, split_username
from stack.ice.piggyback import Piggyback, sign_with
from stack.stun import (
    Attribute,
    ErrorCode,
    ErrorNumber,
    IceControlled,
    IceControlling,
    Message,
    MessageClass,
    MessageIntegrity,
    Method,
    Priority,
    UnknownAttributes,
    UseCandidate,
    Username,
    XorMappedAddress,
    short_term_key,
    verify_integrity,
)

MAX_REMEMBERED_ANSWERS = 64
"""Enough for every retransmission of a full checklist to be recognised."""

_REASONS = {
    ErrorNumber.BAD_REQUEST: "Bad Request",
    ErrorNumber.UNAUTHENTICATED: "Unauthenticated",
    ErrorNumber.UNKNOWN_ATTRIBUTE: "Unknown Attribute",
    ErrorNumber.ROLE_CONFLICT: "Role Conflict",
}


@dataclass(frozen=True, slots=True)
class Check:
    """A connectivity check whose sender knows our password."""

    message: Message
    path: Path
    priority: int
    use_candidate: bool
    sender_controlling: bool | None
    """None: it did not say (RFC 8445 §7.3.1.1 lets that pass)."""
    sender_tie_breaker: int
    remote_ufrag: str
    key: bytes
    current: bool
    """False: made with the credentials from before the last ICE restart."""


class CheckServer:
    """Authenticates and answers Binding requests."""

    def __init__(self, credentials: IceCredentials, counters: Counters, piggyback: Piggyback | None) -> None:
        self.credentials = credentials
        self.remote_ufrag: str | None = None
        """What the second half of USERNAME must be; None: anything, as the peer has not been heard of yet."""
        self._previous: IceCredentials | None = None
        self._counters = counters
        self._piggyback = piggyback
        self._answers: OrderedDict[bytes, Transmit] = OrderedDict()
        self._indications: deque[bytes] = deque(maxlen=MAX_REMEMBERED_ANSWERS)

    def restart(self, credentials: IceCredentials) -> None:
        """Take new credentials; the former ones stay good for keeping alive what exists (RFC 8445 §9)."""
        self._previous, self.credentials = self.credentials, credentials
        self.remote_ufrag = None

    def forget_previous(self) -> None:
        """Refuse the credentials from before the last restart from now on."""
        self._previous = None

    def open(self, data: bytes, message: Message, path: Path, now: Instant) -> Check | Transmit | None:
        """Return the authenticated check, or what to answer to one that is not, or None to say nothing."""
        if message.method != Method.BINDING:
            self._counters.add("dropped.unknown_method")
            return None
        username = message.get(Username)
        if username is None or message.get(MessageIntegrity) is None:
            # RFC 8489 §9.1.3: without either of them, 400.
            return self._turn_away(data, message, path, ErrorNumber.BAD_REQUEST, "dropped.no_credentials")
        fragments = split_username(username.value)
        local = self._credentials_for(fragments)
        if fragments is None or local is None:
            return self._turn_away(data, message, path, ErrorNumber.UNAUTHENTICATED, "dropped.wrong_username")
        key = short_term_key(local.password)
        if not verify_integrity(data, key):
            return self._turn_away(data, message, path, ErrorNumber.UNAUTHENTICATED, "dropped.wrong_integrity")
        known = self._answers.get(message.transaction_id)
        if known is not None:
            if known.path != path:
                self._counters.add("dropped.replayed_elsewhere")
                return None
            self._counters.add("repeated_check")
            return known
        check = self._read(message, path, fragments[1], key, local is self.credentials)
        if message.unknown_required:
            # RFC 8489 §6.3.1: name what was not understood.
            self._counters.add("dropped.unknown_attribute")
            return self.refuse(check, ErrorNumber.UNKNOWN_ATTRIBUTE, UnknownAttributes(message.unknown_required))
        if message.get(IceControlled) and message.get(IceControlling):
            self._counters.add("dropped.two_roles")
            return self.refuse(check, ErrorNumber.BAD_REQUEST)
        if self._piggyback is not None:
            self._piggyback.receive(message, path, now)
        return check

    def is_from_peer(self, data: bytes, message: Message) -> bool:
        """Return True for a Binding indication that the peer has signed, the first time that it comes.

        RFC 8445 §11 wants no authentication in keepalives; one that has none, or is a copy, proves nothing.
        """
        self._counters.add("indication")
        if message.method != Method.BINDING or message.get(MessageIntegrity) is None:
            return False
        username = message.get(Username)
        if username is None:
            known: list[IceCredentials | None] = [self.credentials, self._previous]
        else:
            known = [self._credentials_for(split_username(username.value))]
        if not any(local and verify_integrity(data, short_term_key(local.password)) for local in known):
            self._counters.add("dropped.indication_wrong_integrity")
            return False
        if message.transaction_id in self._indications:
            self._counters.add("repeated_indication")
            return False
        self._indications.append(message.transaction_id)
        return True

    def _credentials_for(self, fragments: tuple[str, str] | None) -> IceCredentials | None:
        if fragments is None:
            return None
        receiver, sender = fragments
        if receiver == self.credentials.ufrag and self.remote_ufrag in (None, sender):
            return self.credentials
        if self._previous is not None and receiver == self._previous.ufrag:
            return self._previous
        return None

    @staticmethod
    def _read(message: Message, path: Path, remote_ufrag: str, key: bytes, current: bool) -> Check:
        priority = message.get(Priority)
        role = message.get(IceControlling) or message.get(IceControlled)
        return Check(
            message=message,
            path=path,
            priority=priority.value if priority else compute_priority(CandidateType.PEER_REFLEXIVE),
            use_candidate=message.get(UseCandidate) is not None,
            sender_controlling=None if role is None else isinstance(role, IceControlling),
            sender_tie_breaker=role.value if role else 0,
            remote_ufrag=remote_ufrag,
            key=key,
            current=current,
        )

    def _turn_away(
        self, data: bytes, message: Message, path: Path, code: ErrorNumber, reason: str
    ) -> Transmit | None:
        """Count an unauthenticated request; answer it if the answer is not longer."""
        self._counters.add(reason)
        answer = message.respond(MessageClass.ERROR_RESPONSE, ErrorCode(code)).serialize_with_fingerprint()
        return Transmit(answer, path) if len(answer) <= len(data) else None

    def accept(self, check: Check) -> Transmit:
        """Answer, from the address that was asked, where the request came from (RFC 8445 §7.3.1.2)."""
        mapped = XorMappedAddress(check.path.remote)
        response = check.message.respond(MessageClass.SUCCESS_RESPONSE, mapped)
        return self._remember(check, sign_with(self._piggyback, response, check.key))

    def refuse(self, check: Check, code: ErrorNumber, *attributes: Attribute) -> Transmit:
        """Answer an authenticated check with an error."""
        error = ErrorCode(code, _REASONS.get(code, ""))
        return self._remember(
            check, check.message.respond(MessageClass.ERROR_RESPONSE, error, *attributes).sign(check.key)
        )

    def _remember(self, check: Check, data: bytes) -> Transmit:
        if len(self._answers) >= MAX_REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)
        answer = Transmit(data, check.path)
        self._answers[check.message.transaction_id] = answer
        return answer
