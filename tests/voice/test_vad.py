import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError
from stack.voice.audio_level import AudioLevelGate
from stack.voice.silero import SileroDetector
from stack.voice.vad import (
    Decimator,
    EarshotDetector,
    EnergyDetector,
    FramedDetector,
    SpeechDetector,
    SpeechSettings,
    SpeechStarted,
    SpeechStopped,
    VoiceFrame,
    level_dbfs,
)

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
FRAME = 0.016


def tone(seconds: float, rate: int = 16_000, amplitude: float = 8000.0, hz: float = 440.0) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def noise(seconds: float, amplitude: float, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(int(seconds * 16_000)) * amplitude).astype(np.int16)


def sentence(index: int = 0) -> np.ndarray:
    files = sorted(SPEECH.glob("*.wav"))
    if not files:
        pytest.skip("recorded speech: apt-get install pocketsphinx-testdata")
    with wave.open(str(files[index])) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def frames(pattern: str, start: float = 0.0) -> list[VoiceFrame]:
    """`#` is a frame of speech, `.` one of silence, `-` one between the two thresholds."""
    value = {"#": 0.9, ".": 0.1, "-": 0.4}
    return [VoiceFrame(start + i * FRAME, FRAME, value[c], -20.0) for i, c in enumerate(pattern)]


def run(detector: SpeechDetector, pattern: str, start: float = 0.0) -> list[object]:
    return [event for frame in frames(pattern, start) for event in detector.push(frame)]


class Counting(FramedDetector):
    """Counts the frames that it is asked about; says of each that it is speech."""

    def __init__(self, settles: bool) -> None:
        super().__init__(256, settles)
        self.asked = 0

    def _score(self, frame: np.ndarray, level: float) -> float:
        self.asked += 1
        return 1.0

    def _forget(self) -> None:
        self.asked = 0


class TestSilence:
    def test_after_a_second_of_it_nothing_is_asked_until_something_can_be_heard(self):
        detector = Counting(settles=True)
        quiet = [frame.probability for frame in detector.push(noise(3.008, 5.0), 16_000, 0.0)]
        asked = detector.asked
        assert asked == 62
        assert quiet == [1.0] * asked + [0.0] * (len(quiet) - asked)
        detector.push(noise(0.512, 20.0), 16_000, 3.008)
        assert detector.asked == asked + 32
        detector.push(noise(0.512, 5.0), 16_000, 3.52)
        assert detector.asked == asked + 64

    def test_a_detector_that_follows_the_noise_is_always_asked(self):
        detector = Counting(settles=False)
        assert len(detector.push(noise(3.0, 5.0), 16_000, 0.0)) == detector.asked

    def test_another_timeline_begins_with_a_detector_that_is_asked(self):
        detector = Counting(settles=True)
        detector.push(noise(3.0, 5.0), 16_000, 0.0)
        detector.push(noise(0.5, 5.0), 16_000, 10.0)
        assert detector.asked == 8000 // 256
        detector.reset()
        detector.push(noise(0.5, 5.0), 16_000, 0.0)
        assert detector.asked == 8000 // 256

    def test_the_network_says_the_same_of_what_follows(self):
        said = sentence()[:32_000]
        silence = np.zeros(10 * 16_000, np.int16)[: 256 * 600]
        rested, network = EarshotDetector(), EarshotDetector()
        network.push(silence[: 256 * 62], 16_000, 0.0)
        rested.push(silence, 16_000, 0.0)
        after = rested.push(said, 16_000, len(silence) / 16_000)
        straight = network.push(said, 16_000, 62 * FRAME)
        shown = EarshotDetector(settles=False)
        shown.push(silence, 16_000, 0.0)
        every = shown.push(said, 16_000, len(silence) / 16_000)
        assert [f.probability for f in after] == [f.probability for f in straight]
        assert [f.probability for f in after] == pytest.approx([f.probability for f in every], abs=0.05)


