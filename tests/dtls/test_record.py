from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.counters import Counters
from stack.dtls.alerts import DtlsFailure, HandshakeFailure
from stack.dtls.keys12 import Keys12
from stack.dtls.keys13 import Keys13
from stack.dtls.record import (
    MAX_DEFERRED_RECORDS,
    MAX_RECORDS_PER_DATAGRAM,
    REPLAY_WINDOW_SIZE,
    ContentType,
    Protection12,
    Protection13,
    Record,
    RecordLayer,
    RecordNumber,
)
from stack.dtls.suites import SUITES, CipherSuite, Version

DATA = ContentType.APPLICATION_DATA


def protection(suite: CipherSuite) -> Protection12 | Protection13:
    parameters = SUITES[suite]
    if parameters.version is Version.DTLS_1_2:
        return Keys12.derive(parameters, b"p", bytes(32), bytes(32), None).protections()[0]
    return Keys13(parameters, b"s", b"h").protection(bytes(parameters.hash_length))


def layer(suite: CipherSuite, epoch: int) -> RecordLayer:
    """A layer that reads what it writes."""
    records = RecordLayer(Counters())
    records.set_version(SUITES[suite].version)
    records.install_write_epoch(epoch, protection(suite))
    records.install_read_epoch(epoch, protection(suite))
    return records


def first_epoch(suite: CipherSuite) -> int:
    return 1 if SUITES[suite].version is Version.DTLS_1_2 else 3


def tally(records: RecordLayer, name: str) -> int:
    return records._counters[name]


@pytest.mark.parametrize("suite", list(CipherSuite))
def test_what_is_sealed_can_be_opened_once(suite: CipherSuite) -> None:
    epoch = first_epoch(suite)
    records = layer(suite, epoch)
    sealed = [records.seal(DATA, bytes([n]) * n, epoch) for n in range(1, 40)]
    datagram = b"".join(raw for _, raw in sealed)
    assert all(len(raw) == n + records.overhead(epoch) for n, (_, raw) in enumerate(sealed, 1))
    opened = list(records.open(datagram, 0.0))
    assert opened == [Record(DATA, bytes([n]) * n, RecordNumber(epoch, n - 1)) for n in range(1, 40)]
    assert list(records.open(datagram, 0.0)) == []
    assert tally(records, "dtls.dropped_record_replayed") == 39


@pytest.mark.parametrize("suite", list(CipherSuite))
def test_no_bit_of_a_record_may_be_changed(suite: CipherSuite) -> None:
    epoch = first_epoch(suite)
    records = layer(suite, epoch)
    _, raw = records.seal(DATA, b"hello", epoch)
    random = Random(1)
    for position in range(len(raw)):
        forged = bytearray(raw)
        forged[position] ^= 1 << random.randrange(8)
        assert list(records.open(bytes(forged), 0.0)) == []
    assert [record.payload for record in records.open(raw, 0.0)] == [b"hello"]


@given(start=st.integers(0, 1 << 40), steps=st.lists(st.integers(-200, 20_000), max_size=20))
def test_long_sequence_numbers_are_told_from_their_last_bits(start: int, steps: list[int]) -> None:
    suite = CipherSuite.TLS_AES_128_GCM_SHA256
    records = layer(suite, 3)
    sealer = protection(suite)
    # The window is brought near `start` in strides that 16 bits can follow.
    window = records._read[3].window
    window.accept(start)
    seen, number = {start}, start
    for step in steps:
        number = max(0, max(seen) + step)
        opened = list(records.open(sealer.seal(DATA, RecordNumber(3, number), b"x"), 0.0))
        if number in seen or number <= max(seen) - REPLAY_WINDOW_SIZE:
            assert opened == []
        else:
            assert [record.number.sequence for record in opened] == [number]
            seen.add(number)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("with_length", [False, True])
