from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.audio import FRAME, AudioFrame, PlayoutQueue
from stack.audio.playout import HOLD, MAX_BURST, MAX_QUEUED, MAX_REWOUND, Lateness
from stack.core.errors import LocalError

START = 1000.0


def sound(frames, rate=48_000):
    """No two samples near each other are alike, none is zero."""
    return (1 + np.arange(round(frames * rate * FRAME)) % 30_000).astype(np.int16)


def drain(queue, now):
    frames = []
    while (at := queue.poll_timeout()) is not None and at <= now:
        frames.append(queue.take(now))
        assert len(frames) < 1000
    return frames


def run(queue, until, now=START, late=lambda tick: 0.0):
    """Serve the queue's own timeouts; return (instant, frame)."""
    sent = []
    tick = 0
    while (at := queue.poll_timeout()) is not None and at <= until:
        now = max(now, at) + late(tick)
        tick += 1
        sent += [(now, frame) for frame in drain(queue, now)]
    return sent


def test_the_first_frame_leaves_at_once_and_the_rest_every_20_ms():
    queue = PlayoutQueue()
    assert queue.poll_timeout() is None
    queue.write(sound(5), 48_000, START)
    sent = run(queue, START + 10)
    assert [round(at - START, 9) for at, _ in sent] == [0.0, 0.02, 0.04, 0.06, 0.08]
    assert [frame.timestamp for _, frame in sent] == [0, 960, 1920, 2880, 3840]
    assert [frame.marker for _, frame in sent] == [True, False, False, False, False]
    assert np.array_equal(np.concatenate([frame.samples for _, frame in sent]), sound(5))
    assert queue.poll_timeout() is None
    assert queue.position == 4800


def test_an_hour_of_late_ticks_does_not_drift():
    queue = PlayoutQueue(16_000, clock_rate=48_000)
    random = np.random.default_rng(2)
    sent, now = 0, START
    for second in range(3600):
        queue.write(np.ones(16_000, np.int16), 16_000, START + second)
        while (at := queue.poll_timeout()) is not None and at <= START + second + 0.985:
            now = max(now, at) + random.exponential(0.002)
            for frame in drain(queue, now):
                assert now - 0.060 < START + sent * FRAME <= now + 1e-6
                assert frame.timestamp == sent * 960
                sent += 1
    assert sent == 3600 * 50


def test_a_late_tick_catches_up_without_losing_the_grid():
    queue = PlayoutQueue()
    queue.write(sound(10), 48_000, START)
    assert len(drain(queue, START)) == 1
    together = drain(queue, START + 0.045)
    assert [frame.timestamp for frame in together] == [960, 1920]
    assert not any(frame.marker for frame in together)
    assert queue.poll_timeout() == pytest.approx(START + 0.060)


def test_a_long_stall_moves_the_timeline_instead_of_bunching():
    queue = PlayoutQueue()
    queue.write(sound(50), 48_000, START)
    assert len(drain(queue, START)) == 1
    together = drain(queue, START + 0.505)
    assert [frame.timestamp for frame in together] == [25 * 960]
    assert together[0].marker
    assert queue.counters["playout.slots_skipped"] == 24
    assert queue.poll_timeout() == pytest.approx(START + 0.525)
    assert queue.position == 2 * 960  # nothing of the sound itself was lost


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=60), st.integers(0, 3))
def test_never_more_together_than_stated_and_never_ahead_of_time(delays, lead):
    queue = PlayoutQueue(lead=lead)
    queue.write(sound(400), 48_000, START)
    now, last, total = START, -1, 0
    for delay in delays:
        together = drain(queue, now)
        total += len(together)
        assert len(together) <= MAX_BURST + lead
        for frame in together:
            assert frame.timestamp > last
            last = frame.timestamp
        # The timeline is within half a frame of the clock, whatever happened.
        assert last / 48_000 <= now - START + (lead + 0.5) * FRAME + 1e-6
        now += delay
    assert queue.position == total * 960


