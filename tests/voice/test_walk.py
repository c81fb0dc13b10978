"""How far a packet walks: the parts that it passes, and what it costs in Python calls.

The lists below are the walks of `docs/architecture.md`. A hop is an object that takes the packet over from another
part of the house. What it asks on the way is none: parsers, ciphers, codecs, tables, timers, and its own parts,
such as the section's and the source's bookkeeping or the receiver's buffer and decoder; the number of all classes
that take part is bounded apart. A change that makes a packet walk further argues with the bounds of this file.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path as FilePath
from statistics import median
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import pytest

import stack
from stack.core.machine import Path
from stack.server import Endpoint
from stack.session import SessionParameters
from stack.voice.commands import OpenChannel, SendMessage, Write
from stack.voice.conversation import Conversation, ConversationConfig
from stack.voice.events import ConversationEvent
from tests.sim.calls import agree, entropy

RATE = 48_000
FRAME = 960
ROOT = str(FilePath(stack.__file__).parent)

MEDIA_IN = (
    "Endpoint.handle_datagrams",
    "Conversation.handle_datagrams",
    "Session.handle_datagrams",
    "PythonMediaPlane.handle_datagrams",
    "RtpTransport.handle_rtp",
    "ReceiveStream.handle_packet",
    "AudioLine.handle_media",
    "ArrivalReceiver.insert",
)
MEDIA_OUT = (
    "Conversation.handle_timeout",
    "AudioLine.frames",
    "AudioSender.frames",
    "PlayoutQueue.take",
    "Session.schedule",
    "PythonMediaPlane.schedule",
    "RtpTransport.send",
    "SendStream.send",
)
CHECK = (
    "Endpoint.handle_datagrams",
    "Conversation.handle_datagrams",
    "Session.handle_datagrams",
    "LiteAgent.handle_datagrams",
    "CheckServer.authenticate",
    "CheckServer.respond",
    "Session.drain_transmits",
)
DATA = (
    "Endpoint.handle_datagrams",
    "Conversation.handle_datagrams",
    "Session.handle_datagrams",
    "DtlsEndpoint.handle_datagrams",
    "DataChannels.handle_datagrams",
    "Association.handle_datagrams",
    "Receiver.",
    "Reassembly.",
    "Conversation.drain_events",
)
MOST_CALLS_IN = 90
MOST_CALLS_OUT = 80
MOST_CLASSES_IN = 33
"""Classes and functions of `stack` that take part in a packet: the hops, and all that they ask on the way."""
MOST_CLASSES_OUT = 20


class Calls:
    """Context: the Python calls that are made inside, in order; those of `stack` by their qualified names."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.total = 0

    def __enter__(self) -> Calls:
        def note(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call":
                self.total += 1
                if frame.f_code.co_filename.startswith(ROOT):
                    self.names.append(frame.f_code.co_qualname)

        sys.setprofile(note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self.total -= 1  # this call

    @property
    def owners(self) -> set[str]:
        """The classes and modules of `stack` that took part, hops and what they ask."""
        return {name.partition(".")[0] for name in self.names}

    def follow(self, walk: tuple[str, ...]) -> None:
        """Hold a walk against what was called: every hop, in this order."""
        at = 0
        for hop in walk:
            found = next((i for i in range(at, len(self.names)) if self.names[i].startswith(hop)), None)
            assert found is not None, f"{hop} is not passed behind {self.names[max(0, at - 1)]}"
            at = found


class Call:
    """A client and a server behind an endpoint, connected, with what browsers agree on: RED, no NACK."""

    def __init__(self) -> None:
        sides = agree(1)
        self.now = 1000.0
        self.client = Conversation(
            _as_browsers(sides.client), sides.client_certificate, ConversationConfig(), entropy("client"), self.now
        )
        self.server = Conversation(
            _as_browsers(sides.server), sides.server_certificate, ConversationConfig(), entropy("server"), self.now
        )
        self.endpoint: Endpoint[ConversationEvent] = Endpoint()
        self.endpoint.add("call", self.server, sides.server.local.ice_ufrag)
        for _ in range(150):
            self.settle()
            self.now += 0.01
            self.client.handle_timeout(self.now)
            self.endpoint.handle_timeout(self.now)
        assert self.server.session.is_connected

    def settle(self) -> None:
        moved = True
        while moved:
            to_server, to_client = self.from_client(), self.from_server()
            self.endpoint.handle_datagrams(to_server, self.now)
            self.client.handle_datagrams(to_client, self.now)
            moved = bool(to_server or to_client)
            self.client.drain_events()
            self.endpoint.drain_events()

    def from_client(self) -> list[tuple[bytes, Path]]:
        return [(data, Path(path.remote, path.local)) for data, path in self.client.drain_transmits()]

    def from_server(self) -> list[tuple[bytes, Path]]:
        self.endpoint.pump()
        return [(data, Path(path.remote, path.local)) for data, path in self.endpoint.drain_transmits()]

    def drive(self) -> list[tuple[bytes, Path]]:
        """What the driver does after an input."""
        self.endpoint.pump()
        out = list(self.endpoint.drain_transmits())
        self.endpoint.drain_events()
        self.endpoint.poll_timeout()
        return out


def _as_browsers(parameters: SessionParameters) -> SessionParameters:
    """Browsers do not offer NACK for audio."""
    agreed = parameters.negotiation
    media = tuple(
        msgspec.structs.replace(each, rtcp_feedback=tuple(kind for kind in each.rtcp_feedback if kind != "nack"))
        if hasattr(each, "rtcp_feedback")
        else each
        for each in agreed.media
    )
    return replace(parameters, negotiation=replace(agreed, media=media))


def is_media(data: bytes) -> bool:
    return 128 <= data[0] <= 191 and not 192 <= data[1] <= 223


def tone(seconds: float) -> np.ndarray:
    at = np.arange(round(RATE * seconds)) / RATE
    return (8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)


@pytest.fixture(scope="module")
def call() -> Call:
    return Call()


def test_a_packet_in(call: Call) -> None:
    assert len(MEDIA_IN) <= 8
    call.client.handle_command(Write(tone(2.5), RATE), call.now)
    totals: list[int] = []
    owners: set[str] = set()
    for index in range(120):
        call.now += 0.02
        call.client.handle_timeout(call.now)
        for datagram in call.from_client():
            with Calls() as calls:
                call.endpoint.handle_datagrams([datagram], call.now)
                call.drive()
            if index > 20 and is_media(datagram[0]):
                totals.append(calls.total)
                calls.follow(MEDIA_IN)
                owners |= calls.owners
        call.endpoint.handle_timeout(call.now)
        call.settle()
    assert len(totals) > 90
    assert median(totals) <= MOST_CALLS_IN, Counter(totals)
    assert len(owners) <= MOST_CLASSES_IN, sorted(owners)


def test_a_frame_out(call: Call) -> None:
    assert len(MEDIA_OUT) <= 8
    call.server.handle_command(Write(tone(2.5), RATE), call.now)
    call.endpoint.touch("call")
    call.settle()
    totals: list[int] = []
    owners: set[str] = set()
    for index in range(110):
        at = call.endpoint.poll_timeout()
        assert at is not None
        call.now = max(call.now, at)
        with Calls() as calls:
            call.endpoint.handle_timeout(call.now)
            sent = call.drive()
        if index > 20 and len(sent) == 1 and is_media(sent[0][0]):
            totals.append(calls.total)
            calls.follow(MEDIA_OUT[:6])
            owners |= calls.owners
            assert "SendStream.send" in calls.names
        call.client.handle_datagrams([(data, Path(path.remote, path.local)) for data, path in sent], call.now)
        call.client.handle_timeout(call.now)
        call.settle()
    assert len(totals) > 60
    assert median(totals) <= MOST_CALLS_OUT, Counter(totals)
    assert len(owners) <= MOST_CLASSES_OUT, sorted(owners)


def test_a_check(call: Call) -> None:
    assert len(CHECK) <= 8
    for _ in range(1000):
        call.now += 0.05
        call.client.handle_timeout(call.now)
        for datagram in call.from_client():
            with Calls() as calls:
                call.endpoint.handle_datagrams([datagram], call.now)
                call.drive()
            if datagram[0][0] < 4:
                calls.follow(CHECK)
                return
        call.settle()
    raise AssertionError("the client made no check")


def test_a_data_chunk(call: Call) -> None:
    assert len(DATA) <= 10
    channel = call.client.handle_command(OpenChannel("walk"), call.now)
    call.settle()
    call.client.handle_command(SendMessage(channel, "one"), call.now)
    (datagram,) = [datagram for datagram in call.from_client() if 20 <= datagram[0][0] <= 63]
    with Calls() as calls:
        call.endpoint.handle_datagrams([datagram], call.now)
        call.drive()
    calls.follow(DATA)
