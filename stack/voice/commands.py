"""What a program or a dialect tells a conversation to do, as values: frozen, slotted, fit to cross a thread or a
process (`wire.py`).

Each is one act; `apply` carries it out and says what comes of it. Times are seconds where nothing else is said.
Sound is int16 or float (-1 … 1) PCM of shape (n,) or (n, channels).
"""

from __future__ import annotations

from typing import Any, TypeAlias

from stack.audio import PcmArray
from stack.core.counters import declare
from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.core.values import TextOrBytes, Value, check_json
from stack.ice import IceCredentials
from stack.sctp import ChannelId
from stack.session import SessionParameters
from stack.voice.conversation import Conversation
from stack.voice.events import ClientNews, TakesTurns
from stack.voice.statistics import CallStatistics
from stack.voice.turns import TurnSettings

END_OF_TURN_ANSWERED_LATE = declare(
    "conversation", "end_of_turn_answered_late", "Answers of an endpointer that came when the turn was decided"
)

# -- speaking ----------------------------------------------------------------------------------------------


class Write(Value, frozen=True, eq=False):
    """Say something outside of any reply. Without an audio section it is dropped."""

    pcm: PcmArray
    sample_rate: int

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Queue the sound; raises `LocalError` for what is none."""
        if conversation.line is not None:
            conversation.line.write(self.pcm, self.sample_rate, now)
        else:
            conversation.write_unheard()


class FlushSpeaker(Value, frozen=True):
    """Fall silent at once: a reply is dropped, and whatever else waits to be said."""

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Drop it all."""
        if conversation.line is not None:
            conversation.line.flush(now)


class BeginReply(Value, frozen=True):
    """Open a reply."""

    def apply(self, conversation: Conversation, now: Instant) -> int:
        """Return its number; raises `LocalError` while another is being spoken, or without an audio section."""
        return conversation.required_line.begin_reply(now)


class WriteReply(Value, frozen=True, eq=False):
    """Say more of a reply."""

    number: int
    pcm: PcmArray
    sample_rate: int

    def apply(self, conversation: Conversation, now: Instant) -> float | None:
        """Return how many seconds wait to be said, or None if the reply was dropped."""
        line = conversation.required_line
        return line.sender.queued if line.write_reply(self.number, self.pcm, self.sample_rate, now) else None


class EndReply(Value, frozen=True):
    """A reply is written whole."""

    number: int

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Harmless for one that was dropped."""
        conversation.required_line.turn_manager.end_reply(self.number, now)


class CancelReply(Value, frozen=True):
    """Drop a reply, if it is still being spoken."""

    number: int

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Harmless for one that is over."""
        conversation.required_line.turn_manager.cancel_reply(self.number, now)


class GetQueued(Value, frozen=True):
    """Ask how much of a reply waits to be said."""

    number: int

    def apply(self, conversation: Conversation, now: Instant) -> float | None:
        """Return the seconds; None if it was dropped or is over."""
        return conversation.line.queued(self.number) if conversation.line is not None else None


class Interrupt(Value, frozen=True):
    """Drop the reply that is being spoken."""

    def apply(self, conversation: Conversation, now: Instant) -> bool:
        """Return False if there was none."""
        return conversation.line is not None and conversation.line.turn_manager.interrupt(now)


