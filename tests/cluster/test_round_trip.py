"""How long a message takes over the backbone and back, by clocks that differ."""

from __future__ import annotations

import pytest

from stack.cluster.round_trip import PATIENCE, RoundTrip, Stamp

THEIRS = 5000.0
"""How far the other side's clock is ahead."""


def test_both_sides_measure_it_from_their_words() -> None:
    ours, theirs = RoundTrip(), RoundTrip()
    now = 100.0
    for _ in range(3):  # there in 20 ms, a while there, and back in 30 ms
        theirs.note(ours.stamp(now), now + 0.02 + THEIRS)
        ours.note(theirs.stamp(now + 0.1 + THEIRS), now + 0.13)
        now += 0.25
    assert ours.latest == pytest.approx(0.05)
    assert theirs.latest == pytest.approx(0.05)


def test_nothing_is_known_before_an_answer() -> None:
    ours = RoundTrip()
    assert ours.stamp(1.0) == Stamp(1.0, 0.0, 0.0)
    ours.note(Stamp(7.0), 2.0)
    assert ours.latest is None


def test_an_old_word_is_not_answered() -> None:
    ours = RoundTrip()
    ours.note(Stamp(7.0), 2.0)
    assert ours.stamp(2.0 + PATIENCE / 2).heard == 7.0
    assert ours.stamp(2.0 + PATIENCE).heard == 0.0


def test_it_is_never_negative() -> None:
    ours = RoundTrip()
    ours.note(Stamp(7.0, 1.0, 5.0), 2.0)
    assert ours.latest == 0.0
