import random

import pytest

from stack.core.errors import ParseError
from stack.core.serial import RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp import RtpPacket
from stack.rtp.rtx import RtxSender, unwrap


def test_a_packet_comes_out_as_it_went_in() -> None:
    sender = RtxSender(99, ((97, 111), (98, 63)), random.Random(1).randbytes)
    for payload_type, repeat in ((111, 97), (63, 98)):
        original = RtpPacket(payload_type, SequenceNumber(0xFFFE), RtpTimestamp(1234), Ssrc(7), b"sound", True)
        wrapped = sender.wrap(original, None, b"")
        assert wrapped is not None
        assert (wrapped.payload_type, wrapped.ssrc, wrapped.payload[:2]) == (repeat, 99, b"\xff\xfe")
        assert unwrap(RtpPacket.parse(wrapped.serialize()), payload_type, Ssrc(7)) == original


def test_the_line_of_its_own_goes_on() -> None:
    sender = RtxSender(99, ((97, 111),), lambda size: b"\xff" * size)
    original = RtpPacket(111, SequenceNumber(5), RtpTimestamp(0), Ssrc(7), b"")
    numbers = [
        wrapped.sequence_number for _ in range(3) if (wrapped := sender.wrap(original, None, b"")) is not None
    ]
    assert numbers == [0x7FFF, 0x8000, 0x8001]


def test_a_type_without_a_retransmission_type_is_not_wrapped() -> None:
    sender = RtxSender(99, ((97, 111),), random.Random(1).randbytes)
    assert sender.wrap(RtpPacket(0, SequenceNumber(5), RtpTimestamp(0), Ssrc(7), b""), None, b"") is None


def test_a_retransmission_of_nothing_is_malformed() -> None:
    with pytest.raises(ParseError):
        unwrap(RtpPacket(97, SequenceNumber(5), RtpTimestamp(0), Ssrc(9), b"\0"), 111, Ssrc(7))


@pytest.mark.peer
def test_aiortc_unwraps_what_we_wrap() -> None:
    rtp = pytest.importorskip("aiortc.rtp")
    sender = RtxSender(99, ((97, 111),), random.Random(1).randbytes)
    original = RtpPacket(111, SequenceNumber(500), RtpTimestamp(960), Ssrc(7), b"sound", True)
    wrapped = sender.wrap(original, None, b"")
    assert wrapped is not None
    theirs = rtp.unwrap_rtx(rtp.RtpPacket.parse(wrapped.serialize()), payload_type=111, ssrc=7)
    assert RtpPacket.parse(theirs.serialize()) == original
    again = rtp.wrap_rtx(theirs, payload_type=97, sequence_number=3, ssrc=99)
    assert unwrap(RtpPacket.parse(again.serialize()), 111, Ssrc(7)) == original