class SendDigits(Value, frozen=True):
    """Press keys (0–9 * # A–D): what is being said gives way to them."""

    digits: str

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Raises `LocalError` for other characters, and if telephone events were not negotiated."""
        conversation.session.send_dtmf(self.digits, now)


class HangUp(Value, frozen=True):
    """End the call in an orderly way."""

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """BYE and close_notify."""
        conversation.session.close(now)


# -- listening ---------------------------------------------------------------------------------------------


class Listen(Value, frozen=True):
    """Begin to tell speech from silence and to take turns."""

    whole_turns: bool = False
    """The program asks for whole turns, so that one which is typed reaches it: the client is told."""

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """See `AudioLine.listening`."""
        if conversation.line is not None:
            conversation.line.listening = True
            if self.whole_turns:
                conversation.client.announce(TakesTurns())


class ReportFrames(Value, frozen=True):
    """Hand up what the person says frame by frame (`AudioReceived`), as from the beginning, or no more."""

    wanted: bool

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """From now on."""
        if conversation.line is not None:
            conversation.line.reports_frames = self.wanted


class ReportPieces(Value, frozen=True):
    """Report each turn in pieces while it is being said (`UtterancePiece`), for a transcriber."""

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """From now on."""
        if conversation.line is not None:
            conversation.line.turn_manager.in_pieces = True


class TakeText(Value, frozen=True):
    """The person has typed a turn; see `TurnManager.take_text`."""

    text: str

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """It interrupts, and is handed up like one that was said."""
        if conversation.line is not None:
            conversation.line.turn_manager.take_text(self.text, now)


class NoteTranscript(Value, frozen=True):
    """What the person has said in this turn so far; see `TurnManager.note_transcript`."""

    text: str
    completeness: float | None = None

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """It may move the end of the turn."""
        if conversation.line is not None:
            conversation.line.turn_manager.note_transcript(self.text, now, self.completeness)


class ReportPauses(Value, frozen=True):
    """Ask whether a pause is the end of the turn (`TurnPaused`), or no more; see `TurnManager.report_pauses`."""

    wanted: bool

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """From now on."""
        if conversation.line is not None:
            conversation.line.turn_manager.report_pauses(self.wanted, now)


class NoteEndOfTurn(Value, frozen=True):
    """The answer to `TurnPaused`: the seconds of silence after which the turn is over."""

    number: int
    wait: float

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """One that comes too late is counted."""
        line = conversation.line
        if line is not None and not line.turn_manager.note_end_of_turn(self.number, self.wait, now):
            conversation.counters.add(END_OF_TURN_ANSWERED_LATE)


class GetTurnSettings(Value, frozen=True):
    """Ask for the rules of turn-taking in force."""

    def apply(self, conversation: Conversation, now: Instant) -> TurnSettings:
        """Return them."""
        return conversation.turn_settings


class ConfigureTurns(Value, frozen=True):
    """Change the rules of turn-taking."""

    settings: TurnSettings

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """From now on."""
        if conversation.line is not None:
            conversation.line.turn_manager.configure(self.settings, now)
            conversation.client.announce_turns(self.settings)


class PushToTalk(Value, frozen=True):
    """The key went down or up (`manual` mode)."""

    pressed: bool

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Down interrupts, up commits."""
        if conversation.line is not None:
            conversation.line.turn_manager.push_to_talk(self.pressed, now)


class OpenUtterance(Value, frozen=True):
    """Collect what is heard from now on, until `CommitUtterance`: for clients that end turns by hand."""

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """It listens, too."""
        if conversation.line is not None:
            conversation.line.listening = True
            conversation.line.turn_manager.open_utterance()


class CommitUtterance(Value, frozen=True):
    """The person's turn is over, whatever the detectors think."""

    def apply(self, conversation: Conversation, now: Instant) -> bool:
        """Return False if there is nothing in it."""
        return conversation.line is not None and conversation.line.turn_manager.commit(now)


class ClearUtterance(Value, frozen=True):
    """Forget what the person has said in this turn."""

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """What was collected is gone."""
        if conversation.line is not None:
            conversation.line.turn_manager.clear(now)


# -- data --------------------------------------------------------------------------------------------------


class OpenChannel(Value, frozen=True):
    """Open a data channel; see `stack.sctp.DataChannels.open`.

    One that the descriptions agreed on under this label is taken instead, where nothing else is asked for.
    """

    label: str
    protocol: str = ""
    ordered: bool = True
    max_retransmits: int | None = None
    max_lifetime_ms: int | None = None
    negotiated_id: int | None = None

    def apply(self, conversation: Conversation, now: Instant) -> ChannelId:
        """Return its identifier; raises `LocalError` if none were negotiated."""
        channels = conversation.required_channels
        agreed = channels.find_agreed(self.label) if self == OpenChannel(self.label) else None
        if agreed is not None:
            return agreed
        channel = channels.open(
            self.label,
            now,
            protocol=self.protocol,
            ordered=self.ordered,
            max_retransmits=self.max_retransmits,
            max_lifetime_ms=self.max_lifetime_ms,
            negotiated_id=self.negotiated_id,
        )
        conversation.flush_channels(now)
        return channel


