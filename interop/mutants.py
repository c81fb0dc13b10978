"""Our own server, broken on purpose: each mutant has one fault, which the harness has to name.

    python -m interop.mutants NAME --port P

serves WHIP at `/whip` and echoes sound and messages. A mutant is the proof that a verdict is drawn from the
evidence: `tests/interop/test_mutants.py` runs the harness against each, over HTTP, as against any other server.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from interop.arguments import OneLineParser
from stack import Call
from stack.aio import Host, HostConfig
from stack.aio.udp import UdpSockets
from stack.core.machine import Instant, Path, Transmit
from stack.dtls import Certificate
from stack.dtls.flight import Flight
from stack.ice import LiteAgent
from stack.sctp.dcep import DataChannelAck, DataChannelOpen
from stack.signaling.server import ServeConfig, serving
from stack.srtp.engine import SrtpEngine
from stack.voice.conversation import ConversationConfig

BURST = 0.2
"""Seconds for which the mutant of that name holds its packets back."""
CONSENT_LASTS = 1.0
"""Seconds from the first response of a call after which that mutant responds to no check of it any more."""
PACKETS_BEFORE = 50
"""RTP packets of a source, a second of sound, before its fault begins."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: how it is put in, which scenario shows it, and by which rule."""

    what: str
    break_it: Callable[[], None]
    scenario: str
    rule: str


def is_success(data: bytes) -> bool:
    """A Binding success response."""
    return data[:2] == b"\x01\x01"


def is_rtcp(data: bytes) -> bool:
    """RTCP, by RFC 5761 §4."""
    return 128 <= data[0] < 192 and 192 <= data[1] <= 223


def is_rtp(data: bytes) -> bool:
    """RTP."""
    return 128 <= data[0] < 192 and not is_rtcp(data)


def filter_sent(choose: Callable[[UdpSockets, Sequence[Transmit]], Sequence[Transmit]]) -> None:
    """Have `choose` say what of the datagrams leaves."""
    send = UdpSockets.send

    def filtered(self: UdpSockets, transmits: Sequence[Transmit]) -> None:
        send(self, choose(self, transmits))

    UdpSockets.send = filtered  # type: ignore[method-assign]


def without(unwanted: Callable[[bytes], bool]) -> Callable[[], None]:
    """A server that never sends such datagrams."""

    def break_it() -> None:
        filter_sent(lambda _, transmits: [each for each in transmits if not unwanted(each.data)])

    return break_it


def change_rtp(change: Callable[[bytes], bytes]) -> Callable[[], None]:
    """A server whose RTP packets are changed before they are protected: they are authentic."""

    def break_it() -> None:
        protect = SrtpEngine.protect
        SrtpEngine.protect = lambda self, packet: protect(self, change(packet))  # type: ignore[method-assign]

    return break_it


def wrong_fingerprint() -> None:
    """The answer announces the certificate of another server: it shows when the handshake is nearly done."""
    parameters = Host._local_parameters
    fingerprint = Certificate.generate(os.urandom, datetime.now(UTC)).fingerprint()

    def announce(self: Host, *wishes: Any) -> Any:
        return replace(parameters(self, *wishes), fingerprint=fingerprint)

    Host._local_parameters = announce  # type: ignore[method-assign]


def no_consent() -> None:
    """Checks of a call are answered until it stands, and then no more."""
    handle = LiteAgent.handle_datagram
    began: WeakKeyDictionary[LiteAgent, Instant] = WeakKeyDictionary()

    def until_it_stands(self: LiteAgent, data: bytes, path: Path, now: Instant) -> None:
        if now <= began.get(self, now) + CONSENT_LASTS:
            handle(self, data, path, now)
            if self.selected_path is not None:
                began.setdefault(self, now)

    LiteAgent.handle_datagram = until_it_stands  # type: ignore[method-assign]


def ssrc_of(packet: bytes) -> bytes:
    """The source of an RTP packet, protected or not (RFC 3550 §5.1)."""
    return packet[8:12]


