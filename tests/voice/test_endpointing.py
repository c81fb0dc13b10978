from dataclasses import replace

import numpy as np
import pytest

from stack.core.errors import LocalError
from stack.voice.endpointing import (
    BOUNDS,
    Pause,
    RuleEndpointer,
    SmartTurnEndpointer,
    completeness,
    weigh_late_words,
)
from stack.voice.prosody import pitch_track, prosody
from stack.voice.turns import Eagerness, Expects

RATE = 16_000


def hum(pitches: list[float], loudness: list[float], seconds: float = 2.0) -> np.ndarray:
    """A voice without words: harmonics that glide through `pitches` at `loudness` (1 is -12 dBFS)."""
    time = np.arange(int(seconds * RATE))
    pitch = np.interp(time, np.linspace(0, len(time), len(pitches)), pitches)
    level = np.interp(time, np.linspace(0, len(time), len(loudness)), loudness)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (tone * level * 4000).astype(np.int16)


FALLING = hum([140, 150, 145, 140, 100, 90], [1, 1, 1, 1, 0.5, 0.2])
LEVEL = hum([140, 145, 140, 145, 142, 146], [1, 1, 1, 1, 1, 1])


class TestProsody:
    @pytest.mark.parametrize("pitch", [80.0, 120.0, 220.0, 350.0])
    def test_pitch(self, pitch):
        found, level = pitch_track(hum([pitch, pitch], [1, 1], 0.5))
        assert np.median(found) == pytest.approx(pitch, rel=0.02)
        assert len(level) == len(found)

    def test_noise_has_none(self):
        found, _ = pitch_track((np.random.default_rng(1).standard_normal(RATE) * 1000).astype(np.int16))
        assert np.mean(found > 0) < 0.1

    def test_too_short_to_tell(self):
        assert len(pitch_track(np.zeros(100, np.int16))[0]) == 0
        assert prosody(np.zeros(100, np.int16)).voiced == 0.0
        assert prosody(np.zeros(RATE, np.int16)).pitch_fall == 0.0

    def test_falls(self):
        assert prosody(FALLING).pitch_fall > 3.0
        assert prosody(FALLING).energy_fall > 4.0
        assert abs(prosody(LEVEL).pitch_fall) < 1.0
        assert prosody(LEVEL).tail > 1.5

    @pytest.mark.parametrize("semitones", [3.0, 5.0, 6.5, 8.0])
    def test_a_rise_is_no_fall_an_octave_off(self, semitones):
        """ "There is more", says a rise; read as the fall that is an octave below it, it said "done"."""
        top = 120.0 * 2 ** (semitones / 12)
        rising = prosody(hum([120, 122, 118, 120, 121, 120, top, top], [1] * 8))
        assert rising.pitch_fall == pytest.approx(-semitones, abs=1.0)

    def test_a_voice_that_creaks_at_the_end_is_not_measured_as_an_octave(self):
        creaking = prosody(hum([220, 222, 221, 220, 219, 220, 78, 78], [1] * 8))
        assert 0.0 < creaking.pitch_fall < 8.0

    def test_a_word_that_is_drawn_out_moves_less_at_its_end(self):
        drawn = hum([140, 150, 130, 150, 135, 130, 130, 130], [1] * 8)
        falling = hum([140, 142] * 9 + [128, 112, 98], [1] * 21)
        assert prosody(drawn).movement < -0.5
        assert prosody(falling).movement > 0.5


class TestWords:
    @pytest.mark.parametrize(
        ("whole", "cut"),
        [
            ("what is the time", "what is the"),
            ("Yes.", "yes and"),
            ("tell me a joke about cats", "tell me a joke about"),
            ("Is it raining?", "is it raining or"),
            ("no", "um"),
            ("I would like two tickets.", "I would like two tickets,"),
        ],
    )
    def test_a_whole_is_more_whole_than_a_part(self, whole, cut):
        assert completeness(whole) > completeness(cut) + 0.2

    def test_no_words_say_nothing(self):
        assert completeness("  ") == 0.5
        assert completeness("...") == 0.5


