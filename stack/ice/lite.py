"""The lite agent: for a server with a public address (RFC 8445 §2.5, §6.1.1, §7.3, RFC 7675).

It sends no checks. It responds to those of the peer, each from the address that the check went to, and learns from
them where the peer is. A peer that is full always controls; one that claims to be controlled gets a 487.

Which path is selected:

1. A check with USE-CANDIDATE selects its path at once; the latest such check wins. Chromium, facing a lite agent,
   puts the flag into every check on the pair that it uses and into no other, so this follows it when it moves.
2. As long as nothing is nominated, the path that was validated last is used: DTLS need not wait for nomination.
3. A check without USE-CANDIDATE from elsewhere does not move a nominated path: a full agent probes other pairs.
   But if no check has arrived on the selected path for `path_silence_timeout` seconds, a path on which one arrives
   takes its place: so it looks when a NAT has given a new port to a peer that nominates only once. Firefox does:
   it nominates with its first check, and its consent checks, every 4 to 6 s, have no flag.
   `path_silence_timeout` is a little less, so that its first check from a new address is enough.
4. Nothing but a check with a valid MESSAGE-INTEGRITY ever makes or moves a path. A check made with the
   credentials from before a restart keeps a known path alive and does no more.

The peer is alive as long as authenticated packets arrive: checks, indications with a valid MESSAGE-INTEGRITY, and
what the agent's owner has authenticated (`note_received`: SRTP, SRTCP, DTLS). Some peers check once and never
again. When none has arrived on the selected path for `consent_timeout` seconds (RFC 7675 §5.1 gives 30 s), the
path with the latest one takes its place; if there is none since then, consent has expired. If no check arrives in
`pac_timeout` seconds, the agent has failed (RFC 8863 asks to wait that long).

Left out: lite facing lite (RFC 8445 §6.1.1), where neither side checks anything: such an offer is refused. Checks
of our own to measure the round-trip time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Instant, Path, TerminalEvents, Transmit
from stack.core.timers import TimerName, Timers
from stack.core.transitions import step
from stack.ice.candidate import Candidate
from stack.ice.check_client import DROPPED_UNEXPECTED_RESPONSE
from stack.ice.check_server import INDICATION, CheckServer, ReceivedCheck
from stack.ice.counters import CHECK, DROPPED_CLOSED, DROPPED_MALFORMED, FOLLOWED_AFTER_SILENCE, ROLE_CONFLICT
from stack.ice.credentials import IceCredentials
from stack.ice.events import (
    ICE_TRANSITIONS,
    ConsentExpired,
    IceEvent,
    IceFailed,
    IceFailureReason,
    IceState,
    PathSelected,
    PathValidated,
)
from stack.ice.piggyback import Piggyback
from stack.stun import ErrorNumber, Message, MessageClass

REMOTE_CANDIDATE_UNUSED = declare(
    "ice", "remote_candidate_unused", "Candidates of the peer that a lite agent does not need: it sends no checks"
)
PATH_FORGOTTEN = declare(
    "ice", "path_forgotten", "Proven paths that were forgotten for newer ones: there is a bound"
)

MAX_PATHS = 16
"""Paths remembered for one peer; a new one replaces the one on which nothing arrived for longest."""


@dataclass(frozen=True, slots=True)
class LiteSettings:
    """Times in seconds; the rules are at the top of this file."""

    path_silence_timeout: float = 3.5
    consent_timeout: float = 30.0
    pac_timeout: float = 39.5


class LiteTimer(TimerName):
    """The timers of a lite agent."""

    PAC = "pac"
    """Patiently awaiting connectivity (RFC 8863): no check has arrived so far."""
    CONSENT = "consent"
    """Nothing authenticated has arrived on the selected path for too long."""


class LiteAgent:
    """A `Machine[IceEvent]` that responds to checks, and selects the path to the peer."""

    terminal_events: ClassVar[TerminalEvents] = (ConsentExpired, IceFailed)

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
        self._last_received: dict[Path, Instant] = {}  # of the same paths: a check, or anything else authenticated
        self._selected: Path | None = None
        self._nominated = False
        self._started = False
        self._timers: Timers[LiteTimer] = Timers()
        self._transmits: list[Transmit] = []
        self._events: list[IceEvent] = []

    # --- what the owner may know ------------------------------------------------------------------------------

    @property
    def credentials(self) -> IceCredentials:
        """The local ones, to be signalled to the peer."""
        return self._server.credentials

    @property
    def remote_ufrag(self) -> str | None:
        """The peer's username fragment: signalled, or learned from its first authenticated check."""
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
        """None: a lite agent sends no checks."""
        return None

    # --- commands ---------------------------------------------------------------------------------------------

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Keep a candidate for SDP; responses do not depend on it."""
        self._local_candidates.append(candidate)

    def add_remote_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Count a candidate of the peer, whose checks will come to us: it is not used."""
        self.counters.add(REMOTE_CANDIDATE_UNUSED)

    def set_remote_credentials(self, credentials: IceCredentials, now: Instant) -> None:
        """Accept from now on only checks that name the peer's username fragment."""
        self.set_remote_ufrag(credentials.ufrag, now)

    def set_remote_ufrag(self, ufrag: str, now: Instant) -> None:
        """Do the same where nothing else is known of the peer; its password is not needed."""
        self._server.remote_ufrag = ufrag

    def start(self, now: Instant) -> None:
        """Start the PAC timer. Checks are responded to before, too."""
        if self._started:
            raise LocalError("a lite agent is started once")
        self._started = True
        if self.state is IceState.NEW:
            self._enter(IceState.CHECKING)
            self._timers.set(LiteTimer.PAC, now + self._settings.pac_timeout)

    def restart(self, credentials: IceCredentials, now: Instant) -> None:
        """Take new credentials (RFC 8445 §9).

        The selected path stays until a check made with them selects another.
        """
        if not self._started or self.state is IceState.CLOSED:
            raise LocalError("a lite agent that is not started, or is closed, cannot be restarted")
        self._server.restart(credentials)
        if self._selected is None:
            self._enter(IceState.CHECKING)
            self._timers.set(LiteTimer.PAC, now + self._settings.pac_timeout)

    def close(self, now: Instant) -> None:
        """Respond to nothing any more."""
        self._end(IceState.CLOSED)

    def note_received(self, path: Path, now: Instant) -> None:
        """Note that an authenticated packet of the peer arrived on `path`; it validates and selects no path."""
        if path in self._last_check:
            self._last_received[path] = now

    # --- the machine ------------------------------------------------------------------------------------------

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together."""
        for data, path in batch:
            self.handle_datagram(data, path, now)

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram; what is not an authenticated check is counted and dropped."""
        if self.state in (IceState.FAILED, IceState.CLOSED):
            self.counters.add(DROPPED_CLOSED)
            return
        try:
            message = Message.parse(data)
        except ParseError:
            self.counters.add(DROPPED_MALFORMED)
            return
        if message.message_class is MessageClass.INDICATION:
            if path in self._last_check and self._server.authenticate_indication(data, message):
                self.note_received(path, now)
            elif path not in self._last_check:
                self.counters.add(INDICATION)
        elif message.message_class is MessageClass.REQUEST:
            opened = self._server.authenticate(data, message, path, now)
            if isinstance(opened, ReceivedCheck):
                self._handle_check(opened, now)
            elif opened is not None:
                self._transmits.append(opened)
        else:
            self.counters.add(DROPPED_UNEXPECTED_RESPONSE)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due: fail, or expire consent, if nothing arrived in time."""
        self._timers.fire(now, self._handle_timer)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return self._timers.next

    def drain_transmits(self) -> Sequence[Transmit]:
        """The responses to send."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[IceEvent]:
        """What happened."""
        events, self._events = self._events, []
        return events

    def _handle_timer(self, timer: LiteTimer, now: Instant) -> None:
        if timer is LiteTimer.PAC and self._selected is None:
            self._end(IceState.FAILED)
            self._events.append(IceFailed(IceFailureReason.NO_CHECK_RECEIVED))
        elif timer is LiteTimer.CONSENT and self._selected is not None:
            self._handle_consent_timeout(self._selected, now)

    # --- checks -----------------------------------------------------------------------------------------------

    def _handle_check(self, check: ReceivedCheck, now: Instant) -> None:
        if check.sender_controlling is False:
            # RFC 8445 §6.1.1: facing a lite agent the full one controls, whatever the tie-breakers.
            self.counters.add(ROLE_CONFLICT)
            self._transmits.append(self._server.respond_error(check, ErrorNumber.ROLE_CONFLICT))
            return
        self._transmits.append(self._server.respond(check))
        self.counters.add(CHECK)
        known = check.path in self._last_check
        if not check.current and not known:
            return
        if check.current:
            self._server.forget_previous()
            self._server.remote_ufrag = check.remote_ufrag
        silent_since = self._last_check.get(self._selected, now) if self._selected else now
        self._record_check(check.path, now)
        if not known:
            self._events.append(PathValidated(check.path))
        if not check.current:
            return
        if check.use_candidate:
            self._select(check.path, nominated=True)
        elif self._selected is None or (not known and not self._nominated):
            self._select(check.path, nominated=False)
        elif check.path != self._selected and now - silent_since >= self._settings.path_silence_timeout:
            self.counters.add(FOLLOWED_AFTER_SILENCE)
            self._select(check.path, nominated=False)

    def _handle_consent_timeout(self, selected: Path, now: Instant) -> None:
        """Select the path on which the peer was active last, or expire consent (RFC 7675 §5.1)."""
        latest = max(self._last_received, key=self._last_received.__getitem__)
        if self._last_received[latest] + self._settings.consent_timeout <= now:
            self._end(IceState.FAILED)
            self._events.append(ConsentExpired(selected))
        elif self._last_received[selected] + self._settings.consent_timeout > now:
            self._arm_consent(selected)
        else:
            self.counters.add(FOLLOWED_AFTER_SILENCE)
            self._select(latest, nominated=False)

    def _arm_consent(self, path: Path) -> None:
        self._timers.set(LiteTimer.CONSENT, self._last_received[path] + self._settings.consent_timeout)

    def _record_check(self, path: Path, now: Instant) -> None:
        """Note a check on `path`; a new one may replace another."""
        if path not in self._last_check and len(self._last_check) >= MAX_PATHS:
            silent = min(
                (p for p in self._last_received if p != self._selected), key=self._last_received.__getitem__
            )
            del self._last_check[silent], self._last_received[silent]
            self.counters.add(PATH_FORGOTTEN)
        self._last_check[path] = self._last_received[path] = now
        self._timers.clear(LiteTimer.PAC)
        if path == self._selected:
            self._arm_consent(path)

    def _select(self, path: Path, nominated: bool) -> None:
        if path == self._selected and nominated == self._nominated:
            return
        self._selected, self._nominated = path, nominated
        self._arm_consent(path)
        self._enter(IceState.COMPLETED if nominated else IceState.CONNECTED)
        self._events.append(PathSelected(path, nominated))

    def _enter(self, state: IceState) -> None:
        self.state = step(ICE_TRANSITIONS, self.state, state)

    def _end(self, state: IceState) -> None:
        self._enter(state)
        self._selected = None
        self._last_check.clear()
        self._last_received.clear()
        self._timers.clear_all()
