import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.sctp import Packet, build_packet
from stack.sctp.chunks import CookieAckChunk, CookieEchoChunk, DataChunk, SackChunk
from stack.sctp.packet import MAX_CHUNKS

CHUNKS = [SackChunk(1, 2), DataChunk(3, 4, 5, 6, 7, b"abc"), CookieAckChunk()]


def test_round_trip():
    packet = build_packet(5000, 5001, 0xDEADBEEF, [chunk.serialize() for chunk in CHUNKS])
    assert Packet.parse(packet) == Packet(5000, 5001, 0xDEADBEEF, CHUNKS)


def test_checksum_travels_least_significant_byte_first():
    packet = build_packet(5000, 5000, 1, [CookieAckChunk().serialize()])
    from scapy.layers.sctp import SCTP

    assert bytes(SCTP(packet[:8] + bytes(4) + packet[12:]))[:8] == packet[:8]
    rebuilt = SCTP(packet)
    rebuilt.chksum = None
    assert bytes(rebuilt)[:12] == packet[:12]


@pytest.mark.parametrize("at", [0, 4, 9, 13, 20])
def test_a_flipped_bit_is_noticed(at):
    packet = bytearray(build_packet(5000, 5001, 7, [chunk.serialize() for chunk in CHUNKS]))
    packet[at] ^= 0x10
    with pytest.raises(ParseError):
        Packet.parse(bytes(packet))


def test_zero_checksum_only_where_it_was_announced():
    packet = build_packet(1, 2, 3, [CookieAckChunk().serialize()], zero_checksum=True)
    assert packet[8:12] == bytes(4)
    with pytest.raises(ParseError):
        Packet.parse(packet)
    assert Packet.parse(packet, accept_zero_checksum=True).chunks == [CookieAckChunk()]
    with pytest.raises(ParseError):
        Packet.parse(packet[:8] + b"\0\0\0\1" + packet[12:], accept_zero_checksum=True)


def test_missing_padding_of_the_last_chunk_is_accepted():
    wire = CookieEchoChunk(b"abcde").serialize()
    packet = build_packet(1, 2, 3, [wire[:9]])
    assert Packet.parse(packet).chunks == [CookieEchoChunk(b"abcde")]


@pytest.mark.parametrize(
    "body", [b"", b"\x0b\0\0", b"\x0b\0\0\3", b"\x0b\0\0\x08", CookieAckChunk().serialize() * (MAX_CHUNKS + 1)]
)
def test_broken_framing(body):
    with pytest.raises(ParseError):
        Packet.parse(build_packet(1, 2, 3, [body]))


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_are_refused(data):
    for packet in (data, build_packet(1, 2, 3, [data])):
        try:
            parsed = Packet.parse(packet, accept_zero_checksum=True)
        except ParseError:
            continue
        assert parsed.chunks
