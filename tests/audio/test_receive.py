from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from stack.audio import (
    ArrivalReceiver,
    ClockReceiver,
    CodecError,
    G711Decoder,
    G711Encoder,
    OpusDecoder,
    OpusEncoder,
    has_lbrr,
    is_dtx,
    make_receiver,
    resample,
)
from stack.core.errors import LocalError
from stack.rtp import ArrivalBuffer
from stack.rtp.stalls import CONVERSATION, LISTENING

RATE = 16_000
START = 50.0


@pytest.fixture(scope="module")
def payloads(voice, frames_of):
    encoder = OpusEncoder(RATE)
    return [encoder.encode(frame) for frame in frames_of(voice, 320)]


class Sine:
    """A decoder of a pure tone: the payload is the number of its frame, so a click is a click of ours."""

    sample_rate = RATE
    clock_rate = 48_000
    channels = 1
    frequency = 200.0
    level = 8000

    def __init__(self):
        self.position = 0

    def samples_in_packet(self, payload):
        if len(payload) != 4:
            raise CodecError("not a sine")
        return 320

    def has_fec(self, payload):
        return False

    def inspect(self, payload):
        return self.samples_in_packet(payload), False

    def decode(self, payload):
        self.position = int.from_bytes(payload, "big") * 320
        return self.conceal(320)

    def recover(self, payload, samples):
        return self.conceal(samples)

    def conceal(self, samples):
        phase = 2 * np.pi * self.frequency * (self.position + np.arange(samples)) / RATE
        self.position += samples
        return (self.level * np.sin(phase)).astype(np.int16)


def steepest(samples):
    return int(np.abs(np.diff(samples.astype(int))).max())


LENGTHS = (1, 80, 100, 240, 480, 961, 1388, 1600)
"""Bytes of G.711 packets: up to 200 ms (RFC 3551 §4.2); 1388 is what fits GStreamer's MTU."""


def g711_call(voice, length):
    """Payloads of `length` bytes, a second and a half of them, and what they are when decoded in one go."""
    payload = G711Encoder().encode(resample(voice, RATE, 8000)[:12_000])
    payloads = [payload[at : at + length] for at in range(0, len(payload) - length + 1, length)]
    reference = G711Decoder()
    return payloads, np.concatenate([reference.decode(each) for each in payloads])


@pytest.mark.parametrize("length", LENGTHS)
def test_g711_packets_of_any_length_are_heard_whole(voice, length):
    payloads, sound = g711_call(voice, length)
    receiver = ArrivalReceiver(G711Decoder())
    frames = []
    for index, payload in enumerate(payloads):
        frames += receiver.insert(payload, index, index * length, START + index * length / 8000)
    assert np.array_equal(np.concatenate([frame.samples for frame in frames]), sound)
    ends = [frame.media_time + len(frame) / RATE for frame in frames]
    assert [frame.media_time for frame in frames[1:]] == pytest.approx(ends[:-1])
    assert max(len(frame) for frame in frames) <= 320
    assert not any(frame.concealed for frame in frames)
    assert not receiver.counters.snapshot()


@pytest.mark.parametrize("length", [80, 240, 961, 1388, 1600])
def test_long_g711_packets_by_the_clock(voice, length):
    payloads, sound = g711_call(voice, length)
    receiver = ClockReceiver(G711Decoder())
    heard, index = [], 0
    for tick in range(75):
        now = START + 0.02 * tick
        while index < len(payloads) and index * length <= 160 * tick:
            receiver.insert(payloads[index], index, index * length, now)
            index += 1
        heard.append(receiver.tick(now))
    assert not receiver.counters.snapshot()
    assert receiver.buffer.counters["jitter.lost"] == 0
    real = np.concatenate([frame.samples for frame in heard if not frame.concealed])
    assert len(real) >= 0.8 * len(sound)


def test_a_lost_packet_of_200_ms_is_made_up_in_its_place(voice):
    payloads, sound = g711_call(voice, 1600)
    receiver = ArrivalReceiver(G711Decoder())
    frames = []
    for index, payload in enumerate(payloads):
        if index != 3:
            frames += receiver.insert(payload, index, index * 1600, START + 0.2 * index)
        if (at := receiver.poll_timeout()) is not None:
            frames += receiver.handle_timeout(at)
    assert sum(len(frame) for frame in frames) == len(sound)
    concealed = [frame.media_time for frame in frames if frame.concealed]
    assert min(concealed) == pytest.approx(0.6)
    assert max(concealed) < 0.8


