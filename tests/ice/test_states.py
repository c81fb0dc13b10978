"""The states of agents and pairs are literal tables, and a step that is not in them is a bug that shows."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import Enum

import pytest

from stack.core.errors import LocalError
from stack.core.machine import Address
from stack.core.transitions import step
from stack.ice import Candidate, CandidatePair, IceState, PairState
from stack.ice.events import ICE_TRANSITIONS
from stack.ice.pair import PAIR_TRANSITIONS


@pytest.mark.parametrize("table", [ICE_TRANSITIONS, PAIR_TRANSITIONS], ids=["ice", "pair"])
def test_a_table_names_every_state_in_protocol_order_and_reaches_it(table: Mapping[Enum, Set[Enum]]) -> None:
    states = list(type(next(iter(table))))
    assert list(table) == states
    reached, todo = {states[0]}, [states[0]]
    while todo:
        new = table[todo.pop()] - reached
        reached |= new
        todo += new
    assert reached == set(states)


def test_a_step_that_is_not_in_the_table_is_refused() -> None:
    assert step(ICE_TRANSITIONS, IceState.NEW, IceState.NEW) is IceState.NEW
    with pytest.raises(LocalError, match="from CLOSED to CHECKING"):
        step(ICE_TRANSITIONS, IceState.CLOSED, IceState.CHECKING)
    ours, theirs = (Candidate.host_candidate(Address(f"192.0.2.{n}", 9)) for n in (1, 2))
    pair = CandidatePair(ours, theirs, controlling=True)
    pair.enter(PairState.IN_PROGRESS)
    with pytest.raises(LocalError, match="from IN_PROGRESS to FROZEN"):
        pair.enter(PairState.FROZEN)
