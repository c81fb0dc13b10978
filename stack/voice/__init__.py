"""The voice of a conversation: hearing speech, cancelling echo, taking turns, being interrupted.

Everything here is a Transform or a small machine over int16 samples and media time; nothing reads a clock or
does I/O. `docs/voice.md` says how a sample travels.
"""

from stack.voice.audio_level import AudioLevelGate
from stack.voice.cascade import CascadeDetector
from stack.voice.echo import EchoCanceller, EchoReport, EchoState, KalmanEchoCanceller
from stack.voice.echo_aec3 import Aec3EchoCanceller
from stack.voice.echo_gate import GateSettings
from stack.voice.endpointing import Endpointer, Pause, RuleEndpointer, SmartTurnEndpointer
from stack.voice.playout_record import PlayoutPosition, PlayoutRecord
from stack.voice.silero import SileroDetector
from stack.voice.speech_front_end import Hearing, SpeechFrontEnd
from stack.voice.turns import (
    Eagerness,
    Expects,
    TurnAction,
    TurnEvent,
    TurnInput,
    TurnMode,
    TurnSettings,
    TurnState,
    TurnTaking,
)
from stack.voice.vad import (
    EarshotDetector,
    EnergyDetector,
    SpeechDetector,
    SpeechEvent,
    SpeechSettings,
    SpeechStarted,
    SpeechStopped,
    VoiceDetector,
    VoiceFrame,
    level_dbfs,
)

__all__ = [
    "Aec3EchoCanceller",
    "AudioLevelGate",
    "CascadeDetector",
    "Eagerness",
    "EarshotDetector",
    "EchoCanceller",
    "EchoReport",
    "EchoState",
    "Endpointer",
    "EnergyDetector",
    "Expects",
    "GateSettings",
    "Hearing",
    "KalmanEchoCanceller",
    "Pause",
    "PlayoutPosition",
    "PlayoutRecord",
    "RuleEndpointer",
    "SileroDetector",
    "SmartTurnEndpointer",
    "SpeechDetector",
    "SpeechEvent",
    "SpeechFrontEnd",
    "SpeechSettings",
    "SpeechStarted",
    "SpeechStopped",
    "TurnAction",
    "TurnEvent",
    "TurnInput",
    "TurnMode",
    "TurnSettings",
    "TurnState",
    "TurnTaking",
    "VoiceDetector",
    "VoiceFrame",
    "level_dbfs",
]
