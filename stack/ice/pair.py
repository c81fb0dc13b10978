"""A candidate pair and its state (RFC 8445 §6.1.2)."""

from __future__ import annotations

from enum import Enum
from typing import NewType

from stack.core.machine import Address, Instant, Path
from stack.core.transitions import step
from stack.ice.candidate import Candidate, CandidatePriority, Foundation

PairPriority = NewType("PairPriority", int)
"""RFC 8445 §6.1.2.3; greater is better."""


class PairState(Enum):
    """RFC 8445 §6.1.2.6, in protocol order; `PAIR_TRANSITIONS` are the steps from one to another."""

    FROZEN = "frozen"
    WAITING = "waiting"
    IN_PROGRESS = "in-progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


PAIR_TRANSITIONS = {
    # To IN_PROGRESS where no pair is waiting (RFC 8445 §6.1.4.2).
    PairState.FROZEN: {PairState.WAITING, PairState.IN_PROGRESS},
    # A pair that waits for a triggered check may still get the response to an earlier one.
    PairState.WAITING: {PairState.IN_PROGRESS, PairState.SUCCEEDED, PairState.FAILED},
    # To WAITING by a triggered check (RFC 8445 §7.3.1.4).
    PairState.IN_PROGRESS: {PairState.WAITING, PairState.SUCCEEDED, PairState.FAILED},
    # Where a nomination fails, or consent expires.
    PairState.SUCCEEDED: {PairState.FAILED},
    # By a triggered check, or the late response to an earlier one.
    PairState.FAILED: {PairState.WAITING, PairState.IN_PROGRESS, PairState.SUCCEEDED},
}
"""From each state to those that can follow it."""


def compute_pair_priority(controlling: CandidatePriority, controlled: CandidatePriority) -> PairPriority:
    """Return 2^32·min(G,D) + 2·max(G,D) + (G>D), G being the controlling side's priority (RFC 8445 §6.1.2.3)."""
    higher, lower = max(controlling, controlled), min(controlling, controlled)
    return PairPriority((lower << 32) + 2 * higher + (controlling > controlled))


class CandidatePair:
    """A local and a remote candidate; `path` begins at the local one's base, from which checks leave."""

    __slots__ = (
        "last_check_at",
        "last_received",
        "local",
        "mapped_address",
        "nominate_on_success",
        "nominating",
        "nomination",
        "path",
        "plainly_checked",
        "priority",
        "remote",
        "repeats",
        "round_trip_time",
        "state",
    )

    def __init__(self, local: Candidate, remote: Candidate, controlling: bool) -> None:
        self.local = local
        self.remote = remote
        self.path = Path(local.base_address, remote.address, local.protocol)
        """Where its checks and its data go."""
        self.state = PairState.WAITING
        self.priority = PairPriority(0)
        self.nominating = False
        """We control and the next check on this pair carries USE-CANDIDATE, or one is under way."""
        self.nominate_on_success = False
        """The peer, controlling, nominated this pair before our own check succeeded (RFC 8445 §7.3.1.5)."""
        self.plainly_checked = False
        """The peer has checked this pair without USE-CANDIDATE: a nomination of it is then a choice, whereas an
        aggressive peer puts the flag into every check (RFC 5245 §8.1.1.2)."""
        self.nomination = 0
        """The greatest number by which the peer has nominated this pair; 0 if it numbers none."""
        self.mapped_address: Address | None = None
        """How the peer sees our address on this pair: the peer-reflexive local candidate, if it is another one."""
        self.round_trip_time: float | None = None
        """Seconds, smoothed; None until it has been measured."""
        self.last_check_at: Instant = 0.0
        """When we last sent a new check."""
        self.repeats = 0
        """How many of our checks were repetitions of one without a response."""
        self.last_received: Instant | None = None
        """When an authenticated message last arrived on this pair."""
        self.set_role(controlling)

    @property
    def foundation(self) -> tuple[Foundation, Foundation]:
        """Both foundations (RFC 8445 §6.1.2.6)."""
        return self.local.foundation, self.remote.foundation

    def enter(self, state: PairState) -> None:
        """Change the state."""
        self.state = step(PAIR_TRANSITIONS, self.state, state)

    def set_role(self, controlling: bool) -> None:
        """Compute the priority for our role."""
        ours, theirs = self.local.priority, self.remote.priority
        self.priority = compute_pair_priority(ours, theirs) if controlling else compute_pair_priority(theirs, ours)

    def update_round_trip_time(self, round_trip_time: float) -> None:
        """Take a sample into the smoothed round-trip time (weight 1/8, as in RFC 6298)."""
        if self.round_trip_time is None:
            self.round_trip_time = round_trip_time
        else:
            self.round_trip_time += (round_trip_time - self.round_trip_time) / 8

    def __repr__(self) -> str:
        return f"<CandidatePair {self.path} {self.state.value}>"
