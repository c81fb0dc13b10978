"""The program's side: a process that takes calls from the backbone and runs its program for each.

Each call is the `Call` that a local program holds: `AttachedLink` carries its `MediaRequest`s, as a thread and
a worker process do elsewhere. The queue group chooses which process is asked; one that is full, or shutting
down, leaves the group. A call whose node says nothing of it any more is over; one whose backbone is gone goes
on. A node that comes back and still names a call which is over here is told, and gives it to another process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import structs

from stack.aio.control import CallEnded, NotSent
from stack.aio.dialect_events import DialectEvent, TurnHandedOver
from stack.aio.hosted import CallTable, HostedCall
from stack.aio.media import CarryOut, CloseCall, MediaRequest
from stack.aio.program_runner import ProgramRunner
from stack.aio.programs import as_program
from stack.aio.recording import StartRecording, StopRecording
from stack.aio.threads import in_thread
from stack.cluster.alive import AliveThread
from stack.cluster.backbone import Backbone, BackboneConfig
from stack.cluster.messages import (
    MAX_MANAGED,
    NODE_SAYS,
    PROGRAM_SAYS,
    PROGRAMS,
    PROGRESS,
    TAKE,
    TAKE_HERE,
    TAKEN,
    AttachmentProgress,
    CallCommand,
    CallEvent,
    CallReturned,
    CommandResult,
    ProgramSays,
    Progress,
    TakeCall,
    Taken,
    agent_subject,
    check_name,
    check_node_name,
    node_subject,
    room_subject,
    take_subject,
)
from stack.cluster.ordered import DROPPED_MALFORMED, BacklogFull, OrderedStream
from stack.cluster.recording_fetch import FetchedRecording
from stack.cluster.remote_program import DROPPED_STRANGE, PROGRESS_EVERY, SETTLE
from stack.cluster.replies import RepliesAhead
from stack.cluster.round_trip import RoundTrip
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.server import Gathered
from stack.session import Ended, EndReason
from stack.voice.commands import BeginReply, WriteReply
from stack.voice.events import ConversationEvent, ReplyInterrupted, ToolRequested, Utterance
from stack.voice.wire import decode_result

log = logging.getLogger("stack.cluster")

ResultT = TypeVar("ResultT")

NODE_PATIENCE = 5.0
"""Seconds without a word of a node, while our own messages come back, after which its calls are over."""

TOOK = declare("backbone", "took", "Calls that this process has taken from the backbone")
NOT_HELD = declare("backbone", "not_held", "Calls that their node has given to another process, or ended")
NODE_GONE = declare("backbone", "node_gone", "Calls that ended because nothing was heard of their node")


@dataclass(frozen=True, slots=True)
class ProgramHostConfig:
    """What a program process is called, and how much it takes."""

    program: str = "default"
    """The name under which nodes ask for this program."""
    max_calls: int = 100
    name: str = ""
    """Of this process alone; empty: a random one."""


class AttachedLink:
    """The way to the media of one call. See `stack.aio.media.MediaLink`."""

    def __init__(self, host: ProgramHost, taken: TakeCall) -> None:
        self.number = 0
        self.load = 0
        self.is_late = False
        self.gathered = Gathered()
        self.node = taken.node
        self.call = taken.call
        self.attachment = taken.attachment
        self.since = asyncio.get_running_loop().time()
        self.hosted: HostedCall | None = None
        self._host = host
        self.round_trip = host.round_trip(taken.node)
        self._stream = OrderedStream(host.backbone.counters)
        self._turns: deque[Utterance] = deque(maxlen=MAX_MANAGED)
        self._recordings: dict[str, FetchedRecording] = {}
        self._replies = RepliesAhead(
            taken.replies,
            self._ask,
            lambda command: self.say(CallCommand(0, command)),
            self._end_reply,
            self._note_not_written,
        )
        self._asked: dict[int, tuple[Any, asyncio.Future[Any]]] = {}
        self._next_number = 0
        self._is_open = True

    def submit(self, request: MediaRequest[object]) -> None:
        """Have something done soon."""
        if isinstance(request, CloseCall):
            self._host.forget(self)
        elif isinstance(request, CarryOut):
            command: Any = request.command
            if isinstance(command, StopRecording):
                recording = self._recordings.get(command.name)
                if recording is not None:
                    recording.end()
            else:
                self.say(CallCommand(0, command))

    async def execute(self, request: MediaRequest[ResultT]) -> ResultT:
        """Have something done and return (or raise) what comes of it; `CallEnded` if the call is lost."""
        if not isinstance(request, CarryOut):
            raise LocalError(f"{type(request).__name__} is for who has the media")
        if not self._is_open:
            raise CallEnded("the call is over")
        command: Any = request.command
        if isinstance(command, StartRecording):
            await self._record(command)
            return None  # type: ignore[return-value]  # as its `apply` does
        if isinstance(command, BeginReply):
            return await self._replies.begin(command)  # type: ignore[return-value]
        if isinstance(command, WriteReply):
            return await self._replies.write(command)  # type: ignore[return-value]
        result: ResultT = await self._ask(command)
        return result

    def _ask(self, command: Any) -> asyncio.Future[Any]:
        """Have a command carried out, and return what will come of it. Raises `NotSent` for what cannot cross."""
        number = self._next_number % 0xFFFF_FFFF + 1
        self.say(CallCommand(number, command))
        self._next_number = number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._is_open:
            self._asked[number] = command, answer
            answer.add_done_callback(lambda _: self._asked.pop(number, None))
        else:
            answer.set_exception(CallEnded("the call is over"))
        return answer

    def _end_reply(self, event: ReplyInterrupted) -> None:
        if self.hosted is not None:
            self.hosted.control.note_reply(event)

    def _note_not_written(self) -> None:
        if self.hosted is not None:
            self.hosted.call.speaker.note_not_written()

    async def _record(self, wanted: StartRecording) -> None:
        """Have the node record, and the files brought here as they grow."""
        recording = FetchedRecording(
            self._host.backbone, self.node, self.attachment, wanted, self._host.table.note_recording
        )
        await recording.begin()
        if not self._is_open:  # it has just ended: what there is of it is fetched all the same
            recording.note_lost()
        self._recordings[wanted.name] = recording
        self._host.fetch(recording)

    def ask_dialects(self, event: DialectEvent | ToolRequested) -> None:
        """Have a function of the client called."""
        if isinstance(event, ToolRequested):
            self.say(event)

    def adopt(self, sock: socket.socket, begun: bytes) -> None:
        """No connection of a client comes this way."""
        sock.close()

    def say(self, message: ProgramSays) -> None:
        """Tell the node."""
        if not self._is_open:
            return
        try:
            frames = self._stream.send(_encode(message))
        except BacklogFull as error:
            self._host.end(self, str(error))
            return
        self._host.backbone.post_all(node_subject(self.node, f"call.{self.attachment}"), frames)

    def take_frame(self, frame: bytes) -> None:
        """Take what the node says."""
        whole = self._stream.receive(frame)
        if whole is None:
            return
        try:
            said = NODE_SAYS.decode(whole)
        except ParseError as error:
            self._host.backbone.counters.add(DROPPED_MALFORMED)
            log.warning("call %s: %s", self.call, error)
            return
        if isinstance(said, CommandResult):
            self._take_result(said)
        elif isinstance(said, CallEvent):
            self._note_turn(said.event)
            self._replies.note(said.event)
            self._host.table.deliver([(self.call, said.event)])
        elif self.hosted is not None and (event := self._with_sound(said)) is not None:
            self.hosted.control.take(event)

    def _note_turn(self, event: ConversationEvent) -> None:
        """Keep the sound of a turn which a dialect will hand over, or not."""
        if isinstance(event, Utterance) and self.hosted is not None and self.hosted.control.turns_managed:
            self._turns.append(event)

    def _with_sound(self, event: DialectEvent) -> DialectEvent | None:
        if not isinstance(event, TurnHandedOver) or event.has_sound:
            return event
        wanted = event.utterance.media_time
        known = next((turn for turn in reversed(self._turns) if turn.media_time == wanted), None)
        if known is None:
            self._host.backbone.counters.add(DROPPED_MALFORMED)
            return None
        self._turns.remove(known)
        return TurnHandedOver(structs.replace(event.utterance, samples=known.samples))

    def _take_result(self, said: CommandResult) -> None:
        known = self._asked.get(said.number)
        if known is None or known[1].done():
            return
        command, answer = known
        try:
            answer.set_result(decode_result(command, said.result))
        except StackError as error:
            answer.set_exception(error)

    def progress(self) -> AttachmentProgress:
        """Return how far it is."""
        return AttachmentProgress(self.attachment, self._stream.sent, self._stream.received)

    def take_progress(self, other: AttachmentProgress) -> None:
        """The node says how far it is: send again what it lacks."""
        again = self._stream.acknowledge(other.received)
        self._host.backbone.post_all(node_subject(self.node, f"call.{self.attachment}"), again)

    def close(self, reason: str) -> None:
        """The call is over for this process."""
        self._is_open = False
        for recording in self._recordings.values():
            recording.note_lost()
        asked, self._asked = self._asked, {}
        for _, answer in asked.values():
            if not answer.done():
                answer.set_exception(CallEnded(reason))


def _encode(message: ProgramSays) -> bytes:
    try:
        return PROGRAM_SAYS.encode(message)
    except LocalError as error:
        raise NotSent(str(error)) from error


class ProgramHost:
    """Takes calls from the backbone and runs `program(call)` for each. Use `start`, then `drain`, then `stop`."""

    def __init__(
        self, program: Callable[..., Any], config: BackboneConfig, settings: ProgramHostConfig | None = None
    ) -> None:
        settings = settings or ProgramHostConfig()
        self.config = settings
        self.name = settings.name or f"agent-{secrets.token_hex(6)}"
        self.backbone = Backbone(config, self.name)
        self.counters = Counters()
        self.table = CallTable()
        self._prepare = getattr(program, "prepare", None)
        self._runner = ProgramRunner(as_program(program), self.counters, getattr(program, "attach", None))
        self._alive = AliveThread(config, self.name)
        self._links: dict[str, AttachedLink] = {}
        self._heard: dict[str, float] = {}  # nodes, and when
        self._mistaken: set[str] = set()  # nodes that have just named a call which is not ours
        self._round_trips: dict[str, RoundTrip] = {}  # by node
        self._is_offered = False
        self._settling = asyncio.Lock()
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def calls(self) -> int:
        """How many there are."""
        return len(self._links)

    async def start(self) -> None:
        """Load what the program loads, and take calls from now on, or from when the backbone is there."""
        if self._prepare is not None:
            await in_thread(self._prepare)
        await self.backbone.start()
        await self.backbone.subscribe(agent_subject(self.name), self._on_progress)
        await self.backbone.subscribe(agent_subject(self.name, "*"), self._on_frame)
        self._alive.start()
        self._begin_task(self._tell_progress())
        await self._settle_offers()

    def _begin_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_offers(self) -> None:
        """Be in the queue group while there is room."""
        async with self._settling:
            wanted = not self._draining and len(self._links) < self.config.max_calls
            if wanted == self._is_offered:
                return
            self._is_offered = wanted
            offers, room = take_subject(self.config.program), room_subject(self.config.program)
            if wanted:
                await self.backbone.subscribe(offers, self._on_take, PROGRAMS)
                await self.backbone.subscribe(room, self._on_room)
            else:
                await self.backbone.unsubscribe(offers)
                await self.backbone.unsubscribe(room)

    async def drain(self, seconds: float) -> None:
        """Take no new calls, and wait until the last one is over or `seconds` have passed.

        Those that are left then are given back to their nodes, which give them to other processes.
        """
        self._draining = True
        await self._settle_offers()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._links and loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Give back the calls that are left, and end."""
        self._draining = True
        await self._settle_offers()
        for link in list(self._links.values()):
            link.say(CallReturned())
            self.end(link, "the program process is shutting down")
        await self._runner.stop()
        await self._alive.stop()
        for task in list(self._tasks):
            task.cancel()
        await self.backbone.stop()

    def round_trip(self, node: str) -> RoundTrip:
        """Return what is measured of the way to a node."""
        return self._round_trips.setdefault(node, RoundTrip())

    # -- calls -----------------------------------------------------------------------------------------------

    def _on_room(self, subject: str, data: bytes, reply: str) -> None:
        """A node whose offer was not answered asks who takes calls."""
        if reply and not self._draining and len(self._links) < self.config.max_calls:
            self.backbone.post(reply, TAKEN.encode(Taken(self.name)))

    def _on_take(self, subject: str, data: bytes, reply: str) -> None:
        try:
            taken = TAKE.decode(data)
            check_node_name(taken.node)
            check_name(taken.attachment)
        except (ParseError, LocalError):
            self.backbone.counters.add(DROPPED_MALFORMED)
            return
        if self._draining or not reply or taken.call in self.table.calls:
            return  # the node asks another one
        link = AttachedLink(self, taken)
        hosted = HostedCall(self.table, link, taken.context, taken.call)
        link.hosted = hosted
        hosted.control.backbone_round_trip = lambda: link.round_trip.latest
        hosted.control.other_side = link.ask_dialects
        hosted.call.speaker.note_earlier(taken.writes)
        self._links[taken.attachment] = link
        hosted.adopt()
        self.counters.add(TOOK)
        for told in taken.told:
            hosted.control.take(told)
        self._runner.begin(hosted)
        self.backbone.post(reply, TAKEN.encode(Taken(self.name)))
        self.table.deliver([(taken.call, event) for event in taken.events])
        self._begin_task(self._settle_offers())

    def fetch(self, recording: FetchedRecording) -> None:
        """Bring the files of a recording here until it is complete, which may be after its call."""
        self._begin_task(recording.run())

    def forget(self, link: AttachedLink) -> None:
        """A call is over."""
        link.close("the call is over")
        if self._links.pop(link.attachment, None) is not None:
            self._begin_task(self._settle_offers())

    def end(self, link: AttachedLink, detail: str) -> None:
        """A call is no longer this process's."""
        link.close(detail)
        self.table.deliver([(link.call, Ended(EndReason.WORKER_FAILED, detail))])

    def _on_frame(self, subject: str, data: bytes, reply: str) -> None:
        name = subject.rpartition(".")[2]
        link = self._links.get(name)
        if name == TAKE_HERE:
            self._on_take(subject, data, reply)
        elif link is None:
            self.backbone.counters.add(DROPPED_STRANGE)
        else:
            link.take_frame(data)

    def _on_progress(self, subject: str, data: bytes, reply: str) -> None:
        try:
            progress = PROGRESS.decode(data)
        except ParseError:
            self.backbone.counters.add(DROPPED_MALFORMED)
            return
        now = asyncio.get_running_loop().time()
        self._heard[progress.sender] = now
        if progress.sender in self._round_trips:
            self._round_trips[progress.sender].note(progress.stamp, now)
        held = {each.attachment: each for each in progress.attachments}
        if held.keys() - self._links.keys():
            self._mistaken.add(progress.sender)
        for link in list(self._links.values()):
            if link.node != progress.sender:
                continue
            each = held.get(link.attachment)
            if each is not None:
                link.take_progress(each)
            elif now - link.since > SETTLE:
                self.counters.add(NOT_HELD)
                self.end(link, "its node has ended it, or given it to another process")

    async def _tell_progress(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PROGRESS_EVERY)
            by_node: dict[str, list[AttachmentProgress]] = {}
            for link in self._links.values():
                by_node.setdefault(link.node, []).append(link.progress())
            for node in self._mistaken:
                by_node.setdefault(node, [])
            self._mistaken.clear()
            self._round_trips = {node: self.round_trip(node) for node in by_node}
            for node, attachments in by_node.items():
                stamp = self._round_trips[node].stamp(loop.time())
                progress = Progress(self.name, tuple(attachments), stamp)
                self.backbone.post(node_subject(node), PROGRESS.encode(progress))
            self._heard = {node: self._heard.get(node, loop.time()) for node in by_node}
            if not self.backbone.is_up:
                continue
            for link in list(self._links.values()):
                heard = max(self._heard[link.node], self.backbone.up_since, link.since)
                if loop.time() - heard > NODE_PATIENCE:
                    self.counters.add(NODE_GONE)
                    self.end(link, "nothing is heard of its media node")


__all__ = ["AttachedLink", "ProgramHost", "ProgramHostConfig"]
