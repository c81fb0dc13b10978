"""A conversation: the machine around a `Session` in which sound is heard and spoken.

    session -> RTP events -> receive (order, decode, conceal) -> Heard, and the floor (speech, turns, barge-in)
    write   -> mouth (queue, pace, encode) -> session

Commands are for the program (`write`, `begin_reply` …) and for the client on its `events` channel (`client.py`).
What the session says is handed up unchanged, but for media; before its end comes all that was heard before, and
after it nothing. Long, because every command of a call stands here;
what each one does stands in the part that does it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, ClassVar

from stack.audio import (
    ArrivalReceiver,
    AudioFrame,
    ClockReceiver,
    Lateness,
    Pcm,
    Receiver,
    Resampler,
    make_receiver,
)
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy, Instant, Path, TerminalEvents, Transmit
from stack.core.serial import SERIAL32
from stack.core.timers import Timers, earliest
from stack.core.trace import Counters
from stack.dtls import Certificate
from stack.rtp import ByeReceived, DtmfReceived, PacketReceived, RtpSession, SourceChanged
from stack.sctp import ChannelClosed, ChannelId, ChannelOpened, Channels, MessageReceived
from stack.session import Connected, Ended, EndReason, MediaReceived, Session, SessionEvent, SessionParameters
from stack.voice.barge_in import Listener
from stack.voice.client import (
    EVENTS_CHANNEL,
    announce,
    read_audible,
    read_playout_delay,
    read_request,
    read_silenced,
    read_turn_settings,
    to_json,
)
from stack.voice.config import ConversationConfig, make_canceller, make_decoder, make_detector
from stack.voice.events import ConversationEvent, Heard, KeyPressed, PeerLeft, SpeakerDrained
from stack.voice.floor import Floor
from stack.voice.mouth import Manner, Mouth
from stack.voice.recording import Tap
from stack.voice.statistics import CallStatistics, describe_call
from stack.voice.turns import TurnMode, TurnSettings
from stack.voice.vad import DETECTOR_RATE

TICK = 0.020
"""Seconds between two frames of the clock discipline."""
_REPAIR_MARGIN = 0.020
MAX_UNPLAYED = 1.0
"""Seconds after its last packet has left for which sound may still be on its way to the listener's ear."""
UNKNOWN_WAY = 0.05
"""Seconds that a packet takes to the peer, where nothing has been measured yet."""
_UNEVEN = 0.06  # seconds that a jitter buffer and a sound device keep now and then beyond their mean
MAX_EARLY = 64
"""Messages that wait for the client's `events` channel to open; what is told beyond them is dropped."""