# The `arrival` buffer


def test_every_packet_is_heard_when_it_comes_and_media_time_is_the_senders(payloads):
    receiver = ArrivalReceiver(OpusDecoder(RATE))
    reference = OpusDecoder(RATE)
    for index, payload in enumerate(payloads):
        (frame,) = receiver.insert(payload, 100 + index, 7_000 + 960 * index, START + 0.02 * index)
        assert frame.media_time == pytest.approx(0.02 * index)
        assert (frame.sample_rate, frame.concealed, len(frame)) == (RATE, False, 320)
        assert np.array_equal(frame.samples, reference.decode(payload))
    statistics = receiver.statistics
    assert statistics.total_samples_received == 320 * len(payloads)
    assert (statistics.concealed_samples, statistics.jitter_buffer_delay) == (0, 0.0)


def test_a_hole_is_made_up_and_marked(payloads):
    receiver = ArrivalReceiver(OpusDecoder(RATE))
    frames = []
    for index, payload in enumerate(payloads[:100]):
        if index in (20, 40, 41, 42):
            continue
        now = START + 0.02 * index
        frames += receiver.insert(payload, index, 960 * index, now)
        if (deadline := receiver.poll_timeout()) is not None:
            frames += receiver.handle_timeout(deadline)
    assert sum(len(frame) for frame in frames) == 100 * 320
    times = [frame.media_time for frame in frames]
    assert np.allclose(np.diff(times), 0.02)
    assert [index for index, frame in enumerate(frames) if frame.concealed] == [20, 40, 41, 42]
    assert receiver.statistics.concealment_events == 2
    assert receiver.statistics.concealed_samples == 4 * 320


def test_fec_is_used_at_once(voice, frames_of, snr_db):
    encoder = OpusEncoder(RATE, fec=True, expected_loss=20)
    sent = [encoder.encode(frame) for frame in frames_of(voice, 320)]
    lost = [index for index in range(10, len(sent) - 1, 9) if has_lbrr(sent[index + 1])]
    receiver, whole = ArrivalReceiver(OpusDecoder(RATE)), OpusDecoder(RATE)
    got = {}
    for index, payload in enumerate(sent):
        whole_frame = whole.decode(payload)
        if index in lost:
            got[index] = [whole_frame]
            continue
        frames = receiver.insert(payload, index, 960 * index, START + 0.02 * index)
        if index - 1 in lost:
            assert [frame.concealed for frame in frames] == [True, False]
            got[index - 1].append(frames[0].samples)
        assert receiver.poll_timeout() is None
    assert receiver.statistics.fec_packets_used == len(lost) > 5
    loud = [pair for pair in got.values() if np.abs(pair[0]).max() > 1500]
    assert np.mean([snr_db(*pair) for pair in loud]) > 4.0


def test_redundancy_is_heard_in_its_place(payloads):
    receiver, whole = ArrivalReceiver(OpusDecoder(RATE), ArrivalBuffer(red_depth=1)), OpusDecoder(RATE)
    heard = []
    for index, payload in enumerate(payloads):
        if index % 5 == 3:
            continue
        now = START + 0.02 * index
        if index:
            heard += receiver.insert(payloads[index - 1], index - 1, 960 * (index - 1), now, True)
        heard += receiver.insert(payload, index, 960 * index, now)
    expected = np.concatenate([whole.decode(payload) for payload in payloads[: len(heard)]])
    assert np.array_equal(np.concatenate([frame.samples for frame in heard]), expected)


def test_the_first_packets_may_be_missing(payloads):
    receiver = ArrivalReceiver(OpusDecoder(RATE))
    (frame,) = receiver.insert(payloads[7], 7, 7 * 960, START)
    assert (frame.media_time, len(frame)) == (0.0, 320)
    assert receiver.insert(payloads[6], 6, 6 * 960, START) == []


