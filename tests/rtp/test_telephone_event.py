import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.rtp.events import DtmfEnded, DtmfReceived
from stack.rtp.telephone_event import (
    DIGITS,
    END_PACKETS,
    EVENT_SILENCE,
    MAX_QUEUED_DIGITS,
    UPDATE_INTERVAL,
    DtmfReceiver,
    DtmfSender,
    TelephoneEvent,
)


@given(st.integers(0, 255), st.booleans(), st.integers(0, 63), st.integers(0, 0xFFFF))
def test_what_is_written_is_read(event: int, end: bool, volume: int, duration: int) -> None:
    message = TelephoneEvent(event, end, volume, duration)
    assert TelephoneEvent.parse(message.serialize()) == message


def test_by_hand() -> None:
    assert TelephoneEvent.parse(bytes.fromhex("0b8a0640")) == TelephoneEvent(11, True, 10, 1600)
    with pytest.raises(ParseError):
        TelephoneEvent.parse(b"\x0b\x8a\x06")


def press(receiver: DtmfReceiver, event: int, timestamp: int, duration: int, end: bool = False) -> list[object]:
    return list(receiver.handle(TelephoneEvent(event, end, 10, duration), timestamp, 8000, 1.0))


def test_a_key_is_told_once_and_its_end_once() -> None:
    receiver = DtmfReceiver()
    assert press(receiver, 5, 1000, 160) == [DtmfReceived("5", 1000)]
    assert press(receiver, 5, 1000, 480) == []
    assert press(receiver, 5, 1000, 320) == []  # overtaken
    assert press(receiver, 5, 1000, 800, end=True) == [DtmfEnded("5", 1000, 0.1)]
    assert press(receiver, 5, 1000, 800, end=True) == []
    assert press(receiver, 5, 1000, 480) == []  # much overtaken
    assert receiver.poll_timeout() is None
    assert press(receiver, 5, 9000, 160) == [DtmfReceived("5", 9000)]


def test_the_next_key_ends_one_whose_end_was_lost() -> None:
    receiver = DtmfReceiver()
    press(receiver, 1, 1000, 400)
    assert press(receiver, 2, 3000, 160) == [DtmfEnded("1", 1000, 0.05), DtmfReceived("2", 3000)]
    assert press(receiver, 1, 1000, 800, end=True) == []  # too late to matter


def test_silence_ends_it_too() -> None:
    receiver = DtmfReceiver()
    press(receiver, 10, 0, 800)
    assert receiver.poll_timeout() == 1.0 + EVENT_SILENCE
    assert receiver.finish() == [DtmfEnded("*", 0, 0.1)]
    assert receiver.finish() == []


def test_a_long_event_comes_in_segments() -> None:
    """RFC 4733 §2.5.1.3: the field is full, so the event goes on under the timestamp at which it was full."""
    receiver = DtmfReceiver()
    press(receiver, 3, 1000, 160)
    press(receiver, 3, 1000, 0xFFFF)
    assert press(receiver, 3, 1000 + 0xFFFF, 160) == []
    assert press(receiver, 3, 1000 + 0xFFFF, 465, end=True) == [DtmfEnded("3", 1000, 66_000 / 8000)]


def test_only_the_end_arrived() -> None:
    assert press(DtmfReceiver(), 15, 0, 800, end=True) == [DtmfReceived("D", 0), DtmfEnded("D", 0, 0.1)]


def test_playing_two_digits() -> None:
    sender = DtmfSender(48000)
    sender.queue("4#", 0.1, 0.05, 10.0)
    played: list[tuple[float, TelephoneEvent, float, bool]] = []
    while (now := sender.poll_timeout()) is not None:
        packet = sender.due(now)
        assert packet is not None
        played.append((now, TelephoneEvent.parse(packet.payload), packet.started_at, packet.first))
    events = [event for _, event, _, _ in played]
    assert [DIGITS[event.event] for event in events] == ["4"] * 7 + ["#"] * 7
    assert [event.duration for event in events[:7]] == [960, 1920, 2880, 3840, 4800, 4800, 4800]
    assert [event.end for event in events[:7]] == [False] * 4 + [True] * END_PACKETS
    assert [first for *_, first in played] == ([True] + [False] * 6) * 2
    assert {start for _, _, start, _ in played[:7]} == {10.0}
    assert played[7][0] - played[6][0] == pytest.approx(0.05)
    assert played[1][0] - played[0][0] == pytest.approx(UPDATE_INTERVAL)
    assert not sender.is_playing


def test_what_cannot_be_played_is_our_callers_fault() -> None:
    sender = DtmfSender(48000)
    for digits, duration, gap in (("x", 0.1, 0.1), ("1", 0.01, 0.1), ("1", 5.0, 0.1), ("1", 0.1, -1.0)):
        with pytest.raises(LocalError):
            sender.queue(digits, duration, gap, 0.0)
    sender.queue("1" * MAX_QUEUED_DIGITS, 0.1, 0.1, 0.0)
    with pytest.raises(LocalError):
        sender.queue("1", 0.1, 0.1, 0.0)
