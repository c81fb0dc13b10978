from __future__ import annotations

from stack.core.counters import CounterName, Counters
from stack.core.faults import LOG_INTERVAL, MAX_PLACES, Faults

FEED = CounterName("test.fault_feed")


def caught(divisor: int = 0) -> Exception:
    try:
        1 / divisor
    except ZeroDivisionError as error:
        return error
    raise AssertionError


def caught_elsewhere() -> Exception:
    try:
        int("x")
    except ValueError as error:
        return error
    raise AssertionError


def test_every_exception_is_counted_and_each_place_told_of_once_a_minute() -> None:
    counters = Counters()
    faults = Faults(counters)
    for second in range(int(LOG_INTERVAL)):
        faults.note(FEED, caught(), float(second))
        faults.note(FEED, caught_elsewhere(), float(second))
    assert [type(fault.error) for fault in faults.drain()] == [ZeroDivisionError, ValueError]
    assert faults.drain() == ()
    faults.note(FEED, caught(), LOG_INTERVAL)
    assert [fault.doing for fault in faults.drain()] == ["feed"]
    assert counters[FEED] == 2 * LOG_INTERVAL + 1


def test_what_is_remembered_is_bounded_and_the_newest_is_told() -> None:
    faults = Faults(Counters())
    for number in range(3 * MAX_PLACES):
        faults.note(CounterName(f"test.fault_place_{number}"), RuntimeError(), 0.0)
        assert len(faults.drain()) == 1