class Counted:
    """How many RTP packets each source has sent."""

    def __init__(self) -> None:
        self._sent: Counter[bytes] = Counter()

    def is_beyond(self, packet: bytes, number: int) -> bool:
        """Count a packet; whether its source has sent more than so many."""
        self._sent[ssrc_of(packet)] += 1
        return self._sent[ssrc_of(packet)] > number


def another_source() -> Callable[[bytes], bytes]:
    """After a second packets have another SSRC, and nothing in them says of which section they are."""
    counted = Counted()

    def change(packet: bytes) -> bytes:
        if not counted.is_beyond(packet, PACKETS_BEFORE):
            return packet
        at = 12 + 4 * (packet[0] & 0x0F)
        if packet[0] & 0x10:  # the header extension, where a mid would stand
            packet = (
                bytes((packet[0] & 0xEF,))
                + packet[1:at]
                + packet[at + 4 + 4 * int.from_bytes(packet[at + 2 : at + 4]) :]
            )
        return packet[:8] + bytes(byte ^ 0x5A for byte in ssrc_of(packet)) + packet[12:]

    return change


def sound_stops() -> None:
    """After a second no RTP leaves, and everything else does."""
    counted = Counted()

    def choose(_: UdpSockets, transmits: Sequence[Transmit]) -> Sequence[Transmit]:
        return [
            each for each in transmits if not (is_rtp(each.data) and counted.is_beyond(each.data, PACKETS_BEFORE))
        ]

    filter_sent(choose)


def wrong_tag() -> None:
    """The last bit of the authentication tag of each SRTP packet is turned."""
    protect = SrtpEngine.protect

    def spoil(self: SrtpEngine, packet: bytes) -> bytes:
        protected = protect(self, packet)
        return protected[:-1] + bytes((protected[-1] ^ 1,))

    SrtpEngine.protect = spoil  # type: ignore[method-assign]


def never_repeats() -> None:
    """A flight leaves once."""
    pack = Flight.pack
    sent: list[Any] = []

    def once(self: Flight, records: Any, mtu: int) -> list[bytes]:
        datagrams = pack(self, records, mtu)
        if any(message is former for message in self._messages for former in sent):
            return []
        sent.extend(self._messages)
        return datagrams

    Flight.pack = once  # type: ignore[method-assign]


def wrong_acknowledgement() -> None:
    """DATA_CHANNEL_ACK with a message type that is none (RFC 8832 §8.2.1)."""
    DataChannelAck.serialize = lambda self: b"\x04"  # type: ignore[method-assign]


def opened_instead() -> None:
    """A DATA_CHANNEL_OPEN is answered by a DATA_CHANNEL_OPEN on the same stream (RFC 8832 §5)."""
    DataChannelAck.serialize = lambda self: DataChannelOpen("trial").serialize()  # type: ignore[method-assign]


def bursts() -> None:
    """RTP is held back and leaves every 200 ms."""
    held: list[Transmit] = []
    left: list[float] = [0.0]

    def choose(_: UdpSockets, transmits: Sequence[Transmit]) -> Sequence[Transmit]:
        now = asyncio.get_running_loop().time()
        held.extend(each for each in transmits if is_rtp(each.data))
        others = [each for each in transmits if not is_rtp(each.data)]
        if now < left[0] + BURST:
            return others
        left[0], released = now, list(held)
        held.clear()
        return [*others, *released]

    filter_sent(choose)


def another_address() -> None:
    """Responses to checks leave from another port than the one that was asked."""
    spare: dict[str, socket.socket] = {}

    def choose(_: UdpSockets, transmits: Sequence[Transmit]) -> Sequence[Transmit]:
        for data, path in transmits:
            if is_success(data):
                if path.local.host not in spare:
                    spare[path.local.host] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    spare[path.local.host].bind((path.local.host, 0))
                spare[path.local.host].sendto(data, path.remote)
        return [each for each in transmits if not is_success(each.data)]

    filter_sent(choose)


