"""Fill the bytes into the pages of *Learn*: `python -m tools.learn`, from the call that `tools.record_call` keeps.

A page has `<!-- bytes: NAME -->` where a block of that name stands, up to `<!-- end -->`. What is between the two
is written here; a test compares.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from stack.dtls.messages import HandshakeType
from stack.dtls.reassembly import Fragment
from stack.dtls.record import ContentType
from stack.rtp.packet import RtpPacket
from stack.rtp.red import RedPayload
from stack.rtp.rtcp import parse_compound
from stack.sctp import Packet
from stack.sdp import SessionDescription
from stack.session.demux import Kind
from stack.stun import Message
from tools import call_bytes
from tools.captured_call import Datagram, OpenedRecord, Sender, open_call
from tools.record_call import RecordedCall

PAGES = Path(__file__).parents[1] / "docs" / "learn"
MARK = re.compile(r"<!-- bytes: ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
EXTENSIONS = {
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level": "how loud it is (RFC 6464)",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": "a number across all streams",
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay": "how long to buffer, at least and at most",
}
SHOWN = 31
"""Rows of the timeline that stand one by one."""


class Story:
    """The call as the pages tell it."""

    def __init__(self, call: RecordedCall) -> None:
        self.call = call
        self.datagrams = open_call(call)

    def of(self, kind: Kind, sender: Sender | None = None) -> list[Datagram]:
        """Return the datagrams of a kind."""
        return [each for each in self.datagrams if each.kind is kind and sender in (None, each.sender)]

    def record(self, is_it: Callable[[OpenedRecord], bool], sender: Sender | None = None) -> OpenedRecord:
        """Return the first record of which `is_it` is true."""
        return next(each for datagram in self.of(Kind.DTLS, sender) for each in datagram.records if is_it(each))

    def sctp_with(self, number: int, sender: Sender | None = None) -> OpenedRecord:
        """Return the first record whose packet begins with a chunk of a type."""
        return self.record(
            lambda each: each.content_type is ContentType.APPLICATION_DATA and each.payload[12] == number, sender
        )

    @property
    def extensions(self) -> dict[int, str]:
        """The header extensions by their number in this call."""
        audio = SessionDescription.parse(self.call.answer).media[0]
        lines = (value.split() for value in audio.values("extmap"))
        return {int(number.partition("/")[0]): EXTENSIONS[uri] for number, uri, *_ in lines}


def describe(datagram: Datagram) -> str:
    """Say in a few words what a datagram is."""
    if datagram.kind is Kind.STUN:
        message = Message.parse(datagram.data)
        return f"STUN: {message.message_class.name.lower().replace('_', ' ')}"
    if datagram.kind is Kind.RTP:
        packet = RtpPacket.parse(datagram.plain)
        twice = ", and the frame before it again" if packet.payload_type != 111 else ""
        return f"sound {packet.sequence_number}{twice}"
    if datagram.kind is Kind.RTCP:
        names = (_spaced(type(each).__name__) for each in parse_compound(datagram.plain))
        return f"RTCP: {', '.join(names)}"
    said = "; ".join(describe_record(each) for each in datagram.records)
    return said if said.startswith(("DTLS", "SCTP")) else f"DTLS: {said}"


def describe_record(record: OpenedRecord) -> str:
    """Say in a few words what a DTLS record holds."""
    if record.content_type is ContentType.HANDSHAKE:
        kinds = (HandshakeType(each.msg_type) for each in Fragment.parse_all(record.payload))
        names = ", ".join(each.name.title().replace("_", "") for each in kinds)
        return f"DTLS: {names}" if not record.epoch else names
    if record.content_type is ContentType.APPLICATION_DATA:
        packet = Packet.parse(record.payload, accept_zero_checksum=True)
        names = (_spaced(type(each).__name__.removesuffix("Chunk")).upper() for each in packet.chunks)
        return f"SCTP: {', '.join(names)}"
    if record.content_type is ContentType.ALERT:
        return "DTLS: close_notify" if record.payload[1] == 0 else f"DTLS: alert {record.payload[1]}"
    return f"DTLS: {record.content_type.name}"


def _spaced(name: str) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", name)
    return " ".join(word if word.isupper() else word.lower() for word in words).replace("I data", "I-DATA")


def timeline(story: Story) -> str:
    """Every datagram of the beginning, the end, and what was between."""
    datagrams = story.datagrams
    last = datagrams[-2:]
    rows = [*_rows(datagrams[:SHOWN])]
    between = Counter(each.kind.name for each in datagrams[SHOWN : -len(last)])
    said = ", ".join(f"{count} of {kind}" for kind, count in sorted(between.items()))
    rows += [f"| {SHOWN + 1} … {len(datagrams) - len(last)} | | | | {said} |", *_rows(last)]
    return "\n".join(["| | ms | | bytes | |", "|---:|---:|:-:|---:|---|", *rows])


def _rows(datagrams: list[Datagram]) -> Iterator[str]:
    for each in datagrams:
        yield f"| {each.number} | {each.at_ms} | {each.sender.arrow} | {len(each.data)} | {describe(each)} |"


def flight(story: Story, sender: Sender) -> str:
    """The messages of a side's encrypted flight, with their sizes."""
    record = story.record(lambda each: each.epoch == 2, sender)
    lines = [f"one record, {len(record.wire)} bytes; inside:"]
    for each in Fragment.parse_all(record.payload):
        lines.append(f"  {each.length:4}  {HandshakeType(each.msg_type).name.lower()}")
    return "\n".join(lines)


