from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.audio import CodecError, OpusDecoder, OpusEncoder, has_lbrr, is_dtx, packet_duration, resample
from stack.core.errors import LocalError


def encode_all(encoder, samples, frames_of, milliseconds=20):
    return [encoder.encode(frame) for frame in frames_of(samples, encoder.sample_rate * milliseconds // 1000)]


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_payload_is_decoded_at_the_rate_and_channels_that_are_wanted(rate, channels):
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(9600) / 48_000)).astype(np.int16)
    encoder, decoder = OpusEncoder(), OpusDecoder(rate, channels)
    for at in range(0, 9600, 960):
        payload = encoder.encode(tone[at : at + 960])
        decoded = decoder.decode(payload)
        assert decoded.shape == ((rate // 50,) if channels == 1 else (rate // 50, 2))
        assert decoder.samples_in_packet(payload) == rate // 50
    assert 4000 < np.abs(decoded).max() < 12_000


def test_stereo_in_mono_out():
    encoder, decoder = OpusEncoder(channels=2, application="audio", bitrate=96_000), OpusDecoder(48_000, 1)
    left = (8000 * np.sin(2 * np.pi * 440 * np.arange(4800) / 48_000)).astype(np.int16)
    both = np.stack((left, np.zeros_like(left)), axis=1)
    for at in range(0, 4800, 960):
        decoded = decoder.decode(encoder.encode(both[at : at + 960]))
    assert 3000 < np.abs(decoded).max() < 5500


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_speech_keeps_its_quality(speech, frames_of, rate):
    pesq = pytest.importorskip("pesq", reason="pesq is not installed")
    at_48k = resample(speech, 16_000, 48_000)
    encoder, decoder = OpusEncoder(), OpusDecoder(rate)
    decoded = np.concatenate([decoder.decode(payload) for payload in encode_all(encoder, at_48k, frames_of)])
    heard = decoded if rate == 16_000 else resample(decoded, rate, 16_000)
    assert pesq.pesq(16_000, speech, heard, "wb") >= 3.8


def test_concealing_a_frame_of_a_vowel_is_better_than_silence(voice, frames_of, snr_db):
    payloads = encode_all(OpusEncoder(16_000), voice, frames_of)
    whole, holed = OpusDecoder(16_000), OpusDecoder(16_000)
    better = []
    for index, payload in enumerate(payloads):
        wanted = whole.decode(payload)
        lost = index % 10 == 9
        got = holed.conceal(320) if lost else holed.decode(payload)
        assert got.shape == (320,)
        if lost and np.abs(wanted).max() > 2000:
            better.append(snr_db(wanted, got))
    assert len(better) > 3
    assert np.median(better) > 1.0  # silence would be 0 dB


def test_fec_brings_a_lost_frame_back(speech, frames_of, snr_db):
    encoder = OpusEncoder(16_000, fec=True, expected_loss=20)
    payloads = encode_all(encoder, speech, frames_of)
    whole, repaired, concealed = OpusDecoder(16_000), OpusDecoder(16_000), OpusDecoder(16_000)
    assert sum(has_lbrr(payload) for payload in payloads) > len(payloads) / 3
    gains = []
    for payload, following in pairwise(payloads):
        wanted = whole.decode(payload)
        lost = has_lbrr(following) and len(gains) % 5 == 4
        gains.append(0.0)
        if lost and np.abs(wanted).max() > 1500:
            gains[-1] = snr_db(wanted, repaired.recover(following, 320)) - snr_db(wanted, concealed.conceal(320))
        else:
            repaired.decode(payload)
            concealed.decode(payload)
    assert np.mean([gain for gain in gains if gain]) > 2.0


@pytest.mark.parametrize("fec", [True, False])
def test_the_lbrr_bit_is_what_libopus_uses(speech, frames_of, fec):
    """libopus, asked for a copy that a packet does not have, conceals instead: only then are the two the same."""
    encoder = OpusEncoder(48_000, fec=fec, expected_loss=30)
    payloads = encode_all(encoder, resample(speech, 16_000, 48_000), frames_of)
    told = []
    for index in range(20, len(payloads) - 1, 7):
        asked, concealing = OpusDecoder(16_000), OpusDecoder(16_000)
        for payload in payloads[index - 10 : index]:
            asked.decode(payload)
            concealing.decode(payload)
        following = payloads[index + 1]
        same = np.array_equal(asked._call(following, 320, fec=True), concealing.conceal(320))
        told.append(has_lbrr(following))
        assert same != told[-1]
    assert any(told) == fec


def test_several_lost_in_a_row_fade_and_the_last_comes_from_the_copy(voice, frames_of):
    payloads = encode_all(OpusEncoder(16_000, fec=True, expected_loss=30), voice, frames_of)
    index = next(i for i in range(20, len(payloads)) if has_lbrr(payloads[i + 5]))
    decoder = OpusDecoder(16_000)
    for payload in payloads[:index]:
        decoder.decode(payload)
    recovered = decoder.recover(payloads[index + 5], 5 * 320)
    assert recovered.shape == (1600,)
    assert len(decoder.decode(payloads[index + 5])) == 320
    fading = decoder.conceal(16_000)
    assert fading.shape == (16_000,)
    assert np.abs(fading[-3200:]).max() < 200


def test_concealment_before_the_first_packet_is_silence():
    decoder = OpusDecoder(24_000)
    assert not decoder.conceal(480).any()
    assert decoder.conceal(0).shape == (0,)
    assert decoder.conceal(101).shape == (101,)  # no multiple of libopus' 2.5 ms


def test_recovery_before_the_first_packet(voice, frames_of):
    payloads = encode_all(OpusEncoder(16_000, fec=True, expected_loss=30), voice, frames_of)
    following = next(payload for payload in payloads if has_lbrr(payload))
    assert OpusDecoder(16_000).recover(following, 320).any()


def test_settings_are_changed_while_running(voice, frames_of):
    encoder = OpusEncoder(16_000, bitrate=12_000)
    frames = frames_of(voice, 320)
    small = sum(len(encoder.encode(frame)) for frame in frames)
    encoder.bitrate, encoder.complexity, encoder.fec, encoder.expected_loss = 48_000, 0, True, 25
    large = sum(len(encoder.encode(frame)) for frame in frames)
    assert large > 2.5 * small
    assert (encoder.bitrate, encoder.complexity, encoder.fec, encoder.expected_loss) == (48_000, 0, True, 25)
    with pytest.raises(LocalError, match="complexity=11"):
        encoder.complexity = 11
    assert encoder.complexity == 0


def test_dtx_says_that_silence_need_not_be_sent(voice, frames_of):
    encoder = OpusEncoder(16_000, dtx=True)
    for frame in frames_of(voice, 320)[:20]:
        assert not is_dtx(encoder.encode(frame))
    quiet = [is_dtx(encoder.encode(np.zeros(320, np.int16))) for _ in range(100)]
    assert sum(quiet) > 70


def test_frames_that_opus_does_not_have_are_our_own_fault():
    encoder = OpusEncoder()
    for shape in [(959,), (0,), (960, 2), (960, 1, 1)]:
        with pytest.raises(LocalError):
            encoder.encode(np.zeros(shape, np.int16))
    assert encoder.encode(np.zeros((960, 1), np.int16))
    with pytest.raises(LocalError):
        OpusEncoder(44_100)
    with pytest.raises(LocalError):
        OpusDecoder(16_000, 3)
    with pytest.raises(LocalError):
        OpusEncoder(application="music")


@pytest.mark.parametrize("milliseconds", [10, 20, 40, 60])
def test_the_toc_tells_the_duration(milliseconds):
    payload = OpusEncoder().encode(np.zeros(48 * milliseconds, np.int16))
    assert packet_duration(payload) == 48 * milliseconds


def test_the_duration_of_every_configuration():
    # RFC 6716 table 2, in tenths of a millisecond
    table = [100, 200, 400, 600] * 3 + [100, 200] * 2 + [25, 50, 100, 200] * 4
    for config, tenths in enumerate(table):
        assert packet_duration(bytes([config << 3, 0])) == tenths * 48 // 10
        assert packet_duration(bytes([config << 3 | 1, 0])) == 2 * tenths * 48 // 10


@pytest.mark.parametrize(
    "payload", [b"", b"\x03", b"\x03\x00", b"\x1b\x03", b"\xff\x31", bytes([0x7B, 7]) + bytes(40)]
)
def test_malformed_packets_have_no_duration(payload):
    with pytest.raises(CodecError):
        packet_duration(payload)
    with pytest.raises(CodecError):
        OpusDecoder(16_000).decode(payload)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_raise(payload):
    decoder = OpusDecoder(16_000)
    try:
        expected = decoder.samples_in_packet(payload)
    except CodecError:
        expected = None
    try:
        decoded = decoder.decode(payload)
    except CodecError:
        pass
    else:
        assert len(decoded) == expected
    assert has_lbrr(payload) in (True, False)
    assert len(decoder.recover(payload, 320)) == 320
