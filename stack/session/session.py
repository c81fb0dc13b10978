"""One peer: the only junction of ICE, DTLS, SRTP, RTP and SCTP.

It sorts datagrams (`demux.py`), moves what each protocol produces to the next, and turns their ends into one.
Nothing else belongs here: whatever a single protocol can decide is decided in its own package.

    network -> ICE (STUN)
            -> DTLS -> SCTP -> channels
            -> the media plane (`media_plane.py`): SRTP -> RTP, RTCP -> RtpEvent

After every input only those protocols are moved that had a part in it, and only their timer slots are set.
The end of one protocol is the end of the session, but what arrived before it is handed up before it: a batch is
taken whole, SCTP gets its packets and RTP its frames, and then `Ended` follows, with nothing behind it.

DTLS spends CPU on nothing before ICE has validated the path on which it came; our own ClientHello is made at the
start, for the first check carries it (`dtls_in_stun.py`). The SRTP keys come from DTLS (RFC 5764 §4.2).

Over 500 lines, because it is the one junction: what goes from each protocol to the next is read in one place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

import stack.session.counters as counted
from stack.core.counters import Counters
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address, Entropy, Instant, Path, TerminalEvents, Transmit
from stack.core.timers import Timers
from stack.dtls import (
    AlertDescription,
    ApplicationData,
    Certificate,
    DtlsEndpoint,
    DtlsEndpointState,
    DtlsFailed,
    DtlsFailure,
    HandshakeComplete,
    KeyLog,
    PeerClosed,
    Version,
)
from stack.ice import (
    DROPPED_REMOTE_CANDIDATE_MALFORMED,
    Candidate,
    ConsentExpired,
    ConsentLost,
    IceAgent,
    IceCredentials,
    IceEvent,
    IceFailed,
    LiteAgent,
    PathSelected,
    PathValidated,
)
from stack.ice.piggyback import MAX_CHECK_SIZE
from stack.rtp import ReportReceived, RtpStatistics
from stack.sctp import AssociationUp, ChannelOpened, DataChannels
from stack.sdp import IGNORED, DtlsRole
from stack.session.allowance import Allowance
from stack.session.demux import Kind, classify
from stack.session.dtls_in_stun import MAX_DATAGRAM, DtlsCarrier
from stack.session.events import (
    Authenticated,
    Connected,
    ConnectionPaused,
    ConnectionResumed,
    Ended,
    EndReason,
    MediaHeld,
    SessionEvent,
)
from stack.session.media_plane import FrameSent, MakePlane, MediaKeys, MediaPlane, PythonMediaPlane, ScheduledFrame
from stack.session.parameters import SessionParameters, make_channels, make_dtls, make_ice, make_rtp
from stack.session.states import SessionTimer, State
from stack.session.statistics import SessionStatistics, Traffic, describe
from stack.session.waterfall import (
    ASSOCIATION_UP,
    CHANNEL_OPEN,
    DTLS_BEGUN,
    DTLS_CONNECTED,
    FIRST_PACKET,
    FIRST_SENT,
    ICE_SELECTED,
    ICE_VALIDATED,
    KEYS_READY,
    SESSION_MADE,
    SetupStep,
    waterfall,
)
from stack.srtp import keying_material_length, split_keying_material

SETUP_TIMEOUT = 30.0
"""Seconds from the making of a session until the peer has proved who it is; after that it is given up."""
MAX_EARLY = 1.0
"""Seconds for which media are sent to a peer that has not proved who it is (`send_early`); then they wait."""
MAX_BEFORE_ICE = 4
"""Datagrams of DTLS that are kept until ICE has validated the path on which they came: a flight."""
LIBWEBRTC_PAUSE = 0.005
"""Seconds between our flight in a check's response and the first sound or data behind it, for libwebrtc. Its own
last flight waits, where the handshake goes on in checks, for ICE to have chosen a path, which it does a moment
after the response; sound or data before that tell it that the handshake is over, and it forgets the flight. They
count from the wake-up behind the flight, which leaves later than at the instant at which it was made."""
_EXPORTER_LABEL = "EXTRACTOR-dtls_srtp"  # RFC 5764 §4.2


def _dtls_timeout(round_trip: float) -> float:
    """Return the seconds until the first retransmission in the handshake: what ICE measured, and time to compute.

    RFC 9147 §5.8.2 allows less than its default of a second where the round trip is known.
    """
    return min(1.0, 2 * round_trip + 0.1)


# For the path of every packet: Python 3.11 takes 0.1 µs to look a member up in its class.
_CONNECTED, _ENDED = State.CONNECTED, State.ENDED
_STUN, _DTLS, _RTP, _RTCP = Kind.STUN, Kind.DTLS, Kind.RTP, Kind.RTCP
_MEDIA = SessionTimer.MEDIA
_ROOM_FOR_SOUND = 1500
"""Bytes that are left for checks, and for the flight if the first is lost, when an early voice begins to wait."""
_PLAIN_RESPONSE = 128
"""Bytes that a response or a check has without a part of the handshake in it, at most."""
_ROOM_FOR_CHECKS = 5 * _PLAIN_RESPONSE
"""Bytes that are left for checks of ours and for responses: the answer to a check takes the bound away."""
_OF_OURS = (FrameSent, ReportReceived)  # what a plane tells of the sound that we send


class Session:
    """A machine that holds one peer connection. `handle_datagrams` takes whatever arrives on its paths.

    `wall_clock` is what the wall clock (seconds since 1970) says at the instant 0 of the machine's clock; RTCP
    sender reports carry it. `dtls_in_stun` puts the handshake into connectivity checks where the peer does so,
    too (`dtls_in_stun.py`). `send_early`: as a DTLS 1.3 server, send as soon as our Finished is sent, a round
    trip before the peer has proved who it is; `Authenticated` says when it has. `resume_timeout`: seconds that a
    peer which has fallen silent is waited for, after `ConnectionPaused`; 0: the session then ends. `make_plane`
    makes the media plane. `offered` is when the offer arrived that we have answered: the steps of the set-up
    count from there.
    """

    terminal_events: ClassVar[TerminalEvents] = (Ended,)

    def __init__(
        self,
        parameters: SessionParameters,
        certificate: Certificate,
        entropy: Entropy,
        now: Instant,
        *,
        wall_clock: float = 0.0,
        dtls_version: Version | None = None,
        dtls_in_stun: bool = True,
        send_early: bool = True,
        resume_timeout: float = 0.0,
        key_log: KeyLog | None = None,
        make_plane: MakePlane = PythonMediaPlane,
        offered: Instant | None = None,
    ) -> None:
        self.parameters = parameters
        self.counters = Counters()
        self.state = State.CHECKING
        self.steps: dict[str, float] = {}
        self.sent = Traffic()
        self.received = Traffic()
        self.security: HandshakeComplete | None = None
        """What DTLS agreed on, once it has."""
        self._began = now if offered is None else min(offered, now)
        self._send_early = send_early
        self._resume_timeout = resume_timeout
        self.is_paused = False
        """True while the peer is silent, and waited for: nothing is sent."""
        self._is_early_over = False  # media wait for the peer to prove who it is
        self._carrier = DtlsCarrier(self.counters, dtls_in_stun)
        self._dtls: DtlsEndpoint = make_dtls(parameters, certificate, entropy, dtls_version, key_log)
        if self._dtls.role is DtlsRole.CLIENT:
            self._dtls.start(now)  # its ClientHello travels in the first check
            self._carrier.set_pending(self._dtls.drain_transmits())
        self._ice: IceAgent | LiteAgent = make_ice(parameters, entropy, now, self._carrier, resume_timeout)
        # A full agent sends where a check of its own was answered: there every path is proven.
        self._lite = self._ice if isinstance(self._ice, LiteAgent) else None
        self._is_proven = self._lite is None
        self._allowance = Allowance(parameters.offer_size)
        self._shown_to: set[Path] = set()  # where our handshake went
        self._flight_waits = False  # for the path to be proven: there was no room for it
        sections = make_rtp(parameters)
        self._media: MediaPlane | None = None
        if sections:
            self._media = make_plane(sections, entropy, now, wall_clock=wall_clock)
        self._sections = len(sections)
        self._hold_media()
        self._channels: DataChannels | None = make_channels(parameters, entropy, now)
        self._path: Path | None = None
        self._routes: list[Path] = []
        self._transmits: list[Transmit] = []
        self._events: list[SessionEvent] = []
        self._packets: list[bytes] = []  # of SCTP, until the pump: those that came together are answered together
        self._ice_touched = self._dtls_touched = self._media_touched = False  # since they were moved last
        self._before_ice: deque[tuple[bytes, Path]] = deque(maxlen=MAX_BEFORE_ICE)  # DTLS, until there is a path
        self._flight_left: Instant | None = None  # when nothing but sound and data was to be sent, to libwebrtc
        self._lost = EndReason.CONSENT_EXPIRED  # why a full agent has paused
        self._last_word: Ended | None = None  # to be said when everything before it has been
        self._timers: Timers[SessionTimer] = Timers()
        self._timers.set(SessionTimer.SETUP, now + SETUP_TIMEOUT)
        self._step(SESSION_MADE, now)
        self._pump(now)

    # -- what is known -------------------------------------------------------------------------------------

    @property
    def ice(self) -> IceAgent | LiteAgent:
        """The ICE agent, for reading."""
        return self._ice

    @property
    def has_media(self) -> bool:
        """True if media were negotiated."""
        return self._media is not None

    @property
    def channels(self) -> DataChannels | None:
        """The data channels; None if none were negotiated. Call `flush` after a command to them."""
        return self._channels

    @property
    def path(self) -> Path | None:
        """The path on which we send."""
        return self._path

    @property
    def is_connected(self) -> bool:
        """True while media and data can be sent; what arrives counts once there is `security`."""
        return self.state is _CONNECTED

    @property
    def round_trip_time(self) -> float | None:
        """The latest round-trip time in seconds, from RTCP or else from checks of ours.

        What a lite agent has seen is good for a first timer, but has the peer's computing in it: it does not count
        here.
        """
        measured = self._media.round_trip_time if self._media is not None else None
        if measured is None and isinstance(self._ice, IceAgent):
            return self._ice.round_trip_time
        return measured

    @property
    def setup(self) -> tuple[SetupStep, ...]:
        """The steps of the set-up so far, by the shorter of the round trips that ICE and RTCP have measured."""
        of_media = self._media.round_trip_time if self._media is not None else None
        known = [each for each in (self._ice.round_trip_time, of_media) if each is not None]
        return waterfall(self.steps, min(known, default=None), lite=self.parameters.local.ice_lite)

    def statistics(self, now: Instant) -> SessionStatistics:
        """Return everything that is known of the connection and of its RTP."""
        return describe(self, now)

    def rtp_statistics(self, now: Instant) -> Sequence[RtpStatistics]:
        """Return the statistics of each media section."""
        return () if self._media is None else self._media.stats(now)

    def all_counters(self) -> Counters:
        """Return the counters of the session and of every protocol in it, by their names."""
        total = Counters()
        total.merge(self.counters)
        total.merge(self._ice.counters)
        total.merge(self._dtls.counters)
        if self._media is not None:
            total.merge(self._media.all_counters())
        if self._channels is not None:
            total.merge(self._channels.counters)
        for name, lines in self.parameters.negotiation.ignored.items():
            if name in IGNORED:
                total.add(IGNORED[name], lines)
        return total

    # -- commands ------------------------------------------------------------------------------------------

    def schedule(self, frame: ScheduledFrame, now: Instant) -> bool:
        """Send one codec frame at its instant; `FrameSent` tells when it has left. True if it left at once.

        Raises `LocalError` if no audio was negotiated or the session is not connected.
        """
        if self._media is None:
            raise LocalError("no audio was negotiated")
        if self.state is not _CONNECTED:
            raise LocalError("the session is not connected")
        if self._media.schedule(frame, now):
            self._move_media(now)
            return True
        self._timers.bring_forward(_MEDIA, frame.due)
        return False

    def take_back(self, section: int = 0) -> Sequence[ScheduledFrame]:
        """Return the scheduled frames of a section that have not left: they will not."""
        return () if self._media is None else self._media.flush(section)

    def send_dtmf(self, digits: str, now: Instant, section: int = 0) -> None:
        """Press keys (0–9 * # A–D). Raises `LocalError` for others, and where the peer agreed to take none."""
        if self._media is None:
            raise LocalError("no audio was negotiated")
        if not self.parameters.negotiation.audio_lines[section].sent.direction.sends:  # RFC 3264 §5.1
            raise LocalError("the peer takes no sound, and keys are sound")
        self._media.send_dtmf(digits, now, section)
        self._move_media(now)

    def flush(self, now: Instant) -> None:
        """Move what a command to `channels` has produced; nothing once the session is over."""
        if self.state is _ENDED and self._last_word is None:
            return
        self._move_channels(now)
        self._say_last_word()

    def renegotiate(self, parameters: SessionParameters, now: Instant) -> None:
        """Go on as a further offer and its answer have it (see `stack.sdp.renegotiate`).

        Other ICE credentials restart ICE; all else goes on. Raises `LocalError` if the session is over.
        """
        if self.state is _ENDED:
            raise LocalError("the session is over")
        former, self.parameters = self.parameters, parameters
        self._hold_media()
        local, agreed = parameters.local, parameters.negotiation
        if local.ice_ufrag != former.local.ice_ufrag:
            remote = IceCredentials.parse(agreed.remote_ice_ufrag, agreed.remote_ice_pwd)
            self.restart_ice(IceCredentials(local.ice_ufrag, local.ice_pwd), remote, now)
        known = former.negotiation.remote_candidates
        self.add_remote_candidates([text for text in agreed.remote_candidates if text not in known], now)

    def restart_ice(self, local: IceCredentials, remote: IceCredentials, now: Instant) -> None:
        """Use new ICE credentials on both sides; all else goes on (RFC 8445 §9). `LocalError` if it is over."""
        if self.state is _ENDED:
            raise LocalError("the session is over")
        self.parameters = self.parameters.with_ice(local, remote)
        self._timers.clear(SessionTimer.RESUME)  # the agent says how long it looks for a path
        self._ice.restart(local, now)
        self._ice.set_remote_credentials(remote, now)
        self._pump(now)

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Take a candidate of ours that was found after the start (`stack.ice.relaying`)."""
        self._ice.add_local_candidate(candidate, now)
        self._pump(now)

    def note_failed(self, local: Address, remote: Address | None, now: Instant) -> bool:
        """Note that nothing leaves from an address of ours; see `IceAgent.note_failed`."""
        if not isinstance(self._ice, IceAgent) or not self._ice.note_failed(local, remote, now):
            return False
        self._pump(now)
        return True

    def add_remote_candidates(self, candidates: Sequence[str], now: Instant) -> None:
        """Take candidates that came after the offer; one that is malformed is counted and dropped."""
        for text in candidates:
            try:
                self._ice.add_remote_candidate(Candidate.parse(text), now)
            except ParseError:
                self._ice.counters.add(DROPPED_REMOTE_CANDIDATE_MALFORMED)
        self._pump(now)

    def close(self, now: Instant) -> None:
        """End the session in an orderly way: RTCP BYE, then close_notify."""
        if self.state is _ENDED:
            return
        try:
            if self.state is _CONNECTED and self._media is not None:
                self._media.close(now)
                self._move_media(now)
            if self.state is not State.CHECKING:
                self._dtls.close(now)
        finally:  # a bug costs the farewell, not the end
            self._end(EndReason.HUNG_UP)
            self._pump(now)

    def failure_alert(self) -> Transmit | None:
        """Return what tells the peer that this process is gone, for another process to send; None: not now.

        See `DtlsEndpoint.failure_alert`. It goes where all else goes now, and changes with the path.
        """
        data = self._dtls.failure_alert() if self.state is _CONNECTED else None
        return Transmit(data, self._path) if data is not None and self._path is not None else None

    # -- the machine ---------------------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram from the network."""
        self.handle_datagrams(((data, path),), now)

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together: SCTP packets among them are answered together."""
        heard: Path | None = None
        for data, path in batch:
            if self.state is _ENDED:
                self.counters.add(counted.DROPPED_AFTER_END)
                continue
            kind = classify(data)
            if kind is _RTP or kind is _RTCP:
                self._media_touched = True
            elif kind is _DTLS:
                self._dtls_touched = True
            elif kind is _STUN:
                self._ice_touched = True
            else:
                self.counters.add(counted.DROPPED_UNKNOWN_PROTOCOL)
                continue
            if self._take(data, kind, path, now) and path is not heard:
                heard = path  # a peer has one path, as a rule: once for all that came together
                self._ice.note_received(path, now)
                if path != self._path:  # the peer may have moved
                    self._ice_touched = True
            if self.state is not _CONNECTED:  # in set-up, a datagram may need what the last one has opened
                self._pump(now)
        if self.state is not _CONNECTED:
            if self._last_word is not None:  # a bug has kept it from being said
                self._pump(now)
            return
        if self._ice_touched:
            self._move_ice(now)
        if self._dtls_touched or self._packets:
            self._move_dtls(now)
            self._move_channels(now)
        if self._media_touched:
            self._move_media(now)
        if self._flight_waits:
            self._ask_for_room(now)
        if self._last_word is not None:
            self._say_last_word()

    def _take(self, data: bytes, kind: Kind, path: Path, now: Instant) -> bool:
        """Hand a datagram to its protocol; True if its keys prove that the peer has sent it. ICE judges its
        own.
        """
        if kind is _STUN:
            self._allowance.note_came(len(data))
            room = self._allowance.room(self.received.octets) - _ROOM_FOR_CHECKS
            self._carrier.room = MAX_CHECK_SIZE if self._is_proven else room
            self._ice.handle_datagrams(((data, path),), now)
            return False
        self.received.packets += 1
        self.received.octets += len(data)
        if kind is not _DTLS:
            if self._media is None:
                self.counters.add(counted.DROPPED_UNWANTED_MEDIA)
                return False
            if self.security is None and self.state is _CONNECTED:  # the keys may be an attacker's
                self.counters.add(counted.DROPPED_MEDIA_BEFORE_FINISHED)
                return False
            return self._media.handle_datagrams((data,), now) > 0
        if self.state is State.CHECKING:
            if len(self._before_ice) == MAX_BEFORE_ICE:
                self.counters.add(counted.DROPPED_DTLS_BEFORE_ICE)
            self._before_ice.append((data, path))
            return False
        return self._take_dtls(data, path, now)

    def _take_dtls(self, data: bytes, path: Path, now: Instant) -> bool:
        """Hand DTLS a datagram of its own; True if its keys prove that the peer has sent it."""
        self._carrier.note_received(data)
        self._step(DTLS_BEGUN, now)
        if self._ice.round_trip_time is None and isinstance(self._ice, LiteAgent):
            self._ice.note_follow_up(path, now)  # DTLS begins behind a response of ours
            self._begin_from_round_trip(now)
        before = self._dtls.protected_records
        self._dtls.handle_datagrams((data,), now)
        self._note_answered()
        # Before the handshake is complete its keys may be an attacker's.
        return self.security is not None and self._dtls.protected_records > before

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        if self.state is _ENDED:
            return
        try:
            self._timers.fire(now, self._handle_timer)
        finally:  # a bug costs its step, and neither a timer nor the end
            if self._last_word is not None:
                self._timers.clear_all()
                self._say_last_word()

    def _handle_timer(self, timer: SessionTimer, now: Instant) -> None:
        match timer:
            case SessionTimer.MEDIA:
                if self._media is not None:
                    self._media.handle_timeout(now)
                    self._move_media(now)
            case SessionTimer.SCTP:
                if self._channels is not None:
                    self._channels.handle_timeout(now)
                    self._move_channels(now)
            case SessionTimer.DTLS:
                self._dtls.handle_timeout(now)
                self._move_dtls(now)
                self._move_channels(now)
                if self._flight_waits or (self.security is None and not self._is_proven):
                    self._ask_for_room(now)
            case SessionTimer.ICE:
                self._ice.handle_timeout(now)
                self._move_ice(now)
                self._move_dtls(now)
                if self._flight_waits:
                    self._ask_for_room(now)
            case SessionTimer.OPEN:
                if self._flight_left is None:
                    self._flight_left = now
                    self._timers.set(SessionTimer.OPEN, now + LIBWEBRTC_PAUSE)
                elif self.state is State.HANDSHAKING:
                    self._open_early(now)
                    self._move_channels(now)
            case SessionTimer.RESUME:
                self._end(self._lost)
            case SessionTimer.EARLY:
                self.counters.add(counted.EARLY_OVER)
                self._end_early()
            case SessionTimer.SETUP:
                what = "authentication" if self.state is _CONNECTED else self.state.name.lower()
                self._end(EndReason.SETUP_TIMEOUT, f"nothing came of {what}")

    def poll_timeout(self) -> Instant | None:
        """Return the earliest deadline of all protocols."""
        return self._timers.next

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent since the last call."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[SessionEvent]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    @property
    def sources(self) -> Sequence[int]:
        """The SSRCs of which authentic packets have come: what they carry is the peer's, from wherever it
        comes."""
        return self._media.sources if self._media is not None and self.security is not None else ()

    @property
    def is_known_by_records(self) -> bool:
        """True where DTLS alone says that a packet is the peer's: no media were agreed on."""
        return self._media is None and self.security is not None

    def drain_routes(self) -> Sequence[Path]:
        """Return the paths proven by a MESSAGE-INTEGRITY since the last call."""
        routes, self._routes = self._routes, []
        return routes

    @property
    def is_finished(self) -> bool:
        """True once the session has ended and its last datagrams and events were drained."""
        over = self.state is _ENDED and self._last_word is None
        return over and not self._transmits and not self._events

    # -- from one protocol to the next ---------------------------------------------------------------------

    def _pump(self, now: Instant) -> None:
        """Move every protocol; each only answers what it was given, so once is enough."""
        if self.state is _ENDED and self._last_word is None:
            return
        try:
            self._move_ice(now)
            self._move_dtls(now)
            self._move_channels(now)
            self._move_media(now)
            if self._flight_waits:
                self._ask_for_room(now)
        finally:
            self._say_last_word()

    def _hold_media(self) -> None:
        """While the agreed direction is `recvonly` or `inactive` (RFC 3264 §5.1), or paused, no RTP is sent."""
        if self._media is not None:
            for section, line in zip(range(self._sections), self.parameters.negotiation.audio_lines, strict=False):
                waits = self.is_paused or self._is_early_over
                self._media.hold(waits or not line.sent.direction.sends, section)

    def _say_last_word(self) -> None:
        """The session is over and everything before that has been handed up."""
        if self._last_word is not None:
            self._events.append(self._last_word)
            self._last_word = None

    def _move_ice(self, now: Instant) -> None:
        self._ice_touched = False
        self._take_from_ice()
        for event in self._ice.drain_events():
            self._on_ice(event, now)
        if not self._is_proven and self._path is not None and self._lite is not None:
            self._is_proven = self._lite.is_proven(self._path)
            if self._is_proven and self.security is None:  # a check of ours was answered: it has measured, too
                self._begin_from_round_trip(now)
        self._take_carried(now)  # behind the events: DTLS listens once a path is validated
        selected = self._ice.selected_path
        if selected is not None and (self._routes or selected is not self._path):
            self._routes.append(selected)  # after the others: the endpoint keeps the paths that were bound last
        if selected is not None and selected is not self._path:
            self._path = selected
            if self._media is not None:
                self._media.move(selected)
            if self.is_paused:
                self._resume(selected)
            self._judge_path(self._lite, selected, now)
        self._arm(SessionTimer.ICE, self._ice.poll_timeout())

    def _take_carried(self, now: Instant) -> None:
        """Let DTLS answer what a check has brought, and ICE then respond: the answer goes into the response."""
        arrived = self._carrier.take_arrived()
        if not arrived:
            return
        self._dtls_touched = True
        self._step(DTLS_BEGUN, now)
        self._dtls.set_mtu(MAX_DATAGRAM)
        try:
            for data in arrived:
                self._dtls.handle_datagrams((data,), now)
            self._note_answered()
        finally:  # a bug costs its datagram, not the response
            flight = self._dtls.drain_transmits()
            if flight:
                self._carrier.set_pending(flight)
            self._ice.release(now)
            self._take_from_ice()
        if self._path is not None:
            self._send_datagrams([each for each in flight if not self._carrier.is_delivered(each)])

    def _send_datagrams(self, datagrams: Iterable[bytes]) -> None:
        """Send datagrams of DTLS on the selected path."""
        assert self._path is not None
        transmits = [Transmit(data, self._path) for data in datagrams]
        if not self._is_proven:
            left = _ROOM_FOR_CHECKS if self._lite is not None and self._lite.can_ask else 0
            all_of_it, transmits = transmits, self._within_allowance(transmits, left, in_order=True)
            self._flight_waits |= len(transmits) < len(all_of_it)
        if self._carrier.is_active:
            self._carrier.note_sent([each.data for each in transmits])
        for transmit in transmits:
            self.sent.note(transmit.data)
            self._transmits.append(transmit)
        if self.security is None and len(self._shown_to) < 2:
            self._shown_to.add(self._path)

    def _take_from_ice(self) -> None:
        transmits: Iterable[Transmit] = self._ice.drain_transmits()
        if self._lite is not None:
            proven = [each for each in transmits if self._lite.is_proven(each.path)]
            others = [each for each in transmits if not self._lite.is_proven(each.path)]
            transmits = (*proven, *self._within_allowance(others))
        self._transmits.extend(transmits)

    def _judge_path(self, agent: LiteAgent | None, path: Path, now: Instant) -> None:
        """Find out whether the peer is known to be at the end of the selected path; ask it, in a call that is
        up."""
        if agent is None:
            return
        self._is_proven = agent.is_proven(path)
        if self._is_proven or self.security is None:
            return
        if agent.prove(path, now):
            self._allowance.limit(self.received.octets)
            self._take_from_ice()
            self._arm(SessionTimer.ICE, agent.poll_timeout())

    def _ask_for_room(self, now: Instant) -> None:
        """A flight was lost, or had no room, on a path that is not proven: ask the peer by a check if it is there.

        What had no room is sent again when it has answered.
        """
        if self._is_proven:
            self._flight_waits = False
            self._dtls.send_again(now)
            self._move_dtls(now)
            return
        if (
            self._lite is None
            or self._path is None
            or self._allowance.room(self.received.octets) < _PLAIN_RESPONSE
        ):
            return
        if self._lite.prove(self._path, now, again=True):
            self._take_from_ice()
            self._arm(SessionTimer.ICE, self._lite.poll_timeout())

    def _note_answered(self) -> None:
        """A record came under keys of the handshake: its sender has our part of it, and was there where that went.

        Nothing follows from it where that went to two places.
        """
        if self._is_proven or self._lite is None or not self._dtls.protected_records or self._path is None:
            return
        if self._carrier.peer_supports and self._lite.first_path is not None:  # responses held it, too
            self._shown_to.add(self._lite.first_path)
        if len(self._shown_to) == 1:
            self._lite.note_proven(next(iter(self._shown_to)))
            self._is_proven = self._lite.is_proven(self._path)

    def _end_early(self) -> None:
        """The peer has been spoken to for long enough before it has proved who it is: what is said waits for
        that."""
        if not self._is_early_over:
            self._is_early_over = True
            self._hold_media()
            self._events.append(MediaHeld(True))

    def _within_allowance(
        self, transmits: Iterable[Transmit], left: int = 0, *, in_order: bool = False
    ) -> list[Transmit]:
        """Return what may be sent to a path that is not proven, so that `left` bytes are left.

        `in_order`: nothing that follows what may not.
        """
        kept: list[Transmit] = []
        is_over = False
        for transmit in transmits:
            size = len(transmit.data)
            if not is_over and size + left <= self._allowance.room(self.received.octets):
                self._allowance.note_sent(size)
                kept.append(transmit)
            else:
                is_over = in_order
                self.counters.add(counted.DROPPED_UNPROVEN)
        return kept

    def _arm(self, slot: SessionTimer, at: Instant | None) -> None:
        if self.state is not _ENDED:
            self._timers.set(slot, at)

    def _on_ice(self, event: IceEvent, now: Instant) -> None:
        if isinstance(event, PathValidated):
            self._routes.append(event.path)
            self._step(ICE_VALIDATED, now)
            if self.state is State.CHECKING:
                self._path = self._path or event.path
                self.state = State.HANDSHAKING
                self._begin_from_round_trip(now)  # a lite agent does not know it yet
                if self._dtls.state is DtlsEndpointState.NEW:  # else a check has brought its ClientHello before
                    self._dtls.start(now)
                self._take_what_came_before(event.path, now)
                self._send_early_flight(now)
                if self.security is not None:
                    self._open(now)
        elif isinstance(event, PathSelected):
            self._step(ICE_SELECTED, now)
        elif isinstance(event, ConsentLost):
            self._pause(now)
        elif isinstance(event, ConsentExpired):
            reason = EndReason.CONSENT_UNANSWERED if event.still_receiving else EndReason.CONSENT_EXPIRED
            if isinstance(self._ice, IceAgent) and self._resume_timeout > 0 and self.state is _CONNECTED:
                self._lost = reason  # a full agent goes on when the peer restarts ICE
                self._timers.set(SessionTimer.RESUME, now + self._resume_timeout)
                self._pause(now)
            else:
                self._end(reason)
        elif isinstance(event, IceFailed):
            self._end(EndReason.ICE_FAILED, str(event.reason))

    def _take_what_came_before(self, validated: Path, now: Instant) -> None:
        """A peer whose check has succeeded begins at once: what it sent may be here before the answer to ours."""
        waiting = list(self._before_ice)
        self._before_ice.clear()
        for data, path in waiting:
            if path == validated:
                self._take_dtls(data, path, now)
            else:
                self.counters.add(counted.DROPPED_DTLS_BEFORE_ICE)

    def _begin_from_round_trip(self, now: Instant) -> None:
        """Let the first timers of DTLS and SCTP follow from the round trip that ICE has seen."""
        round_trip = self._ice.round_trip_time
        if round_trip is not None:
            self._dtls.set_initial_timeout(_dtls_timeout(round_trip))
            if self._channels is not None:
                self._channels.set_rtt_hint(round_trip, now)

    def _pause(self, now: Instant) -> None:
        """Consent is lost: nothing is sent, and the peer is waited for."""
        self._path = None
        if self.state is not _CONNECTED:
            self._end(EndReason.CONSENT_EXPIRED)
            return
        self.is_paused = True
        self._hold_media()
        self._events.append(ConnectionPaused(self._resume_timeout))

    def _resume(self, path: Path) -> None:
        """The peer is back."""
        self.is_paused = False
        self._timers.clear(SessionTimer.RESUME)
        self._hold_media()
        self._events.append(ConnectionResumed(path))

    def _send_early_flight(self, now: Instant) -> None:
        """There is a path: what the checks have not delivered of our first flight goes out by itself."""
        self._dtls.restart_timer(now)
        self._send_datagrams(self._carrier.undelivered)

    def _move_dtls(self, now: Instant) -> None:
        self._dtls_touched = False
        if self.security is None:
            self._send_dtls()  # a flight, before `complete` is said of the last one
        elif self._carrier.is_ending and self._dtls.is_flight_acknowledged:
            self._carrier.end()
        for event in self._dtls.drain_events():
            if isinstance(event, HandshakeComplete):
                self._on_handshake(event, now)
            elif isinstance(event, ApplicationData):
                self._packets.append(event.data)
            elif isinstance(event, PeerClosed):
                self._end(EndReason.PEER_CLOSED)
            elif isinstance(event, DtlsFailed):
                mismatch = event.reason is DtlsFailure.FINGERPRINT_MISMATCH
                reason = EndReason.FINGERPRINT_MISMATCH if mismatch else EndReason.DTLS_FAILED
                if event.remote and event.alert == AlertDescription.INTERNAL_ERROR and self.security is not None:
                    reason = EndReason.WORKER_FAILED
                self._end(reason, str(event))
        self._send_dtls()
        if self._send_early and self.state is State.HANDSHAKING and self._dtls.can_send:
            if self._carrier.is_libwebrtc:
                self._timers.set_default(SessionTimer.OPEN, now)  # once the flight has left
            else:
                self._open_early(now)

    def _open_early(self, now: Instant) -> None:
        """RFC 8446 §4.4.4: a server may send right after its Finished."""
        self._open(now)
        if self.state is _CONNECTED:
            self._timers.set(SessionTimer.EARLY, now + MAX_EARLY)

    def _send_dtls(self, *, is_handshake: bool = True) -> None:
        datagrams = self._dtls.drain_transmits()
        if datagrams and is_handshake and self.security is None:
            self._carrier.set_pending(datagrams)
        if self._path is None:  # a flight waits in the checks
            if self.is_paused:  # SCTP sends its packets again
                self.counters.add(counted.DROPPED_WHILE_PAUSED, len(datagrams))
            return
        self._send_datagrams(datagrams)
        self._arm(SessionTimer.DTLS, self._dtls.poll_timeout())

    def _on_handshake(self, event: HandshakeComplete, now: Instant) -> None:
        """The peer has proved who it is: what it sends counts from now on."""
        if self.state is _ENDED:
            return
        self.security = event
        self._flight_waits = False
        self._note_answered()
        if self._lite is not None and self._path is not None:
            self._judge_path(self._lite, self._path, now)
        ours_is_last = (self._dtls.role is DtlsRole.CLIENT) == (event.version is Version.DTLS_1_3)
        self._carrier.complete(ours_is_last=ours_is_last)
        self._timers.clear(SessionTimer.SETUP)
        self._timers.clear(SessionTimer.EARLY)
        self._timers.clear(SessionTimer.OPEN)
        self._step(DTLS_CONNECTED, now)
        if self.state is _CONNECTED:
            if self._is_early_over:
                self._is_early_over = False
                self._hold_media()
                self._events.append(MediaHeld(False))
            self._events.append(Authenticated())
        elif self._path is not None:  # else checks alone have carried the handshake, and none of ours was answered
            self._open(now)

    def _open(self, now: Instant) -> None:
        """There are keys: media and data may be sent."""
        dtls = self._dtls
        profile = dtls.srtp_profile
        assert self._path is not None
        assert dtls.version is not None
        assert dtls.cipher_suite is not None
        assert dtls.group is not None
        if self._media is not None and profile is not None:
            material = self._dtls.export_keying_material(_EXPORTER_LABEL, None, keying_material_length(profile))
            is_client = self.parameters.negotiation.dtls_role is DtlsRole.CLIENT
            self._media.install(
                MediaKeys(profile, *split_keying_material(profile, material, is_client)), self._path
            )
        elif self._media is not None:
            self._end(EndReason.DTLS_FAILED, "the peer agreed to no SRTP profile")
            return
        self.state = _CONNECTED
        self._step(KEYS_READY, now)
        self._events.append(
            Connected(
                self._path,
                dtls.version.label,
                dtls.cipher_suite.name,
                dtls.group.name,
                profile.name if profile is not None else None,
                dict(self.steps),
                self.security is not None,
            )
        )
        if self._channels is not None:
            self._start_channels(self._channels, now)

    def _start_channels(self, channels: DataChannels, now: Instant) -> None:
        """Set the association up: without a handshake where both descriptions showed an INIT."""
        agreed = self.parameters.negotiation.data
        if agreed is not None and agreed.remote_sctp_init is not None:
            try:
                channels.establish(agreed.remote_sctp_init, now)
                return
            except ParseError:
                self.counters.add(counted.REFUSED_SCTP_INIT)
        channels.start(now)

    def _move_channels(self, now: Instant) -> None:
        if self._channels is None:
            if self._packets:
                self.counters.add(counted.DROPPED_UNWANTED_DATA, len(self._packets))
                self._packets.clear()
            return
        if self._packets:
            waiting = iter(self._packets)
            try:
                self._channels.handle_datagrams(waiting, now)
            finally:
                self._packets = list(waiting)  # a bug costs one packet, not those behind it
        if self.state is _CONNECTED:
            packets = self._channels.drain_transmits()
            for packet in packets:
                self._dtls.send(packet, now)
            if packets:
                # Beside a flight that may be lost, and must not take its place in the checks.
                self._send_dtls(is_handshake=False)
        events = self._channels.drain_events()
        if events and CHANNEL_OPEN not in self.steps:
            for event in events:
                if isinstance(event, AssociationUp):
                    self._step(ASSOCIATION_UP, now)
                elif isinstance(event, ChannelOpened):
                    self._step(CHANNEL_OPEN, now)
        self._events.extend(events)
        self._arm(SessionTimer.SCTP, self._channels.poll_timeout())

    def _move_media(self, now: Instant) -> None:
        media, self._media_touched = self._media, False
        if media is None:
            return
        events = media.drain_events()
        if events:
            if FIRST_PACKET not in self.steps and not all(isinstance(event, _OF_OURS) for event in events):
                self._step(FIRST_PACKET, now)
            self._events.extend(events)
        if self.state is _ENDED:
            return
        transmits = media.drain_transmits()
        if transmits and not self._is_proven and not self.is_paused:
            transmits = self._within_allowance(transmits, 0 if self.security else _ROOM_FOR_CHECKS)
            if self.security is None and self._allowance.room(self.received.octets) < _ROOM_FOR_SOUND:
                self._end_early()
        if transmits and self.is_paused:
            self.counters.add(counted.DROPPED_WHILE_PAUSED, len(transmits))
        elif transmits:
            if FIRST_SENT not in self.steps and any(classify(data) is _RTP for data, _ in transmits):
                self._step(FIRST_SENT, now)
            self.sent.packets += len(transmits)
            for data, _ in transmits:
                self.sent.octets += len(data)
            self._transmits.extend(transmits)
        if self.state is _CONNECTED:
            self._timers.set(_MEDIA, media.poll_timeout())

    def _step(self, name: str, now: Instant) -> None:
        if name not in self.steps:
            self.steps[name] = round((now - self._began) * 1000, 3)

    def _end(self, reason: EndReason, detail: str = "") -> None:
        """It is over; the pump says so when it has handed up what came before."""
        if self.state is _ENDED:
            return
        self.state = _ENDED
        self._timers.clear_all()
        self._last_word = Ended(reason, detail)
