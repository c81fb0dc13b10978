"""State machines as literal tables: from each state to the set of those that can follow it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import Enum
from typing import TypeVar

from stack.core.errors import LocalError

StateT = TypeVar("StateT", bound=Enum)


def step(transitions: Mapping[StateT, Set[StateT]], current: StateT, following: StateT) -> StateT:
    """Return `following`; `LocalError` if the table has no such step, which is a bug of ours.

    To stay in a state is no step.
    """
    if following is not current and following not in transitions[current]:
        raise LocalError(f"no step from {current.name} to {following.name}")
    return following
