"""What a program holds: the async face of a `Conversation` that lives on the media side.

Everything here belongs to the program's event loop. Commands go to the media side as values, through the call's
`control` (`control.py`); events come back in batches through `Call.deliver`; neither side ever waits for the
other.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from stack.aio.channel import Channels, DataChannel
from stack.aio.context import CallContext, Tool
from stack.aio.control import EVENT_BACKLOG, CallControl, CallEnded, CallLink
from stack.aio.endpointing import Endpointing, News
from stack.aio.inbox import Inbox
from stack.aio.recording import Recording, StartRecording, StopRecording
from stack.aio.reply import Reply
from stack.aio.speaker import Speaker
from stack.aio.transcription import Transcriber, Transcription, Work
from stack.audio import AudioFrame
from stack.audio.wav import FilePath
from stack.core.errors import LocalError, StackError
from stack.sctp import BufferedAmountLow, ChannelClosed, ChannelOpened, MessageReceived
from stack.session import Connected, Ended
from stack.voice import commands as cmd
from stack.voice.endpointing import Endpointer
from stack.voice.events import (
    AudioReceived,
    ClientEvent,
    ConversationEvent,
    ReplyFinished,
    ReplyHeard,
    ReplyInterrupted,
    SessionUpdated,
    SpeakerDrained,
    TurnPaused,
    UserTranscript,
    Utterance,
    UtteranceDiscarded,
    UtterancePiece,
)
from stack.voice.statistics import CallStatistics
from stack.voice.turns import TurnSettings

MICROPHONE_BACKLOG = 1500
"""Frames (30 s) that wait for a program which does not read; after that the oldest is dropped and counted."""


class Call:
    """One person on the line.

    `microphone` iterates over what the person says as 20 ms `AudioFrame`s; `speaker.write` answers; `events`
    iterates over everything else that happens. All of them end with the call.
    """

    def __init__(
        self,
        call_id: str,
        context: CallContext,
        link: CallLink,
        clock: Callable[[], float],
    ) -> None:
        self.id = call_id
        self.context = context
        self.control = CallControl(link, clock)
        """For hosts, dialects and bridges; a program does without it."""
        self.microphone: Inbox[AudioFrame] = Inbox(MICROPHONE_BACKLOG)
        self.events: Inbox[ConversationEvent] = Inbox(EVENT_BACKLOG)
        self.speaker = Speaker(self.control)
        self.channels = Channels(self.control)
        self.session: Mapping[str, Any] = context.session
        """What the client has set for this call, as it came with the offer and was updated since.

        In the dialect's words, e.g. `instructions` and `audio.output.voice` of OpenAI's; `SessionUpdated` in
        `events` says when it is another.
        """
        self._transcription: Transcription | None = None
        self._endpointing: Endpointing | None = None
        self.connected: Connected | None = None
        self.recording: Recording | None = None
        """The latest recording of this call."""
        self._recordings = 0
        self._is_connected = asyncio.Event()
        self._has_ended = asyncio.Event()

    def __repr__(self) -> str:
        state = self.end.reason.value if self.end else "connected" if self.connected else "connecting"
        return f"<Call {self.id}: {state}>"

    @property
    def end(self) -> Ended | None:
        """How the call ended; None as long as it lasts."""
        return self.control.end

    @property
    def ended(self) -> bool:
        """True once the call is over."""
        return self.control.end is not None

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The functions that the client offers; see `call_tool`."""
        return self.control.tools

    async def open_channel(
        self,
        label: str,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_lifetime_ms: int | None = None,
        negotiated_id: int | None = None,
    ) -> DataChannel:
        """Open a data channel and return it; see `stack.sctp.DataChannels.open` for the errors."""
        return await self.channels.open(
            label,
            protocol=protocol,
            ordered=ordered,
            max_retransmits=max_retransmits,
            max_lifetime_ms=max_lifetime_ms,
            negotiated_id=negotiated_id,
        )

    def watch(self) -> Inbox[ConversationEvent]:
        """Return another stream of what `events` says, for a part of the program that goes its own way."""
        return self.control.watch()

    def unwatch(self, inbox: Inbox[ConversationEvent]) -> None:
        """End a stream that `watch` gave."""
        self.control.unwatch(inbox)

    def listen(self) -> None:
        """Have speech and turns reported in `events`; `utterances` and `reply` ask for it by themselves."""
        self.control.command(cmd.Listen())

    def utterances(self, transcriber: Transcriber | None = None) -> AsyncIterator[Utterance]:
        """Iterate over the person's turns, each whole, until the end of the call. One task at a time.

        A transcriber hears every turn while it is being said, off the loop: `utterance.text` is there when the
        turn is over, and in `semantic` mode its words help to tell whether it is. What it raises is raised here.
        """
        self.listen()
        self.control.asks_for_turns = True
        if transcriber is None:
            return aiter(self.control.utterances)
        self._transcription = Transcription(transcriber, self.note_transcript)
        self.control.command(cmd.ReportPieces())
        return self._transcription.utterances(self.control.utterances)

    def note_transcript(self, text: str, completeness: float | None = None) -> None:
        """What the person has said in this turn so far, if the program knows better than the call.

        `completeness` is 0 for words that are cut in the middle and 1 if nothing can follow; None: judge by the
        words. In `semantic` mode it moves the end of the turn.
        """
        self.control.command(cmd.NoteTranscript(text, completeness))

    def use_endpointer(self, endpointer: Endpointer | None) -> None:
        """Let `endpointer` judge from now on when a turn is over (`semantic` mode only); None: the rules again.

        It is called at each pause in a worker thread, so it may take its time: until its answer is there, a turn
        is waited for as if it were not finished. If it raises, the log says so and the rules decide.
        """
        if self._endpointing is not None:
            self._endpointing.close()
            self._endpointing = None
        if endpointer is not None:
            self._endpointing = Endpointing(
                endpointer, self._note_end_of_turn, lambda: self.use_endpointer(None), self.id
            )
        self.control.command(cmd.ReportPauses(endpointer is not None))

    def _note_end_of_turn(self, number: int, wait: float) -> None:
        self.control.command(cmd.NoteEndOfTurn(number, wait))

    def reply(self) -> Reply:
        """Return a reply to be spoken: `async with call.reply() as voice: await voice.write(pcm, rate)`."""
        return Reply(self.control, self.speaker)

    def interrupt(self) -> None:
        """Fall silent at once: drop the reply that is being spoken, if any."""
        self.control.command(cmd.Interrupt())

    def configure_turns(self, settings: TurnSettings) -> None:
        """Change the rules of turn-taking from now on."""
        self.control.command(cmd.ConfigureTurns(settings))

    async def turn_settings(self) -> TurnSettings:
        """Return the rules of turn-taking in force."""
        return await self.control.execute(cmd.GetTurnSettings())

    def push_to_talk(self, pressed: bool) -> None:
        """The key went down or up (`manual` mode)."""
        self.control.command(cmd.PushToTalk(pressed))

    def commit_utterance(self) -> None:
        """The person's turn is over, whatever the detectors think."""
        self.control.command(cmd.CommitUtterance())

    def tell(self, message: dict[str, Any]) -> None:
        """Send a JSON message to the client on its `events` channel; it is dropped if the client has none.

        The page shows `{"type": "transcript", "role": "user" | "agent", "text": …, "reply": …, "start_ms": …}`.
        """
        self.control.command(cmd.Tell(message))

    def transcribed(self, text: str, *, final: bool = True) -> None:
        """Tell the client what the person said in the latest turn: pieces, then the whole as `final`."""
        self.control.publish(UserTranscript(text, final))

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Have a function of the client called and return its output.

        Raises `LocalError` for one that is not in `tools`, `CallEnded` if the call ends first.
        """
        if self.ended:
            raise CallEnded("the call is over")
        if name not in {tool.name for tool in self.tools}:
            raise LocalError(f"the client offers no function {name!r}")
        return await self.control.call_tool(name, json.dumps(arguments or {}))

    def inform(self, event: ClientEvent) -> None:
        """Take what the client has set or put into the conversation: it stands in `events`."""
        if isinstance(event, SessionUpdated):
            self.session = event.session
        if not self.ended:
            self.events.put(event)
            self.control.publish(event)

    async def send_digits(self, digits: str) -> None:
        """Press keys (0–9 * # A–D), as on a telephone; what is being said gives way to them.

        Raises `LocalError` for other characters and if the peer takes no telephone events.
        """
        await self.control.execute(cmd.SendDigits(digits))

    async def start_recording(self, path: FilePath, *, sample_rate: int = 16_000) -> Recording:
        """Record from now on, at 16 or 24 kHz, until `stop_recording` or the end of the call.

        `path` is the WAV file, left the person and right the program; what happens stands beside it in a file
        that ends in `.jsonl`. Raises `LocalError` if it cannot be written, or while another recording runs, and
        `CallEnded`.
        """
        if self.ended:
            raise CallEnded("the call is over")
        if self.recording is not None and self.recording.is_running:
            raise LocalError(f"the call is being recorded to {self.recording.path} already")
        former, recording = self.recording, self.expect_recording(path)
        # the whole path: the process that writes may have another working directory
        whole = os.path.abspath(os.fsdecode(path))
        try:
            await self.control.execute(StartRecording(recording.name, whole, self.id, sample_rate))
        except StackError:
            self.recording = former
            self.control.watch_recording(recording.name, None)
            raise
        try:
            await recording.wait_opened()
        except LocalError:
            self.control.command(StopRecording(recording.name))
            raise
        return recording

    def expect_recording(self, path: FilePath) -> Recording:
        """Return the recording that the media side is about to begin; it is the call's latest."""
        self._recordings += 1
        self.recording = recording = Recording(path, call_id=self.id, name=f"{self.id}/{self._recordings}")
        self.control.watch_recording(recording.name, recording.note)
        return recording

    async def stop_recording(self) -> Recording | None:
        """End the recording that runs, wait until it is written, and return it; None if there was none."""
        recording = self.recording
        if recording is not None:
            recording.note_closed()
            self.control.command(StopRecording(recording.name))
            await recording.wait_finished()
        return recording

    def hang_up(self) -> None:
        """End the call at once: BYE and close_notify to the peer. `speaker.drained` waits for what is said."""
        self.control.command(cmd.HangUp())

    async def wait_connected(self) -> Connected:
        """Wait for the connection and return what was agreed on; raises `CallEnded` if there will be none."""
        await self._is_connected.wait()
        if self.connected is None:
            assert self.end is not None
            raise CallEnded(
                f"{self.end.reason.value}: {self.end.detail}" if self.end.detail else self.end.reason.value
            )
        return self.connected

    async def wait_ended(self) -> Ended:
        """Wait for the end of the call and return why it ended."""
        await self._has_ended.wait()
        assert self.end is not None
        return self.end

    async def stats(self) -> CallStatistics:
        """Return a snapshot of the call's statistics; `as_webrtc` gives it as browsers do."""
        return await self.control.execute(cmd.GetStatistics())

    def deliver(self, event: ConversationEvent) -> None:
        """Take an event from the media thread; runs on the program's loop."""
        if isinstance(event, AudioReceived):
            self.microphone.put(event.frame)
            return
        if self._transcription is not None and isinstance(event, Work):
            self._transcription.take(event)
        if self._endpointing is not None and isinstance(event, News):
            self._endpointing.take(event)
        if isinstance(event, UtterancePiece | UtteranceDiscarded | TurnPaused):
            return
        if isinstance(event, Connected):
            self.connected = event
            self._is_connected.set()
        elif isinstance(event, MessageReceived):
            channel = self.channels.find(event.channel)
            if channel is not None:
                channel.deliver(event.data)
            return
        elif isinstance(event, BufferedAmountLow):
            channel = self.channels.find(event.channel)
            if channel is not None:
                channel.note_low()
            return
        elif isinstance(event, ChannelOpened):
            self.channels.note_opened(event)
        elif isinstance(event, ChannelClosed):
            self.channels.note_closed(event.channel)
        elif isinstance(event, SpeakerDrained):
            self.speaker.note_drained(event.writes)
            return
        elif isinstance(event, Utterance):
            if not self.control.turns_managed:
                self.control.hand_over(event)
        elif isinstance(event, ReplyFinished | ReplyInterrupted | ReplyHeard):
            self.control.note_reply(event)
        self.events.put(event)
        self.control.publish(event)
        if isinstance(event, Ended):
            self._finish(event)

    def _finish(self, end: Ended) -> None:
        self.speaker.note_drained(None)
        self.channels.note_ended()
        if self._transcription is not None:
            self._transcription.close()
        if self._endpointing is not None:
            self._endpointing.close()
        if self.recording is not None:
            self.recording.note_closed()
        self.microphone.close()
        self.events.close()
        self.control.finish(end)
        self._is_connected.set()
        self._has_ended.set()
