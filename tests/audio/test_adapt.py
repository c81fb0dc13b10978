from __future__ import annotations

import numpy as np

from stack.audio import EncoderTuner, OpusEncoder, has_lbrr


def settings(encoder):
    return encoder.fec, encoder.bitrate, encoder.expected_loss


def test_without_loss_nothing_is_spent_on_it():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder)
    for second in range(10):
        tuner.update(0.005, second)
    assert settings(encoder) == (False, 24_000, 0)


def test_loss_switches_fec_on_at_once_and_off_slowly():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder)
    tuner.update(0.08, 1.0)
    assert settings(encoder) == (True, 32_000, 10)
    tuner.update(0.0, 6.0)
    assert settings(encoder) == (True, 32_000, 10)
    for second in range(7, 60):
        tuner.update(0.0, float(second))
    assert settings(encoder) == (False, 24_000, 0)


def test_loss_near_the_threshold_does_not_flicker():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder)
    seen = []
    for second in range(100):
        tuner.update(0.025 if second % 2 else 0.015, float(second))
        seen.append(encoder.fec)
    assert seen[0] is False
    assert all(seen[1:])


def test_where_there_is_redundancy_fec_stays_off():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder, redundancy=True)
    tuner.update(0.3, 1.0)
    assert settings(encoder) == (False, 24_000, 0)
    tuner.redundancy = False
    tuner.update(0.3, 2.0)
    assert settings(encoder) == (True, 32_000, 20)


def test_the_copies_are_really_sent(voice, frames_of):
    encoder = OpusEncoder(16_000)
    frames = frames_of(voice, 320)
    assert not any(has_lbrr(encoder.encode(frame)) for frame in frames)
    EncoderTuner(encoder).update(0.03, 1.0)
    assert np.mean([has_lbrr(encoder.encode(frame)) for frame in frames]) > 0.3
