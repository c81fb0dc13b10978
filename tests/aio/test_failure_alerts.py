"""When a worker reports the alert of a call: once, and again when the alert or its path is another one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stack.aio.failure_alerts import LOOK_EVERY, FailureAlert, FailureAlerts
from stack.aio.ipc import REPORTS
from stack.core.machine import Address, Path, Transmit
from stack.session import Authenticated, Ended, EndReason

HERE, THERE, ELSEWHERE = Address("192.0.2.1", 3478), Address("198.51.100.2", 5000), Address("198.51.100.3", 5001)


class Calls:
    """Conversations whose sessions have the alerts that a test gives them."""

    def __init__(self) -> None:
        self.alerts: dict[str, Transmit | None] = {}
        self.conversations: dict[str, Any] = {}
        self.reported: list[FailureAlert] = []
        self.under_test = FailureAlerts(self.conversations, self.reported.append)

    def add(self, call: str, alert: Transmit | None) -> None:
        self.alerts[call] = alert
        session = SimpleNamespace(failure_alert=lambda: self.alerts[call])
        self.conversations[call] = SimpleNamespace(session=session)


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_it_is_reported_when_the_peer_has_proved_itself(calls: Calls) -> None:
    calls.add("a", Transmit(b"alert", Path(HERE, THERE)))
    calls.under_test.note("a", Authenticated())
    assert calls.reported == [FailureAlert("a", b"alert", Path(HERE, THERE))]
    assert REPORTS.decode(memoryview(REPORTS.encode(calls.reported[0]))) == calls.reported[0]
    calls.under_test.note("a", Authenticated())
    calls.under_test.note("unknown", Authenticated())
    calls.under_test.note("a", object())
    assert len(calls.reported) == 1


def test_a_client_that_moves_is_found_by_the_next_look(calls: Calls) -> None:
    calls.add("a", Transmit(b"alert", Path(HERE, THERE)))
    calls.add("early", None)
    calls.under_test.look_again(100.0)
    calls.alerts["a"] = Transmit(b"alert", Path(HERE, ELSEWHERE))
    calls.under_test.look_again(100.0 + LOOK_EVERY / 2)
    assert len(calls.reported) == 1
    calls.under_test.look_again(100.0 + LOOK_EVERY)
    assert calls.reported[1:] == [FailureAlert("a", b"alert", Path(HERE, ELSEWHERE))]


def test_nothing_is_kept_of_a_call_that_is_over(calls: Calls) -> None:
    calls.add("a", Transmit(b"alert", Path(HERE, THERE)))
    calls.under_test.note("a", Authenticated())
    calls.under_test.note("a", Ended(EndReason.HUNG_UP))
    calls.under_test.note("a", Authenticated())  # another call of that name
    assert len(calls.reported) == 2


def test_nor_of_one_that_was_refused_and_has_not_said_its_end(calls: Calls) -> None:
    calls.add("a", Transmit(b"alert", Path(HERE, THERE)))
    calls.under_test.note("a", Authenticated())
    refused = calls.conversations.pop("a")
    calls.under_test.look_again(100.0)
    calls.conversations["a"] = refused
    calls.under_test.look_again(100.0 + LOOK_EVERY)
    assert len(calls.reported) == 2
