"""The state tables of the four handshakes and of the endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import pytest

from stack.dtls import DtlsEndpointState, client12, client13, endpoint, server12, server13

HANDSHAKES = {
    "client12": (client12.Client12State, client12.TRANSITIONS),
    "server12": (server12.Server12State, server12.TRANSITIONS),
    "client13": (client13.Client13State, client13.TRANSITIONS),
    "server13": (server13.Server13State, server13.TRANSITIONS),
}


def reachable(start: Enum, edges: Mapping[Enum, set[Enum]]) -> set[Enum]:
    """Return every state to which a way leads."""
    found, waiting = {start}, [start]
    while waiting:
        for state in edges.get(waiting.pop(), set()) - found:
            found.add(state)
            waiting.append(state)
    return found


@pytest.mark.parametrize("name", HANDSHAKES)
def test_every_state_is_reached_and_leads_to_connected(name: str) -> None:
    states, transitions = HANDSHAKES[name]
    edges: dict[Enum, set[Enum]] = {}
    for (state, _), following in transitions.items():
        edges.setdefault(state, set()).update(following)
    first, *_, last = list(states)
    assert last.name == "CONNECTED"
    assert last not in edges
    assert reachable(first, edges) == set(states)
    assert all(last in reachable(state, edges) for state in states)


@pytest.mark.parametrize("name", HANDSHAKES)
def test_the_states_are_in_protocol_order(name: str) -> None:
    states, transitions = HANDSHAKES[name]
    order = list(states)
    for (state, _), following in transitions.items():
        assert all(order.index(state) <= order.index(after) for after in following)


def test_a_closed_or_failed_connection_never_opens_again() -> None:
    ended = {DtlsEndpointState.CLOSED, DtlsEndpointState.FAILED}
    for (state, _), following in endpoint.TRANSITIONS.items():
        assert following is not DtlsEndpointState.NEW
        assert state not in ended or following in ended
    assert {state for state, _ in endpoint.TRANSITIONS} == set(DtlsEndpointState)