def test_dtx_is_filled_in_and_a_long_silence_is_passed_over(voice, frames_of):
    encoder, receiver = OpusEncoder(RATE, dtx=True), ArrivalReceiver(OpusDecoder(RATE))
    silence = np.zeros(320 * 150, np.int16)
    frames, sequence = [], 0
    sound = np.concatenate((voice[:32_000], silence, voice[:32_000]))
    for index, frame in enumerate(frames_of(sound, 320)):
        payload = encoder.encode(frame)
        if is_dtx(payload) and index % 20:  # now and then a sign of life
            continue
        frames += receiver.insert(payload, sequence, 960 * index, START + 0.02 * index)
        sequence += 1
    times = np.array([frame.media_time for frame in frames])
    assert np.allclose(np.diff(times), 0.02, atol=1e-9)
    quiet = [np.abs(frame.samples).max() for frame in frames if 3.0 < frame.media_time < 4.5]
    assert max(quiet) < 500
    before = len(frames)
    (late,) = receiver.insert(payload, sequence, 960 * (index + 500), START + 100)
    assert late.media_time == pytest.approx(0.02 * (index + 500))
    assert before == len(times)


def test_long_packets_are_handed_out_in_frames(voice):
    encoder, receiver = OpusEncoder(RATE), ArrivalReceiver(OpusDecoder(RATE))
    frames = receiver.insert(encoder.encode(voice[:960]), 0, 0, START)
    assert [round(frame.media_time, 3) for frame in frames] == [0.0, 0.02, 0.04]
    assert [len(frame) for frame in frames] == [320, 320, 320]


def test_what_is_no_packet_is_counted_and_nothing_else(payloads):
    receiver = ArrivalReceiver(OpusDecoder(RATE))
    assert receiver.insert(b"", 0, 0, START) == []  # carries no sound, and says so
    assert receiver.insert(b"\x03\x00", 1, 0, START) == []
    assert receiver.counters["decoder.dropped_malformed"] == 1
    assert receiver.insert(payloads[0], 2, 960, START) == []
    assert len(receiver.handle_timeout(START + 0.5)) == 2
    # A header that is right and a body that is not: its time is concealed.
    frames = receiver.insert(b"\x01@", 3, 1920, START)
    assert [frame.concealed for frame in frames] == [True]
    assert receiver.counters["decoder.dropped_malformed"] == 2


def test_another_source_goes_on_in_media_time(payloads):
    receiver = ArrivalReceiver(OpusDecoder(RATE))
    for index in range(10):
        receiver.insert(payloads[index], 40_000 + index, 4_000_000_000 + 960 * index, START)
    receiver.reset(OpusDecoder(RATE))
    (frame,) = receiver.insert(payloads[0], 5, 77, START + 1)
    assert frame.media_time == pytest.approx(0.2)
    (frame,) = receiver.insert(payloads[1], 50_000, 900_000, START + 2)  # restarted without saying so
    assert frame.media_time == pytest.approx(0.22)
    with pytest.raises(LocalError):
        receiver.reset(OpusDecoder(48_000))
    with pytest.raises(LocalError):
        receiver.reset(G711Decoder(sample_rate=RATE))


def test_g711_with_holes(voice):
    narrow = resample(voice, 16_000, 8_000)
    encoder, receiver = G711Encoder(), make_receiver(G711Decoder(sample_rate=RATE), "arrival")
    frames = []
    for index in range(100):
        if index % 10 == 5:
            continue
        payload = encoder.encode(narrow[160 * index : 160 * (index + 1)])
        frames += receiver.insert(payload, index, 160 * index, START + 0.02 * index)
        if (deadline := receiver.poll_timeout()) is not None:
            frames += receiver.handle_timeout(deadline)
    assert np.allclose([frame.media_time for frame in frames], 0.02 * np.arange(100))
    assert sum(frame.concealed for frame in frames) == 10


# The `clock` buffer


def serve(receiver, arrivals, ticks, now, sequence=lambda index: index):
    """Tick `ticks` times; `arrivals` is a list of (instant, index, payload) in order, consumed."""
    frames = []
    for _ in range(ticks):
        while arrivals and arrivals[0][0] <= now:
            at, index, payload = arrivals.pop(0)
            receiver.insert(payload, sequence(index), 960 * index, at)
        frames.append(receiver.tick(now))
        now += 0.02
    return frames, now


def sine_arrivals(count, delay=lambda index: 0.0, period=0.02):
    instants = (round(START + index * period + delay(index), 9) for index in range(count))
    return sorted((at, index, index.to_bytes(4, "big")) for index, at in enumerate(instants))


