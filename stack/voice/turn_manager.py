"""The turn manager: who speaks, and what becomes of the reply that is being spoken.

Joins the speech front end's events (`speech_front_end.SpeechFrontEnd`), the table (`turns.TurnTaking`) and the
sender. A barge-in is one act: in the call in which the table says so the sender is held, what was heard is
computed, and the client told.

Over 500 lines, because all that can happen to a turn or a reply stands here, each of it in a few lines that read
and change the same turn, reply and sender; parts of it elsewhere would need the whole. What can be judged without
it has left: the table (`turns`), pauses (`pauses`), the front end, what the client played (`playout_record`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stack.audio import AudioFrame, Resampler, Samples
from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.core.timers import earliest
from stack.voice import events as ev
from stack.voice.audio_sender import AudioSender, SpokenFrame
from stack.voice.client import Silenced
from stack.voice.endpointing import LONGEST_LOOK, LONGEST_SILENCE, is_backchannel
from stack.voice.pauses import Pauses
from stack.voice.speech_front_end import SpeechFrontEnd
from stack.voice.turns import TurnAction, TurnEvent, TurnMode, TurnSettings, TurnState, TurnTaking
from stack.voice.vad import DETECTOR_RATE, SpeechEvent, SpeechStarted

DEFAULT_PLAYOUT_DELAY = 0.080
"""Seconds that a browser holds sound back when nothing is known: jitter buffer and output device."""
MAX_UTTERANCE = 120.0
"""Seconds that one turn may last; then it is handed over as it is."""
PREROLL = 2.0
"""Seconds of sound that are kept for the beginning of an utterance."""
MEASURE_VALID = 2.0
"""Seconds within which a client may say what it had played when it fell silent."""
MAX_SILENCE = 0.8
"""Seconds for which nothing leaves because the client has not said that it can be heard again."""
MAX_REFERENCE_ERROR = 0.1
"""Seconds by which the echo canceller's reference may be misplaced: a jump costs more than a constant lag."""
ABSENT_AFTER = 0.5
"""Seconds without a frame after which the time that passes counts as silence: a microphone that is muted or
unplugged sends nothing. Longer than jitter, and than the 400 ms at which Opus says "still silent"."""
_SEAM = 0.001  # seconds by which media times may disagree with the count of samples
MIN_TRANSIT_WINDOW = 500
"""Frames over which the fastest way from the microphone is looked for (10 s)."""


@dataclass(slots=True)
class SpokenReply:
    """A reply from its first word to its last."""

    number: int
    started: bool = False
    written_whole: bool = False
    held_at: int = 0
    """Samples that had been heard when it was held."""