FROZEN = (123_456).to_bytes(4)
FROZEN_SEQUENCE = (4_711).to_bytes(2)
MUTANTS: Mapping[str, Mutant] = {
    "wrong-fingerprint": Mutant(
        "the fingerprint of another certificate in the answer", wrong_fingerprint, "audio", "wrong-fingerprint"
    ),
    "no-consent": Mutant("no answer to checks once the call stands", no_consent, "reports", "consent-unanswered"),
    "wrong-payload-type": Mutant(
        "RTP with a payload type that was not agreed on",
        change_rtp(lambda packet: packet[:1] + bytes((packet[1] & 0x80 | 96,)) + packet[2:]),
        "audio",
        "wrong-payload-type",
    ),
    "one-way-audio": Mutant("the server never sends sound", without(is_rtp), "audio", "one-way-audio"),
    "frozen-timestamp": Mutant(
        "every RTP packet has the same timestamp",
        change_rtp(lambda packet: packet[:4] + FROZEN + packet[8:]),
        "audio",
        "frozen-timestamp",
    ),
    "frozen-sequence-number": Mutant(
        "every RTP packet has the same sequence number",
        change_rtp(lambda packet: packet[:2] + FROZEN_SEQUENCE + packet[4:]),
        "audio",
        "frozen-sequence-number",
    ),
    "ssrc-changes": Mutant(
        "RTP has another SSRC after a second, of which nothing is said",
        change_rtp(another_source()),
        "reports",
        "ssrc-changed",
    ),
    "srtp-not-authentic": Mutant(
        "SRTP with an authentication tag that does not fit", wrong_tag, "audio", "srtp-not-authentic"
    ),
    "sound-stops": Mutant(
        "no RTP after a second, while the call goes on", sound_stops, "reports", "sound-stopped"
    ),
    "no-rtcp": Mutant("RTCP is never sent", without(is_rtcp), "reports", "no-rtcp"),
    "flight-not-repeated": Mutant(
        "a DTLS flight is sent once only", never_repeats, "lost answer", "flight-not-repeated"
    ),
    "channel-acknowledged-wrongly": Mutant(
        "a channel is acknowledged by a message type that is none",
        wrong_acknowledgement,
        "messages",
        "channel-acknowledged-wrongly",
    ),
    "channel-opened-instead": Mutant(
        "a channel is opened where it is to be acknowledged",
        opened_instead,
        "messages",
        "channel-acknowledged-wrongly",
    ),
    "bursts": Mutant("RTP leaves in bursts of 200 ms", bursts, "audio", "bursts"),
    "another-address": Mutant(
        "checks are answered from another port", another_address, "audio", "response-from-another-address"
    ),
}


async def echo(call: Call) -> None:
    """Return sound and messages."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_return_messages(call))
        async for frame in call.microphone:
            call.speaker.write(frame)


async def _return_messages(call: Call) -> None:
    from stack.sctp import ChannelClosedError

    try:
        channel = await call.channels.wait_for("trial")
    except ChannelClosedError:
        return
    async for message in channel:
        await channel.send(message)


async def serve(port: int) -> None:
    """Serve until this is cancelled."""
    media = HostConfig(host="127.0.0.1", udp_port=0, conversation=ConversationConfig(echo="off"))
    async with serving(echo, ServeConfig(http_host="127.0.0.1", port=port, media=media)) as server:
        print(f"WHIP at {server.url}/whip", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve with a fault, or without one (`healthy`)."""
    parser = OneLineParser(prog="python -m interop.mutants", description="Our server, broken on purpose.")
    parser.add_argument("name", choices=["healthy", *MUTANTS])
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.name in MUTANTS:
        MUTANTS[options.name].break_it()
    asyncio.run(serve(options.port))


if __name__ == "__main__":
    main()
