"""An audio line: what is heard in one audio section of a call, what is said there, and whose turn it is.

    RtpEvent  -> receiver (order, decode, conceal) -> AudioReceived, turn manager (speech, turns, barge-in)
    write     -> audio sender (queue, pace, encode) -> ScheduledFrame
    FrameSent -> what was heard of a reply, the echo canceller's reference, the recording

A machine without a network: its owner feeds it RTP events, round trips and time, schedules its frames with the
session, and takes back what `wants_flush` says. One audio section is one line; a call has one today.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from stack.core.counters import Counters, declare
from stack.core.machine import Instant
from stack.core.timers import TimerName, Timers
from stack.rtp import (
    ByeReceived,
    DtmfReceived,
    PacketReceived,
    RemoteView,
    ReportReceived,
    RtpEvent,
    SourceChanged,
)
from stack.sdp import AudioLineParameters
from stack.session import EndReason, FrameSent, ScheduledFrame
from stack.voice.audio_sender import AudioSender, SendParameters
from stack.voice.config import (
    ConversationConfig,
    canceller_factory,
    fixed_complexity,
    hearing_factory,
    make_decoder,
)
from stack.voice.events import AudioReceived, KeyPressed, LineEvent, PeerLeft, SpeakerDrained
from stack.voice.recording import Tap
from stack.voice.speech_front_end import SpeechFrontEnd
from stack.voice.turn_manager import TurnManager
from stack.voice.turns import TurnMode
from stack.voice.vad import DETECTOR_RATE

DROPPED_OTHER_PAYLOAD_TYPE = declare(
    "line", "dropped_other_payload_type", "Frames of another payload type than the codec's"
)
PACKETS_NOT_DECODED = declare(
    "line", "packets_not_decoded", "Packets of sound that came while neither program, turns nor recording hear it"
)
COMPLEXITY_LOWERED = declare(
    "line", "complexity_lowered", "Times that the encoder was told to spend less, as the media were busy"
)
COMPLEXITY_RAISED = declare(
    "line", "complexity_raised", "Times that the encoder was told to spend more again, as the media were calm"
)

TICK = 0.020
"""Seconds between two frames of the `clock` jitter buffer."""
_REPAIR_MARGIN = 0.020
MAX_UNPLAYED = 1.0
"""Seconds after its last packet has left for which sound may still be on its way to the listener."""
UNKNOWN_WAY = 0.05
"""Seconds that a packet takes to the peer, where nothing has been measured yet."""
_UNEVEN = 0.06  # seconds that a jitter buffer and a sound device keep now and then beyond their mean


class LineTimer(TimerName):
    """Why an audio line wants to be woken."""

    TICK = "the next frame of the `clock` jitter buffer"
    GAP = "a gap in what is received is given up"
    TURN = "a deadline of turn-taking"
    FRAME = "the next frame may be encoded"
    PLAYED = "the peer has played what was said"


class AudioLine:
    """Receiver, sender, speech front end and turn manager of one audio section.

    `index` is the number of its media section in the session.
    """

    def __init__(
        self,
        parameters: AudioLineParameters,
        config: ConversationConfig,
        *,
        index: int = 0,
    ) -> None:
        audio, received = parameters
        self.counters = Counters()
        self.tap: Tap | None = None
        """What is shown all that is heard and said on this line."""
        self.timers: Timers[LineTimer] = Timers()
        decoder = make_decoder(received.codec, config.microphone_rate)
        self.receiver: Receiver = make_receiver(decoder, config.jitter_buffer, config.playout_cost)
        self.sender = AudioSender(
            SendParameters.agree(
                audio,
                config.bitrate,
                fixed_complexity(config.complexity),
                config.application,
                config.channels,
                config.dtx,
            ),
            index,
        )
        make_detector = hearing_factory(config.detector, config.noise_reduction)
        front_end = SpeechFrontEnd(config.turns, make_detector, canceller_factory(config.echo))
        self.events: list[LineEvent] = []
        """What happened; `drain_events` takes it."""
        self.turn_manager = TurnManager(self.sender, front_end, config.turns, self.events)
        self.listening = False
        """Tell speech from silence and take turns: it costs CPU, so only what asks for it pays.

        A reply, or a client that opens its `events` channel, asks by itself.
        """
        self.reports_frames = True
        """Hand up each frame that is heard; a program that takes turns instead has no use for them."""
        self._comfort_noise = config.comfort_noise
        self._payload_type = received.payload_type
        self._repairs = parameters.has_feedback("nack")
        self._arrival = self.receiver if isinstance(self.receiver, ArrivalReceiver) else None
        self._clock = self.receiver if isinstance(self.receiver, ClockReceiver) else None
        self._to_detector: Resampler | None = None
        if config.microphone_rate != DETECTOR_RATE:
            self._to_detector = Resampler(config.microphone_rate, DETECTOR_RATE, causal=True)
        self.view: RemoteView | None = None
        """How the peer receives us, by its latest report."""
        self.unsettled = True
        """True if `settle` has something to look at; a packet moves no turn of a line that does not listen."""
        self.has_sent = False
        """True if frames have left since `settle`."""
        self._round_trip: float | None = None
        self._writes = 0
        self._drained_writes = 0
        self._gap_armed = False
        self._is_unheard = False  # the latest packets were not decoded
        self._turn_at: Instant | None = None
        self._tick_due: Instant = 0.0

    def all_counters(self) -> Counters:
        """Return the counters of the line, its receiver, its jitter buffer and its queue of sound."""
        total = Counters()
        for part in (self.counters, self.receiver.counters, self.receiver.buffer.counters, self.sender.counters):
            total.merge(part)
        return total

    # -- what is said --------------------------------------------------------------------------------------

    def write(self, pcm: Pcm, sample_rate: int, now: Instant) -> None:
        """Say something outside of any reply; see `PlayoutQueue.write`."""
        self._writes += 1
        self.sender.write(pcm, sample_rate, now)

    def flush(self, now: Instant) -> None:
        """Fall silent at once: a reply is dropped, and whatever else waits to be said."""
        self.turn_manager.interrupt(now)
        self.sender.drop(now)

    def begin_reply(self, now: Instant) -> int:
        """Open a reply and return its number; `LocalError` while another is being spoken."""
        self.listening = True
        return self.turn_manager.begin_reply(now)

    def write_reply(self, number: int, pcm: Pcm, sample_rate: int, now: Instant) -> bool:
        """Say more of a reply; False if it was dropped, and the sound with it."""
        self._writes += 1
        if not self.turn_manager.note_written(number, now):
            return False
        self.sender.write(pcm, sample_rate, now)
        return True

    def queued(self, number: int) -> float | None:
        """Return how many seconds of a reply wait to be said; None if it was dropped or is over."""
        return self.sender.queued if self.turn_manager.reply == number else None

    def frames(self, now: Instant) -> Sequence[ScheduledFrame]:
        """Return every frame that may be scheduled now, in order; asked for when `sender.has_work`."""
        frames, following = self.sender.frames(now)
        self.timers.set(LineTimer.FRAME, following)
        return frames

    @property
    def lateness(self) -> Lateness:
        """How late the frames left that were sent."""
        return self.sender.lateness

    def note_load(self, load: float) -> None:
        """Take how busy the thread is that carries the media, as a share of a core; say it once a second.

        The encoder follows, unless its complexity is fixed.
        """
        before = self.sender.complexity
        after = self.sender.follow_load(load)
        if after != before:
            self.counters.add(COMPLEXITY_LOWERED if after < before else COMPLEXITY_RAISED)

    # -- what arrives --------------------------------------------------------------------------------------

    def start(self, now: Instant) -> None:
        """The session is connected: what was written may leave, and the `clock` jitter buffer begins to tick."""
        if self._comfort_noise is not None and self.sender.queued == 0:
            self.sender.write_comfort_noise(self._comfort_noise, now)
        self.sender.has_work = True
        if self._clock is not None:
            self._tick_due = now
            self.timers.set(LineTimer.TICK, self._next_tick(now))

    def handle_media(self, event: RtpEvent | FrameSent, now: Instant) -> None:
        """Take what the media plane reports of this section."""
        if isinstance(event, PacketReceived):
            self._handle_packet(event, now)
            return
        if isinstance(event, FrameSent):
            # If more is under way, nothing follows from one frame, but for the end of a reply.
            self.has_sent = True
            frame = self.sender.note_sent(event)
            if frame is not None:
                if self.tap is not None:
                    self.tap.sent(frame, self.sender.sample_rate, now)
                if self.listening:
                    self.turn_manager.note_sent(frame, now)
            return
        self.unsettled = True
        if isinstance(event, SourceChanged):
            self._hear_rest(now)
            self.receiver.reset()
            self.turn_manager.forget_source(now)
        elif isinstance(event, ReportReceived):
            self._note_report(event.view, now)
        elif isinstance(event, ByeReceived):
            self._hear_rest(now)
            self.events.append(PeerLeft())
        elif isinstance(event, DtmfReceived):
            self.events.append(KeyPressed(event.digit))

    def _handle_packet(self, packet: PacketReceived, now: Instant) -> None:
        if packet.payload and packet.payload_type != self._payload_type:
            self.counters.add(DROPPED_OTHER_PAYLOAD_TYPE)
            return
        arrival = self._arrival
        if arrival is not None:
            if not (self.reports_frames or self.listening or self.tap is not None):
                self.counters.add(PACKETS_NOT_DECODED)
                self._is_unheard = True
                return
            if self._is_unheard:  # what did not come through here is not missing
                self._is_unheard = False
                arrival.reset()
            buffer = arrival.buffer
            if self._repairs:
                buffer.repair_wait = 0.0 if self._round_trip is None else self._round_trip + _REPAIR_MARGIN
            buffer.red_depth = packet.red_depth
        frames = self.receiver.insert(
            packet.payload, packet.sequence, packet.timestamp, packet.arrival, packet.recovered
        )
        if frames:
            self._hear(frames, now, packet.audio_level.level if packet.audio_level is not None else None)
        if arrival is not None and (arrival.buffer.packets.held or self._gap_armed):
            self._arm_gap(arrival)

    def note_round_trip(self, round_trip: float | None) -> None:
        """Take the latest round trip in seconds, however it was measured; None: not measured yet."""
        self._round_trip = round_trip

    def _note_report(self, view: RemoteView, now: Instant) -> None:
        """Let what the peer reports of our sound steer the encoder, and what we believe that it heard."""
        self.view = view
        self.sender.acknowledged(view.extended_highest_sequence, now, self._round_trip or 0.0)
        self.sender.note_loss(view.reported_loss, now)

    def _hear(self, frames: Sequence[AudioFrame], now: Instant, audio_level: int | None = None) -> None:
        for frame in frames:
            if self.reports_frames or self.tap is not None:
                self.events.append(AudioReceived(frame))
            if not self.listening:
                continue
            self.unsettled = True
            if self.turn_manager.settings.mode is TurnMode.FULL_DUPLEX:
                continue
            if self._to_detector is not None:
                samples = self._to_detector.process(frame.samples)
                frame = AudioFrame(samples, DETECTOR_RATE, frame.media_time, frame.concealed)
            self.turn_manager.hear(frame, now, audio_level if len(frames) == 1 else None)

    def _hear_rest(self, now: Instant) -> None:
        """What waits behind a gap waits in vain, as its source has gone. The `clock` buffer keeps its beat."""
        if self._arrival is not None:
            self._hear(self._arrival.finish(now), now)

    def _arm_gap(self, arrival: ArrivalReceiver) -> None:
        at = arrival.poll_timeout()
        self._gap_armed = at is not None
        self.timers.set(LineTimer.GAP, at)

    def end(self, reason: EndReason, now: Instant) -> None:
        """The session is over: hand up what was held, and say what was heard of the reply in progress."""
        self._hear(self.receiver.finish(now), now)
        heard_by: Instant | None = now
        if reason is EndReason.CONSENT_EXPIRED:
            heard_by = None
        elif reason is not EndReason.HUNG_UP:
            # The peer fell silent when its last datagram left: what was heard had left a round trip before.
            heard_by = now - 2 * self._way
        self.turn_manager.end(heard_by, now)
        self.timers.clear_all()

    # -- time ----------------------------------------------------------------------------------------------

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self.timers.fire(now, self._handle_timer)

    def _handle_timer(self, timer: LineTimer, now: Instant) -> None:
        if timer is not LineTimer.FRAME:
            self.unsettled = True
        match timer:
            case LineTimer.FRAME:
                self.sender.has_work = True
            case LineTimer.TURN:
                self._turn_at = None
                self.turn_manager.handle_timeout(now)
            case LineTimer.GAP:
                if self._arrival is not None:
                    self._hear(self._arrival.handle_timeout(now), now)
                    self._arm_gap(self._arrival)
            case LineTimer.TICK:
                if self._clock is not None:
                    self.timers.set(LineTimer.TICK, self._next_tick(now))
                    self._hear([self._clock.tick(now)], now)
            case LineTimer.PLAYED:
                pass  # `settle` looks

    def settle(self, now: Instant) -> None:
        """When `unsettled`, after its frames have been scheduled: see what follows, and when next."""
        self.unsettled = self.has_sent = False
        manager = self.turn_manager
        manager.note_queue(now)
        if self._writes != self._drained_writes and not self.sender.scheduled:
            self._note_drained(now)
        at = manager.poll_timeout()
        if at != self._turn_at:
            self._turn_at = at
            self.timers.set(LineTimer.TURN, at)

    def _next_tick(self, now: Instant) -> Instant:
        """The grid of ticks does not drift; one that comes very late starts a new grid."""
        due = self._tick_due + TICK
        self._tick_due = due if due > now - 5 * TICK else now + TICK
        return self._tick_due

    def _note_drained(self, now: Instant) -> None:
        """Say that all that was written has been played, or be woken when it will have been."""
        if self.sender.queued > 0:
            return
        at = self._played_at(now)
        if at > now:
            self.timers.set(LineTimer.PLAYED, at)
        else:
            self.timers.clear(LineTimer.PLAYED)
            self._drained_writes = self._writes
            self.events.append(SpeakerDrained(self._writes))

    def _played_at(self, now: Instant) -> Instant:
        """When the last of what has left will have been played, by what the client tells and what is measured."""
        if self.sender.last_ends is None:
            return now
        jitter = self.view.jitter if self.view is not None else 0.0
        late = self._way + self.turn_manager.playout_delay + 2 * jitter + _UNEVEN
        return self.sender.last_ends + min(late, MAX_UNPLAYED)

    @property
    def _way(self) -> float:
        """Seconds that a packet takes to the peer."""
        return UNKNOWN_WAY if self._round_trip is None else self._round_trip / 2

    def drain_events(self) -> Sequence[LineEvent]:
        """Return what happened since the last call, in order."""
        if not self.events:
            return ()
        events = self.events.copy()
        self.events.clear()
        return events
