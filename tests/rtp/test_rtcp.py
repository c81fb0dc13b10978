"""RTCP packets: by hand, both ways, in compounds, from aiortc, and out of hostile bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.rtp.rtcp import (
    ApplicationDefined,
    Dlrr,
    DlrrEntry,
    ExtendedReport,
    GenericNack,
    Goodbye,
    RawBlock,
    RawFeedback,
    ReceiverReferenceTime,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SenderReport,
    SourceDescription,
    TransportWideFeedback,
    UnknownPacket,
    parse_compound,
    serialize_compound,
)

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
words = st.integers(0, 5).flatmap(lambda count: st.binary(min_size=4 * count, max_size=4 * count))
blocks = st.lists(
    st.builds(ReportBlock, u32, u8, st.integers(-0x800000, 0x7FFFFF), u32, u32, u32, u32), max_size=31
).map(tuple)


@st.composite
def arrivals(draw: st.DrawFn) -> TransportWideFeedback:
    offsets = sorted(draw(st.sets(st.integers(0, 300), min_size=1, max_size=60)))
    clock = draw(st.integers(-0x800000 * 256, 0x7FFF00 * 256))
    pairs = []
    for offset in offsets:
        pairs.append((offset, clock))
        clock += draw(st.integers(0, 300) | st.integers(-0x8000, 0x7FFF))
    # Keep the reference time, the first arrival rounded down, within its 24 bits.
    return TransportWideFeedback(draw(u32), draw(u32), draw(u16), offsets[-1] + 1, draw(u8), tuple(pairs))


sdes_items = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=20)), max_size=3).map(tuple)
packets: st.SearchStrategy[RtcpPacket] = st.one_of(
    st.builds(SenderReport, u32, u64, u32, u32, u32, blocks),
    st.builds(ReceiverReport, u32, blocks),
    st.builds(
        SourceDescription,
        st.lists(
            st.builds(
                SdesChunk,
                u32,
                st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=20)), max_size=3).map(tuple),
            ),
            max_size=4,
        ).map(tuple),
    ),
    st.builds(Goodbye, st.lists(u32, max_size=5).map(tuple), st.text("abc é", max_size=20)),
    st.builds(ApplicationDefined, st.integers(0, 31), u32, st.binary(min_size=4, max_size=4), words),
    st.builds(
        GenericNack,
        u32,
        u32,
        st.lists(st.integers(0, 400), unique=True, max_size=40).map(lambda numbers: tuple(sorted(numbers))),
    ),
    arrivals(),
    st.builds(RawFeedback, st.just(206), st.integers(0, 31), u32, u32, words),
    st.builds(RawFeedback, st.just(205), st.integers(16, 31), u32, u32, words),
    st.builds(
        ExtendedReport,
        u32,
        st.lists(
            st.builds(ReceiverReferenceTime, u64)
            | st.builds(Dlrr, st.lists(st.builds(DlrrEntry, u32, u32, u32), max_size=3).map(tuple))
            | st.builds(RawBlock, st.integers(6, 255), u8, words),
            max_size=4,
        ).map(tuple),
    ),
    st.builds(UnknownPacket, st.integers(208, 223), st.integers(0, 31), words),
)


@given(st.lists(packets, min_size=1, max_size=4))
@settings(max_examples=150)
def test_what_is_written_is_read(compound: list[RtcpPacket]) -> None:
    assert parse_compound(serialize_compound(compound)) == compound
    for packet in compound:
        assert type(packet).parse(packet.serialize()) == packet


def test_a_sender_report_by_hand() -> None:
    data = bytes.fromhex(
        "81c8000c 00000001 83aa7e80 80000000 0000bb80 00000032 00001f40"
        "00000002 40ffffff 00010005 0000000a 7e808000 00010000"
    )
    report = SenderReport(
        1, 0x83AA7E80_80000000, 48000, 50, 8000, (ReportBlock(2, 64, -1, 0x10005, 10, 0x7E808000, 65536),)
    )
    assert parse_compound(data) == [report]
    assert report.serialize() == data


def test_a_nack_by_hand() -> None:
    """RFC 4585 §6.2.1: 100, 101 and 116 share an entry; 117 needs another, also across the wrap."""
    nack = GenericNack(1, 2, (100, 101, 116, 117))
    assert nack.serialize() == bytes.fromhex("81cd0004 00000001 00000002 00648001 00750000")
    assert GenericNack.parse(GenericNack(1, 2, (0xFFFF, 0, 3)).serialize()).lost == (0xFFFF, 0, 3)


def test_transport_wide_feedback_by_hand() -> None:
    """A vector of two-bit statuses 1 1 0 2 1: small deltas, a loss, and a delta back in time."""
    data = bytes.fromhex("8fcd0006 00000001 00000002 000a0005 00000207 d490 04 0a fff6 02 00")
    feedback = TransportWideFeedback.parse(data)
    base = 2 * 256
    assert feedback.arrivals == ((0, base + 4), (1, base + 14), (3, base + 4), (4, base + 6))
    assert feedback.received == (10, 11, 13, 14)
    assert (feedback.status_count, feedback.feedback_count) == (5, 7)
    assert feedback.serialize() == data


def test_long_runs_of_loss_are_short_on_the_wire_and_cheap_to_read() -> None:
    sparse = TransportWideFeedback(1, 2, 0, 20_001, 0, ((0, 0), (20_000, 100)))
    assert len(sparse.serialize()) < 40
    assert TransportWideFeedback.parse(sparse.serialize()) == sparse
    only_lost = bytes.fromhex("8fcd0008 00000001 00000002 0000fff8 00000000" + 8 * "1fff")
    assert TransportWideFeedback.parse(only_lost).arrivals == ()


def test_a_run_cannot_promise_more_arrivals_than_the_packet_holds() -> None:
    with pytest.raises(ParseError):
        TransportWideFeedback.parse(bytes.fromhex("8fcd0005 00000001 00000002 0000fff8 00000000 3fff0000"))


@pytest.mark.parametrize(
    ("data", "base", "received"),
    [
        # Captured from Chromium 156 and Firefox ESR 153: a few bytes of padding to fill the last word.
        ("afcd000624c825755b01463e0000000300ddba002003464c51000003", 0, (0, 1, 2)),
        ("afcd000624c825755b01463e0047000500ddd0132005c11565384301", 0x47, (0x47, 0x48, 0x49, 0x4A, 0x4B)),
        ("afcd00053f3cca18a651cce5000000010010680020016c01", 0, (0,)),
        ("afcd00063f3cca18a651cce500010004001069012004120014410002", 1, (1, 2, 3, 4)),
    ],
)
def test_transport_wide_feedback_of_browsers(data: str, base: int, received: tuple[int, ...]) -> None:
    (feedback,) = parse_compound(bytes.fromhex(data))
    assert isinstance(feedback, TransportWideFeedback)
    assert (feedback.base_sequence, feedback.received) == (base, received)
    # Ours does not carry the padding bit, and is otherwise the same.
    assert feedback.serialize()[1:-1] == bytes.fromhex(data)[1:-1]


def test_a_delta_that_does_not_fit_is_our_own_fault() -> None:
    with pytest.raises(LocalError):
        TransportWideFeedback(1, 2, 0, 2, 0, ((0, 0), (1, 0x8000))).serialize()
    with pytest.raises(LocalError):
        TransportWideFeedback(1, 2, 0, 2, 0, ()).serialize()


def test_a_compound_may_begin_with_feedback_and_end_with_padding() -> None:
    """RFC 5506, and RFC 3550 §6.4.1 for the padding."""
    nack = GenericNack(1, 2, (3,))
    bye = bytearray(Goodbye((9,)).serialize() + b"\0\0\0\4")
    bye[0] |= 0x20
    bye[3] += 1
    assert parse_compound(nack.serialize() + bytes(bye)) == [nack, Goodbye((9,))]
    with pytest.raises(ParseError):
        parse_compound(bytes(bye) + nack.serialize())


@pytest.mark.parametrize(
    "data",
    [
        "",
        "80c900",
        "80c90001",  # longer than the datagram
        "40c9000100000001",  # version 1
        "81c9000100000001",  # a report block is promised
        "81ca0001000000010105",  # trailing bytes that are no packet
        "81ca000200000001010561626300"[:24],  # an item longer than its chunk
        "82cb000100000001",  # a second SSRC is promised
        "a0c9000100000000",  # padding of zero
        "8fcd000400000001000000020000000100000000",  # no status chunk
        "80cf0002000000010400000200000000"[:24],  # an XR block longer than the packet
    ],
)
def test_malformed_compounds_are_refused(data: str) -> None:
    with pytest.raises(ParseError):
        parse_compound(bytes.fromhex(data))


@given(st.binary(max_size=100))
def test_hostile_bytes(data: bytes) -> None:
    try:
        parse_compound(data)
    except ParseError:
        return
    assert len(data) % 4 == 0


@given(packets, st.data())
@settings(max_examples=200)
def test_a_damaged_packet_is_read_or_refused(packet: RtcpPacket, data: st.DataObject) -> None:
    damaged = bytearray(packet.serialize())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(u8)
    try:
        assert parse_compound(bytes(damaged))
    except ParseError:
        assert True


def test_cname() -> None:
    (chunk,) = SourceDescription.for_cname(7, "someone").chunks
    assert (chunk.ssrc, chunk.cname) == (7, "someone")
    assert SdesChunk(7, ()).cname is None


@pytest.mark.peer
def test_aiortc_reads_what_we_write_and_we_read_what_it_writes() -> None:
    rtp = pytest.importorskip("aiortc.rtp")
    block = ReportBlock(2, 64, 5, 0x10005, 10, 0x7E808000, 65536)
    ours: list[RtcpPacket] = [
        SenderReport(1, 1 << 63, 48000, 50, 8000, (block,)),
        SourceDescription.for_cname(1, "voice"),
        GenericNack(1, 2, (10, 12, 40)),
        Goodbye((1,)),
    ]
    theirs = rtp.RtcpPacket.parse(serialize_compound(ours))
    assert [type(packet).__name__ for packet in theirs] == [
        "RtcpSrPacket",
        "RtcpSdesPacket",
        "RtcpRtpfbPacket",
        "RtcpByePacket",
    ]
    assert theirs[0].reports[0].packets_lost == 5
    assert theirs[0].sender_info.ntp_timestamp == 1 << 63
    assert theirs[2].lost == [10, 12, 40]
    assert parse_compound(b"".join(bytes(packet) for packet in theirs)) == ours
