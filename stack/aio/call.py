"""What a program holds: the async face of a `Conversation` that lives on the media thread.

Everything here belongs to the program's event loop. Commands go to the media thread through `MediaThread.submit`,
events come back in batches through `Call.deliver`; neither side ever waits for the other.
Long, because all that a program can do stands here; nearly every method is one command.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import numpy as np

from stack.aio.channel import Channels, DataChannel
from stack.aio.endpointing import Endpointing, News
from stack.aio.recording import Recording
from stack.aio.reply import Reply
from stack.aio.transcription import Transcriber, Transcription, Work
from stack.audio import AudioFrame, Pcm, to_int16
from stack.audio.wav import FilePath
from stack.core.errors import LocalError, StackError
from stack.core.machine import Instant
from stack.sctp import BufferedAmountLow, ChannelClosed, ChannelOpened, MessageReceived
from stack.session import Connected, Ended
from stack.voice import commands as cmd
from stack.voice.conversation import Conversation
from stack.voice.endpointing import Endpointer
from stack.voice.events import (
    AudioReceived,
    ClientEvent,
    ConversationEvent,
    ProgramEvent,
    ReplyFinished,
    ReplyHeard,
    ReplyInterrupted,
    SessionUpdated,
    SpeakerDrained,
    ToolRequested,
    TurnPaused,
    UserTranscript,
    Utterance,
    UtteranceDiscarded,
    UtterancePiece,
)
from stack.voice.statistics import CallStatistics
from stack.voice.turns import TurnSettings

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MICROPHONE_BACKLOG = 1500
"""Frames (30 s) that wait for a program which does not read; after that the oldest is dropped and counted."""
EVENT_BACKLOG = 10_000
"""Events that wait for a program which does not read them; after that the oldest is dropped and counted."""
UTTERANCE_BACKLOG = 100
"""Turns that wait for a program which does not read them; after that the oldest is dropped and counted."""
SPEAKER_LIMIT = 600.0
"""Seconds of sound that may wait to be spoken."""


class CallEnded(StackError):
    """The call is over: nothing can be said any more."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What is known of a call from the request that made it."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """The HTTP request's headers, names in lower case."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The JSON that came with the offer, if any."""
    remote: str = ""
    """The address that the request came from."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers to be called; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Inbox(Generic[ItemT]):
    """A bounded queue that one task at a time iterates over; closing it ends the iteration after what waits."""

    def __init__(self, limit: int) -> None:
        self._items: deque[ItemT] = deque()
        self._limit = limit
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: ItemT) -> None:
        """Append an item; the oldest goes when there are too many."""
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._wake()

    def close(self) -> None:
        """Let the iteration end."""
        self._closed = True
        self._wake()

    def clear(self) -> None:
        """Forget what waits."""
        self._items.clear()

    def __aiter__(self) -> AsyncIterator[ItemT]:
        return self

    async def __anext__(self) -> ItemT:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise LocalError("two tasks iterate over the same stream of a call")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Speaker:
    """What the person hears. Sound may be written faster than real time; it is paced behind here."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queued_until: float = 0.0
        self._writes = 0  # SpeakerDrained says how many of them it knew of
        self._drained = asyncio.Event()
        self._drained.set()

    def write(self, sound: AudioFrame | Pcm, sample_rate: int | None = None) -> None:
        """Queue sound to be spoken: an `AudioFrame`, or PCM with its `sample_rate` in Hz.

        PCM is int16 or float (−1 … 1) numpy of shape (n,) or (n, channels), or bytes of little-endian int16.
        Raises `LocalError` for anything else, and when more than `SPEAKER_LIMIT` seconds would wait.
        Does nothing once the call has ended.
        """
        if isinstance(sound, AudioFrame):
            samples, sample_rate = sound.samples, sound.sample_rate
        else:
            if sample_rate is None:
                raise LocalError("say at which sample_rate the sound is")
            stereo = isinstance(sound, np.ndarray) and sound.ndim == 2 and sound.shape[1] == 2
            samples = to_int16(sound, 2 if stereo else 1)
        if not len(samples) or self._call.ended:
            return
        now = self._call.clock()
        queued_until = max(self._queued_until, now) + len(samples) / sample_rate
        if queued_until - now > SPEAKER_LIMIT:
            raise LocalError(f"more than {SPEAKER_LIMIT:g} s of sound would wait to be spoken")
        self._queued_until = queued_until
        self.note_written()
        self._call.command(cmd.Write(samples, sample_rate))

    def flush(self) -> None:
        """Fall silent at once: what was written and not sent yet is forgotten."""
        self._queued_until = 0.0
        self._call.command(cmd.FlushSpeaker())

    async def drained(self) -> None:
        """Wait until the person has heard everything that was written, in replies too, or the call has ended.

        That is later than the last packet leaves: by the way to the client, and by what its jitter buffer holds
        back, which it tells (the page does) or which is estimated; at most `MAX_UNPLAYED` seconds later. So a
        farewell is heard whole by who waits for this before `hang_up`; a program that returns need not, since a
        call ends only then. What was interrupted or flushed is not waited for.
        """
        await self._drained.wait()

    def note_written(self) -> None:
        """Sound is on its way to the media thread."""
        if not self._call.ended:
            self._writes += 1
            self._drained.clear()

    def _note_drained(self, writes: int | None) -> None:
        if writes is None or writes == self._writes:
            self._drained.set()