def test_a_frame_for_every_tick(payloads):
    receiver = make_receiver(OpusDecoder(RATE), "clock")
    frames, _ = serve(receiver, [(START + 0.02 * i, i, p) for i, p in enumerate(payloads)], 250, START - 0.493)
    assert {len(frame) for frame in frames} == {320}
    assert np.allclose([frame.media_time for frame in frames], 0.02 * np.arange(250))
    whole = OpusDecoder(RATE)
    expected = np.concatenate([whole.decode(payload) for payload in payloads])
    heard = np.concatenate([frame.samples for frame in frames])
    first = int(np.flatnonzero(heard)[0]) - int(np.flatnonzero(expected)[0])
    assert np.array_equal(heard[first : first + len(expected)], expected)
    assert first % 320 == 0


def test_a_rising_and_falling_delay_stretches_a_tone_without_a_click():
    random = np.random.default_rng(6)

    def delay(index):
        return random.random() * 0.16 * (index - 500) / 3000 if 500 < index < 3500 else 0.0

    receiver = ClockReceiver(Sine())
    frames, _ = serve(receiver, sine_arrivals(6000, delay), 5990, START + 0.005)
    heard = np.concatenate([frame.samples for frame in frames[10:]])
    statistics = receiver.statistics
    assert statistics.inserted_samples_for_deceleration > 0.01 * RATE
    assert statistics.removed_samples_for_acceleration > 0.02 * RATE
    limit = 2 * np.pi * Sine.frequency / RATE * Sine.level
    calm = [frame for frame, before in zip(frames[11:], frames[10:], strict=False) if not frame.concealed]
    assert len(calm) > 5900
    assert steepest(heard) < 2.2 * limit  # also where an underrun was bridged
    pitch = np.argmax(np.abs(np.fft.rfft(heard[: RATE * 60])))
    assert pitch / 60 == pytest.approx(Sine.frequency, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("drift", "minutes"), [(200e-6, 60), (-200e-6, 15)])
def test_drift_without_click_or_growth(drift, minutes):
    """The sender's clock runs 0.2 per mille fast or slow: 720 ms in an hour, which have to go somewhere."""
    receiver = ClockReceiver(Sine())
    period = 0.02 / (1 + drift)
    limit = 2 * np.pi * Sine.frequency / RATE * Sine.level
    ticks, now, index, last = 3000 * minutes, START + 0.013, 0, np.zeros(1, np.int32)
    held = steps = 0
    for tick in range(ticks):
        while START + index * period <= now:
            receiver.insert(index.to_bytes(4, "big"), index, 960 * index, START + index * period)
            index += 1
        frame = receiver.tick(now)
        now += 0.02
        if tick > 10:
            joined = np.concatenate((last, frame.samples.astype(np.int32)))
            steps = max(steps, int(np.abs(np.diff(joined)).max()))
        last = frame.samples[-1:].astype(np.int32)
        held = max(held, receiver.buffer.held)
    assert held <= 3
    assert steps < 1.3 * limit
    statistics = receiver.statistics
    moved = statistics.removed_samples_for_acceleration - statistics.inserted_samples_for_deceleration
    made_up = statistics.concealed_samples
    assert (moved - made_up) / RATE == pytest.approx(drift * minutes * 60, abs=0.15)


@pytest.mark.parametrize("jitter_buffer", ["arrival", "clock"])
def test_memory_is_flat(jitter_buffer):
    """Loss, jitter and redundancy for two minutes: nothing is kept for ever."""
    random = np.random.default_rng(9)
    receiver = make_receiver(Sine(), jitter_buffer)
    held = []
    tracemalloc.start()
    for index in range(6000):
        now = START + 0.02 * index
        if random.random() > 0.1:
            for number in (index - 1, index):
                receiver.insert(max(0, number).to_bytes(4, "big"), number, 960 * number, now, number < index)
        if isinstance(receiver, ClockReceiver):
            receiver.tick(now + 0.01)
        elif (deadline := receiver.poll_timeout()) is not None:
            receiver.handle_timeout(deadline)
        if index % 1500 == 1499:
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(held[1:]) - held[0] < 20_000


