"""When a client takes it that nothing comes from its server any more."""

from __future__ import annotations

import pytest

from stack.signaling.client_silence import CONSENT_PERIOD, LOOK_EVERY, PING_AFTER, SILENT_AFTER, LastArrival


def silent_at(*, has_channel: bool, round_trip: float = 0.01, acknowledged: bool = False) -> float | None:
    """Return when a call is taken for silent of which nothing has come since 0; None: not within ten seconds."""
    silence, packets = LastArrival(0.0), 100
    for step in range(round(10.0 / LOOK_EVERY)):
        now = step * LOOK_EVERY
        silence.look(packets, round_trip, now)
        if silence.is_silent:
            return now
        if silence.wants_ping(now) and has_channel:
            silence.note_ping(now)
            packets += acknowledged
    return None


def test_what_is_not_acknowledged_is_silence_in_half_a_second() -> None:
    found = silent_at(has_channel=True)
    assert found is not None
    assert SILENT_AFTER < found <= SILENT_AFTER + 2 * LOOK_EVERY


def test_a_program_that_says_nothing_is_no_silence() -> None:
    assert silent_at(has_channel=True, acknowledged=True) is None


def test_a_long_way_has_time_for_its_acknowledgement() -> None:
    found = silent_at(has_channel=True, round_trip=0.4)
    assert found is not None
    assert found > PING_AFTER + 0.8


def test_without_a_channel_an_answer_to_a_check_is_waited_for() -> None:
    found = silent_at(has_channel=False)
    assert found is not None
    assert found == pytest.approx(CONSENT_PERIOD, abs=1.0)
    assert found > CONSENT_PERIOD


def test_what_comes_ends_it() -> None:
    silence = LastArrival(0.0)
    for packets, now in ((1, 0.0), (1, 0.3)):
        silence.look(packets, 0.0, now)
    silence.note_ping(0.3)
    silence.look(1, 0.0, 0.6)
    assert silence.is_silent
    silence.look(2, 0.0, 0.65)
    assert not silence.is_silent
    assert not silence.wants_ping(0.7)
    assert silence.wants_ping(0.95)