def keys(story: Story) -> str:
    """The key log, its long numbers cut."""
    lines = (line.split() for line in story.call.keys.splitlines())
    return "\n".join(f"{label} {random[:16]}… {secret[:16]}…" for label, random, secret in lines)


def pace(story: Story) -> str:
    """When each sound packet of the client left, and what its clock and number say."""
    packets = [(each.at_ms, RtpPacket.parse(each.plain)) for each in story.of(Kind.RTP, Sender.CLIENT)]
    lines = ["     ms  sequence number       timestamp"]
    for (_, before), (at, packet) in pairwise([packets[0], *packets]):
        step = f"(+{(packet.timestamp - before.timestamp) & 0xFFFFFFFF})" if packet is not packets[0][1] else ""
        lines.append(f"{at:7}  {packet.sequence_number:15}  {packet.timestamp:14} {step}".rstrip())
    return "\n".join(lines[:6])


def _second(datagrams: list[Datagram]) -> tuple[Datagram, RtpPacket]:
    return datagrams[1], RtpPacket.parse(datagrams[1].plain)


def red(story: Story) -> str:
    """The payload of the second packet, opened; it holds the first one's frame again."""
    datagrams = story.of(Kind.RTP, Sender.CLIENT)
    _, packet = _second(datagrams)
    first = RtpPacket.parse(datagrams[0].plain)
    assert RedPayload.parse(packet.payload).redundant[0].payload == first.payload
    return call_bytes.show(call_bytes.opened_payload(packet.payload, is_red=True))


def blocks(story: Story) -> dict[str, str]:
    """Return every block by its name."""
    requests, sounds = story.of(Kind.STUN), story.of(Kind.RTP, Sender.CLIENT)
    hello = story.record(lambda each: each.epoch == 0, Sender.CLIENT)
    answer = story.record(lambda each: each.epoch == 0, Sender.SERVER)
    message = story.record(lambda each: each.payload.endswith((b"hello\0\0\0", b"hello")), Sender.CLIENT)
    reports = [each for each in story.of(Kind.RTCP) if each.plain[1] == 200]
    show = call_bytes.show
    return {
        "offer": story.call.offer.replace("\r\n", "\n").strip(),
        "answer": story.call.answer.replace("\r\n", "\n").strip(),
        "timeline": timeline(story),
        "stun-request": show(call_bytes.stun(requests[0].data)),
        "stun-response": show(call_bytes.stun(requests[1].data)),
        "stun-nominate": show(call_bytes.stun(requests[2].data), skip=8),
        "client-hello": show(call_bytes.dtls_plaintext(hello.wire)),
        "server-hello": show(call_bytes.dtls_plaintext(answer.wire)),
        "server-flight": flight(story, Sender.SERVER),
        "client-flight": flight(story, Sender.CLIENT),
        "record": show(call_bytes.dtls_protected(message.wire, message.sequence)),
        "keys": keys(story),
        "srtp": show(call_bytes.srtp(sounds[0].data, story.extensions)),
        "opus": show(call_bytes.opened_payload(RtpPacket.parse(sounds[0].plain).payload, is_red=False)),
        "red": red(story),
        "pace": pace(story),
        "report": show(call_bytes.rtcp(reports[1].plain)),
        "sctp-init": show(call_bytes.sctp(story.sctp_with(1).payload)),
        "dcep-open": show(call_bytes.sctp(_with_chunk(story, Sender.CLIENT).payload)),
        "message": show(call_bytes.sctp(message.payload)),
        "sack": show(call_bytes.sctp(story.sctp_with(3).payload)),
        "goodbye": show(call_bytes.rtcp(story.of(Kind.RTCP)[-1].plain)),
    }


def _with_chunk(story: Story, sender: Sender) -> OpenedRecord:
    """Return the first record whose packet has a DATA_CHANNEL_OPEN in it."""
    return story.record(
        lambda each: (
            each.content_type is ContentType.APPLICATION_DATA and b"\x03\x00\x01\x00\0\0\0\0" in each.payload
        ),
        sender,
    )


def fill(page: str, found: dict[str, str]) -> str:
    """Return a page with its blocks written; `KeyError` for a name that there is not."""

    def block(match: re.Match[str]) -> str:
        name, text = match[1], found[match[1]]
        body = text if text.startswith("|") else f"```text\n{text}\n```"
        return f"<!-- bytes: {name} -->\n\n{body}\n\n<!-- end -->"

    return MARK.sub(block, page)


if __name__ == "__main__":
    FOUND = blocks(Story(RecordedCall.load()))
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(fill(path.read_text("utf-8"), FOUND), "utf-8")
