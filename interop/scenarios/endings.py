"""How a call ends."""

from __future__ import annotations

from interop.evidence import Side
from interop.peers.base import Peer
from interop.scenarios.registry import Why, scenario
from interop.trial import Trial


def unless_it_can_be_seen(leaver: Side) -> Why:
    """A stack that closes without a word cannot be asked for one, nor one that shows no end whether it saw it."""

    def why(peer: Peer, side: Side) -> str | None:
        if not peer.traits.can_be_asked:
            return f"{peer.name} cannot be asked whether it noticed, nor told to leave but over HTTP"
        if side == leaver:
            return None if peer.traits.says_goodbye else f"{peer.name} closes its connection without a word"
        return None if peer.traits.notices_the_end else f"a program cannot see in {peer.name} that the other left"

    return why


@scenario("hang-up by the client", "RFC 8446 §6.1, RFC 9260 §9", unsupported=unless_it_can_be_seen("client"))
async def left_by_the_client(trial: Trial) -> None:
    """The client closes its connection, and the server learns of it on the path."""
    await trial.connect()
    await trial.leave("client")


@scenario("hang-up by the server", "RFC 8446 §6.1, RFC 9260 §9", unsupported=unless_it_can_be_seen("server"))
async def left_by_the_server(trial: Trial) -> None:
    """The server closes its connection, and the client learns of it on the path."""
    await trial.connect()
    await trial.leave("server")
