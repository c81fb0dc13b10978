"""What is known of one call between two ends: every datagram with its number and instant, both descriptions, what
either end said of itself. A verdict is drawn from this alone, and every verdict can point at it.

The datagrams are those that passed the tap (`interop/tap.py`). An end of our own also tells what SCTP carried
under the encryption, and the secrets of its handshake (`interop/inside.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from interop.wire_reading import DtlsRecord, Kind, Rtp, Stun, dtls_records, kind_of, summary
from stack.core.machine import Address
from stack.core.machine import Path as NetworkPath
from stack.core.trace import Direction, PcapWriter

Side = Literal["client", "server"]
"""The client makes the offer, the server answers it."""
SIDES: tuple[Side, Side] = ("client", "server")
Endpoint = tuple[str, int]


def other(side: Side) -> Side:
    """The far end of `side`."""
    return "server" if side == "client" else "client"


class Fate(Enum):
    """What the tap did with a datagram."""

    PASSED = "passed"
    LOST = "lost by the network under trial"
    FOREIGN = "from an address that is no candidate"
    FORGED = "made by the harness"


@dataclass(frozen=True)
class Packet:
    """One datagram at the tap. `number` counts from 1; `at` are seconds since the call began."""

    number: int
    at: float
    side: Side
    """Who sent it."""
    source: Endpoint
    destination: Endpoint
    data: bytes
    fate: Fate = Fate.PASSED

    @cached_property
    def kind(self) -> Kind:
        """What it is, by its first byte."""
        return kind_of(self.data)

    @cached_property
    def stun(self) -> Stun | None:
        """Its STUN message, if it is one."""
        return Stun.read(self.data) if self.kind is Kind.STUN else None

    @cached_property
    def rtp(self) -> Rtp | None:
        """Its RTP header, if it has one."""
        return Rtp.read(self.data) if self.kind is Kind.RTP else None

    @cached_property
    def records(self) -> tuple[DtlsRecord, ...]:
        """Its DTLS records."""
        return tuple(dtls_records(self.data)) if self.kind is Kind.DTLS else ()

    @property
    def summary(self) -> str:
        """One line for people."""
        return summary(self.data)

    def __str__(self) -> str:
        return f"packet #{self.number} at {self.at:.3f} s ({self.side}: {self.summary})"


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """A user message of SCTP as an end of ours received it, under the encryption."""

    at: float
    receiver: Side
    stream: int
    ppid: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """A DATA_CHANNEL_OPEN that an end of ours sent, under the encryption."""

    at: float
    sender: Side
    stream: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A datagram of SRTP or SRTCP that did not authenticate at an end of ours."""

    at: float
    data: bytes


@dataclass(slots=True)
class Level:
    """How loud an end heard the other at an instant: `rms` of 1 is full scale."""

    at: float
    rms: float


@dataclass(slots=True)
class Evidence:
    """Everything that was seen of one call."""

    client: str
    server: str
    offer: str = ""
    """As the server got it."""
    answer: str = ""
    """As the server gave it."""
    packets: list[Packet] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds since the call began at which the harness saw something happen."""
    levels: dict[Side, list[Level]] = field(default_factory=lambda: {"client": [], "server": []})
    channel_messages: list[ChannelMessage] = field(default_factory=list)
    channels_opened: list[ChannelOpened] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    goodbyes: set[int] = field(default_factory=set)
    """The SSRCs that said BYE to an end of ours (RFC 3550 §6.6)."""
    speaks: set[Side] = field(default_factory=lambda: set(SIDES))
    """The sides that have sound to send all the time. Of any other it proves nothing that it sends none."""
    ends: dict[Side, str] = field(default_factory=dict)
    """How an end of ours says that its call ended, if it did before it was told to."""
    statistics: dict[Side, Any] = field(default_factory=dict)
    key_log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hung_up_at: float | None = None
    """When either end was told to leave; what comes later belongs to the end of the call."""
    rebound_at: float | None = None
    standstills: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the harness itself stood still, and with it the tap and the ends in its process."""
    facts: dict[str, str] = field(default_factory=dict)
    """What a scenario measured, in words, for the report."""

    def take(self, shown: Evidence) -> None:
        """Become another one: of several calls, the one that shows a fault."""
        for name in (each.name for each in fields(self)):
            setattr(self, name, getattr(shown, name))

    def name(self, side: Side) -> str:
        """What is at that side."""
        return self.client if side == "client" else self.server

    def sent(self, side: Side, kind: Kind | None = None) -> Iterator[Packet]:
        """What a side sent before either left; what the harness forged is not among it."""
        for packet in self.packets:
            if self.hung_up_at is not None and packet.at > self.hung_up_at:
                return
            if packet.side == side and packet.fate is not Fate.FORGED and (kind is None or packet.kind is kind):
                yield packet

    def stood_still(self, begin: float, end: float) -> bool:
        """Whether the harness stood still between two instants: what it saw then says nothing of pace."""
        return any(began < end and ended > begin for began, ended in self.standstills)

    @property
    def longest_standstill(self) -> float:
        """Seconds for which the harness stood still at most."""
        return max((ended - began for began, ended in self.standstills), default=0.0)

    @property
    def ended_at(self) -> float:
        """Until when the call was watched."""
        if self.hung_up_at is not None:
            return self.hung_up_at
        return self.packets[-1].at if self.packets else 0.0

    def waterfall(self) -> Mapping[str, float]:
        """Seconds from the offer to each step of the set-up that shows on the wire, in the order of time."""
        steps = dict(self.steps)

        def first(name: str, side: Side | None, **wanted: object) -> None:
            for packet in self.packets:
                if side in (None, packet.side) and all(getattr(packet, k) == v for k, v in wanted.items()):
                    steps.setdefault(name, packet.at)
                    return

        first("first check", None, kind=Kind.STUN)
        first("first DTLS datagram", None, kind=Kind.DTLS)
        first("first RTP from the client", "client", kind=Kind.RTP)
        first("first RTP from the server", "server", kind=Kind.RTP)
        for packet in self.packets:
            if packet.stun is not None and packet.stun.stun_class.name == "SUCCESS":
                steps.setdefault("first check answered", packet.at)
                break
        return dict(sorted(steps.items(), key=lambda item: item[1]))

    def write(self, folder: Path) -> Sequence[str]:
        """Keep everything in a folder; return the names of the files."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "call.pcap").open("wb") as file:
            pcap = PcapWriter(file)
            for packet in self.packets:
                path = NetworkPath(Address(*packet.destination), Address(*packet.source))
                pcap.datagram(Direction.IN, packet.data, path, packet.at)
        (folder / "keys.log").write_text("".join(f"{line}\n" for line in self.key_log), "utf-8")
        (folder / "offer.sdp").write_text(self.offer, "utf-8", newline="")
        (folder / "answer.sdp").write_text(self.answer, "utf-8", newline="")
        (folder / "statistics.json").write_text(
            json.dumps(self.statistics, indent=1, default=str), encoding="utf-8"
        )
        (folder / "log.txt").write_text("".join(f"{note}\n" for note in self.notes), "utf-8")
        return sorted(path.name for path in folder.iterdir())