class TestFraming:
    def test_frames_do_not_depend_on_how_the_samples_were_cut(self):
        samples = noise(1.0, 500.0)
        whole = EnergyDetector().push(samples, 16_000, 5.0)
        detector, pieces, at = EnergyDetector(), [], 0
        for size in (320, 1, 77, 960, 5000, 16_000):
            piece = samples[at : at + size]
            pieces += detector.push(piece, 16_000, 5.0 + at / 16_000)
            at += size
        assert len(whole) == 62
        assert [f.probability for f in pieces] == [f.probability for f in whole]
        assert [f.media_time for f in pieces] == pytest.approx([f.media_time for f in whole])

    def test_media_time_is_that_of_the_samples_after_a_hole(self):
        detector = EnergyDetector()
        detector.push(noise(0.02, 500.0), 16_000, 1.0)
        (frame,) = detector.push(noise(0.02, 500.0), 16_000, 1.1)
        assert frame.media_time == pytest.approx(1.1)

    @pytest.mark.parametrize("rate", [32_000, 48_000])
    def test_other_rates_are_brought_to_16_khz(self, rate):
        out = Decimator(rate)
        blocks = np.concatenate([out.push(block) for block in np.array_split(tone(1.0, rate), 37)])
        assert len(blocks) == pytest.approx(16_000, abs=1)
        assert level_dbfs(blocks[500:]) == pytest.approx(level_dbfs(tone(1.0)), abs=0.2)

    def test_decimation_removes_what_would_fold_back(self):
        out = Decimator(48_000).push(tone(1.0, 48_000, hz=11_000.0))
        assert level_dbfs(out[500:]) < level_dbfs(tone(1.0)) - 45.0

    @pytest.mark.parametrize(
        ("samples", "rate"),
        [
            (tone(0.1), 44_100),
            (tone(0.1), 8_000),
            (tone(0.1).astype(np.float32), 16_000),
            (tone(0.1)[None], 16_000),
        ],
    )
    def test_what_it_cannot_take_is_the_callers_fault(self, samples, rate):
        with pytest.raises(LocalError):
            EnergyDetector().push(samples, rate, 0.0)

    def test_level(self):
        assert level_dbfs(np.zeros(100, np.int16)) == -100.0
        assert level_dbfs(np.zeros(0, np.int16)) == -100.0
        assert level_dbfs(np.full(100, -32768, np.int16)) == pytest.approx(0.0)


class TestDetectors:
    def test_earshot_hears_a_voice_and_not_a_noise(self):
        detector = EarshotDetector()
        quiet = [f.probability for f in detector.push(noise(2.0, 100.0), 16_000, 0.0)]
        speech = sentence()[8000:]
        loud = [f.probability for f in detector.push(speech, 16_000, 2.0)]
        assert np.mean(np.array(quiet) > 0.5) < 0.02
        assert np.mean(np.array(loud) > 0.5) > 0.85

    def test_earshot_forgets(self):
        detector = EarshotDetector()
        first = [f.probability for f in detector.push(sentence(), 16_000, 0.0)]
        detector.reset()
        assert [f.probability for f in detector.push(sentence(), 16_000, 0.0)] == first

    def test_energy_follows_the_noise_floor(self):
        detector = EnergyDetector()
        detector.push(noise(4.0, 30.0), 16_000, 0.0)
        assert detector.noise_floor == pytest.approx(level_dbfs(noise(1.0, 30.0)), abs=2.0)
        (*_, burst) = detector.push(tone(0.1), 16_000, 4.0)
        assert burst.probability > 0.9
        louder = detector.push(noise(20.0, 300.0), 16_000, 4.1)
        assert louder[5].probability > 0.9
        assert louder[-1].probability < 0.5

    def test_silero_is_no_other_model(self, runtime):
        runtime.inputs = {"input_features": [1, 80, 800]}
        with pytest.raises(LocalError, match="not a Silero VAD"):
            SileroDetector(runtime.file("other.onnx"))

    def test_silero_keeps_its_state_and_its_context(self, runtime):
        seen = []

        def run(given):
            seen.append(given)
            return np.array([[0.75]], np.float32), given["state"] + 1

        runtime.run = run
        runtime.inputs = {"input": ["batch", "samples"], "state": [2, "batch", 128], "sr": []}
        detector = SileroDetector(runtime.file("silero_vad.onnx"))
        out = detector.push(tone(0.064), 16_000, 0.0)
        assert [f.probability for f in out] == [0.75, 0.75]
        assert out[1].media_time == pytest.approx(0.032)
        assert seen[0]["input"].shape == (1, 576)
        assert not seen[0]["input"][0, :64].any()
        assert (seen[1]["input"][0, :64] == seen[0]["input"][0, -64:]).all()
        assert (seen[1]["state"] == 1).all()
        detector.reset()
        detector.push(tone(0.032), 16_000, 0.0)
        assert not seen[2]["state"].any()
        other = SileroDetector(runtime.file("silero_vad.onnx"))
        detector.push(tone(0.032), 16_000, 0.032)
        other.push(tone(0.032), 16_000, 0.0)
        assert not seen[4]["state"].any(), "calls share the model, and no memory"