class SendMessage(Value, frozen=True):
    """Send on a channel; `BufferedAmountLow` tells when what waits has fallen to `low_threshold` bytes."""

    channel: ChannelId
    data: TextOrBytes
    low_threshold: int = 0

    def apply(self, conversation: Conversation, now: Instant) -> int:
        """Return how many bytes wait on it; raises as `DataChannels.send` does."""
        channels = conversation.required_channels
        channels.set_low_threshold(self.channel, self.low_threshold)
        channels.send(self.channel, self.data, now)
        conversation.flush_channels(now)
        return channels.buffered_amount(self.channel)


class CloseChannel(Value, frozen=True):
    """Close a channel when all that was sent on it has left."""

    channel: ChannelId

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """`ChannelClosed` follows when the peer agrees."""
        conversation.required_channels.close_channel(self.channel, now)
        conversation.flush_channels(now)


class NoteRead(Value, frozen=True):
    """The program has read so many bytes of messages: the receive window may open again."""

    size: int

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """See `DataChannels.set_unread`."""
        conversation.note_read(self.size, now)


class Tell(Value, frozen=True):
    """Send a JSON message on the client's `events` channel; dropped for a client that has none."""

    message: dict[str, Any]

    def __post_init__(self) -> None:
        """Raise `LocalError` for what JSON cannot hold, or would change."""
        if not isinstance(self.message, dict):
            raise LocalError(f"a message to the client is a dict, not {type(self.message).__name__}")
        check_json(self.message)

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """What is told before the channel is open waits for it."""
        conversation.client.tell(self.message)


class Announce(Value, frozen=True):
    """Tell the client, on its `events` channel, what the program says in words, or that it has failed."""

    news: ClientNews

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """What is said before the channel is open waits for it."""
        conversation.client.announce(self.news)


# -- the session -------------------------------------------------------------------------------------------


class RestartIce(Value, frozen=True):
    """Use new ICE credentials on both sides; all else goes on (RFC 8445 §9)."""

    local: IceCredentials
    remote: IceCredentials

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Raises `LocalError` if the call is over."""
        conversation.session.restart_ice(self.local, self.remote, now)


class GetParameters(Value, frozen=True):
    """Ask for what was agreed on with the peer."""

    def apply(self, conversation: Conversation, now: Instant) -> SessionParameters:
        """Return it. It holds our ICE password: treat it as a secret."""
        return conversation.session.parameters


class Renegotiate(Value, frozen=True):
    """Go on as a further offer and its answer have it."""

    parameters: SessionParameters

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Raises `LocalError` if the call is over."""
        conversation.session.renegotiate(self.parameters, now)


class AddRemoteCandidates(Value, frozen=True):
    """Take candidates that the peer trickled; those that are malformed are counted."""

    candidates: tuple[str, ...]

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """See `Session.add_remote_candidates`."""
        conversation.session.add_remote_candidates(self.candidates, now)


class GetStatistics(Value, frozen=True):
    """Ask for a snapshot of the call's statistics."""

    def apply(self, conversation: Conversation, now: Instant) -> CallStatistics:
        """Return it."""
        return conversation.stats(now)


ConversationCommand: TypeAlias = (
    Write
    | FlushSpeaker
    | BeginReply
    | WriteReply
    | EndReply
    | CancelReply
    | GetQueued
    | Interrupt
    | SendDigits
    | HangUp
    | Listen
    | ReportFrames
    | ReportPieces
    | TakeText
    | NoteTranscript
    | ReportPauses
    | NoteEndOfTurn
    | GetTurnSettings
    | ConfigureTurns
    | PushToTalk
    | OpenUtterance
    | CommitUtterance
    | ClearUtterance
    | OpenChannel
    | SendMessage
    | CloseChannel
    | NoteRead
    | Tell
    | Announce
    | RestartIce
    | GetParameters
    | Renegotiate
    | AddRemoteCandidates
    | GetStatistics
)
