"""One peer: where ICE, DTLS, SRTP, RTP and SCTP meet, and nowhere else."""

from stack.session.demux import Kind, classify
from stack.session.events import Connected, Ended, EndReason, MediaReceived, SessionEvent
from stack.session.parameters import LocalWishes, SessionParameters, make_local_parameters
from stack.session.session import Session, State

__all__ = [
    "Connected",
    "EndReason",
    "Ended",
    "Kind",
    "LocalWishes",
    "MediaReceived",
    "Session",
    "SessionEvent",
    "SessionParameters",
    "State",
    "classify",
    "make_local_parameters",
]
