"""The server side of a connectivity check, the same for lite and full agents.

RFC 8489 §9.1.3 (short-term credentials), §6.3.1 (unknown attributes); RFC 8445 §7.3 (STUN server procedures).
`authenticate` decides whether a request is authentic and makes the error response if it is not; `respond` and
`respond_error` make the responses to an authentic one, and `release` those that waited for what a piggyback is to
carry. Nothing is believed, stored or answered at length before MESSAGE-INTEGRITY is verified:

- An error response without authentication is never longer than the request, so it amplifies nothing.
- More than `MAX_REFUSED` in a second are a flood: from then on the signature is verified first, and what has a
  wrong one is neither parsed nor answered (`is_flood`).
- The last responses are stored by transaction: a retransmitted request gets the same bytes again and has no other
  effect, and one from another address than the first time is a replay, and is dropped.
- What a piggyback attaches makes a response longer than its request only on the path of the first check, where its
  protocol begins, and only `MAX_LOADED` times: a caller knows its own password, and may write any source address.

Left out: MESSAGE-INTEGRITY-SHA256, which no ICE agent sends (RFC 8445 §7 names HMAC-SHA1 only).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stack.core.counters import CounterName, Counters, declare
from stack.core.machine import Instant, Path, Transmit
from stack.ice.candidate import CandidatePriority, CandidateType, compute_priority
from stack.ice.credentials import IceCredentials, split_username
from stack.ice.piggyback import MAX_CHECK_SIZE, Piggyback, sign_with_piggyback
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
    Nomination,
    Priority,
    TransactionId,
    UnknownAttributes,
    UseCandidate,
    Username,
    XorMappedAddress,
    peek_username,
    short_term_key,
    verify_integrity,
)

DROPPED_UNKNOWN_METHOD = declare("ice", "dropped_unknown_method", "Requests with another method than Binding")
DROPPED_NO_CREDENTIALS = declare(
    "ice",
    "dropped_no_credentials",
    "Checks without USERNAME or MESSAGE-INTEGRITY: answered by 400 (RFC 8489 §9.1.3)",
)
DROPPED_WRONG_USERNAME = declare(
    "ice", "dropped_wrong_username", "Checks whose USERNAME is not of this session: answered by 401"
)
DROPPED_WRONG_INTEGRITY = declare(
    "ice", "dropped_wrong_integrity", "Checks that our password did not sign: answered by 401"
)
DROPPED_REPLAYED_ELSEWHERE = declare(
    "ice", "dropped_replayed_elsewhere", "Copies of a check that came over another path than the check"
)
DROPPED_UNKNOWN_ATTRIBUTE = declare(
    "ice",
    "dropped_unknown_attribute",
    "Checks with an unknown attribute that has to be understood: answered by 420 (RFC 8489 §6.3.1)",
)
DROPPED_TWO_ROLES = declare(
    "ice", "dropped_two_roles", "Checks that claim to be controlling and controlled: answered by 400"
)
DROPPED_INDICATION_WRONG_INTEGRITY = declare(
    "ice", "dropped_indication_wrong_integrity", "Binding indications with a wrong signature: they prove nothing"
)
DROPPED_FLOOD = declare(
    "ice", "dropped_flood", "Checks that our password did not sign, beyond those that are answered in a second"
)
REPEATED_CHECK = declare("ice", "repeated_check", "Checks that came again, answered as before")
INDICATION = declare("ice", "indication", "Binding indications received")
REPEATED_INDICATION = declare(
    "ice", "repeated_indication", "Signed Binding indications that came again: they prove nothing new"
)

MAX_STORED_RESPONSES = 64
"""Enough for every retransmission of a full checklist to be recognised."""

MAX_REFUSED = 50
"""Requests that are refused with an answer, in a second and session; a client with an old password sends a few."""
MAX_LOADED = 8
"""Responses of an agent that are longer than their requests: two flights of DTLS in three datagrams each, and two
more against loss. After them, what is attached goes by itself, on DTLS's own timer."""
_REQUEST = b"\x00\x01"

_REASONS = {
    ErrorNumber.BAD_REQUEST: "Bad Request",
    ErrorNumber.UNAUTHENTICATED: "Unauthenticated",
    ErrorNumber.UNKNOWN_ATTRIBUTE: "Unknown Attribute",
    ErrorNumber.ROLE_CONFLICT: "Role Conflict",
}


