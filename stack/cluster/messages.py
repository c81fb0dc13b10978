"""What crosses the backbone, as values (`stack.voice.wire`), and the subjects that they go by.

    PREFIX.take.PROGRAM            node → one program process of the queue group   TakeCall, answered by Taken
    PREFIX.node.NODE.call.A        program process → node                          frames of ProgramSays
    PREFIX.node.NODE               program process → node                          Progress
    PREFIX.node.NODE.expect        signaling → node                                ExpectedCall
    PREFIX.agent.AGENT.A           node → program process                          frames of NodeSays
    PREFIX.agent.AGENT             node → program process                          Progress
    PREFIX.alive.AGENT             program process → its nodes                     Alive

`A` is an *attachment*: a call, and which program process in a row has it. A process that was given up sends
under an attachment which the node does not know any more. Frames are those of `ordered.py`.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from stack.aio.context import CallContext
from stack.cluster.round_trip import Stamp
from stack.core.errors import LocalError
from stack.core.machine import Address
from stack.core.values import Value
from stack.voice.commands import (
    AddRemoteCandidates,
    ConversationCommand,
    GetParameters,
    Renegotiate,
    RestartIce,
)
from stack.voice.events import ConversationEvent
from stack.voice.wire import ValueCodec

PREFIX: Final = "voice"
PROGRAMS: Final = "programs"
"""The queue group of program processes."""
WITHHELD = (GetParameters, Renegotiate, RestartIce, AddRemoteCandidates)
"""Commands that are for who answers offers: a program process gets no ICE password, and changes no session."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NODE_NAME = re.compile(r"[A-Za-z0-9]{1,64}")


def check_name(name: str) -> str:
    """Return a name that is fit for a subject; raises `LocalError` for another."""
    if not _NAME.fullmatch(name):
        raise LocalError(f"{name!r} is no name: letters, digits, _ and -, up to 64")
    return name


def check_node_name(name: str) -> str:
    """Return a name that is fit for a subject and a username fragment; raises `LocalError` for another."""
    if not _NODE_NAME.fullmatch(name):
        raise LocalError(f"{name!r} is no name of a node: letters and digits, up to 64")
    return name


class TakeCall(Value, frozen=True):
    """A call wants a program. `continuation`: how many program processes have had it before."""

    call: str
    attachment: str
    node: str
    context: CallContext
    continuation: int = 0


class Taken(Value, frozen=True):
    """A program process has the call now."""

    agent: str


class CallEvent(Value, frozen=True):
    """An event of the call."""

    event: ConversationEvent


class CommandResult(Value, frozen=True):
    """What came of a command: `stack.voice.wire.encode_result` or `encode_error`."""

    number: int
    result: bytes


class CallCommand(Value, frozen=True):
    """Carry out a command; with a number that is not 0, say what comes of it."""

    number: int
    command: ConversationCommand


class CallReturned(Value, frozen=True):
    """The program process gives the call back, which goes on: it is shutting down."""


class AttachmentProgress(Value, frozen=True):
    """How far one side is with an attachment: frames sent, and received in order."""

    attachment: str
    sent: int
    received: int


class Progress(Value, frozen=True):
    """All attachments that the sender (a node or a program process) holds with the receiver."""

    sender: str
    attachments: tuple[AttachmentProgress, ...]
    stamp: Stamp = Stamp()


class Alive(Value, frozen=True):
    """The program process is there, and its event loop turns."""

    agent: str


class ExpectedCall(Value, frozen=True):
    """An answer was given whose call will come to this node: what its request said."""

    call: str
    context: CallContext
    reference: bytes
    lifetime: float
    """Seconds in which its first packet may come."""


class NodeRecord(Value, frozen=True):
    """What a media node says of itself in the key-value store."""

    name: str
    region: str
    url: str
    """Where its HTTP is reached by clients; empty: nowhere."""
    addresses: tuple[Address, ...]
    tcp: tuple[Address, ...]
    public_ips: tuple[str, ...]
    capacity: int
    calls: int
    draining: bool = False
    relays: tuple[Address, ...] = ()
    """Where relays in front of it are reached; empty: clients reach its own addresses."""

    @property
    def room(self) -> float:
        """Return the share of its calls that it could still take; 0 while it drains."""
        return 0.0 if self.draining else max(0.0, 1.0 - self.calls / max(1, self.capacity))


ProgramSays: TypeAlias = CallCommand | CallReturned
NodeSays: TypeAlias = CallEvent | CommandResult
TAKE: Final[ValueCodec[TakeCall]] = ValueCodec(TakeCall)
TAKEN: Final[ValueCodec[Taken]] = ValueCodec(Taken)
PROGRAM_SAYS: Final[ValueCodec[ProgramSays]] = ValueCodec(ProgramSays)
NODE_SAYS: Final[ValueCodec[NodeSays]] = ValueCodec(NodeSays)
PROGRESS: Final[ValueCodec[Progress]] = ValueCodec(Progress)
ALIVE: Final[ValueCodec[Alive]] = ValueCodec(Alive)
EXPECTED: Final[ValueCodec[ExpectedCall]] = ValueCodec(ExpectedCall)
NODES: Final[ValueCodec[NodeRecord]] = ValueCodec(NodeRecord)


def take_subject(program: str) -> str:
    """Return where calls are offered to the processes of a program."""
    return f"{PREFIX}.take.{program}"


def node_subject(node: str, what: str = "") -> str:
    """Return where a node is told something."""
    return f"{PREFIX}.node.{node}{f'.{what}' if what else ''}"


def agent_subject(agent: str, attachment: str = "") -> str:
    """Return where a program process is told something."""
    return f"{PREFIX}.agent.{agent}{f'.{attachment}' if attachment else ''}"


def alive_subject(agent: str) -> str:
    """Return where a program process says that it is alive."""
    return f"{PREFIX}.alive.{agent}"
