from __future__ import annotations

import numpy as np
import pytest

from stack.audio import AudioFrame, ByteStream, to_int16
from stack.core.errors import LocalError


def test_a_frame_knows_its_length_and_cannot_be_changed():
    frame = AudioFrame(np.zeros(320, np.int16), 16_000, 1.5)
    assert (len(frame), frame.duration, frame.concealed) == (320, 0.02, False)
    with pytest.raises(AttributeError):
        frame.media_time = 2.0  # type: ignore[misc]


def test_floats_are_scaled_and_clipped():
    pcm = np.array([0.0, 0.5, 1.0, -1.0, 2.0, -2.0, np.nan, np.inf], np.float32)
    assert to_int16(pcm).tolist() == [0, 16384, 32767, -32767, 32767, -32768, 0, 32767]


def test_bytes_are_little_endian():
    assert to_int16(b"\x01\x00\xff\xff\x00\x80").tolist() == [1, -1, -32768]
    assert to_int16(memoryview(bytearray(b"\x01\x00"))).tolist() == [1]


def test_channels_are_mixed_and_repeated():
    stereo = np.array([[100, 300], [-100, -300]], np.int16)
    assert to_int16(stereo).tolist() == [200, -200]
    assert to_int16(stereo, 2).tolist() == stereo.tolist()
    assert to_int16(np.array([5, 6], np.int16), 2).tolist() == [[5, 5], [6, 6]]
    assert to_int16(stereo[:, :1]).tolist() == [100, -100]


def test_the_writer_may_use_its_buffer_again():
    pcm = np.array([1, 2, 3], np.int16)
    samples = to_int16(pcm)
    pcm[:] = 0
    assert samples.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "pcm",
    [
        b"\x00",
        np.zeros(4, np.int32),
        np.zeros((2, 2, 2), np.int16),
        np.zeros((2, 0), np.int16),
        np.zeros((2, 480), np.int16),
        [1, 2],
        None,
    ],
)
def test_what_is_not_pcm_is_refused(pcm):
    with pytest.raises(LocalError):
        to_int16(pcm)


def test_one_channel_may_come_as_a_row() -> None:
    row = np.array([[1, 2, 3, 4]], np.int16)
    assert to_int16(row).tolist() == [1, 2, 3, 4]
    assert to_int16(row, 2).tolist() == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert to_int16(row[:, :2]).tolist() == [1, 2]


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 100])
def test_bytes_may_be_cut_within_a_sample(cut: int) -> None:
    data = np.arange(50, dtype="<i2").tobytes()
    stream = ByteStream()
    pieces = [to_int16(stream.join(data[at : at + cut])) for at in range(0, len(data), cut)]
    assert np.concatenate(pieces).tolist() == list(range(50))
    stream.join(b"\x01")
    stream.clear()
    assert to_int16(stream.join(b"\x02\x00")).tolist() == [2]
    samples = np.array([1], np.int16)
    assert stream.join(samples) is samples
