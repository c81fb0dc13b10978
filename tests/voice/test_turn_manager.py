"""The turn manager by itself: what the echo canceller is given to compare the microphone with."""

from __future__ import annotations

import numpy as np
import pytest

from stack.audio import AudioFrame, Samples
from stack.voice import KalmanEchoCanceller, SpeechFrontEnd, TurnSettings
from stack.voice.audio_sender import AudioSender, SendParameters, SpokenFrame
from stack.voice.events import UserStartedSpeaking, UserStoppedSpeaking, Utterance
from stack.voice.turn_manager import ABSENT_AFTER, MAX_REFERENCE_ERROR, TurnManager
from stack.voice.vad import EnergyDetector

RATE = 16_000
FRAME = 320
TRANSIT = 100.0
"""Our clock less the microphone's, at best."""


class Notes(SpeechFrontEnd):
    """Notes what it is told of our own sound."""

    def __init__(self) -> None:
        super().__init__(TurnSettings(), EnergyDetector, KalmanEchoCanceller)
        self.rendered: list[tuple[float, int]] = []

    def render(self, samples: Samples, media_time: float) -> None:
        self.rendered.append((media_time, len(samples)))
        super().render(samples, media_time)


@pytest.fixture
def front_end() -> Notes:
    return Notes()


@pytest.fixture
def turn_manager(front_end: Notes) -> TurnManager:
    sender = AudioSender(SendParameters("opus"))
    sender.write(np.zeros(FRAME, np.int16), RATE, TRANSIT)  # now it has a rate
    turn_manager = TurnManager(sender, front_end, TurnSettings())
    turn_manager.hear(AudioFrame(np.zeros(FRAME, np.int16), RATE, 0.0, False), TRANSIT)
    return turn_manager


def spoken(number: int) -> SpokenFrame:
    return SpokenFrame(number, np.full(FRAME, 1000, np.int16), 0.0, False, number * FRAME, number * 0.02)


def test_the_reference_is_whole_however_late_we_are(turn_manager: TurnManager, front_end: Notes) -> None:
    late = np.random.default_rng(1).exponential(0.004, 200)
    for number in range(200):
        turn_manager.note_sent(spoken(number), TRANSIT + 1.0 + number * 0.02 + late[number])
    times = np.array([at for at, _ in front_end.rendered])
    assert np.diff(times) == pytest.approx(0.02, abs=1e-9)
    assert times[0] == pytest.approx(1.0 + late[0], abs=1e-9)


def test_frames_that_leave_together_lie_one_behind_the_other(turn_manager: TurnManager, front_end: Notes) -> None:
    for number in range(5):
        turn_manager.note_sent(spoken(number), TRANSIT + 1.0)
    assert [at for at, _ in front_end.rendered] == pytest.approx([1.0, 1.02, 1.04, 1.06, 1.08])


def test_a_timeline_that_has_gone_astray_is_laid_anew(turn_manager: TurnManager, front_end: Notes) -> None:
    turn_manager.note_sent(spoken(0), TRANSIT + 1.0)
    turn_manager.note_sent(spoken(1), TRANSIT + 1.02 + 0.9 * MAX_REFERENCE_ERROR)
    turn_manager.note_sent(spoken(2), TRANSIT + 1.04 + 1.5 * MAX_REFERENCE_ERROR)
    assert [at for at, _ in front_end.rendered] == pytest.approx([1.0, 1.02, 1.04 + 1.5 * MAX_REFERENCE_ERROR])


def stalled(seconds: float) -> tuple[list[object], list[object]]:
    """A second of speech whose second half is late by so much; return what happened before it came, and after."""
    turn_manager = TurnManager(
        AudioSender(SendParameters("opus")), SpeechFrontEnd(TurnSettings(), EnergyDetector), TurnSettings()
    )
    at = np.arange(FRAME * 200)
    quiet = np.random.default_rng(1).normal(0, 10, len(at))
    loud = quiet + 6000 * np.sin(2 * np.pi * 200 * at / RATE) * ((at > 50 * FRAME) & (at < 100 * FRAME))
    frames = [AudioFrame(loud[i : i + FRAME].astype(np.int16), RATE, i / RATE) for i in at[::FRAME].tolist()]
    late_from, late_until = 75, 75 + round(seconds / 0.02)
    before: list[object] = []
    for number, frame in enumerate(frames):
        due = TRANSIT + 0.02 * (late_until if late_from <= number < late_until else number)
        if number == late_from:
            before += turn_manager.drain_events()
            while (wanted := turn_manager.poll_timeout()) is not None and wanted < due:
                turn_manager.handle_timeout(wanted)
            before += turn_manager.drain_events()
        while (wanted := turn_manager.poll_timeout()) is not None and wanted < due:
            turn_manager.handle_timeout(wanted)
        turn_manager.hear(frame, due)
    return before, list(turn_manager.drain_events())


def seen(events: list[object], kind: type) -> list[object]:
    return [event for event in events if isinstance(event, kind)]


def test_what_comes_late_is_not_taken_for_silence() -> None:
    before, after = stalled(0.9 * ABSENT_AFTER)
    assert not seen(before, UserStoppedSpeaking)
    assert len(seen(after, UserStoppedSpeaking)) == len(seen(after, Utterance)) == 1
    assert not seen(after, UserStartedSpeaking)


def test_what_comes_after_all_is_heard_where_it_belongs() -> None:
    before, after = stalled(1.2 * ABSENT_AFTER)
    (stopped,) = seen(before, UserStoppedSpeaking)
    assert isinstance(stopped, UserStoppedSpeaking)
    assert stopped.media_time == pytest.approx(1.5, abs=0.02)
    (started,) = seen(after, UserStartedSpeaking)
    assert isinstance(started, UserStartedSpeaking)
    assert started.media_time == pytest.approx(1.5, abs=0.02)
    assert len(seen(after, UserStoppedSpeaking)) == 1
