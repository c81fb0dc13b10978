import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.core.header_extensions import URI_ABS_SEND_TIME, URI_AUDIO_LEVEL, URI_MID, URI_TRANSPORT_CC
from stack.core.serial import RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp import AudioLevel, ExtensionIds, ExtensionMap, HeaderExtensions, RtpPacket

packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence_number=st.integers(0, 0xFFFF).map(SequenceNumber),
    timestamp=st.integers(0, 0xFFFFFFFF).map(RtpTimestamp),
    ssrc=st.integers(0, 0xFFFFFFFF).map(Ssrc),
    payload=st.binary(max_size=50),
    marker=st.booleans(),
    csrcs=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    padding=st.integers(0, 255),
)
extended = st.tuples(packets, st.integers(0, 0xFFFF), st.integers(0, 8))


def test_a_packet_written_by_hand() -> None:
    data = bytes.fromhex("b1ef0102 03040506 0708090a 0b0c0d0e bede0001 10aa0000 736f756e64 000003")
    packet = RtpPacket.parse(data)
    assert (packet.payload_type, packet.marker, packet.sequence_number) == (0x6F, True, 0x0102)
    assert (packet.timestamp, packet.ssrc, packet.csrcs) == (0x03040506, 0x0708090A, (0x0B0C0D0E,))
    assert (packet.extension_profile, packet.extension_data) == (0xBEDE, bytes.fromhex("10aa0000"))
    assert (packet.payload, packet.padding) == (b"sound", 3)
    assert packet.serialize() == data


@given(packets)
def test_what_is_written_is_read(packet: RtpPacket) -> None:
    assert RtpPacket.parse(packet.serialize()) == packet


@given(extended)
def test_what_is_written_is_read_with_an_extension(parts: tuple[RtpPacket, int, int]) -> None:
    packet, packet.extension_profile, words = parts
    packet.extension_data = bytes(range(4 * words))
    assert RtpPacket.parse(packet.serialize()) == packet


@given(st.binary(max_size=80))
def test_hostile_bytes_are_a_packet_or_a_parse_error(data: bytes) -> None:
    try:
        packet = RtpPacket.parse(data)
    except ParseError:
        return
    assert len(packet.serialize()) == len(data)


@given(packets, st.integers(0, 60))
def test_a_cut_packet_never_reads_past_its_end(packet: RtpPacket, cut: int) -> None:
    packet.padding = 0
    data = packet.serialize()
    header = 12 + 4 * len(packet.csrcs)
    if cut < header:
        with pytest.raises(ParseError):
            RtpPacket.parse(data[:cut])
    else:
        assert RtpPacket.parse(data[:cut]).payload == data[header:cut]


@pytest.mark.parametrize(
    "data",
    [
        "",
        "80",
        "406f00010000000000000001",  # version 1
        "816f00010000000000000001",  # a CSRC is promised
        "906f00010000000000000001",  # an extension is promised
        "906f00010000000000000001bede0001",  # its content is promised
        "a06f0001000000000000000100",  # padding of zero
        "a06f0001000000000000000102",  # more padding than packet
        "a06f00010000000000000001",  # padding with nothing to hold it
    ],
)
def test_malformed_packets_are_refused(data: str) -> None:
    with pytest.raises(ParseError):
        RtpPacket.parse(bytes.fromhex(data))


def test_fields_that_do_not_fit_are_our_own_fault() -> None:
    fine = RtpPacket.parse(bytes.fromhex("806f00010000000000000001"))
    fine.sequence_number = SequenceNumber(0x10000)
    with pytest.raises(LocalError):
        fine.serialize()
    with pytest.raises(LocalError):
        RtpPacket(0, SequenceNumber(0), RtpTimestamp(0), Ssrc(0), b"", csrcs=(0,) * 16).serialize()
    with pytest.raises(LocalError):
        RtpPacket(
            0, SequenceNumber(0), RtpTimestamp(0), Ssrc(0), b"", extension_profile=0xBEDE, extension_data=b"abc"
        ).serialize()


@pytest.mark.peer
def test_aiortc_reads_what_we_write_and_we_read_what_it_writes() -> None:
    rtp = pytest.importorskip("aiortc.rtp")
    parameters = pytest.importorskip("aiortc.rtcrtpparameters")
    uris = [URI_AUDIO_LEVEL, URI_ABS_SEND_TIME, URI_TRANSPORT_CC, URI_MID]
    mine = ExtensionMap(ExtensionIds(audio_level=1, abs_send_time=2, transport_sequence=3, mid=4))
    theirs_map = rtp.HeaderExtensionsMap()
    theirs_map.configure(
        parameters.RTCRtpParameters(
            headerExtensions=[
                parameters.RTCRtpHeaderExtensionParameters(id=number, uri=uri)
                for number, uri in enumerate(uris, start=1)
            ]
        )
    )
    wanted = HeaderExtensions(AudioLevel(30, True), "0", 77, 99)
    profile, extension = mine.serialize(wanted)
    ours = RtpPacket(
        111,
        SequenceNumber(7),
        RtpTimestamp(960),
        Ssrc(5),
        b"sound",
        True,
        (1, 2),
        extension_profile=profile,
        extension_data=extension,
    )
    theirs = rtp.RtpPacket.parse(ours.serialize(), theirs_map)
    assert (theirs.payload, theirs.sequence_number, theirs.marker, theirs.csrc) == (b"sound", 7, 1, [1, 2])
    assert theirs.extensions.audio_level == (True, 30)
    assert (theirs.extensions.mid, theirs.extensions.transport_sequence_number) == ("0", 77)
    back = RtpPacket.parse(theirs.serialize(theirs_map))
    assert mine.parse(back.extension_profile, back.extension_data) == wanted
    assert (back.payload, back.csrcs, back.timestamp) == (ours.payload, ours.csrcs, ours.timestamp)


@pytest.mark.peer
def test_scapy_reads_what_we_write() -> None:
    scapy = pytest.importorskip("scapy.layers.rtp")
    ours = RtpPacket(111, SequenceNumber(7), RtpTimestamp(960), Ssrc(5), b"sound", True, (1, 2))
    theirs = scapy.RTP(ours.serialize())
    assert (theirs.payload_type, theirs.sequence, theirs.timestamp, theirs.sourcesync) == (111, 7, 960, 5)
    assert (theirs.marker, theirs.sync, bytes(theirs.payload)) == (1, [1, 2], b"sound")
