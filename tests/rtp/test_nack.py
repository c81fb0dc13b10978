import itertools

from stack.core.serial import RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp import RtpPacket
from stack.rtp.nack import (
    ANSWER_MARGIN,
    HOLD_OFF,
    MAX_HISTORY,
    MAX_HISTORY_AGE,
    MAX_MISSING,
    MAX_REPEATS,
    MAX_TRIES,
    REPAIR_DEADLINE,
    NackGenerator,
    SendHistory,
)


def packet(sequence: int) -> RtpPacket:
    return RtpPacket(111, SequenceNumber(sequence & 0xFFFF), RtpTimestamp(0), Ssrc(1), b"sound")


def test_a_gap_is_asked_for_after_the_hold_off() -> None:
    nack = NackGenerator()
    nack.note_missing(5, 8, 1.0)
    assert nack.poll_timeout() == 1.0 + HOLD_OFF
    assert nack.due(1.0, 0.05) == []
    assert nack.due(1.0 + HOLD_OFF, 0.05) == [5, 6, 7]
    assert nack.requests == 3


def test_what_was_only_overtaken_is_never_asked_for() -> None:
    nack = NackGenerator()
    nack.note_missing(5, 6, 1.0)
    assert nack.note_received(5) is False
    assert nack.poll_timeout() is None
    assert nack.due(2.0, 0.05) == []


def test_an_answer_is_known_for_what_it_is() -> None:
    nack = NackGenerator()
    nack.note_missing(5, 6, 1.0)
    nack.due(1.1, 0.05)
    assert nack.note_received(5) is True
    assert nack.note_received(5) is False


def test_it_asks_again_after_a_round_trip_and_gives_up() -> None:
    nack, now, asked = NackGenerator(), 0.0, list[float]()
    nack.note_missing(9, 10, now)
    while (at := nack.poll_timeout()) is not None:
        now = at
        if nack.due(now, 0.05):
            asked.append(now)
    assert len(asked) == MAX_TRIES
    assert [round(b - a, 6) for a, b in itertools.pairwise(asked)] == [0.05 + ANSWER_MARGIN] * (MAX_TRIES - 1)
    assert len(nack) == 0


def test_it_does_not_ask_for_what_would_come_too_late() -> None:
    nack = NackGenerator()
    nack.note_missing(9, 10, 0.0)
    assert nack.due(HOLD_OFF, REPAIR_DEADLINE) == []
    assert len(nack) == 0


def test_missing_packets_are_bounded_and_the_newest_are_kept() -> None:
    nack = NackGenerator()
    nack.note_missing(0, 2000, 0.0)
    assert len(nack) == MAX_MISSING
    nack.note_missing(2001, 2011, 0.0)
    assert len(nack) == MAX_MISSING
    assert nack.due(1e-9 + HOLD_OFF, 0.0)[-1] == 2010


def test_the_history_answers_within_its_bounds() -> None:
    history = SendHistory()
    for sequence in range(2 * MAX_HISTORY):
        history.remember(packet(sequence), sequence * 0.001)
    assert len(history) == MAX_HISTORY
    now = 2 * MAX_HISTORY * 0.001
    assert history.answer(0, now, 0.05) is None
    answer = history.answer(2 * MAX_HISTORY - 1, now, 0.05)
    assert answer is not None
    assert answer.sequence_number == 2 * MAX_HISTORY - 1
    assert history.answer(MAX_HISTORY, now + MAX_HISTORY_AGE, 0.05) is None


def test_old_packets_are_forgotten_by_time() -> None:
    history = SendHistory()
    history.remember(packet(1), 0.0)
    history.remember(packet(2), MAX_HISTORY_AGE + 0.1)
    assert len(history) == 1


def test_two_requests_within_a_round_trip_are_one() -> None:
    history = SendHistory()
    history.remember(packet(1), 0.0)
    answers = [history.answer(1, at / 1000, 0.1) is not None for at in (10, 50, 100, 111, 150, 300, 500, 700, 900)]
    assert answers == [True, False, False, True, False, True, True, False, False]
    assert sum(answers) == MAX_REPEATS
