"""What happens in a conversation, as typed events. Times are seconds of the media clock where they say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import msgspec

from stack.audio import AudioFrame, Samples
from stack.core.values import Value, check_json
from stack.sctp import SctpEvent
from stack.session import Authenticated, Connected, ConnectionPaused, ConnectionResumed, Ended
from stack.voice.endpointing import Pause
from stack.voice.turns import TurnState


class AudioReceived(Value, frozen=True):
    """A frame of what the person says, as it came."""

    frame: AudioFrame


class SpeakerDrained(Value, frozen=True):
    """The peer has played all that was written, as far as is known; `writes` counts those that were known by then.

    What was dropped is not waited for.
    """

    writes: int


class PeerLeft(Value, frozen=True):
    """The peer said BYE on its audio stream (RFC 3550 §6.6)."""


class KeyPressed(Value, frozen=True):
    """A telephone key (RFC 4733): one of 0–9 * # A–D."""

    digit: str


class UserStartedSpeaking(Value, frozen=True):
    """Speech is certain; `media_time` is where it begins, prefix padding included."""

    media_time: float
    decided_after_ms: float
    """Milliseconds from the arrival of the first frame of speech to this decision."""


class UserStoppedSpeaking(Value, frozen=True):
    """It is quiet; `media_time` is where speech ended. The turn need not be over."""

    media_time: float


class TurnChanged(Value, frozen=True):
    """The conversation is in another state."""

    state: TurnState


class UtterancePiece(Value, frozen=True, eq=False):
    """More of the turn that is being said: int16 mono of shape (n,) at 16 kHz, prefix padding first.

    The pieces of a turn, joined, are the `samples` of its `Utterance`. Only for who asked for them.
    """

    unshown: ClassVar[frozenset[str]] = frozenset({"samples"})
    samples: Samples


class TurnPaused(Value, frozen=True):
    """Is this pause the end of the turn? Only for who wants to judge: `note_end_of_turn` takes the answer.

    No answer is needed any more when the person goes on or the turn is over.
    """

    unshown: ClassVar[frozenset[str]] = frozenset({"pause"})
    number: int
    """Of the question: the answer names it."""
    pause: Pause


class UtteranceDiscarded(Value, frozen=True):
    """What was said so far was no turn: there will be no `Utterance` of these pieces."""


class Utterance(Value, frozen=True, eq=False):
    """One turn of the person: `samples` int16 mono of shape (n,), without our own voice where that was in it."""

    unshown: ClassVar[frozenset[str]] = frozenset({"samples"})
    samples: Samples
    sample_rate: int
    media_time: float
    """Seconds from the first sample of the stream to the first one of this."""
    speech_ended: float
    """Media time at which the person fell silent; what follows is the wait that made it a turn."""
    waited_ms: float
    """Milliseconds from the arrival of the last speech to the decision that the turn was over."""
    text: str = ""
    """What was said, where a transcriber runs; or typed instead, by a client that can (no samples then)."""
    request: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """What the client asked for in the answer to this turn alone, in the words of its dialect; often nothing."""

    def __post_init__(self) -> None:
        """Raise `LocalError` for a request that JSON cannot hold, or would change."""
        check_json(self.request)

    @property
    def is_typed(self) -> bool:
        """True for a turn that was typed: it has a text, and no samples."""
        return not len(self.samples)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


class ReplyWanted(Value, frozen=True):
    """A turn is over and asks for a reply."""


class ReplyStarted(Value, frozen=True):
    """The first sound of a reply leaves; `response_ms` after the turn was over, if it answers one."""

    reply: int
    response_ms: float | None


class ReplyHeld(Value, frozen=True):
    """The person speaks over a reply: no further packet of it leaves until it is dropped or resumed."""

    reply: int
    heard_ms: float
    stop_ms: float
    """Milliseconds from the arrival of the first frame of speech to the last packet."""
    rtp_timestamp: int | None = None
    """Of that packet; None if nothing had left."""


class ReplyResumed(Value, frozen=True):
    """The interruption was none: the reply goes on from where it was heard."""

    reply: int
    from_ms: float


class ReplyInterrupted(Value, frozen=True):
    """The reply is dropped: its first `heard_ms` were heard, `sent_ms` had left, the rest is forgotten."""

    reply: int
    heard_ms: float
    sent_ms: float
    provisional: bool = False
    """True if the client is about to say what it played: `ReplyHeard` follows, one round trip later."""
    rtp_timestamp: int | None = None
    """Of the last packet of it that left; None if none did."""


class ReplyHeard(Value, frozen=True):
    """The client has said what it had played of a reply when it fell silent: no estimate any more."""

    reply: int
    heard_ms: float


class ReplyFinished(Value, frozen=True):
    """The reply was written whole and has left whole."""

    reply: int
    heard_ms: float


class UserIdle(Value, frozen=True):
    """Neither side has said anything for the idle timeout since the last reply ended."""


class ReplyText(Value, frozen=True):
    """The program says in text what a reply says in sound; the pieces, joined as they are, are the whole."""

    reply: int
    text: str
    start_ms: float | None = None
    """How much of the reply's sound had been written by then: where in it this text begins."""
    duration_ms: float | None = None
    """How long it takes to say, if the program knows."""


class UserTranscript(Value, frozen=True):
    """The program says in text what the person said in the turn that it took last: so far, or `final`."""

    text: str
    final: bool
    began: float | None = None
    """The `media_time` of that turn; None for a program that has taken none."""
    typed: bool = False
    """The turn was typed: the client that it came from knows its words."""


class ProgramMessage(Value, frozen=True):
    """A message of the program's own to its client (`Call.tell`): an object of JSON."""

    message: Mapping[str, Any]


class ProgramFailed(Value, frozen=True):
    """The program has raised, which ends its call. Clients are told that it did, and never what it said."""


class TakesTurns(Value, frozen=True):
    """The program asks for whole turns: one that is typed reaches it, too."""


class ToolRequested(Value, frozen=True):
    """The program wants a function of the client to be called; `arguments` is JSON."""

    request: str
    name: str
    arguments: str


class SessionUpdated(Value, frozen=True):
    """The client has changed its session: `call.session` from now on, in the words of its dialect."""

    session: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raise `LocalError` for what JSON cannot hold, or would change."""
        check_json(self.session)


class ContextAdded(Value, frozen=True):
    """The client has put a text into the conversation that asks for no answer."""

    role: str
    """Whose words they are: "user", "assistant" or "system"."""
    text: str


ClientEvent: TypeAlias = SessionUpdated | ContextAdded
"""What a dialect tells a program of its client."""
ClientNews: TypeAlias = ReplyText | UserTranscript | TakesTurns | ProgramFailed
"""What of a program every client is told, on whichever channel it listens."""
ProgramEvent: TypeAlias = ClientNews | ProgramMessage | ToolRequested
"""What a program tells the observers of its call: the dialects hand it on to their clients."""
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
ConversationEvent: TypeAlias = (
    Connected
    | Authenticated
    | ConnectionPaused
    | ConnectionResumed
    | Ended
    | SctpEvent
    | LineEvent
    | ProgramEvent
    | ClientEvent
)
