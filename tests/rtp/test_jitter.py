from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.rtp.jitter import (
    MAX_CONCEALED,
    MAX_HELD,
    MAX_JUMP,
    RESTART_AFTER,
    ArrivalBuffer,
    Decode,
    JitterPacket,
    Missing,
    Silence,
)

FRAME = 960
T = 0.020


def packet(sequence, arrival=None, *, timestamp=None, recovered=False, fec=False, duration=FRAME):
    return JitterPacket(
        sequence,
        sequence * FRAME if timestamp is None else timestamp,
        duration,
        b"%d" % sequence,
        sequence * T if arrival is None else arrival,
        recovered,
        fec,
    )


def told(items):
    """Items in short: 7 is packet 7, "-1" a missing packet's worth, "~2" silence of two."""
    short = []
    for item in items:
        if isinstance(item, Decode):
            short.append(item.packet.sequence)
        else:
            short.append(("-" if isinstance(item, Missing) else "~") + f"{item.duration / FRAME:g}")
    return short


def test_packets_in_order_are_released_by_their_own_insert():
    buffer = ArrivalBuffer()
    for sequence in range(1000, 1100):
        assert told(buffer.insert(packet(sequence))) == [sequence]
        assert buffer.poll_timeout() is None
        assert buffer.held == 0
    assert dict(buffer.counters.snapshot()) == {"jitter.released": 100}


def test_a_burst_after_a_stall_is_released_at_once_and_in_order():
    buffer = ArrivalBuffer()
    buffer.insert(packet(0))
    released = [told(buffer.insert(packet(sequence, 2.0))) for sequence in range(1, 50)]
    assert released == [[sequence] for sequence in range(1, 50)]


def test_a_packet_that_was_overtaken_takes_its_place():
    buffer = ArrivalBuffer()
    assert told(buffer.insert(packet(0))) == [0]
    assert buffer.insert(packet(2, 0.040)) == []
    assert buffer.held == 1
    assert told(buffer.insert(packet(1, 0.045))) == [1, 2]
    assert buffer.counters["jitter.lost"] == 0


def test_a_gap_is_given_up_when_nothing_can_fill_it():
    buffer = ArrivalBuffer()
    buffer.insert(packet(0))
    buffer.insert(packet(2, 0.040))
    deadline = buffer.poll_timeout()
    assert 0.040 < deadline < 0.060
    assert buffer.pull(deadline - 0.001) == []
    items = buffer.pull(deadline)
    assert told(items) == ["-1", 2]
    assert items[0].following is items[1].packet
    assert items[0].timestamp == FRAME
    assert buffer.poll_timeout() is None
    assert buffer.counters["jitter.lost"] == 1


def test_a_retransmission_is_awaited_only_as_long_as_it_may_take():
    buffer = ArrivalBuffer(repair_wait=0.080)
    buffer.insert(packet(0))
    for sequence in (2, 3, 4):
        assert buffer.insert(packet(sequence)) == []
    assert buffer.poll_timeout() == pytest.approx(0.040 + 0.080)
    assert told(buffer.insert(packet(1, 0.110, recovered=True))) == [1, 2, 3, 4]
    buffer.repair_wait = 10.0
    buffer.insert(packet(6, 0.120))
    assert buffer.poll_timeout() == pytest.approx(0.120 + ArrivalBuffer.MAX_WAIT)


def test_red_is_awaited_for_as_many_packets_as_it_reaches():
    buffer = ArrivalBuffer(red_depth=2)
    buffer.insert(packet(0))
    assert buffer.insert(packet(2, 0.040)) == []  # the copy of 1 in 2 was lost on the sender's side, say
    assert buffer.poll_timeout() > 0.060
    assert told(buffer.insert(packet(1, 0.060, recovered=True))) == [1, 2]
    assert told(buffer.insert(packet(3, 0.060))) == [3]
    assert buffer.counters["jitter.recovered"] == 1


