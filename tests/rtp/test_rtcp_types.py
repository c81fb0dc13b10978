"""The tables of RTCP: a type or a format of feedback is a class that registers itself and shows its bits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Self

import pytest

from stack.core.errors import LocalError, ParseError
from stack.core.wire import Reader, Writer
from stack.rtp import RtcpReceived, RtpTransport
from stack.rtp.rtcp import (
    Feedback,
    GenericNack,
    RawFeedback,
    RtcpPacket,
    UnknownPacket,
    parse_compound,
    register_feedback,
    register_packet,
)
from stack.rtp.rtcp import feedback as feedback_table
from stack.rtp.rtcp import header as packet_table
from stack.rtp.rtcp.feedback import PAYLOAD_FEEDBACK
from stack.rtp.rtcp.header import Frame, close_packet
from tests.sim.rtp import CONFIG

RULER = "0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1"
PLI = bytes.fromhex("81ce0002 00000001 00001111")


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (feedback_table, packet_table):
        monkeypatch.setattr(module, "_READERS", dict(module._READERS))


def test_a_new_format_of_feedback_is_one_class_and_is_handed_up() -> None:
    """PLI (RFC 4585 §6.3.1), as a file of its own would hold it."""
    transport = RtpTransport((CONFIG,), random.Random(1).randbytes, 0.0)
    assert parse_compound(PLI) == [RawFeedback(206, 1, 1, 0x1111, b"")]
    transport.handle_rtcp(PLI, 0.0)
    assert transport.counters["rtp.dropped_rtcp_not_understood"] == 1

    @register_feedback
    @dataclass(frozen=True, slots=True)
    class PictureLossIndication(Feedback):
        TYPE = PAYLOAD_FEEDBACK
        FORMAT = 1

        @classmethod
        def read_fci(cls, sender_ssrc: int, media_ssrc: int, fci: Reader) -> Self:
            fci.expect_end("PLI")
            return cls(sender_ssrc, media_ssrc)

        def write_fci(self, fci: Writer) -> None:
            pass

    indication = PictureLossIndication(1, 0x1111)
    assert parse_compound(PLI) == [indication]
    assert indication.serialize() == PLI
    assert PictureLossIndication.parse(PLI) == indication
    transport.handle_rtcp(PLI, 0.0)
    assert transport.drain_events() == [RtcpReceived(indication)]
    assert transport.counters["rtp.dropped_rtcp_not_understood"] == 1
    transport.handle_rtcp(bytes.fromhex("81ce0003 00000001 00001111 00000000"), 0.0)
    assert transport.counters["rtp.dropped_malformed_rtcp"] == 1
    with pytest.raises(ParseError):
        PictureLossIndication.parse(GenericNack(1, 2, (3,)).serialize())
    with pytest.raises(LocalError, match="registered already"):
        register_feedback(PictureLossIndication)


def test_a_new_packet_type_is_one_class_and_is_handed_up() -> None:
    """Type 209 is not assigned."""
    data = bytes.fromhex("80d10001 00000007")
    transport = RtpTransport((CONFIG,), random.Random(1).randbytes, 0.0)
    assert parse_compound(data) == [UnknownPacket(209, 0, b"\0\0\0\7")]
    transport.handle_rtcp(data, 0.0)
    assert (transport.counters["rtp.dropped_rtcp_not_understood"], list(transport.drain_events())) == (1, [])

    @register_packet
    @dataclass(frozen=True, slots=True)
    class Invented(RtcpPacket):
        ssrc: int

        TYPE = 209

        @classmethod
        def read(cls, frame: Frame) -> Self:
            return cls(frame.body.u32())

        def serialize(self) -> bytes:
            return close_packet(0, self.TYPE, Writer().u32(self.ssrc))

    transport.handle_rtcp(data, 0.0)
    assert transport.drain_events() == [RtcpReceived(Invented(7))]
    assert Invented(7).serialize() == data


def test_every_packet_of_the_package_is_registered_and_shows_its_bits() -> None:
    readers = (*packet_table._READERS.values(), *feedback_table._READERS.values())
    registered = {getattr(read, "__self__", None) for read in readers} - {None}
    children = {*RtcpPacket.__subclasses__(), *Feedback.__subclasses__()}
    kinds = {kind.__name__ for kind in children if kind.__module__.startswith("stack.rtp.rtcp.")}
    assert kinds - {"Feedback", "RawFeedback", "UnknownPacket"} == {kind.__name__ for kind in registered}
    for kind in registered:
        module = __import__(kind.__module__, fromlist=["__doc__"])
        assert RULER in f"{kind.__doc__}{module.__doc__}", f"{kind.__name__} shows no bits"
