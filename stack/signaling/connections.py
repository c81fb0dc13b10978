"""Which call an offer belongs to, so that a further offer of a connection that is up makes no second call.

RFC 3264 §8 and RFC 8866 §5.2 (an `o=` line with the same identifier and a higher version is the same session,
changed); RFC 8839 §4.4 (an ICE restart keeps all but ufrag and password); RFC 8842 (the fingerprint says whose
DTLS it is).

What identifies a connection is its certificate's fingerprint *and* either its ICE ufrag or its `o=` line with a
version that is higher. None of these is enough alone: ufrags cross the network in the clear and may collide,
certificates may be shared by many connections of one process, and some stacks write the same `o=` line every time.

To be recognised is not to be authorised: an attacker who has seen an offer can replay it, and our answer holds the
password by which media could be led elsewhere. So `SignalingService` renegotiates for a client that names the call
(its `Location`, its `pc_id`) or bears the token that placed it, repeats an answer for a client that repeats the
request before there is a connection, and refuses everything else; the call that is up never notices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from stack.sdp import Origin, SessionDescription
from stack.signaling.security import Principal


@dataclass(frozen=True, slots=True)
class ConnectionIdentity:
    """What an offer says of the connection that it is for."""

    fingerprints: tuple[str, ...]
    ice_ufrag: str
    origin: Origin

    @classmethod
    def of(cls, offer: SessionDescription) -> ConnectionIdentity | None:
        """Return the identity of an offer; None for one that has none, which will be refused for it."""
        media = offer.resolved.media
        prints = {value.strip().lower() for each in media for value in each.values("fingerprint")}
        ufrags = [value.strip() for each in media for value in each.values("ice-ufrag")]
        if not prints or not ufrags:
            return None
        return cls(tuple(sorted(prints)), ufrags[0], offer.origin)

    def continues(self, former: ConnectionIdentity) -> bool:
        """Return True if this is the same connection as `former`, then or later."""
        if self.fingerprints != former.fingerprints:
            return False
        return self.ice_ufrag == former.ice_ufrag or self.follows(former)

    def follows(self, former: ConnectionIdentity) -> bool:
        """Return True if this is a later version of the same session."""
        return self._same_session(former) and self.origin.session_version > former.origin.session_version

    def precedes(self, former: ConnectionIdentity) -> bool:
        """Return True if this is an earlier version of the same session: it was overtaken on its way."""
        return self._same_session(former) and self.origin.session_version < former.origin.session_version

    def _same_session(self, former: ConnectionIdentity) -> bool:
        ours, theirs = self.origin, former.origin
        return (ours.username, ours.session_id) == (theirs.username, theirs.session_id)


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """A call as it was placed: by whom, from where, with which offer, and what was answered."""

    call_id: str
    principal: Principal
    client: str
    identity: ConnectionIdentity
    digest: bytes
    answer: str

    def is_repeated_by(self, principal: Principal, client: str, offer: str) -> bool:
        """Return True for the very same request again."""
        return (self.principal, self.client, self.digest) == (principal, client, digest_of(offer))


def digest_of(offer: str) -> bytes:
    """Return what stands for the text of an offer."""
    return hashlib.sha256(offer.encode()).digest()


class Connections:
    """The calls that are up, by what identifies them; `max_calls` is their bound."""

    def __init__(self) -> None:
        self._placed: dict[str, PlacedCall] = {}
        self._by_fingerprints: dict[tuple[str, ...], dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._placed)

    def note(self, placed: PlacedCall) -> None:
        """Remember a call."""
        self._placed[placed.call_id] = placed
        self._by_fingerprints.setdefault(placed.identity.fingerprints, {})[placed.call_id] = None

    def get(self, call_id: str) -> PlacedCall | None:
        """Return how a call was placed."""
        return self._placed.get(call_id)

    def find(self, identity: ConnectionIdentity) -> Iterator[PlacedCall]:
        """Return the calls that an offer continues: one, but for those that are just ending."""
        for call_id in self._by_fingerprints.get(identity.fingerprints, ()):
            placed = self._placed[call_id]
            if identity.continues(placed.identity):
                yield placed

    def update(self, call_id: str, identity: ConnectionIdentity) -> None:
        """The call has taken a further offer, whose fingerprints are those of the first."""
        placed = self._placed.get(call_id)
        if placed is not None:
            self._placed[call_id] = replace(placed, identity=identity, digest=b"")

    def note_restart(self, call_id: str, ice_ufrag: str) -> None:
        """The peer has restarted ICE without an offer."""
        placed = self._placed.get(call_id)
        if placed is not None:
            self.update(call_id, replace(placed.identity, ice_ufrag=ice_ufrag))

    def forget(self, call_id: str) -> None:
        """The call is over."""
        placed = self._placed.pop(call_id, None)
        if placed is not None:
            alike = self._by_fingerprints[placed.identity.fingerprints]
            del alike[call_id]
            if not alike:
                del self._by_fingerprints[placed.identity.fingerprints]
