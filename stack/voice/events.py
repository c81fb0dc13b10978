"""What happens in a conversation, as typed events. Times are seconds of the media clock where they say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from stack.audio import AudioFrame, Samples
from stack.sctp import SctpEvent
from stack.session import Connected, Ended
from stack.voice.endpointing import Pause
from stack.voice.turns import TurnState


@dataclass(frozen=True, slots=True)
class AudioReceived:
    """A frame of what the person says, as it came."""

    frame: AudioFrame


@dataclass(frozen=True, slots=True)
class SpeakerDrained:
    """The peer has played all that was written, as far as is known; `writes` counts those that were known by then.

    What was dropped is not waited for.
    """

    writes: int


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer said BYE on its audio stream (RFC 3550 §6.6)."""


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A telephone key (RFC 4733): one of 0–9 * # A–D."""

    digit: str


@dataclass(frozen=True, slots=True)
class UserStartedSpeaking:
    """Speech is certain; `media_time` is where it begins, prefix padding included."""

    media_time: float
    decided_after_ms: float
    """Milliseconds from the arrival of the first frame of speech to this decision."""


@dataclass(frozen=True, slots=True)
class UserStoppedSpeaking:
    """It is quiet; `media_time` is where speech ended. The turn need not be over."""

    media_time: float


@dataclass(frozen=True, slots=True)
class TurnChanged:
    """The conversation is in another state."""

    state: TurnState


@dataclass(frozen=True, slots=True, eq=False)
class UtterancePiece:
    """More of the turn that is being said: int16 mono of shape (n,) at 16 kHz, prefix padding first.

    The pieces of a turn, joined, are the `samples` of its `Utterance`. Only for who asked for them.
    """

    samples: Samples = field(repr=False)


@dataclass(frozen=True, slots=True)
class TurnPaused:
    """Is this pause the end of the turn? Only for who wants to judge: `note_end_of_turn` takes the answer.

    Nobody needs one any more when the person goes on or the turn is over.
    """

    number: int
    """Of the question: the answer names it."""
    pause: Pause = field(repr=False)


@dataclass(frozen=True, slots=True)
class UtteranceDiscarded:
    """What was said so far was no turn: there will be no `Utterance` of these pieces."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One turn of the person: `samples` int16 mono of shape (n,), without our own voice where that was in it."""

    samples: Samples = field(repr=False)
    sample_rate: int
    media_time: float
    """Seconds from the first sample of the stream to the first one of this."""
    speech_ended: float
    """Media time at which the person fell silent; what follows is the wait that made it a turn."""
    waited_ms: float
    """Milliseconds from the arrival of the last speech to the decision that the turn was over."""
    text: str = ""
    """What was said, where somebody transcribes; or typed instead, by a client that can (no samples then)."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What the client asked for in the answer to this turn alone, in the words of its dialect; often nothing."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class ReplyWanted:
    """A turn is over and asks for a reply."""


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """The first sound of a reply leaves; `response_ms` after the turn was over, if it answers one."""

    reply: int
    response_ms: float | None


@dataclass(frozen=True, slots=True)
class ReplyHeld:
    """The person speaks over a reply: no further packet of it leaves until it is dropped or resumed."""

    reply: int
    heard_ms: float
    stop_ms: float
    """Milliseconds from the arrival of the first frame of speech to the last packet."""
    rtp_timestamp: int | None = None
    """Of that packet; None if nothing had left."""


@dataclass(frozen=True, slots=True)
class ReplyResumed:
    """The interruption was none: the reply goes on from where it was heard."""

    reply: int
    from_ms: float


@dataclass(frozen=True, slots=True)
class ReplyInterrupted:
    """The reply is dropped: its first `heard_ms` were heard, `sent_ms` had left, the rest is forgotten."""

    reply: int
    heard_ms: float
    sent_ms: float
    provisional: bool = False
    """True if the client is about to say what it played: `ReplyHeard` follows, one round trip later."""
    rtp_timestamp: int | None = None
    """Of the last packet of it that left; None if none did."""


@dataclass(frozen=True, slots=True)
class ReplyHeard:
    """The client has said what it had played of a reply when it fell silent: no estimate any more."""

    reply: int
    heard_ms: float


@dataclass(frozen=True, slots=True)
class ReplyFinished:
    """The reply was written whole and has left whole."""

    reply: int
    heard_ms: float


@dataclass(frozen=True, slots=True)
class UserIdle:
    """Nobody has said anything for the idle timeout since the last reply ended."""


@dataclass(frozen=True, slots=True)
class ReplyText:
    """The program says in text what a reply says in sound; pieces follow each other."""

    reply: int
    text: str


@dataclass(frozen=True, slots=True)
class UserTranscript:
    """The program says in text what the person said in the latest turn."""

    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class ToolRequested:
    """The program wants a function of the client to be called; `arguments` is JSON."""

    request: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """The client has changed its session: `call.session` from now on, in the words of its dialect."""

    session: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContextAdded:
    """The client has put a text into the conversation that asks for no answer."""

    role: str
    """Whose words they are: "user", "assistant" or "system"."""
    text: str


ClientEvent: TypeAlias = SessionUpdated | ContextAdded
"""What a dialect tells a program of its client."""
ProgramEvent: TypeAlias = ReplyText | UserTranscript | ToolRequested
"""What a program tells whoever watches its call: the dialects hand it on to their clients."""
VoiceEvent: TypeAlias = (
    UserStartedSpeaking
    | UserStoppedSpeaking
    | TurnChanged
    | UtterancePiece
    | TurnPaused
    | UtteranceDiscarded
    | Utterance
    | ReplyWanted
    | ReplyStarted
    | ReplyHeld
    | ReplyResumed
    | ReplyInterrupted
    | ReplyHeard
    | ReplyFinished
    | UserIdle
)
LineEvent: TypeAlias = AudioReceived | SpeakerDrained | PeerLeft | KeyPressed | VoiceEvent
"""What an audio line reports."""
ConversationEvent: TypeAlias = Connected | Ended | SctpEvent | LineEvent | ProgramEvent | ClientEvent