def test_red_that_cannot_come_any_more_is_not_awaited():
    buffer = ArrivalBuffer(red_depth=1)
    for lost in range(10, 200, 10):  # gaps here never fill up by themselves
        buffer.insert(packet(lost, lost * T))
        buffer.pull(lost * T + 1.0)
    buffer.reset()
    buffer.insert(packet(0))
    # 1 and 2 are lost; 3 brings the copy of 2 with it, and 1 was too far back
    assert told(buffer.insert(packet(2, 0.060, recovered=True))) == ["-1", 2]
    assert told(buffer.insert(packet(3, 0.060))) == [3]


def test_in_band_fec_fills_a_single_gap_at_once():
    buffer = ArrivalBuffer(repair_wait=0.1)
    buffer.insert(packet(0))
    items = buffer.insert(packet(2, 0.040, fec=True))
    assert told(items) == ["-1", 2]
    assert items[0].following.has_fec


def test_waiting_is_learned_from_how_gaps_end():
    buffer = ArrivalBuffer()
    at = 0.0
    for sequence in range(1, 101, 2):  # each odd packet is overtaken by the next and comes 35 ms after it
        at = sequence * T
        buffer.insert(packet(sequence - 1, at))
        buffer.insert(packet(sequence + 1, at + 0.001))
        for deadline in iter(buffer.poll_timeout, None):
            if deadline > at + 0.036:
                break
            buffer.pull(deadline)
        buffer.insert(packet(sequence, at + 0.036))
    assert buffer.counters["jitter.dropped_late"] <= 3
    assert buffer.counters["jitter.lost"] == buffer.counters["jitter.dropped_late"]
    # Later nothing comes any more: the waiting ends.
    sequence = 200
    for _ in range(80):
        sequence += 2
        at += 0.5
        buffer.insert(packet(sequence, at))
        buffer.pull(at + 0.3)
    buffer.insert(packet(sequence + 2, at + 1.0))
    assert buffer.poll_timeout() is None


def test_late_and_duplicated_packets_are_dropped_and_counted():
    buffer = ArrivalBuffer()
    for sequence in (5, 6, 8):
        buffer.insert(packet(sequence))
    buffer.pull(1.0)
    assert buffer.insert(packet(7, 1.0)) == []
    assert buffer.insert(packet(6, 1.0)) == []
    assert buffer.insert(packet(8, 1.0, recovered=True)) == []
    buffer.insert(packet(10, 1.0))
    assert buffer.insert(packet(10, 1.0)) == []
    dropped = {name: count for name, count in buffer.counters.snapshot().items() if "dropped" in name}
    assert dropped == {"jitter.dropped_duplicate": 2, "jitter.dropped_late": 1, "jitter.dropped_redundant": 1}


def test_silence_that_was_not_sent_is_told_from_loss():
    buffer = ArrivalBuffer()
    buffer.insert(packet(0))
    assert told(buffer.insert(packet(1, timestamp=21 * FRAME))) == ["~20", 1]
    buffer.insert(packet(3, 1.0, timestamp=30 * FRAME))
    items = buffer.pull(2.0)
    assert told(items) == ["~7", "-1", 3]
    assert [item.timestamp for item in items[:2]] == [22 * FRAME, 29 * FRAME]


def test_a_packet_without_sound_is_not_missing():
    """A telephone-event takes sequence numbers, and its timestamp stands still (RFC 4733 §2.5.1.2)."""
    buffer = ArrivalBuffer()
    buffer.insert(packet(0))
    for sequence in (1, 2, 3):
        assert buffer.insert(packet(sequence, timestamp=FRAME, duration=0)) == []
    assert told(buffer.insert(packet(4))) == ["~3", 4]
    assert buffer.insert(packet(6, duration=0)) == []  # overtakes 5
    assert told(buffer.insert(packet(5, 0.125))) == [5]
    assert told(buffer.insert(packet(7))) == ["~1", 7]
    buffer.insert(packet(8, duration=0))
    assert buffer.insert(packet(10)) == []  # 9 is lost
    assert told(buffer.pull(10.0)) == ["~1", "-1", 10]
    assert buffer.counters["jitter.lost"] == 1