class TestRules:
    def wait(self, utterance, words=None, eagerness=Eagerness.AUTO):
        return RuleEndpointer().wait(Pause(utterance, len(utterance) / RATE, words, eagerness=eagerness))

    def test_a_voice_that_falls_is_waited_for_less(self):
        assert self.wait(FALLING) < self.wait(LEVEL) - 0.3

    def test_words_outweigh_the_tune(self):
        assert self.wait(FALLING, "I went to the") > self.wait(LEVEL, "what time is it?")

    @pytest.mark.parametrize("eagerness", Eagerness)
    def test_within_the_bounds(self, eagerness):
        for sound in (FALLING, LEVEL, np.zeros(100, np.int16)):
            for words in (None, "so", "stop", "what is the time?"):
                bounds = BOUNDS[eagerness]
                wait = self.wait(sound, words, eagerness)
                assert bounds.finished - 1e-9 <= wait <= bounds.unfinished + 1e-9
                assert bounds.unfinished <= eagerness.longest_wait

    def test_eagerness(self):
        waits = [self.wait(LEVEL, None, e) for e in (Eagerness.HIGH, Eagerness.MEDIUM, Eagerness.LOW)]
        assert waits == sorted(waits)
        assert waits[0] < waits[2]

    @pytest.mark.parametrize("eagerness", Eagerness)
    def test_what_was_asked_for_moves_the_wait(self, eagerness):
        for sound in (FALLING, LEVEL):
            pause = Pause(sound, 2.0, eagerness=eagerness)
            short, usual, long = (
                RuleEndpointer().wait(replace(pause, expects=expects))
                for expects in (Expects.SHORT, Expects.ANY, Expects.LONG)
            )
            assert short <= usual + 1e-9 < long
            assert short >= BOUNDS[eagerness].finished - 1e-9
            assert long <= eagerness.longest_wait
        assert RuleEndpointer().wait(Pause(LEVEL, 2.0, expects=Expects.SHORT)) < RuleEndpointer().wait(
            Pause(LEVEL, 2.0)
        )
        known = Pause(LEVEL, 2.0, "four", 1.0, eagerness, expects=Expects.LONG)
        assert RuleEndpointer().wait(known) == BOUNDS[eagerness].certain

    def test_how_long_it_has_been_counts_as_much_as_was_asked_for(self):
        """ "Fourteen …" is not all of an address, and all of a number."""
        waits = {
            expects: [RuleEndpointer().wait(Pause(LEVEL, speech, expects=expects)) for speech in (1.0, 6.0)]
            for expects in Expects
        }
        gained = {expects: soon - late for expects, (soon, late) in waits.items()}
        assert gained[Expects.SHORT] == 0.0
        assert 0.1 < gained[Expects.ANY] < gained[Expects.LONG]

    def test_who_pauses_long_is_given_longer(self):
        endpointer, pause = RuleEndpointer(), Pause(FALLING, 2.0)
        slow = endpointer.wait(replace(pause, pauses=(0.8, 0.9, 0.8)))
        assert endpointer.wait(pause) < slow <= BOUNDS[Eagerness.AUTO].unfinished
        assert endpointer.wait(replace(pause, pauses=(9.0,))) == BOUNDS[Eagerness.AUTO].unfinished

    def test_words_that_leave_no_doubt(self):
        for eagerness in Eagerness:
            pause = Pause(LEVEL, 2.0, "stop", 1.0, eagerness, pauses=(2.0, 2.0))
            assert RuleEndpointer().wait(pause) == BOUNDS[eagerness].certain


class TestLateWords:
    """Somebody else was asked about a pause, and then there are words."""

    ASKED = Pause(FALLING, 2.0, eagerness=Eagerness.LOW)
    bounds = BOUNDS[Eagerness.LOW]

    def test_nothing_new(self):
        assert weigh_late_words(None, self.ASKED, self.ASKED) == self.bounds.unfinished
        assert weigh_late_words(1.2, self.ASKED, self.ASKED) == 1.2
        assert weigh_late_words(99.0, self.ASKED, self.ASKED) == 99.0, "whoever is asked may want more"

    def test_words_do_not_end_what_nobody_has_judged(self):
        known = replace(self.ASKED, transcript="Stop!")
        assert weigh_late_words(None, self.ASKED, known) == self.bounds.unfinished

    def test_they_outweigh_the_sound_but_do_not_silence_it(self):
        cut, whole = (replace(self.ASKED, transcript=words) for words in ("I went to the", "What is the time?"))
        waits = [weigh_late_words(said, self.ASKED, words) for words in (whole, cut) for said in (0.1, 99.0)]
        assert waits == sorted(waits)
        assert self.bounds.finished <= waits[0] < waits[1] < waits[2] < waits[3] <= self.bounds.unfinished

    def test_words_that_were_known_before_are_in_the_answer(self):
        asked = replace(self.ASKED, transcript="I went to the")
        assert weigh_late_words(0.8, asked, replace(asked)) == 0.8


