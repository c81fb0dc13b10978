"""What crosses the backbone, as values (`stack.voice.wire`), and the subjects that they go by.

    PREFIX.take.VERSION.PROGRAM    node → one program process of the queue group   TakeCall, answered by Taken
    PREFIX.room.VERSION.PROGRAM    node → all processes with room                  (nothing), answered by Taken
    PREFIX.agent.AGENT.take        node → the process that answered first          TakeCall, answered by Taken
    PREFIX.node.NODE.call.A        program process → node                          frames of ProgramSays
    PREFIX.node.NODE               program process → node                          Progress
    PREFIX.node.NODE.name          a node that starts → one of its name            (nothing), answered by any
    PREFIX.node.NODE.recording     program process → node         RecordingAsked, answered by RecordingPart
    PREFIX.node.NODE.expect        signaling → node                                ExpectedCall
    PREFIX.agent.AGENT.A           node → program process                          frames of NodeSays
    PREFIX.agent.AGENT             node → program process                          Progress
    PREFIX.alive.AGENT             program process → its nodes                     Alive

`A` is an *attachment*: a call, and which program process in a row has it. A process that was given up sends
under an attachment which the node does not know any more. Frames are those of `ordered.py`.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, TypeAlias

from stack.aio.context import CallContext
from stack.aio.dialect_events import DialectEvent
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
from stack.voice.events import ConversationEvent, ToolRequested
from stack.voice.recording import RecordingFailed, RecordingFinished
from stack.voice.wire import ValueCodec

PREFIX: Final = "voice"
BACKBONE_VERSION: Final = 2
"""Goes up when nodes and program processes of both versions would not understand each other: then they never meet,
as calls are offered under another subject. 2: what a program begins with stands in the offer."""
PROGRAMS: Final = "programs"
"""The queue group of program processes."""
WITHHELD = (GetParameters, Renegotiate, RestartIce, AddRemoteCandidates)
"""Commands that are for who answers offers: a program process gets no ICE password, and changes no session."""
TAKE_HERE: Final = "take"
"""Stands in the place of an attachment where a process is offered a call by its name."""
MAX_MANAGED = 32
"""Turns whose sound a program process keeps until a dialect hands them over."""
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
    """A call wants a program, which begins at once: what it has to know for that is here."""

    call: str
    attachment: str
    node: str
    context: CallContext
    continuation: int = 0
    """How many program processes have had it before."""
    told: tuple[DialectEvent, ...] = ()
    """What the dialects have said so far that still holds."""
    events: tuple[ConversationEvent, ...] = ()
    """The same of the call: its connection, and the channels that are open."""
    replies: int = 0
    """The number of its latest reply."""
    writes: int = 0
    """How often sound was written in it."""


class Taken(Value, frozen=True):
    """A program process has the call now, or would take one."""

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


# -- recordings (`recording_spool.py`, `recording_fetch.py`) -----------------------------------------------


class BeginRecording(Value, frozen=True):
    """Record the call from now on, under a name of the program process's; asked again, it changes nothing."""

    attachment: str
    name: str
    sample_rate: int


class EndRecording(Value, frozen=True):
    """Record no more."""

    attachment: str
    name: str


class ReadRecording(Value, frozen=True):
    """Send what stands in the two files from these places on."""

    attachment: str
    name: str
    sound: int
    lines: int


class ForgetRecording(Value, frozen=True):
    """Both files have been read, or are not wanted: delete them."""

    attachment: str
    name: str


class RecordingPart(Value, frozen=True):
    """A part of a recording; `error` if there is none, and why."""

    unshown: ClassVar[frozenset[str]] = frozenset({"header", "sound", "lines"})
    header: bytes = b""
    """Of the WAV file, as it is now."""
    sound_size: int = 0
    """Bytes of sound in it by now."""
    sound: bytes = b""
    lines: bytes = b""
    over: RecordingFinished | RecordingFailed | None = None
    """Nothing will follow what stands in the files now."""
    error: str = ""


RecordingAsked: TypeAlias = BeginRecording | EndRecording | ReadRecording | ForgetRecording
ProgramSays: TypeAlias = CallCommand | CallReturned | ToolRequested
NodeSays: TypeAlias = CallEvent | CommandResult | DialectEvent
TAKE: Final[ValueCodec[TakeCall]] = ValueCodec(TakeCall)
TAKEN: Final[ValueCodec[Taken]] = ValueCodec(Taken)
PROGRAM_SAYS: Final[ValueCodec[ProgramSays]] = ValueCodec(ProgramSays)
NODE_SAYS: Final[ValueCodec[NodeSays]] = ValueCodec(NodeSays)
PROGRESS: Final[ValueCodec[Progress]] = ValueCodec(Progress)
ALIVE: Final[ValueCodec[Alive]] = ValueCodec(Alive)
EXPECTED: Final[ValueCodec[ExpectedCall]] = ValueCodec(ExpectedCall)
RECORDING_ASKED: Final[ValueCodec[RecordingAsked]] = ValueCodec(RecordingAsked)
RECORDING_PART: Final[ValueCodec[RecordingPart]] = ValueCodec(RecordingPart)
NODES: Final[ValueCodec[NodeRecord]] = ValueCodec(NodeRecord)


def take_subject(program: str) -> str:
    """Return where calls are offered to the processes of a program."""
    return f"{PREFIX}.take.{BACKBONE_VERSION}.{program}"


def room_subject(program: str) -> str:
    """Return where the processes of a program are asked which of them takes calls."""
    return f"{PREFIX}.room.{BACKBONE_VERSION}.{program}"


def node_subject(node: str, what: str = "") -> str:
    """Return where a node is told something."""
    return f"{PREFIX}.node.{node}{f'.{what}' if what else ''}"


def agent_subject(agent: str, attachment: str = "") -> str:
    """Return where a program process is told something."""
    return f"{PREFIX}.agent.{agent}{f'.{attachment}' if attachment else ''}"


def alive_subject(agent: str) -> str:
    """Return where a program process says that it is alive."""
    return f"{PREFIX}.alive.{agent}"