class TestFirstLook:
    def test_a_silent_client_costs_no_detector(self):
        look = AudioLevelGate(EarshotDetector())
        for i in range(50):
            (frame,) = look.push(np.zeros(320, np.int16), 16_000, i * 0.02, audio_level=127)
            assert frame.probability == 0.0
        assert look.skipped == 50

    def test_the_onset_is_found_as_without_it(self):
        speech = np.concatenate([np.zeros(16_000, np.int16), sentence()])
        plain, looked = EarshotDetector(), AudioLevelGate(EarshotDetector())
        onsets = []
        for detector in (plain, looked):
            speaking = SpeechDetector()
            for at in range(0, len(speech) - 320, 320):
                block = speech[at : at + 320]
                extra = {} if detector is plain else {"audio_level": min(127, int(-level_dbfs(block)))}
                for frame in detector.push(block, 16_000, at / 16_000, **extra):
                    onsets += [e.onset for e in speaking.push(frame) if isinstance(e, SpeechStarted)]
        assert looked.skipped >= 45
        assert onsets[0] == pytest.approx(onsets[len(onsets) // 2], abs=0.02)

    def test_a_client_that_lies_is_not_asked_again(self):
        look = AudioLevelGate(EnergyDetector())
        look.push(tone(0.02), 16_000, 0.0, audio_level=127)
        assert not look.trusted
        look.push(np.zeros(320, np.int16), 16_000, 0.02, audio_level=127)
        assert look.skipped == 0
        look.reset()
        assert look.trusted


class TestSpeechDetector:
    def test_start_and_stop_in_media_time(self):
        detector = SpeechDetector()
        started, stopped = run(detector, "." * 40 + "#" * 30 + "." * 20, start=100.0)
        assert started == SpeechStarted(
            pytest.approx(100.64 - 0.3), pytest.approx(100.64), pytest.approx(100.64 + 4 * FRAME), -20.0
        )
        assert isinstance(stopped, SpeechStopped)
        assert stopped.media_time == pytest.approx(100.64 + 30 * FRAME)
        assert stopped.silence == pytest.approx(13 * FRAME)
        assert stopped.duration == pytest.approx(30 * FRAME)

    def test_short_bursts_are_nothing(self):
        assert run(SpeechDetector(), "...###......##....###......") == []

    def test_a_dip_does_not_start_the_count_afresh(self):
        (started,) = run(SpeechDetector(), "..##.###")
        assert isinstance(started, SpeechStarted)
        assert started.onset == pytest.approx(2 * FRAME)

    def test_hysteresis_keeps_weak_speech_and_does_not_begin_with_it(self):
        assert run(SpeechDetector(), "-" * 50) == []
        (started,) = run(SpeechDetector(), "####" + "-" * 50)
        assert isinstance(started, SpeechStarted)

    def test_the_padding_never_reaches_into_the_utterance_before(self):
        detector = SpeechDetector()
        _, stopped, started = run(detector, "#" * 10 + "." * 14 + "#" * 10)
        assert started.media_time == stopped.media_time
        assert started.onset > stopped.media_time

    def test_the_slow_release_of_a_detector_is_not_speech(self):
        _, stopped = run(SpeechDetector(), "#" * 20 + "-" * 5 + "." * 20)
        assert stopped.media_time == pytest.approx(20 * FRAME)
        assert stopped.decided == pytest.approx(38 * FRAME)
        _, stopped = run(SpeechDetector(), "#" * 20 + "-" * 50 + "." * 20)
        assert stopped.media_time == pytest.approx(70 * FRAME - 0.12)

    def test_a_hole_in_media_time_is_silence(self):
        detector = SpeechDetector()
        run(detector, "#" * 20)
        (stopped,) = detector.push(VoiceFrame(20 * FRAME + 0.4, FRAME, 0.1, -60.0))
        assert isinstance(stopped, SpeechStopped)
        assert stopped.media_time == pytest.approx(20 * FRAME)

    def test_nothing_sent_ends_speech_too(self):
        detector = SpeechDetector()
        run(detector, "#" * 20)
        assert detector.advance(20 * FRAME + 0.1) == []
        (stopped,) = detector.advance(20 * FRAME + 0.3)
        assert stopped.decided == pytest.approx(20 * FRAME + 0.3)
        assert detector.advance(1.0) == []
        assert not detector.speaking

    def test_a_short_hole_does_not_break_speech(self):
        detector = SpeechDetector()
        run(detector, "#" * 20)
        assert run(detector, "#" * 20, start=20 * FRAME + 0.06) == []
        assert detector.speaking

    def test_a_step_back_is_a_new_stream(self):
        detector = SpeechDetector()
        run(detector, "#" * 20, start=50.0)
        stopped, started = run(detector, "#" * 20, start=3.0)
        assert stopped.media_time == pytest.approx(50.0 + 20 * FRAME)
        assert started.onset == 3.0

    def test_reset_ends_what_runs(self):
        detector = SpeechDetector()
        run(detector, "#" * 20)
        assert [type(e) for e in detector.reset()] == [SpeechStopped]
        assert detector.reset() == []

    def test_settings_may_change_in_the_middle(self):
        detector = SpeechDetector()
        run(detector, "#" * 20)
        detector.settings = SpeechSettings(silence_ms=0.0)
        assert len(run(detector, ".", start=20 * FRAME)) == 1

    def test_suspicion_comes_before_certainty(self):
        detector = SpeechDetector()
        run(detector, "..#")
        assert detector.suspected_since == pytest.approx(2 * FRAME)
        run(detector, ".", start=3 * FRAME)
        assert detector.suspected_since is None

    @pytest.mark.parametrize(
        "bad", [{"threshold": 0.0}, {"threshold": 1.5}, {"silence_ms": -1.0}, {"hysteresis": -0.1}]
    )
    def test_settings_that_make_no_sense(self, bad):
        with pytest.raises(LocalError):
            SpeechSettings(**bad)

    @settings(max_examples=60, deadline=None)
    @given(st.text(alphabet="#.-", max_size=120), st.lists(st.integers(-40, 60), max_size=120))
    def test_starts_and_stops_alternate_and_never_overlap(self, pattern, jumps):
        detector, at, events = SpeechDetector(), 0.0, []
        for frame, jump in zip(frames(pattern), jumps + [0] * len(pattern), strict=False):
            at += jump * 0.01
            events += detector.push(frame._replace(media_time=frame.media_time + at))
        events += detector.reset()
        kinds = [type(event) for event in events]
        assert kinds == [SpeechStarted, SpeechStopped] * (len(kinds) // 2)
        for started, stopped in zip(events[::2], events[1::2], strict=True):
            assert started.media_time <= started.onset <= stopped.media_time <= stopped.decided
