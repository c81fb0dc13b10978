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
from interop.speech import recorded_speech
from stack.audio import OpusDecoder, OpusEncoder


class EndError(Exception):
    """An end could not do what it was told; the message is what it said."""


class NoAnswerError(EndError):
    """An end that is elsewhere answered nothing at all: it hangs, or is there no more."""


class DialectError(EndError):
    """An end did what a section forbids, so that the fault is its own.

    `expected`, `section` and `seen` are those of a verdict (`interop.verdict.Finding`).
    """

    def __init__(self, expected: str, section: str, seen: str) -> None:
        super().__init__(seen)
        self.expected, self.section, self.seen = expected, section, seen


class UnsupportedError(Exception):
    """A peer's public API has no way to do this."""


class AbsentError(Exception):
    """This machine has not what a scenario needs."""


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
    srtp: str = ""
    """The only SRTP profile of our own ends, which can be told; empty: all that they have."""
    audio_sections: int = 1
    """Sections of sound that are offered."""
    bundle: str = ""
    """The bundle policy of RFC 8829 §4.1.1: balanced, max-compat, max-bundle; empty: the peer's own."""
    ptime: int = 20
    """Milliseconds of sound in a packet, for stacks that are given packets."""
    speech: bool = False
    """Recorded speech is sent instead of the tone."""
    silent: bool = False
    """Nothing is said until an end is told to (`mute(False)`)."""
    ip: int = 4
    """The version of IP that the call goes over."""
    own_certificate: bool = False
    """It shows the certificate that it makes by itself, also where its driver gives it another one elsewhere."""

    @property
    def is_plain(self) -> bool:
        """Nothing is asked for but what every peer can do."""
        return self == Wishes(video=self.video, data=self.data)


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """How a data channel is opened; the names are those of RTCDataChannelInit."""

    ordered: bool = True
    max_retransmits: int | None = None
    max_packet_life_time: int | None = None
    """Milliseconds."""
    protocol: str = ""
    negotiated_id: int | None = None
    """The stream that both sides agreed on elsewhere; None: DATA_CHANNEL_OPEN says it (RFC 8832)."""

    def as_init(self) -> dict[str, Any]:
        """The dictionary that createDataChannel takes."""
        init: dict[str, Any] = {"ordered": self.ordered, "protocol": self.protocol}
        if self.max_retransmits is not None:
            init["maxRetransmits"] = self.max_retransmits
        if self.max_packet_life_time is not None:
            init["maxPacketLifeTime"] = self.max_packet_life_time
        if self.negotiated_id is not None:
            init |= {"negotiated": True, "id": self.negotiated_id}
        return init

    @property
    def is_reliable(self) -> bool:
        """Everything that is sent on it arrives."""
        return self.max_retransmits is None and self.max_packet_life_time is None


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

    def _has_no(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{type(self).__name__} has no way to {what}")

    async def mute(self, is_muted: bool) -> None:
        """Send silence, or nothing, instead of the tone; or the tone again."""
        raise self._has_no("be silent")

    async def press(self, keys: str) -> None:
        """Press telephone keys (RFC 4733)."""
        raise self._has_no("press a telephone key")

    async def pressed(self) -> str | None:
        """The keys that the other side pressed so far; None: it cannot tell."""
        return None

    async def open_channel(self, label: str, kind: ChannelKind) -> None:
        """Open a further channel and wait until it is open."""
        raise self._has_no("open a further channel")

    async def channel(self, label: str) -> dict[str, Any]:
        """Wait for an open channel, and return what it says of itself under the names of RTCDataChannel.

        What a stack cannot say is left out.
        """
        raise self._has_no("wait for a further channel")

    async def close_channel(self, label: str) -> None:
        """Close a channel."""
        raise self._has_no("close a channel")

    async def channel_closed(self, label: str) -> None:
        """Wait until a channel is closed."""
        raise self._has_no("see that a channel is closed")

    async def send_on(self, label: str, message: str | bytes) -> None:
        """Send on a further channel."""
        raise self._has_no("send on a further channel")

    async def receive_on(self, label: str) -> str | bytes:
        """Wait for the next message of a further channel."""
        raise self._has_no("receive on a further channel")

    async def trickle(self, candidates: Sequence[str]) -> None:
        """Take candidates that come after the offer, each a line of SDP (the server)."""
        raise self._has_no("take candidates after the offer")

    async def restart(self) -> str:
        """Return an offer that restarts ICE (the client)."""
        raise self._has_no("restart ICE")

    async def accept_again(self, sdp: str) -> str:
        """Answer a further offer on the same call (the server)."""
        raise self._has_no("answer a further offer")

    async def reload(self) -> None:
        """Load the page again in which it lives, so that its call is gone without a word of the program."""
        raise self._has_no("reload: it is no page")

    async def delete(self) -> int:
        """End the session over HTTP; return the status (the server, as seen by its client)."""
        raise UnsupportedError("the harness hands the descriptions over itself here: there is no session in HTTP")

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
    waits_for_return: float = 0.0
    """Seconds for which, silent, it keeps a call whose consent has expired: the other side may come back."""
    echoes: bool = False
    """As a server it returns what it hears."""
    echoes_messages: bool = False
    """As a server it returns messages."""
    level: float = LEVEL
    """The amplitude of its tone; 1 is full scale."""
    plays_speech: bool = True
    """It can send recorded speech."""
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
    is_kept = False
    """A worker of `--jobs` keeps something of it from cell to cell: a browser."""
    is_elsewhere = False
    """It is a server of other people, known by its URL: it may be out of reach, or not what it was taken for."""

    @property
    def resource(self) -> str:
        """What it needs that only one cell may have at a time; peers may have the same one."""
        return self.name

    @abstractmethod
    def why_absent(self) -> str | None:
        """One line that says why it cannot be tried here; None if it can."""

    @abstractmethod
    def start(self, side: Side, wishes: Wishes) -> AbstractAsyncContextManager[End]:
        """Start one end of a call; what it started is ended on the way out."""

    def start_many(self, side: Side, wishes: Wishes, count: int) -> AbstractAsyncContextManager[Sequence[End]]:
        """Start the ends of so many calls in one process, or in one page."""
        raise UnsupportedError(f"the driver of {self.name} makes one call in a process")

    def version(self) -> str:
        """The version that is installed, for the report and the table of known faults; empty: not known."""
        return ""


@cache
def opus_tone(hertz: int, ptime: int = 20) -> tuple[str, ...]:
    """A tone as Opus packets in base64, which repeat without a seam: for stacks that have no encoder."""
    packets = opus_packets(sine(hertz, 6, WIRE_RATE), WIRE_RATE, ptime)
    return packets[len(packets) // 2 :]


def opus_packets(sound: Samples, rate: int, ptime: int = 20) -> tuple[str, ...]:
    """Sound as Opus packets of `ptime` milliseconds in base64; what does not fill the last one is left out."""
    encoder, size = OpusEncoder(rate, cbr=True), rate * ptime // 1000
    whole = len(sound) - len(sound) % size
    return tuple(base64.b64encode(encoder.encode(sound[at : at + size])).decode() for at in range(0, whole, size))


def to_be_told(
    name: str, supported: frozenset[str], needs_packets: bool, side: Side, wishes: Wishes
) -> dict[str, Any]:
    """Return the wishes that a program has to be told; raise `UnsupportedError` if it has no way to be."""
    asked: dict[str, Any] = {"dtls": wishes.dtls, "setup": wishes.setup, "bundle": wishes.bundle}
    asked["codec"] = wishes.codec != "opus" and wishes.codec
    asked["audio_sections"] = wishes.audio_sections > 1 and side == "client" and wishes.audio_sections
    asked["ip"] = wishes.ip != 4 and wishes.ip
    # A certificate of its own it has anyway, unless its driver gives it one.
    asked["own_certificate"] = wishes.own_certificate and "own_certificate" in supported
    asked["ptime"] = wishes.ptime != 20 and (needs_packets or "ptime" in supported) and wishes.ptime
    # The bundle policy is about what is offered, the part in DTLS is what an answer chooses.
    del asked["bundle" if side == "server" else "setup"]
    asked = {key: value for key, value in asked.items() if value}
    for key, value in (("video", wishes.video), *asked.items()):
        if value and key not in supported:
            raise UnsupportedError(f"{name} has no way to be told {key} {value}")
    return asked


@dataclass
class ProcessEnd(End):
    """An end that is a program which takes commands as JSON lines; see `interop/peers/gstreamer/peer.py`.

    `listen` returns int16 at 48 kHz in base64, or Opus packets in base64 from a stack that has no decoder.
    """

    lab: ProcessLab
    side: Side
    needs_packets: bool = False
    supported: frozenset[str] = field(default_factory=frozenset)
    """The names of `Wishes` beyond the plain ones, and of further commands, that the program understands."""
    call: int | None = None
    """Which of the calls in the process it is; None: there is one."""

    def _arguments(self, wishes: Wishes) -> dict[str, Any]:
        asked = to_be_told(self.lab.name, self.supported, self.needs_packets, self.side, wishes)
        return {"video": wishes.video, **self._sound(wishes), **asked}

    def _sound(self, wishes: Wishes) -> dict[str, Any]:
        hertz = tone_of(self.side)
        if wishes.speech:
            said, rate = recorded_speech()
            if self.needs_packets:
                return {"packets": opus_packets(said, rate)}
            if "speech" in self.supported:
                return {"hertz": hertz, "level": LEVEL, "speech": base64.b64encode(said.tobytes()).decode()}
        if self.needs_packets:
            return {"packets": opus_tone(hertz, wishes.ptime)}
        return {"hertz": hertz, "level": LEVEL}

    def _can(self, command: str) -> None:
        if command not in self.supported:
            raise UnsupportedError(f"the driver of {self.lab.name} has no command {command}")

    async def _do(self, command: str, **arguments: Any) -> Any:
        try:
            if self.call is not None:
                return await self.lab.do(command, call=self.call, **arguments)
            return await self.lab.do(command, **arguments)
        except LabError as error:
            raise EndError(str(error)) from error

    async def offer(self, wishes: Wishes) -> str:
        offer = str(await self._do("offer", data=wishes.data, **self._arguments(wishes)))
        await self._begin_silent(wishes)
        return offer

    async def _begin_silent(self, wishes: Wishes) -> None:
        if wishes.silent and "mute" in self.supported:
            await self.mute(True)

    async def answer(self, sdp: str) -> None:
        await self._do("answer", sdp=sdp)

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        answer = str(await self._do("accept", sdp=sdp, **self._arguments(wishes)))
        await self._begin_silent(wishes)
        return answer

    async def connected(self) -> None:
        await self._do("connected")

    async def listen(self, seconds: float) -> tuple[Samples, int] | None:
        heard = await self._do("listen", seconds=seconds)
        if isinstance(heard, str):
            return np.frombuffer(base64.b64decode(heard), np.int16), WIRE_RATE
        decoder = OpusDecoder(WIRE_RATE)
        return np.concatenate([decoder.decode(base64.b64decode(packet)) for packet in heard]), WIRE_RATE

    async def send(self, message: str | bytes) -> None:
        await self._do("send", **_written(message))

    async def receive(self) -> str | bytes:
        return _read(await self._do("receive"))

    async def mute(self, is_muted: bool) -> None:
        self._can("mute")
        await self._do("mute", muted=is_muted)

    async def press(self, keys: str) -> None:
        self._can("press")
        await self._do("press", keys=keys)

    async def open_channel(self, label: str, kind: ChannelKind) -> None:
        self._can("channels")
        await self._do("open", label=label, init=kind.as_init())

    async def channel(self, label: str) -> dict[str, Any]:
        self._can("channels")
        return dict(await self._do("channel", label=label))

    async def close_channel(self, label: str) -> None:
        self._can("channels")
        await self._do("close", label=label)

    async def channel_closed(self, label: str) -> None:
        self._can("channels")
        await self._do("closed", label=label)

    async def send_on(self, label: str, message: str | bytes) -> None:
        self._can("channels")
        await self._do("send", label=label, **_written(message))

    async def receive_on(self, label: str) -> str | bytes:
        self._can("channels")
        return _read(await self._do("receive", label=label))

    async def trickle(self, candidates: Sequence[str]) -> None:
        self._can("trickle")
        await self._do("trickle", candidates=list(candidates))

    async def restart(self) -> str:
        self._can("restart")
        return str(await self._do("restart"))

    async def accept_again(self, sdp: str) -> str:
        self._can("accept_again")
        return str(await self._do("accept_again", sdp=sdp))

    async def hang_up(self) -> None:
        await self._do("hang_up")

    async def wait_ended(self) -> None:
        await self._do("wait_ended")


def _written(message: str | bytes) -> dict[str, str]:
    return {"text": message} if isinstance(message, str) else {"binary": base64.b64encode(message).decode()}


def _read(message: dict[str, Any]) -> str | bytes:
    return str(message["text"]) if "text" in message else base64.b64decode(message["binary"])