def test_a_lead_lets_frames_leave_early_but_never_more():
    queue = PlayoutQueue(lead=2)
    queue.write(sound(10), 48_000, START)
    assert len(drain(queue, START)) == 3
    assert queue.poll_timeout() == pytest.approx(START + 0.02)
    assert drain(queue, START + 0.019) == []
    assert len(drain(queue, START + 0.02)) == 1
    assert queue.position == 4 * 960


def test_a_gap_advances_the_timeline_and_sets_the_marker():
    queue = PlayoutQueue()
    queue.write(sound(2), 48_000, START)
    run(queue, START + 1)
    queue.write(sound(2), 48_000, START + 3.0)
    sent = run(queue, START + 4, now=START + 3.0)
    assert [frame.timestamp for _, frame in sent] == [150 * 960, 151 * 960]
    assert [frame.marker for _, frame in sent] == [True, False]
    assert sent[0][0] == START + 3.0


def test_a_program_that_writes_a_little_late_is_no_gap():
    queue = PlayoutQueue()
    timestamps = []
    for index, late in enumerate([0, 0.005, 0.030, 0.010, 0.0, 0.055, 0.0]):
        now = START + index * FRAME + late
        queue.write(sound(1), 48_000, now)
        timestamps += [frame.timestamp for frame in drain(queue, now)]
    timestamps += [frame.timestamp for _, frame in run(queue, START + 1)]
    assert timestamps == [index * 960 for index in range(7)]


def test_the_timeline_may_begin_before_the_first_word():
    queue = PlayoutQueue()
    queue.start(START)
    queue.write(sound(1), 48_000, START + 1.0)
    (frame,) = drain(queue, START + 1.0)
    assert (frame.timestamp, frame.marker) == (48_000, True)


def test_a_partial_frame_waits_and_is_then_filled_with_silence():
    queue = PlayoutQueue()
    queue.write(sound(1.25), 48_000, START)
    assert len(drain(queue, START)) == 1
    assert drain(queue, START + 0.0195) == []
    assert queue.poll_timeout() == pytest.approx(START + HOLD)
    (frame,) = drain(queue, START + HOLD)
    assert np.array_equal(frame.samples, np.concatenate((sound(1.25)[960:], np.zeros(720, np.int16))))
    assert queue.position == 1200
    assert queue.counters["playout.samples_padded"] == 720


def test_a_partial_frame_is_completed_by_what_comes_in_time():
    queue = PlayoutQueue()
    queue.write(sound(0.5), 48_000, START)
    assert drain(queue, START) == []
    queue.write(sound(0.5), 48_000, START + 0.010)
    (frame,) = drain(queue, START + 0.010)
    assert np.array_equal(frame.samples, np.concatenate((sound(0.5), sound(0.5))))


