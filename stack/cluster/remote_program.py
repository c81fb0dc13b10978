"""The media node's side: a program for its host that hands each call to a process behind the backbone.

For the node's own `Call` this is the program. It is *attached* before the call's first event; from then on
events go to the process that has taken the call, and what that process says is carried out here. What only the
process needs (sound, turns, messages, replies) does not reach the node's `Call`; its dialects see the rest, as
ever.

If the process dies (no `Alive` for `ALIVE_PATIENCE`, while our own messages come back), the call is offered to
others as a continuation; if none takes it, the node's own program does, or the call ends and its client is
told. So it is if the process lives, but does not name the call any more (`Progress`): it heard nothing of us for
too long. If the backbone is gone, nothing can be said of the process: the call goes on as it is.

What the node's dialects tell the program, and what it asks of them, crosses as well
(`stack/aio/dialect_events.py`): so turns that OpenAI's Realtime manages, and functions of a client, are the same.
Recordings by the program are written here and fetched (`recording_spool.py`).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from stack.aio.call import Call
from stack.aio.programs import Program
from stack.cluster.backbone import Backbone, BackboneError, NoListener, end_tasks
from stack.cluster.messages import (
    ALIVE,
    PROGRESS,
    TAKE,
    TAKE_HERE,
    TAKEN,
    AttachmentProgress,
    Progress,
    agent_subject,
    alive_subject,
    check_name,
    node_subject,
    room_subject,
    take_subject,
)
from stack.cluster.ordered import DROPPED_MALFORMED
from stack.cluster.recording_spool import RecordingSpool
from stack.cluster.remote_call import RemoteCall
from stack.cluster.round_trip import RoundTrip
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.voice.commands import FlushSpeaker, Tell

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
NAME_TIMEOUT = 0.5
"""Seconds in which another node of our name answers."""
TAKE_AGAIN = 0.1
"""Seconds before the next one is asked."""
SETTLE = 1.0
"""Seconds after which a side that speaks (`Progress`) has to name a call that both have."""
ENGINE_PATIENCE = 60.0
"""Seconds that a call whose process is gone waits for a backbone that is gone, too."""

TAKEN_OVER = declare("backbone", "taken", "Calls that a program process behind the backbone has taken")
CONTINUED = declare("backbone", "continued", "Calls that another program process has taken in the middle")
NOT_TAKEN = declare("backbone", "not_taken", "Calls that no program process behind the backbone has taken")
PROGRAM_LOST = declare("backbone", "program_lost", "Calls whose program process died, or was cut off")
DROPPED_STRANGE = declare("backbone", "dropped_strange", "Messages for attachments that are over, or never were")


class ProgramGone(StackError):
    """No program process has the call, and none takes it."""


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
        self._recordings = RecordingSpool(backbone, node, self._find)
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
        """Begin to listen for what processes say.

        Raises `LocalError` if another node answers to this name: each would end the other's calls.
        """
        await self._check_name()
        await self.backbone.subscribe(node_subject(self.node), self._on_progress)
        await self.backbone.subscribe(node_subject(self.node, "call.*"), self._on_frame)
        await self._recordings.start()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._tell_progress(), name="progress"),
            loop.create_task(self._look(), name="look for silent processes"),
        ]

    async def _check_name(self) -> None:
        subject = node_subject(self.node, "name")
        if self.backbone.is_up:
            with suppress(BackboneError):
                await self.backbone.request(subject, b"", NAME_TIMEOUT)
                raise LocalError(f"another media node is called {self.node!r}: each needs a name of its own")
        await self.backbone.subscribe(subject, lambda subject, data, reply: self.backbone.post(reply, b""))

    async def stop(self) -> None:
        """Listen no more."""
        await self._recordings.stop()
        await end_tasks(*self._tasks)

    def _find(self, attachment: str) -> Call | None:
        remote = self._by_attachment.get(attachment)
        return remote.call if remote is not None else None

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
        tasks = [loop.create_task(remote.carry_out())]
        try:
            while not call.ended:
                if not await self._offer(remote):
                    break
                await remote.lost.wait()
                self._by_attachment.pop(remote.attachment, None)
                self._recordings.abandon(remote.attachment)
                if call.ended:
                    return
                self.counters.add(PROGRAM_LOST)
                log.warning("call %s has lost its program in %s", call.id, remote.agent)
                remote.detach()
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
        asks_all = False
        while not remote.call.ended:
            waited = loop.time() - begun
            if not self.backbone.is_up:
                if self._local is not None or waited > ENGINE_PATIENCE:
                    return False
            else:
                try:
                    await self._offer_once(remote, asks_all)
                    return True
                except (BackboneError, ParseError, LocalError) as error:
                    log.info("call %s: %s", remote.call.id, error)
                    has_listener = not isinstance(error, NoListener)
                # A call that nothing has been said in yet need not wait where there is a program. But the process
                # that was chosen may hang, and others may not.
                waits = self._local is None or continuation or (has_listener and not asks_all)
                patience = TAKE_PATIENCE if waits else 0.0
                if loop.time() - max(begun, self.backbone.up_since) > patience:
                    return False
                asks_all = has_listener
            await asyncio.sleep(TAKE_AGAIN)
        return False

    async def _offer_once(self, remote: RemoteCall, asks_all: bool) -> None:
        """Have a process take a call: the one that the queue group chooses, or the first of all to answer.

        Raises `BackboneError`, `ParseError` and `LocalError`.
        """
        subject = take_subject(self._program)
        if asks_all:
            first = TAKEN.decode(await self.backbone.request(room_subject(self._program), b"", TAKE_TIMEOUT))
            subject = agent_subject(check_name(first.agent), TAKE_HERE)
        offered = remote.offer(self.node)
        attachment, continuation = offered.attachment, offered.continuation
        self._by_attachment[attachment] = remote  # the process may speak before its answer is read
        try:
            answer = await self.backbone.request(subject, TAKE.encode(offered), TAKE_TIMEOUT)
            agent = check_name(TAKEN.decode(answer).agent)
        except BaseException:
            del self._by_attachment[attachment]
            remote.detach()
            raise
        self._alive[agent] = asyncio.get_running_loop().time()
        remote.attach(agent)
        await self.backbone.subscribe(alive_subject(agent), self._on_alive)
        self.counters.add(CONTINUED if continuation else TAKEN_OVER)
        if continuation:
            remote.control.command(Tell({"type": "program", "state": "continued"}))

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
                    remote.tell_path()
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


__all__ = ["ProgramGone", "RemoteProgram"]
