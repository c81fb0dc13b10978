"""A conversation: the thin machine around a `Session` and its audio line. What an endpoint hosts.

    session -> RtpEvent, FrameSent -> audio line -> AudioReceived, speech, turns, replies -> program, client
    command -> audio line -> ScheduledFrame -> session

A program and a dialect speak to it by commands that are values (`commands.py`); the client by its `events` channel
(`client_channel.py`). What the session says is handed up unchanged, but for media; before its end comes all that
was heard before, and after it nothing. After every input one loop, `_settle`, moves what session, line and client
have for each other, until nothing moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, TypeVar

from stack.audio import Lateness
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Address, Entropy, Instant, Path, TerminalEvents, Transmit
from stack.dtls import Certificate, KeyLog
from stack.ice import Candidate
from stack.rtp import (
    ByeReceived,
    DtmfEnded,
    DtmfReceived,
    PacketReceived,
    ReportReceived,
    RtcpReceived,
    SourceChanged,
)
from stack.sctp import ChannelClosed, ChannelId, ChannelOpened, DataChannels, MessageReceived
from stack.session import (
    Connected,
    ConnectionPaused,
    ConnectionResumed,
    Ended,
    FrameSent,
    MediaHeld,
    Session,
    SessionEvent,
    SessionParameters,
    State,
)
from stack.voice.audio_line import AudioLine
from stack.voice.client import EVENTS_CHANNEL
from stack.voice.client_channel import ClientChannel
from stack.voice.config import ConversationConfig
from stack.voice.events import AudioReceived, ConversationEvent, SpeakerDrained
from stack.voice.recording import Tap
from stack.voice.statistics import CallStatistics, CallTotals, describe_call, total_call
from stack.voice.turns import TurnSettings

DROPPED_ANNOUNCEMENT_NOT_SENT = declare(
    "conversation", "dropped_announcement_not_sent", "Messages that the client's events channel did not take"
)

ResultT_co = TypeVar("ResultT_co", covariant=True)
_MEDIA = (
    PacketReceived,
    FrameSent,
    SourceChanged,
    ByeReceived,
    RtcpReceived,
    ReportReceived,
    DtmfReceived,
    DtmfEnded,
)


class Command(Protocol[ResultT_co]):
    """Something that a conversation is to do; the values are in `commands.py`."""

    def apply(self, conversation: Conversation, now: Instant) -> ResultT_co:
        """Do it. May raise `LocalError`."""
        ...


class Conversation:
    """A machine that an endpoint can host: one person on the line."""

    terminal_events: ClassVar[TerminalEvents] = (Ended,)

    def __init__(
        self,
        parameters: SessionParameters,
        certificate: Certificate,
        config: ConversationConfig,
        entropy: Entropy,
        now: Instant,
        *,
        wall_clock: float = 0.0,
        key_log: KeyLog | None = None,
        offered: Instant | None = None,
    ) -> None:
        self.session = Session(
            parameters,
            certificate,
            entropy,
            now,
            wall_clock=wall_clock,
            dtls_version=config.dtls_version,
            dtls_in_stun=config.dtls_in_stun,
            send_early=config.send_early,
            resume_timeout=config.resume_timeout,
            key_log=key_log,
            offered=offered,
        )
        self.counters = Counters()
        self.line: AudioLine | None = None
        """The audio section; None if none was negotiated."""
        lines = parameters.negotiation.audio_lines
        if lines and self.session.has_media:
            self.line = AudioLine(lines[0], config)
        self.client = ClientChannel(self.counters)
        self._config = config
        self._now = now  # of the latest input
        self._events: list[ConversationEvent] = []
        self._waiting: deque[SessionEvent] = deque()  # said by the session, not dealt with yet
        self._tap: Tap | None = None
        self._unread = 0  # bytes of messages that the program has not taken
        self._unheard_writes = 0
        self._has_ended = False

    # -- commands ------------------------------------------------------------------------------------------

    def handle_command(self, command: Command[ResultT_co], now: Instant) -> ResultT_co:
        """Carry out a command and return what comes of it. Raises `LocalError` as the command says."""
        self._now = now
        if self.line is not None:
            self.line.unsettled = True
        result = command.apply(self, now)
        self._settle(now)
        return result

    def note_failed(self, local: Address, remote: Address | None, now: Instant) -> bool:
        """Note that nothing leaves from an address of ours; True if that is to be acted on."""
        self._now = now
        acted = self.session.note_failed(local, remote, now)
        self._settle(now)
        return acted

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Take a candidate of ours that was found after the start."""
        self._now = now
        self.session.add_local_candidate(candidate, now)
        self._settle(now)

    @property
    def required_line(self) -> AudioLine:
        """The audio section; raises `LocalError` if none was negotiated."""
        if self.line is None:
            raise LocalError("no audio was negotiated")
        return self.line

    @property
    def required_channels(self) -> DataChannels:
        """The data channels; raises `LocalError` if none were negotiated."""
        if self.session.channels is None:
            raise LocalError("no data channels were negotiated")
        return self.session.channels

    def flush_channels(self, now: Instant) -> None:
        """Move what a command to the data channels has produced."""
        self.session.flush(now)

    def write_unheard(self) -> None:
        """Something is said without an audio section: it is dropped, so that none waits for its being played."""
        self._unheard_writes += 1
        if not self._has_ended:
            self._events.append(SpeakerDrained(self._unheard_writes))

    def note_read(self, size: int, now: Instant) -> None:
        """The program has read so many bytes of messages: the receive window may open again."""
        self._unread = max(0, self._unread - size)
        if not self.session.is_finished:
            self.required_channels.set_unread(self._unread, now)
            self.session.flush(now)

    def note_load(self, load: float) -> None:
        """Take how busy the thread is that carries the media, as a share of a core; say it once a second."""
        if self.line is not None:
            self.line.note_load(load)

    # -- what is known -------------------------------------------------------------------------------------

    @property
    def tap(self) -> Tap | None:
        """What is shown all that is heard, said and reported."""
        return self._tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tap = tap
        if self.line is not None:
            self.line.tap = tap

    @property
    def turn_settings(self) -> TurnSettings:
        """The rules of turn-taking in force."""
        return self.line.turn_manager.settings if self.line is not None else self._config.turns

    def stats(self, now: Instant) -> CallStatistics:
        """Return a snapshot of the call's statistics."""
        receiver = self.line.receiver if self.line is not None else None
        return describe_call(self.session, receiver, self.all_counters(), now)

    def totals(self, now: Instant) -> CallTotals:
        """Return what can be added up over calls."""
        return total_call(self.session, self.line.receiver if self.line is not None else None, now)

    def all_counters(self) -> Counters:
        """Return the counters of the conversation, its session and its line."""
        total = self.session.all_counters()
        total.merge(self.counters)
        if self.line is not None:
            total.merge(self.line.all_counters())
        return total

    @property
    def lateness(self) -> Lateness | None:
        """How late the frames left that we sent; None without an audio section."""
        return self.line.lateness if self.line is not None else None

    # -- the machine ---------------------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram from the network."""
        self.handle_datagrams(((data, path),), now)

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together."""
        self._now = now
        self.session.handle_datagrams(batch, now)
        self._settle(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self._now = now
        try:
            self.session.handle_timeout(now)
            if self.line is not None and not self._has_ended:
                due = self.line.timers.next
                if due is not None and due <= now:
                    self.line.handle_timeout(now)
        finally:  # after a bug, too: the end may have come, and then there is no other wake-up
            self._settle(now)

    def poll_timeout(self) -> Instant | None:
        """Return the earliest deadline."""
        at = self.session.poll_timeout()
        line = self.line
        if line is None or self.session.state is not State.CONNECTED:
            return at
        due = line.timers.next
        return due if at is None or (due is not None and due < at) else at

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent since the last call."""
        return self.session.drain_transmits()

    def drain_events(self) -> Sequence[ConversationEvent]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        if self._tap is not None:
            for event in events:
                self._tap.event(event, self._now)
        return events

    def drain_routes(self) -> Sequence[Path]:
        """Return the paths proven since the last call."""
        return self.session.drain_routes()

    @property
    def sources(self) -> Sequence[int]:
        """The SSRCs of the peer's authentic packets."""
        return self.session.sources

    @property
    def is_known_by_records(self) -> bool:
        """True where DTLS alone says that a packet is the peer's."""
        return self.session.is_known_by_records

    @property
    def is_finished(self) -> bool:
        """True once the session is over and everything was drained."""
        return self._has_ended and self.session.is_finished and not self._waiting and not self._events

    # -- from one part to the next -------------------------------------------------------------------------

    def _settle(self, now: Instant) -> None:
        """Move what session, line and client have for each other, until nothing moves."""
        waiting, line = self._waiting, self.line
        waiting.extend(self.session.drain_events())
        while True:
            while waiting:  # one by one: a bug costs one event, not those behind it
                self._on_session(waiting.popleft(), now)
            moved = False
            if line is not None and not self._has_ended:
                moved = self._move_line(line, now)
            if self.client.waiting and self.client.channel is not None:
                self._tell_client(self.client.channel, now)
                moved = True
            if not moved:
                return
            waiting.extend(self.session.drain_events())

    def _move_line(self, line: AudioLine, now: Instant) -> bool:
        """Exchange what line and session have for each other; True if the session was given something."""
        sender, moved = line.sender, False
        if sender.wants_flush:
            sender.note_taken_back(self.session.take_back())
            moved = line.unsettled = True
        if sender.has_work and self.session.state is State.CONNECTED:
            for frame in line.frames(now):
                moved = self.session.schedule(frame, now) or moved
        if line.unsettled or (line.has_sent and not (sender.scheduled and line.turn_manager.current is None)):
            line.settle(now)
        if line.events:
            for event in line.drain_events():
                self._events.append(event)
                if not isinstance(event, AudioReceived):
                    self.client.announce(event)
        return moved

    def _on_session(self, event: SessionEvent, now: Instant) -> None:
        line = self.line
        if isinstance(event, _MEDIA):
            if line is not None and not self._has_ended:
                if isinstance(event, ReportReceived):
                    line.note_round_trip(self.session.round_trip_time)
                line.handle_media(event, now)
        elif isinstance(event, MessageReceived):
            self._on_message(event, now)
        elif isinstance(event, Ended):
            self._end(event, now)
        elif isinstance(event, MediaHeld):
            if line is not None:
                line.sender.set_paused(event.held, now)
        else:
            self._events.append(event)
            if isinstance(event, Connected):
                if line is not None:
                    line.note_round_trip(self.session.round_trip_time)
                    line.start(now)
            elif isinstance(event, ConnectionPaused | ConnectionResumed):
                if line is not None:
                    line.sender.set_paused(isinstance(event, ConnectionPaused), now)
            elif isinstance(event, ChannelOpened):
                if event.label == EVENTS_CHANNEL and event.by_peer:
                    self.client.open(event.channel)
                    if line is not None:
                        line.listening = True
                        self.client.announce_turns(line.turn_manager.settings)
                        self.client.announce_state(line.turn_manager.state)
            elif isinstance(event, ChannelClosed) and event.channel == self.client.channel:
                self.client.close()
                if line is not None:
                    line.turn_manager.forget_client(now)

    def _on_message(self, event: MessageReceived, now: Instant) -> None:
        """Do what the client asks for; any other message waits for the program to read it."""
        if event.channel == self.client.channel and self.line is not None:
            self.line.note_round_trip(self.session.round_trip_time)
            self.line.unsettled = True
            if self.client.handle_message(event.data, self.line, now):
                return
        self._events.append(event)
        self._unread += len(event.data)
        self.required_channels.set_unread(self._unread, now)
        self.session.flush(now)

    def _tell_client(self, channel: ChannelId, now: Instant) -> None:
        for message in self.client.drain():
            try:
                self.required_channels.send(channel, message, now)
            except LocalError:
                self.counters.add(DROPPED_ANNOUNCEMENT_NOT_SENT)
        self.session.flush(now)

    def _end(self, ended: Ended, now: Instant) -> None:
        """Hand up what was heard and not reported yet, then the end; nothing after it."""
        try:
            if self.line is not None:
                self.line.note_round_trip(self.session.round_trip_time)
                self.line.end(ended.reason, now)
                self._events.extend(self.line.drain_events())
        finally:
            self._events.append(ended)
            self._has_ended = True


__all__ = ["Command", "Conversation", "ConversationConfig", "ConversationEvent"]
