"""The transition table, held against figure 3 of RFC 9260 §4."""

import pytest

from stack.sctp.state import EXISTS, TRANSITIONS, AssociationInput, AssociationState

S, I = AssociationState, AssociationInput  # noqa: E741


def walk(*inputs):
    state = S.CLOSED
    for each in inputs:
        state = TRANSITIONS[state][each]
    return state


@pytest.mark.parametrize(
    ("inputs", "state"),
    [
        ((I.ASSOCIATE, I.INIT_ACK, I.COOKIE_ACK), S.ESTABLISHED),
        ((I.COOKIE_ECHO,), S.ESTABLISHED),
        ((I.ASSOCIATE, I.INIT_ACK, I.STALE_COOKIE), S.COOKIE_WAIT),
        ((I.COOKIE_ECHO, I.SHUTDOWN_COMMAND, I.ALL_ACKNOWLEDGED, I.SHUTDOWN_ACK), S.ENDED),
        ((I.COOKIE_ECHO, I.SHUTDOWN, I.ALL_ACKNOWLEDGED, I.SHUTDOWN_COMPLETE), S.ENDED),
        ((I.COOKIE_ECHO, I.SHUTDOWN_COMMAND, I.ALL_ACKNOWLEDGED, I.SHUTDOWN, I.SHUTDOWN_ACK), S.ENDED),
        ((I.COOKIE_ECHO, I.SHUTDOWN, I.RESTART), S.ESTABLISHED),
    ],
)
def test_the_ways_through(inputs, state):
    assert walk(*inputs) is state


def test_every_state_has_a_row_and_can_be_reached():
    assert list(TRANSITIONS) == list(S), "in the order of the protocol"
    assert {state for row in TRANSITIONS.values() for state in row.values()} == set(S) - {S.CLOSED}
    assert {each for row in TRANSITIONS.values() for each in row} == set(I)


def test_an_abort_ends_what_has_not_ended():
    for state in S:
        assert TRANSITIONS[state].get(I.ABORT) is (None if state is S.ENDED else S.ENDED)


def test_a_peer_that_begins_anew_is_taken_unless_the_shutdown_is_almost_over():
    """RFC 9260 §5.2.4.1 A."""
    refusing = [state for state in EXISTS if I.RESTART not in TRANSITIONS[state]]
    assert refusing == [S.SHUTDOWN_ACK_SENT]