class _Timer(Enum):
    TICK = "the next frame of the clock discipline"
    PLAYED = "the peer has played what was said"


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
    ) -> None:
        self.session = Session(
            parameters, certificate, entropy, now, wall_clock=wall_clock, dtls_version=config.dtls_version
        )
        self.counters = Counters()
        self.tap: Tap | None = None
        """Who is shown all that is heard, said and reported."""
        self._now = now  # of the latest input
        self._config = config
        self._events: list[ConversationEvent] = []
        self._waiting: deque[SessionEvent] = deque()  # said by the session, not dealt with yet
        self._has_ended = False
        self._timers: Timers[_Timer] = Timers()
        self._receiver: Receiver | None = None
        self._mouth: Mouth | None = None
        self._floor: Floor | None = None
        self._to_detector: Resampler | None = None
        self._client_channel: ChannelId | None = None
        self._early: list[dict[str, Any]] | None = []  # told before the client's channel was there; None: it was
        self._listening = False
        self._unread = 0  # bytes of messages that the program has not taken
        self._writes = 0
        self._drained_writes = 0
        self._sent_sequence = -1
        self._tick_due: Instant = 0.0
        self._reported_at: Instant | None = None
        audio, received = parameters.negotiation.audio, parameters.negotiation.received_audio
        if audio is not None and received is not None:
            self._payload_type = received.payload_type
            codec = received.codec.lower()
            self._receiver = make_receiver(make_decoder(codec, config.microphone_rate), config.discipline)
            self._mouth = Mouth(
                Manner.agree(
                    audio, config.bitrate, config.complexity, config.application, config.channels, config.dtx
                )
            )
            listener = Listener(config.turns, make_detector(config.detector), make_canceller(config.echo))
            self._floor = Floor(self._mouth, listener, config.turns)
            if config.microphone_rate != DETECTOR_RATE:
                self._to_detector = Resampler(config.microphone_rate, DETECTOR_RATE, causal=True)

    # -- commands: speaking --------------------------------------------------------------------------------

    def write(self, pcm: Pcm, sample_rate: int, now: Instant) -> None:
        """Say something outside of any reply; see `PlayoutQueue.write`. Without an audio section it is dropped."""
        self._writes += 1
        if self._mouth is None:
            self._drained_writes = self._writes
            self._events.append(SpeakerDrained(self._writes))
            return
        self._mouth.write(pcm, sample_rate, now)
        self._speak(now)

    def flush_speaker(self, now: Instant) -> None:
        """Fall silent at once: a reply is dropped, and whatever else waits to be said."""
        if self._floor is not None and self._mouth is not None:
            self._floor.interrupt(now)
            self._mouth.drop(now)
            self._note_queue(now)

    def begin_reply(self, now: Instant) -> int:
        """Open a reply and return its number; `LocalError` while another is being spoken or without audio."""
        self._listening = True
        return self._required_floor.begin_reply(now)

    def write_reply(self, number: int, pcm: Pcm, sample_rate: int, now: Instant) -> float | None:
        """Say more of a reply; return how many seconds wait to be said, or None if the reply was dropped."""
        assert self._mouth is not None
        self._writes += 1
        if not self._required_floor.note_written(number, now):
            self._note_queue(now)
            return None
        self._mouth.write(pcm, sample_rate, now)
        self._speak(now)
        return self._mouth.queued

    def end_reply(self, number: int, now: Instant) -> None:
        """A reply is written whole."""
        self._required_floor.end_reply(number, now)
        self._gather(now)

    def cancel_reply(self, number: int, now: Instant) -> None:
        """Drop a reply, if it is still being spoken."""
        self._required_floor.cancel_reply(number, now)
        self._note_queue(now)

    def queued(self, number: int) -> float | None:
        """Return how many seconds of a reply wait to be said; None if it was dropped or is over."""
        if self._floor is None or self._mouth is None or self._floor.reply != number:
            return None
        return self._mouth.queued

    def interrupt(self, now: Instant) -> bool:
        """Drop the reply that is being spoken; False if there is none."""
        dropped = self._floor is not None and self._floor.interrupt(now)
        self._note_queue(now)
        return dropped

    def send_digits(self, digits: str, now: Instant) -> None:
        """Press keys (0–9 * # A–D): what is being said gives way to them.

        Raises `LocalError` for other characters, and if telephone events were not negotiated.
        """
        if self.session.rtp is None:
            raise LocalError("no audio was negotiated")
        self.session.rtp.send_dtmf(digits, now)
        self._flush(now)

    def hang_up(self, now: Instant) -> None:
        """End the call in an orderly way."""
        self.session.close(now)
        self._collect(now)

    # -- commands: listening -------------------------------------------------------------------------------

    def listen(self) -> None:
        """Begin to tell speech from silence and to take turns: it costs CPU, so nobody pays who does not ask.

        A reply, or a client that opens its `events` channel, asks by itself.
        """
        self._listening = True

    def report_pieces(self) -> None:
        """Report each turn in pieces while it is being said: `UtterancePiece`, for somebody who transcribes."""
        if self._floor is not None:
            self._floor.in_pieces = True

    def note_transcript(self, text: str, now: Instant, completeness: float | None = None) -> None:
        """What the person has said in this turn so far; see `Floor.note_transcript`."""
        if self._floor is not None:
            self._floor.note_transcript(text, now, completeness)
            self._gather(now)

    def report_pauses(self, wanted: bool, now: Instant) -> None:
        """Ask whether a pause is the end of the turn: `TurnPaused`; see `Floor.report_pauses`."""
        if self._floor is not None:
            self._floor.report_pauses(wanted, now)
            self._gather(now)

    def note_end_of_turn(self, number: int, wait: float, now: Instant) -> None:
        """The answer to `TurnPaused`; see `Floor.note_end_of_turn`. One that comes too late is counted."""
        if self._floor is not None:
            if not self._floor.note_end_of_turn(number, wait, now):
                self.counters.add("end_of_turn_answered_late")
            self._gather(now)

    @property
    def turn_settings(self) -> TurnSettings:
        """The rules of turn-taking in force."""
        return self._floor.settings if self._floor is not None else self._config.turns

    def configure_turns(self, settings: TurnSettings, now: Instant) -> None:
        """Change the rules of turn-taking."""
        if self._floor is not None:
            self._floor.configure(settings, now)
            self._gather(now)

    def push_to_talk(self, pressed: bool, now: Instant) -> None:
        """The key went down or up (`manual` mode)."""
        if self._floor is not None:
            self._floor.push_to_talk(pressed, now)
            self._gather(now)

    def open_utterance(self) -> None:
        """Collect what is heard from now on, until `commit_utterance`: for clients that end turns by hand."""
        self._listening = True
        if self._floor is not None:
            self._floor.open_utterance()

    def commit_utterance(self, now: Instant) -> bool:
        """The person's turn is over, whatever the detectors think; False if there is nothing in it."""
        if self._floor is None:
            return False
        committed = self._floor.commit(now)
        self._gather(now)
        return committed

    def clear_utterance(self, now: Instant) -> None:
        """Forget what the person has said in this turn."""
        if self._floor is not None:
            self._floor.clear(now)
            self._gather(now)

    # -- commands: data ------------------------------------------------------------------------------------

    def open_channel(
        self,
        label: str,
        now: Instant,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_lifetime_ms: int | None = None,
        negotiated_id: int | None = None,
    ) -> ChannelId:
        """Open a data channel; `LocalError` if none were negotiated; see `stack.sctp.Channels.open`."""
        channel = self._channels.open(
            label,
            now,
            protocol=protocol,
            ordered=ordered,
            max_retransmits=max_retransmits,
            max_lifetime_ms=max_lifetime_ms,
            negotiated_id=negotiated_id,
        )
        self._flush(now)
        return channel

    def send_message(self, channel: ChannelId, data: str | bytes, now: Instant, *, low_threshold: int = 0) -> int:
        """Send on a channel; return how many bytes wait on it. `BufferedAmountLow` tells of `low_threshold`."""
        self._channels.set_low_threshold(channel, low_threshold)
        self._channels.send(channel, data, now)
        self._flush(now)
        return self._channels.buffered_amount(channel)

    def tell(self, message: dict[str, Any], now: Instant) -> None:
        """Send a JSON message on the client's `events` channel; counted and dropped for a client that has none.

        A program greets as soon as there is sound, and the channel opens a little later: what is told until then,
        `MAX_EARLY` messages, waits for it.
        """
        if self._client_channel is None or not self.session.is_connected:
            if self._early is not None and len(self._early) < MAX_EARLY:
                self._early.append(message)
            else:
                self.counters.add("announcement_without_client")
            return
        try:
            self._channels.send(self._client_channel, to_json(message), now)
        except LocalError:
            self.counters.add("announcement_not_sent")
        self._flush(now)

    def close_channel(self, channel: ChannelId, now: Instant) -> None:
        """Close a channel when all that was sent on it has left."""
        self._channels.close_channel(channel, now)
        self._flush(now)

    def note_read(self, size: int, now: Instant) -> None:
        """The program has read so many bytes of messages: the receive window may open again."""
        self._unread = max(0, self._unread - size)
        if not self.session.is_finished:
            self._channels.set_unread(self._unread, now)
            self._flush(now)

    @property
    def _channels(self) -> Channels:
        if self.session.channels is None:
            raise LocalError("no data channels were negotiated")
        return self.session.channels

    @property
    def _required_floor(self) -> Floor:
        if self._floor is None:
            raise LocalError("no audio was negotiated")
        return self._floor

    def _flush(self, now: Instant) -> None:
        self.session.flush(now)
        self._collect(now)

    # -- what is known -------------------------------------------------------------------------------------

    def stats(self, now: Instant) -> CallStatistics:
        """Return a snapshot of the call's statistics."""
        return describe_call(self.session, self._receiver, self.counters, now)

    @property
    def lateness(self) -> Lateness | None:
        """How late the frames left that we sent; None before the first."""
        return self._mouth.lateness if self._mouth is not None else None

    # -- the machine ---------------------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram from the network."""
        self.handle_datagrams(((data, path),), now)

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together."""
        self.session.handle_datagrams(batch, now)
        self._collect(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self.session.handle_timeout(now)
        self._collect(now)
        if self._has_ended:
            return
        if isinstance(self._receiver, ArrivalReceiver):
            self._hear(self._receiver.handle_timeout(now), now)
        for timer in self._timers.pop_due(now):
            if timer is _Timer.TICK and isinstance(self._receiver, ClockReceiver):
                self._timers.set(_Timer.TICK, self._next_tick(now))
                self._hear([self._receiver.tick(now)], now)
        if self._floor is not None and self.session.is_connected:
            self._floor.handle_timeout(now)
        self._speak(now)
        self._gather(now)

    def poll_timeout(self) -> Instant | None:
        """Return the earliest deadline."""
        if not self.session.is_connected:
            return self.session.poll_timeout()
        return earliest(
            self.session.poll_timeout(),
            self._timers.next,
            self._receiver.poll_timeout() if isinstance(self._receiver, ArrivalReceiver) else None,
            self._floor.poll_timeout() if self._floor is not None else None,
            self._mouth.poll_timeout() if self._mouth is not None else None,
        )

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent since the last call."""
        return self.session.drain_transmits()

    def drain_events(self) -> Sequence[ConversationEvent]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        if self.tap is not None:
            for event in events:
                self.tap.event(event, self._now)
        return events

    def drain_routes(self) -> Sequence[Path]:
        """Return the paths proven since the last call."""
        return self.session.drain_routes()

    @property
    def is_finished(self) -> bool:
        """True once the session is over and everything was drained."""
        return self.session.is_finished and not self._waiting and not self._events

    # -- what the session says -----------------------------------------------------------------------------

    def _collect(self, now: Instant) -> None:
        self._waiting.extend(self.session.drain_events())
        while self._waiting:  # one by one: a bug costs one event, not those behind it
            event = self._waiting.popleft()
            if isinstance(event, MediaReceived):
                self._on_media(event, now)
            elif isinstance(event, Ended):
                self._end(event, now)
            elif not (isinstance(event, MessageReceived) and self._on_message(event, now)):
                self._report(event)
                self._on_session(event, now)
            self._waiting.extend(self.session.drain_events())
        self._note_reports(now)
        self._gather(now)

    def _report(self, event: ConversationEvent) -> None:
        if not self._has_ended:
            self._events.append(event)

    def _end(self, event: Ended, now: Instant) -> None:
        """Hand up what was heard and not reported yet, then the end."""
        try:
            if self._receiver is not None:
                self._hear(self._receiver.finish(now), now)
            self._gather(now)
            if self._floor is not None:
                heard_by: Instant | None = now
                if event.reason is EndReason.CONSENT_EXPIRED:
                    heard_by = None
                elif event.reason is not EndReason.HUNG_UP:
                    # The peer fell silent when its last datagram left: it heard what left a round trip before.
                    heard_by = now - 2 * self._way
                self._floor.end(heard_by, now)
                for said in self._floor.drain_events():
                    self._report(said)
        finally:
            self._report(event)
            self._has_ended = True
            self._timers.clear_all()

    def _on_session(self, event: SessionEvent, now: Instant) -> None:
        if isinstance(event, Connected):
            if isinstance(self._receiver, ClockReceiver):
                self._tick_due = now
                self._timers.set(_Timer.TICK, self._next_tick(now))
            self._speak(now)
        elif isinstance(event, ChannelOpened):
            if event.label == EVENTS_CHANNEL and event.by_peer:
                self._client_channel = event.channel
                self._listening = True
                early, self._early = self._early or [], None
                for message in early:
                    self.tell(message, now)
        elif isinstance(event, ChannelClosed) and event.channel == self._client_channel:
            self._client_channel = None
            if self._floor is not None:
                self._floor.forget_client(now)

    def _on_media(self, media: MediaReceived, now: Instant) -> None:
        event, receiver = media.event, self._receiver
        if receiver is None or self._floor is None:
            return
        if isinstance(event, PacketReceived):
            if event.payload and event.payload_type != self._payload_type:
                self.counters.add("dropped_other_payload_type")
                return
            frames = receiver.insert(
                event.payload, event.sequence, event.timestamp, event.arrival, event.recovered
            )
            level = event.audio_level.level if event.audio_level is not None else None
            self._hear(frames, now, level)
        elif isinstance(event, SourceChanged):
            self._hear_rest(receiver, now)
            receiver.reset()
            self._floor.forget_source(now)
        elif isinstance(event, ByeReceived):
            self._hear_rest(receiver, now)
            self._report(PeerLeft())
        elif isinstance(event, DtmfReceived):
            self._report(KeyPressed(event.digit))

    def _hear_rest(self, receiver: Receiver, now: Instant) -> None:
        """What waits behind a gap waits in vain, as its source has gone. The clock discipline keeps its beat."""
        if isinstance(receiver, ArrivalReceiver):
            self._hear(receiver.finish(now), now)

    def _hear(self, frames: Sequence[AudioFrame], now: Instant, audio_level: int | None = None) -> None:
        for frame in frames:
            self._report(Heard(frame))
            if not self._listening or self._floor is None or self._floor.settings.mode is TurnMode.FULL_DUPLEX:
                continue
            if self._to_detector is not None:
                samples = self._to_detector.process(frame.samples)
                frame = AudioFrame(samples, DETECTOR_RATE, frame.media_time, frame.concealed)
            self._floor.hear(frame, now, audio_level if len(frames) == 1 else None)

    def _next_tick(self, now: Instant) -> Instant:
        """The grid of ticks does not drift; whoever comes very late starts a new one."""
        due = self._tick_due + TICK
        self._tick_due = due if due > now - 5 * TICK else now + TICK
        return self._tick_due

    def _note_reports(self, now: Instant) -> None:
        """Let what the peer reports of our sound steer the encoder, the waiting and what we believe it heard."""
        rtp = self.session.rtp
        if rtp is None or self._mouth is None:
            return
        view = rtp.remote_view
        if view is not None and view.at != self._reported_at:
            self._reported_at = view.at
            self._mouth.acknowledged(view.extended_highest_sequence, now, rtp.round_trip_time or 0.0)
            self._mouth.note_loss(rtp.reported_loss(now), now)
        if isinstance(self._receiver, ArrivalReceiver):
            self._set_repair(self._receiver, rtp)

    def _set_repair(self, receiver: ArrivalReceiver, rtp: RtpSession) -> None:
        rtt = self.session.round_trip_time
        receiver.buffer.repair_wait = 0.0 if not rtp.config.nack or rtt is None else rtt + _REPAIR_MARGIN
        receiver.buffer.red_depth = rtp.received_red_depth

    # -- speaking ------------------------------------------------------------------------------------------

    def _speak(self, now: Instant) -> None:
        """Send every frame that is due."""
        mouth, rtp = self._mouth, self.session.rtp
        if mouth is None or rtp is None or not self.session.is_connected:
            return
        for frame in mouth.frames(now):
            if frame.payload and not self.session.may_send_media:  # on hold: time passes, nothing is sent
                rtp.skip(frame.skipped + frame.ticks)
            elif frame.payload:
                self._sent_sequence = self.session.send_media(
                    frame.payload, frame.ticks, now, skipped=frame.skipped, marker=frame.marker
                )
            mouth.note_sent(frame, self._sent_sequence, SERIAL32.add(rtp.timestamp, -frame.ticks), now)
            if self.tap is not None:
                self.tap.sent(frame, mouth.sample_rate, now)
            if self._floor is not None and self._listening:
                self._floor.note_sent(frame, now)
        self._note_queue(now)

    def _note_queue(self, now: Instant) -> None:
        if self._floor is not None:
            self._floor.note_queue(now)
        self._gather(now)

    def _note_drained(self, now: Instant) -> None:
        """Say that all that was written has been played, or be woken when it will have been."""
        if self._mouth is None or self._writes == self._drained_writes or self._mouth.queued > 0:
            return
        at = self._played_at(now)
        if at > now:
            self._timers.set(_Timer.PLAYED, at)
        else:
            self._timers.clear(_Timer.PLAYED)
            self._drained_writes = self._writes
            self._report(SpeakerDrained(self._writes))

    def _played_at(self, now: Instant) -> Instant:
        """When the last of what has left will have been played, by what the client tells and what is measured."""
        if self._mouth is None or self._floor is None or self._mouth.last_ends is None:
            return now
        view = self.session.rtp.remote_view if self.session.rtp is not None else None
        jitter = view.jitter if view is not None else 0.0
        late = self._way + self._floor.playout_delay + 2 * jitter + _UNEVEN
        return self._mouth.last_ends + min(late, MAX_UNPLAYED)

    @property
    def _way(self) -> float:
        """Seconds that a packet takes to the peer."""
        round_trip = self.session.round_trip_time
        return UNKNOWN_WAY if round_trip is None else round_trip / 2

    # -- the client ----------------------------------------------------------------------------------------

    def _gather(self, now: Instant) -> None:
        """Hand up what the floor says, and tell the client in the same call."""
        self._now = now
        if self._floor is None:
            return
        events = self._floor.drain_events()
        if self._has_ended:
            return
        self._note_drained(now)
        for event in events:
            self._report(event)
            message = announce(event)
            if message is not None and self._client_channel is not None:
                self.tell(message, now)

    def _on_message(self, event: MessageReceived, now: Instant) -> bool:
        """Do what the client asks for; True if it was for us. What is not waits for the program to read it."""
        if event.channel == self._client_channel and self._obey(event.data, now):
            return True
        self._unread += len(event.data)
        self._channels.set_unread(self._unread, now)
        self.session.flush(now)
        return False

    def _obey(self, data: str | bytes, now: Instant) -> bool:
        if self._floor is None:
            return False
        try:
            request = read_request(data)
            match request["type"]:
                case "turn_settings":
                    self._floor.configure(read_turn_settings(request, self._floor.settings), now)
                case "push_to_talk":
                    self._floor.push_to_talk(request.get("pressed") is True, now)
                case "interrupt":
                    self._floor.interrupt(now)
                case "playout_delay":
                    self._floor.playout_delay = read_playout_delay(request)
                case "silenced":
                    if not self._floor.note_silenced(read_silenced(request), now):
                        self.counters.add("client_report_implausible")
                case "audible":
                    self._floor.note_audible(read_audible(request), now)
                case _:
                    return False
        except ParseError:
            self.counters.add("client_request_malformed")
            return False
        return True


__all__ = [
    "Conversation",
    "ConversationConfig",
    "ConversationEvent",
    "Heard",
    "KeyPressed",
    "PeerLeft",
    "SpeakerDrained",
]
