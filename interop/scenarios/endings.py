"""How a call ends."""

from __future__ import annotations

from interop.evidence import Side
from interop.peers.base import Peer
from interop.scenarios.registry import scenario
from interop.trial import Trial


def says_goodbye(peer: Peer, side: Side) -> str | None:
    """A stack that closes without a word cannot be asked for one, nor a far server whether it heard it."""
    if not peer.traits.can_be_asked:
        return f"{peer.name} cannot be asked whether it noticed"
    silent = side == "client" and not peer.traits.says_goodbye
    return f"{peer.name} closes its connection without a word" if silent else None


def notices(peer: Peer, side: Side) -> str | None:
    """A program that cannot see the end cannot be asked whether it did, nor a far server be told to leave."""
    if not peer.traits.can_be_asked:
        return f"{peer.name} cannot be told to leave but over HTTP"
    if side == "client" and not peer.traits.notices_the_end:
        return f"a program cannot see in {peer.name} that the other side left"
    return None


@scenario("hang-up by the client", "RFC 8446 §6.1, RFC 9260 §9", unsupported=says_goodbye)
async def left_by_the_client(trial: Trial) -> None:
    """The client closes its connection, and the server learns of it on the path."""
    await trial.connect()
    await trial.leave("client")


@scenario("hang-up by the server", "RFC 8446 §6.1, RFC 9260 §9", unsupported=notices)
async def left_by_the_server(trial: Trial) -> None:
    """The server closes its connection, and the client learns of it on the path."""
    await trial.connect()
    await trial.leave("server")
