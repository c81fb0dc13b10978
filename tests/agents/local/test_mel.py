import numpy as np
import pytest

from stack.agents.local.mel import BANDS, log_mel, text_of


def sweep() -> np.ndarray:
    at = np.arange(16_000) / 16_000
    return (0.5 * np.sin(2 * np.pi * (200 + 1500 * at) * at)).astype(np.float32)


class TestLogMel:
    def test_as_whisper_has_it(self):
        # SYSTRAN/faster-whisper 1.2.1, FeatureExtractor()(sweep, padding=0)
        expected = [
            [-0.2787, -0.553, -0.553],
            [0.4068, -0.553, -0.553],
            [0.5907, -0.553, -0.553],
            [-0.3368, -0.553, -0.553],
            [-0.553, -0.342, -0.553],
            [-0.553, 1.3889, -0.553],
            [-0.553, -0.553, -0.5008],
            [-0.553, -0.553, 0.056],
            [-0.553, -0.553, -0.553],
            [-0.553, -0.553, -0.553],
        ]
        got = log_mel(sweep())
        assert got.shape == (BANDS, 100)
        np.testing.assert_allclose(got[::8, [10, 50, 90]], expected, atol=2e-4)

    def test_a_tone_is_where_its_pitch_is(self):
        at = np.arange(8000) / 16_000
        low, high = (log_mel(np.sin(2 * np.pi * f * at).astype(np.float32)).mean(1).argmax() for f in (300, 3000))
        assert low == pytest.approx(300 / (200 / 3) * 81 / 45.245, abs=1.5)  # 45.2 mels up to 8 kHz
        assert low < high < BANDS

    def test_silence(self):
        assert np.unique(log_mel(np.zeros(1600, np.float32))) == pytest.approx([-1.5])


class TestTokens:
    def test_bytes_become_letters(self):
        assert text_of(["ĠA", "Ġcaf", "Ã", "©", ",", "Ġhere", "."]) == " A café, here."

    def test_special_tokens_and_broken_characters(self):
        assert text_of(["<|startoftranscript|>", "ĠYes", "<|endoftext|>"]) == " Yes"
        assert text_of(["Ã"]) == "\ufffd"
        assert text_of([]) == ""
