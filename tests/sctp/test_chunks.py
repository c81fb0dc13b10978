from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.sctp.chunks import (
    CHUNK_PARSERS,
    AbortChunk,
    Capabilities,
    CookieAckChunk,
    CookieEchoChunk,
    DataChunk,
    ErrorChunk,
    ForwardTsnChunk,
    HeartbeatAckChunk,
    HeartbeatChunk,
    IDataChunk,
    IForwardTsnChunk,
    InitAckChunk,
    InitChunk,
    ReconfigChunk,
    SackChunk,
    ShutdownAckChunk,
    ShutdownChunk,
    ShutdownCompleteChunk,
    Skip,
    UnknownChunk,
    parse_chunk,
)
from stack.sctp.chunks.causes import (
    InvalidStreamIdentifierCause,
    NoUserDataCause,
    OutOfResourceCause,
    ProtocolViolationCause,
    StaleCookieCause,
    UnknownCause,
    UserInitiatedAbortCause,
)
from stack.sctp.chunks.data import DATA, FLAG_BEGIN, FLAG_END, FLAG_UNORDERED, I_DATA
from stack.sctp.chunks.forward import FORWARD_TSN, I_FORWARD_TSN
from stack.sctp.chunks.heartbeat import HEARTBEAT
from stack.sctp.chunks.init import INIT
from stack.sctp.chunks.init_parameters import StateCookieParameter, SupportedExtensionsParameter
from stack.sctp.chunks.reconfig import (
    RE_CONFIG,
    AddOutgoingStreamsRequest,
    IncomingSsnResetRequest,
    OutgoingSsnResetRequest,
    ReconfigResponse,
    SsnTsnResetRequest,
)
from stack.sctp.chunks.sack import SACK
from stack.sctp.chunks.shutdown import SHUTDOWN
from stack.sctp.chunks.tlv import RawParameter
from stack.sctp.procedures.handshake import parse_init


def reparse(wire):
    """What a serialized, padded chunk parses to."""
    length = int.from_bytes(wire[2:4], "big")
    assert len(wire) % 4 == 0
    assert len(wire) - length in range(4)
    assert not any(wire[length:]), "padding is zero"
    return parse_chunk(wire[0], wire[1], wire[4:length])


CHUNKS = [
    DataChunk(FLAG_BEGIN | FLAG_END, 0xFFFFFFFF, 3, 65535, 51, b"hello"),
    DataChunk(FLAG_UNORDERED, 1, 65534, 0, 53, b"x"),
    IDataChunk(FLAG_BEGIN, 7, 2, 0xFFFFFFFF, 51, 0, b"first"),
    IDataChunk(FLAG_END | FLAG_UNORDERED, 8, 2, 9, 0, 17, b"last one"),
    SackChunk(5, 1000),
    SackChunk(5, 1000, ((2, 3), (5, 65535)), (4, 4, 0xFFFFFFFF)),
    InitChunk(1, 2, 3, 4, 5),
    InitAckChunk(1, 2, 3, 4, 5, (StateCookieParameter(b"cookie!"), SupportedExtensionsParameter(b"\x82\xc0"))),
    HeartbeatChunk(b"information"),
    HeartbeatAckChunk(b""),
    AbortChunk(),
    AbortChunk((ProtocolViolationCause(b"no"), NoUserDataCause.of(9)), reflected=True),
    ErrorChunk((InvalidStreamIdentifierCause.of(65535), StaleCookieCause.of(1.5), UnknownCause(999, b"?"))),
    ShutdownChunk(77),
    ShutdownAckChunk(),
    ShutdownCompleteChunk(),
    ShutdownCompleteChunk(reflected=True),
    CookieEchoChunk(b"abc"),
    CookieAckChunk(),
    ForwardTsnChunk(9, (Skip(1, 65535), Skip(2, 0))),
    IForwardTsnChunk(9, (Skip(1, 0xFFFFFFFF, True), Skip(2, 0))),
    ReconfigChunk((OutgoingSsnResetRequest(1, 2, 3, (4, 5, 6)), ReconfigResponse(7, 1))),
    ReconfigChunk((IncomingSsnResetRequest(1, (2,)),)),
    ReconfigChunk((SsnTsnResetRequest(1), AddOutgoingStreamsRequest(2, b"\0\1\0\0"))),
    UnknownChunk(0xFE, 3, b"what"),
]


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: type(chunk).__name__)
def test_round_trip(chunk):
    parsed = reparse(chunk.serialize())
    assert parsed == chunk
    assert type(parsed) is type(chunk)


