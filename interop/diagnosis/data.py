"""Data channels (RFC 8831, 8832), as an end of ours sees them under the encryption."""

from __future__ import annotations

from collections.abc import Iterator

from interop.diagnosis.rules import rule
from interop.evidence import SIDES, Evidence, Packet, other
from interop.verdict import Finding, Layer

DCEP = 50
OPEN, ACK = 3, 2
KNOWN_PPIDS = {
    50: "DCEP",
    51: "string",
    53: "binary",
    54: "binary, partial",
    56: "empty string",
    57: "empty binary",
}


def _near(evidence: Evidence, at: float, sender: str) -> Packet | None:
    """The last datagram of the sender before an instant: the one that carried what was seen then."""
    before = [
        packet for packet in evidence.packets if packet.side == sender and packet.at <= at and packet.records
    ]
    return before[-1] if before else None


@rule
def channel_acknowledged_wrongly(evidence: Evidence) -> Iterator[Finding]:
    """What answers a DATA_CHANNEL_OPEN is a DATA_CHANNEL_ACK."""
    for side in SIDES:
        for message in evidence.channel_messages:
            if message.receiver == side or message.ppid != DCEP:
                continue
            kind = message.data[0] if message.data else None
            if kind in (OPEN, ACK):
                continue
            yield Finding(
                "channel-acknowledged-wrongly",
                Layer.DATA,
                side,
                "DATA_CHANNEL_ACK (message type 0x02) as the answer to DATA_CHANNEL_OPEN",
                "RFC 8832 §5.2",
                f"message type {'none' if kind is None else f'0x{kind:02x}'} on stream {message.stream}, "
                f"{len(message.data)} bytes",
                _near(evidence, message.at, side),
            )
            break


@rule
def channel_opened_instead(evidence: Evidence) -> Iterator[Finding]:
    """A DATA_CHANNEL_OPEN is not answered by another one on its stream."""
    for opened in evidence.channels_opened:
        side = other(opened.sender)
        answers = (
            message
            for message in evidence.channel_messages
            if message.receiver == opened.sender
            and message.stream == opened.stream
            and message.ppid == DCEP
            and message.at >= opened.at
        )
        answer = next(answers, None)
        if answer is not None and answer.data[:1] == bytes((OPEN,)):
            yield Finding(
                "channel-acknowledged-wrongly",
                Layer.DATA,
                side,
                "DATA_CHANNEL_ACK (message type 0x02) as the answer to DATA_CHANNEL_OPEN; a channel of its own it "
                "opens on a stream of its own half",
                "RFC 8832 §5.2, §6",
                f"a DATA_CHANNEL_OPEN (message type 0x03) instead on stream {answer.stream}, "
                f"{len(answer.data)} bytes",
                _near(evidence, answer.at, side),
            )
            return


@rule
def unknown_payload_protocol(evidence: Evidence) -> Iterator[Finding]:
    """User messages have an identifier of RFC 8831."""
    for message in evidence.channel_messages:
        if message.ppid not in KNOWN_PPIDS:
            side = other(message.receiver)
            yield Finding(
                "unknown-ppid",
                Layer.DATA,
                side,
                f"a payload protocol identifier of WebRTC ({', '.join(map(str, KNOWN_PPIDS))})",
                "RFC 8831 §8",
                f"{message.ppid} on stream {message.stream}",
                _near(evidence, message.at, side),
            )
            return
