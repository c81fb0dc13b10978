"""The media node's side: a program for its host that hands each call to a process behind the backbone.

For the node's own `Call` this is the program. It is *attached* before the call's first event; from then on
events go to the process that has taken the call, and what that process says is carried out here. What only the
process needs (sound, turns, messages, replies) does not reach the node's `Call`; its dialects see the rest, as
ever.

If the process dies (no `Alive` for `ALIVE_PATIENCE`, while our own messages come back), the call is offered to
others as a continuation; if none takes it, the node's own program does, or the call ends and its client is
told. So it is if the process lives, but does not name the call any more (`Progress`): it heard nothing of us for
too long. If the backbone is gone, nothing can be said of the process: the call goes on as it is.

Left out: functions of a client (`call.tools`) and turns that a dialect manages (OpenAI's Realtime) do not
cross; nor do recordings, whose files would be on this machine: the node records with `--record-dir`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stack.aio.call import Call, control_of
from stack.aio.inbox import Inbox
from stack.aio.ipc import STALE_EVENTS
from stack.aio.programs import Program
from stack.cluster.backbone import Backbone, BackboneError, end_tasks
from stack.cluster.messages import (
    ALIVE,
    NODE_SAYS,
    PROGRAM_SAYS,
    PROGRESS,
    TAKE,
    TAKEN,
    WITHHELD,
    AttachmentProgress,
    CallCommand,
    CallEvent,
    CallReturned,
    CommandResult,
    NodeSays,
    Progress,
    TakeCall,
    agent_subject,
    alive_subject,
    check_name,
    node_subject,
    take_subject,
)
from stack.cluster.ordered import DROPPED_MALFORMED, BacklogFull, OrderedStream
from stack.cluster.round_trip import RoundTrip
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.values import check_json
from stack.sctp import ChannelClosed, ChannelOpened, MessageReceived
from stack.session import Authenticated, Connected, Ended
from stack.voice.commands import Announce, FlushSpeaker, Tell
from stack.voice.events import (
    AudioReceived,
    ContextAdded,
    ConversationEvent,
    ProgramMessage,
    ReplyFinished,
    ReplyHeard,
    ReplyInterrupted,
    SessionUpdated,
    SpeakerDrained,
    TurnPaused,
    Utterance,
    UtterancePiece,
)
from stack.voice.wire import encode_error, encode_result

log = logging.getLogger("stack.cluster")

PROGRESS_EVERY = 0.25
"""Seconds between two words on how far both sides are."""
ALIVE_PATIENCE = 0.75
"""Seconds without a word of a process after which its calls are offered to others."""
LOOK_EVERY = 0.05
"""Seconds between two looks at who is silent."""
TAKE_TIMEOUT = 0.4
"""Seconds that one process has to take a call."""
TAKE_PATIENCE = 3.0
"""Seconds in which some process has to."""
TAKE_AGAIN = 0.1
"""Seconds before the next one is asked."""
SETTLE = 1.0
"""Seconds after which a process that speaks has to name a call that it took."""
ENGINE_PATIENCE = 60.0
"""Seconds that a call whose process is gone waits for a backbone that is gone, too."""
MAX_EARLY = 1500
"""Events that wait for the first process: 30 s of sound, as a program's microphone holds."""
MAX_COMMANDS = 10_000
"""Commands of a process that wait to be carried out; with more it is given up."""

FOR_PROGRAM = (
    AudioReceived, UtterancePiece, TurnPaused, Utterance, MessageReceived, SpeakerDrained, ReplyFinished,
    ReplyInterrupted, ReplyHeard,
)  # fmt: skip
"""Events that reach the call's program alone."""

TAKEN_OVER = declare("backbone", "taken", "Calls that a program process behind the backbone has taken")
CONTINUED = declare("backbone", "continued", "Calls that another program process has taken in the middle")
NOT_TAKEN = declare("backbone", "not_taken", "Calls that no program process behind the backbone has taken")
PROGRAM_LOST = declare("backbone", "program_lost", "Calls whose program process died, or was cut off")
DROPPED_REFUSED = declare("backbone", "dropped_refused", "Commands of a program process that it may not give")
DROPPED_STRANGE = declare("backbone", "dropped_strange", "Messages for attachments that are over, or never were")


class ProgramGone(StackError):
    """No program process has the call, and none takes it."""