INPUTS = {"input_features": ["batch", 80, 800]}


class TestSmartTurn:
    @pytest.mark.parametrize(
        "inputs", [{"input": ["batch", 128_000]}, {"input_features": ["batch", 80, 800], "x": []}]
    )
    def test_it_is_no_other_model(self, runtime, inputs):
        runtime.inputs = inputs
        with pytest.raises(LocalError, match="not a smart-turn model of version 3"):
            SmartTurnEndpointer(runtime.file("other.onnx"))

    def test_the_model_sees_the_end_of_eight_seconds(self, runtime):
        seen = []

        def run(given):
            seen.append(given["input_features"])
            return [np.array([[0.75]], np.float32)]

        runtime.run, runtime.inputs = run, INPUTS
        model = SmartTurnEndpointer(runtime.file("smart-turn.onnx"))
        assert model.probability(FALLING) == 0.75
        assert seen[0].shape == (1, 80, 800)
        assert seen[0].dtype == np.float32
        assert seen[0][0, :, :550].max() < seen[0][0, :, 650:].max() - 0.5
        bounds = BOUNDS[Eagerness.HIGH]
        pause = Pause(LEVEL, 2.0, eagerness=Eagerness.HIGH, silence=np.zeros(RATE, np.int16))
        assert model.wait(pause) == pytest.approx(bounds.between(0.75))
        assert seen[1][0, :, 790:].max() < seen[1][0, :, 700:770].max() - 0.5, "a fifth of a second of silence"
        assert seen[1][0, :, 770:779].max() > seen[1][0, :, 700:770].max() - 0.1
        assert model.wait(replace(pause, transcript="I went to the")) > model.wait(pause) + 0.2

    @pytest.mark.parametrize("seconds", [1.3, 8.0, 11.0])
    def test_features_are_whispers(self, runtime, seconds):
        """Held against the definition, written out: frames by hand, a Fourier sum, triangles on Slaney's scale."""
        rng = np.random.default_rng(3)
        sound = (rng.standard_normal(round(seconds * RATE)) * 800).astype(np.int16)
        sound[: RATE // 2] += hum([140, 180], [1, 1], 0.5)
        runtime.inputs = INPUTS
        found = SmartTurnEndpointer(runtime.file("smart-turn.onnx")).features(sound)
        signal = np.zeros(8 * RATE)
        tail = sound[-8 * RATE :] / 32768.0
        signal[len(signal) - len(tail) :] = tail  # silence before, the sound at the end
        signal = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-7)
        around = np.concatenate([signal[200:0:-1], signal, signal[-2:-202:-1]])  # centred on each 10 ms
        angle = -2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        frames = np.array([around[at * 160 : at * 160 + 400] for at in range(800)]) * window
        power = np.abs(frames @ np.exp(angle).T) ** 2
        step = np.log(6.4) / 27
        mels = np.linspace(0, 15 + np.log(8) / step, 82)
        hertz = [mel * 200 / 3 if mel < 15 else 1000 * np.exp(step * (mel - 15)) for mel in mels]
        bands = np.zeros((80, 201))
        for band in range(80):
            low, top, high = hertz[band : band + 3]
            for line in range(201):
                height = min((line * 40 - low) / (top - low), (high - line * 40) / (high - top))
                bands[band, line] = max(0.0, height) * 2 / (high - low)
        logarithm = np.log10(np.maximum(bands @ power.T, 1e-10))
        expected = (np.maximum(logarithm, logarithm.max() - 8) + 4) / 4
        assert found.shape == (80, 800)
        assert np.abs(found - expected).max() < 1e-4

    def test_a_tone_lands_in_its_band(self, runtime):
        runtime.inputs = INPUTS
        model = SmartTurnEndpointer(runtime.file("smart-turn.onnx"))
        tones = [
            model.features((8000 * np.sin(2 * np.pi * hz * np.arange(8 * RATE) / RATE)).astype(np.int16))
            for hz in (500, 1000, 4000)
        ]
        bands = [int(np.argmax(mel.mean(axis=1))) for mel in tones]
        # Slaney's scale: linear to 1 kHz, then logarithmic; 80 bands up to 8 kHz.
        assert bands == pytest.approx([13, 26, 60], abs=2)
