"""What the harness asks of a peer: a stack, driven over its public API, that plays either end of a call.

A `Peer` says what it is, which sides it can play and how to get it; `start` yields an `End`, which plays one side
of one call. Most peers are programs that take an end's commands as JSON lines (`ProcessEnd`); `docs/interop.md`
writes one in forty lines.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from interop.evidence import Side
from interop.lab import LabError, ProcessLab
from interop.sound import CLIENT_TONE, LEVEL, SERVER_TONE, WIRE_RATE, Samples, sine
from stack.audio import OpusDecoder, OpusEncoder


class EndError(Exception):
    """An end could not do what it was told; the message is what it said."""


class UnsupportedError(Exception):
    """A peer's public API has no way to do this."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a side of a call shall be. What a peer has no way to do it refuses (`UnsupportedError`)."""

    video: bool = False
    """A video section is offered, too."""
    data: bool = True
    codec: str = "opus"
    """The codec that is offered alone, or first: opus, PCMU, PCMA."""
    dtls: str = ""
    """The only version of DTLS: 1.2 or 1.3; empty: what the peer does by itself."""
    setup: str = ""
    """The DTLS role that an answer takes: active or passive; empty: what the peer does by itself."""

    @property
    def is_plain(self) -> bool:
        """Nothing is asked for but what every peer can do."""
        return self.codec == "opus" and not self.dtls and not self.setup


def tone_of(side: Side) -> int:
    """The pitch, in Hz, that a side of a call sends."""
    return CLIENT_TONE if side == "client" else SERVER_TONE


class End(ABC):
    """One side of one call. It sends the tone of its side for as long as the call lasts."""

    @abstractmethod
    async def offer(self, wishes: Wishes) -> str:
        """Make the call, with a channel named "trial", and return its offer (the client)."""

    @abstractmethod
    async def answer(self, sdp: str) -> None:
        """Take the answer (the client)."""

    @abstractmethod
    async def accept(self, sdp: str, wishes: Wishes) -> str:
        """Answer an offer (the server)."""

    @abstractmethod
    async def connected(self) -> None:
        """Return when the connection stands, and the channel, if there is one; `EndError` if they do not."""

    @abstractmethod
    async def listen(self, seconds: float) -> tuple[Samples, int] | None:
        """Return what is heard from now on and its rate; None if this end cannot be asked."""

    @abstractmethod
    async def send(self, message: str | bytes) -> None:
        """Send on the channel."""

    @abstractmethod
    async def receive(self) -> str | bytes:
        """Wait for the next message."""

    @abstractmethod
    async def hang_up(self) -> None:
        """Close the connection; nothing is said over HTTP."""

    @abstractmethod
    async def wait_ended(self) -> None:
        """Return when it has noticed that the other side ended the call."""

    async def statistics(self) -> Any:
        """What it says of the connection, ready for JSON; None if it cannot be asked."""
        return None

    @property
    def ended(self) -> str | None:
        """Why its call is over, where it says so; None if it is not, or the end cannot be asked."""
        return None


@dataclass(frozen=True, slots=True)
class Needs:
    """What a peer needs of this machine."""

    what: str
    """In words, for people."""
    setup: tuple[tuple[str, ...], ...] = ()
    """The commands that get it, run in the project's folder; empty where only the system's package manager can."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How a peer differs from the specifications without being wrong, or in a way that its users live with."""

    knows_empty: bool = True
    """It sends and takes empty messages (RFC 8831 §6.6)."""
    says_goodbye: bool = True
    """Closing its connection sends close_notify or a shutdown of SCTP (RFC 8446 §6.1)."""
    notices_the_end: bool = True
    """Its program can see that the other side left."""
    echoes: bool = False
    """As a server it returns what it hears, and messages."""
    level: float = LEVEL
    """The amplitude of its tone; 1 is full scale."""
    hears: bool = True
    """It takes the sound of the other side; a WHIP client only sends (RFC 9725 §4)."""
    has_data: bool = True
    """It has data channels, and a way to send any message on them."""
    can_be_asked: bool = True
    """It does what the harness tells it; of another server the harness knows its answer and its packets alone."""


