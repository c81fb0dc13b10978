"""Recordings of calls in virtual time: both lanes against what was said and when."""

from __future__ import annotations

import json

import numpy as np
import pytest

from interop.network_model import Jitter, NetworkModel
from stack.audio import AudioFrame
from stack.core.errors import LocalError
from stack.sctp import ChannelId, ChannelOpened, MessageReceived
from stack.voice.audio_sender import SpokenFrame
from stack.voice.commands import BeginReply, EndReply, Interrupt, Write, WriteReply
from stack.voice.conversation import Conversation, ConversationConfig
from stack.voice.events import AudioReceived, ContextAdded, KeyPressed, ReplyInterrupted, SessionUpdated, Utterance
from stack.voice.recording import COMMIT_AFTER, LOOK_AHEAD, Recorder, describe
from tests.sim.calls import CallPair, is_up

RATE = 16_000


def beeps(seconds: float, every: float = 1.0, frequency: float = 1000.0) -> np.ndarray:
    """Beeps of 100 ms, the first at once."""
    at = np.arange(round(seconds * RATE)) / RATE
    return (np.where(at % every < 0.1, 8000 * np.sin(2 * np.pi * frequency * at), 0.0)).astype(np.int16)


def onsets(lane: np.ndarray, rate: int = RATE, level: float = 1500.0) -> list[float]:
    """Where in the lane sound begins, in seconds: the envelope of 5 ms passes `level` after 100 ms below."""
    step = rate // 200
    envelope = np.abs(lane[: len(lane) // step * step].astype(float)).reshape(-1, step).max(axis=1)
    loud = np.flatnonzero(envelope > level)
    return [float(i) * step / rate for k, i in enumerate(loud) if k == 0 or i - loud[k - 1] > 20]


def lay_out(recorder: Recorder, length: int) -> np.ndarray:
    """Return the whole recording, as a file would have it."""
    whole = np.zeros((length, 2), np.int16)
    end = 0
    for start, samples in recorder.drain_blocks():
        assert start >= end  # in order, each place once
        end = start + len(samples)
        whole[start:end] = samples
    return whole


class Recorded(CallPair):
    """A call whose server is recorded from the connection on."""

    def __init__(self, model: NetworkModel | None = None, *, sample_rate: int = RATE, **config: object) -> None:
        settings = ConversationConfig(detector="energy", echo="off", **config)  # type: ignore[arg-type]
        super().__init__(model=model, server=settings)
        assert self.run(10, lambda: all(is_up(host) for host in self.hosts))
        self.began = self.now
        self.recorder = Recorder(self.now, sample_rate=sample_rate, epoch=1_700_000_000.0)
        self.server: Conversation = self.right.machine
        self.server.tap = self.recorder

    def client_says(self, sound: np.ndarray) -> None:
        self.left.handle(Write(sound, RATE))

    def server_says(self, sound: np.ndarray) -> None:
        self.right.handle(Write(sound, RATE))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        whole = lay_out(self.recorder, self.recorder.finish(self.now))
        assert len(whole) == round((self.now - self.began) * self.recorder.sample_rate)
        return whole[:, 0], whole[:, 1]


def test_both_lanes_lie_where_they_were_said() -> None:
    call = Recorded()
    call.run(0.5)
    call.client_says(beeps(5))
    call.run(0.3)
    call.server_says(beeps(3, frequency=500.0))
    call.run(8)
    left, right = call.finish()
    assert onsets(left) == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5], abs=0.020)
    assert onsets(right) == pytest.approx([0.8, 1.8, 2.8], abs=0.010)


@pytest.mark.parametrize("jitter_buffer", ["arrival", "clock"])
def test_an_answer_in_the_same_instant_lies_beside_what_it_answers(jitter_buffer: str) -> None:
    call = Recorded(NetworkModel(delay=0.04), jitter_buffer=jitter_buffer)
    call.right.react = lambda event, now: (
        call.right.machine.handle_command(Write(event.frame.samples, RATE), now)
        if isinstance(event, AudioReceived)
        else None
    )
    call.client_says(beeps(8))
    call.run(9)
    left, right = call.finish()
    assert len(onsets(left)) == 8
    assert onsets(right) == pytest.approx(onsets(left), abs=0.020)


