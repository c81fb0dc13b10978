"""Speech, turns, replies and barge-ins through two whole endpoints, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from interop.network_model import Jitter, NetworkModel
from stack.audio import ClockReceiver
from stack.rtp.jitter import LOST
from stack.rtp.stalls import LISTENING
from stack.sctp import ChannelId, ChannelOpened, MessageReceived
from stack.session import Connected, Ended, EndReason
from stack.voice.audio_line import MAX_UNPLAYED, PACKETS_NOT_DECODED
from stack.voice.client_channel import MAX_EARLY
from stack.voice.commands import (
    Announce,
    BeginReply,
    CancelReply,
    CloseChannel,
    CommitUtterance,
    ConfigureTurns,
    EndReply,
    FlushSpeaker,
    HangUp,
    Interrupt,
    Listen,
    NoteEndOfTurn,
    NoteTranscript,
    OpenChannel,
    PushToTalk,
    ReportFrames,
    ReportPauses,
    ReportPieces,
    SendDigits,
    SendMessage,
    Tell,
    Write,
    WriteReply,
)
from stack.voice.conversation import Conversation, ConversationConfig
from stack.voice.endpointing import BOUNDS
from stack.voice.events import (
    AudioReceived,
    ProgramFailed,
    ReplyFinished,
    ReplyHeard,
    ReplyHeld,
    ReplyInterrupted,
    ReplyResumed,
    ReplyStarted,
    ReplyText,
    ReplyWanted,
    SpeakerDrained,
    TurnChanged,
    TurnPaused,
    UserStartedSpeaking,
    UserStoppedSpeaking,
    UserTranscript,
    Utterance,
    UtteranceDiscarded,
    UtterancePiece,
)
from stack.voice.turn_manager import MAX_SILENCE
from stack.voice.turns import Eagerness, TurnMode, TurnSettings, TurnState
from tests.sim.calls import CallPair, agree, is_up

RATE = 16_000
ENERGY = ConversationConfig(detector="energy", echo="off")


def voice(seconds: float, frequency: float = 200.0, level: float = 6000) -> np.ndarray:
    """Something that the energy detector takes for speech: a harmonic sound over a silence."""
    at = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * frequency * k * at) / k for k in range(1, 6))
    return (level * tone / 2).astype(np.int16)


def noise(seconds: float) -> np.ndarray:
    """Room noise, 60 dB below."""
    return np.random.default_rng(1).normal(0, 10, round(seconds * RATE)).astype(np.int16)


def room(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


class Talk(CallPair):
    """A call in which the client speaks what it is given and the server is the program."""

    def __init__(self, model: NetworkModel | None = None, **turns: Any) -> None:
        config = ConversationConfig(detector="energy", echo="off", turns=TurnSettings(**turns))
        super().__init__(model=model, server=config)
        self.program: Callable[[Any, float], None] | None = None
        assert self.run(10, lambda: all(is_up(host) for host in self.hosts))
        self.server: Conversation = self.right.machine
        self.right.handle(Listen())

    def say(self, sound: np.ndarray) -> None:
        self.left.handle(Write(sound, RATE))

    def reply(self, sound: np.ndarray, *, whole: bool = True) -> int:
        numbers: list[int] = []

        def speak(conversation: Conversation, now: float) -> None:
            numbers.append(conversation.handle_command(BeginReply(), now))
            assert conversation.handle_command(WriteReply(numbers[0], sound, RATE), now) is not None
            if whole:
                conversation.handle_command(EndReply(numbers[0]), now)

        self.right.command(speak)
        return numbers[0]

    def heard_by_client(self) -> np.ndarray:
        return np.concatenate([event.frame.samples for event in self.left.seen(AudioReceived)])


def test_what_is_said_becomes_an_utterance_with_its_beginning_and_end() -> None:
    talk = Talk(silence_duration_ms=500)
    talk.say(room(noise(1.0), voice(1.0), noise(1.5)))
    talk.run(4)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.sample_rate == RATE
    assert utterance.media_time == pytest.approx(0.7, abs=0.06)  # 300 ms of prefix
    assert utterance.speech_ended == pytest.approx(2.0, abs=0.06)
    assert utterance.waited_ms == pytest.approx(500, abs=60)
    assert utterance.duration == pytest.approx(1.8, abs=0.1)
    spoken = utterance.samples[round(0.35 * RATE) : round(1.2 * RATE)].astype(float)
    assert np.sqrt(np.mean(spoken**2)) > 1000
    assert talk.right.seen(ReplyWanted)


def test_a_reply_that_begins_after_a_word_in_between_is_said_once() -> None:
    """The person spoke while there was no reply to be held: the one that begins then has nothing to repeat."""
    talk = Talk(silence_duration_ms=300)
    talk.say(room(noise(0.5), voice(0.6), noise(0.6), voice(0.3), noise(4)))
    assert talk.run(5, lambda: TurnChanged(TurnState.HELD) in talk.right.events)
    talk.reply(voice(1.5, 300))
    talk.run(6)
    assert not talk.right.seen(ReplyResumed)
    assert talk.right.seen(ReplyFinished)
    assert len(talk.heard_by_client()) / talk.left.seen(AudioReceived)[0].frame.sample_rate == pytest.approx(
        1.5, abs=0.1
    )


@pytest.mark.parametrize("reason", [EndReason.HUNG_UP, EndReason.PEER_CLOSED])
def test_what_is_being_said_when_the_call_ends_is_handed_up_before_the_end(reason: EndReason) -> None:
    talk = Talk()
    talk.say(room(noise(0.5), voice(2.0)))
    talk.run(1.5)
    assert not talk.right.seen(Utterance)
    (talk.right if reason is EndReason.HUNG_UP else talk.left).handle(HangUp())
    assert talk.run(2, lambda: bool(talk.right.seen(Ended)))
    (utterance,) = talk.right.seen(Utterance)
    assert talk.right.seen(Ended)[0].reason is reason
    assert talk.right.events.index(utterance) < talk.right.events.index(talk.right.seen(Ended)[0])
    assert utterance.duration == pytest.approx(1.3, abs=0.15)  # with 300 ms of prefix
    assert not talk.right.seen(ReplyWanted)


def test_sound_that_pressed_keys_mute_was_not_heard() -> None:
    talk = Talk()
    talk.server.line.turn_manager.playout_delay = 0.0
    talk.reply(voice(3.0, 300))
    talk.run(1.0)
    talk.right.handle(SendDigits("1"))
    talk.run(0.09)
    talk.right.handle(Interrupt())
    (interrupted,) = talk.right.seen(ReplyInterrupted)
    assert interrupted.heard_ms == pytest.approx(1000, abs=30)


def test_a_short_pause_does_not_end_a_turn() -> None:
    talk = Talk(silence_duration_ms=700)
    talk.say(room(noise(0.5), voice(0.6), noise(0.4), voice(0.6), noise(1.5)))
    talk.run(5)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.speech_ended == pytest.approx(2.1, abs=0.06)


@pytest.mark.parametrize("gone", [0.0, 0.04, 0.1, 0.18])
@pytest.mark.parametrize("mode", [TurnMode.SERVER_VAD, TurnMode.SEMANTIC])
def test_a_turn_ends_although_the_microphone_is_gone_with_the_last_word(mode: TurnMode, gone: float) -> None:
    """Muted or unplugged `gone` seconds after it: no packet comes any more, and time passes all the same."""
    talk = Talk(mode=mode, eagerness=Eagerness.HIGH)
    talk.say(room(noise(0.5), voice(1.0), noise(gone)))
    talk.run(5)
    (stopped,) = talk.right.seen(UserStoppedSpeaking)
    assert stopped.media_time == pytest.approx(1.5, abs=0.06)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.speech_ended == pytest.approx(1.5, abs=0.06)
    least = 500 if mode is TurnMode.SERVER_VAD else 300
    assert least - 60 <= utterance.waited_ms <= 2100
    assert talk.right.seen(ReplyWanted)
    assert talk.right.machine.line.turn_manager.state is TurnState.THINKING


def test_a_microphone_that_comes_back_within_the_turn_goes_on_with_it() -> None:
    talk = Talk(mode=TurnMode.SEMANTIC, eagerness=Eagerness.LOW)
    talk.right.handle(NoteTranscript("so I wanted to", 0.0))
    talk.say(room(noise(0.5), voice(0.6)))
    talk.run(2.5)
    talk.right.handle(NoteTranscript("so I wanted to", 0.0))
    assert talk.right.seen(UserStoppedSpeaking)
    assert not talk.right.seen(Utterance)
    talk.say(voice(0.6))
    talk.run(12)
    (utterance,) = talk.right.seen(Utterance)
    assert len(talk.right.seen(UserStartedSpeaking)) == 2
    # The hole is silence in it: everything lies where its media time says.
    end = utterance.media_time + utterance.duration
    assert end == pytest.approx(utterance.speech_ended, abs=0.1)
    last = utterance.samples[round((utterance.speech_ended - utterance.media_time - 0.3) * RATE) :]
    assert np.abs(last[: RATE // 5].astype(int)).max() > 1000


def test_a_short_interruption_with_which_the_microphone_goes_is_none() -> None:
    """Speech that is not heard to go on has not gone on: it is not confirmed by the clock alone."""
    talk = Talk(resume_after_ms=700, confirm_interruption_ms=500)
    talk.reply(voice(6.0, 300))
    talk.run(1.0)
    talk.say(room(noise(0.2), voice(0.35)))
    talk.run(4)
    assert talk.right.seen(ReplyHeld)
    assert not talk.right.seen(ReplyInterrupted)
    assert talk.right.seen(ReplyResumed)


def test_a_reply_is_heard_whole_and_said_to_be_over() -> None:
    talk = Talk()
    number = talk.reply(voice(1.0, 300))
    talk.run(2)
    assert talk.right.seen(ReplyStarted)[0].reply == number
    (finished,) = talk.right.seen(ReplyFinished)
    assert finished.heard_ms == pytest.approx(1000, abs=25)
    assert len(talk.heard_by_client()) == pytest.approx(RATE, abs=RATE * 0.05)


class Listening(CallPair):
    """A client that plays what it hears by the clock, as a browser does, and a program that says farewell."""

    def __init__(self, model: NetworkModel | None = None) -> None:
        super().__init__(model=model, client=ConversationConfig(jitter_buffer="clock", echo="off"), server=ENERGY)
        assert self.run(10, lambda: all(is_up(host) for host in self.hosts))

    def say(self, sound: np.ndarray) -> None:
        self.right.handle(Write(sound, RATE))

    def played(self) -> np.ndarray:
        frames = [event.frame for event in self.left.seen(AudioReceived)]
        return np.concatenate([frame.samples for frame in frames])


def loud_seconds(samples: np.ndarray) -> float:
    """How much of the sound is a voice and not a pause, in steps of 5 ms."""
    blocks = samples[: len(samples) // 80 * 80].reshape(-1, 80).astype(float)
    return 0.005 * int((np.sqrt((blocks**2).mean(axis=1)) > 500).sum())


@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_a_farewell_is_heard_to_its_end(jitter: float) -> None:
    model = NetworkModel(delay=0.03, jitter=Jitter(jitter) if jitter else None)
    whole, cut = Listening(model), Listening(model)
    for pair in (whole, cut):
        pair.say(voice(1.0))
    whole.run(3)
    cut.right.react = lambda event, now: cut.right.handle(HangUp()) if isinstance(event, SpeakerDrained) else None
    assert cut.run(5, lambda: bool(cut.left.seen(Ended)))
    assert loud_seconds(cut.played()) == pytest.approx(loud_seconds(whole.played()), abs=0.006)
    assert loud_seconds(cut.played()) > 0.95
    assert cut.right.time_of(SpeakerDrained) - whole.right.time_of(SpeakerDrained) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("told", "waits"), [(None, 0.08), (0.25, 0.25), (2.0, MAX_UNPLAYED)])
def test_what_the_client_holds_back_is_waited_for(told: float | None, waits: float) -> None:
    talk = Page()
    if told is not None:
        talk.ask(type="playout_delay", ms=1000 * told)
        talk.run(0.3)
    start = talk.now
    talk.right.handle(Write(voice(1.0), RATE))
    talk.run(4)
    at = talk.right.time_of(SpeakerDrained) - start - 1.0
    assert waits <= at + 0.001
    assert at <= min(waits + 0.2, MAX_UNPLAYED + 0.05)


def test_what_is_dropped_is_not_waited_for() -> None:
    talk = Talk()
    talk.right.handle(Write(voice(5.0), RATE))
    talk.run(0.5)
    talk.right.handle(FlushSpeaker())
    assert talk.right.seen(SpeakerDrained) == [SpeakerDrained(1)]
    number = talk.reply(voice(5.0, 300))
    talk.run(0.5)
    talk.right.handle(CancelReply(number))
    assert talk.right.seen(SpeakerDrained) == [SpeakerDrained(1), SpeakerDrained(2)]
    talk.right.handle(WriteReply(number, voice(1.0), RATE))
    assert talk.right.seen(SpeakerDrained)[-1] == SpeakerDrained(3), "too late to be said"


def test_nobody_waits_for_what_is_said_without_an_audio_section() -> None:
    pair = CallPair(agree(audio=False))
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    pair.right.handle(Write(voice(1.0), RATE))
    assert pair.right.seen(SpeakerDrained) == [SpeakerDrained(1)]


def test_more_that_is_said_meanwhile_is_waited_for_too() -> None:
    talk = Talk()
    talk.right.handle(Write(voice(0.5), RATE))
    talk.run(0.55)
    talk.right.handle(Write(voice(0.5), RATE))
    talk.run(0.5)
    assert not talk.right.seen(SpeakerDrained)
    talk.run(1)
    assert talk.right.seen(SpeakerDrained) == [SpeakerDrained(2)]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("by_peer", [True, False])
def test_a_call_that_ends_in_mid_reply_tells_what_was_heard_of_it(by_peer: bool, held: bool) -> None:
    talk = Talk(NetworkModel(delay=0.05), resume_after_ms=5000)
    number = talk.reply(voice(6.0, 300))
    talk.run(2.0)
    if held:
        talk.say(room(voice(0.4), noise(2.0)))
        talk.run(1.0)
        assert talk.right.seen(ReplyHeld)
    host = talk.left if by_peer else talk.right
    host.handle(HangUp())
    talk.run(1)
    kinds = [type(event) for event in talk.right.events]
    assert kinds[-1] is Ended
    (interrupted,) = talk.right.seen(ReplyInterrupted)
    assert interrupted.reply == number
    assert not interrupted.provisional
    if held:
        assert interrupted.heard_ms == talk.right.seen(ReplyHeld)[0].heard_ms
    else:
        # What had left a round trip before the word came, or by now; less what the client holds back.
        expected = 2000 - 80 - (50 if by_peer else 0)
        assert interrupted.heard_ms == pytest.approx(expected, abs=30)


def test_nothing_comes_after_the_end() -> None:
    talk = Talk()
    talk.reply(voice(6.0, 300), whole=False)
    talk.say(voice(3.0))
    talk.run(1.0)
    talk.left.handle(HangUp())
    talk.run(1)
    for command in (
        lambda conversation, now: conversation.handle_command(FlushSpeaker(), now),
        lambda conversation, now: conversation.handle_command(Interrupt(), now),
        lambda conversation, now: conversation.handle_command(Write(voice(0.1), RATE), now),
        lambda conversation, now: conversation.handle_command(WriteReply(1, voice(0.1), RATE), now),
        lambda conversation, now: conversation.handle_command(CommitUtterance(), now),
        lambda conversation, now: conversation.handle_timeout(now + 5),
    ):
        talk.right.command(command)
    assert isinstance(talk.right.events[-1], Ended)


def media_from_server(talk: Talk) -> int:
    part = next(
        p for p in talk.server.session.rtp_statistics(talk.now)[0].as_webrtc() if p["type"] == "outbound-rtp"
    )
    return int(part["packetsSent"])


def test_a_barge_in_stops_the_packets_in_the_same_instant() -> None:
    talk = Talk(resume_after_ms=None)
    talk.reply(voice(5.0, 300), whole=True)
    talk.say(room(noise(1.0), voice(1.5), noise(1.5)))
    sent_at: list[tuple[float, int]] = []
    talk.right.react = lambda event, now: (
        sent_at.append((now, media_from_server(talk))) if isinstance(event, ReplyInterrupted) else None
    )
    talk.run(4)
    (interrupted,) = talk.right.seen(ReplyInterrupted)
    at = talk.right.time_of(ReplyInterrupted)
    onset = talk.right.time_of(UserStartedSpeaking)
    assert at - onset <= 0.001  # final at once: the decision and the stop are one
    assert media_from_server(talk) == sent_at[0][1]  # no further packet
    started = talk.right.time_of(ReplyStarted)
    assert interrupted.sent_ms == pytest.approx((at - started) * 1000, abs=25)
    assert interrupted.sent_ms - 130 < interrupted.heard_ms < interrupted.sent_ms
    assert talk.right.seen(ReplyFinished) == []
    assert talk.right.seen(ReplyHeld)[0].stop_ms < 150


def test_the_next_reply_begins_with_its_first_frame() -> None:
    talk = Talk(resume_after_ms=None)
    talk.reply(voice(5.0, 300))
    talk.say(room(noise(1.0), voice(0.6), noise(2.0)))
    talk.run(10, lambda: bool(talk.right.seen(ReplyInterrupted)))
    talk.run(0.05)
    before = sum(len(event.frame) for event in talk.left.seen(AudioReceived))
    talk.reply(voice(0.5, 700))
    talk.run(2)
    after = talk.heard_by_client()[before:]
    loud = np.flatnonzero(np.abs(after) > 500)
    assert loud[0] < RATE * 0.04  # nothing of its beginning is missing, behind at most one frame of silence
    assert len(after) - loud[0] == pytest.approx(RATE * 0.5, abs=RATE * 0.03)
    spectrum = np.abs(np.fft.rfft(after[loud[0] + 800 : loud[0] + 4800].astype(float)))
    assert np.argmax(spectrum) * RATE / 4000 == pytest.approx(700, abs=10)
    media_times = [event.frame.media_time for event in talk.left.seen(AudioReceived)]
    assert media_times == sorted(media_times)


def test_a_false_interruption_goes_on_from_where_it_was_heard() -> None:
    talk = Talk(resume_after_ms=600, confirm_interruption_ms=500)
    sound = voice(3.0, 300)
    talk.reply(sound)
    talk.say(room(noise(1.0), voice(0.15), noise(3.0)))  # "mm-hm"
    talk.run(6)
    (held,) = talk.right.seen(ReplyHeld)
    (resumed,) = talk.right.seen(ReplyResumed)
    assert resumed.from_ms == held.heard_ms
    assert talk.right.seen(ReplyInterrupted) == []
    (finished,) = talk.right.seen(ReplyFinished)
    assert finished.heard_ms == pytest.approx(3000, abs=25)
    assert talk.right.seen(Utterance) == []


def test_a_long_interruption_is_confirmed_while_it_lasts() -> None:
    talk = Talk(resume_after_ms=700, confirm_interruption_ms=500)
    talk.reply(voice(5.0, 300))
    talk.say(room(noise(1.0), voice(1.2), noise(2.0)))
    talk.run(5)
    held, dropped = talk.right.time_of(ReplyHeld), talk.right.time_of(ReplyInterrupted)
    assert 0.2 < dropped - held < 0.8
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.speech_ended == pytest.approx(2.2, abs=0.1)


def test_the_pieces_of_a_turn_are_its_samples() -> None:
    talk = Talk()
    talk.right.handle(ReportPieces())
    for _ in range(2):
        talk.say(room(noise(0.5), voice(0.8), noise(0.35), voice(0.5), noise(1.2)))
    talk.run(8)
    turns = talk.right.seen(Utterance)
    assert len(turns) == 2
    pieces: list[np.ndarray] = []
    said = iter(turns)
    for event in talk.right.events:
        if isinstance(event, UtterancePiece):
            pieces.append(event.samples)
        elif isinstance(event, Utterance):
            assert len(pieces) > 20, "they come while it is being said"
            assert np.array_equal(np.concatenate(pieces), next(said).samples)
            pieces.clear()
    assert pieces == []


def test_frames_that_are_not_wanted_are_heard_all_the_same() -> None:
    sound, counts = room(noise(0.5), voice(0.8), noise(1.2)), []
    for wanted in (True, False):
        talk = Talk()
        talk.right.handle(ReportFrames(wanted))
        talk.say(sound)
        talk.run(4)
        assert len(talk.right.seen(Utterance)) == 1
        counts.append(len(talk.right.seen(AudioReceived)))
        talk.right.handle(ReportFrames(True))
        talk.say(sound)
        talk.run(4)
        assert len(talk.right.seen(AudioReceived)) > counts[-1]
    assert counts[0] > 100
    assert counts[1] == 0


def test_what_is_not_heard_is_not_decoded_and_nothing_is_made_up_for_it() -> None:
    pair = CallPair()
    pair.run(10, lambda: all(host.seen(Connected) for host in pair.hosts))
    for wanted in (True, False, True):
        pair.right.handle(ReportFrames(wanted))
        heard = len(pair.right.seen(AudioReceived))
        pair.left.handle(Write(voice(1.0), RATE))
        pair.run(3)
        frames = [event.frame for event in pair.right.seen(AudioReceived)[heard:]]
        if wanted:
            assert 50 <= len(frames) <= 53
            assert not any(frame.concealed for frame in frames[1:])
            assert np.abs(np.concatenate([frame.samples for frame in frames])).max() > 1000
        else:
            assert frames == []
    counters = pair.right.machine.all_counters()
    assert 50 <= counters[PACKETS_NOT_DECODED] <= 53
    assert counters[LOST] == 0
    times = [event.frame.media_time for event in pair.right.seen(AudioReceived)]
    assert times == sorted(times)


def test_what_was_no_turn_is_said_to_be_none() -> None:
    talk = Talk(resume_after_ms=600)
    talk.right.handle(ReportPieces())
    talk.reply(voice(3.0, 300))
    talk.say(room(noise(1.0), voice(0.15), noise(3.0)))
    talk.run(6)
    pieces = [event for event in talk.right.events if isinstance(event, UtterancePiece | UtteranceDiscarded)]
    assert isinstance(pieces[0], UtterancePiece)
    assert isinstance(pieces[-1], UtteranceDiscarded)
    assert talk.right.seen(Utterance) == []


def wait_when(text: str | None, completeness: float | None, **turns: Any) -> float:
    """Seconds of silence until a turn is over, if in its pause somebody says what the words were."""
    talk = Talk(**({"mode": TurnMode.SEMANTIC, "eagerness": Eagerness.HIGH, "pause_ms": 100.0} | turns))
    talk.say(room(noise(0.5), voice(1.0), noise(4.0)))
    assert talk.run(3, lambda: bool(talk.right.seen(UserStoppedSpeaking)))
    if text is not None:
        talk.right.handle(NoteTranscript(text, completeness))
    talk.run(4)
    (utterance,) = talk.right.seen(Utterance)
    return utterance.waited_ms / 1000.0


def test_words_tell_whether_a_pause_is_the_end() -> None:
    certain, nearly, cut = (wait_when("what time is it", whole) for whole in (1.0, 0.9, 0.0))
    assert certain < 0.25 < nearly < 0.5 < 0.9 < cut < 1.1
    assert wait_when("I went to the", None) > 0.6 > wait_when("Stop!", None), "the words are judged"
    assert wait_when("what time is it", 1.0, eagerness=Eagerness.LOW) == pytest.approx(0.5, abs=0.06)
    assert wait_when("what", 0.0, mode=TurnMode.SERVER_VAD) == pytest.approx(0.5, abs=0.06), "no words there"


def test_words_of_before_do_not_end_what_came_after() -> None:
    talk = Talk(mode=TurnMode.SEMANTIC, eagerness=Eagerness.HIGH, pause_ms=100.0)
    talk.say(room(noise(0.5), voice(0.6), noise(0.25), voice(0.6), noise(4.0)))
    assert talk.run(3, lambda: bool(talk.right.seen(UserStoppedSpeaking)))
    talk.right.handle(NoteTranscript("count to twenty", 0.9))
    assert talk.run(3, lambda: len(talk.right.seen(UserStoppedSpeaking)) == 2)
    talk.right.handle(NoteTranscript("count to twenty and", 0.0))
    talk.run(4)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.duration > 1.4
    assert utterance.waited_ms > 900


class Judged(Talk):
    """A call whose pauses somebody else judges, `after` seconds: `answers` are what is said of each in turn."""

    def __init__(self, *answers: float | None, after: float = 0.3, **turns: Any) -> None:
        super().__init__(**({"mode": TurnMode.SEMANTIC, "eagerness": Eagerness.HIGH, "pause_ms": 100.0} | turns))
        self._answers = iter(answers)
        self._due: list[tuple[float, int, float]] = []
        self._after = after
        self.right.react = self._on_event
        self.right.handle(ReportPauses(True))

    def _on_event(self, event: object, now: float) -> None:
        answer = next(self._answers, None) if isinstance(event, TurnPaused) else None
        if isinstance(event, TurnPaused) and answer is not None:
            self._due.append((now + self._after, event.number, answer))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """As ever, and give the answers that are due, to 10 ms."""
        end = self.now + seconds
        while self.now < end:
            if super().run(min(0.01, end - self.now), until) and until is not None:
                return True
            while self._due and self._due[0][0] <= self.now:
                self.answer(*self._due.pop(0)[1:])
        return False

    def answer(self, number: int, wait: float) -> None:
        self.right.handle(NoteEndOfTurn(number, wait))


ONE_SENTENCE = (noise(0.5), voice(1.0), noise(4.0))


@pytest.mark.parametrize("eagerness", [Eagerness.HIGH, Eagerness.MEDIUM, Eagerness.LOW])
def test_who_judges_pauses_moves_the_end_of_the_turn(eagerness: Eagerness) -> None:
    for wait in (0.1, 0.45, 0.9, 1.9):
        talk = Judged(wait, after=0.2, eagerness=eagerness)
        talk.say(room(*ONE_SENTENCE))
        talk.run(5)
        (question,) = talk.right.seen(TurnPaused)
        assert question.pause.eagerness is eagerness
        assert question.pause.speech == pytest.approx(1.3, abs=0.1), "with its prefix"
        assert len(question.pause.utterance) == pytest.approx(1.3 * RATE, abs=0.1 * RATE)
        assert len(question.pause.silence) == pytest.approx(0.1 * RATE, abs=0.04 * RATE)
        (utterance,) = talk.right.seen(Utterance)
        assert utterance.waited_ms == pytest.approx(1000 * max(wait, 0.3), abs=60), "0.3: when the answer came"


def test_a_question_that_nobody_answers_waits_as_if_the_turn_were_not_finished() -> None:
    for eagerness in Eagerness:
        talk = Judged(eagerness=eagerness)
        talk.say(room(*ONE_SENTENCE))
        talk.run(5)
        (utterance,) = talk.right.seen(Utterance)
        assert utterance.waited_ms == pytest.approx(1000 * BOUNDS[eagerness].unfinished, abs=60)


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    talk = Judged(0.0, 1.5, after=0.5)
    talk.say(room(noise(0.5), voice(0.6), noise(0.4), voice(0.6), noise(4.0)))
    talk.run(6)
    first, second = talk.right.seen(TurnPaused)
    assert second.number > first.number
    assert len(second.pause.pauses) == 1
    assert second.pause.pauses[0] == pytest.approx(0.4, abs=0.06)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.duration > 1.4, "the person had gone on when it was said that the turn was over"
    assert utterance.waited_ms == pytest.approx(1500, abs=60)
    talk.answer(second.number, 0.0)
    talk.answer(99, 0.0)
    assert talk.server.counters["conversation.end_of_turn_answered_late"] == 3
    assert len(talk.right.seen(Utterance)) == 1


def test_only_semantic_turns_are_judged() -> None:
    talk = Judged(0.1, mode=TurnMode.SERVER_VAD)
    talk.say(room(*ONE_SENTENCE))
    talk.run(3)
    assert talk.right.seen(TurnPaused) == []
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.waited_ms == pytest.approx(500, abs=60)


def test_who_gives_up_leaves_the_present_pause_to_the_rules() -> None:
    talk = Judged(eagerness=Eagerness.LOW)
    talk.say(room(*ONE_SENTENCE, voice(1.0), noise(4.0)))
    assert talk.run(3, lambda: bool(talk.right.seen(TurnPaused)))
    talk.run(0.1)
    talk.right.handle(ReportPauses(False))
    talk.run(9)
    by_rules = wait_when(None, None, eagerness=Eagerness.LOW)
    waits = [utterance.waited_ms / 1000 for utterance in talk.right.seen(Utterance)]
    assert waits == pytest.approx([by_rules] * 2, abs=0.2)
    assert waits[0] < BOUNDS[Eagerness.LOW].unfinished - 0.3
    assert len(talk.right.seen(TurnPaused)) == 1


def test_other_rules_in_a_pause_are_another_question() -> None:
    talk = Judged(None, 0.6, after=0.1)
    talk.say(room(*ONE_SENTENCE))
    assert talk.run(3, lambda: bool(talk.right.seen(TurnPaused)))
    low = TurnSettings(mode=TurnMode.SEMANTIC, eagerness=Eagerness.LOW)
    talk.right.handle(ConfigureTurns(low))
    first, second = talk.right.seen(TurnPaused)
    assert second.pause.eagerness is Eagerness.LOW
    talk.answer(first.number, 0.0)
    talk.run(4)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.waited_ms == pytest.approx(600, abs=60)


def test_other_rules_in_a_pause_leave_its_estimate() -> None:
    talk = Judged(0.6, after=0.1, eagerness=Eagerness.LOW)
    talk.say(room(*ONE_SENTENCE))
    talk.run(2.0)
    rules = replace(talk.server.turn_settings, threshold=0.6)
    talk.right.handle(ConfigureTurns(rules))
    talk.run(4)
    assert len(talk.right.seen(TurnPaused)) == 1
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.waited_ms == pytest.approx(600, abs=60), "and not the longest that there is"


@pytest.mark.parametrize(
    ("text", "completeness", "answer", "expected"),
    [
        ("what time is it", 1.0, None, 0.15),  # who knows that nothing can follow need not wait for anybody
        ("what time is it", 1.0, 1.0, 0.15),
        ("what time", 0.0, 0.0, 1.0),  # and is believed when more must follow
        ("I went to the", None, None, 1.0),
        ("I went to the", None, 0.3, 0.735),  # 0.35 · 1 + 0.65 · 0.05 finished
        ("What time is it?", None, 0.3, 0.35),  # when the answer came: 0.1 s and 0.25 s after the last speech
        ("What time is it?", None, 1.0, 0.57),  # 0.35 · 0 + 0.65 · 0.95
    ],
)
def test_words_and_who_judges_the_sound(
    text: str, completeness: float | None, answer: float | None, expected: float
) -> None:
    talk = Judged(answer, after=0.25)
    talk.say(room(*ONE_SENTENCE))
    assert talk.run(3, lambda: bool(talk.right.seen(UserStoppedSpeaking)))
    talk.right.handle(NoteTranscript(text, completeness))
    talk.run(4)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.waited_ms == pytest.approx(1000 * expected, abs=60)


def test_words_that_are_known_before_the_pause_are_part_of_the_question() -> None:
    talk = Judged(0.5, after=0.1)
    talk.say(room(*ONE_SENTENCE))
    assert talk.run(3, lambda: bool(talk.right.seen(UserStartedSpeaking)))
    talk.run(0.5)
    talk.right.handle(NoteTranscript("I went to the"))
    talk.run(4)
    (question,) = talk.right.seen(TurnPaused)
    assert question.pause.transcript == "I went to the"
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.waited_ms == pytest.approx(500, abs=60), "whoever was asked has weighed them"


@pytest.mark.parametrize("judged", [False, True])
def test_a_pause_that_follows_an_interruption_is_estimated_like_any_other(judged: bool) -> None:
    """The reply ends, or the program says that it was meant, when the person has been silent for a while."""
    talk = Judged(0.6, resume_after_ms=5000.0, eagerness=Eagerness.MEDIUM)
    talk.right.handle(ReportPauses(judged))
    number = talk.reply(voice(6.0, 300))
    talk.say(room(noise(1.0), voice(0.4), noise(6.0)))
    assert talk.run(4, lambda: TurnChanged(TurnState.HELD) in talk.right.events)
    assert talk.right.seen(TurnPaused) == [], "nobody asks while it is not sure that it was a turn"
    talk.right.handle(CancelReply(number))
    talk.run(5)
    (utterance,) = talk.right.seen(Utterance)
    assert len(talk.right.seen(TurnPaused)) == judged
    assert utterance.waited_ms < 1000 * BOUNDS[Eagerness.MEDIUM].unfinished + 100


@pytest.mark.parametrize(
    ("text", "completeness", "outcome"),
    [("stop", 1.0, ReplyInterrupted), ("mm-hm", None, ReplyResumed), ("Yeah, right.", 1.0, ReplyResumed)],
)
def test_words_over_a_reply_tell_what_they_were_for(text: str, completeness: float, outcome: type) -> None:
    talk = Talk(resume_after_ms=2000, confirm_interruption_ms=500)
    talk.reply(voice(6.0, 300))
    talk.say(room(noise(1.0), voice(0.2), noise(4.0)))
    assert talk.run(3, lambda: bool(talk.right.seen(ReplyHeld) and talk.right.seen(UserStoppedSpeaking)))
    before = talk.now
    talk.right.handle(NoteTranscript(text, completeness))
    assert talk.right.time_of(outcome) - before < 0.05
    talk.run(3)
    assert bool(talk.right.seen(Utterance)) == (outcome is ReplyInterrupted)


def test_words_of_a_turn_that_is_over_are_nothing() -> None:
    talk = Talk(mode=TurnMode.SEMANTIC)
    talk.right.handle(NoteTranscript("hello", 1.0))
    talk.say(room(noise(0.5), voice(1.0), noise(2.5)))
    talk.run(4)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.waited_ms > 400


def test_full_duplex_takes_no_turns() -> None:
    talk = Talk(mode=TurnMode.FULL_DUPLEX)
    talk.reply(voice(2.0, 300))
    talk.say(room(noise(0.5), voice(1.0), noise(0.5)))
    talk.run(3)
    assert talk.right.seen(ReplyFinished)
    assert not talk.right.seen(ReplyHeld)
    assert not talk.right.seen(Utterance)


def test_push_to_talk() -> None:
    talk = Talk(mode=TurnMode.MANUAL)
    talk.say(room(noise(0.5), voice(2.0), noise(1.0)))
    talk.run(1.0)
    talk.right.handle(PushToTalk(True))
    talk.run(1.0)
    talk.right.handle(PushToTalk(False))
    talk.run(1.0)
    (utterance,) = talk.right.seen(Utterance)
    assert utterance.duration == pytest.approx(1.0, abs=0.1)


def test_turns_survive_a_bad_network() -> None:
    model = NetworkModel(loss=0.05, delay=0.05, jitter=Jitter(0.02))
    talk = Talk(model, resume_after_ms=None)
    talk.reply(voice(5.0, 300))
    talk.say(room(noise(1.0), voice(1.0), noise(2.0)))
    talk.run(5)
    assert talk.right.seen(ReplyInterrupted)
    assert len(talk.right.seen(Utterance)) == 1


def test_the_client_is_told_and_may_ask() -> None:
    talk = Talk(resume_after_ms=None)
    talk.left.handle(OpenChannel("events"))
    talk.run(1)
    channel = talk.left.seen(ChannelOpened)[0].channel

    def ask(**request: Any) -> None:
        text = json.dumps(request)
        talk.left.handle(SendMessage(channel, text))

    ask(type="turn_settings", mode="server_vad", silence_duration_ms=300, threshold=0.6)
    ask(type="playout_delay", ms=150)
    for nonsense in ({"type": "turn_settings", "threshold": "high"}, {"type": "playout_delay", "ms": -5}, {}):
        ask(**nonsense)
    talk.left.handle(SendMessage(channel, "[" * 4000))
    talk.run(0.5)
    assert talk.server.turn_settings.silence_duration_ms == 300
    assert talk.server.turn_settings.threshold == 0.6
    assert talk.server.counters["conversation.dropped_client_request_malformed"] == 4
    talk.reply(voice(3.0, 300))
    talk.say(room(noise(0.5), voice(0.8), noise(1.5)))
    talk.run(3)
    told = [json.loads(event.data) for event in talk.left.seen(MessageReceived)]
    kinds = [message["type"] for message in told]
    assert kinds.index("speech_started") < kinds.index("reply_held") < kinds.index("reply_interrupted")
    assert "utterance" in kinds
    interrupted = next(message for message in told if message["type"] == "reply_interrupted")
    assert interrupted["sent_ms"] - interrupted["heard_ms"] == pytest.approx(150, abs=25)


def test_what_is_told_before_the_client_listens_waits_for_it() -> None:
    talk = Talk()
    for number in range(MAX_EARLY + 3):
        talk.right.handle(Tell({"type": "early", "n": number}))
    assert talk.server.counters["conversation.dropped_announcement_without_client"] == 3
    talk.left.handle(OpenChannel("events"))
    talk.run(1)
    talk.right.handle(Tell({"type": "late"}))
    talk.run(1)
    told = [json.loads(event.data) for event in talk.left.seen(MessageReceived)]
    early = [message["n"] for message in told if message["type"] == "early"]
    assert early == list(range(MAX_EARLY))
    assert told[-1] == {"type": "late"}


def test_what_is_typed_is_a_turn_and_interrupts() -> None:
    page = Page(resume_after_ms=None)
    page.reply(voice(5.0, 300))
    page.run(1)
    page.ask(type="text", text="  what time is it ")
    for nonsense in ({"text": ""}, {"text": 5}, {}):
        page.ask(type="text", **nonsense)
    page.ask(type="ping")
    page.run(0.5)
    (turn,) = page.right.seen(Utterance)
    assert (turn.text, turn.is_typed, turn.duration) == ("what time is it", True, 0.0)
    assert len(page.right.seen(ReplyInterrupted)) == len(page.right.seen(ReplyWanted)) == 1
    assert page.server.counters["conversation.dropped_client_request_malformed"] == 3
    page.reply(voice(1.0, 300))
    page.run(1)
    assert page.told("reply_started")[-1]["response_ms"] > 0, "the answer to a typed turn is timed like any other"


def test_the_client_is_told_the_rules_in_force() -> None:
    page = Page(mode=TurnMode.MANUAL, idle_timeout_ms=5000)
    first = page.told("turn_settings")[-1]
    assert (first["mode"], first["idle_timeout_ms"], first["eagerness"]) == ("manual", 5000, "auto")
    page.right.handle(ConfigureTurns(replace(page.server.turn_settings, mode=TurnMode.SEMANTIC)))
    page.run(0.2)
    assert page.told("turn_settings")[-1]["mode"] == "semantic_vad"
    page.ask(**first)  # what it was told it may send back
    page.run(0.2)
    assert page.told("turn_settings")[-1] == first


def test_what_the_program_says_in_words_reaches_the_client_even_if_said_before_it_listens() -> None:
    talk = Talk()
    talk.right.handle(Listen(whole_turns=True))
    talk.right.handle(Announce(ReplyText(1, "Good morning.", 0.0, 900.0)))
    talk.left.handle(OpenChannel("events"))
    talk.run(1)
    talk.right.handle(Announce(UserTranscript("good", False)))
    talk.right.handle(Announce(UserTranscript("good morning", True)))
    talk.right.handle(Announce(ProgramFailed()))
    talk.run(1)
    told = [json.loads(event.data) for event in talk.left.seen(MessageReceived)]
    told = [message for message in told if message["type"] != "turn_settings"]
    words = {"type": "transcript", "role": "user"}
    spoken = {"text": "Good morning.", "delta": True, "reply": 1, "start_ms": 0.0, "duration_ms": 900.0}
    assert told == [
        {"type": "takes_turns"},
        {"type": "transcript", "role": "agent", **spoken},
        words | {"text": "good", "final": False},
        words | {"text": "good morning", "final": True},
        {"type": "program_failed"},
    ]
    assert talk.server.counters["conversation.dropped_announcement_without_client"] == 0


def told_to(talk: Talk) -> list[dict[str, Any]]:
    """Return what the client was told so far, but for the rules."""
    told = [json.loads(event.data) for event in talk.left.seen(MessageReceived)]
    return [message for message in told if message["type"] != "turn_settings"]


def test_a_client_that_listens_late_is_told_of_the_reply_that_is_being_spoken() -> None:
    talk = Talk()
    over = talk.reply(voice(0.3, 300))
    talk.run(1)
    now = talk.reply(voice(3.0, 300), whole=False)
    talk.run(1)
    talk.left.handle(OpenChannel("events"))
    talk.run(0.5)
    kinds = [(message["type"], message.get("reply")) for message in told_to(talk)]
    assert kinds == [("reply_started", over), ("reply_finished", over), ("reply_started", now), ("turn", None)]
    assert told_to(talk)[-1]["state"] == "agent_speaking"
    talk.say(room(noise(0.2), voice(1.5), noise(1.0)))
    talk.run(3)
    assert {"speech_started", "reply_interrupted"} <= {message["type"] for message in told_to(talk)}


def test_a_client_that_listens_late_has_nothing_to_silence() -> None:
    talk = Talk(resume_after_ms=None)
    reply = talk.reply(voice(5.0, 300))
    talk.say(room(noise(0.5), voice(0.8), noise(1.5)))
    talk.run(3)
    assert talk.right.seen(ReplyInterrupted)[0].rtp_timestamp is not None
    talk.left.handle(OpenChannel("events"))
    talk.run(0.5)
    kinds = [message["type"] for message in told_to(talk)]
    assert kinds[:2] == ["reply_started", "reply_interrupted"], "neither what was held nor who spoke is news"
    interrupted = told_to(talk)[1]
    assert (interrupted["reply"], "rtp_timestamp" in interrupted) == (reply, False)
    assert interrupted["heard_ms"] > 0


class Page(Talk):
    """A client that falls silent when it is told to, says what it had played, and when it can be heard by again.

    It holds back five packets, and has been playing the one before them for `age` s.
    """

    def __init__(
        self, model: NetworkModel | None = None, *, drains: float | None = 0.1, lie: int = 0, **turns: Any
    ) -> None:
        super().__init__(model, **turns)
        self.drains, self.lie, self.age = drains, lie, 0.010
        self.left.handle(OpenChannel("events"))
        self.run(0.5)
        self.channel: ChannelId = self.left.seen(ChannelOpened)[0].channel
        self.ask(type="audible", reply=0)
        self.run(0.5)
        self.left.react = self.obey
        self.due: list[tuple[float, int]] = []

    def ask(self, **request: Any) -> None:
        text = json.dumps(request)
        self.left.handle(SendMessage(self.channel, text))

    def obey(self, event: Any, now: float) -> None:
        if not isinstance(event, MessageReceived):
            return
        told = json.loads(event.data)
        if told["type"] == "reply_held":
            playing = (
                self.server.session._media.transport.sections[0].sender.timestamp - 960 * 6 + self.lie
            ) % 2**32
            self.ask(type="silenced", reply=told["reply"], rtp_timestamp=playing, age_ms=1000 * self.age)
            if self.drains is not None:
                self.due.append((now + self.drains, told["reply"]))

    def be_interrupted(self, *, after: float = 0.0) -> None:
        """Speak over a reply, and go on until `after` s after the reply has stopped."""
        self.reply(voice(5.0, 300))
        self.say(room(noise(1.0), voice(0.6), noise(2.0)))
        assert self.run(5, lambda: bool(self.right.seen(ReplyHeld)))
        self.run(after)

    def wait_until_drained(self) -> None:
        (at, reply), self.due = self.due[0], self.due[1:]
        self.run(at - self.now)
        self.ask(type="audible", reply=reply)

    def told(self, kind: str) -> list[dict[str, Any]]:
        messages = [json.loads(event.data) for event in self.left.seen(MessageReceived)]
        return [message for message in messages if message["type"] == kind]


def test_the_client_says_what_it_had_played() -> None:
    page = Page(NetworkModel(delay=0.03), resume_after_ms=None)
    page.be_interrupted(after=0.2)
    (interrupted,) = page.right.seen(ReplyInterrupted)
    (heard,) = page.right.seen(ReplyHeard)
    assert interrupted.provisional
    assert heard.reply == interrupted.reply
    # Six packets back, half a packet on, and the codec's own delay of 6.5 ms.
    assert heard.heard_ms == pytest.approx(interrupted.sent_ms - 120 + 10 - 6.5, abs=0.1)
    assert page.right.time_of(ReplyHeard) - page.right.time_of(ReplyInterrupted) == pytest.approx(0.06, abs=0.005)
    assert page.told("reply_heard") == [{"type": "reply_heard", "reply": heard.reply, "heard_ms": heard.heard_ms}]


def test_a_reply_that_is_held_goes_on_from_what_the_client_had_played() -> None:
    page = Page(resume_after_ms=600, confirm_interruption_ms=500)
    page.reply(voice(3.0, 300))
    page.say(room(noise(1.0), voice(0.15), noise(3.0)))
    page.run(6)
    (held,), (heard,) = page.right.seen(ReplyHeld), page.right.seen(ReplyHeard)
    assert heard.heard_ms != held.heard_ms
    assert page.right.seen(ReplyResumed)[0].from_ms == heard.heard_ms
    assert page.right.seen(ReplyFinished)[0].heard_ms == pytest.approx(3000, abs=25)


def test_an_interruption_that_is_confirmed_later_is_measured_by_then() -> None:
    page = Page(resume_after_ms=700, confirm_interruption_ms=300)
    page.be_interrupted(after=1.0)
    (interrupted,), (heard,) = page.right.seen(ReplyInterrupted), page.right.seen(ReplyHeard)
    assert interrupted.heard_ms == heard.heard_ms
    assert not interrupted.provisional


def test_the_client_is_told_which_packet_was_the_last() -> None:
    page = Page(resume_after_ms=None)
    page.be_interrupted(after=0.2)
    last = (
        page.server.session._media.transport.sections[0].sender.timestamp - 960
    ) % 2**32  # nothing has left since
    (held,), (interrupted,) = page.told("reply_held"), page.told("reply_interrupted")
    assert held["rtp_timestamp"] == interrupted["rtp_timestamp"] == last


def test_nothing_leaves_while_the_client_is_silent() -> None:
    page = Page(resume_after_ms=None, drains=0.150)
    page.be_interrupted(after=0.05)
    stopped = media_from_server(page)
    before = len(page.left.seen(AudioReceived))
    page.reply(voice(0.5, 700))
    page.run(0.09)
    assert media_from_server(page) == stopped
    assert page.right.seen(ReplyHeard)[0].reply == 1  # it is known, although the next reply has begun
    page.wait_until_drained()
    page.run(0.01)
    assert media_from_server(page) == stopped + 3  # silence that leads in, 40 ms after a cut, and the first frame
    page.run(2)
    frames = [event.frame for event in page.left.seen(AudioReceived)[before:]]
    after = np.concatenate([frame.samples for frame in frames if not frame.concealed])
    loud = np.flatnonzero(np.abs(after) > 500)
    assert RATE * 0.04 <= loud[0] < RATE * 0.05
    assert len(after) - loud[0] == pytest.approx(RATE * 0.5, abs=RATE * 0.03)
    assert page.right.seen(ReplyFinished)[0].heard_ms == pytest.approx(500, abs=25)


def test_a_client_that_does_not_come_back_is_spoken_to_all_the_same() -> None:
    page = Page(resume_after_ms=None, drains=None)
    page.be_interrupted()
    stopped, at = media_from_server(page), page.now
    page.reply(voice(0.5, 700))
    assert page.run(2, lambda: media_from_server(page) > stopped)
    assert page.now - at == pytest.approx(MAX_SILENCE, abs=0.02)


def test_a_client_whose_channel_is_closed_is_spoken_to_at_once() -> None:
    page = Page(resume_after_ms=None, drains=None)
    page.be_interrupted()
    stopped, at = media_from_server(page), page.now
    page.reply(voice(0.5, 700))
    page.left.handle(CloseChannel(page.channel))
    assert page.run(2, lambda: media_from_server(page) > stopped)
    assert page.now - at < 0.1


@pytest.mark.parametrize("lie", [1, 48_000, -48_000 * 60])
def test_a_client_that_played_what_never_left_is_not_believed(lie: int) -> None:
    page = Page(resume_after_ms=None, lie=lie)
    page.be_interrupted(after=0.5)
    assert page.right.seen(ReplyHeard) == []
    assert page.server.counters["conversation.dropped_client_report_implausible"] == 1
    (interrupted,) = page.right.seen(ReplyInterrupted)
    assert interrupted.heard_ms > 0


def test_reports_that_are_none() -> None:
    page = Page(resume_after_ms=None)
    page.be_interrupted(after=0.5)
    good = {"type": "silenced", "reply": 1, "rtp_timestamp": 5, "age_ms": 3}
    bad: list[dict[str, Any]] = [
        {"reply": -1}, {"reply": True}, {"rtp_timestamp": 2**32}, {"rtp_timestamp": 1.5}, {"age_ms": -1},
        {"age_ms": "3"}, {"age_ms": None}, {"age_ms": 1e9}, {"type": "audible", "reply": "all"},
    ]  # fmt: skip
    for wrong in bad:
        page.ask(**(good | wrong))
    page.ask(**(good | {"reply": 7}))  # of which nobody spoke
    page.ask(**good)  # once more: it is known already
    page.run(0.5)
    assert page.server.counters["conversation.dropped_client_request_malformed"] == len(bad)
    assert page.server.counters["conversation.dropped_client_report_implausible"] == 1
    assert len(page.right.seen(ReplyHeard)) == 1


def test_states_are_told_in_order() -> None:
    talk = Talk()
    talk.say(room(noise(0.5), voice(0.8), noise(1.5)))
    talk.run(3)
    talk.reply(voice(0.5, 300))
    talk.run(2)
    states = [event.state.value for event in talk.right.seen(TurnChanged)]
    assert states[:2] == ["user_speaking", "user_paused"]
    assert states[-2:] == ["agent_speaking", "listening"]


def test_the_clock_discipline_gives_a_frame_every_20_ms() -> None:
    pair = CallPair(server=ConversationConfig(jitter_buffer="clock", detector="energy", echo="off"))
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    pair.left.handle(Write(voice(1.0), RATE))
    pair.run(2)
    frames = [event.frame for event in pair.right.seen(AudioReceived)]
    times = [
        at
        for at, event in zip(pair.right.times, pair.right.events, strict=True)
        if isinstance(event, AudioReceived)
    ]
    assert np.diff(times) == pytest.approx(0.02, abs=1e-6)
    loud = sum(np.abs(frame.samples).max() > 1000 for frame in frames)
    assert loud * 0.02 == pytest.approx(1.0, abs=0.15)


def test_what_delay_costs_the_listener_is_for_the_program_to_say() -> None:
    pair = CallPair(server=ConversationConfig(jitter_buffer="clock", playout_cost="listening", echo="off"))
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    line = pair.right.machine.line
    assert line is not None
    assert isinstance(line.receiver, ClockReceiver)
    assert line.receiver.buffer.cost is LISTENING