class RemoteCall:
    """One call whose program is elsewhere."""

    def __init__(self, owner: RemoteProgram, call: Call) -> None:
        self.call = call
        self.control = control_of(call)
        self.agent = ""
        self.attachment = ""
        self.attached = 0
        """How many processes have had it."""
        self.since = 0.0
        """When the present one took it."""
        self.stream: OrderedStream | None = None
        self.lost = asyncio.Event()
        self.is_local = False
        self._owner = owner
        self._deliver = self.control.deliver
        self._state: dict[Any, ConversationEvent] = {}  # what a process has to know that comes later
        self._early: deque[ConversationEvent] = deque(maxlen=MAX_EARLY)
        self._commands: asyncio.Queue[CallCommand] = asyncio.Queue(MAX_COMMANDS)
        self._news: Inbox[ConversationEvent] = call.watch()
        self.control.deliver = self._take_event
        self.control.backbone_round_trip = self._round_trip

    def _round_trip(self) -> float | None:
        return self._owner.round_trip(self.agent).latest if self.stream is not None else None

    # -- events ----------------------------------------------------------------------------------------------

    def _take_event(self, event: ConversationEvent) -> None:
        self._note_state(event)
        if not self.is_local:
            self._pass_on(event)
        if self.is_local or not isinstance(event, FOR_PROGRAM):
            self._deliver(event)
        if isinstance(event, Ended):
            self.lost.set()
            self._owner.note_ended(self)

    def _note_state(self, event: ConversationEvent) -> None:
        if isinstance(event, Connected | Authenticated):
            self._state[type(event)] = event
        elif isinstance(event, ChannelOpened):
            self._state[event.channel] = event
        elif isinstance(event, ChannelClosed):
            self._state.pop(event.channel, None)

    def _pass_on(self, event: ConversationEvent) -> None:
        if self.stream is not None:
            self.say(CallEvent(event), isinstance(event, STALE_EVENTS))
        elif not self.attached and not isinstance(
            event, Connected | Authenticated | ChannelOpened | ChannelClosed
        ):
            self._early.append(event)

    async def forward_news(self) -> None:
        """Tell the process what the client sets by way of its dialect."""
        async for event in self._news:
            if isinstance(event, SessionUpdated | ContextAdded) and self.stream is not None:
                self.say(CallEvent(event))

    def say(self, message: NodeSays, is_stale_when_late: bool = False) -> None:
        """Tell the process that has the call; one that takes nothing any more is given up."""
        if self.stream is None:
            return
        try:
            frames = self.stream.send(NODE_SAYS.encode(message), is_stale_when_late)
        except BacklogFull as error:
            log.error("call %s: %s", self.call.id, error)
            self.lost.set()
            return
        self._owner.backbone.post_all(agent_subject(self.agent, self.attachment), frames)

    # -- attaching -------------------------------------------------------------------------------------------

    def next_attachment(self) -> str:
        """Return the name of an attachment that has not been used."""
        self.detach()
        self.attached += 1
        return f"{self.call.id}-{self.attached}"

    def attach(self, attachment: str, agent: str) -> None:
        """A process has the call: tell it what has happened so far."""
        self.agent, self.attachment = agent, attachment
        self.since = asyncio.get_running_loop().time()
        self.lost.clear()
        self.stream = OrderedStream(self._owner.backbone.counters)
        for event in self._state.values():
            self.say(CallEvent(event))
        for event in self._early:
            self.say(CallEvent(event), isinstance(event, STALE_EVENTS))
        self._early.clear()
        if self.call.ended:
            self.lost.set()

    def detach(self) -> None:
        """The process has the call no more."""
        self.stream, self.attachment = None, ""
        while not self._commands.empty():
            self._commands.get_nowait()

    def go_local(self) -> None:
        """The node's own program has the call from now on."""
        self.detach()
        self.is_local = True
        early, self._early = list(self._early), deque(maxlen=0)
        for event in early:
            if isinstance(event, FOR_PROGRAM):
                self._deliver(event)

    # -- commands --------------------------------------------------------------------------------------------

    def take_frame(self, frame: bytes) -> None:
        """Take what the process says."""
        if self.stream is None:
            return
        whole = self.stream.receive(frame)
        if whole is None:
            return
        try:
            said = PROGRAM_SAYS.decode(whole)
        except ParseError as error:
            self._owner.backbone.counters.add(DROPPED_MALFORMED)
            log.warning("call %s: %s", self.call.id, error)
            return
        if isinstance(said, CallReturned):
            self.lost.set()
            return
        try:
            self._commands.put_nowait(said)
        except asyncio.QueueFull:
            self.lost.set()

    async def carry_out(self) -> None:
        """Carry out what the process says, in order."""
        while True:
            said = await self._commands.get()
            attachment = self.attachment
            try:
                if isinstance(said.command, WITHHELD):
                    self._owner.backbone.counters.add(DROPPED_REFUSED)
                    raise LocalError("a program behind the backbone may not do that")
                if isinstance(said.command, Announce):
                    self.control.publish(said.command.news)
                elif isinstance(said.command, Tell):
                    self.control.publish(ProgramMessage(said.command.message))
                if not said.number:
                    self.control.command(said.command)
                    continue
                command: Any = said.command
                result = encode_result(await self.control.execute(command))
            except StackError as error:
                result = encode_error(error)
            if said.number and attachment == self.attachment:
                self.say(CommandResult(said.number, result))

    def progress(self) -> AttachmentProgress | None:
        """Return how far the present attachment is."""
        if self.stream is None:
            return None
        return AttachmentProgress(self.attachment, self.stream.sent, self.stream.received)

    def take_progress(self, other: AttachmentProgress) -> None:
        """The process says how far it is: send again what it lacks."""
        if self.stream is not None and other.attachment == self.attachment:
            again = self.stream.acknowledge(other.received)
            self._owner.backbone.post_all(agent_subject(self.agent, self.attachment), again)

    def close(self) -> None:
        """The call is over, or has its program here."""
        self.detach()
        self.call.unwatch(self._news)