class SlidingMinimum:
    """The least of the last `window` values; O(1) a value, on average."""

    __slots__ = ("_candidates", "_count", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._count = 0
        self._candidates: deque[tuple[int, float]] = deque()  # rising values: each is the least of those behind it

    def add(self, value: float) -> None:
        """Take one more value; the oldest goes when there are more than the window holds."""
        candidates = self._candidates
        while candidates and candidates[-1][1] >= value:
            candidates.pop()
        candidates.append((self._count, value))
        self._count += 1
        if candidates[0][0] <= self._count - 1 - self._window:
            candidates.popleft()

    @property
    def minimum(self) -> float | None:
        """The least value; None without any."""
        return self._candidates[0][1] if self._candidates else None

    def clear(self) -> None:
        """Forget all."""
        self._candidates.clear()


class _Silence(NamedTuple):
    """The client was told to fall silent, and has not said yet what it had played by then."""

    reply: int
    since: Instant


class TurnManager:
    """The voice logic of one conversation; a machine without a network. Pump `drain_events` after each input.

    `events` is the line's own list, if it has one: what happens is appended there.
    """

    def __init__(
        self,
        sender: AudioSender,
        front_end: SpeechFrontEnd,
        settings: TurnSettings,
        events: list[Any] | None = None,
    ) -> None:
        self.playout_delay = DEFAULT_PLAYOUT_DELAY
        self.in_pieces = False
        """Report a turn in pieces while it is being said, too."""
        self._client_answers = False
        self._silence: _Silence | None = None
        self._silenced_reply = 0
        self._sender = sender
        self._front_end = front_end
        self._turns = TurnTaking(settings)
        self._pauses = Pauses()
        self._reported_to: float | None = None  # media time up to which the turn was reported in pieces
        self._state = self._turns.state
        self.current: SpokenReply | None = None
        """The reply that is being spoken."""
        self._numbers = 0
        self._events: list[ev.VoiceEvent] = [] if events is None else events
        self._collected: deque[tuple[float, Samples]] = deque()
        self._opened_at: float | None = None
        self._speech_ended = 0.0
        self._turn_over: Instant | None = None
        self._heard_at: Instant | None = None  # when the latest frame came
        self._transits = SlidingMinimum(MIN_TRANSIT_WINDOW)
        self._reference: Resampler | None = None
        self._reference_offset: float | None = None  # from our RTP timeline to the microphone's

    # -- what is known -------------------------------------------------------------------------------------

    @property
    def state(self) -> TurnState:
        """Where the conversation is."""
        return self._turns.state

    @property
    def settings(self) -> TurnSettings:
        """The rules in force."""
        return self._turns.settings

    @property
    def reply(self) -> int | None:
        """The number of the reply that is being spoken, if any."""
        return self.current.number if self.current is not None else None

    # -- hearing -------------------------------------------------------------------------------------------

    def hear(self, frame: AudioFrame, now: Instant, audio_level: int | None = None) -> None:
        """Take a frame of the microphone at 16 kHz, in media time."""
        self._heard_at = now
        self._transits.add(now - frame.media_time)
        hearing = self._front_end.capture(frame.samples, frame.media_time, audio_level)
        if len(hearing.samples):
            self._collect(hearing.samples, hearing.media_time)
        for event in hearing.events:
            self._on_speech(event, now)
        self._report_pieces()
        self._act(now)

    def forget_source(self, now: Instant) -> None:
        """Another source speaks from now on."""
        for event in self._front_end.reset():
            self._on_speech(event, now)
        self._transits.clear()
        self._act(now)

    def _on_speech(self, event: SpeechEvent, now: Instant) -> None:
        if isinstance(event, SpeechStarted):
            spoken = now - self._arrival_of(event.onset, now)
            after = round(spoken * 1000.0, 1)
            self._events.append(ev.UserStartedSpeaking(event.media_time, after))
            if self._opened_at is None and self.settings.hears:
                self._opened_at = event.media_time
            paused = self._turns.state is TurnState.USER_PAUSED
            self._pauses.end(event.onset - self._speech_ended if paused else None)
            self._turns.speech_started(now, spoken=spoken)
        else:
            self._speech_ended = event.media_time
            self._report_pieces()
            self._events.append(ev.UserStoppedSpeaking(event.media_time))
            self._turns.speech_stopped(now, event.duration, event.silence)
        self._act(now)

    def _estimate_end(self, now: Instant) -> None:
        """Say how long the present pause has to be for the turn to be over: by the rules, or by who is asked."""
        semantic = self.settings.mode is TurnMode.SEMANTIC
        if not semantic or self._turns.state is not TurnState.USER_PAUSED:
            return
        if self._opened_at is None or not self._collected:
            return
        start = max(self._opened_at, self._speech_ended - LONGEST_LOOK)
        first, sound = self._sound(start)
        begin = max(0, round((start - first) * DETECTOR_RATE))
        end = max(begin, round((self._speech_ended - first) * DETECTOR_RATE))
        silence = sound[end : end + round(LONGEST_SILENCE * DETECTOR_RATE)]
        speech = self._speech_ended - self._opened_at
        rules = self.settings
        wait, question = self._pauses.estimate(sound[begin:end], silence, speech, rules.eagerness, rules.expects)
        if question is not None:
            self._events.append(question)
        self._turns.end_of_turn_at(self._turns.quiet_since + wait, now)

    def _sound(self, start: float = -math.inf) -> tuple[float, Samples]:
        """Return what is collected, from the block that holds `start`, and the media time of its first sample."""
        blocks: list[Samples] = []
        first = start
        for first, samples in reversed(self._collected):
            blocks.append(samples)
            if first <= start:
                break
        return first, np.concatenate(blocks[::-1])

    def _arrival_of(self, media_time: float, now: Instant) -> Instant:
        """Return when that moment of the microphone could have been here: by the fastest way of late."""
        fastest = self._transits.minimum
        return now if fastest is None else min(now, media_time + fastest)

    def _report_pieces(self) -> None:
        """Hand up what has been said of the turn since the last piece."""
        if not self.in_pieces or self._opened_at is None or not self._collected:
            return
        done = self._opened_at if self._reported_to is None else self._reported_to
        fresh = []
        for start, samples in reversed(self._collected):
            new = round((start - done) * DETECTOR_RATE) + len(samples)
            if new <= 0:
                break
            fresh.append(samples[-new:])
        start, samples = self._collected[-1]
        self._reported_to = start + len(samples) / DETECTOR_RATE
        if fresh:
            self._events.append(ev.UtterancePiece(np.concatenate(fresh[::-1])))

    def _close_utterance(self) -> None:
        self._opened_at = self._reported_to = None
        self._pauses.end()

    def _collect(self, samples: Samples, media_time: float) -> None:
        self._fill_hole(media_time)
        self._collected.append((media_time, samples))
        keep_from = media_time - PREROLL if self._opened_at is None else self._opened_at
        keep_from = max(keep_from, media_time - MAX_UTTERANCE)
        while self._collected:
            start, oldest = self._collected[0]
            if start + len(oldest) / DETECTOR_RATE > keep_from:
                break
            self._collected.popleft()
        if self._opened_at is not None and media_time - self._opened_at > MAX_UTTERANCE:
            self._opened_at = media_time - MAX_UTTERANCE

    def _fill_hole(self, media_time: float) -> None:
        """What was not sent was silence: what is collected lies where its media time says."""
        if not self._collected:
            return
        start, samples = self._collected[-1]
        end = start + len(samples) / DETECTOR_RATE
        if media_time - end > (PREROLL if self._opened_at is None else MAX_UTTERANCE):
            self._collected.clear()  # too long ago to belong to what comes
            if self._opened_at is not None:
                self._opened_at = self._reported_to = media_time
        elif media_time - end > _SEAM:
            self._collected.append((end, np.zeros(round((media_time - end) * DETECTOR_RATE), np.int16)))

    # -- speaking ------------------------------------------------------------------------------------------

    def begin_reply(self, now: Instant) -> int:
        """Open a reply and return its number; `LocalError` while another is being spoken."""
        if self.current is not None:
            raise LocalError("another reply is being spoken: end or interrupt it first")
        self._numbers += 1
        self.current = SpokenReply(self._numbers)
        self._sender.begin_reply()
        return self._numbers

    def note_written(self, number: int, now: Instant) -> bool:
        """Sound is about to be written for a reply; False if it was dropped and the sound has to be, too."""
        reply = self.current
        if reply is None or reply.number != number:
            return False
        if not reply.started:
            reply.started = True
            over, self._turn_over = self._turn_over, None
            response = None if over is None else round((now - over) * 1000.0, 1)
            self._events.append(ev.ReplyStarted(number, response))
            self._turns.reply_started(now)
            self._act(now)
        return self.current is reply

    def end_reply(self, number: int, now: Instant) -> None:
        """A reply is written whole; harmless for one that was dropped."""
        if self.current is not None and self.current.number == number:
            self.current.written_whole = True
            self.note_queue(now)

    def cancel_reply(self, number: int, now: Instant) -> None:
        """Drop a reply, if it is still the one that is being spoken."""
        if self.current is not None and self.current.number == number:
            self.interrupt(now)

    def interrupt(self, now: Instant) -> bool:
        """Fall silent at once; False if there was no reply to be dropped."""
        if self.current is None:
            return False
        if not self._turns.cancel(now) or self.current is not None:
            self._act(now)
        if self.current is not None:
            self._drop(now)
        return True

    def note_sent(self, frame: SpokenFrame, now: Instant) -> None:
        """A frame leaves: it is the reference that the echo canceller looks for."""
        fastest = self._transits.minimum
        if fastest is None:
            return
        if self._reference is None or self._reference.rate_in != self._sender.sample_rate:
            self._reference = Resampler(self._sender.sample_rate, DETECTOR_RATE, causal=True)
        samples = self._reference.process(frame.samples)
        # By the time on the RTP timeline, which the client plays along: we are late now and then, sound is not.
        offset = now - fastest - frame.media_time
        if self._reference_offset is None or abs(offset - self._reference_offset) > MAX_REFERENCE_ERROR:
            self._reference_offset = offset
        self._front_end.render(samples, frame.media_time + self._reference_offset)

    def note_queue(self, now: Instant) -> None:
        """Something has left: if it was the last of a reply that is written whole, the reply is over."""
        reply = self.current
        if reply is None or not reply.written_whole or self._sender.held or self._sender.queued > 0:
            return
        heard = self._sender.heard(now, self.playout_delay, silenced=False)
        self._sender.end_reply()
        self.current = None
        self._events.append(ev.ReplyFinished(reply.number, round(heard.milliseconds, 1)))
        self._turns.reply_finished(now)
        self._act(now)

    def end(self, heard_by: Instant | None, now: Instant) -> None:
        """The call is over: hand over the turn that was being said, and tell what was heard of the present reply.

        `heard_by` is when the word to fall silent would have had to leave here; None: unknown, so that only
        what is known to have arrived counts.
        """
        if self._opened_at is not None:
            self._hand_over(now)
        reply, self.current = self.current, None
        if reply is None:
            return
        heard = self._sender.heard(now if heard_by is None else heard_by, self.playout_delay, silenced=True)
        samples = heard.acknowledged if heard_by is None else heard.samples
        if self._sender.held:
            samples = reply.held_at
        self._sender.drop(now)
        heard_ms, sent_ms = self._milliseconds(samples), self._milliseconds(heard.sent)
        self._events.append(ev.ReplyInterrupted(reply.number, heard_ms, sent_ms))

    # -- the client's own playback -------------------------------------------------------------------------

    def note_silenced(self, silenced: Silenced, now: Instant) -> bool:
        """The client says what it was playing when it fell silent; False if that cannot be."""
        if silenced.reply != self._silenced_reply:
            return False
        silence, self._silence = self._silence, None
        if silence is None:
            return True  # it was not heard at all, or has gone on
        later = self._numbers - silence.reply  # replies that have begun since
        if now - silence.since > MEASURE_VALID or later > 1:
            return False
        samples = self._sender.played(silenced.rtp_timestamp, silenced.age, former=later == 1)
        if (
            samples is None
            and not later
            and self._sender.played(silenced.rtp_timestamp, 0.0, former=True) is not None
        ):
            samples = 0  # it was still playing the one before
        if samples is None:
            return False
        if self.current is not None and self.current.number == silence.reply:
            self.current.held_at = samples
        self._events.append(ev.ReplyHeard(silence.reply, self._milliseconds(samples)))
        return True

    def note_audible(self, reply: int, now: Instant) -> None:
        """What comes now will be heard by the client, whose silence after that reply is over."""
        self._client_answers = True
        if reply == self._silenced_reply:
            self._silence = None
            self._sender.open(now)

    def forget_client(self, now: Instant) -> None:
        """No report of what is played will come any more."""
        self._client_answers = False
        self._sender.open(now)

    def _silence_client(self, reply: int, sent: int, now: Instant) -> None:
        """The client is being told to fall silent: until it is back, what leaves would not be heard."""
        self._silence = _Silence(reply, now) if sent else None
        self._silenced_reply = reply
        if self._client_answers:
            self._sender.close(now + MAX_SILENCE)

    def _milliseconds(self, samples: int) -> float:
        return round(1000.0 * samples / (self._sender.sample_rate or 1), 1)

    # -- rules and wishes ----------------------------------------------------------------------------------

    def configure(self, settings: TurnSettings, now: Instant) -> None:
        """Change the rules in the middle of the call."""
        before = self.settings
        if (settings.eagerness, settings.expects) != (before.eagerness, before.expects):
            self._pauses.judge_anew()
        self._front_end.settings = settings
        self._turns.configure(settings, now, self._front_end.speaking)
        self._act(now)
        self._estimate_end(now)  # the deadline was set anew, to the longest wait
        self._act(now)

    def report_pauses(self, wanted: bool, now: Instant) -> None:
        """Ask at every pause whether it is the end (`TurnPaused`) instead of judging by the rules; or no more.

        `semantic` mode only. Until the answer is there, a turn is waited for as if it were not finished.
        """
        self._pauses.ask(wanted)
        self._estimate_end(now)
        self._act(now)

    def note_end_of_turn(self, number: int, wait: float, now: Instant) -> bool:
        """The answer to `TurnPaused`: the seconds of silence after which the turn is over.

        False if it came too late: the person has gone on, or the turn is over.
        """
        if self._turns.state is not TurnState.USER_PAUSED or not self._pauses.note_answer(number, wait):
            return False
        self._estimate_end(now)
        self._act(now)
        return True

    def push_to_talk(self, pressed: bool, now: Instant) -> None:
        """The key went down or up (`manual` mode)."""
        if pressed and self._collected:
            start, samples = self._collected[-1]
            self._opened_at = start + len(samples) / DETECTOR_RATE
        self._turns.push_to_talk(pressed, now)
        self._act(now)

    def take_text(self, text: str, now: Instant) -> None:
        """The person has typed a turn: it interrupts, and is handed up like one that was said."""
        self.interrupt(now)
        self._turn_over = now
        start, samples = self._collected[-1] if self._collected else (0.0, ())
        at = start + len(samples) / DETECTOR_RATE
        self._events.append(ev.Utterance(np.zeros(0, np.int16), DETECTOR_RATE, at, at, 0.0, text))
        if self.settings.create_response:
            self._turns.create(now)
        self._act(now)

    def note_transcript(self, text: str, now: Instant, completeness: float | None = None) -> None:
        """What the person has said in this turn so far, as a transcriber has it: it tells whether it is over.

        `completeness` is 0 for words that are cut in the middle and 1 if nothing can follow; None: judge by the
        words. Said in a pause, it moves the end of this very turn. Over a reply that is held, a whole sentence
        was meant, and "mm-hm" was not.
        """
        if self._opened_at is None:
            return  # the turn that this belongs to is over
        self._pauses.note_words(text, completeness)
        if self._turns.state in (TurnState.INTERRUPTED, TurnState.HELD) and is_backchannel(text):
            self._turns.deny_interruption(now)
        elif self._turns.state is TurnState.HELD and completeness is not None and completeness >= 1.0:
            self._turns.confirm_interruption(now)
        self._estimate_end(now)
        self._act(now)

    def open_utterance(self) -> None:
        """Collect from now on, whether the person speaks or not: the turn is ended by `commit`."""
        if self._opened_at is None:
            start, samples = self._collected[-1] if self._collected else (0.0, ())
            self._opened_at = start + len(samples) / DETECTOR_RATE

    def commit(self, now: Instant) -> bool:
        """The person's turn is over, whatever the detectors think; False if nothing was collected."""
        before = len(self._events)
        self._turns.commit(now)
        self._act(now)
        return any(isinstance(event, ev.Utterance) for event in self._events[before:])

    def clear(self, now: Instant) -> None:
        """Forget what the person has said in this turn."""
        self._turns.clear(now)
        self._act(now)

    # -- time ----------------------------------------------------------------------------------------------

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self._miss(now)
        self._turns.handle_timeout(now)
        self._act(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        at = self._turns.poll_timeout()
        return at if self._heard_at is None else earliest(at, self._absent_at)

    @property
    def _absent_at(self) -> Instant | None:
        """When the speech that runs is over, unless another frame comes."""
        if self._heard_at is None or not self._front_end.speaking:
            return None
        return self._heard_at + max(ABSENT_AFTER, self.settings.pause)

    def _miss(self, now: Instant) -> None:
        """Time passes by the clock: frames that do not come are silence.

        Also before a deadline that is about to take the speech as going on: it goes on as far as it was heard.
        """
        absent_at, deadline = self._absent_at, self._turns.poll_timeout()
        if absent_at is None or self._heard_at is None:
            return
        if now >= absent_at or (deadline is not None and now >= deadline):
            for event in self._front_end.miss(now - self._heard_at):
                self._on_speech(event, now)

    def drain_events(self) -> Sequence[ev.VoiceEvent]:
        """Everything that happened, in order."""
        events = self._events.copy()
        self._events.clear()
        return events

    # -- what the table says -------------------------------------------------------------------------------

    def _act(self, now: Instant) -> None:
        """Do what the table says, until it says no more. However a pause began, its end is estimated."""
        while True:
            while events := self._turns.drain_events():
                for event in events:
                    self._do(event, now)
            if self._turns.state is self._state:
                break
            self._state = self._turns.state
            self._events.append(ev.TurnChanged(self._state))
            if self._state is TurnState.USER_PAUSED:
                self._estimate_end(now)
        self._front_end.over_reply = self.current is not None and self.current.started

    def _do(self, event: TurnEvent, now: Instant) -> None:
        match event.action:
            case TurnAction.OPEN_UTTERANCE:
                pass  # what is collected begins with the onset of the speech
            case TurnAction.COMMIT_UTTERANCE:
                self._hand_over(now)
            case TurnAction.DISCARD_UTTERANCE:
                if self._reported_to is not None:
                    self._events.append(ev.UtteranceDiscarded())
                self._close_utterance()
            case TurnAction.CREATE_REPLY:
                self._turn_over = now
                self._events.append(ev.ReplyWanted())
            case TurnAction.HOLD_PLAYOUT:
                self._hold(now)
            case TurnAction.RESUME_PLAYOUT:
                self._resume(now)
            case TurnAction.DROP_REPLY:
                self._drop(now)
            case TurnAction.REPORT_IDLE:
                self._events.append(ev.UserIdle())

    def _hand_over(self, now: Instant) -> None:
        self._report_pieces()
        opened = self._opened_at
        self._close_utterance()
        self._turn_over = now
        if opened is None or not self._collected:
            return
        first, sound = self._sound()
        skipped = max(0, round((opened - first) * DETECTOR_RATE))
        ended = self._speech_ended if self._speech_ended > opened else first + len(sound) / DETECTOR_RATE
        waited = max(0.0, now - self._arrival_of(ended, now))
        self._events.append(
            ev.Utterance(
                sound[skipped:],
                DETECTOR_RATE,
                first + skipped / DETECTOR_RATE,
                ended,
                round(waited * 1000.0, 1),
            )
        )

    def _hold(self, now: Instant) -> None:
        if self.current is None:
            return
        self._sender.hold()
        heard = self._sender.heard(now, self.playout_delay, silenced=True)
        self.current.held_at = heard.samples
        self._silence_client(self.current.number, heard.sent, now)
        stop = 0.0 if self._turns.onset is None else (now - self._turns.onset) * 1000.0
        heard_ms = round(heard.milliseconds, 1)
        last = self._sender.last_timestamp
        self._events.append(ev.ReplyHeld(self.current.number, heard_ms, round(stop, 1), last))

    def _resume(self, now: Instant) -> None:
        if self.current is None or not self._sender.held:  # begun meanwhile: there was no reply to be held
            return
        self._silence = None  # whatever the client played: this is where it goes on
        self._sender.resume(self.current.held_at, now)
        self._events.append(ev.ReplyResumed(self.current.number, self._milliseconds(self.current.held_at)))

    def _drop(self, now: Instant) -> None:
        reply, self.current = self.current, None
        if reply is None:
            return
        heard = self._sender.heard(now, self.playout_delay, silenced=True)
        samples = heard.samples
        if self._sender.held:
            samples = reply.held_at
        else:
            self._silence_client(reply.number, heard.sent, now)
        self._sender.drop(now)
        heard_ms, sent_ms = self._milliseconds(samples), self._milliseconds(heard.sent)
        provisional = self._client_answers and self._silence is not None
        last = self._sender.last_timestamp
        self._events.append(ev.ReplyInterrupted(reply.number, heard_ms, sent_ms, provisional, last))
