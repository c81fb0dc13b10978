"""A check by which an agent finds out whether its peer is where authenticated media of it have come from.

A NAT that gives a client another port, or a network that gives it another address, shows first in its media: a
packet every 20 ms, while its checks are seconds apart. What SRTP has authenticated is the peer's, but that alone
does not say that the peer can be reached where it came from: a copy could have been sent from elsewhere, ahead of
the packet. So one check is sent there, signed with the peer's password, and only a response that the peer has
signed (RFC 8489 §9.1.4) makes the path valid, as for a full agent (RFC 8445 §7.2.5). RFC 8445 §6.1.1 has a lite
agent send none; a full peer answers one all the same (§7.3), and a peer that does not is found by its own next
check, as before. A full agent has its checklist for the rest; these checks are apart from it, so that a copied
packet fills it with no pairs.

Bounds: `MAX_PROBES` paths at once, and a path that did not answer is not probed again for `PROBE_PAUSE` seconds.
Nothing is sent to where no authenticated packet has come from.
"""

from __future__ import annotations

from stack.core.counters import Counters, declare
from stack.core.machine import Entropy, Instant, Path, Transmit
from stack.core.timers import earliest
from stack.core.ufrag import new_transaction
from stack.ice.candidate import CandidateType, compute_priority
from stack.ice.check_client import (
    DROPPED_UNEXPECTED_RESPONSE,
    DROPPED_WRONG_RESPONSE_INTEGRITY,
    CheckCredentials,
    IceRole,
)
from stack.ice.counters import DROPPED_ASYMMETRIC_RESPONSE
from stack.ice.credentials import IceCredentials
from stack.stun import (
    ClientTransaction,
    Message,
    MessageClass,
    Method,
    Priority,
    RetransmissionPolicy,
    TransactionId,
    TransactionState,
    Username,
    verify_integrity,
)

PROBED = declare("ice", "probed", "Checks to where authenticated media of the peer came from")
PROBE_ANSWERED = declare("ice", "probe_answered", "Such checks that the peer has answered: the path is valid")

MAX_PROBES = 4
"""Paths that are being probed at once, for one peer."""
PROBE_PAUSE = 2.0
"""Seconds."""
POLICY = RetransmissionPolicy(rto=0.1, rc=4, rm=4)
"""Faster than RFC 8489 §6.2.1, as the peer speaks and is not heard; four transmissions, 1.1 s in all."""


class PathProbes:
    """The checks to where media came from that are pending; `role` is what the next ones say."""

    def __init__(self, entropy: Entropy, counters: Counters, role: IceRole | None = None) -> None:
        """Begin; without a role it is that of a lite agent, which never controls facing a full one."""
        self._entropy = entropy
        self._counters = counters
        self.role = role or IceRole(False, int.from_bytes(entropy(8), "big"))
        self._pending: dict[TransactionId, tuple[Path, ClientTransaction, bytes]] = {}
        self._silent: dict[Path, Instant] = {}  # until when a path is not probed again

    def begin(self, path: Path, local: IceCredentials, remote: IceCredentials, now: Instant) -> Transmit | None:
        """Return a check for a path; None if one is pending, was in vain a moment ago, or there are too many."""
        if self._silent.get(path, now) > now or any(path == probed for probed, _, _ in self._pending.values()):
            return None
        if len(self._pending) >= MAX_PROBES:
            return None
        credentials = CheckCredentials.of(local, remote)
        identifier = TransactionId(new_transaction(self._entropy, local.ufrag))
        attributes = (
            Username(credentials.username),
            self.role.attribute,
            Priority(compute_priority(CandidateType.PEER_REFLEXIVE)),
        )
        data = Message(MessageClass.REQUEST, Method.BINDING, identifier, attributes).sign(credentials.key)
        self._pending[identifier] = path, ClientTransaction(data, now, POLICY), credentials.key
        self._counters.add(PROBED)
        return Transmit(data, path)

    def awaits(self, message: Message) -> bool:
        """Return True for a response to one of these checks."""
        return message.transaction_id in self._pending

    def handle_response(self, data: bytes, message: Message, path: Path) -> bool:
        """Return True for a response that proves its path; what does not count is counted."""
        known = self._pending.get(message.transaction_id)
        if known is None or message.message_class is not MessageClass.SUCCESS_RESPONSE:
            self._counters.add(DROPPED_UNEXPECTED_RESPONSE)
            return False
        probed, _, key = known
        if not verify_integrity(data, key):
            self._counters.add(DROPPED_WRONG_RESPONSE_INTEGRITY)
            return False
        del self._pending[message.transaction_id]
        if path != probed:  # RFC 8445 §7.2.5.2.1
            self._counters.add(DROPPED_ASYMMETRIC_RESPONSE)
            return False
        self._counters.add(PROBE_ANSWERED)
        return True

    def handle_timeout(self, now: Instant) -> list[Transmit]:
        """Return what is to be sent again."""
        again: list[Transmit] = []
        for identifier, (path, transaction, _) in list(self._pending.items()):
            data = transaction.handle_timeout(now)
            if data is not None:
                again.append(Transmit(data, path))
            elif transaction.state is TransactionState.TIMED_OUT:
                del self._pending[identifier]
                self._silent = {each: until for each, until in self._silent.items() if until > now}
                self._silent[path] = now + PROBE_PAUSE
        return again

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return earliest(*(transaction.poll_timeout() for _, transaction, _ in self._pending.values()))

    def clear(self) -> None:
        """Forget what is pending."""
        self._pending.clear()
