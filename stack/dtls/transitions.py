"""What the state tables of this room have in common.

`client12.py`, `server12.py`, `client13.py` and `server13.py` each have a `TRANSITIONS`: for every state the
handshake messages that it allows, and the states that may follow. A message without a row ends the handshake with
the alert `unexpected_message`. A handler returns the state that follows, and only `handle_message` sets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias, TypeVar

from stack.dtls.alerts import unexpected_message

StateT = TypeVar("StateT", bound=Enum)
Transitions: TypeAlias = Mapping[tuple[StateT, int], tuple[StateT, ...]]
"""From a state and a `HandshakeType` to the states that may follow."""


def following_states(transitions: Transitions[StateT], state: StateT, msg_type: int) -> tuple[StateT, ...]:
    """Return the states that may follow a message; `HandshakeFailure` if the state does not allow it."""
    following = transitions.get((state, msg_type))
    if following is None:
        raise unexpected_message(detail=f"type {msg_type} while waiting for {state.value}")
    return following
