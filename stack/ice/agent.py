"""The full agent (RFC 8445), controlling or controlled, for one component over UDP and TCP (RFC 6544).

How a check travels: `start` or a new candidate makes pairs (`checklist`); the PACING timer takes one every Ta and
sends a check (`check_client`), the first at once; the response makes the pair valid, and a valid pair may carry
data. The peer's checks are responded to (`check_server`) and trigger checks of ours. The controlling side
nominates (RFC 8445 §8.1.1, regular nomination): at once when the peer is lite or no better pair is undecided, else
after `nomination_delay`. From then on consent checks (`consent`) keep the path; RFC 7675.

Which nominations of several a controlled agent obeys: `nomination`. A nominated path on which nothing has arrived
for `path_silence_timeout` seconds is replaced by a valid one on which something has: so a peer is followed behind
a NAT that rebinds. Its media show that sooner than its checks: a check is sent to where they come from (`probe`),
and the path is selected when that is answered and the former one silent. When consent checks have no response,
every other pair is checked again, so that an agent with a second interface, or a relay, moves there before consent
expires. That begins when media have stopped for `suspicion_timeout`, or at once when the owner knows that nothing
leaves on the path (`note_failed`).

Only a response to a check of ours renews consent (RFC 7675 §5.1). A peer that sends authenticated packets and no
response is alive (`note_received`), but we may not send to it: `ConsentExpired.still_receiving` tells the two
apart.

Failure is declared no earlier than `pac_timeout` after the start (RFC 8863), as candidates may still trickle in.

Server-reflexive and relayed candidates are the owner's to find (`gathering`, `relaying`): a relayed one is an
address from which the agent sends like any other. Over TCP (RFC 6544) an active candidate has the port 9 in its
paths, and one of passive type makes no check of its own before the peer has connected.

Left out: resolution of mDNS names (a candidate with a name is counted; an owner that can resolve it adds it again
with its address), more than one component, simultaneous open (no socket of ours does it).

Over 500 lines: checks of both sides, nomination and consent read and change the same pairs and the same selection,
so that parts of it in other files would each need the whole agent. What can be judged without it has left already
(checklist, transactions, credentials, consent's times, candidates).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import stack.ice.counters as counted
from stack.core.counters import Counters
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address, Entropy, Instant, Path, TerminalEvents, Transmit, TransportProtocol
from stack.core.timers import Timers
from stack.core.transitions import step
from stack.ice.candidate import Candidate, CandidateType, TcpType, compute_priority
from stack.ice.candidate_lists import DROPPED_LOCAL_CANDIDATE_TOO_MANY, CandidateLists
from stack.ice.check_client import CheckClient, CheckCredentials, IceRole, SentCheck
from stack.ice.check_server import CheckServer, ReceivedCheck
from stack.ice.checklist import Checklist
from stack.ice.consent import Consent
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
from stack.ice.nomination import PeerNominations
from stack.ice.pair import CandidatePair, PairState
from stack.ice.piggyback import Piggyback
from stack.ice.probe import PathProbes
from stack.ice.settings import IceSettings, IceTimer
from stack.stun import ErrorCode, ErrorNumber, Message, MessageClass, RetransmissionPolicy, XorMappedAddress

TCP_TRANSACTION = RetransmissionPolicy(rto=0.5, rc=1, rm=79)
"""Sent once, and given up after Ti = 39.5 s (RFC 8489 §6.2.2)."""

_RECOVERABLE = (
    ErrorNumber.UNAUTHENTICATED, ErrorNumber.UNKNOWN_ATTRIBUTE, ErrorNumber.ROLE_CONFLICT, ErrorNumber.SERVER_ERROR
)  # fmt: skip
"""Of consent checks: the next one may be answered. Any other signed error ends the pair, as in libwebrtc."""
UNANSWERED_WITH_MEDIA = 2
"""Consent checks without a response after which the other pairs are checked again, where other packets of the peer
used to come and do not any more."""
UNANSWERED_WITHOUT = 4
"""The same where nothing but responses ever came: with 30 % loss each way every second check has none."""


class IceAgent:
    """A `Machine[IceEvent]` that looks for a path to its peer, and keeps it."""

    terminal_events: ClassVar[TerminalEvents] = (ConsentExpired, IceFailed)

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
        self._role = IceRole(controlling, int.from_bytes(entropy(8), "big"))
        self._server = CheckServer(credentials, self.counters, piggyback)
        self._client = CheckClient(entropy, self.counters, piggyback)
        self._probes = PathProbes(entropy, self.counters, self._role, piggyback)
        self._remote: IceCredentials | None = None
        self._remote_lite = False
        self._candidates = CandidateLists()
        self._peer_nominations = PeerNominations(self._settings.path_silence_timeout)
        self._own_nominations = 0
        self._checklist = Checklist(controlling)
        self._next_check_at = 0.0
        self._selected: CandidatePair | None = None
        self._nominated = False
        self._consent: Consent | None = None
        self._last_received: tuple[Path, Instant] | None = None
        self._heard_at: Instant = 0.0  # when the owner last noted something on the selected path
        self._is_waiting = False  # for the owner of the piggyback (`release`)
        self._failed: Path | None = None  # the selected one, when nothing leaves there
        self._failed_at: Instant = 0.0
        self._timers: Timers[IceTimer] = Timers()
        self._transmits: list[Transmit] = []
        self._events: list[IceEvent] = []

    # --- properties -----------------------------------------------------------------------------------------

    @property
    def credentials(self) -> IceCredentials:
        """The local ones, to be signalled to the peer."""
        return self._server.credentials

    @property
    def controlling(self) -> bool:
        """Our role; it may change by a role conflict."""
        return self._role.controlling

    @property
    def local_candidates(self) -> Sequence[Candidate]:
        """What `add_local_candidate` was given, to be signalled to the peer."""
        return tuple(self._candidates.local)

    @property
    def pairs(self) -> Sequence[CandidatePair]:
        """The checklist, best pair first."""
        return self._checklist.pairs

    @property
    def selected_pair(self) -> CandidatePair | None:
        """The pair of `selected_path`."""
        return self._selected

    def local_type(self, pair: CandidatePair) -> CandidateType:
        """Return what our end of a pair is once a check has succeeded on it: how the peer sees us.

        The local candidate of a valid pair is the one with the mapped address (RFC 8445 §7.2.5.3.2).
        """
        mapped, base = pair.mapped_address, pair.local.base_address
        if pair.local.type is CandidateType.RELAYED or mapped is None:
            return pair.local.type
        if mapped == base or pair.local.protocol is TransportProtocol.TCP:
            return CandidateType.HOST
        reflexive = self._candidates.reflexive_at(base, mapped)
        return CandidateType.SERVER_REFLEXIVE if reflexive else CandidateType.PEER_REFLEXIVE

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
        """Add a candidate of ours at any time; datagrams with its base in their path have to leave from there.

        One with an address and a base that are known is passed over.
        """
        was_full = self._candidates.is_full
        added = self._candidates.add_local(candidate)
        if added is None:
            if was_full:
                self.counters.add(DROPPED_LOCAL_CANDIDATE_TOO_MANY)
            return
        failed = self._selected is not None and self._failed == self._selected.path
        if self.state is not IceState.COMPLETED or added.type is CandidateType.HOST or failed:
            # RFC 8445 §8.1.2: once a pair is nominated only a new interface is worth a check, or what may take the
            # place of one on which nothing leaves.
            for remote in self._candidates.remote:
                self._add_signalled_pair(added, remote)
        self._run_checks(now)

    def add_remote_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Add a candidate of the peer at any time; one that cannot be used is counted and dropped."""
        reason = self._candidates.add_remote(candidate)
        if reason is not None:
            self.counters.add(reason)
            return
        self._checklist.replace_remote(candidate)
        if self.state is not IceState.COMPLETED:
            # RFC 8445 §8.1.2: after nomination nothing new is checked, until the peer nominates something else.
            for local in self._candidates.local:
                self._add_signalled_pair(local, candidate)
        self._run_checks(now)

    def set_remote_credentials(self, credentials: IceCredentials, now: Instant, *, lite: bool = False) -> None:
        """Set the peer's credentials, and whether its SDP had `a=ice-lite`; no check is sent before."""
        self._remote = credentials
        self._server.remote_ufrag = credentials.ufrag
        self._remote_lite = lite
        if lite and not self._role.controlling:
            self._switch_role(True)  # RFC 8445 §6.1.1
        self._run_checks(now)

    def start(self, now: Instant) -> None:
        """Begin to check, and start the PAC timer. Checks of the peer are responded to before, too."""
        if self.state is not IceState.NEW:
            raise LocalError(f"an agent that is {self.state.value} cannot be started")
        self._enter(IceState.CHECKING)
        self._timers.set(IceTimer.PAC, now + self._settings.pac_timeout)
        self._run_checks(now)

    def restart(self, credentials: IceCredentials, now: Instant) -> None:
        """Begin anew with other credentials and wait for the peer's (RFC 8445 §9).

        The path in use stays until one is nominated with the new ones.
        """
        if self.state in (IceState.NEW, IceState.CLOSED):
            raise LocalError(f"an agent that is {self.state.value} cannot be restarted")
        self._server.restart(credentials)
        self._client.clear()
        self._probes.clear()
        self._timers.clear(IceTimer.PROBE)
        self._remote = None
        self._candidates.remote.clear()
        self._checklist = Checklist(self._role.controlling)
        self._nominated = False
        self._peer_nominations.clear()
        self._enter(IceState.CONNECTED if self._selected else IceState.CHECKING)
        self._timers.set(IceTimer.PAC, now + self._settings.pac_timeout)
        self._timers.clear(IceTimer.NOMINATION)
        self._run_checks(now)

    def renominate(self, path: Path, now: Instant) -> None:
        """Nominate another valid pair; `LocalError` if we do not control, or there is none."""
        pair = self._checklist.find(path)
        if not self._role.controlling or pair is None or pair.state is not PairState.SUCCEEDED:
            raise LocalError("a controlling agent nominates a valid pair")
        self._nominate(pair)
        self._run_checks(now)

    def close(self, now: Instant) -> None:
        """Send nothing any more."""
        self._end(IceState.CLOSED)

    def note_received(self, path: Path, now: Instant) -> None:
        """Note that an authenticated packet of the peer arrived on `path`; it validates no path.

        Where it came on another path than the nominated one, a check is sent there (`probe`).
        """
        self._last_received = (path, now)
        selected = self._selected
        if selected is None or path == selected.path:
            self._heard_at = now
            if selected is not None and not self._timers.is_set(IceTimer.SUSPICION):
                self._timers.set(IceTimer.SUSPICION, now + self._settings.suspicion_timeout)
        elif self._follows_media:
            self._probe(path, selected, now)

    def note_failed(self, local: Address, remote: Address | None, now: Instant) -> bool:
        """Note that nothing leaves from a local address (to `remote`; None: to anywhere): the kernel says so.

        On the selected path the peer is asked again at once, which makes a connection over TCP anew, and every
        other pair is checked. Once in `suspicion_timeout`; return True if something is to be sent.
        """
        selected = self._selected
        if selected is None or self.state in (IceState.FAILED, IceState.CLOSED):
            return False
        path = selected.path
        if path.local != local or remote not in (None, path.remote):
            return False
        if self._failed == path and now - self._failed_at < self._settings.suspicion_timeout:
            return False
        self._failed, self._failed_at = path, now
        self.counters.add(counted.PATH_FAILED)
        self._check_other_pairs(selected)
        self._send_consent_check(now)
        self._run_checks(now)
        return True

    # --- the machine ------------------------------------------------------------------------------------------

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together."""
        for data, path in batch:
            self.handle_datagram(data, path, now)

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram; what is not an authenticated check or response is counted and dropped."""
        if self.state in (IceState.FAILED, IceState.CLOSED):
            self.counters.add(counted.DROPPED_CLOSED)
            return
        if self._is_waiting:
            self.release(now)
        if self._server.is_flood(data, now):
            return
        try:
            message = Message.parse(data)
        except ParseError:
            self.counters.add(counted.DROPPED_MALFORMED)
            return
        if message.message_class is MessageClass.INDICATION:
            if self._server.authenticate_indication(data, message):
                self.note_received(path, now)
        elif message.message_class is MessageClass.REQUEST:
            opened = self._server.authenticate(data, message, path, now)
            if isinstance(opened, ReceivedCheck):
                self._handle_check(opened, now)
            elif opened is not None:
                self._transmits.append(opened)
        elif self._probes.awaits(message):
            if self._probes.handle_response(data, message, path, now):
                self._handle_probed(path, now)
            self._timers.set(IceTimer.PROBE, self._probes.poll_timeout())
        else:
            check = self._client.match_response(data, message, path, now)
            if check is not None:
                self._is_waiting = self._client.waits
                self._handle_response(check, message, path, now)
        self._is_waiting |= self._server.is_waiting
        if not self._is_waiting:
            self._run_checks(now)

    def release(self, now: Instant) -> None:
        """Send what has waited for what its owner's piggyback has to say (`piggyback.py`): a response, a check."""
        self._is_waiting = False
        self._transmits.extend(self._server.release())
        self._run_checks(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        if self._is_waiting:
            self.release(now)
        self._timers.fire(now, self._handle_timer)
        self._run_checks(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return self._timers.next

    def drain_transmits(self) -> Sequence[Transmit]:
        """Checks and responses to send."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[IceEvent]:
        """What happened."""
        events, self._events = self._events, []
        return events

    def _handle_timer(self, timer: IceTimer, now: Instant) -> None:
        match timer:
            case IceTimer.RETRANSMISSION:
                self._retransmit(now)
            case IceTimer.NOMINATION:
                self._nominate(self._checklist.best_valid())
            case IceTimer.SUSPICION:
                self._suspect(now)
            case IceTimer.CONSENT_CHECK:
                self._send_consent_check(now)
            case IceTimer.CONSENT_EXPIRY:
                self._handle_consent_expiry(now)
            case IceTimer.PAC:
                self._handle_pac_expiry()
            case IceTimer.PROBE:
                self._transmits += self._probes.handle_timeout(now)
                self._timers.set(IceTimer.PROBE, self._probes.poll_timeout())
            case IceTimer.PACING:
                pass  # `_run_checks` looks

    # --- local checks -----------------------------------------------------------------------------------------

    def _add_signalled_pair(self, local: Candidate, remote: Candidate) -> CandidatePair | None:
        """Add a pair of two candidates that are known; RFC 6544 §6.2: a passive one makes no checks."""
        return None if local.tcp_type is TcpType.PASSIVE else self._add_pair(local, remote)

    def _add_pair(self, local: Candidate, remote: Candidate) -> CandidatePair | None:
        keep = () if self._selected is None else (self._selected,)
        return self._checklist.add(local, remote, keep)

    def _run_checks(self, now: Instant) -> None:
        """Send the next check if it is time, and arm the timers; every input and every command ends here."""
        if self.state in (IceState.NEW, IceState.FAILED, IceState.CLOSED):
            return
        if self._remote is not None:
            self._schedule_nomination(now)
            self._send_paced_check(self._remote, now)
        deadline = self._client.poll_timeout()
        if deadline is None:
            self._timers.clear(IceTimer.RETRANSMISSION)
        else:
            self._timers.set(IceTimer.RETRANSMISSION, deadline)

    def _send_paced_check(self, remote: IceCredentials, now: Instant) -> None:
        """Send one new check unless the last one is less than Ta ago (RFC 8445 §14.2)."""
        if now >= self._next_check_at:
            self._timers.clear(IceTimer.PACING)
            pair = self._checklist.next_check() or self._next_repetition(now)
            if pair is None:
                return
            self._send_check(pair, remote, now)
            self._next_check_at = now + self._settings.ta
        self._timers.set(IceTimer.PACING, self._next_check_at)

    def _next_repetition(self, now: Instant) -> CandidatePair | None:
        """Return a pair to check again, as no other check is due; arm the timer if it is too early for that."""
        pair = self._checklist.next_repeat()
        if pair is None:
            return None
        due = pair.last_check_at + self._settings.repeat_interval
        if now < due:
            self._timers.set(IceTimer.PACING, due)
            return None
        pair.repeats += 1
        self._client.cancel(pair, now)
        return pair

    def _send_check(self, pair: CandidatePair, remote: IceCredentials, now: Instant) -> None:
        if pair.state is not PairState.SUCCEEDED:
            pair.enter(PairState.IN_PROGRESS)
        pair.last_check_at = now
        # RFC 8445 §14.3: the more checks there are, the longer each takes.
        rto = max(self._settings.rto, self._settings.ta * self._checklist.active)
        udp = pair.path.protocol is TransportProtocol.UDP
        policy = RetransmissionPolicy(rto) if udp else TCP_TRANSACTION
        credentials, nominate = CheckCredentials.of(self.credentials, remote), pair.nominating
        number, send = self._own_nominations, self._client.send
        self._transmits.append(
            send(pair, credentials, self._role, policy, now, nominate=nominate, nomination=number)
        )

    def _retransmit(self, now: Instant) -> None:
        again, timed_out = self._client.handle_timeout(now)
        self._transmits += again
        for check in timed_out:
            undecided = check.pair.state is PairState.IN_PROGRESS or check.nominating
            if undecided and not check.consent and not self._client.has_pending(check.pair):
                self._fail_pair(check.pair, now)

    def _fail_pair(self, pair: CandidatePair, now: Instant) -> None:
        self._checklist.failed(pair)
        if pair is self._selected and not self._nominated:
            best = self._checklist.best_valid()
            if best is not None:
                self._select(best, nominated=False, now=now)

    def _handle_response(self, check: SentCheck, message: Message, path: Path, now: Instant) -> None:
        pair = check.pair
        if message.message_class is MessageClass.ERROR_RESPONSE:
            self._handle_error(check, message, now)
            return
        mapped = message.get(XorMappedAddress)
        if path != check.path or mapped is None:
            # RFC 8445 §7.2.5.2.1: the response has to come from where the check went.
            self.counters.add(counted.DROPPED_MALFORMED if mapped is None else counted.DROPPED_ASYMMETRIC_RESPONSE)
            if not check.consent:
                self._fail_pair(pair, now)
            return
        round_trip_time = check.transaction.handle_response(now)
        if round_trip_time is not None:
            pair.update_round_trip_time(round_trip_time)
        pair.last_received = now
        pair.mapped_address = mapped.address
        if check.consent:
            self._renew_consent(pair, now)
        else:
            self._handle_success(check, now)

    def _handle_error(self, check: SentCheck, message: Message, now: Instant) -> None:
        error = message.get(ErrorCode)
        code = error.code if error else 0
        self.counters.add(counted.ERROR_RESPONSES.get(code, counted.ERROR_RESPONSE_OTHER))
        if code == ErrorNumber.ROLE_CONFLICT and not self._remote_lite:
            # RFC 8445 §7.2.5.1: switch, unless that has happened since the check was sent, and check again.
            if check.controlling == self._role.controlling:
                self._switch_role(not check.controlling)
            if not check.consent:
                self._checklist.trigger(check.pair)
        elif not check.consent:
            self._fail_pair(check.pair, now)
        elif code not in _RECOVERABLE and check.pair is self._selected:
            self._handle_refusal(check.pair, now)

    def _handle_refusal(self, selected: CandidatePair, now: Instant) -> None:
        """The peer signs that it has no such session (`stack.server.admission`): nothing is waited for.

        RFC 7675 says nothing of error responses; Chromium gives the pair up in the same way.
        """
        self._checklist.failed(selected)
        other = self._checklist.latest_valid()
        if other is not None and now - (other.last_received or 0.0) < self._settings.path_silence_timeout:
            self._select(other, nominated=False, now=now)
            self._send_consent_check(now)  # the peer may refuse there, too
            return
        self._end(IceState.FAILED)
        self._events.append(IceFailed(IceFailureReason.REFUSED))

    def _handle_success(self, check: SentCheck, now: Instant) -> None:
        pair = check.pair
        first = pair.state is not PairState.SUCCEEDED
        self._checklist.succeeded(pair)
        if first:
            self._events.append(PathValidated(pair.path))
        self._timers.clear(IceTimer.PAC)
        if self._role.controlling:
            nominated = check.nominating and pair.nominating  # else another has been nominated since
        else:
            nominated = pair.nominate_on_success and self._obeys_nomination(pair, now)
        if nominated:
            pair.nominating = pair.nominate_on_success = False
            self._select(pair, nominated=True, now=now)
        elif self._selected is None:
            self._select(pair, nominated=False, now=now)
        elif not self._nominated and self._selected in self._checklist.pairs:
            better = pair.priority > self._selected.priority
            self._select(pair if better else self._selected, nominated=False, now=now)
        else:
            self._replace_silent_path(pair, now)

    # --- remote checks ---------------------------------------------------------------------------------------

    def _handle_check(self, check: ReceivedCheck, now: Instant) -> None:
        if not check.current:
            self._transmits.extend(self._server.respond(check))
            if self._selected is not None and self._selected.path == check.path:
                self._selected.last_received = now
            return
        if self._peer_must_switch(check):
            self._transmits.append(self._server.respond_error(check, ErrorNumber.ROLE_CONFLICT))
            return
        self._transmits.extend(self._server.respond(check))
        self.counters.add(counted.CHECK)
        pair = self._checklist.find(check.path) or self._add_peer_reflexive_pair(check)
        if pair is None:
            self.counters.add(counted.CHECK_WITHOUT_PAIR)
            return
        pair.last_received = now
        nominates = check.use_candidate and not self._role.controlling
        if nominates:
            pair.nomination = max(pair.nomination, check.nomination)
        else:
            pair.plainly_checked = True
        if pair.state is PairState.SUCCEEDED:
            if nominates and self._obeys_nomination(pair, now):
                self._select(pair, nominated=True, now=now)
            else:
                self._replace_silent_path(pair, now)
            return
        pair.nominate_on_success = pair.nominate_on_success or nominates
        # RFC 8445 §7.3.1.4: a triggered check; a pending one is not retransmitted, yet a response to it counts.
        self._client.cancel(pair, now)
        self._checklist.trigger(pair)

    def _add_peer_reflexive_pair(self, check: ReceivedCheck) -> CandidatePair | None:
        """Add a pair for a remote address that was not signalled (RFC 8445 §7.3.1.3)."""
        local = self._candidates.local_at(check.path.local, check.path.protocol)
        if local is None:
            return None
        return self._add_pair(local, self._candidates.remote_at(check.path, check.priority, local))

    def _obeys_nomination(self, pair: CandidatePair, now: Instant) -> bool:
        nominated = self._selected if self._nominated else None
        return self._peer_nominations.obeys(pair, nominated, now)

    def _peer_must_switch(self, check: ReceivedCheck) -> bool:
        """Resolve a role conflict by tie-breaker; True if the peer has to switch (RFC 8445 §7.3.1.1)."""
        if check.sender_controlling is None or check.sender_controlling != self._role.controlling:
            return False
        self.counters.add(counted.ROLE_CONFLICT)
        tie_won = self._role.tie_breaker >= check.sender_tie_breaker
        if tie_won == self._role.controlling:
            return True
        self._switch_role(tie_won)
        return False

    def _switch_role(self, controlling: bool) -> None:
        self._role = self._probes.role = IceRole(controlling, self._role.tie_breaker)
        self._checklist.set_role(controlling)
        for pair in self._checklist.pairs:
            pair.nominating = pair.nominate_on_success = False
        self._timers.clear(IceTimer.NOMINATION)

    # --- nomination -------------------------------------------------------------------------------------------

    def _schedule_nomination(self, now: Instant) -> None:
        if not self._role.controlling or self._nominated:
            return
        best = self._checklist.best_valid()
        if best is None or any(pair.nominating for pair in self._checklist.pairs):
            return
        relayed = CandidateType.RELAYED in (best.local.type, best.remote.type)
        if self._remote_lite or not (relayed or self._checklist.may_improve_on(best)):
            self._nominate(best)
        elif relayed:
            self._timers.set_default(IceTimer.NOMINATION, now + self._settings.relayed_nomination_delay)
        else:
            self._timers.bring_forward(IceTimer.NOMINATION, now + self._settings.nomination_delay)

    def _nominate(self, pair: CandidatePair | None) -> None:
        """Check a valid pair once more, with USE-CANDIDATE (RFC 8445 §8.1.1)."""
        if pair is not None and self._role.controlling:
            for other in self._checklist.pairs:
                other.nominating = other is pair
            pair.nominating = True
            pair.repeats = 0
            if self._settings.renomination:
                self._own_nominations += 1
            self._checklist.trigger(pair)

    def _select(self, pair: CandidatePair, *, nominated: bool, now: Instant) -> None:
        changed = pair is not self._selected
        if not changed and nominated == self._nominated:
            return
        self._selected, self._nominated = pair, nominated
        self._enter(IceState.COMPLETED if nominated else IceState.CONNECTED)
        if nominated:
            self._peer_nominations.note_selected(now)
            self._timers.clear(IceTimer.NOMINATION)
            self._checklist.conclude(pair)
            self._client.cancel(None, now)
            self._server.forget_previous()
        if changed and self._remote is not None:
            credentials = CheckCredentials.of(self.credentials, self._remote)
            self._consent = Consent(self._settings.consent, self._entropy, credentials, now)
            self._arm_consent(self._consent)
        self._events.append(PathSelected(pair.path, nominated))

    def _replace_silent_path(self, pair: CandidatePair, now: Instant) -> None:
        """Select `pair` if nothing has arrived on the selected one for `path_silence_timeout`."""
        selected = self._selected
        if selected is None or pair is selected or not self._nominated or pair.nominating:
            return
        if now - self._last_heard(selected) >= self._silence_allowed(selected):
            self.counters.add(counted.FOLLOWED_AFTER_SILENCE)
            if self._role.controlling:
                self._nominate(pair)
            else:
                self._select(pair, nominated=False, now=now)

    # --- a peer that moves ------------------------------------------------------------------------------------

    def _probe(self, path: Path, selected: CandidatePair, now: Instant) -> None:
        """Find out whether the peer is where an authenticated packet of it has come from.

        On a valid path it is asked only when the selected one is silent: around a nomination media may still come
        on the former one for a round trip.
        """
        pair = self._checklist.find(path)
        valid = pair is not None and pair.state is PairState.SUCCEEDED
        if self._remote is None or (valid and not self._is_silent(selected, now)):
            return
        if self._candidates.local_at(path.local, path.protocol) is None:
            return
        check = self._probes.begin(path, self.credentials, self._remote, now)
        if check is not None:
            self._transmits.append(check)
            self._timers.set(IceTimer.PROBE, self._probes.poll_timeout())

    def _handle_probed(self, path: Path, now: Instant) -> None:
        """The peer has answered where its media come from: the path is valid; it may replace a silent one."""
        local = self._candidates.local_at(path.local, path.protocol)
        if local is None:
            return
        pair = self._checklist.find(path)
        if pair is None:
            priority = compute_priority(CandidateType.PEER_REFLEXIVE, protocol=path.protocol)
            pair = self._add_pair(local, self._candidates.remote_at(path, priority, local))
            if pair is None:
                self.counters.add(counted.CHECK_WITHOUT_PAIR)
                return
        if pair.state is not PairState.SUCCEEDED:
            if pair.state is PairState.FROZEN:
                pair.enter(PairState.WAITING)
            self._checklist.succeeded(pair)
            self._events.append(PathValidated(path))
        pair.last_received = now
        selected = self._selected
        if selected is None or selected is pair or not (self._follows_media and self._is_silent(selected, now)):
            return
        self.counters.add(counted.FOLLOWED_MEDIA)
        if self._role.controlling:  # the peer is told, too
            self._select(pair, nominated=True, now=now)
            self._nominate(pair)
        else:
            self._select(pair, nominated=False, now=now)

    @property
    def _follows_media(self) -> bool:
        """True where the peer's media say more than its checks: not before our own nomination, if we control."""
        controlled = self.state is IceState.CONNECTED and not self._role.controlling
        return controlled or self.state is IceState.COMPLETED

    def _is_silent(self, selected: CandidatePair, now: Instant) -> bool:
        heard = max(self._heard_at, selected.last_received or 0.0)
        return now - heard >= self._settings.media_silence_timeout

    def _last_heard(self, pair: CandidatePair) -> Instant:
        """Return when something of the peer last arrived on a pair; 0.0 for never."""
        at = pair.last_received or 0.0
        if self._last_received is not None and self._last_received[0] == pair.path:
            at = max(at, self._last_received[1])
        return at

    # --- consent ----------------------------------------------------------------------------------------------

    def _arm_consent(self, consent: Consent) -> None:
        self._timers.set(IceTimer.CONSENT_CHECK, consent.next_check_at)
        self._timers.set(IceTimer.CONSENT_EXPIRY, consent.expires_at)

    def _send_consent_check(self, now: Instant) -> None:
        selected, consent = self._selected, self._consent
        if selected is None or consent is None:
            return
        # Sent once (RFC 7675 §5.1). USE-CANDIDATE lets a lite peer follow at once when a NAT gives us a new port.
        policy = RetransmissionPolicy(self._settings.rto, rc=1)
        nominate, send = self._role.controlling and self._nominated, self._client.send
        number = self._own_nominations
        self._transmits.append(
            send(
                selected,
                consent.credentials,
                self._role,
                policy,
                now,
                nominate=nominate,
                nomination=number,
                consent=True,
            )
        )
        heard = self._last_received is not None and self._last_received[0] == selected.path
        silent = now - self._last_heard(selected) >= self._settings.path_silence_timeout
        if silent and consent.unanswered >= (UNANSWERED_WITH_MEDIA if heard else UNANSWERED_WITHOUT):
            self._check_other_pairs(selected)
        consent.check_sent(now)
        self._arm_consent(consent)

    def _suspect(self, now: Instant) -> None:
        """Media may have stopped: ask the peer whether it is there; an answer ends the suspicion."""
        selected, consent = self._selected, self._consent
        if selected is None or consent is None:
            return
        limit = self._settings.suspicion_timeout
        silence = now - self._last_heard(selected)
        if silence < limit:
            if self._heard_at >= (selected.last_received or 0.0):  # media, and not the answer to a check
                self._timers.set(IceTimer.SUSPICION, now + limit - silence)
        elif silence < self._settings.path_silence_timeout + limit:
            if consent.unanswered >= UNANSWERED_WITH_MEDIA:
                self._check_other_pairs(selected)
            self._send_consent_check(now)
            self._timers.set(IceTimer.SUSPICION, now + limit / 2)

    def _silence_allowed(self, selected: CandidatePair) -> float:
        """Return how long nothing may arrive on the selected path before another one takes its place."""
        if selected.path == self._failed:
            return 0.0
        suspected = self._timers.is_set(IceTimer.SUSPICION) and self._consent is not None
        if suspected and self._consent is not None and self._consent.unanswered >= UNANSWERED_WITH_MEDIA:
            return 2 * self._settings.suspicion_timeout
        return self._settings.path_silence_timeout

    def _check_other_pairs(self, selected: CandidatePair) -> None:
        """Check every other pair again, for the selected one seems to be dead: one that succeeds replaces it."""
        for local in self._candidates.local:
            for remote in self._candidates.remote:
                self._add_signalled_pair(local, remote)
        for pair in self._checklist.pairs:
            if pair is not selected and pair.state in (PairState.SUCCEEDED, PairState.FAILED):
                self._checklist.trigger(pair)

    def _renew_consent(self, pair: CandidatePair, now: Instant) -> None:
        if pair is self._selected and self._consent is not None:
            self._failed = None
            self._consent.renew(now)
            self._arm_consent(self._consent)

    def _handle_consent_expiry(self, now: Instant) -> None:
        selected = self._selected
        if selected is None:
            return
        self._checklist.failed(selected)
        other = self._checklist.latest_valid()
        if other is not None and now - (other.last_received or 0.0) < self._settings.path_silence_timeout:
            self._select(other, nominated=False, now=now)
            return
        if self._timers.is_set(IceTimer.PAC):  # an ICE restart is under way, and has until then to find a path
            self._selected, self._consent = None, None
            for timer in (IceTimer.CONSENT_CHECK, IceTimer.CONSENT_EXPIRY, IceTimer.SUSPICION):
                self._timers.clear(timer)
            self._enter(IceState.DISCONNECTED)
            self._events.append(ConsentLost(selected.path))
            return
        self._end(IceState.FAILED)
        path, at = self._last_received or (None, 0.0)
        still_receiving = path == selected.path and now - at < self._settings.consent.timeout
        self._events.append(ConsentExpired(selected.path, still_receiving))

    def _handle_pac_expiry(self) -> None:
        if self._selected is not None:
            return
        reason = IceFailureReason.ALL_CHECKS_FAILED if self._checklist else IceFailureReason.NO_CANDIDATE_PAIR
        if self._remote is None:
            reason = IceFailureReason.NO_REMOTE_CREDENTIALS
        self._end(IceState.FAILED)
        self._events.append(IceFailed(reason))

    def _enter(self, state: IceState) -> None:
        self.state = step(ICE_TRANSITIONS, self.state, state)

    def _end(self, state: IceState) -> None:
        self._enter(state)
        self._selected = None
        self._consent = None
        self._timers.clear_all()
        self._client.clear()
        self._probes.clear()