def test_flush_forgets_everything_and_says_how_much():
    queue = PlayoutQueue()
    queue.write(sound(100, 24_000), 24_000, START)
    queue.write(sound(50, 16_000), 16_000, START)
    run(queue, START + 0.19)
    assert queue.position == 10 * 960
    assert queue.queued == pytest.approx(140 * FRAME, abs=0.001)
    assert queue.flush() == pytest.approx(140 * 960, abs=3)
    assert (queue.queued, queue.poll_timeout()) == (0.0, None)
    assert queue.flush() == 0
    queue.write(sound(3), 48_000, START + 0.2)
    sent = run(queue, START + 1, now=START + 0.2)
    assert np.array_equal(np.concatenate([frame.samples for _, frame in sent]), sound(3))
    assert sent[0][1].timestamp == 10 * 960


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 32_000, 44_100])
def test_other_rates_are_resampled_and_a_single_frame_does_not_wait(rate, snr_db):
    queue = PlayoutQueue()
    tone = (8000 * np.sin(2 * np.pi * 300 * np.arange(rate) / rate)).astype(np.int16)
    queue.write(tone[: rate // 50], rate, START)
    assert len(drain(queue, START)) == 1
    queue.write(tone[rate // 50 :], rate, START)
    sent = run(queue, START + 2)
    assert 49 <= len(sent) <= 50
    heard = np.concatenate([frame.samples for _, frame in sent])
    spectrum = np.abs(np.fft.rfft(heard[:43_200].astype(float) * np.hanning(43_200)))
    assert np.argmax(spectrum) == 270  # 300 Hz in bins of 48000/43200


def test_speech_that_changes_its_rate_in_the_middle_is_whole():
    queue = PlayoutQueue()
    queue.write(np.full(2400, 5000, np.int16), 24_000, START)
    queue.write(np.full(1600, 5000, np.int16), 16_000, START)
    heard = np.concatenate([frame.samples for _, frame in run(queue, START + 1)])
    assert 9600 <= queue.position <= 9600 + 48 + 72 + 1
    inside = heard[200:4600]
    assert np.abs(inside.astype(int) - 5000).max() <= 2


def test_floats_bytes_frames_and_stereo():
    queue = PlayoutQueue(48_000, channels=2)
    queue.write(np.full((960, 2), 0.5, np.float32), 48_000, START)
    queue.write(np.full(960, 7, np.int16).tobytes(), 48_000, START)
    queue.write(AudioFrame(np.full(960, 9, np.int16), 48_000, 0.0), None, START)
    frames = [frame for _, frame in run(queue, START + 1)]
    assert [frame.samples.shape for frame in frames] == [(960, 2)] * 3
    assert [int(frame.samples[0, 1]) for frame in frames] == [16384, 7, 9]


def test_what_cannot_be_played_is_refused_to_the_writer():
    queue = PlayoutQueue()
    for pcm, rate in [
        (np.zeros(960, np.int64), 48_000),
        (sound(1), 0),
        (sound(1), None),
        (sound(1), 48_001),
        (b"1", 8000),
    ]:
        with pytest.raises(LocalError):
            queue.write(pcm, rate, START)
    with pytest.raises(LocalError, match="would wait"):
        queue.write(np.zeros(int(MAX_QUEUED * 100) + 1, np.int16), 100, START)
    queue.write(np.zeros(0, np.int16), 16_000, START)
    assert queue.poll_timeout() is None


def test_a_stall_of_the_machine_makes_no_hole_in_a_word():
    queue = PlayoutQueue()
    queue.write(sound(20), 48_000, START)
    assert [frame.timestamp for frame in drain(queue, START)] == [0]
    burst = drain(queue, START + 0.125)  # the tick was 105 ms late
    assert [frame.timestamp for frame in burst] == [960 * slot for slot in range(1, 7)]
    assert not any(frame.marker for frame in burst)


def test_a_program_that_is_late_leaves_a_gap_in_time():
    queue = PlayoutQueue()
    queue.write(sound(1), 48_000, START)
    assert [frame.timestamp for frame in drain(queue, START)] == [0]
    queue.write(sound(2), 48_000, START + 0.1)
    (late,) = drain(queue, START + 0.1)
    assert (late.timestamp, late.marker) == (960 * 5, True)


def test_what_was_not_heard_can_be_said_again():
    queue = PlayoutQueue()
    queue.keep_departed(True)
    samples = sound(10)
    queue.write(samples, 48_000, START)
    for slot in range(5):
        assert len(drain(queue, START + slot * FRAME)) == 1
    assert queue.position == 5 * 960
    assert queue.rewind(2 * 960 + 100) == 3 * 960 - 100
    assert queue.position == 2 * 960 + 100
    queue.resume(START + 1.0)
    again = drain(queue, START + 1.0)
    assert len(again) == 1  # a gap, not a burst
    assert again[0].marker
    assert again[0].timestamp == 50 * 960
    rest = [frame.samples for slot in range(1, 10) for frame in drain(queue, START + 1.0 + slot * FRAME)]
    said = np.concatenate([again[0].samples, *rest])
    np.testing.assert_array_equal(said[: 8 * 960 - 100], samples[2 * 960 + 100 :])


def test_only_what_was_to_be_kept_can_be_taken_back() -> None:
    queue = PlayoutQueue()
    queue.write(sound(MAX_REWOUND + 10), 48_000, START)
    assert len(run(queue, START + 4 * FRAME - 0.001)) == 4
    assert queue.rewind(0) == 0
    queue.keep_departed(True)
    run(queue, START + 8 * FRAME - 0.001, START + 4 * FRAME)
    assert queue.rewind(0) == 4 * 960  # not what had left before
    assert queue.position == 4 * 960
    queue.resume(START + 1)
    run(queue, START + 5, START + 1)
    assert queue.position == (MAX_REWOUND + 10) * 960
    assert queue.rewind(0) == MAX_REWOUND * 960
    queue.keep_departed(False)
    assert queue.rewind(0) == 0


def test_lateness_is_counted_in_bounds_and_added_up() -> None:
    late = Lateness()
    for seconds in (0.0, 0.0, 0.0, 0.003, 0.007):
        late.add(seconds)
    counts = dict(zip((*Lateness.BOUNDS, None), late.counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.0005: 3, 0.005: 1, 0.010: 1}
    total = Lateness()
    total.merge(late)
    total.merge(late)
    total.add(3.0)
    assert sum(total.counts) == 11
    assert total.counts[-1] == 1
    assert total.total == pytest.approx(3.020)


def test_silence_leads_in_what_follows_a_gap():
    queue = PlayoutQueue(lead_in=1)
    queue.write(sound(2), 48_000, START)
    first = [frame for _, frame in run(queue, START + 1)]
    assert [frame.leads_in for frame in first] == [False, False]  # no reply has been waited for yet
    queue.write(sound(2), 48_000, START + 1)
    (at, silence), (same, begin), (next_at, end) = run(queue, START + 2, START + 1)
    assert (at, same, round(next_at - at, 9)) == (START + 1, START + 1, 0.02)
    assert silence.leads_in
    assert not silence.samples.any()
    assert (silence.marker, begin.marker) == (True, False)
    assert begin.timestamp - silence.timestamp == 960
    assert silence.position == begin.position == 1920
    assert np.array_equal(np.concatenate((begin.samples, end.samples)), sound(2))
    assert queue.position == 3840


def test_a_talkspurt_can_be_led_in_by_more_silence_than_the_others():
    queue = PlayoutQueue(lead_in=1)
    queue.write(sound(1), 48_000, START)
    run(queue, START + 1)
    queue.resume(START + 1, lead_in=2)
    for second, leading in ((1, 2), (2, 1)):
        queue.resume(START + second)
        queue.write(sound(1), 48_000, START + second)
        sent = run(queue, START + second + 1, START + second)
        assert [frame.leads_in for _, frame in sent] == [*range(leading, -1, -1)]
        assert {at for at, _ in sent} == {START + second}
        stamps = [frame.timestamp for _, frame in sent]
        assert [after - before for before, after in pairwise(stamps)] == [960] * leading


def test_no_silence_comes_into_the_middle_of_what_is_said():
    queue = PlayoutQueue(lead_in=1)
    queue.write(sound(3), 48_000, START)
    sent = run(queue, START + 1, late=lambda tick: 0.05)
    queue.write(sound(1), 48_000, sent[-1][0] + 0.02)
    sent += run(queue, START + 1, sent[-1][0] + 0.02)
    assert len(sent) == 4
    assert not any(frame.leads_in for _, frame in sent)
    assert np.array_equal(np.concatenate([frame.samples for _, frame in sent][:3]), sound(3))
