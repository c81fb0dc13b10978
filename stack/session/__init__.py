"""One peer: where ICE, DTLS, SRTP, RTP and SCTP meet, and nowhere else."""

from stack.session.demux import Kind, classify
from stack.session.events import (
    Authenticated,
    Connected,
    ConnectionPaused,
    ConnectionResumed,
    Ended,
    EndReason,
    MediaHeld,
    SessionEvent,
)
from stack.session.media_plane import FrameSent, MediaKeys, MediaPlane, PythonMediaPlane, ScheduledFrame
from stack.session.parameters import LocalWishes, SessionParameters, make_local_parameters
from stack.session.session import Session
from stack.session.states import State
from stack.session.statistics import (
    CandidatePairStats,
    CodecStats,
    DtlsState,
    LocalCandidateStats,
    RemoteCandidateStats,
    SessionStatistics,
    TransportStats,
)
from stack.session.waterfall import STEPS, SetupStep

__all__ = [
    "STEPS",
    "Authenticated",
    "CandidatePairStats",
    "CodecStats",
    "Connected",
    "ConnectionPaused",
    "ConnectionResumed",
    "DtlsState",
    "EndReason",
    "Ended",
    "FrameSent",
    "Kind",
    "LocalCandidateStats",
    "LocalWishes",
    "MediaHeld",
    "MediaKeys",
    "MediaPlane",
    "PythonMediaPlane",
    "RemoteCandidateStats",
    "ScheduledFrame",
    "Session",
    "SessionEvent",
    "SessionParameters",
    "SessionStatistics",
    "SetupStep",
    "State",
    "TransportStats",
    "classify",
    "make_local_parameters",
]