def test_a_long_outage_is_mostly_silence():
    buffer = ArrivalBuffer()
    buffer.insert(packet(0))
    buffer.insert(packet(101))
    items = buffer.pull(10.0)
    assert isinstance(items[0], Silence)
    assert items[1].duration == MAX_CONCEALED * 48_000
    assert items[0].duration + items[1].duration == 100 * FRAME


def test_timestamps_that_go_back_open_no_gap():
    buffer = ArrivalBuffer()
    buffer.insert(packet(10))
    assert told(buffer.insert(packet(11, timestamp=3 * FRAME))) == [11]
    assert told(buffer.insert(packet(12, timestamp=4 * FRAME))) == [12]


@pytest.mark.parametrize("jump", [MAX_JUMP + 5, -MAX_JUMP - 5])
def test_a_jump_of_the_sequence_is_another_stream(jump):
    buffer = ArrivalBuffer()
    for sequence in range(5000, 5010):
        buffer.insert(packet(sequence))
    buffer.insert(packet(5011))  # waits
    assert told(buffer.insert(packet(5010 + jump, 200.0))) == [5010 + jump]
    assert told(buffer.insert(packet(5011 + jump, 200.0))) == [5011 + jump]
    assert buffer.counters["jitter.restarts"] == 1


def test_a_sender_that_goes_back_a_little_is_followed_after_a_while():
    buffer = ArrivalBuffer()
    for sequence in range(1000, 1300):
        buffer.insert(packet(sequence))
    released = [told(buffer.insert(packet(sequence, 10.0 + sequence * T))) for sequence in range(1000, 1100)]
    assert sum(map(len, released)) == 100 - RESTART_AFTER + 1


def test_what_waits_is_bounded():
    buffer = ArrivalBuffer(repair_wait=10.0)
    buffer.insert(packet(0, 0.0))
    released = []
    for sequence in range(2, 2 * MAX_HELD):
        released += told(buffer.insert(packet(sequence, 0.001)))
        assert buffer.held <= MAX_HELD
    assert released[:2] == ["-1", 2]


def test_reset_forgets_the_stream_and_keeps_what_was_learned():
    buffer = ArrivalBuffer()
    for sequence in (1000, 1002):
        buffer.insert(packet(sequence))
    buffer.reset()
    assert (buffer.poll_timeout(), buffer.held) == (None, 0)
    assert told(buffer.insert(packet(3))) == [3]


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.floats(0, 0.3), st.floats(0, 0.2), st.integers(0, 2))
def test_whatever_the_network_does_the_line_has_no_hole(random, loss, jitter, depth):
    """Everything released is in order, each packet once, and durations add up to the time from first to last."""
    arrivals = []
    for sequence in range(100, 200):
        for copy in range(depth + 1):
            if random.random() >= loss:
                arrivals.append(
                    (sequence * T + copy * T + random.random() * jitter, packet(sequence, recovered=copy > 0))
                )
    arrivals.sort(key=lambda arrival: arrival[0])
    buffer = ArrivalBuffer(red_depth=depth)
    items = []
    now = 0.0
    for now, sent in arrivals:
        while (deadline := buffer.poll_timeout()) is not None and deadline <= now:
            items += buffer.pull(deadline)
        items += buffer.insert(sent._replace(arrival=now))
    while (deadline := buffer.poll_timeout()) is not None:
        assert deadline <= now + ArrivalBuffer.MAX_WAIT
        items += buffer.pull(deadline)
    sequences = [item.packet.sequence for item in items if isinstance(item, Decode)]
    assert sequences == sorted(set(sequences))
    position = None
    for item in items:
        timestamp = item.packet.timestamp if isinstance(item, Decode) else item.timestamp
        assert position is None or timestamp == position
        position = timestamp + item.duration
    counts = buffer.counters
    assert counts["jitter.released"] == len(sequences)
    if sequences:
        assert counts["jitter.lost"] == sequences[-1] - sequences[0] + 1 - len(sequences)
    assert np.all(np.diff(sequences) > 0)