def test_jitter_loss_and_reordering_move_nothing() -> None:
    model = NetworkModel(delay=0.05, loss=0.02, jitter=Jitter(0.03), reorder=0.02)
    call = Recorded(model)
    call.client_says(beeps(20))
    call.run(22)
    left, _ = call.finish()
    found = np.array(onsets(left))
    assert len(found) == 20
    assert found == pytest.approx(found[0] + np.arange(20), abs=0.015)
    assert call.recorder.counters.snapshot() == {}


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_other_rates_come_to_lie_at_the_same_place(rate: int) -> None:
    call = Recorded(sample_rate=24_000, microphone_rate=rate if rate != 8_000 else RATE)
    at = np.arange(rate) / rate
    call.run(0.5)
    call.client_says(beeps(1))
    tone = (8000 * np.sin(2 * np.pi * 500 * at)).astype(np.int16)
    call.right.handle(Write(tone, rate))
    call.run(3)
    left, right = call.finish()
    assert onsets(left, 24_000) == pytest.approx([0.5], abs=0.020)
    assert onsets(right, 24_000) == pytest.approx([0.5], abs=0.010)
    spoken = right[round(0.55 * 24_000) : round(1.45 * 24_000)].astype(float)
    assert np.argmax(np.abs(np.fft.rfft(spoken))) / 0.9 == pytest.approx(500, abs=2)


def test_what_was_interrupted_is_not_in_the_recording() -> None:
    call = Recorded()
    long = beeps(10, every=0.05, frequency=500.0)

    def speak(conversation: Conversation, now: float) -> None:
        number = conversation.handle_command(BeginReply(), now)
        conversation.handle_command(WriteReply(number, long, RATE), now)
        conversation.handle_command(EndReply(number), now)

    call.right.command(speak)
    call.run(2.0)
    call.right.handle(Interrupt())
    call.run(3.0)
    call.server_says(beeps(1))
    call.run(2.0)
    _, right = call.finish()
    loud = np.flatnonzero(np.abs(right) > 1500) / RATE
    assert loud[loud < 4].max() == pytest.approx(2.0, abs=0.025)
    assert loud[loud > 4].min() == pytest.approx(5.0, abs=0.010)
    lines = [json.loads(line) for line in call.recorder.drain_lines()]
    (interrupted,) = (line for line in lines if line["event"] == ReplyInterrupted.__name__)
    assert interrupted["at"] == pytest.approx(2.0, abs=0.001)
    assert interrupted["instant"] == pytest.approx(call.began + 2.0, abs=0.001)
    assert interrupted["wall"].startswith("2023-11-14T22:")
    assert interrupted["sent_ms"] == pytest.approx(2000, abs=25)


# -- the transform alone -------------------------------------------------------------------------------------


def frame_at(media_time: float, loud: bool) -> AudioFrame:
    samples = np.full(320, 8000 if loud else 0, np.int16)
    return AudioFrame(samples, RATE, media_time)


@pytest.mark.parametrize("ppm", [-200, 200])
def test_drift_is_made_good_in_the_pauses(ppm: int) -> None:
    recorder = Recorder(100.0)
    whole = np.zeros((RATE * 301, 2), np.int16)
    for index in range(15_000):  # five minutes; a beep each second
        media = index * 0.020
        recorder.event(AudioReceived(frame_at(media, index % 50 < 5)), 100.0 + media * (1 + ppm * 1e-6))
        for start, samples in recorder.drain_blocks():
            whole[start : start + len(samples)] = samples
    recorder.finish(400.5)
    for start, samples in recorder.drain_blocks():
        whole[start : start + len(samples)] = samples[: len(whole) - start]
    found = np.array(onsets(whole[:, 0]))
    truth = np.arange(300) * (1 + ppm * 1e-6)  # 60 ms apart by now, had nobody looked
    assert found == pytest.approx(truth, abs=0.020)


def test_a_late_beginning_does_not_move_what_follows() -> None:
    recorder = Recorder(0.0)
    for index in range(200):
        media = index * 0.020
        arrival = media + 0.3 if index < 20 else media  # a burst once the route was there
        recorder.event(AudioReceived(frame_at(media, 50 <= index < 55)), max(arrival, 0.38 if index < 20 else 0.0))
    whole = lay_out(recorder, recorder.finish(5.0))
    assert onsets(whole[:, 0]) == pytest.approx([1.0], abs=0.010)


