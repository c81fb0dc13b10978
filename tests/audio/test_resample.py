from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.audio import Resampler, resample
from stack.core.errors import LocalError

RATES = [8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
PAIRS = [(a, b) for a in RATES for b in RATES if a != b]


def band_limited_noise(rate, limit, seconds=1.0, seed=3):
    count = int(rate * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 4000, count))
    spectrum[np.fft.rfftfreq(count, 1 / rate) > limit] = 0
    return np.fft.irfft(spectrum, count).astype(np.int16)


def tone(frequency, rate, seconds=1.0, level=10_000):
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_a_tone_comes_out_as_the_same_tone(rate_in, rate_out, snr_db):
    got = resample(tone(1000, rate_in), rate_in, rate_out)
    assert len(got) == rate_out
    edge = rate_out // 100
    assert snr_db(tone(1000, rate_out)[edge:-edge], got[edge:-edge]) > 65


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_as_good_as_soxr(rate_in, rate_out, snr_db):
    soxr = pytest.importorskip("soxr", reason="soxr is not installed")
    noise = band_limited_noise(rate_in, 0.85 * min(rate_in, rate_out) / 2)
    reference = soxr.resample(noise, rate_in, rate_out, quality="VHQ")
    got = resample(noise, rate_in, rate_out)[: len(reference)]
    edge = rate_out // 50
    assert snr_db(reference[edge:-edge], got[edge:-edge]) > 65


def test_what_does_not_fit_the_lower_rate_is_removed():
    aliased = resample(tone(11_000, 48_000), 48_000, 16_000)
    assert np.abs(aliased[200:-200]).max() <= 3  # -70 dB


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(48_000, 16_000), (22_050, 48_000), (24_000, 48_000), (8_000, 16_000), (44_100, 32_000)]),
    st.lists(st.integers(0, 700), min_size=1, max_size=12),
    st.booleans(),
)
def test_blocks_of_any_length_give_the_same_as_one(rates, sizes, causal):
    sound = band_limited_noise(rates[0], 3000)[: sum(sizes)]
    whole, parts = Resampler(*rates, causal=causal), Resampler(*rates, causal=causal)
    expected = np.concatenate((whole.process(sound), whole.flush()))
    got, at = [], 0
    for size in sizes:
        got.append(parts.process(sound[at : at + size]))
        at += size
    joined = np.concatenate([*got, parts.flush()])
    assert np.abs(joined.astype(int) - expected).max(initial=0) <= 1
    assert len(joined) == len(expected)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_causal_gives_every_frame_at_once_and_is_late_by_its_delay(rate_in, rate_out, snr_db):
    sound = band_limited_noise(rate_in, 3000)
    resampler = Resampler(rate_in, rate_out, causal=True)
    frame = rate_in // 50
    got = [resampler.process(sound[at : at + frame]) for at in range(0, len(sound), frame)]
    assert {len(part) for part in got} == {rate_out // 50}
    late = resampler.delay * rate_out
    assert resampler.delay < 0.0035
    everything = np.concatenate([*got, resampler.flush()])
    if late == int(late):
        aligned = resample(sound, rate_in, rate_out)
        assert snr_db(aligned, everything[int(late) :][: len(aligned)]) > 50
    else:
        assert len(everything) == len(resample(sound, rate_in, rate_out)) + int(late)


def test_stereo_keeps_its_channels_apart(snr_db):
    both = np.stack((tone(500, 24_000), tone(2000, 24_000)), axis=1)
    got = resample(both, 24_000, 48_000)
    assert got.shape == (48_000, 2)
    for channel, frequency in enumerate((500, 2000)):
        assert snr_db(tone(frequency, 48_000)[500:-500], got[500:-500, channel]) > 60


def test_a_stream_can_be_begun_again():
    resampler = Resampler(24_000, 48_000)
    first = np.concatenate((resampler.process(tone(500, 24_000)), resampler.flush()))
    again = np.concatenate((resampler.process(tone(500, 24_000)), resampler.flush()))
    assert np.array_equal(first, again)


def test_the_same_rate_changes_nothing():
    sound = tone(500, 16_000)
    resampler = Resampler(16_000, 16_000)
    assert np.array_equal(resampler.process(sound), sound)
    assert (len(resampler.flush()), resampler.delay) == (0, 0.0)


def test_no_filter_for_odd_ratios():
    for rates in [(0, 16_000), (16_000, -1), (16_000, 48_001)]:
        with pytest.raises(LocalError):
            Resampler(*rates)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(10**9, 8_000), (47_999, 48_000), (10**9 + 7, 48_000)])
def test_a_filter_that_would_take_all_memory_is_refused(rate_in: int, rate_out: int) -> None:
    with pytest.raises(LocalError, match="too odd a ratio"):
        Resampler(rate_in, rate_out)