Command = Callable[[Conversation, Instant], object]


class Call:
    """One person on the line.

    `microphone` iterates over what the person says as 20 ms `AudioFrame`s; `speaker.write` answers; `events`
    iterates over everything else that happens. All of them end with the call.
    """

    def __init__(
        self,
        call_id: str,
        context: CallContext,
        submit: Callable[[Command], None],
        clock: Callable[[], float],
    ) -> None:
        self.id = call_id
        self.context = context
        self.clock = clock
        self.microphone: Inbox[AudioFrame] = Inbox(MICROPHONE_BACKLOG)
        self.events: Inbox[ConversationEvent] = Inbox(EVENT_BACKLOG)
        self.speaker = Speaker(self)
        self.channels = Channels(self)
        self._utterances: Inbox[Utterance] = Inbox(UTTERANCE_BACKLOG)
        self.tools: tuple[Tool, ...] = ()
        """The functions that the client offers; see `call_tool`."""
        self.session: Mapping[str, Any] = context.session
        """What the client has set for this call, as it came with the offer and was updated since.

        In the dialect's words, e.g. `instructions` and `audio.output.voice` of OpenAI's; `SessionUpdated` in
        `events` says when it is another.
        """
        self.asks_for_turns = False
        """True once somebody iterates over `utterances`."""
        self._transcription: Transcription | None = None
        self._endpointing: Endpointing | None = None
        self._turns_managed = False
        self._tool_results: dict[str, asyncio.Future[str]] = {}
        self._watchers: list[Inbox[ConversationEvent]] = []
        self._replies: dict[int, Reply] = {}
        self._over_early: dict[int, ReplyFinished | ReplyInterrupted] = {}
        self._interrupted: Reply | None = None
        """Until the client has said what it had played of it."""
        self.connected: Connected | None = None
        self.end: Ended | None = None
        self.recording: Recording | None = None
        """The latest recording of this call."""
        self._submit = submit
        self._is_connected = asyncio.Event()
        self._has_ended = asyncio.Event()

    def __repr__(self) -> str:
        state = self.end.reason.value if self.end else "connected" if self.connected else "connecting"
        return f"<Call {self.id}: {state}>"

    @property
    def ended(self) -> bool:
        """True once the call is over."""
        return self.end is not None

    def command(self, command: Command) -> None:
        """Run `command(conversation, now)` on the media thread soon; nothing happens after the call's end."""
        if not self.ended:
            self._submit(command)

    async def execute(self, function: Callable[[Conversation, Instant], ResultT]) -> ResultT:
        """Run `function(conversation, now)` on the media thread and return (or raise) what it does.

        Raises `CallEnded` if the call is over.
        """
        if self.ended:
            raise CallEnded("the call is over")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[ResultT] = loop.create_future()

        def settle(result: ResultT | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(cast(ResultT, result))

        def run(conversation: Conversation, now: Instant) -> None:
            try:
                result = function(conversation, now)
            except Exception as error:
                loop.call_soon_threadsafe(settle, None, error)
            else:
                loop.call_soon_threadsafe(settle, result, None)

        self._submit(run)
        return await done

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
        """Open a data channel and return it; see `stack.sctp.Channels.open` for the errors."""
        return await self.channels.open(
            label,
            protocol=protocol,
            ordered=ordered,
            max_retransmits=max_retransmits,
            max_lifetime_ms=max_lifetime_ms,
            negotiated_id=negotiated_id,
        )

    def watch(self) -> Inbox[ConversationEvent]:
        """Return another stream of what `events` says, for somebody besides the program."""
        inbox: Inbox[ConversationEvent] = Inbox(EVENT_BACKLOG)
        if self.ended:
            inbox.close()
        else:
            self._watchers.append(inbox)
        return inbox

    def unwatch(self, inbox: Inbox[ConversationEvent]) -> None:
        """Nobody reads that stream any more."""
        if inbox in self._watchers:
            self._watchers.remove(inbox)
        inbox.close()

    def listen(self) -> None:
        """Have speech and turns reported in `events`; `utterances` and `reply` ask for it by themselves."""
        self.command(cmd.Listen())

    def utterances(self, transcriber: Transcriber | None = None) -> AsyncIterator[Utterance]:
        """Iterate over the person's turns, each whole, until the end of the call. One task at a time.

        A transcriber hears every turn while it is being said, off the loop: `utterance.text` is there when the
        turn is over, and in `semantic` mode its words help to tell whether it is. What it raises is raised here.
        """
        self.listen()
        self.asks_for_turns = True
        if transcriber is None:
            return aiter(self._utterances)
        self._transcription = Transcription(transcriber, self.note_transcript)
        self.command(cmd.ReportPieces())
        return self._transcription.utterances(self._utterances)

    def note_transcript(self, text: str, completeness: float | None = None) -> None:
        """What the person has said in this turn so far, if you know better than anybody here.

        `completeness` is 0 for words that are cut in the middle and 1 if nothing can follow; None: judge by the
        words. In `semantic` mode it moves the end of the turn.
        """
        self.command(cmd.NoteTranscript(text, completeness))

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
        self.command(cmd.ReportPauses(endpointer is not None))

    def _note_end_of_turn(self, number: int, wait: float) -> None:
        self.command(cmd.NoteEndOfTurn(number, wait))

    def reply(self) -> Reply:
        """Return a reply to be spoken: `async with call.reply() as voice: await voice.write(pcm, rate)`."""
        return Reply(self)

    def interrupt(self) -> None:
        """Fall silent at once: drop the reply that is being spoken, if any."""
        self.command(cmd.Interrupt())

    def configure_turns(self, settings: TurnSettings) -> None:
        """Change the rules of turn-taking from now on."""
        self.command(cmd.ConfigureTurns(settings))

    async def turn_settings(self) -> TurnSettings:
        """Return the rules of turn-taking in force."""
        return await self.execute(cmd.GetTurnSettings())

    def push_to_talk(self, pressed: bool) -> None:
        """The key went down or up (`manual` mode)."""
        self.command(cmd.PushToTalk(pressed))

    def commit_utterance(self) -> None:
        """The person's turn is over, whatever the detectors think."""
        self.command(cmd.CommitUtterance())

    def tell(self, message: dict[str, Any]) -> None:
        """Send a JSON message to the client on its `events` channel; it is dropped if the client has none.

        The page shows `{"type": "transcript", "role": "user" | "agent", "text": …, "reply": …, "start_ms": …}`.
        """
        self.command(cmd.Tell(message))

    def transcribed(self, text: str, *, final: bool = True) -> None:
        """Tell the client what the person said in the latest turn: pieces, then the whole as `final`."""
        self.publish(UserTranscript(text, final))

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Have a function of the client called and return its output.

        Raises `LocalError` for one that is not in `tools`, `CallEnded` if the call ends first.
        """
        if self.ended:
            raise CallEnded("the call is over")
        if name not in {tool.name for tool in self.tools}:
            raise LocalError(f"the client offers no function {name!r}")
        request = f"call_{secrets.token_hex(8)}"
        result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tool_results[request] = result
        try:
            self.publish(ToolRequested(request, name, json.dumps(arguments or {})))
            return await result
        finally:
            del self._tool_results[request]

    # -- for the dialects ------------------------------------------------------------------------------------

    def publish(self, event: ProgramEvent) -> None:
        """Tell those who watch."""
        for watcher in self._watchers:
            watcher.put(event)

    def inform(self, event: ClientEvent) -> None:
        """Tell the program what its client has set or put into the conversation."""
        if isinstance(event, SessionUpdated):
            self.session = event.session
        if not self.ended:
            self.events.put(event)
            for watcher in self._watchers:
                watcher.put(event)

    def manage_turns(self) -> None:
        """From now on a turn reaches the program by `hand_over` only."""
        self._turns_managed = True

    def hand_over(self, utterance: Utterance) -> None:
        """Let the program have this turn."""
        self._utterances.put(utterance)

    def finish_tool(self, request: str, output: str) -> None:
        """The client has called the function; harmless for a request that nobody waits for."""
        result = self._tool_results.get(request)
        if result is not None and not result.done():
            result.set_result(output)

    def register_reply(self, reply: Reply) -> None:
        """A reply has begun: it is told when it is over."""
        self._replies[reply.number] = reply
        early = self._over_early.pop(reply.number, None)
        if early is not None or self.ended:
            self._settle_reply(reply.number, early)

    def forget_reply(self, reply: Reply) -> None:
        """Nobody waits for a reply any more."""
        self._replies.pop(reply.number, None)

    def _settle_reply(self, number: int, event: ReplyFinished | ReplyInterrupted | None) -> None:
        reply = self._replies.pop(number, None)
        if reply is not None:
            reply.note_over(event)
            if isinstance(event, ReplyInterrupted) and event.provisional:
                self._interrupted = reply
        elif event is not None:
            self._over_early = {number: event}  # it ended before its program knew its number

    def _note_heard(self, number: int, event: ReplyHeard | None) -> None:
        if self._interrupted is not None and self._interrupted.number == number:
            self._interrupted.note_heard(event)
            self._interrupted = None

    async def send_digits(self, digits: str) -> None:
        """Press keys (0–9 * # A–D), as on a telephone; what is being said gives way to them.

        Raises `LocalError` for other characters and if the peer takes no telephone events.
        """
        await self.execute(cmd.SendDigits(digits))

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

        def attach(conversation: Conversation, now: Instant) -> Recording:
            recording = Recording(path, call_id=self.id, start=now, sample_rate=sample_rate)
            conversation.tap = recording
            return recording

        self.recording = recording = await self.execute(attach)
        try:
            await recording.wait_opened()
        except LocalError:
            self.command(lambda conversation, now: _detach(conversation, recording, now))
            raise
        return recording

    async def stop_recording(self) -> Recording | None:
        """End the recording that runs, wait until it is written, and return it; None if there was none."""
        recording = self.recording
        if recording is not None:
            self.command(lambda conversation, now: _detach(conversation, recording, now))
            await recording.wait_finished()
        return recording

    def hang_up(self) -> None:
        """End the call at once: BYE and close_notify to the peer. `speaker.drained` waits for what is said."""
        self.command(cmd.HangUp())

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
        return await self.execute(cmd.GetStatistics())

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
            self.speaker._note_drained(event.writes)
            return
        elif isinstance(event, Utterance):
            if not self._turns_managed:
                self._utterances.put(event)
        elif isinstance(event, ReplyFinished | ReplyInterrupted):
            self._settle_reply(event.reply, event)
        elif isinstance(event, ReplyHeard):
            self._note_heard(event.reply, event)
        self.events.put(event)
        for watcher in self._watchers:
            watcher.put(event)
        if isinstance(event, Ended):
            self.end = event
            self.speaker._note_drained(None)
            self.channels.note_ended()
            for result in self._tool_results.values():
                if not result.done():
                    result.set_exception(CallEnded("the call ended before the function had"))
            self._utterances.close()
            if self._transcription is not None:
                self._transcription.close()
            if self._endpointing is not None:
                self._endpointing.close()
            for number in list(self._replies):
                self._settle_reply(number, None)
            if self._interrupted is not None:
                self._note_heard(self._interrupted.number, None)
            self.microphone.close()
            self.events.close()
            for watcher in self._watchers:
                watcher.close()
            self._is_connected.set()
            self._has_ended.set()


def _detach(conversation: Conversation, recording: Recording, now: Instant) -> None:
    recording.close(now)
    if conversation.tap is recording:
        conversation.tap = None
