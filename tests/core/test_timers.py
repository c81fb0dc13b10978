from __future__ import annotations

from enum import Enum, auto

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stack.core.timers import RETRY, Timers, earliest


class Slot(Enum):
    RETRANSMIT = auto()
    KEEPALIVE = auto()
    GIVE_UP = auto()


INSTANTS = st.floats(0, 100)
SLOTS = st.sampled_from(Slot)


class TimersAgainstDictionary(RuleBasedStateMachine):
    """Any sequence of calls leaves the same deadlines as a dictionary would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[Slot] = Timers()
        self.model: dict[Slot, float] = {}

    @rule(slot=SLOTS, at=INSTANTS)
    def set(self, slot: Slot, at: float) -> None:
        self.timers.set(slot, at)
        self.model[slot] = at

    @rule(slot=SLOTS, at=INSTANTS)
    def set_default(self, slot: Slot, at: float) -> None:
        self.timers.set_default(slot, at)
        self.model.setdefault(slot, at)

    @rule(slot=SLOTS)
    def clear(self, slot: Slot) -> None:
        self.timers.clear(slot)
        self.model.pop(slot, None)

    @rule()
    def clear_all(self) -> None:
        self.timers.clear_all()
        self.model.clear()

    @rule(now=INSTANTS)
    def pop_due(self, now: float) -> None:
        due = self.timers.pop_due(now)
        assert set(due) == {slot for slot, at in self.model.items() if at <= now}
        assert [self.model[slot] for slot in due] == sorted(self.model[slot] for slot in due)
        for slot in due:
            del self.model[slot]

    @invariant()
    def agrees(self) -> None:
        assert {slot: self.timers.get(slot) for slot in Slot if self.timers.is_set(slot)} == self.model
        assert self.timers.next == min(self.model.values(), default=None)
        why = self.timers.why()
        assert (why is None) == (not self.model)
        assert why is None or self.model[why] == self.timers.next


TestTimers = TimersAgainstDictionary.TestCase


def test_earliest_of_several() -> None:
    assert earliest() is None
    assert earliest(None, None) is None
    assert earliest(3.0, None, 1.0, 2.0) == 1.0


def test_a_handler_that_raises_costs_no_timer() -> None:
    timers: Timers[Slot] = Timers()
    for slot, at in ((Slot.RETRANSMIT, 1.0), (Slot.KEEPALIVE, 2.0), (Slot.GIVE_UP, 3.0)):
        timers.set(slot, at)
    fired: list[Slot] = []

    def handle(slot: Slot, now: float) -> None:
        if slot is Slot.KEEPALIVE and Slot.KEEPALIVE not in fired:
            fired.append(slot)
            raise ZeroDivisionError
        fired.append(slot)

    with pytest.raises(ZeroDivisionError):
        timers.fire(5.0, handle)
    assert fired == [Slot.RETRANSMIT, Slot.KEEPALIVE]
    assert (timers.get(Slot.RETRANSMIT), timers.get(Slot.KEEPALIVE), timers.get(Slot.GIVE_UP)) == (
        None,
        5.0 + RETRY,
        5.0,
    )
    timers.fire(5.0, handle)
    timers.fire(5.0 + RETRY, handle)
    assert fired == [Slot.RETRANSMIT, Slot.KEEPALIVE, Slot.GIVE_UP, Slot.KEEPALIVE]
    assert timers.next is None
