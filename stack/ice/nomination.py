"""Which of the peer's nominations a controlled agent obeys.

RFC 8445 §8.1.1 knows one nomination in an ICE session; browsers know others:

- A *regular* peer checks a pair, and checks it once more with USE-CANDIDATE. Such a nomination is a choice: the
  latest wins, since a browser nominates again when it moves.
- An *aggressive* one (RFC 5245 §8.1.1.2; libwebrtc facing a full agent) puts USE-CANDIDATE into every check of
  every pair. Both sides then have to find the best of the pairs that succeed: the one with the highest priority. A
  pair that turns up when the nominated one has long been settled is a move of the peer, and is obeyed once; so is
  any while nothing arrives on the nominated one.
- One that *renominates* (draft-thatcher-ice-renomination) numbers its nominations: the greatest number wins.
"""

from __future__ import annotations

from stack.core.machine import Instant
from stack.ice.pair import CandidatePair

SETTLED = 5.0
"""Seconds after which a nominated pair is settled: the checks of an aggressive peer on its other pairs have
come."""


class PeerNominations:
    """What the peer has nominated so far."""

    __slots__ = ("_seen", "_silence", "_since")

    def __init__(self, path_silence_timeout: float) -> None:
        self._silence = path_silence_timeout
        self._since: Instant | None = None
        self._seen: set[CandidatePair] = set()

    def clear(self) -> None:
        """Begin anew, as at an ICE restart."""
        self._since = None
        self._seen.clear()

    def obeys(self, pair: CandidatePair, nominated: CandidatePair | None, now: Instant) -> bool:
        """Return True if `pair`, which the peer nominates, is to take the place of the `nominated` one."""
        fresh = pair not in self._seen
        if fresh:
            self._seen = (
                {seen for seen in self._seen if seen is nominated} if len(self._seen) >= 100 else self._seen
            )
            self._seen.add(pair)
        if nominated is None or pair is nominated:
            return True
        if pair.nomination or nominated.nomination:
            return pair.nomination > nominated.nomination
        if pair.plainly_checked or pair.priority > nominated.priority:
            return True
        if now - (nominated.last_received or 0.0) >= self._silence:
            return True
        return fresh and self._since is not None and now - self._since >= SETTLED

    def note_selected(self, now: Instant) -> None:
        """Note that a nomination has been obeyed."""
        self._since = now