class Peer(ABC):
    """A stack that can be tried."""

    name: str
    needs: Needs
    sides: Sequence[Side] = ("client", "server")
    traits = Traits()

    @abstractmethod
    def why_absent(self) -> str | None:
        """One line that says why it cannot be tried here; None if it can."""

    @abstractmethod
    def start(self, side: Side, wishes: Wishes) -> AbstractAsyncContextManager[End]:
        """Start one end of a call; what it started is ended on the way out."""

    def version(self) -> str:
        """The version that is installed, for the report and the table of known faults; empty: not known."""
        return ""


@cache
def opus_tone(hertz: int) -> tuple[str, ...]:
    """A tone as Opus packets of 20 ms in base64, which repeat without a seam: for stacks that have no encoder."""
    encoder = OpusEncoder(WIRE_RATE, cbr=True)
    tone = sine(hertz, 2, WIRE_RATE)
    packets = [encoder.encode(tone[at : at + 960]) for at in range(0, len(tone), 960)]
    return tuple(base64.b64encode(packet).decode() for packet in packets[len(packets) // 2 :])


@dataclass
class ProcessEnd(End):
    """An end that is a program which takes commands as JSON lines; see `interop/peers/gstreamer/peer.py`.

    `listen` returns int16 at 48 kHz in base64, or Opus packets in base64 from a stack that has no decoder.
    """

    lab: ProcessLab
    side: Side
    needs_packets: bool = False
    supported: frozenset[str] = field(default_factory=frozenset)
    """The names of the `Wishes` beyond the plain ones that the program understands."""

    def _arguments(self, wishes: Wishes) -> dict[str, Any]:
        if wishes.video:
            self._require("video", wishes.video)
        asked = {"codec": wishes.codec != "opus" and wishes.codec, "dtls": wishes.dtls}
        if self.side == "server":  # the part in DTLS is what an answer chooses
            asked["setup"] = wishes.setup
        asked = {name: value for name, value in asked.items() if value}
        for name, value in asked.items():
            self._require(name, value)
        hertz = tone_of(self.side)
        sound = {"packets": opus_tone(hertz)} if self.needs_packets else {"hertz": hertz, "level": LEVEL}
        return {"video": wishes.video, **sound, **asked}

    def _require(self, name: str, value: object) -> None:
        if name not in self.supported:
            raise UnsupportedError(f"{self.lab.name} has no way to be told {name} {value}")

    async def _do(self, command: str, **arguments: Any) -> Any:
        try:
            return await self.lab.do(command, **arguments)
        except LabError as error:
            raise EndError(str(error)) from error

    async def offer(self, wishes: Wishes) -> str:
        return str(await self._do("offer", data=wishes.data, **self._arguments(wishes)))

    async def answer(self, sdp: str) -> None:
        await self._do("answer", sdp=sdp)

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        return str(await self._do("accept", sdp=sdp, **self._arguments(wishes)))

    async def connected(self) -> None:
        await self._do("connected")

    async def listen(self, seconds: float) -> tuple[Samples, int] | None:
        heard = await self._do("listen", seconds=seconds)
        if isinstance(heard, str):
            return np.frombuffer(base64.b64decode(heard), np.int16), WIRE_RATE
        decoder = OpusDecoder(WIRE_RATE)
        return np.concatenate([decoder.decode(base64.b64decode(packet)) for packet in heard]), WIRE_RATE

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._do("send", text=message)
        else:
            await self._do("send", binary=base64.b64encode(message).decode())

    async def receive(self) -> str | bytes:
        message = await self._do("receive")
        return str(message["text"]) if "text" in message else base64.b64decode(message["binary"])

    async def hang_up(self) -> None:
        await self._do("hang_up")

    async def wait_ended(self) -> None:
        await self._do("wait_ended")
