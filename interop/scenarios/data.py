"""Data channels."""

from __future__ import annotations

from interop.scenarios.registry import scenario
from interop.trial import LARGE, SMALL, Trial


@scenario("messages", "RFC 8831 §6.6, RFC 8832 §6")
async def messages(trial: Trial) -> None:
    """Text, binary and empty messages arrive both ways as they were sent."""
    await trial.connect()
    await trial.messages(SMALL)


@scenario("large messages", "RFC 8831 §6.6, RFC 8841 §6", seconds=8)
async def large_messages(trial: Trial) -> None:
    """Messages of 30 and 60 kB, which SCTP fragments, arrive both ways."""
    await trial.connect()
    await trial.messages(LARGE)
