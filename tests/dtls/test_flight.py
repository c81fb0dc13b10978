from __future__ import annotations

from random import Random

import pytest

from stack.core.counters import Counters
from stack.dtls.flight import MAX_SENT_RECORDS, Flight, FlightMessage
from stack.dtls.handshake_layer import HandshakeLayer
from stack.dtls.keys13 import Keys13
from stack.dtls.messages13 import Ack
from stack.dtls.reassembly import HEADER_LENGTH, Fragment
from stack.dtls.record import ContentType, Record, RecordLayer, RecordNumber
from stack.dtls.suites import SUITES, CipherSuite, Version

SUITE = SUITES[CipherSuite.TLS_AES_128_GCM_SHA256]


def layers() -> tuple[RecordLayer, RecordLayer]:
    """A writer and a reader with epochs 0 and 2 of 1.3."""
    writer, reader = RecordLayer(Counters()), RecordLayer(Counters())
    for records in (writer, reader):
        records.set_version(Version.DTLS_1_3)
    keys = Keys13(SUITE, b"secret", b"hash")
    writer.install_write_epoch(2, keys.protection(keys.server_handshake))
    reader.install_read_epoch(2, keys.protection(keys.server_handshake))
    return writer, reader


def flight(sizes: list[tuple[int, int]]) -> Flight:
    result, random = Flight(), Random(1)
    for seq, (size, epoch) in enumerate(sizes):
        result.add(FlightMessage(11, seq, random.randbytes(size), epoch))
    return result


def records_of(reader: RecordLayer, datagrams: list[bytes]) -> list[Record]:
    return [record for data in datagrams for record in reader.open(data, 0.0)]


SIZES = [(1300, 0), (40, 2), (0, 2), (700, 2), (75, 2), (32, 2)]


@pytest.mark.parametrize("mtu", [228, 256, 500, 1200, 1472])
def test_datagrams_are_full_but_never_too_long(mtu: int) -> None:
    writer, reader = layers()
    datagrams = flight(SIZES).pack(writer, mtu)
    assert max(map(len, datagrams)) <= mtu
    # A datagram that is followed by another had no room for a header and one byte more.
    for data in datagrams[:-1]:
        assert mtu - len(data) <= writer.overhead(2) + HEADER_LENGTH
    received: dict[int, bytearray] = {}
    for record in records_of(reader, datagrams):
        for fragment in Fragment.parse_all(record.payload):
            body = received.setdefault(fragment.message_seq, bytearray())
            assert fragment.offset == len(body)
            body += fragment.body
    assert [len(received[seq]) for seq in range(len(SIZES))] == [size for size, _ in SIZES]


def test_records_of_both_epochs_share_a_datagram() -> None:
    writer, reader = layers()
    (datagram,) = flight([(100, 0), (100, 2)]).pack(writer, 1200)
    assert [record.number.epoch for record in records_of(reader, [datagram])] == [0, 2]


@pytest.mark.parametrize("seed", range(8))
def test_only_what_was_not_acknowledged_is_sent_again(seed: int) -> None:
    random = Random(seed)
    writer, reader = layers()
    outgoing = flight(SIZES)
    remaining = sum(size for size, _ in SIZES)
    for _ in range(40):
        records = records_of(reader, outgoing.pack(writer, random.choice((228, 300, 1200))))
        if not records:
            break
        lengths = sum(len(f.body) for record in records for f in Fragment.parse_all(record.payload))
        assert lengths == remaining
        acknowledged = random.sample(records, max(1, len(records) // 3))
        for record in acknowledged:
            outgoing.acknowledge(record.number)
        remaining = lengths - sum(len(f.body) for r in acknowledged for f in Fragment.parse_all(r.payload))
    assert outgoing.is_acknowledged
    assert outgoing.pending_epochs() == set()


def test_old_records_are_forgotten_and_their_acks_change_nothing() -> None:
    writer, reader = layers()
    outgoing = flight([(1000, 2)])
    first = records_of(reader, outgoing.pack(writer, 228))
    while len(first) < MAX_SENT_RECORDS + 5:
        first += records_of(reader, outgoing.pack(writer, 228))
    outgoing.acknowledge(first[0].number)
    outgoing.acknowledge(RecordNumber(7, 7))
    again = records_of(reader, outgoing.pack(writer, 1472))
    assert sum(len(f.body) for record in again for f in Fragment.parse_all(record.payload)) == 1000


def test_a_part_of_a_flight_is_acknowledged_after_a_quarter_of_the_timeout() -> None:
    layer = HandshakeLayer(1200, 0.4, 1 << 16, Counters())
    layer.records.set_version(Version.DTLS_1_3)
    payload = Fragment(11, 100, 0, 0, bytes(50)).serialize()
    for sequence in (5, 3):
        layer.receive_fragments(Record(ContentType.HANDSHAKE, payload, RecordNumber(0, sequence)), 1.0)
    assert layer.poll_timeout() == pytest.approx(1.1)
    layer.handle_timeout(1.1)
    (datagram,) = layer.drain_transmits()
    (record,) = RecordLayer(Counters()).open(datagram, 0.0)
    assert record.content_type == ContentType.ACK
    assert Ack.parse(record.payload) == Ack(((0, 3), (0, 5)))
    assert layer.poll_timeout() is None


def test_a_record_with_a_fragment_that_was_thrown_away_is_not_acknowledged() -> None:
    layer = HandshakeLayer(1200, 0.4, 1 << 16, Counters())
    layer.records.set_version(Version.DTLS_1_3)
    payload = Fragment(11, 4, 1000, 0, b"far!").serialize() + Fragment(11, 4, 0, 0, b"near").serialize()
    received = layer.receive_fragments(Record(ContentType.HANDSHAKE, payload, RecordNumber(0, 0)), 1.0)
    assert received.is_new
    message = layer.next_message()
    assert message is not None
    assert message.body == b"near"
    assert layer.poll_timeout() is None
    layer.send_ack()
    assert layer.drain_transmits() == []
