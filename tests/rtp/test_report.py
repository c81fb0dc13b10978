import random

from stack.rtp.ntp import NtpClock, compact, to_compact_units
from stack.rtp.report import (
    FIRST_REPORT_WITHIN,
    MAX_REMEMBERED_REPORTS,
    MINIMUM_INTERVAL,
    ReportSchedule,
    RoundTripTime,
)


def test_ntp_time_counts_from_1900() -> None:
    clock = NtpClock(offset=1_000_000_000.0)
    assert clock.at(0.5) == (1_000_000_000 + 2_208_988_800) << 32 | 1 << 31
    assert compact(0x11112222_33334444) == 0x22223333
    assert to_compact_units(-1.0) == 0
    assert to_compact_units(1e9) == 0xFFFFFFFF


def test_the_interval_is_random_around_its_nominal_value() -> None:
    schedule = ReportSchedule(64_000, random.Random(1).randbytes)
    drawn = [schedule.interval() for _ in range(2000)]
    assert 0.5 * MINIMUM_INTERVAL <= min(drawn) < 0.55 * MINIMUM_INTERVAL
    assert 1.45 * MINIMUM_INTERVAL < max(drawn) <= 1.5 * MINIMUM_INTERVAL
    assert abs(sum(drawn) / len(drawn) - MINIMUM_INTERVAL) < 0.03
    assert all(0 <= schedule.first_delay() <= FIRST_REPORT_WITHIN for _ in range(100))


def test_large_reports_come_less_often() -> None:
    """RFC 3550 §6.3.1: a twentieth of the bandwidth, shared by two members."""
    schedule = ReportSchedule(64_000, lambda size: b"\x80" + bytes(size - 1))
    for _ in range(400):
        schedule.note_size(1152)
    assert abs(schedule.interval() - 2 * 1200 / 400) < 0.01


def test_a_round_trip_is_the_answer_less_the_time_it_lay_there() -> None:
    trip = RoundTripTime()
    trip.note_sent(500, 10.0)
    measured = trip.handle_answer(500, 2 * 65536, 12.25)
    assert measured is not None
    assert abs(measured - 0.25) < 1e-9
    trip.note_sent(600, 20.0)
    trip.handle_answer(600, 0, 20.05)
    assert abs((trip.minimum or 0) - 0.05) < 1e-9
    assert trip.smoothed is not None
    assert abs(trip.smoothed - (0.25 - 0.2 / 8)) < 1e-9
    assert trip.measurements == 2


def test_only_answers_to_what_was_sent_are_believed() -> None:
    trip = RoundTripTime()
    for number in range(MAX_REMEMBERED_REPORTS + 1):
        trip.note_sent(number, float(number))
    assert trip.handle_answer(0, 0, 100.0) is None  # forgotten
    assert trip.handle_answer(9999, 0, 100.0) is None  # invented
    assert trip.handle_answer(1, 0, 100.0) is None  # unbelievably late
    assert trip.handle_answer(MAX_REMEMBERED_REPORTS, 0xFFFFFFFF, 100.0) == 0.0  # never negative