@dataclass(frozen=True, slots=True)
class ReceivedCheck:
    """A connectivity check of the peer, authenticated with our password."""

    message: Message
    size: int
    """Bytes."""
    path: Path
    priority: CandidatePriority
    use_candidate: bool
    sender_controlling: bool | None
    """None: neither attribute is in it (RFC 8445 §7.3.1.1 lets that pass)."""
    sender_tie_breaker: int
    remote_ufrag: str
    key: bytes
    nomination: int
    """The number of the nomination; 0 if there is none."""
    current: bool
    """False: made with the credentials from before the last ICE restart."""
    waits: bool = False
    """True: the owner of the piggyback has to answer what it carried, before it is responded to (`release`)."""


class CheckServer:
    """Authenticates Binding requests and responds to them."""

    def __init__(self, credentials: IceCredentials, counters: Counters, piggyback: Piggyback | None) -> None:
        self.credentials = credentials
        self.remote_ufrag: str | None = None
        """What the second half of USERNAME must be; None: anything, as the peer's fragment is not known yet."""
        self._previous: IceCredentials | None = None
        self._counters = counters
        self._piggyback = piggyback
        self._responses: OrderedDict[TransactionId, Transmit] = OrderedDict()
        self._waiting: list[
            ReceivedCheck
        ] = []  # for the owner of the piggyback; at most one, as inputs release it
        self._indications: deque[TransactionId] = deque(maxlen=MAX_STORED_RESPONSES)
        self._first_path: Path | None = None
        self._loaded = 0  # responses that were longer than their requests
        self._refused = 0  # since `_window`
        self._window: Instant = 0.0

    @property
    def first_path(self) -> Path | None:
        """The path of the first authentic check."""
        return self._first_path

    def restart(self, credentials: IceCredentials) -> None:
        """Take new credentials; those of the path in use still keep known paths alive (RFC 8445 §9).

        They are not the latest where a restart is repeated because its answer did not arrive.
        """
        self._previous, self.credentials = self._previous or self.credentials, credentials
        self.remote_ufrag = None

    def forget_previous(self) -> None:
        """Refuse the credentials from before the last restart from now on."""
        self._previous = None

    def is_flood(self, data: bytes, now: Instant) -> bool:
        """Return True for a request that is to be dropped unread: too many were refused, and this one would be."""
        if self._refused < MAX_REFUSED:
            return False
        if now - self._window >= 1.0:
            self._refused, self._window = 0, now
            return False
        if data[:2] != _REQUEST:
            return False
        local = self._credentials_for(split_username(peek_username(data) or ""))
        if local is not None and verify_integrity(data, short_term_key(local.password)):
            return False
        self._counters.add(DROPPED_FLOOD)
        return True

    def authenticate(
        self, data: bytes, message: Message, path: Path, now: Instant
    ) -> ReceivedCheck | Transmit | None:
        """Return the authenticated check, or the response to one that is not, or None for no response."""
        if message.method != Method.BINDING:
            self._counters.add(DROPPED_UNKNOWN_METHOD)
            return None
        username = message.get(Username)
        if username is None or message.get(MessageIntegrity) is None:
            # RFC 8489 §9.1.3: without either of them, 400.
            return self._reject(data, message, path, ErrorNumber.BAD_REQUEST, DROPPED_NO_CREDENTIALS, now)
        fragments = split_username(username.value)
        local = self._credentials_for(fragments)
        if fragments is None or local is None:
            return self._reject(data, message, path, ErrorNumber.UNAUTHENTICATED, DROPPED_WRONG_USERNAME, now)
        key = short_term_key(local.password)
        if not verify_integrity(data, key):
            return self._reject(data, message, path, ErrorNumber.UNAUTHENTICATED, DROPPED_WRONG_INTEGRITY, now)
        known = self._responses.get(message.transaction_id)
        if known is not None:
            if known.path != path:
                self._counters.add(DROPPED_REPLAYED_ELSEWHERE)
                return None
            self._counters.add(REPEATED_CHECK)
            if len(known.data) <= len(data) or self._may_load(path):
                return known
            return self._make_response(
                self._read(message, len(data), path, fragments[1], key, local is self.credentials)
            )
        check = self._read(message, len(data), path, fragments[1], key, local is self.credentials)
        if message.unknown_required:
            # RFC 8489 §6.3.1: name what was not understood.
            self._counters.add(DROPPED_UNKNOWN_ATTRIBUTE)
            return self.respond_error(
                check, ErrorNumber.UNKNOWN_ATTRIBUTE, UnknownAttributes(message.unknown_required)
            )
        if message.get(IceControlled) and message.get(IceControlling):
            self._counters.add(DROPPED_TWO_ROLES)
            return self.respond_error(check, ErrorNumber.BAD_REQUEST)
        if self._piggyback is not None and self._piggyback.receive(message, path, now):
            return replace(check, waits=True)
        return check

    def authenticate_indication(self, data: bytes, message: Message) -> bool:
        """Return True for a Binding indication that the peer has signed, the first time that it comes.

        RFC 8445 §11 wants no authentication in keepalives; one that has none, or is a copy, proves nothing.
        """
        self._counters.add(INDICATION)
        if message.method != Method.BINDING or message.get(MessageIntegrity) is None:
            return False
        username = message.get(Username)
        if username is None:
            known: list[IceCredentials | None] = [self.credentials, self._previous]
        else:
            known = [self._credentials_for(split_username(username.value))]
        if not any(local and verify_integrity(data, short_term_key(local.password)) for local in known):
            self._counters.add(DROPPED_INDICATION_WRONG_INTEGRITY)
            return False
        if message.transaction_id in self._indications:
            self._counters.add(REPEATED_INDICATION)
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
    def _read(
        message: Message, size: int, path: Path, remote_ufrag: str, key: bytes, current: bool
    ) -> ReceivedCheck:
        priority = message.get(Priority)
        role = message.get(IceControlling) or message.get(IceControlled)
        nomination = message.get(Nomination)
        return ReceivedCheck(
            message=message,
            size=size,
            path=path,
            priority=CandidatePriority(priority.value)
            if priority
            else compute_priority(CandidateType.PEER_REFLEXIVE),
            use_candidate=message.get(UseCandidate) is not None,
            sender_controlling=None if role is None else isinstance(role, IceControlling),
            sender_tie_breaker=role.value if role else 0,
            remote_ufrag=remote_ufrag,
            key=key,
            nomination=nomination.value if nomination else 0,
            current=current,
        )

    def _reject(
        self,
        data: bytes,
        message: Message,
        path: Path,
        code: ErrorNumber,
        reason: CounterName,
        now: Instant,
    ) -> Transmit | None:
        """Count an unauthenticated request; respond with an error if the response is not longer."""
        self._counters.add(reason)
        if now - self._window >= 1.0:
            self._refused, self._window = 0, now
        self._refused += 1
        response = message.respond(MessageClass.ERROR_RESPONSE, ErrorCode(code)).serialize_with_fingerprint()
        return Transmit(response, path) if len(response) <= len(data) else None

    def respond(self, check: ReceivedCheck) -> Sequence[Transmit]:
        """Return the success response; nothing yet if it has to wait for `release`."""
        if check.waits:
            self._waiting.append(check)
            return ()
        return (self._make_response(check),)

    @property
    def is_waiting(self) -> bool:
        """True if a response waits for `release`."""
        return bool(self._waiting)

    def release(self) -> Sequence[Transmit]:
        """Return the responses that have waited, with what is attached to them by now."""
        waiting, self._waiting = self._waiting, []
        return [self._make_response(check) for check in waiting]

    def _make_response(self, check: ReceivedCheck) -> Transmit:
        """Tell the peer its address, from the address that the request went to (RFC 8445 §7.3.1.2)."""
        mapped = XorMappedAddress(check.path.remote)
        response = check.message.respond(MessageClass.SUCCESS_RESPONSE, mapped)
        self._first_path = self._first_path or check.path
        may_load = check.path == self._first_path and self._loaded < MAX_LOADED
        most = MAX_CHECK_SIZE if may_load else check.size
        data = sign_with_piggyback(self._piggyback, response, check.key, most)
        self._loaded += len(data) > check.size
        return self._store_response(check, data)

    def _may_load(self, path: Path) -> bool:
        """Count a response that is longer than its request; False: it may not be sent."""
        if path != self._first_path or self._loaded >= MAX_LOADED:
            return False
        self._loaded += 1
        return True

    def respond_error(self, check: ReceivedCheck, code: ErrorNumber, *attributes: Attribute) -> Transmit:
        """Respond to an authenticated check with an error."""
        error = ErrorCode(code, _REASONS.get(code, ""))
        return self._store_response(
            check, check.message.respond(MessageClass.ERROR_RESPONSE, error, *attributes).sign(check.key)
        )

    def _store_response(self, check: ReceivedCheck, data: bytes) -> Transmit:
        if len(self._responses) >= MAX_STORED_RESPONSES:
            self._responses.popitem(last=False)
        response = Transmit(data, check.path)
        self._responses[check.message.transaction_id] = response
        return response
