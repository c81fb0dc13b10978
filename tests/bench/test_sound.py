"""What the sound benchmark compares is what it says: the same packets for all, and delays that can be checked."""

from __future__ import annotations

import numpy as np
import pytest

from bench import sound
from stack.core.errors import LocalError


@pytest.fixture(scope="module")
def speech():
    try:
        return sound.Speech()
    except LocalError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def payloads(speech):
    return speech.encode(fec=False)


def test_arrival_adds_nothing_where_nothing_is_lost(speech, payloads):
    arrivals = sound.send(payloads, sound.model(0.0, False, 0.06), 1, red=False)
    heard = sound.hear_on_arrival(speech, arrivals, False)
    assert len(heard.delays) == len(payloads)
    assert max(heard.delays) == 0.0
    assert heard.made_up == 0.0


def test_redundancy_repairs_nearly_everything(speech, payloads):
    arrivals = sound.send(payloads, sound.model(0.1, False, 0.02), 1, red=True)
    assert len(arrivals) < 0.93 * len(payloads)
    assert sound.hear_on_arrival(speech, arrivals, True).made_up < 0.01
    assert sound.hear_on_the_clock(speech, arrivals, True).made_up < 0.01


def test_the_clock_stays_below_aiortc(speech, payloads):
    pytest.importorskip("aiortc")
    for jitter in (0.0, 0.06):
        arrivals = sound.send(payloads, sound.model(0.0, False, jitter), 1, red=False)
        ours = sound.hear_on_the_clock(speech, arrivals, False)
        theirs = sound.hear_aiortc_played(speech, arrivals, False)
        assert np.median(ours.delays) < np.median(theirs.delays)


def test_a_packet_carries_what_was_sent(payloads):
    arrivals = sound.send(payloads[:200], sound.model(0.0, False, 0.0), 1, red=True)
    for arrival in arrivals[1:]:
        carried = list(sound.unpack(arrival, red=True))
        assert carried[-1] == (arrival.number, payloads[arrival.number], False)
        assert carried[-2] == (arrival.number - 1, payloads[arrival.number - 1], True)


def test_quality_of_the_original_is_the_best(speech):
    pytest.importorskip("pesq")
    judge = sound.Judge(speech)
    whole, _ = judge.score(speech.samples)
    holed = speech.samples.copy()
    for at in range(0, len(holed), 3200):
        holed[at : at + 320] = 0
    worse, _ = judge.score(holed)
    assert worse < 3 < 4.5 < whole
