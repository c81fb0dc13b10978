"""What a program holds: the async face of a `Conversation` that lives on the media side.

Everything here belongs to the program's event loop. Commands go to the media side as values, and events come back
in batches; neither side ever waits for the other. A `Call` shows what is for programs; what a host, a dialect or a
bridge does with a call goes through its `CallControl` (`control.py`), which `control_of` gives.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from stack.aio.channel import Channels, DataChannel
from stack.aio.context import CallContext, Tool
from stack.aio.control import CallControl, CallEnded, CallLink
from stack.aio.endpointing import Endpointing, News
from stack.aio.inbox import Inbox
from stack.aio.recording import Recording, StartRecording, StopRecording
from stack.aio.reply import Reply
from stack.aio.speaker import Speaker
from stack.aio.transcription import Transcriber, Transcription, Work
from stack.audio import AudioFrame
from stack.audio.wav import FilePath
from stack.core.counters import declare
from stack.core.errors import LocalError, StackError
from stack.core.values import as_unicode
from stack.sctp import BufferedAmountLow, ChannelClosed, ChannelOpened, MessageReceived
from stack.session import Authenticated, Connected, Ended
from stack.voice import commands as cmd
from stack.voice.endpointing import Endpointer
from stack.voice.events import (
    AudioReceived,
    ConversationEvent,
    ReplyFinished,
    ReplyHeard,
    ReplyInterrupted,
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
"""Frames (30 s) that wait for a program which does not read. After that the oldest is dropped and counted; all are
if the program has never looked at the microphone, and then none is made until it does."""

DROPPED_SOUND_UNREAD = declare(
    "host", "dropped_sound_unread", "Frames of sound that a program had not read when too many waited"
)


class Call:
    """One person on the line.

    `microphone` iterates over what the person says as 20 ms `AudioFrame`s, `utterances` turn by turn;
    `speaker.write` answers; `events` iterates over everything else that happens. All of them end with the call.
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
        self._control = CallControl(link, clock, context.session, self._deliver, self._expect_recording)
        self._microphone: Inbox[AudioFrame] = Inbox(
            MICROPHONE_BACKLOG, self._control.counters, DROPPED_SOUND_UNREAD
        )
        self._wants_frames: bool | None = None  # None: the program has not said yet, so they are kept for it
        self.events: Inbox[ConversationEvent] = self._control.events
        self.speaker = Speaker(self._control)
        self.channels = Channels(self._control)
        self._transcription: Transcription | None = None
        self._endpointing: Endpointing | None = None
        self.connected: Connected | None = None
        self.recording: Recording | None = None
        """The latest recording of this call."""
        self._recordings = 0
        self._is_connected = asyncio.Event()
        self._is_authenticated = asyncio.Event()
        self._has_ended = asyncio.Event()

    def __repr__(self) -> str:
        state = self.end.reason.value if self.end else "connected" if self.connected else "connecting"
        return f"<Call {self.id}: {state}>"

    @property
    def microphone(self) -> Inbox[AudioFrame]:
        """What the person says as 20 ms `AudioFrame`s, from the beginning of the call.

        A program that began with `utterances`, or has not looked here for 30 s, gets frames from its first look
        on: until then they would wait by the megabyte to be read by no task.
        """
        if self._wants_frames is False:
            self._control.command(cmd.ReportFrames(True))
        self._wants_frames = True
        return self._microphone

    @property
    def end(self) -> Ended | None:
        """How the call ended; None as long as it lasts."""
        return self._control.end

    @property
    def ended(self) -> bool:
        """True once the call is over."""
        return self._control.end is not None

    @property
    def session(self) -> Mapping[str, Any]:
        """What the client has set for this call, as it came with the offer and was updated since.

        In the dialect's words, e.g. `instructions` and `audio.output.voice` of OpenAI's; `SessionUpdated` in
        `events` says when it is another.
        """
        return self._control.session

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The functions that the client offers; see `call_tool`."""
        return self._control.tools

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
        """Open a data channel and return it; see `stack.sctp.DataChannels.open` for the errors.

        One that offer and answer agreed on under this label (RFC 8864) is returned instead of a second one.
        """
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
        return self._control.watch()

    def unwatch(self, inbox: Inbox[ConversationEvent]) -> None:
        """End a stream that `watch` gave."""
        self._control.unwatch(inbox)

    def listen(self) -> None:
        """Have speech and turns reported in `events`; `utterances` and `reply` ask for it by themselves."""
        self._control.command(cmd.Listen())

    def utterances(self, transcriber: Transcriber | None = None) -> AsyncIterator[Utterance]:
        """Iterate over the person's turns, each whole, until the end of the call. One task at a time.

        A transcriber hears every turn while it is being said, off the loop: `utterance.text` is there when the
        turn is over, and in `semantic` mode its words help to tell whether it is. What it raises is raised here.
        """
        self._control.command(cmd.Listen(whole_turns=True))
        self._control.asks_for_turns = True
        if self._wants_frames is None:
            self._leave_frames()
        if transcriber is None:
            return aiter(self._control.utterances)
        self._transcription = Transcription(transcriber, self._note_transcript)
        self._control.command(cmd.ReportPieces())
        return self._transcription.utterances(self._control.utterances)

    def _note_transcript(self, text: str, completeness: float | None) -> None:
        self._control.command(cmd.NoteTranscript(text, completeness))

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
        self._control.command(cmd.ReportPauses(endpointer is not None))

    def _note_end_of_turn(self, number: int, wait: float) -> None:
        self._control.command(cmd.NoteEndOfTurn(number, wait))

    def reply(self) -> Reply:
        """Return a reply to be spoken: `async with call.reply() as voice: await voice.write(pcm, rate)`."""
        return Reply(self._control, self.speaker)

    def interrupt(self) -> None:
        """Fall silent at once: drop the reply that is being spoken, if any."""
        self._control.command(cmd.Interrupt())

    def configure_turns(self, settings: TurnSettings) -> None:
        """Change the rules of turn-taking from now on; raises `LocalError` for anything but `TurnSettings`."""
        if not isinstance(settings, TurnSettings):
            raise LocalError(f"the rules of turn-taking are TurnSettings, not {type(settings).__name__}")
        self._control.command(cmd.ConfigureTurns(settings))

    async def turn_settings(self) -> TurnSettings:
        """Return the rules of turn-taking in force."""
        return await self._control.execute(cmd.GetTurnSettings())

    def push_to_talk(self, pressed: bool) -> None:
        """The key went down or up (`manual` mode)."""
        self._control.command(cmd.PushToTalk(pressed))

    def commit_utterance(self) -> None:
        """The person's turn is over, whatever the detectors think."""
        self._control.command(cmd.CommitUtterance())

    def tell(self, message: dict[str, Any]) -> None:
        """Send a JSON message of your own to the client, in the way of its dialect (docs/guides/clients.md).

        What was said has its own way, which every client understands: `transcribed` and `Reply.write_text`.
        Dropped for a client that has no channel. Raises `LocalError` for what is no dict, or JSON cannot hold.
        """
        self._control.send_message(message)

    def transcribed(self, text: str, *, final: bool = True) -> None:
        """Tell the client, of whichever dialect, what the person said in the latest turn: so far, then the whole.

        The latest turn is the one that the program took last from `utterances`. One that was typed
        (`Utterance.is_typed`) needs none of it: its client knows. Raises `LocalError` for what is no `str`; half
        of a surrogate pair becomes U+FFFD.
        """
        turn = self._control.utterances.latest
        began, typed = (turn.media_time, turn.is_typed) if turn is not None else (None, False)
        self._control.tell_clients(UserTranscript(as_unicode(text), final, began, typed))

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Have a function of the client called and return its output.

        Raises `LocalError` for one that is not in `tools`, `CallEnded` if the call ends first.
        """
        if self.ended:
            raise CallEnded("the call is over")
        if name not in {tool.name for tool in self.tools}:
            raise LocalError(f"the client offers no function {name!r}")
        return await self._control.call_tool(name, json.dumps(arguments or {}))

    async def send_digits(self, digits: str) -> None:
        """Press keys (0–9 * # A–D), as on a telephone; what is being said gives way to them.

        Raises `LocalError` for other characters and if the peer takes no telephone events, or no sound.
        """
        await self._control.execute(cmd.SendDigits(digits))

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
        former, recording = self.recording, self._expect_recording(path)
        # the whole path: the process that writes may have another working directory
        whole = os.path.abspath(os.fsdecode(path))
        try:
            await self._control.execute(StartRecording(recording.name, whole, self.id, sample_rate))
        except StackError:
            self.recording = former
            self._control.watch_recording(recording.name, None)
            raise
        try:
            await recording.wait_opened()
        except LocalError:
            self._control.command(StopRecording(recording.name))
            raise
        return recording

    def _expect_recording(self, path: FilePath) -> Recording:
        """Return the recording that the media side is about to begin; it is the call's latest."""
        self._recordings += 1
        self.recording = recording = Recording(path, call_id=self.id, name=f"{self.id}/{self._recordings}")
        self._control.watch_recording(recording.name, recording.note)
        return recording

    async def stop_recording(self) -> Recording | None:
        """End the recording that runs, wait until it is written, and return it; None if there was none."""
        recording = self.recording
        if recording is not None:
            recording.note_closed()
            self._control.command(StopRecording(recording.name))
            await recording.wait_finished()
        return recording

    def hang_up(self) -> None:
        """End the call at once: BYE and close_notify to the peer.

        `speaker.drained` waits for what is said. Messages that are not acknowledged yet may be lost, as with
        `RTCPeerConnection.close()`: no RFC has DTLS wait for SCTP, so a last word wants an answer.
        """
        self._control.command(cmd.HangUp())

    async def wait_connected(self) -> Connected:
        """Wait for the connection and return what was agreed on; raises `CallEnded` if there will be none."""
        await self._is_connected.wait()
        if self.connected is None:
            await asyncio.sleep(0)  # who asks again must not keep the loop to itself
            assert self.end is not None
            raise CallEnded(
                f"{self.end.reason.value}: {self.end.detail}" if self.end.detail else self.end.reason.value
            )
        return self.connected

    async def wait_authenticated(self) -> None:
        """Wait until the peer has proved who it is: up to a round trip after the connection.

        A program whose first words are for this person alone waits for it; nothing is heard before anyway. Raises
        `CallEnded` if the call ends first.
        """
        await self._is_authenticated.wait()
        if self.end is not None:
            await asyncio.sleep(0)
            raise CallEnded(self.end.reason.value)

    async def wait_ended(self) -> Ended:
        """Wait for the end of the call and return why it ended."""
        if self.end is not None:
            await asyncio.sleep(0)  # who asks again must not keep the loop to itself
        await self._has_ended.wait()
        assert self.end is not None
        return self.end

    async def stats(self) -> CallStatistics:
        """Return a snapshot of the call's statistics; `as_webrtc` gives it as browsers do."""
        known = await self._control.execute(cmd.GetStatistics())
        counters = {**known.counters, **self._control.counters.snapshot()}
        return replace(known, counters=counters, backbone_round_trip_time=self._control.backbone_round_trip())

    def _deliver(self, event: ConversationEvent) -> None:
        """Take an event of the conversation; runs on the program's loop."""
        if isinstance(event, AudioReceived):
            if self._wants_frames is not False:
                self._take_frame(event.frame)
            return
        typed = isinstance(event, Utterance) and event.is_typed
        if self._transcription is not None and isinstance(event, Work) and not typed:
            self._transcription.take(event)
        if self._endpointing is not None and isinstance(event, News):
            self._endpointing.take(event)
        if isinstance(event, UtterancePiece | UtteranceDiscarded | TurnPaused):
            return
        if isinstance(event, Connected):
            self.connected = event
            self._is_connected.set()
            if event.authenticated:
                self._is_authenticated.set()
        elif isinstance(event, Authenticated):
            self._is_authenticated.set()
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
            if not self._control.turns_managed:
                self._control.utterances.put(event)
        elif isinstance(event, ReplyFinished | ReplyInterrupted | ReplyHeard):
            self._control.note_reply(event)
        self.events.put(event)
        self._control.publish(event)
        if isinstance(event, Ended):
            self._finish(event)

    def _take_frame(self, frame: AudioFrame) -> None:
        if self._wants_frames is None and len(self._microphone) >= MICROPHONE_BACKLOG:
            self._control.counters.add(DROPPED_SOUND_UNREAD, len(self._microphone))
            self._leave_frames()
        else:
            self._microphone.put(frame)

    def _leave_frames(self) -> None:
        """The program seems to do without frames: none is made until it looks at the microphone."""
        self._wants_frames = False
        self._microphone.clear()
        self._control.command(cmd.ReportFrames(False))

    def _finish(self, end: Ended) -> None:
        self.speaker.note_drained(None)
        self.channels.note_ended()
        if self._transcription is not None:
            self._transcription.close()
        if self._endpointing is not None:
            self._endpointing.close()
        if self.recording is not None:
            self.recording.note_closed()
        self._microphone.close()
        self.events.close()
        self._control.finish(end)
        self._is_connected.set()
        self._is_authenticated.set()
        self._has_ended.set()


def control_of(call: Call) -> CallControl:
    """Return what hosts, dialects and bridges need of a call; a program does without it."""
    return call._control
