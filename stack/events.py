"""What happens in a call, as a program reads it from `call.events` or `call.watch()`.

from stack.events import ReplyInterrupted, UserStartedSpeaking

async for event in call.events:
    match event:
        case UserStartedSpeaking():
            ...
        case ReplyInterrupted(heard_ms=heard):
            ...
"""

from stack.sctp import ChannelClosed, ChannelOpened
from stack.session import Authenticated, Connected, ConnectionPaused, ConnectionResumed, Ended, EndReason
from stack.voice.events import (
    ContextAdded,
    KeyPressed,
    PeerLeft,
    ProgramFailed,
    ProgramMessage,
    ReplyFinished,
    ReplyHeard,
    ReplyHeld,
    ReplyInterrupted,
    ReplyResumed,
    ReplyStarted,
    ReplyText,
    ReplyWanted,
    SessionUpdated,
    TakesTurns,
    ToolRequested,
    TurnChanged,
    UserIdle,
    UserStartedSpeaking,
    UserStoppedSpeaking,
    UserTranscript,
    Utterance,
)
from stack.voice.turns import TurnState

__all__ = [
    "Authenticated",
    "ChannelClosed",
    "ChannelOpened",
    "Connected",
    "ConnectionPaused",
    "ConnectionResumed",
    "ContextAdded",
    "EndReason",
    "Ended",
    "KeyPressed",
    "PeerLeft",
    "ProgramFailed",
    "ProgramMessage",
    "ReplyFinished",
    "ReplyHeard",
    "ReplyHeld",
    "ReplyInterrupted",
    "ReplyResumed",
    "ReplyStarted",
    "ReplyText",
    "ReplyWanted",
    "SessionUpdated",
    "TakesTurns",
    "ToolRequested",
    "TurnChanged",
    "TurnState",
    "UserIdle",
    "UserStartedSpeaking",
    "UserStoppedSpeaking",
    "UserTranscript",
    "Utterance",
]
