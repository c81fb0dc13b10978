"""The full agent (RFC 8445), controlling or controlled, for one component over UDP.

A check's way: `start` or a new candidate makes pairs (`checklist`); the PACING timer takes one every Ta and sends
a check (`check_client`), the first at once; the answer makes the pair valid, and a valid pair may carry data. The
peer's checks are answered (`check_server`) and trigger checks in return. The controlling side nominates (RFC 8445
§8.1.1, regular nomination): at once when the peer is lite or no better pair is undecided, else after
`nomination_patience`. From then on consent checks (`consent`) keep the path; RFC 7675.

As controlled agent the latest nomination that succeeds wins, since browsers nominate again when they move; RFC
8445 §8.1.1 itself knows one nomination. A nominated path on which nothing has been heard for `hold` seconds gives
way to a valid one on which something has: that follows a peer behind a rebinding NAT.

Only an answer to a check of ours renews consent (RFC 7675 §5.1). A peer that sends authentic packets and answers
nothing is not dead (`note_heard`), but we may not send to it: `ConsentExpired.still_heard` tells the two apart.

Failure is declared no earlier than `patience` after the start (RFC 8863), as candidates may still trickle in.

Left out: server-reflexive and relayed candidates of our own (TURN), ICE-TCP, resolution of mDNS names (a candidate
with a name is counted; whoever can resolve it adds it again with its address), more than one component.

Long, because the checks of both sides, nomination and consent move the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy, Instant, Path, TerminalEvents, Transmit
from stack.core.timers import Timers
from stack.core.trace import Counters
from stack.ice.candidate import Candidate
from stack.ice.check_client import CheckClient, Identity, OpenCheck, Role
from stack.ice.check_server import Check, CheckServer
from stack.ice.checklist import Checklist
from stack.ice.consent import Consent
from stack.ice.credentials import IceCredentials
from stack.ice.events import ConsentExpired, Failed, FailureReason, IceEvent, IceState, PathSelected, PathValidated
from stack.ice.pair import CandidatePair, PairState
from stack.ice.piggyback import Piggyback
from stack.ice.roster import Roster
from stack.ice.settings import IceSettings, IceTimer
from stack.stun import ErrorCode, ErrorNumber, Message, MessageClass, RetransmissionPolicy, XorMappedAddress

_KNOWN_ERRORS = frozenset(ErrorNumber)


class IceAgent:
    """A `Machine[IceEvent]` that looks for a path to its peer, and keeps it."""

    terminal_events: ClassVar[TerminalEvents] = (ConsentExpired, Failed)

    def __init__(
        self,
        credentials: IceCredentials,
        entropy: Entropy,
        *,
        controlling: bool,
        settings: IceSettings | None = None,
        piggyback: Piggyback | None = None,
    ) -> None:
        self.state = IceState.NEW
        self.counters = Counters()
        self._settings = settings or IceSettings()
        self._entropy = entropy
        self._role = Role(controlling, int.from_bytes(entropy(8), "big"))
        self._server = CheckServer(credentials, self.counters, piggyback)
        self._client = CheckClient(entropy, self.counters, piggyback)
        self._remote: IceCredentials | None = None
        self._remote_lite = False
        self._roster = Roster()
        self._checklist = Checklist(controlling)
        self._next_check_at = 0.0
        self._selected: CandidatePair | None = None
        self._nominated = False
        self._consent: Consent | None = None
        self._last_heard: tuple[Path, Instant] | None = None
        self._timers: Timers[IceTimer] = Timers()
        self._transmits: list[Transmit] = []
        self._events: list[IceEvent] = []

    # --- what the owner may know ------------------------------------------------------------------------------

    @property
    def credentials(self) -> IceCredentials:
        """Ours, to be signalled to the peer."""
        return self._server.credentials

    @property
    def controlling(self) -> bool:
        """Our role; it may change by a role conflict."""
        return self._role.controlling

    @property
    def local_candidates(self) -> Sequence[Candidate]:
        """What `add_local_candidate` was given, to be signalled to the peer."""
        return tuple(self._roster.local)

    @property
    def pairs(self) -> Sequence[CandidatePair]:
        """The checklist, best pair first; to look at."""
        return self._checklist.pairs

    @property
    def selected_path(self) -> Path | None:
        """Where to send now: the nominated path, else the best valid one; None before and after."""
        return self._selected.path if self._selected else None

    @property
    def round_trip_time(self) -> float | None:
        """Seconds on the selected path, smoothed; None until measured."""
        return self._selected.round_trip_time if self._selected else None

    # --- commands ---------------------------------------------------------------------------------------------

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Add a UDP host candidate: a socket of ours that receives and sends at exactly this address."""
        self._roster.add_local(candidate)
        for remote in self._roster.remote:
            self._add_pair(candidate, remote)
        self._progress(now)

    def add_remote_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Add a candidate of the peer at any time; one that cannot be used is counted and let go."""
        reason = self._roster.add_remote(candidate)
        if reason is not None:
            self.counters.add(f"remote_candidate.{reason}")
            return
        self._checklist.upgrade(candidate.address, candidate)
        if self.state is not IceState.COMPLETED:
            # RFC 8445 §8.1.2: after nomination nothing new is checked, until the peer nominates something else.
            for local in self._roster.local:
                self._add_pair(local, candidate)
        self._progress(now)

    def set_remote_credentials(self, credentials: IceCredentials, now: Instant, *, lite: bool = False) -> None:
        """Say who the peer is, and whether its SDP had `a=ice-lite`; no check is sent before."""
        self._remote = credentials
        self._server.remote_ufrag = credentials.ufrag
        self._remote_lite = lite
        if lite and not self._role.controlling:
            self._switch_role(True)  # RFC 8445 §6.1.1
        self._progress(now)

    def start(self, now: Instant) -> None:
        """Begin to check. Checks of the peer are answered before, too."""
        if self.state is not IceState.NEW:
            raise LocalError(f"an agent that is {self.state.value} cannot be started")
        self.state = IceState.CHECKING
        self._timers.set(IceTimer.PATIENCE, now + self._settings.patience)
        self._progress(now)

    def restart(self, credentials: IceCredentials, now: Instant) -> None:
        """Begin anew with other credentials and wait for the peer's (RFC 8445 §9).

        The path in use stays until one is nominated with the new ones.
        """
        if self.state in (IceState.NEW, IceState.CLOSED):
            raise LocalError(f"an agent that is {self.state.value} cannot be restarted")
        self._server.restart(credentials)
        self._client.clear()
        self._remote = None
        self._roster.remote.clear()
        self._checklist = Checklist(self._role.controlling)
        self._nominated = False
        self.state = IceState.CONNECTED if self._selected else IceState.CHECKING
        self._timers.set(IceTimer.PATIENCE, now + self._settings.patience)
        self._timers.clear(IceTimer.NOMINATION)

    def close(self, now: Instant) -> None:
        """Send and answer nothing any more."""
        self._end(IceState.CLOSED)

    def note_heard(self, path: Path, now: Instant) -> None:
        """Say that something which only the peer can have sent came on `path`; it makes and moves no path."""
        self._last_heard = (path, now)

    # --- the machine ------------------------------------------------------------------------------------------

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together."""
        for data, path in batch:
            self.handle_datagram(data, path, now)

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram; whatever is not an authentic check or answer is counted and dropped."""
        if self.state in (IceState.FAILED, IceState.CLOSED):
            self.counters.add("dropped.closed")
            return
        try:
            message = Message.parse(data)
        except ParseError:
            self.counters.add("dropped.malformed")
            return
        if message.message_class is MessageClass.INDICATION:
            if self._server.is_from_peer(data, message):
                self.note_heard(path, now)
        elif message.message_class is MessageClass.REQUEST:
            opened = self._server.open(data, message, path, now)
            if isinstance(opened, Check):
                self._handle_check(opened, now)
            elif opened is not None:
                self._transmits.append(opened)
        else:
            check = self._client.match(data, message, path, now)
            if check is not None:
                self._handle_answer(check, message, path, now)
        self._progress(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        for timer in self._timers.pop_due(now):
            match timer:
                case IceTimer.RETRANSMISSION:
                    self._retransmit(now)
                case IceTimer.NOMINATION:
                    self._nominate(self._checklist.best_valid())
                case IceTimer.CONSENT_CHECK:
                    self._ask_consent(now)
                case IceTimer.CONSENT_EXPIRY:
                    self._lose_consent(now)
                case IceTimer.PATIENCE:
                    self._lose_patience()
                case IceTimer.PACING:
                    pass
        self._progress(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return self._timers.next

    def drain_transmits(self) -> Sequence[Transmit]:
        """Checks and answers to send."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[IceEvent]:
        """What happened."""
        events, self._events = self._events, []
        return events

    # --- checks of ours ---------------------------------------------------------------------------------------

    def _add_pair(self, local: Candidate, remote: Candidate) -> CandidatePair | None:
        keep = () if self._selected is None else (self._selected,)
        return self._checklist.add(local, remote, keep)

    def _progress(self, now: Instant) -> None:
        """Send the next check if it is time, and arm the timers; every input and every command ends here."""
        if self.state in (IceState.NEW, IceState.FAILED, IceState.CLOSED):
            return
        if self._remote is not None:
            self._consider_nomination(now)
            self._pace(self._remote, now)
        deadline = self._client.deadline
        if deadline is None:
            self._timers.clear(IceTimer.RETRANSMISSION)
        else:
            self._timers.set(IceTimer.RETRANSMISSION, deadline)

    def _pace(self, remote: IceCredentials, now: Instant) -> None:
        """Send one new check unless the last one is less than Ta ago (RFC 8445 §14.2)."""
        if now >= self._next_check_at:
            self._timers.clear(IceTimer.PACING)
            pair = self._checklist.next_check() or self._repeat(now)
            if pair is None:
                return
            self._send_check(pair, remote, now)
            self._next_check_at = now + self._settings.ta
        self._timers.set(IceTimer.PACING, self._next_check_at)

    def _repeat(self, now: Instant) -> CandidatePair | None:
        """Return a pair to ask again, as nothing else is to be done; arm the timer if it is too early for that."""
        pair = self._checklist.next_repeat()
        if pair is None:
            return None
        due = pair.last_check_at + self._settings.repeat
        if now < due:
            self._timers.set(IceTimer.PACING, due)
            return None
        pair.repeats += 1
        self._client.cancel(pair, now)
        return pair

    def _send_check(self, pair: CandidatePair, remote: IceCredentials, now: Instant) -> None:
        if pair.state is not PairState.SUCCEEDED:
            pair.state = PairState.IN_PROGRESS
        pair.last_check_at = now
        # RFC 8445 §14.3: the more checks there are, the longer each takes.
        rto = max(self._settings.rto, self._settings.ta * self._checklist.active)
        identity, policy = Identity.of(self.credentials, remote), RetransmissionPolicy(rto)
        check = self._client.send(pair, identity, self._role, policy, now, nominate=pair.nominating)
        self._transmits.append(check)

    def _retransmit(self, now: Instant) -> None:
        again, timed_out = self._client.handle_timeout(now)
        self._transmits += again
        for check in timed_out:
            undecided = check.pair.state is PairState.IN_PROGRESS or check.nominating
            if undecided and not check.consent and not self._client.has_open(check.pair):
                self._fail(check.pair, now)

    def _fail(self, pair: CandidatePair, now: Instant) -> None:
        self._checklist.failed(pair)
        if pair is self._selected and not self._nominated:
            best = self._checklist.best_valid()
            if best is not None:
                self._select(best, nominated=False, now=now)

    def _handle_answer(self, check: OpenCheck, message: Message, path: Path, now: Instant) -> None:
        pair = check.pair
        if message.message_class is MessageClass.ERROR_RESPONSE:
            self._handle_error(check, message, now)
            return
        mapped = message.get(XorMappedAddress)
        if path != check.path or mapped is None:
            # RFC 8445 §7.2.5.2.1: the answer has to come from where the check went.
            self.counters.add("dropped.malformed" if mapped is None else "dropped.asymmetric_response")
            if not check.consent:
                self._fail(pair, now)
            return
        round_trip_time = check.transaction.handle_response(now)
        if round_trip_time is not None:
            pair.measured(round_trip_time)
        pair.last_heard = now
        pair.mapped_address = mapped.address
        if check.consent:
            self._renew_consent(pair, now)
        else:
            self._handle_success(check, now)

    def _handle_error(self, check: OpenCheck, message: Message, now: Instant) -> None:
        error = message.get(ErrorCode)
        code = error.code if error else 0
        self.counters.add(f"error_response.{code if code in _KNOWN_ERRORS else 'other'}")
        if code == ErrorNumber.ROLE_CONFLICT and not self._remote_lite:
            # RFC 8445 §7.2.5.1: switch, unless that has happened since the check was sent, and check again.
            if check.controlling == self._role.controlling:
                self._switch_role(not check.controlling)
            if not check.consent:
                self._checklist.trigger(check.pair)
        elif not check.consent:
            self._fail(check.pair, now)

    def _handle_success(self, check: OpenCheck, now: Instant) -> None:
        pair = check.pair
        first = pair.state is not PairState.SUCCEEDED
        self._checklist.succeeded(pair)
        if first:
            self._events.append(PathValidated(pair.path))
        self._timers.clear(IceTimer.PATIENCE)
        nominated = check.nominating if self._role.controlling else pair.nominate_on_success
        if nominated:
            pair.nominating = pair.nominate_on_success = False
            self._select(pair, nominated=True, now=now)
        elif self._selected is None:
            self._select(pair, nominated=False, now=now)
        elif not self._nominated and self._selected in self._checklist.pairs:
            better = pair.priority > self._selected.priority
            self._select(pair if better else self._selected, nominated=False, now=now)
        else:
            self._follow_if_silent(pair, now)

    # --- checks of the peer -----------------------------------------------------------------------------------

    def _handle_check(self, check: Check, now: Instant) -> None:
        if not check.current:
            self._transmits.append(self._server.accept(check))
            if self._selected is not None and self._selected.path == check.path:
                self._selected.last_heard = now
            return
        if self._refuses_role(check):
            self._transmits.append(self._server.refuse(check, ErrorNumber.ROLE_CONFLICT))
            return
        self._transmits.append(self._server.accept(check))
        self.counters.add("check")
        pair = self._checklist.find(check.path) or self._learn_pair(check)
        if pair is None:
            self.counters.add("check_without_pair")
            return
        pair.last_heard = now
        if pair.state is PairState.SUCCEEDED:
            if check.use_candidate and not self._role.controlling:
                self._select(pair, nominated=True, now=now)
            else:
                self._follow_if_silent(pair, now)
            return
        if check.use_candidate and not self._role.controlling:
            pair.nominate_on_success = True
        # RFC 8445 §7.3.1.4: a check in return; one that is under way is not sent again, yet may be answered.
        self._client.cancel(pair, now)
        self._checklist.trigger(pair)

    def _learn_pair(self, check: Check) -> CandidatePair | None:
        """Make a pair for a path that nobody told us of (RFC 8445 §7.3.1.3)."""
        local = self._roster.local_at(check.path.local)
        if local is None:
            return None
        return self._add_pair(local, self._roster.remote_at(check.path.remote, check.priority))

    def _refuses_role(self, check: Check) -> bool:
        """Settle a role conflict by tie-breaker; True if the peer has to switch (RFC 8445 §7.3.1.1)."""
        if check.sender_controlling is None or check.sender_controlling != self._role.controlling:
            return False
        self.counters.add("role_conflict")
        we_win = self._role.tie_breaker >= check.sender_tie_breaker
        if we_win == self._role.controlling:
            return True
        self._switch_role(we_win)
        return False

    def _switch_role(self, controlling: bool) -> None:
        self._role = Role(controlling, self._role.tie_breaker)
        self._checklist.set_role(controlling)
        for pair in self._checklist.pairs:
            pair.nominating = pair.nominate_on_success = False
        self._timers.clear(IceTimer.NOMINATION)

    # --- nomination -------------------------------------------------------------------------------------------

    def _consider_nomination(self, now: Instant) -> None:
        if not self._role.controlling or self._nominated:
            return
        best = self._checklist.best_valid()
        if best is None or any(pair.nominating for pair in self._checklist.pairs):
            return
        if self._remote_lite or not self._checklist.may_improve_on(best):
            self._nominate(best)
        else:
            self._timers.set_default(IceTimer.NOMINATION, now + self._settings.nomination_patience)

    def _nominate(self, pair: CandidatePair | None) -> None:
        """Check a valid pair once more, with USE-CANDIDATE (RFC 8445 §8.1.1)."""
        if pair is not None and self._role.controlling:
            pair.nominating = True
            pair.repeats = 0
            self._checklist.trigger(pair)

    def _select(self, pair: CandidatePair, *, nominated: bool, now: Instant) -> None:
        changed = pair is not self._selected
        if not changed and nominated == self._nominated:
            return
        self._selected, self._nominated = pair, nominated
        self.state = IceState.COMPLETED if nominated else IceState.CONNECTED
        if nominated:
            self._timers.clear(IceTimer.NOMINATION)
            self._checklist.conclude(pair)
            self._client.cancel(None, now)
            self._server.forget_previous()
        if changed and self._remote is not None:
            identity = Identity.of(self.credentials, self._remote)
            self._consent = Consent(self._settings.consent, self._entropy, identity, now)
            self._arm_consent(self._consent)
        self._events.append(PathSelected(pair.path, nominated))

    def _follow_if_silent(self, pair: CandidatePair, now: Instant) -> None:
        """Leave a selected path on which nothing is heard for one on which something is."""
        selected = self._selected
        if selected is None or pair is selected or not self._nominated or pair.nominating:
            return
        if now - (selected.last_heard or 0.0) >= self._settings.hold:
            self.counters.add("followed_after_silence")
            if self._role.controlling:
                self._nominate(pair)
            else:
                self._select(pair, nominated=False, now=now)

    # --- consent ----------------------------------------------------------------------------------------------

    def _arm_consent(self, consent: Consent) -> None:
        self._timers.set(IceTimer.CONSENT_CHECK, consent.next_check_at)
        self._timers.set(IceTimer.CONSENT_EXPIRY, consent.expires_at)

    def _ask_consent(self, now: Instant) -> None:
        selected, consent = self._selected, self._consent
        if selected is None or consent is None:
            return
        # Sent once (RFC 7675 §5.1). USE-CANDIDATE lets a lite peer follow at once when a NAT gives us a new port.
        policy = RetransmissionPolicy(self._settings.rto, rc=1)
        nominate, send = self._role.controlling and self._nominated, self._client.send
        check = send(selected, consent.identity, self._role, policy, now, nominate=nominate, consent=True)
        self._transmits.append(check)
        consent.asked(now)
        self._arm_consent(consent)

    def _renew_consent(self, pair: CandidatePair, now: Instant) -> None:
        if pair is self._selected and self._consent is not None:
            self._consent.confirm(now)
            self._arm_consent(self._consent)

    def _lose_consent(self, now: Instant) -> None:
        selected = self._selected
        if selected is None:
            return
        self._checklist.failed(selected)
        other = self._checklist.freshest_valid()
        if other is not None and now - (other.last_heard or 0.0) < self._settings.hold:
            self._select(other, nominated=False, now=now)
            return
        self._end(IceState.FAILED)
        path, at = self._last_heard or (None, 0.0)
        still_heard = path == selected.path and now - at < self._settings.consent.timeout
        self._events.append(ConsentExpired(selected.path, still_heard))

    def _lose_patience(self) -> None:
        if self._selected is not None:
            return
        reason = FailureReason.ALL_CHECKS_FAILED if self._checklist else FailureReason.NO_CANDIDATE_PAIR
        if self._remote is None:
            reason = FailureReason.NO_REMOTE_CREDENTIALS
        self._end(IceState.FAILED)
        self._events.append(Failed(reason))

    def _end(self, state: IceState) -> None:
        self.state = state
        self._selected = None
        self._consent = None
        self._timers.clear_all()
        self._client.clear()
