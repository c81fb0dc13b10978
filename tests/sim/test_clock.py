from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.sim.clock import Agenda, VirtualClock


def test_time_does_not_go_back() -> None:
    clock = VirtualClock(10.0)
    clock.advance_to(12.5)
    clock.advance_to(11.0)
    assert clock.now == 12.5


@given(st.lists(st.integers(0, 5)))
def test_actions_come_by_instant_and_then_in_order(instants: list[int]) -> None:
    agenda = Agenda()
    done: list[tuple[int, int]] = []
    for order, at in enumerate(instants):
        agenda.add(float(at), lambda entry=(at, order): done.append(entry))  # type: ignore[misc]
    assert agenda.next == (min(instants) if instants else None)
    assert len(agenda) == len(instants)
    while len(agenda):
        agenda.pop()()
    assert done == sorted((at, order) for order, at in enumerate(instants))
