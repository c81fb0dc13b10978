"""Redundancy behind packets of nothing but padding, with which browsers probe the path."""

from __future__ import annotations

from itertools import count

import pytest

from stack.core.trace import Counters
from stack.rtp import PacketReceived, RtpCodec, RtpConfig, RtpPacket
from stack.rtp.packet import RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp.receiver import RtpReceiver
from stack.rtp.red import RedEncoder

OPUS, RED, TICKS = 111, 63, 960
CONFIG = RtpConfig(ssrc=1, cname="a", codecs=(RtpCodec(OPUS, "opus", 48_000),), red_payload_type=RED)


def stream(frames: int, padding: int, depth: int) -> list[tuple[int | None, RtpPacket]]:
    """Frames by their index, each followed by so many packets of padding (None)."""
    numbers, encoder, out = count(100), RedEncoder(), []
    for index in range(frames):
        at = RtpTimestamp(TICKS * index)
        payload = encoder.encode(OPUS, at, b"sound%d" % index, depth).serialize()
        out.append((index, RtpPacket(RED, SequenceNumber(next(numbers)), at, Ssrc(7), payload)))
        for _ in range(padding):
            out.append((None, RtpPacket(OPUS, SequenceNumber(next(numbers)), at, Ssrc(7), b"")))
    return out


def heard(packets: list[RtpPacket]) -> list[PacketReceived]:
    receiver = RtpReceiver(CONFIG, Counters())
    for index, packet in enumerate(packets):
        receiver.handle_packet(packet, 0.005 * index)
    return [event for event in receiver.drain_events() if isinstance(event, PacketReceived) and event.payload]


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("lost", [{5}, {5, 9}, {5, 6}])
def test_a_lost_frame_is_found_across_padding(padding: int, lost: set[int]) -> None:
    kept = [packet for index, packet in stream(20, padding, 2) if index not in lost]
    sounds = heard(kept)
    assert [sound.payload for sound in sounds] == [b"sound%d" % index for index in range(20)]
    assert [sound.timestamp // TICKS for sound in sounds] == list(range(20))
    numbers = [sound.sequence for sound in sounds]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("padding", [1, 3])
def test_lost_padding_makes_nothing_sound_twice(padding: int) -> None:
    """A missing number before a frame is not the frame before it, if that one has come."""
    packets = [packet for index, packet in stream(20, padding, 2) if index is not None]
    assert [sound.payload for sound in heard(packets)] == [b"sound%d" % index for index in range(20)]


def test_the_frames_may_be_as_long_as_any_codecs() -> None:
    """RFC 3551 §4.2: 200 ms. What lies further back was put there across something else."""
    for ticks, found in ((1600, True), (1601, False)):
        config = RtpConfig(ssrc=1, cname="a", codecs=(RtpCodec(0, "pcmu", 8000),), red_payload_type=RED)
        receiver, encoder = RtpReceiver(config, Counters()), RedEncoder()
        for index in range(4):
            at = RtpTimestamp(ticks * index)
            payload = encoder.encode(0, at, b"sound%d" % index, 1).serialize()
            if index != 2:
                receiver.handle_packet(RtpPacket(RED, SequenceNumber(index), at, Ssrc(7), payload), 0.2 * index)
        sounds = [event.payload for event in receiver.drain_events() if isinstance(event, PacketReceived)]
        assert (b"sound2" in sounds) is found
