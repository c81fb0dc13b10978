"""Wire objects register themselves: one more is one more class, and no other file changes."""

import inspect
from dataclasses import dataclass

import pytest

from stack.core.errors import LocalError, ParseError
from stack.sctp import Packet, build_packet, dcep
from stack.sctp.chunks import CHUNK_PARSERS, ErrorChunk, InitChunk, ReconfigChunk, UnknownChunk, parse_chunk
from stack.sctp.chunks.causes import ERROR_CAUSES, RegisteredCause, UnknownCause, register_cause
from stack.sctp.chunks.init_parameters import INIT_PARAMETERS, register_init_parameter
from stack.sctp.chunks.reconfig import RECONFIG_PARAMETERS, DeniedRequest, register_reconfig_parameter
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import RawParameter, build_chunk, build_parameter
from stack.sctp.procedures import HANDLERS
from stack.sctp.procedures.handlers import handles
from tests.sim.sctp import make_associations

EVERY_TABLE = (CHUNK_PARSERS, INIT_PARAMETERS, RECONFIG_PARAMETERS, ERROR_CAUSES, HANDLERS)


@pytest.fixture(autouse=True)
def as_before():
    """Take out again what a test registers."""
    before = [dict(table) for table in EVERY_TABLE]
    yield
    for table, entries in zip(EVERY_TABLE, before, strict=True):
        table.clear()
        table.update(entries)


@dataclass(frozen=True)
class EchoChunk:
    """Invented: 0x9E is skipped by those that do not know it."""

    text: bytes

    @classmethod
    def parse(cls, flags, value):
        if not value:
            raise ParseError("an ECHO without text")
        return cls(value)

    def serialize(self):
        return build_chunk(0x9E, 0, self.text)


def test_a_chunk():
    wire = build_packet(5000, 5000, 7, [EchoChunk(b"hey").serialize()])
    assert Packet.parse(wire).chunks == [UnknownChunk(0x9E, 0, b"hey")]
    register_chunk(0x9E)(EchoChunk)
    assert Packet.parse(wire).chunks == [parse_chunk(0x9E, 0, b"hey")] == [EchoChunk(b"hey")]
    with pytest.raises(ParseError):
        parse_chunk(0x9E, 0, b"")


def test_what_an_association_does_with_a_chunk():
    register_chunk(0x9E)(EchoChunk)

    @handles(EchoChunk)
    def answer(tcb, chunk, now):
        tcb.bundler.queue_control(EchoChunk(b"re: " + chunk.text).serialize())

    pair = make_associations()
    wire = build_packet(5000, 5000, pair.b._tcb.local.tag, [EchoChunk(b"hey").serialize()])
    pair.b.handle_datagram(wire, pair.now)
    (packet,) = pair.b.drain_transmits()
    assert Packet.parse(packet, accept_zero_checksum=True).chunks == [EchoChunk(b"re: hey")]


def test_a_chunk_that_is_registered_and_has_no_handler_is_out_of_place():
    register_chunk(0x9E)(EchoChunk)
    pair = make_associations()
    wire = build_packet(5000, 5000, pair.b._tcb.local.tag, [EchoChunk(b"hey").serialize()])
    pair.b.handle_datagram(wire, pair.now)
    assert pair.b.counters["sctp.dropped_chunk_out_of_place"] == 1


def test_a_parameter_of_init():
    @register_init_parameter
    @dataclass(frozen=True)
    class Colour:
        parameter_type = 0xC0FF
        name: bytes

        @classmethod
        def parse(cls, value):
            if not value:
                raise ParseError("no colour")
            return cls(value)

        def serialize(self):
            return build_parameter(self.parameter_type, self.name)

    def parsed(*parameters):
        wire = InitChunk(1, 2, 3, 4, 5, parameters).serialize()
        return parse_chunk(wire[0], wire[1], wire[4 : int.from_bytes(wire[2:4], "big")])

    init = parsed(RawParameter(0xC0FF, b"red"), RawParameter(0xC0FE, b""))
    assert init.find(Colour) == Colour(b"red")
    assert [each.parameter_type for each in init.unrecognized()] == [0xC0FE]
    assert parsed(RawParameter(0xC0FF, b"")).find(Colour) is None, "a value that it cannot read stays raw"


def test_a_parameter_of_reconfig_and_a_cause():
    @register_reconfig_parameter
    class Shuffle(DeniedRequest):
        parameter_type = 99

    assert ReconfigChunk.parse(0, b"\0\x63\0\x08\0\0\0\7") == ReconfigChunk((Shuffle(7),))

    error = b"\0\x63\0\x06hm"
    assert ErrorChunk.parse(0, error) == ErrorChunk((UnknownCause(99, b"hm"),))

    @register_cause
    class TooManyStreams(RegisteredCause):
        code = 99
        name = "too_many_streams"

    (cause,) = ErrorChunk.parse(0, error).causes
    assert (cause, str(cause)) == (TooManyStreams(b"hm"), "too many streams")


def test_a_number_is_taken_once():
    with pytest.raises(LocalError, match="registered already"):
        register_chunk(0)(EchoChunk)
    register_chunk(0x9E)(EchoChunk)
    handles(EchoChunk)(lambda tcb, chunk, now: None)
    with pytest.raises(LocalError, match=r"EchoChunk.*registered already"):
        handles(EchoChunk)(lambda tcb, chunk, now: None)


def registered_classes():
    parsers = [*CHUNK_PARSERS.values(), *INIT_PARAMETERS.values(), *RECONFIG_PARAMETERS.values()]
    classes = {parser.__self__ for parser in parsers if inspect.ismethod(parser)}
    parsed = sorted(classes, key=lambda cls: cls.__name__)  # the same order in every process
    return [*parsed, *ERROR_CAUSES.values(), UnknownChunk, dcep.DataChannelOpen, dcep.DataChannelAck]


@pytest.mark.parametrize("wire_object", registered_classes(), ids=lambda cls: cls.__name__)
def test_every_wire_object_shows_its_layout(wire_object):
    """The RFCs' own bit ruler, with as many columns as there are bits."""
    lines = [line.strip() for line in inspect.getdoc(wire_object).splitlines()]
    ruler = next(line for line in lines if line.startswith("0 1 2 3"))
    rows = [line for line in lines if line[:1] in ("+", "|", "\\")]
    assert len(rows) >= 3
    assert {len(row) for row in rows} == {len(ruler) + 2}