def test_a_long_silence_becomes_the_noise_of_the_room(payloads, voice):
    receiver = ClockReceiver(OpusDecoder(RATE))
    arrivals = [(START + 0.02 * i, i, p) for i, p in enumerate(payloads)]
    _, now = serve(receiver, arrivals, len(payloads) + 2, START + 0.005)
    frames, now = serve(receiver, [], 100, now)
    assert all(frame.concealed for frame in frames)
    hiss = np.concatenate([frame.samples for frame in frames[10:]]).astype(float)
    assert 1 < hiss.std() < 300
    assert hiss[:8000].std() == pytest.approx(hiss[-8000:].std(), rel=0.3)
    late = [(now, 302 + i, p) for i, p in enumerate(payloads[20:60])]
    frames, _ = serve(receiver, [(at + 0.02 * i, n, p) for i, (at, n, p) in enumerate(late)], 30, now)
    assert sum(not frame.concealed for frame in frames) >= 28


def test_loss_under_the_clock_is_filled_in_time(payloads):
    receiver = ClockReceiver(OpusDecoder(RATE))
    arrivals = [(START + 0.02 * i, i, p) for i, p in enumerate(payloads) if i % 10 != 9]
    frames, _ = serve(receiver, arrivals, len(payloads), START + 0.005)
    assert 0.08 < sum(frame.concealed for frame in frames) / len(frames) < 0.2
    assert receiver.buffer.counters["jitter.dropped_late"] == 0
    assert receiver.buffer.delay < 0.05


def test_the_clock_takes_another_source_and_malformed_packets(payloads):
    receiver = ClockReceiver(OpusDecoder(RATE))
    assert receiver.insert(b"\x03\x00", 0, 0, START) == []
    assert receiver.counters["decoder.dropped_malformed"] == 1
    _, now = serve(receiver, [(START + 0.02 * i, i, p) for i, p in enumerate(payloads[:50])], 50, START)
    receiver.reset(OpusDecoder(RATE))
    frames, _ = serve(receiver, [(now + 0.02 * i, 9000 + i, p) for i, p in enumerate(payloads[:50])], 40, now)
    assert sum(not frame.concealed for frame in frames) >= 37


def test_names_and_channels_are_checked():
    with pytest.raises(LocalError, match="not 'both'"):
        make_receiver(OpusDecoder(RATE), "both")
    with pytest.raises(LocalError, match="mono"):
        ArrivalReceiver(OpusDecoder(RATE, 2))


class Bursts(Sine):
    """A decoder whose voice pauses for a second in every three."""

    def decode(self, payload):
        samples = super().decode(payload)
        return samples if int.from_bytes(payload, "big") // 50 % 3 else samples // 1000


def stall_at(first, seconds):
    """A stall at packet `first`: what is sent in it comes at its end."""
    return lambda index: max(0.0, seconds - 0.02 * (index - first)) if index >= first else 0.0


def test_the_delay_of_a_stall_is_taken_back_in_a_pause():
    """Packets 150 to 199 are a pause, then comes a voice of two seconds with a stall, then a pause again."""
    receiver = ClockReceiver(Bursts())
    arrivals = sine_arrivals(600, stall_at(210, 0.3))
    _, now = serve(receiver, arrivals, 228, START + 0.005)
    assert receiver.buffer.delay > 0.25
    removed = receiver.statistics.removed_samples_for_acceleration
    _, now = serve(receiver, arrivals, 72, now)  # the rest of the voice
    assert receiver.statistics.removed_samples_for_acceleration == removed
    serve(receiver, arrivals, 70, now)
    assert receiver.statistics.removed_samples_for_acceleration - removed > 0.15 * RATE
    assert receiver.buffer.delay < 0.15


def test_listening_lengthens_pauses_for_the_next_stall():
    receiver = make_receiver(Bursts(), "clock", "listening")
    arrivals = sine_arrivals(600, stall_at(100, 0.6))
    _, now = serve(receiver, arrivals, 168, START + 0.005)
    before = receiver.buffer.delay
    assert receiver.statistics.inserted_samples_for_deceleration == 0
    serve(receiver, arrivals, 70, now)
    assert receiver.buffer.target == pytest.approx(0.66, abs=0.01)
    assert receiver.buffer.delay > before
    assert receiver.statistics.inserted_samples_for_deceleration > 0


def test_costs_are_told_to_the_clock():
    assert make_receiver(Sine(), "clock").buffer.cost is CONVERSATION
    assert make_receiver(Sine(), "clock", "listening").buffer.cost is LISTENING
    for mode in ("arrival", "clock"):
        with pytest.raises(LocalError, match="playout cost"):
            make_receiver(Sine(), mode, "patience")
