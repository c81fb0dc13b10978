"""What tells a client that its media worker is gone: the worker seals it, the program's process sends it.

A worker that dies can say nothing, and no other process has a key of its calls. So each call leaves a fatal DTLS
alert with the program's process when it is connected (`DtlsEndpoint.failure_alert`), which sends it when the link
to the worker has failed. Peers end the connection at it; without it they find out by a check that is refused,
or by silence. It is one datagram, and may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stack.core.machine import Instant, Path, Transmit
from stack.core.values import Value
from stack.session import Authenticated, Connected, Ended
from stack.voice.conversation import Conversation

LOOK_EVERY = 5.0
"""Seconds between two looks at all calls: clients move, and data channels use up the numbers before the alert."""


class FailureAlert(Value, frozen=True):
    """The datagram of a call; it takes the place of the one before."""

    call: str
    data: bytes
    path: Path


class FailureAlerts:
    """Those of a worker's calls, as they were reported last."""

    def __init__(self, conversations: Mapping[str, Conversation], report: Callable[[FailureAlert], None]) -> None:
        self._conversations = conversations
        self._report = report
        self._reported: dict[str, Transmit] = {}
        self._look_at = 0.0

    def note(self, call_id: str, event: object) -> None:
        """Take an event of a call: there may be an alert from now on, or none any more."""
        if isinstance(event, Connected | Authenticated):
            self._look(call_id)
        elif isinstance(event, Ended):
            self._reported.pop(call_id, None)

    def look_again(self, now: Instant) -> None:
        """Look at all calls, if it is time to."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        for gone in self._reported.keys() - self._conversations.keys():  # a call that was refused ends unsaid
            del self._reported[gone]
        for call_id in self._conversations:
            self._look(call_id)

    def _look(self, call_id: str) -> None:
        conversation = self._conversations.get(call_id)
        alert = conversation.session.failure_alert() if conversation is not None else None
        if alert is not None and alert != self._reported.get(call_id):
            self._reported[call_id] = alert
            self._report(FailureAlert(call_id, alert.data, alert.path))