def test_another_source_whose_media_time_did_not_count_the_pause_is_laid_where_it_arrived() -> None:
    recorder = Recorder(0.0)
    for index in range(50):
        recorder.event(AudioReceived(frame_at(index * 0.020, False)), index * 0.020)
    for index in range(100):  # media time goes on with 1.0 s; the clock says 60
        recorder.event(AudioReceived(frame_at(1.0 + index * 0.020, 25 <= index < 30)), 60.0 + index * 0.020)
    whole = lay_out(recorder, recorder.finish(65.0))
    assert onsets(whole[:, 0]) == pytest.approx([60.5], abs=0.010)


def test_memory_and_blocks_are_bounded_whatever_media_times_a_peer_makes_up() -> None:
    recorder = Recorder(0.0)
    rng = np.random.default_rng(5)
    for index in range(2000):
        media = float(rng.choice([0.0, 47_000.0, 90_000.0])) + index * 0.020
        recorder.event(AudioReceived(frame_at(media, True)), index * 0.020)
    end = recorder.finish(41.0)
    blocks = recorder.drain_blocks()
    assert all(start >= 0 and len(samples) <= 5 * RATE for start, samples in blocks)
    assert max(start + len(samples) for start, samples in blocks) <= end


def test_silence_is_no_block_and_an_hour_of_it_costs_nothing() -> None:
    recorder = Recorder(0.0)
    loud = SpokenFrame(1, np.full(320, 5000, np.int16), 0.0, True, 0, 0.0)
    recorder.sent(loud, RATE, 10.0)
    recorder.sent(loud._replace(media_time=3600.0), RATE, 3610.0)
    end = recorder.finish(3620.0)
    blocks = recorder.drain_blocks()
    assert sum(len(samples) for _, samples in blocks) < 30 * RATE
    whole = np.zeros(end, np.int16)
    for start, samples in blocks:
        whole[start : start + len(samples)] = samples[:, 1]
    assert onsets(whole) == [10.0, 3610.0]


def test_stereo_is_mixed_down_into_its_lane() -> None:
    recorder = Recorder(0.0)
    both = np.stack((np.full(320, 1000, np.int16), np.full(320, 3000, np.int16)), axis=1)
    recorder.sent(SpokenFrame(1, both, 0.0, True, 0, 0.0), RATE, 1.0)
    whole = lay_out(recorder, recorder.finish(2.0))
    assert (whole[RATE : RATE + 320, 1] == 2000).all()
    assert np.count_nonzero(whole) == 320


def test_what_comes_after_its_place_is_final_is_counted() -> None:
    recorder = Recorder(0.0)
    for index in range(300):
        recorder.event(AudioReceived(frame_at(index * 0.020, False)), index * 0.020)
    assert recorder.counters.snapshot() == {}
    spoken = SpokenFrame(1, np.ones(320, np.int16), 0.0, True, 0, 0.0)
    recorder.sent(spoken, RATE, 6.0)
    recorder.sent(spoken._replace(marker=False, media_time=-5.0), RATE, 6.02)
    assert recorder.counters["recorder.dropped_right_samples_too_late"] == 320
    assert LOOK_AHEAD < COMMIT_AFTER


def test_other_rates_are_refused() -> None:
    with pytest.raises(LocalError, match="16000"):
        Recorder(0.0, sample_rate=44_100)


def test_lines_tell_no_secrets() -> None:
    message = MessageReceived(ChannelId(1), "my password is swordfish")
    assert describe(message) == {"channel": 1, "text": True, "size": 24}
    assert describe(KeyPressed("7")) == {}
    opened = ChannelOpened(ChannelId(3), "events", "token.swordfish", True, None, None, 0, False, True)
    assert "swordfish" not in json.dumps(describe(opened))
    assert describe(opened)["label"] == "events"
    assert describe(SessionUpdated({"instructions": "swordfish"})) == {}
    assert describe(ContextAdded("system", "swordfish")) == {"role": "system", "typed": 9}
    request = {"instructions": "swordfish"}
    utterance = describe(Utterance(np.zeros(RATE, np.int16), RATE, 1.0, 1.8, 500.0, text="hello", request=request))
    assert utterance == {
        "sample_rate": RATE, "media_time": 1.0, "speech_ended": 1.8, "waited_ms": 500.0, "typed": 5,
        "duration": 1.0
    }  # fmt: skip