def test_data_on_the_wire():
    wire = DataChunk(0x0F, 0x01020304, 5, 6, 51, b"abc").serialize()
    assert wire.hex() == "000f0013" + "01020304" + "00050006" + "00000033" + "61626300"


def test_i_data_carries_ppid_first_and_fsn_later():
    first = IDataChunk(FLAG_BEGIN, 1, 2, 3, 51, 0, b"abcd").serialize()
    later = IDataChunk(0, 1, 2, 3, 0, 4, b"abcd").serialize()
    assert first.hex() == "40020018" + "00000001" + "00020000" + "00000003" + "00000033" + "61626364"
    assert later.hex() == "40000018" + "00000001" + "00020000" + "00000003" + "00000004" + "61626364"


def test_init_of_chromium():
    """An `a=sctp-init` of Chromium 156: 5 MiB of window, RE-CONFIG and FORWARD-TSN, trailing padding excluded."""
    init = parse_init(b64decode("AQAAHqXTF4MAUAAA/////7WEcU/AAAAEgAgABoLA"))
    assert init.a_rwnd == 5 << 20
    assert (init.outbound_streams, init.inbound_streams) == (65535, 65535)
    assert init.capabilities == Capabilities(partial_reliability=True, reconfiguration=True)


@pytest.mark.parametrize("announced", [Capabilities(), Capabilities(True, True, True, True), Capabilities(True)])
def test_capabilities_round_trip(announced):
    assert Capabilities.from_parameters(announced.parameters()) == announced


def test_only_what_both_have_is_in_force():
    ours, theirs = Capabilities(True, True, True, False), Capabilities(True, False, True, True)
    assert ours.common(theirs) == Capabilities(True, False, True, False)


def test_unknown_parameters_are_reported_as_their_highest_bits_say():
    init = InitChunk(
        1, 2, 3, 4, 5, tuple(RawParameter(kind, b"") for kind in (0xC123, 0x8123, 0xC000, 0x4123, 0xC124))
    )
    assert [parameter.parameter_type for parameter in init.unrecognized()] == [0xC123, 0x4123]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DATA, bytes(11)),
        (I_DATA, bytes(15)),
        (SACK, bytes(11)),
        (SACK, bytes(8) + b"\0\1\0\0"),
        (SACK, bytes(8) + b"\0\2\0\0" + b"\0\5\0\6" + b"\0\6\0\7"),
        (SACK, bytes(8) + b"\0\1\0\0" + b"\0\0\0\6"),
        (INIT, bytes(15)),
        (INIT, bytes(16) + b"\0\7\0\3"),
        (HEARTBEAT, b""),
        (SHUTDOWN, bytes(3)),
        (FORWARD_TSN, bytes(6)),
        (I_FORWARD_TSN, bytes(8)),
        (RE_CONFIG, b""),
        (RE_CONFIG, b"\0\x0d\0\x08" + bytes(4)),
    ],
)
def test_malformed_values(kind, value):
    with pytest.raises(ParseError):
        parse_chunk(kind, 0, value)


@given(st.sampled_from([*CHUNK_PARSERS, 99, 255]), st.integers(0, 255), st.binary(max_size=120))
def test_any_bytes_parse_or_are_refused(kind, flags, value):
    try:
        chunk = parse_chunk(kind, flags, value)
    except ParseError:
        return
    again = reparse(chunk.serialize())
    assert reparse(again.serialize()) == again


def test_cause_names():
    assert str(OutOfResourceCause()) == "out of resource"
    assert str(UserInitiatedAbortCause(b"bye")) == "user initiated abort: bye"
    assert str(UnknownCause(4711)) == "unknown"
