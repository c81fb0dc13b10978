"""A check by which an agent finds out whether its peer is where authenticated media of it have come from.

A NAT that gives a client another port, or a network that gives it another address, shows first in its media: a
packet every 20 ms, while its checks are seconds apart. What SRTP has authenticated is the peer's, but that alone
does not say that the peer can be reached where it came from: a copy could have been sent from elsewhere, ahead of
the packet. So one check is sent there, signed with the peer's password, and only a response that the peer has
signed (RFC 8489 §9.1.4) makes the path valid, as for a full agent (RFC 8445 §7.2.5). RFC 8445 §6.1.1 has a lite
agent send none; a full peer answers one all the same (§7.3), and a peer that does not is found by its own next
check, as before. A full agent has its checklist for the rest; these checks are apart from it, so that a copied
packet fills it with no pairs.

What a piggyback carries is in these checks and their responses, too: a peer that finds nothing attached to the
first authenticated message takes it that we do not speak it (draft-hancke-webrtc-sped). In the checks it is what
says so and what acknowledges (`MAX_ATTACHED`): they go where no more may be sent than has come.

Bounds: `MAX_PROBES` paths at once, and a path that did not answer is not probed again for `PROBE_PAUSE` seconds.
Nothing is sent to where no authenticated packet has come from.
"""

from __future__ import annotations

from typing import NamedTuple

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
from stack.ice.piggyback import Piggyback, sign_with_piggyback
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

MAX_ATTACHED = 24
"""Bytes of what is attached to such a check: four acknowledgements, and an attribute without data."""
MAX_PROBES = 4
"""Paths that are being probed at once, for one peer."""
PROBE_PAUSE = 2.0
"""Seconds."""
POLICY = RetransmissionPolicy(rto=0.1, rc=4, rm=4)
"""Faster than RFC 8489 §6.2.1, as the peer speaks and is not heard; four transmissions, 1.1 s in all."""


class _Probe(NamedTuple):
    path: Path
    transaction: ClientTransaction
    key: bytes
    began: Instant


class PathProbes:
    """The checks to where media came from that are pending; `role` is what the next ones say."""

    def __init__(
        self, entropy: Entropy, counters: Counters, role: IceRole | None = None, piggyback: Piggyback | None = None
    ) -> None:
        """Begin; without a role it is that of a lite agent, which never controls facing a full one."""
        self._entropy = entropy
        self._counters = counters
        self._piggyback = piggyback
        self.role = role or IceRole(False, int.from_bytes(entropy(8), "big"))
        self.round_trip_time: float | None = None
        """Seconds from the latest answered check to its answer: the round trip, or more if one was lost."""
        self._pending: dict[TransactionId, _Probe] = {}
        self._silent: dict[Path, Instant] = {}  # until when a path is not probed again

    def begin(
        self, path: Path, local: IceCredentials, remote: IceCredentials, now: Instant, *, again: bool = False
    ) -> Transmit | None:
        """Return a check for a path; None if one is pending, was in vain a moment ago, or there are too many.

        `again`: also if one was in vain a moment ago.
        """
        silent = not again and self._silent.get(path, now) > now
        if silent or any(path == each.path for each in self._pending.values()):
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
        message = Message(MessageClass.REQUEST, Method.BINDING, identifier, attributes)
        most = len(message.sign(credentials.key)) + MAX_ATTACHED
        data = sign_with_piggyback(self._piggyback, message, credentials.key, most)
        self._pending[identifier] = _Probe(path, ClientTransaction(data, now, POLICY), credentials.key, now)
        self._counters.add(PROBED)
        return Transmit(data, path)

    def awaits(self, message: Message) -> bool:
        """Return True for a response to one of these checks."""
        return message.transaction_id in self._pending

    def handle_response(self, data: bytes, message: Message, path: Path, now: Instant) -> bool:
        """Return True for a response that proves its path; what does not count is counted."""
        known = self._pending.get(message.transaction_id)
        if known is None or message.message_class is not MessageClass.SUCCESS_RESPONSE:
            self._counters.add(DROPPED_UNEXPECTED_RESPONSE)
            return False
        if not verify_integrity(data, known.key):
            self._counters.add(DROPPED_WRONG_RESPONSE_INTEGRITY)
            return False
        del self._pending[message.transaction_id]
        if path != known.path:  # RFC 8445 §7.2.5.2.1
            self._counters.add(DROPPED_ASYMMETRIC_RESPONSE)
            return False
        self._counters.add(PROBE_ANSWERED)
        self.round_trip_time = now - known.began
        if self._piggyback is not None:
            self._piggyback.receive(message, path, now)  # nothing of ours waits for what its owner answers
        return True

    def handle_timeout(self, now: Instant) -> list[Transmit]:
        """Return what is to be sent again."""
        again: list[Transmit] = []
        for identifier, each in list(self._pending.items()):
            data = each.transaction.handle_timeout(now)
            if data is not None:
                again.append(Transmit(data, each.path))
            elif each.transaction.state is TransactionState.TIMED_OUT:
                del self._pending[identifier]
                self._silent = {path: until for path, until in self._silent.items() if until > now}
                self._silent[each.path] = now + PROBE_PAUSE
        return again

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return earliest(*(each.transaction.poll_timeout() for each in self._pending.values()))

    def clear(self) -> None:
        """Forget what is pending."""
        self._pending.clear()
