"""Computed rooms and loudspeakers: what they must do for a figure about them to mean something."""

import numpy as np
import pytest

from bench import _loudspeaker_tables as tables
from bench._loudspeakers import LOUDSPEAKERS, PLACES, RATE


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


def test_the_gain_of_the_near_end():
    rng = np.random.default_rng(1)
    near, other = rng.standard_normal(RATE), rng.standard_normal(RATE)
    late = np.concatenate([np.zeros(100), near])[:RATE]
    assert tables.near_gain_db(near, near + 0.1 * other) == pytest.approx(0.0, abs=0.2)
    assert tables.near_gain_db(near, 0.5 * late) == pytest.approx(-6.0, abs=0.3)
