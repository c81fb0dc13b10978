"""What a gatherer keeps of an allocation at a TURN server (RFC 8656): client, candidates, the next attempt.

One that cannot be had now is asked for again, by a client of its own: a standing gatherer does so in any case, a
call's if it had the allocation before (a connection that was cut, a server that has started anew).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stack.core.machine import Address, Instant, Path
from stack.ice.candidate import Candidate
from stack.ice.servers import LocatedServer
from stack.ice.turn import TurnClient
from stack.ice.turn_events import TurnFailed, TurnFailureReason

RETRY_AFTER: Final = 35.0
"""Seconds until a standing gatherer asks again for an allocation that it could not have, or has lost."""
REGAIN_AFTER: Final = 1.5
"""Seconds until a call's gatherer asks again for an allocation that it has lost; each time that is in vain twice
as long, up to `RETRY_AFTER`. A connection's path is closed for less (`stack.aio.tcp_client`)."""


@dataclass(slots=True, eq=False)
class Allocation:
    """One, of one base at one server."""

    server: LocatedServer
    base: Address
    preference: int
    path: Path
    client: TurnClient
    candidates: tuple[Candidate, ...] = ()
    retry_at: Instant | None = None
    """When it is to be asked for again."""
    _regain_after: float | None = None
    """None: it was never had."""

    def note_had(self, candidates: tuple[Candidate, ...]) -> None:
        """It was granted, and brings these candidates."""
        self.candidates = candidates
        self._regain_after = REGAIN_AFTER

    def plan_retry(self, failed: TurnFailed, now: Instant, is_standing: bool) -> None:
        """It is not to be had now: set `retry_at` if it is of use to ask again."""
        wait = self._regain_after
        if is_standing:
            wait = RETRY_AFTER
        elif wait is None or failed.reason is TurnFailureReason.WRONG_CREDENTIALS:
            return
        else:
            self._regain_after = min(2 * wait, RETRY_AFTER)
        self.retry_at = now + wait

    def begin_again(self, client: TurnClient, now: Instant) -> None:
        """Ask for it by a new client."""
        self.client, self.candidates, self.retry_at = client, (), None
        client.start(now)
