import numpy as np
import pytest

from stack.core.errors import LocalError
from stack.voice.noise_reduction import BLOCK, STRENGTHS, NoiseReducedDetector, WebRtcNoiseReduction
from stack.voice.vad import DETECTOR_RATE, EnergyDetector, VoiceFrame, level_dbfs

RATE = DETECTOR_RATE


class Halved:
    """Stands for a suppressor: every block at half its level."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        assert len(samples) % BLOCK == 0
        return (samples // 2).astype(np.int16)


class Listening(EnergyDetector):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[np.ndarray, float]] = []
        self.disowned = 0

    def push(self, samples: np.ndarray, sample_rate: int, media_time: float) -> list[VoiceFrame]:
        self.heard.append((samples, media_time))
        return super().push(samples, sample_rate, media_time)

    def disown(self) -> None:
        self.disowned += 1


@pytest.fixture
def ear() -> Listening:
    return Listening()


def reduced(ear: Listening) -> NoiseReducedDetector:
    return NoiseReducedDetector(ear, Halved)  # type: ignore[arg-type]


class TestNoiseReducedDetector:
    def test_the_detector_hears_what_is_left_where_it_was(self, ear: Listening) -> None:
        sound = np.arange(3 * 320, dtype=np.int16)
        detector = reduced(ear)
        frames = [
            frame for at in (0, 320, 640) for frame in detector.push(sound[at : at + 320], RATE, 5 + at / RATE)
        ]
        assert [frame.media_time for frame in frames] == pytest.approx([5.0, 5.016, 5.032])
        assert np.array_equal(np.concatenate([samples for samples, _ in ear.heard]), sound // 2)

    def test_what_is_no_whole_block_waits(self, ear: Listening) -> None:
        sound = np.arange(400, dtype=np.int16)
        detector = reduced(ear)
        detector.push(sound[:100], RATE, 1.0)
        detector.push(sound[100:], RATE, 1.0 + 100 / RATE)
        assert [len(samples) for samples, _ in ear.heard] == [0, 320]
        assert ear.heard[-1][1] == pytest.approx(1.0)

    def test_after_a_hole_nothing_waits_any_more(self, ear: Listening) -> None:
        detector = reduced(ear)
        detector.push(np.ones(100, np.int16), RATE, 1.0)
        detector.push(np.full(160, 8, np.int16), RATE, 3.0)
        assert np.array_equal(ear.heard[-1][0], np.full(160, 4))
        assert ear.heard[-1][1] == 3.0

    def test_the_rest_of_a_detector_is_the_detector(self, ear: Listening) -> None:
        detector = reduced(ear)
        detector.hurried = True
        detector.disown()
        assert (ear.hurried, ear.disowned, detector.hurried) == (True, 1, True)
        assert detector.inaudible == ear.inaudible
        detector.push(np.ones(100, np.int16), RATE, 1.0)
        detector.reset()
        detector.push(np.ones(160, np.int16), RATE, 1.0)
        assert len(ear.heard[-1][0]) == 160

    def test_another_rate_is_an_error(self, ear: Listening) -> None:
        with pytest.raises(LocalError, match="16000 Hz, not 48000"):
            reduced(ear).push(np.zeros(480, np.int16), 48_000, 0.0)


class TestWebRtcNoiseReduction:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("webrtc_noise_gain")

    def test_it_takes_noise_off(self) -> None:
        rng = np.random.default_rng(1)
        noise = (rng.standard_normal(4 * RATE) * 500).astype(np.int16)
        left = WebRtcNoiseReduction().push(noise)
        assert len(left) == len(noise)
        assert level_dbfs(left[2 * RATE :]) < level_dbfs(noise[2 * RATE :]) - 8.0

    def test_what_is_no_block_and_no_strength_is_an_error(self) -> None:
        with pytest.raises(LocalError, match="blocks of 160"):
            WebRtcNoiseReduction().push(np.zeros(100, np.int16))
        with pytest.raises(LocalError, match="int16"):
            WebRtcNoiseReduction().push(np.zeros(160, np.float32))  # type: ignore[arg-type]
        with pytest.raises(LocalError, match=f"1 to {STRENGTHS[-1]}, not 9"):
            WebRtcNoiseReduction(9)
