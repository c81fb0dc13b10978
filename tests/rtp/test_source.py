"""The formulas of RFC 3550 appendix A, each against the same thing computed the long way."""

import random

from hypothesis import given
from hypothesis import strategies as st

from stack.core.serial import RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp.rtcp import SenderReport
from stack.rtp.source import MAX_DROPOUT, MAX_MISORDER, SEEN_WINDOW, Arrival, RemoteSource


def source(first: int = 0) -> RemoteSource:
    return RemoteSource(Ssrc(7), SequenceNumber(first), 0.0)


def receive(target: RemoteSource, sequence: int, now: float = 0.0) -> tuple[Arrival, int]:
    return target.receive(SequenceNumber(sequence & 0xFFFF), 100, now)


@given(st.integers(0, 0xFFFF), st.integers(0, 2**32), st.integers(0, 30))
def test_extended_numbers_and_loss_across_wraps(first: int, seed: int, loss: int) -> None:
    chance = random.Random(seed)
    target, received = source(first), [first]
    assert receive(target, first) == (Arrival.NEW, first)
    for sequence in range(first + 1, first + 70_000, 23):
        for number in range(sequence, sequence + 2):
            if chance.randrange(100) >= loss:
                assert receive(target, number) == (Arrival.NEW, number)
                received.append(number)
    assert target.highest == max(received)
    assert target.expected == max(received) - first + 1
    assert target.cumulative_lost == target.expected - len(received)


def test_duplicates_and_late_packets_count_as_received() -> None:
    target = source(10)
    for sequence in (10, 11, 14, 12, 12, 11):
        receive(target, sequence)
    assert target.duplicates == 2
    assert target.cumulative_lost == 5 - 6
    assert receive(target, 13) == (Arrival.NEW, 13)


def test_a_jump_is_doubted_until_the_next_packet_confirms_it() -> None:
    """RFC 3550 §A.1: two packets in a row after a jump mean that the source has started over."""
    target = source(100)
    receive(target, 100)
    assert receive(target, 100 + MAX_DROPOUT)[0] is Arrival.DOUBTFUL
    assert receive(target, 101) == (Arrival.NEW, 101)
    assert receive(target, 20_000)[0] is Arrival.DOUBTFUL
    assert receive(target, 20_001) == (Arrival.RESTART, 20_001)
    assert (target.expected, target.received, target.packets_received) == (1, 1, 3)


def test_the_edges_of_what_is_believed() -> None:
    target = source(1000)
    receive(target, 1000)
    assert receive(target, 1000 - MAX_MISORDER) == (Arrival.NEW, 1000 - MAX_MISORDER)
    assert receive(target, 1000 - MAX_MISORDER - 1)[0] is Arrival.DOUBTFUL
    assert receive(target, 1000 + MAX_DROPOUT - 1) == (Arrival.NEW, 1000 + MAX_DROPOUT - 1)


def test_what_is_remembered_as_seen_is_bounded() -> None:
    target = source(0)
    receive(target, 0)
    receive(target, 2000)
    assert not target.has(1999)
    assert target.mark(1999)
    assert not target.mark(1999)
    assert target.has(2000 - SEEN_WINDOW)
    assert not target.mark(2000 - SEEN_WINDOW)
    assert not target.has(2001)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), min_size=2, max_size=60))
def test_interarrival_jitter(steps: list[tuple[int, int]]) -> None:
    """RFC 3550 §A.8, with transit times computed in milliseconds here and in 8 kHz units there."""
    target, expected, previous = source(), 0.0, None
    sent = 0
    for step, delay in steps:
        sent += step
        arrival = sent + delay
        timestamp = target.extend_timestamp(RtpTimestamp(8 * sent & 0xFFFFFFFF))
        target.measure_jitter(timestamp, 8000, arrival / 1000)
        if previous is not None:
            expected += (abs(8 * (delay - previous)) - expected) / 16
        previous = delay
    assert abs(target.jitter - expected) <= 2  # whole units of the clock


def test_the_fraction_lost_is_that_of_the_interval() -> None:
    target = source(0)
    for sequence in range(100):
        if sequence % 4:
            receive(target, sequence)
    receive(target, 0)
    first = target.report(1.0)
    assert (first.fraction_lost, first.cumulative_lost) == ((24 << 8) // 100, 24)
    for sequence in range(100, 200):
        receive(target, sequence)
    second = target.report(2.0)
    assert (second.fraction_lost, second.cumulative_lost, second.extended_highest_sequence) == (0, 24, 199)
    assert target.report(3.0).fraction_lost == 0


def test_duplicates_never_make_a_negative_fraction() -> None:
    target = source(0)
    for _ in range(5):
        receive(target, 0)
    assert (target.report(1.0).fraction_lost, target.report(1.0).cumulative_lost) == (0, -4)


def test_when_the_last_sender_report_came() -> None:
    target = source()
    receive(target, 0)
    assert target.report(0.0).last_sr == target.report(0.0).delay_since_last_sr == 0
    target.handle_sender_report(SenderReport(7, 0x1111_2222_3333_4444, 0, 0, 0), 10.0)
    block = target.report(12.5)
    assert block.last_sr == 0x2222_3333
    assert block.delay_since_last_sr == int(2.5 * 65536)
