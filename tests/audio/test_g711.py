from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.audio import CodecError, G711Decoder, G711Encoder, G711Law, resample
from stack.core.errors import LocalError


def decode_8k(law, codes):
    return G711Decoder(law, 8_000).decode(bytes(codes))


def test_the_values_of_the_recommendation():
    # G.711 tables 1a/2a: the largest, the smallest and the first of each segment, in 16-bit scale
    assert decode_8k(G711Law.PCMU, [0x80, 0x00, 0xFF, 0x7F, 0x8F, 0x90]).tolist() == [
        32124, -32124, 0, 0, 16764, 15996,
    ]  # fmt: skip
    assert decode_8k(G711Law.PCMA, [0xAA, 0x2A, 0xD5, 0x55, 0xA5, 0xBA]).tolist() == [
        32256, -32256, 8, -8, 16896, 16128,
    ]  # fmt: skip


@pytest.mark.parametrize("law", list(G711Law))
def test_every_level_survives_and_every_sample_takes_the_nearest(law):
    levels = decode_8k(law, range(256))
    again = G711Decoder(law, 8_000).decode(G711Encoder(law).encode(levels))
    assert np.array_equal(again, levels)
    samples = np.arange(-32768, 32768).astype(np.int16)
    encoded = G711Encoder(law).encode(samples)
    got = levels[np.frombuffer(encoded, np.uint8)].astype(int)
    best = np.abs(samples[::257].astype(int)[:, None] - levels[None, :].astype(int)).min(axis=1)
    assert np.array_equal(np.abs(got - samples)[::257], best)


@pytest.mark.parametrize("law", list(G711Law))
def test_narrow_band_quality(law, voice, frames_of, snr_db):
    narrow = resample(voice, 16_000, 8_000)
    encoder, decoder = G711Encoder(law), G711Decoder(law, 16_000)
    heard = np.concatenate([decoder.decode(encoder.encode(frame)) for frame in frames_of(narrow, 160)])
    assert len(heard) == len(voice)
    late = 24 * 2  # the filter looks 24 samples of 8 kHz ahead
    assert snr_db(resample(narrow, 8_000, 16_000)[: len(heard) - late], heard[late:]) > 30


def test_a_hole_is_filled_without_clicks(frames_of):
    tone = (8000 * np.sin(2 * np.pi * 200 * np.arange(8000) / 8000)).astype(np.int16)
    encoder, decoder = G711Encoder(), G711Decoder(sample_rate=16_000)
    heard = []
    for index, frame in enumerate(frames_of(tone, 160)):
        payload = encoder.encode(frame)
        heard.append(decoder.recover(payload, 320) if index in (10, 20, 21) else decoder.decode(payload))
        assert len(heard[-1]) == 320
    joined = np.concatenate(heard).astype(int)
    steepest = 2 * np.pi * 200 / 16_000 * 8000
    assert np.abs(np.diff(joined)).max() < 1.4 * steepest


def test_whose_fault():
    with pytest.raises(CodecError):
        G711Decoder().decode(b"")
    with pytest.raises(CodecError):
        G711Decoder().decode(bytes(1601))
    with pytest.raises(LocalError):
        G711Decoder(sample_rate=22_050)
    with pytest.raises(LocalError):
        G711Encoder().encode(np.zeros((160, 2), np.int16))


@given(st.binary(min_size=1, max_size=1600))
def test_any_bytes_are_sound(payload):
    decoder = G711Decoder(G711Law.PCMA)
    assert len(decoder.decode(payload)) == decoder.samples_in_packet(payload) == 2 * len(payload)
    assert not decoder.has_fec(payload)
