"""A client transaction: the schedule of RFC 8489 §6.2.1, Karn's rule, and giving up."""

from __future__ import annotations

import pytest

from stack.core.errors import LocalError
from stack.stun import ClientTransaction, RetransmissionPolicy, TransactionState


def test_the_schedule_of_the_specification() -> None:
    # RFC 8489 §6.2.1: with an RTO of 500 ms at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms; failed at 39500 ms.
    transaction = ClientTransaction(b"request", 0.0)
    sent = [0.0]
    while (deadline := transaction.poll_timeout()) is not None:
        if transaction.handle_timeout(deadline) is not None:
            sent.append(deadline)
        last = deadline
    assert sent == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert last == 39.5
    assert transaction.state is TransactionState.TIMED_OUT
    assert transaction.transmissions == 7


def test_being_called_early_or_twice_is_harmless() -> None:
    transaction = ClientTransaction(b"request", 10.0)
    assert transaction.handle_timeout(10.4) is None
    assert transaction.handle_timeout(10.5) == b"request"
    assert transaction.handle_timeout(10.5) is None
    assert transaction.transmissions == 2


def test_being_called_late_sends_once() -> None:
    transaction = ClientTransaction(b"request", 0.0)
    assert transaction.handle_timeout(100.0) == b"request"
    assert transaction.poll_timeout() == 101.0


def test_the_round_trip_is_known_only_of_a_request_sent_once() -> None:
    transaction = ClientTransaction(b"request", 1.0)
    assert transaction.handle_response(1.25) == pytest.approx(0.25)
    assert transaction.state is TransactionState.ANSWERED
    assert transaction.poll_timeout() is None

    transaction = ClientTransaction(b"request", 1.0)
    transaction.handle_timeout(1.5)
    assert transaction.handle_response(1.6) is None


def test_a_cancelled_transaction_is_silent_but_still_waits() -> None:
    transaction = ClientTransaction(b"request", 0.0)
    transaction.stop_retransmitting(0.2)
    assert transaction.poll_timeout() == pytest.approx(8.2)
    assert transaction.handle_timeout(8.1) is None
    assert transaction.state is TransactionState.PENDING
    assert transaction.handle_response(8.15) == pytest.approx(8.15)


def test_a_policy_with_a_single_transmission() -> None:
    transaction = ClientTransaction(b"request", 0.0, RetransmissionPolicy(rto=1.0, rc=1, rm=5))
    assert transaction.handle_timeout(4.9) is None
    assert transaction.handle_timeout(5.0) is None
    assert transaction.state is TransactionState.TIMED_OUT


@pytest.mark.parametrize("policy", [{"rto": 0.0}, {"rc": 0}, {"rm": 0}])
def test_a_policy_makes_sense(policy: dict[str, int]) -> None:
    with pytest.raises(LocalError):
        RetransmissionPolicy(**policy)
