"""The lite agent: for a server with a public address (RFC 8445 §2.5, §6.1.1, §7.3, RFC 7675).

It responds to the checks of the peer, each from the address that the check went to, and learns from them where
the peer is. It sends none to find a path, and one alone to follow its peer (`probe.py`). A peer that is full
always controls; one that claims to be controlled gets a 487.

Which path is selected:

1. A check with USE-CANDIDATE selects its path at once; the latest such check wins. Chromium, facing a lite agent,
   puts the flag into every check on the pair that it uses and into no other, so this follows it when it moves.
2. As long as nothing is nominated, the path that was validated last is used: DTLS need not wait for nomination.
3. A check without USE-CANDIDATE from elsewhere does not move a nominated path: a full agent probes other pairs.
   But if no check has arrived on the selected path for `path_silence_timeout` seconds, a path on which one arrives
   takes its place: so it looks when a NAT has given a new port to a peer that nominates only once. Firefox does:
   it nominates with its first check, and its consent checks, every 4 to 6 s, have no flag.
   `path_silence_timeout` is a little less, so that its first check from a new address is enough.
4. Authenticated media on a valid path that is not selected move the selection there if nothing has arrived on the
   selected one for `media_silence_timeout` seconds: the peer sends where it receives. Media from an address where
   no path is valid have a check sent there, whose response validates it (`probe.py`): a client behind a NAT that
   has given it another port is followed within a round trip, not at its next check.
5. Nothing but a check with a valid MESSAGE-INTEGRITY, or the response to one, ever makes a path. A check made with
   the credentials from before a restart keeps a known path alive and does no more.

A check says that the peer knows our password, and not that it is where the check says: its source can be written
by the peer itself. A path is *proven* when something has come back that shows it: the response to a check of
ours, or what the owner knows (`note_proven`). Until then the owner bounds what it sends there
(`stack.session.allowance`), and has the peer asked by a check where that is possible (`prove`).

The peer is alive as long as authenticated packets arrive: checks, indications with a valid MESSAGE-INTEGRITY, and
what the agent's owner has authenticated (`note_received`: SRTP, SRTCP, DTLS). Some peers check once and never
again. When none has arrived on the selected path for `consent_timeout` seconds (RFC 7675 §5.1 gives 30 s), the
path with the latest one takes its place; if there is none since then, consent is lost: nothing may be sent, every
path is forgotten, and the next check makes one anew. After `resume_timeout` further seconds consent has expired,
and the agent has failed; with 0, the default, at once. If no check arrives in `pac_timeout` seconds, the agent
has failed (RFC 8863 asks to wait that long).

The round trip is what lies between the first response on a path and the first packet that the peer can only have
sent after it (`note_follow_up`: DTLS begins when a check has succeeded). It includes the time that the peer took,
and more if the response was lost: as a first timer it is never too short. What an answered check of ours has
measured counts, if it is less.

Left out: lite facing lite (RFC 8445 §6.1.1), where neither side checks anything: who answers such an offer has a
full agent (`IceAgent`). Checks of our own for the sake of the round-trip time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy, Instant, Path, TerminalEvents, Transmit, TransportProtocol
from stack.core.timers import TimerName, Timers
from stack.core.transitions import step
from stack.ice.candidate import Candidate
from stack.ice.check_client import DROPPED_UNEXPECTED_RESPONSE
from stack.ice.check_server import INDICATION, CheckServer, ReceivedCheck
from stack.ice.counters import (
    CHECK,
    DROPPED_CLOSED,
    DROPPED_MALFORMED,
    FOLLOWED_AFTER_SILENCE,
    FOLLOWED_MEDIA,
    ROLE_CONFLICT,
)
from stack.ice.credentials import IceCredentials
from stack.ice.events import (
    ICE_TRANSITIONS,
    ConsentExpired,
    ConsentLost,
    IceEvent,
    IceFailed,
    IceFailureReason,
    IceState,
    PathSelected,
    PathValidated,
)
from stack.ice.piggyback import Piggyback
from stack.ice.probe import PathProbes
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
    media_silence_timeout: float = 0.06
    consent_timeout: float = 30.0
    resume_timeout: float = 0.0
    pac_timeout: float = 39.5


class LiteTimer(TimerName):
    """The timers of a lite agent."""

    PAC = "pac"
    """Patiently awaiting connectivity (RFC 8863): no check has arrived so far."""
    CONSENT = "consent"
    """Nothing authenticated has arrived on the selected path for too long."""
    RESUME = "resume"
    """Consent is lost, and the peer has been waited for."""
    PROBE = "probe"
    """A check to where media came from is to be sent again."""


class LiteAgent:
    """A `Machine[IceEvent]` that responds to checks, and selects the path to the peer."""

    terminal_events: ClassVar[TerminalEvents] = (ConsentExpired, IceFailed)

    def __init__(
        self,
        credentials: IceCredentials,
        *,
        settings: LiteSettings | None = None,
        piggyback: Piggyback | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        """Begin; without `entropy` it sends no checks at all, and follows its peer by the peer's."""
        self.state = IceState.NEW
        self.counters = Counters()
        self._remote: IceCredentials | None = None
        self._probes = PathProbes(entropy, self.counters, piggyback=piggyback) if entropy is not None else None
        self._settings = settings or LiteSettings()
        self._server = CheckServer(credentials, self.counters, piggyback)
        self._local_candidates: list[Candidate] = []
        self._last_check: dict[Path, Instant] = {}
        self._last_received: dict[Path, Instant] = {}  # of the same paths: a check, or anything else authenticated
        self._first_response: dict[Path, Instant] = {}  # of the same paths
        self._proven: set[Path] = set()  # of the same paths
        self._round_trip_time: float | None = None
        self._selected: Path | None = None
        self._nominated = False
        self._lost: Path | None = None  # the path that was selected when consent was lost
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
        """Seconds from our first response to what followed it, or until the answer to a check of ours, if less."""
        measured = self._probes.round_trip_time if self._probes is not None else None
        if measured is None or self._round_trip_time is None:
            return self._round_trip_time if measured is None else measured
        return min(self._round_trip_time, measured)

    # --- commands ---------------------------------------------------------------------------------------------

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Keep a candidate for SDP; responses do not depend on it."""
        self._local_candidates.append(candidate)

    def add_remote_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Count a candidate of the peer, whose checks will come to us: it is not used."""
        self.counters.add(REMOTE_CANDIDATE_UNUSED)

    def set_remote_credentials(self, credentials: IceCredentials, now: Instant) -> None:
        """Accept from now on only checks that name the peer's username fragment."""
        self._remote = credentials
        self.set_remote_ufrag(credentials.ufrag, now)

    def set_remote_ufrag(self, ufrag: str, now: Instant) -> None:
        """Do the same where nothing else is known of the peer, whose media are then not followed."""
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
        self._remote = None
        if self._selected is None:
            self._enter(IceState.CHECKING)
            self._timers.clear(LiteTimer.RESUME)
            self._timers.set(LiteTimer.PAC, now + self._settings.pac_timeout)

    def close(self, now: Instant) -> None:
        """Respond to nothing any more."""
        self._end(IceState.CLOSED)

    def note_received(self, path: Path, now: Instant) -> None:
        """Note that an authenticated packet of the peer arrived on `path`; it validates no path."""
        if path not in self._last_check:
            self._probe(path, now)
            return
        self._last_received[path] = now
        if path != self._selected:
            self._follow_media(path, now)

    def _probe(self, path: Path, now: Instant, *, again: bool = False) -> None:
        """Find out whether the peer is where an authenticated packet of it has come from."""
        if self._probes is None or self._remote is None or self.state in (IceState.FAILED, IceState.CLOSED):
            return
        check = self._probes.begin(path, self.credentials, self._remote, now, again=again)
        if check is not None:
            self._transmits.append(check)
            self._timers.set(LiteTimer.PROBE, self._probes.poll_timeout())

    def is_proven(self, path: Path) -> bool:
        """Return True where the peer is known to get what is sent on a path; TCP has its handshake."""
        return path in self._proven or path.protocol is TransportProtocol.TCP

    def note_proven(self, path: Path) -> None:
        """Note that the peer has answered what was sent on a path, and on no other."""
        if path in self._last_check:
            self._proven.add(path)

    @property
    def first_path(self) -> Path | None:
        """The path of the first check, the only one on which a response may be longer than its check."""
        return self._server.first_path

    @property
    def can_ask(self) -> bool:
        """True where checks of ours can be sent: the peer's password is known."""
        return self._remote is not None and self._probes is not None

    def prove(self, path: Path, now: Instant, *, again: bool = False) -> bool:
        """Ask the peer by a check whether it is at the end of a path; False if we have no password to ask with.

        `again`: also where such a check was in vain a moment ago, since the owner bounds what it sends there.
        """
        if self.can_ask and not self.is_proven(path):
            self._probe(path, now, again=again)
        return self.can_ask

    def note_follow_up(self, path: Path, now: Instant) -> None:
        """Note that a packet arrived that the peer sends only after a response of ours; it need not be authentic.

        A forged one makes the round trip too short, which the timers that begin from it have bounds for.
        """
        responded = self._first_response.get(path)
        if self._round_trip_time is None and responded is not None:
            self._round_trip_time = now - responded

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
        self.release(now)
        if self._server.is_flood(data, now):
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
        elif self._probes is None:
            self.counters.add(DROPPED_UNEXPECTED_RESPONSE)
        elif self._probes.handle_response(data, message, path, now):
            self._timers.set(LiteTimer.PROBE, self._probes.poll_timeout())
            self._handle_probed(path, now)

    def _handle_probed(self, path: Path, now: Instant) -> None:
        """The peer has answered where its media come from."""
        if path not in self._last_check:
            self._record_check(path, now)
            self._events.append(PathValidated(path))
        self._proven.add(path)
        if path != self._selected:
            self._follow_media(path, now)

    def _follow_media(self, path: Path, now: Instant) -> None:
        """Select a valid path on which media come, if nothing comes on the selected one."""
        heard = self._last_received[self._selected] if self._selected is not None else None
        if heard is None or now - heard >= self._settings.media_silence_timeout:
            self.counters.add(FOLLOWED_MEDIA)
            self._select(path, nominated=False)

    def release(self, now: Instant) -> None:
        """Respond to a check that has waited for what its owner's piggyback has to say (`piggyback.py`)."""
        if self._server.is_waiting:
            self._transmits.extend(self._server.release())

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due: fail, or expire consent, if nothing arrived in time."""
        self.release(now)
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
        elif timer is LiteTimer.PROBE and self._probes is not None:
            self._transmits.extend(self._probes.handle_timeout(now))
            self._timers.set(LiteTimer.PROBE, self._probes.poll_timeout())
        elif timer is LiteTimer.RESUME and self._lost is not None:
            self._end(IceState.FAILED)
            self._events.append(ConsentExpired(self._lost))

    # --- checks -----------------------------------------------------------------------------------------------

    def _handle_check(self, check: ReceivedCheck, now: Instant) -> None:
        if check.sender_controlling is False:
            # RFC 8445 §6.1.1: facing a lite agent the full one controls, whatever the tie-breakers.
            self.counters.add(ROLE_CONFLICT)
            self._transmits.append(self._server.respond_error(check, ErrorNumber.ROLE_CONFLICT))
            return
        self._transmits.extend(self._server.respond(check))
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
            self._lose_consent(selected, now)
        elif self._last_received[selected] + self._settings.consent_timeout > now:
            self._arm_consent(selected)
        else:
            self.counters.add(FOLLOWED_AFTER_SILENCE)
            self._select(latest, nominated=False)

    def _lose_consent(self, selected: Path, now: Instant) -> None:
        """Wait for the peer to come back, from wherever: what is known of its paths counts no more."""
        if self._settings.resume_timeout <= 0:
            self._end(IceState.FAILED)
            self._events.append(ConsentExpired(selected))
            return
        self._enter(IceState.DISCONNECTED)
        self._selected, self._nominated, self._lost = None, False, selected
        self._last_check.clear()
        self._last_received.clear()
        self._first_response.clear()
        self._proven.clear()
        self._timers.clear(LiteTimer.CONSENT)
        self._timers.set(LiteTimer.RESUME, now + self._settings.resume_timeout)
        self._events.append(ConsentLost(selected))

    def _arm_consent(self, path: Path) -> None:
        self._timers.set(LiteTimer.CONSENT, self._last_received[path] + self._settings.consent_timeout)

    def _record_check(self, path: Path, now: Instant) -> None:
        """Note a check on `path`; a new one may replace another."""
        if path not in self._last_check and len(self._last_check) >= MAX_PATHS:
            silent = min(
                (p for p in self._last_received if p != self._selected), key=self._last_received.__getitem__
            )
            del self._last_check[silent], self._last_received[silent], self._first_response[silent]
            self._proven.discard(silent)
            self.counters.add(PATH_FORGOTTEN)
        self._last_check[path] = self._last_received[path] = now
        self._first_response.setdefault(path, now)
        self._timers.clear(LiteTimer.PAC)
        self._timers.clear(LiteTimer.RESUME)
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
        self._first_response.clear()
        if self._probes is not None:
            self._probes.clear()
        self._timers.clear_all()
