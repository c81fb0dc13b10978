"""The checklist: which pairs there are and which is checked next (RFC 8445 §6.1.2, §6.1.4; RFC 8838 §12).

There is one, for there is one component: RTP and RTCP, and everything else, share a transport (RFC 9143, 5761).
Pairs may be added at any time. A pair is waiting if it is the first of its foundation, else frozen until a pair
of the same foundation has succeeded or no pair is waiting. RFC 8445 §6.1.4.2 would wait for the failure of the
first of its foundation, which may take as long as the PAC timer.

When every pair has been checked, those without a response are checked again, each by a new check. That deviates
from RFC 8445 §14.3, whose RTO is 500 ms or more and doubles. A browser sends a check every 50 ms until one is
answered; with 30 % loss each way the doubling timer left one call in twenty without a path for four seconds, and
this for one second. Each repetition is a transaction of its own, so its round trip is known, and a response to any
of them counts.

A pair is told by its path, which begins at the base of its local candidate: so a server-reflexive candidate makes
no pair beside its base's, which is the pruning of RFC 8445 §6.1.2.4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from stack.core.machine import Path, TransportProtocol
from stack.ice.candidate import OPPOSITE_TCP_TYPE, Candidate
from stack.ice.pair import CandidatePair, PairState

MAX_PAIRS = 100
"""RFC 8445 §6.1.2.5 recommends this limit."""

MAX_REPEATS = 20
"""How often an unanswered check is repeated early, before the slowing schedule of RFC 8489 §6.2.1 takes over."""

MAX_TRIGGERED_IN_A_ROW = 8
"""Triggered checks between which at least one other pair has its turn, if one is waiting."""

_ACTIVE = (PairState.WAITING, PairState.IN_PROGRESS)
_EVICTION_ORDER = {
    PairState.FAILED: 0,
    PairState.FROZEN: 1,
    PairState.WAITING: 2,
    PairState.SUCCEEDED: 3,
    PairState.IN_PROGRESS: 4,
}


def can_pair(local: Candidate, remote: Candidate) -> bool:
    """Return True if the two may form a pair: same component, protocol, family and scope (RFC 8445 §6.1.2.2).

    Over TCP one side connects and the other waits (RFC 6544 §6.2).
    """
    if local.component != remote.component or local.protocol is not remote.protocol:
        return False
    if local.tcp_type is not None and remote.tcp_type is not OPPOSITE_TCP_TYPE[local.tcp_type]:
        return False
    ours, theirs = ip_address(local.base_address.host), ip_address(remote.host)
    return ours.version == theirs.version and (ours.version == 4 or ours.is_link_local == theirs.is_link_local)


class Checklist:
    """The pairs, best first, and the queue of triggered checks."""

    __slots__ = ("_controlling", "_in_a_row", "_pairs", "_triggered")

    def __init__(self, controlling: bool) -> None:
        self._controlling = controlling
        self._pairs: list[CandidatePair] = []
        self._triggered: deque[CandidatePair] = deque()
        self._in_a_row = 0

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def pairs(self) -> Sequence[CandidatePair]:
        """All pairs, highest priority first."""
        return tuple(self._pairs)

    def find(self, path: Path) -> CandidatePair | None:
        """Return the pair whose checks take `path`."""
        return next((pair for pair in self._pairs if pair.path == path), None)

    def add(self, local: Candidate, remote: Candidate, keep: Iterable[CandidatePair] = ()) -> CandidatePair | None:
        """Add a pair; None if the two do not fit, are paired already, or no pair can be dropped for it.

        A full list drops a failed pair first, then one not yet checked, then the one among those that succeeded
        on which nothing was received for longest; never one in `keep`.
        """
        pair = CandidatePair(local, remote, self._controlling)
        if not can_pair(local, remote) or self.find(pair.path) is not None:
            return None
        if len(self._pairs) >= MAX_PAIRS and not self._evict(keep):
            return None
        same = [other.state for other in self._pairs if other.foundation == pair.foundation]
        # RFC 8838 §12: waiting if it is alone or one of its foundation has succeeded.
        pair.state = PairState.WAITING if not same or PairState.SUCCEEDED in same else PairState.FROZEN
        self._pairs.append(pair)
        self._sort()
        return pair

    def _evict(self, keep: Iterable[CandidatePair]) -> bool:
        kept = set(keep)
        evictable = [p for p in self._pairs if p not in kept and p.state is not PairState.IN_PROGRESS]
        if not evictable:
            return False
        evicted = min(evictable, key=lambda p: (_EVICTION_ORDER[p.state], p.last_received or 0.0, p.priority))
        self._pairs.remove(evicted)
        if evicted in self._triggered:
            self._triggered.remove(evicted)
        return True

    def _sort(self) -> None:
        self._pairs.sort(key=lambda pair: -pair.priority)

    def set_role(self, controlling: bool) -> None:
        """Compute all priorities anew after a role switch (RFC 8445 §7.3.1.1)."""
        self._controlling = controlling
        for pair in self._pairs:
            pair.set_role(controlling)
        self._sort()

    def replace_remote(self, candidate: Candidate) -> None:
        """Replace a peer-reflexive candidate by one that is now signalled for its address (RFC 8838 §11.4)."""
        address, protocol = candidate.address, candidate.protocol
        for pair in self._pairs:
            if pair.path.remote == address and pair.path.protocol is protocol:
                pair.remote = candidate
                pair.set_role(self._controlling)
        self._sort()

    def trigger(self, pair: CandidatePair) -> None:
        """Queue a triggered check (RFC 8445 §6.1.4.1)."""
        if pair.state is not PairState.SUCCEEDED:
            if pair.state is not PairState.IN_PROGRESS:
                pair.repeats = 0
            pair.enter(PairState.WAITING)
        if pair not in self._triggered:
            self._triggered.append(pair)

    def next_check(self) -> CandidatePair | None:
        """Take the pair to be checked now: triggered, else waiting, else frozen (RFC 8445 §6.1.4.2).

        Once in a while a waiting one goes before the triggered ones. Between two NATs that map by destination and
        filter nothing, every check comes from a new address and triggers another: without end, and before any pair
        that could succeed.
        """
        waiting = self._first_waiting()
        if self._triggered and (self._in_a_row < MAX_TRIGGERED_IN_A_ROW or waiting is None):
            self._in_a_row += 1
            return self._triggered.popleft()
        self._in_a_row = 0
        if waiting is not None:
            return waiting
        busy = {pair.foundation for pair in self._pairs if pair.state in _ACTIVE}
        frozen = [pair for pair in self._pairs if pair.state is PairState.FROZEN]
        return next((pair for pair in frozen if pair.foundation not in busy), frozen[0] if frozen else None)

    def _first_waiting(self) -> CandidatePair | None:
        waiting = (pair for pair in self._pairs if pair.state is PairState.WAITING)
        return next((pair for pair in waiting if pair not in self._triggered), None)

    def next_repeat(self) -> CandidatePair | None:
        """Return the pair that has waited longest for a response and may be checked again early."""
        unanswered = (
            pair
            for pair in self._pairs
            if pair.repeats < MAX_REPEATS
            and pair.path.protocol is TransportProtocol.UDP  # TCP repeats by itself
            and (pair.state is PairState.IN_PROGRESS or pair.nominating)
        )
        return min(unanswered, key=lambda pair: pair.last_check_at, default=None)

    def succeeded(self, pair: CandidatePair) -> None:
        """Note a success and unfreeze the pairs of its foundation (RFC 8445 §7.2.5.3.3)."""
        pair.enter(PairState.SUCCEEDED)
        for other in self._pairs:
            if other.state is PairState.FROZEN and other.foundation == pair.foundation:
                other.enter(PairState.WAITING)

    def failed(self, pair: CandidatePair) -> None:
        """Note a failure."""
        pair.enter(PairState.FAILED)
        pair.nominating = False

    def conclude(self, selected: CandidatePair) -> None:
        """Drop the pairs not yet checked, now that one is nominated (RFC 8445 §8.1.2)."""
        self._pairs = [
            p for p in self._pairs if p is selected or p.state not in (PairState.FROZEN, PairState.WAITING)
        ]
        self._triggered.clear()
        for pair in self._pairs:
            pair.repeats = MAX_REPEATS

    @property
    def active(self) -> int:
        """How many pairs are waiting or in progress: N of RFC 8445 §14.3."""
        return sum(pair.state in _ACTIVE for pair in self._pairs)

    def best_valid(self) -> CandidatePair | None:
        """The best pair that succeeded."""
        return next((pair for pair in self._pairs if pair.state is PairState.SUCCEEDED), None)

    def latest_valid(self) -> CandidatePair | None:
        """The pair that succeeded and on which something was received last."""
        valid = [
            pair for pair in self._pairs if pair.state is PairState.SUCCEEDED and pair.last_received is not None
        ]
        return max(valid, key=lambda pair: pair.last_received or 0.0, default=None)

    def may_improve_on(self, pair: CandidatePair) -> bool:
        """Return True if a better pair than this one has not been decided yet."""
        undecided = (PairState.FROZEN, PairState.WAITING, PairState.IN_PROGRESS)
        return any(other.state in undecided and other.priority > pair.priority for other in self._pairs)