def test_every_form_of_the_unified_header_is_read(long: bool, with_length: bool) -> None:
    suite = CipherSuite.TLS_AES_128_GCM_SHA256
    records, sealer = layer(suite, 3), protection(suite)
    assert isinstance(sealer, Protection13)
    inner = b"payload" + bytes([DATA]) + bytes(5)  # padded
    first = bytes([0x23 | (8 if long else 0) | (4 if with_length else 0)])
    sequence = bytes([0, 9]) if long else b"\x09"
    tail = (len(inner) + 16).to_bytes(2, "big") if with_length else b""
    nonce = (sealer._iv ^ 9).to_bytes(12, "big")
    body = sealer._aead.encrypt(nonce, inner, first + sequence + tail)
    hidden = bytes(a ^ b for a, b in zip(sequence, sealer.mask(body[:16]), strict=False))
    opened = list(records.open(first + hidden + tail + body, 0.0))
    assert opened == [Record(DATA, b"payload", RecordNumber(3, 9))]


def test_a_record_of_padding_only_is_fatal() -> None:
    suite = CipherSuite.TLS_AES_128_GCM_SHA256
    records, sealer = layer(suite, 3), protection(suite)
    with pytest.raises(HandshakeFailure) as caught:
        list(records.open(sealer.seal(0, RecordNumber(3, 0), bytes(9)), 0.0))
    assert caught.value.reason is DtlsFailure.EMPTY_RECORD


def test_records_before_their_keys_wait_within_bounds() -> None:
    suite = CipherSuite.TLS_AES_128_GCM_SHA256
    records, sealer = RecordLayer(Counters()), protection(suite)
    for number in range(MAX_DEFERRED_RECORDS + 5):
        assert list(records.open(sealer.seal(DATA, RecordNumber(3, number), b"x"), 0.0)) == []
    assert tally(records, "dtls.record_deferred") == MAX_DEFERRED_RECORDS
    assert tally(records, "dtls.dropped_record_unknown_epoch") == 5
    records.set_version(Version.DTLS_1_3)
    records.install_read_epoch(3, protection(suite))
    deferred = records.take_deferred()
    assert len([record for raw in deferred for record in records.open(raw, 0.0)]) == MAX_DEFERRED_RECORDS
    assert records.take_deferred() == []


@pytest.mark.parametrize(
    "suite", [CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
)
def test_a_datagram_of_many_records_costs_no_more_than_so_many(suite: CipherSuite) -> None:
    epoch = first_epoch(suite)
    sender, receiver = layer(suite, epoch), layer(suite, epoch)
    datagram = b"".join(sender.seal(DATA, b"x", epoch)[1] for _ in range(MAX_RECORDS_PER_DATAGRAM + 5))
    assert len(list(receiver.open(datagram, 0.0))) == MAX_RECORDS_PER_DATAGRAM
    assert tally(receiver, "dtls.dropped_record_too_many") == 1


def test_the_previous_epoch_is_kept_for_a_while() -> None:
    suite = CipherSuite.TLS_AES_128_GCM_SHA256
    records, sealer = layer(suite, 3), protection(suite)
    old = [sealer.seal(DATA, RecordNumber(3, number), b"old") for number in range(3)]
    assert len(list(records.open(old[0], 0.0))) == 1
    records.install_read_epoch(4, protection(suite))
    assert len(list(records.open(sealer.seal(DATA, RecordNumber(4, 0), b"new"), 10.0))) == 1
    assert records.current_read_epoch == 4
    assert len(list(records.open(old[1], 249.0))) == 1
    assert len(list(records.open(old[2], 251.0))) == 0


def test_1_2_never_looks_back_to_plaintext() -> None:
    suite = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    records, sealer = layer(suite, 1), protection(suite)
    plain = RecordLayer(Counters()).seal(ContentType.ALERT, b"\x02\x28", 0)[1]
    assert len(list(records.open(sealer.seal(DATA, RecordNumber(1, 0), b"x"), 0.0))) == 1
    assert list(records.open(plain, 0.0)) == []


@given(st.binary(max_size=120))
def test_any_bytes_are_records_or_counted(data: bytes) -> None:
    for records in (
        RecordLayer(Counters()),
        layer(CipherSuite.TLS_AES_128_GCM_SHA256, 3),
        layer(CipherSuite.TLS_CHACHA20_POLY1305_SHA256, 3),
        layer(CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 1),
    ):
        opened = list(records.open(data, 0.0))
        assert opened or not data or sum(records._counters.snapshot().values()) > 0
