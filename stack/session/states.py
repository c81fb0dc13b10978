"""Where a session stands, and why it wants to be woken."""

from __future__ import annotations

from enum import Enum, auto

from stack.core.timers import TimerName


class State(Enum):
    """Where a session stands, in the order in which it gets there."""

    CHECKING = auto()
    HANDSHAKING = auto()
    CONNECTED = auto()
    ENDED = auto()


class SessionTimer(TimerName):
    """Why a session wants to be woken: for its own sake, or for one of the protocols in it."""

    SETUP = "nothing came of the set-up"
    ICE = "ice"
    DTLS = "dtls"
    SCTP = "sctp"
    MEDIA = "media"
    OPEN = "what may be sent early waits for a peer that would lose its flight"
    RESUME = "the peer did not come back"
    EARLY = "the peer has not proved who it is for as long as it may be spoken to"
