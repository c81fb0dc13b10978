"""Data channels."""

from __future__ import annotations

from interop.evidence import Side
from interop.peers.base import Peer
from interop.scenarios.registry import scenario
from interop.trial import LARGE, SMALL, Trial


def unless_it_has_data(peer: Peer, _side: Side) -> str | None:
    """There is nothing to be said of the messages of a peer that has none."""
    return None if peer.traits.has_data else f"{peer.name} has no data channels"


@scenario("messages", "RFC 8831 §6.6, RFC 8832 §6", unsupported=unless_it_has_data)
async def messages(trial: Trial) -> None:
    """Text, binary and empty messages arrive both ways as they were sent."""
    await trial.connect()
    await trial.messages(SMALL)


@scenario("large messages", "RFC 8831 §6.6, RFC 8841 §6", seconds=8, unsupported=unless_it_has_data)
async def large_messages(trial: Trial) -> None:
    """Messages of 30 and 60 kB, which SCTP fragments, arrive both ways."""
    await trial.connect()
    await trial.messages(LARGE)
