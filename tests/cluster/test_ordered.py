"""Messages in order over a carrier that loses."""

from __future__ import annotations

import random

import pytest

from stack.cluster import ordered
from stack.cluster.ordered import BacklogFull, OrderedStream
from stack.core.counters import Counters


def pair() -> tuple[OrderedStream, OrderedStream]:
    return OrderedStream(Counters()), OrderedStream(Counters())


def taken(frames: list[bytes], to: OrderedStream) -> list[bytes]:
    return [whole for frame in frames if (whole := to.receive(frame)) is not None]


def test_a_long_message_crosses_in_parts() -> None:
    left, right = pair()
    message = random.Random(1).randbytes(ordered.MAX_PART * 2 + 5)
    frames = left.send(message)
    assert len(frames) == 3
    assert taken(frames, right) == [message]


def test_what_was_lost_is_sent_again_in_order_after_one_period() -> None:
    left, right = pair()
    frames = [left.send(bytes([number]))[0] for number in range(5)]
    assert taken([frames[0], *frames[3:]], right) == [b"\x00"]  # what comes early is not kept
    assert left.acknowledge(right.received) == []  # it may be on its way
    assert taken(left.acknowledge(right.received), right) == [b"\x01", b"\x02", b"\x03", b"\x04"]
    assert left.acknowledge(right.received) == []


def test_what_is_worth_nothing_when_late_is_sent_once() -> None:
    left, right = pair()
    left.send(b"sound" * 100, is_stale_when_late=True)
    left.send(b"word")
    left.acknowledge(0)
    again = left.acknowledge(0)
    assert sum(map(len, again)) < 100
    assert taken(again, right) == [b"word"]


def test_a_message_that_was_lost_in_the_middle_leaves_no_part() -> None:
    left, right = pair()
    long = bytes(ordered.MAX_PART + 1)
    right.receive(left.send(long, is_stale_when_late=True)[0])
    left.send(b"next")
    left.acknowledge(1)
    assert taken(left.acknowledge(1), right) == [b"next"]


@pytest.mark.parametrize("seed", range(20))
def test_all_arrives_over_a_carrier_that_loses(seed: int) -> None:
    chance, (left, right) = random.Random(seed), pair()
    wanted = [chance.randbytes(chance.randrange(50)) for _ in range(200)]
    got: list[bytes] = []
    for message in wanted:
        got += taken([frame for frame in left.send(message) if chance.random() < 0.7], right)
        if chance.random() < 0.2:
            got += taken([frame for frame in left.acknowledge(right.received) if chance.random() < 0.7], right)
    for _ in range(1000):
        got += taken([frame for frame in left.acknowledge(right.received) if chance.random() < 0.7], right)
    assert got == wanted


def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "MAX_KEPT", 1000)
    left, _ = pair()
    with pytest.raises(BacklogFull):
        for _ in range(100):
            left.send(bytes(100))


def test_strange_bytes_and_acknowledgements_change_nothing() -> None:
    left, right = pair()
    frames = left.send(b"one")
    assert left.acknowledge(7) == left.acknowledge(-1) == []
    for strange in (b"", b"1", b"\xff\xff\xff\xff\x00x"):
        assert right.receive(strange) is None
    assert taken(frames, right) == [b"one"]
