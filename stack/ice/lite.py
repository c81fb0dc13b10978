"""The lite agent: the role of a server that everybody can reach (RFC 8445 §2.5, §6.1.1, §7.3, RFC 7675).

It sends no checks. It answers those of the peer, each from the very address that was asked, and learns from them
where the peer is. A peer that is full always controls; one that claims to be controlled is told so with 487.

Which path is selected:

1. A check with USE-CANDIDATE selects its path at once; the latest such check wins. Chromium, facing a lite agent,
   puts the flag into every check on the pair that it uses and into no other, so this follows it when it moves.
2. As long as nothing is nominated, the path that was validated last is used: DTLS need not wait for nomination.
3. A check without USE-CANDIDATE from elsewhere does not move a nominated path: a full agent probes other pairs.
   But if no check has come on the selected path for `hold` seconds, a path on which one comes takes its place:
   that is what a NAT that has given the peer a new port looks like with a peer that nominates only once. Firefox
   is such a one: it nominates with its first check, and asks for consent every 4 to 6 s without the flag. `hold`
   is a little less, so that its first check from a new address is enough.
4. Nothing but a check with a valid MESSAGE-INTEGRITY ever makes or moves a path. A check made with the
   credentials from before a restart keeps a known path alive and does no more.

When no check has come on any path for `consent_timeout` seconds, the peer is gone (RFC 7675 §5.1 gives 30 s); if
none ever came in `patience` seconds, the agent has failed (RFC 8863 asks to wait that long).

Left out: lite facing lite (RFC 8445 §6.1.1), where neither side checks anything: such an offer is refused;
checks of our own to measure the round-trip time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Instant, Path, Transmit
from stack.core.timers import Timers
from stack.core.trace import Counters
from stack.ice.candidate import Candidate
from stack.ice.check_server import Check, CheckServer
from stack.ice.credentials import IceCredentials
from stack.ice.events import (
    ConsentExpired,
    Failed,
    FailureReason,
    IceEvent,
    IceState,
    PathSelected,
    PathValidated,
)
from stack.ice.piggyback import Piggyback
from stack.stun import ErrorNumber, Message, MessageClass

MAX_PATHS = 16
"""Paths remembered for one peer; the one that has been silent longest makes room for a new one."""


@dataclass(frozen=True, slots=True)
class LiteSettings:
    """Times in seconds; the rules are at the top of this file."""

    hold: float = 3.5
    consent_timeout: float = 30.0
    patience: float = 39.5


class LiteTimer(Enum):
    """Why a lite agent wants to be woken."""

    PATIENCE = "no check so far"
    CONSENT = "no check for too long"


class LiteAgent:
    """A `Machine[IceEvent]` that answers checks and says where the peer is."""

    def __init__(
        self,
        credentials: IceCredentials,
        *,
        settings: LiteSettings | None = None,
        piggyback: Piggyback | None = None,
    ) -> None:
        self.state = IceState.NEW
        self.counters = Counters()
        self._settings = settings or LiteSettings()
        self._server = CheckServer(credentials, self.counters, piggyback)
        self._local_candidates: list[Candidate] = []
        self._last_check: dict[Path, Instant] = {}
        self._selected: Path | None = None
        self._nominated = False
        self._started = False
        self._timers: Timers[LiteTimer] = Timers()
        self._transmits: list[Transmit] = []
        self._events: list[IceEvent] = []

    # --- what the owner may know ------------------------------------------------------------------------------

    @property
    def credentials(self) -> IceCredentials:
        """Ours, to be signalled to the peer."""
        return self._server.credentials

    @property
    def remote_ufrag(self) -> str | None:
        """The peer's username fragment: told to us, or learned from its first authenticated check."""
        return self._server.remote_ufrag

    @property
    def local_candidates(self) -> Sequence[Candidate]:
        """What `add_local_candidate` was given, to be signalled to the peer."""
        return tuple(self._local_candidates)

    @property
    def selected_path(self) -> Path | None:
        """Where to send now; None before the first authenticated check and after the end."""
        return self._selected

    @property
    def paths(self) -> Sequence[Path]:
        """Every path on which an authenticated check has come, oldest first."""
        return tuple(self._last_check)

    @property
    def round_trip_time(self) -> float | None:
        """Never known: a lite agent asks nothing."""
        return None

    # --- commands ---------------------------------------------------------------------------------------------

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Keep a candidate for whoever writes the SDP; answering does not depend on it."""
        self._local_candidates.append(candidate)

    def add_remote_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Take note that there is one: the peer's checks come to us, so there is nothing to do with it."""
        self.counters.add("remote_candidate_unused")

    def set_remote_credentials(self, credentials: IceCredentials, now: Instant) -> None:
        """Accept from now on only checks that name the peer's username fragment."""
        self._server.remote_ufrag = credentials.ufrag

    def start(self, now: Instant) -> None:
        """Begin to lose patience. Checks are answered before, too."""
        if self._started:
            raise LocalError("a lite agent is started once")
        self._started = True
        if self.state is IceState.NEW:
            self.state = IceState.CHECKING
            self._timers.set(LiteTimer.PATIENCE, now + self._settings.patience)

    def restart(self, credentials: IceCredentials, now: Instant) -> None:
        """Take new credentials (RFC 8445 §9).

        The selected path stays until a check made with them selects another.
        """
        if not self._started or self.state is IceState.CLOSED:
            raise LocalError("a lite agent that is not started, or is closed, cannot be restarted")
        self._server.restart(credentials)
        if self._selected is None:
            self.state = IceState.CHECKING
            self._timers.set(LiteTimer.PATIENCE, now + self._settings.patience)

    def close(self, now: Instant) -> None:
        """Answer nothing any more."""
        self._end(IceState.CLOSED)

    # --- the machine ------------------------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram; whatever is not an authentic check is counted and dropped."""
        if self.state in (IceState.FAILED, IceState.CLOSED):
            self.counters.add("dropped.closed")
            return
        try:
            message = Message.parse(data)
        except ParseError:
            self.counters.add("dropped.malformed")
            return
        if message.message_class is MessageClass.INDICATION:
            self.counters.add("indication")  # A keepalive (RFC 8445 §11): no answer, and no proof of anything.
        elif message.message_class is MessageClass.REQUEST:
            opened = self._server.open(data, message, path, now)
            if isinstance(opened, Check):
                self._handle_check(opened, now)
            elif opened is not None:
                self._transmits.append(opened)
        else:
            self.counters.add("dropped.unexpected_response")

    def handle_timeout(self, now: Instant) -> None:
        """Give up if nothing came in time."""
        for timer in self._timers.pop_due(now):
            if timer is LiteTimer.PATIENCE and self._selected is None:
                self._end(IceState.FAILED)
                self._events.append(Failed(FailureReason.NO_CHECK_RECEIVED))
            elif timer is LiteTimer.CONSENT and self._selected is not None:
                path = self._selected
                self._end(IceState.FAILED)
                self._events.append(ConsentExpired(path))

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return self._timers.next

    def drain_transmits(self) -> Sequence[Transmit]:
        """The answers to send."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[IceEvent]:
        """What happened."""
        events, self._events = self._events, []
        return events

    # --- checks -----------------------------------------------------------------------------------------------

    def _handle_check(self, check: Check, now: Instant) -> None:
        if check.sender_controlling is False:
            # RFC 8445 §6.1.1: facing a lite agent the full one controls, whatever the tie-breakers.
            self.counters.add("role_conflict")
            self._transmits.append(self._server.refuse(check, ErrorNumber.ROLE_CONFLICT))
            return
        self._transmits.append(self._server.accept(check))
        self.counters.add("check")
        known = check.path in self._last_check
        if not check.current and not known:
            return
        if check.current:
            self._server.forget_previous()
            self._server.remote_ufrag = check.remote_ufrag
        silent_since = self._last_check.get(self._selected, now) if self._selected else now
        self._touch(check.path, now)
        if not known:
            self._events.append(PathValidated(check.path))
        if not check.current:
            return
        if check.use_candidate:
            self._select(check.path, nominated=True)
        elif self._selected is None or (not known and not self._nominated):
            self._select(check.path, nominated=False)
        elif check.path != self._selected and now - silent_since >= self._settings.hold:
            self.counters.add("followed_after_silence")
            self._select(check.path, nominated=False)

    def _touch(self, path: Path, now: Instant) -> None:
        """Note a check on `path`; make room for it if it is new."""
        if path not in self._last_check and len(self._last_check) >= MAX_PATHS:
            silent = min((p for p in self._last_check if p != self._selected), key=self._last_check.__getitem__)
            del self._last_check[silent]
            self.counters.add("path_forgotten")
        self._last_check[path] = now
        self._timers.clear(LiteTimer.PATIENCE)
        self._timers.set(LiteTimer.CONSENT, now + self._settings.consent_timeout)

    def _select(self, path: Path, nominated: bool) -> None:
        if path == self._selected and nominated == self._nominated:
            return
        self._selected, self._nominated = path, nominated
        self.state = IceState.COMPLETED if nominated else IceState.CONNECTED
        self._events.append(PathSelected(path, nominated))

    def _end(self, state: IceState) -> None:
        self.state = state
        self._selected = None
        self._last_check.clear()
        self._timers.clear_all()
