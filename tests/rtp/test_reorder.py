import random

from stack.rtp import ReorderBuffer


def test_in_order_nothing_waits() -> None:
    buffer = ReorderBuffer[int]()
    assert [buffer.insert(sequence, sequence, 0.0) for sequence in range(5, 9)] == [[5], [6], [7], [8]]
    assert buffer.poll_timeout() is None


def test_a_gap_is_waited_for_and_given_up() -> None:
    buffer = ReorderBuffer[str](patience=0.1)
    assert buffer.insert(1, "one", 0.0) == ["one"]
    assert buffer.insert(3, "three", 0.02) == []
    assert buffer.insert(4, "four", 0.04) == []
    deadline = buffer.poll_timeout()
    assert deadline == 0.02 + 0.1
    assert buffer.pull(0.11) == []
    assert buffer.pull(deadline) == ["three", "four"]
    assert buffer.skipped == 1
    assert buffer.insert(2, "two", 0.13) == []
    assert buffer.late == 1


def test_the_depth_is_a_bound() -> None:
    buffer = ReorderBuffer[int](depth=3)
    buffer.insert(0, 0, 0.0)
    assert [buffer.insert(sequence, sequence, 0.0) for sequence in (2, 4, 6)] == [[], [], []]
    assert buffer.insert(8, 8, 0.0) == [2]
    assert len(buffer) == 3


def test_any_order_within_the_depth_comes_out_sorted_and_once() -> None:
    chance, buffer, out = random.Random(3), ReorderBuffer[int](depth=32), list[int]()
    line = list(range(300))
    shuffled = sorted([*line, *line], key=lambda sequence: sequence + chance.uniform(0, 20))
    shuffled.sort(key=lambda sequence: sequence != 0)  # the first packet begins the line
    for position, sequence in enumerate(shuffled):
        out += buffer.insert(sequence, sequence, position * 0.001)
    assert out == line
    assert buffer.late == 300


def test_reset_begins_another_line() -> None:
    buffer = ReorderBuffer[int]()
    buffer.insert(1000, 1, 0.0)
    buffer.reset()
    assert buffer.insert(5, 2, 0.0) == [2]