class RemoteProgram:
    """What a media node's host runs for each call; `local` is its own program, if it has one.

    `program` is the name of the programs that are asked. Everything belongs to the host's loop.
    """

    def __init__(
        self,
        backbone: Backbone,
        node: str,
        program: str = "default",
        local: Program | None = None,
    ) -> None:
        self.backbone = backbone
        self.counters: Counters = backbone.counters
        self.node = node
        self._program = program
        self._local = local
        self._calls: dict[str, RemoteCall] = {}
        self._by_attachment: dict[str, RemoteCall] = {}
        self._alive: dict[str, float] = {}  # when a process was heard last
        self._round_trips: dict[str, RoundTrip] = {}  # by process
        self._tasks: list[asyncio.Task[None]] = []
        self.turns = getattr(local, "turns", None)
        prepare = getattr(local, "prepare", None)
        if prepare is not None:
            self.prepare = prepare

    @property
    def has_local(self) -> bool:
        """True if this node can run a program without the backbone."""
        return self._local is not None

    async def start(self) -> None:
        """Begin to listen for what processes say."""
        await self.backbone.subscribe(node_subject(self.node), self._on_progress)
        await self.backbone.subscribe(node_subject(self.node, "call.*"), self._on_frame)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._tell_progress(), name="progress"),
            loop.create_task(self._look(), name="look for silent processes"),
        ]

    async def stop(self) -> None:
        """Listen no more."""
        await end_tasks(*self._tasks)

    # -- a host's program ------------------------------------------------------------------------------------

    def attach(self, call: Call) -> None:
        """Take a call's events; the host calls this before the first."""
        self._calls[call.id] = RemoteCall(self, call)

    async def __call__(self, call: Call) -> None:
        """See to it that a process has the call, until its end."""
        remote = self._calls.get(call.id)
        if remote is None:
            return  # it has just ended
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(remote.forward_news()), loop.create_task(remote.carry_out())]
        try:
            while not call.ended:
                if not await self._offer(remote):
                    break
                await remote.lost.wait()
                self._by_attachment.pop(remote.attachment, None)
                if call.ended:
                    return
                self.counters.add(PROGRAM_LOST)
                log.warning("call %s has lost its program in %s", call.id, remote.agent)
                remote.control.command(FlushSpeaker())
                remote.control.command(Tell({"type": "program", "state": "lost"}))
        finally:
            await end_tasks(*tasks)
            self._forget(remote)
        if not call.ended:
            await self._run_local(remote)

    async def _run_local(self, remote: RemoteCall) -> None:
        self.counters.add(NOT_TAKEN)
        if self._local is None:
            raise ProgramGone("no program process takes this call")
        remote.go_local()
        await self._local(remote.call)

    def round_trip(self, agent: str) -> RoundTrip:
        """Return what is measured of the way to a process."""
        return self._round_trips.setdefault(agent, RoundTrip())

    def note_ended(self, remote: RemoteCall) -> None:
        """A call is over, perhaps before there was anything to run."""
        self._calls.pop(remote.call.id, None)

    def _forget(self, remote: RemoteCall) -> None:
        self._calls.pop(remote.call.id, None)
        self._by_attachment.pop(remote.attachment, None)
        remote.close()

    async def _offer(self, remote: RemoteCall) -> bool:
        """Find a process for a call; False if there is none."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        continuation = remote.attached
        while not remote.call.ended:
            waited = loop.time() - begun
            if not self.backbone.is_up:
                if self._local is not None or waited > ENGINE_PATIENCE:
                    return False
            elif await self._offer_once(remote, continuation):
                return True
            else:  # a call that nothing has been said in yet need not wait where there is a program
                patience = 0.0 if self._local is not None and not continuation else TAKE_PATIENCE
                if loop.time() - max(begun, self.backbone.up_since) > patience:
                    return False
            await asyncio.sleep(TAKE_AGAIN)
        return False

    async def _offer_once(self, remote: RemoteCall, continuation: int) -> bool:
        attachment = remote.next_attachment()
        call = remote.call
        context = replace(
            call.context, state={}, session=_as_json(call.session), node=self.node, continuation=continuation
        )  # fmt: skip
        offered = TakeCall(call.id, attachment, self.node, context, continuation)
        try:
            answer = await self.backbone.request(take_subject(self._program), TAKE.encode(offered), TAKE_TIMEOUT)
            agent = check_name(TAKEN.decode(answer).agent)
        except (BackboneError, ParseError, LocalError) as error:
            log.info("call %s: %s", call.id, error)
            return False
        self._alive[agent] = asyncio.get_running_loop().time()
        await self.backbone.subscribe(alive_subject(agent), self._on_alive)
        self._by_attachment[attachment] = remote
        remote.attach(attachment, agent)
        self.counters.add(CONTINUED if continuation else TAKEN_OVER)
        if continuation:
            remote.control.command(Tell({"type": "program", "state": "continued"}))
        return True

    # -- what processes say ----------------------------------------------------------------------------------

    def _on_frame(self, subject: str, data: bytes, reply: str) -> None:
        remote = self._by_attachment.get(subject.rpartition(".")[2])
        if remote is None:
            self.counters.add(DROPPED_STRANGE)
        else:
            remote.take_frame(data)

    def _on_progress(self, subject: str, data: bytes, reply: str) -> None:
        try:
            progress = PROGRESS.decode(data)
        except ParseError:
            self.counters.add(DROPPED_MALFORMED)
            return
        now = asyncio.get_running_loop().time()
        round_trip = self._round_trips.get(progress.sender)
        if round_trip is not None:
            round_trip.note(progress.stamp, now)
        held = {each.attachment: each for each in progress.attachments}
        for remote in self._by_attachment.values():
            if remote.agent != progress.sender:
                continue
            each = held.get(remote.attachment)
            if each is not None:
                remote.take_progress(each)
            elif now - remote.since > SETTLE:
                remote.lost.set()

    def _on_alive(self, subject: str, data: bytes, reply: str) -> None:
        try:
            agent = ALIVE.decode(data).agent
        except ParseError:
            self.counters.add(DROPPED_MALFORMED)
            return
        if agent in self._alive:
            self._alive[agent] = asyncio.get_running_loop().time()

    async def _tell_progress(self) -> None:
        """Tell each process which calls we hold with it, and how far we are; one that is missing is over."""
        while True:
            await asyncio.sleep(PROGRESS_EVERY)
            held: dict[str, list[AttachmentProgress]] = {agent: [] for agent in self._alive}
            for remote in self._by_attachment.values():
                progress = remote.progress()
                if progress is not None:
                    held.setdefault(remote.agent, []).append(progress)
            for agent, attachments in held.items():
                stamp = self.round_trip(agent).stamp(asyncio.get_running_loop().time())
                word = Progress(self.node, tuple(attachments), stamp)
                self.backbone.post(agent_subject(agent), PROGRESS.encode(word))

    async def _look(self) -> None:
        """Give up the processes that are silent, while we hear ourselves."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if not self.backbone.is_up:
                continue
            now = loop.time()
            for agent, heard in list(self._alive.items()):
                if now - max(heard, self.backbone.up_since) <= ALIVE_PATIENCE:
                    continue
                log.warning("the program process %s is gone", agent)
                del self._alive[agent]
                self._round_trips.pop(agent, None)
                with suppress(Exception):
                    await self.backbone.unsubscribe(alive_subject(agent))
                for remote in list(self._by_attachment.values()):
                    if remote.agent == agent:
                        remote.lost.set()


def _as_json(session: Any) -> dict[str, Any]:
    """Return what a client has set, if it can leave the process."""
    try:
        found = dict(session)
        check_json(found)
    except (LocalError, TypeError, ValueError):
        return {}
    return found


__all__ = ["ProgramGone", "RemoteCall", "RemoteProgram"]
