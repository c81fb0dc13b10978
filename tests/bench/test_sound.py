"""What the sound benchmark compares is what it says: the same packets for all, and delays that can be checked."""

from __future__ import annotations

import numpy as np
import pytest

from bench import sound
from bench._speech import SPARE_BEFORE, AudioReceived
from bench._stalls import SentTrace, stalling
from stack.core.errors import LocalError
from stack.rtp.stalls import LISTENING


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


TABLE_OF_0006 = {0.0: (7, 7, 0.0), 0.06: (46, 72, 0.1), 0.12: (56, 102, 0.2)}
"""Jitter in seconds to delay in ms, p50 and p95, and per cent made up: without stalls, decision 0006 holds."""


@pytest.mark.parametrize("jitter", TABLE_OF_0006)
def test_without_stalls_the_clock_is_what_decision_0006_says(speech, payloads, jitter):
    p50, p95, made_up = TABLE_OF_0006[jitter]
    arrivals = sound.send(payloads, sound.model(0.0, False, jitter), 1, red=False)
    heard = sound.hear_on_the_clock(speech, arrivals, False)
    assert 1000 * np.percentile(heard.delays, 50) <= p50 + 1
    assert 1000 * np.percentile(heard.delays, 95) <= p95 + 1
    assert 100 * heard.made_up <= made_up
    try:
        import pesq  # noqa: F401
    except ImportError:
        return
    quality, _ = sound.Judge(speech, with_plcmos=False).score(heard)
    assert quality > 4.19


@pytest.fixture(scope="module")
def stalled(payloads):
    return sound.send(payloads, stalling("9 stalls/min of 100-500 ms, 15 ms jitter"), 2, red=False)


def test_a_stall_costs_arrival_nothing(speech, stalled):
    heard = sound.hear_on_arrival(speech, stalled, False)
    assert (max(heard.delays), heard.made_up) == (0.0, 0.0)


def test_listening_makes_up_less_than_aiortc_at_no_more_delay(speech, stalled):
    pytest.importorskip("aiortc")
    theirs = sound.hear_aiortc_played(speech, stalled, False)
    ours = sound.hear_on_the_clock(speech, stalled, False, LISTENING)
    assert ours.made_up < theirs.made_up
    assert np.mean(ours.delays) <= np.mean(theirs.delays)
    talking = sound.hear_on_the_clock(speech, stalled, False)
    assert np.mean(talking.delays) < 0.6 * np.mean(ours.delays)
    assert talking.made_up > ours.made_up


def test_a_fixed_delay_makes_up_what_comes_later(speech, payloads):
    arrivals = [sound.Arrival(0.03 + number * 0.02, number, payload) for number, payload in enumerate(payloads)]
    late = [arrival._replace(at=arrival.at + 0.1 * (arrival.number % 10 == 9)) for arrival in arrivals]
    heard = sound.hear_fixed(0.05)(speech, sorted(late), False)
    assert heard.made_up == pytest.approx(0.1, abs=0.002)
    assert sound.hear_fixed(0.15)(speech, sorted(late), False).made_up == 0.0


def test_a_trace_is_followed(payloads):
    lines = ["# sent,arrived", "5.000,9.100", "5.020,9.120", "5.040,lost", "5.060,9.460", "", "5.080,9.460"]
    trace = SentTrace("\n".join(lines))
    arrivals = sound.follow(payloads[:20], trace)
    assert [arrival.number for arrival in arrivals] == [0, 1, 3, 4]
    assert [arrival.at for arrival in arrivals] == pytest.approx([0.03, 0.05, 0.39, 0.39])


@pytest.mark.parametrize("text", ["", "0.0,lost", "0.0", "a,b", "0.1,0.2\n0.0,0.1", "nan,0.1"])
def test_what_is_no_trace_is_refused(text):
    with pytest.raises(LocalError):
        SentTrace(text)


def test_a_sentence_is_found_where_it_was_played():
    sounded = np.arange(8000, dtype=np.int16)
    heard = AudioReceived(sounded, places={10: 5000, 11: 5320})
    piece = heard.sentence(3200, 3840)
    assert piece[SPARE_BEFORE] == 5000
    assert len(AudioReceived(sounded, places={}).sentence(0, 640)) == 0


def test_a_packet_carries_what_was_sent(payloads):
    arrivals = sound.send(payloads[:200], sound.model(0.0, False, 0.0), 1, red=True)
    for arrival in arrivals[1:]:
        carried = list(sound.unpack(arrival, red=True))
        assert carried[-1] == (arrival.number, payloads[arrival.number], False)
        assert carried[-2] == (arrival.number - 1, payloads[arrival.number - 1], True)


def test_quality_of_the_original_is_the_best(speech):
    pytest.importorskip("pesq")
    judge = sound.Judge(speech)
    whole, _ = judge.score(AudioReceived(speech.samples))
    holed = speech.samples.copy()
    for at in range(0, len(holed), 3200):
        holed[at : at + 320] = 0
    worse, _ = judge.score(AudioReceived(holed))
    assert worse < 3 < 4.5 < whole
