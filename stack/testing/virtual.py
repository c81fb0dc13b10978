"""Both ends of a call on one loop, with a network between them that has a delay and no sockets.

Left out: loss and jitter. A program's test is about what it says; the network is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from stack.aio import Call, CallContext, control_of
from stack.aio.recording import StartRecording
from stack.core.errors import LocalError
from stack.core.machine import Address, Path
from stack.dtls import Certificate
from stack.sdp import SessionDescription, accept_answer, create_offer, negotiate
from stack.server import SingleEndpoint
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.voice.config import offered_codecs
from stack.voice.conversation import Command, Conversation, ConversationConfig, ConversationEvent
from stack.voice.recording import RecordingEvent

ResultT = TypeVar("ResultT")

CLIENT, SERVER = Address("192.0.2.1", 1000), Address("192.0.2.2", 2000)
DELAY = 0.01
"""Seconds from one end to the other."""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualEnd:
    """A conversation, and the `Call` that commands it: the `CallLink` between the two."""

    def __init__(
        self,
        name: str,
        parameters: SessionParameters,
        certificate: Certificate,
        config: ConversationConfig,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.call = Call(name, CallContext(), self, self._loop.time)
        self.peer: VirtualEnd | None = None
        now = self._loop.time()
        self._conversation = Conversation(
            parameters, certificate, config, entropy, now, wall_clock=EPOCH.timestamp() - now
        )
        self._endpoint = SingleEndpoint(name, self._conversation)
        self._commands: deque[Command[object]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._armed: float | None = None

    def submit(self, command: Command[object]) -> None:
        """Have a command carried out soon."""
        self._commands.append(command)
        self._loop.call_soon(self._run_commands)

    async def execute(self, command: Command[ResultT]) -> ResultT:
        """Have a command carried out, after those that were submitted before it; return what comes of it."""
        self._run_commands()
        if isinstance(command, StartRecording):
            raise LocalError("nothing is recorded in virtual time: a thread in real time writes; use loopback")
        try:
            return self._conversation.handle_command(command, self._loop.time())
        finally:
            self.pump()
            await asyncio.sleep(0)

    def watch_recording(self, name: str, note: Callable[[RecordingEvent], None] | None) -> None:
        """There is no recording to tell of; see `execute`."""

    def _run_commands(self) -> None:
        commands, self._commands = self._commands, deque()
        for command in commands:
            self._conversation.handle_command(command, self._loop.time())
        if commands:
            self.pump()

    def pump(self) -> None:
        """Move what the conversation has to send and to say; raises what it has raised."""
        self._endpoint.pump()
        for data, path in self._endpoint.drain_transmits():
            if self.peer is not None:
                back = Path(path.remote, path.local, path.protocol)
                self._loop.call_later(DELAY, self.peer.receive, data, back)
        events: Sequence[tuple[str, ConversationEvent]] = self._endpoint.drain_events()
        for _, event in events:
            self._loop.call_soon(control_of(self.call).deliver, event)
        for fault in self._endpoint.drain_faults():
            raise fault.error
        self._arm(self._endpoint.poll_timeout())

    def receive(self, data: bytes, path: Path) -> None:
        """Take a datagram."""
        self._endpoint.handle_datagrams([(data, path)], self._loop.time())
        self.pump()

    def _arm(self, at: float | None) -> None:
        if at == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = at
        self._timer = None if at is None else self._loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = self._armed = None
        self._endpoint.handle_timeout(self._loop.time())
        self.pump()


def connect_virtually(config: ConversationConfig, seed: int) -> tuple[Call, Call]:
    """Return the caller's and the program's side of a call that begins now, the same one for the same seed."""
    entropy = random.Random(seed).randbytes
    certificates = [Certificate.generate(entropy, EPOCH) for _ in range(2)]
    codecs = offered_codecs()
    caller = make_local_parameters(entropy, certificates[0], [CLIENT], LocalWishes(codecs=codecs))
    program = make_local_parameters(entropy, certificates[1], [SERVER], LocalWishes(ice_lite=True, codecs=codecs))
    offer = create_offer(caller)
    agreed = negotiate(SessionDescription.parse(offer.serialize()), program)
    answer = SessionDescription.parse(agreed.answer.serialize())
    left = VirtualEnd(
        "caller",
        SessionParameters(caller, accept_answer(offer, answer, caller)),
        certificates[0],
        ConversationConfig(),
        entropy,
    )
    right = VirtualEnd("program", SessionParameters(program, agreed), certificates[1], config, entropy)
    left.peer, right.peer = right, left
    right.pump()
    left.pump()
    return left.call, right.call
