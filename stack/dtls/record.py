"""The record layer: RFC 6347 §4.1 (1.2), RFC 9147 §4 (1.3), RFC 5288 and RFC 7905 (AEAD nonces).

Parses and makes records, protects and unprotects them, refuses replays, and keeps the epochs. Datagrams are
opened lazily, record by record, because one record may bring the keys of the next.

Left out: connection ids (never offered, so a record with one is dropped) and the forms of the 1.3 header that
a sender does not need: ours always has a 16-bit sequence number and a length. All forms are understood.

Over 500 lines: how a record of either version looks, how it is sealed, and which epoch opens it are read together.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from stack.core.counters import Counters, declare
from stack.core.machine import Instant
from stack.core.replay_window import ReplayWindow
from stack.dtls.alerts import AlertDescription, DtlsFailure, HandshakeFailure
from stack.dtls.suites import NONCE_LENGTH, TAG_LENGTH, Aead, SuiteParameters, Version

DROPPED_RECORD_TOO_MANY = declare(
    "dtls", "dropped_record_too_many", "Datagrams with more records than are opened: the rest"
)
DROPPED_RECORD_TRUNCATED = declare(
    "dtls", "dropped_record_truncated", "Records that end before their length, or are too long"
)
DROPPED_RECORD_BAD_VERSION = declare(
    "dtls", "dropped_record_bad_version", "Records of another version (RFC 6347 §4.1)"
)
DROPPED_RECORD_UNKNOWN_EPOCH = declare(
    "dtls", "dropped_record_unknown_epoch", "Records of an epoch without keys, not to be kept"
)
DROPPED_RECORD_REPLAYED = declare(
    "dtls", "dropped_record_replayed", "Records that had come before (RFC 9147 §4.5.1)"
)
DROPPED_RECORD_FORGED = declare("dtls", "dropped_record_forged", "Records that the peer's keys did not seal")
DROPPED_RECORD_CONNECTION_ID = declare(
    "dtls", "dropped_record_connection_id", "Records with a connection id, which was not agreed on"
)
RECORD_DEFERRED = declare("dtls", "record_deferred", "Records kept because they came before their keys")

MAX_PLAINTEXT_LENGTH: Final = 1 << 14
_MAX_CIPHERTEXT_LENGTH: Final = (1 << 14) + 2048
_MAX_SEQUENCE: Final = (1 << 48) - 1
REPLAY_WINDOW_SIZE: Final = 256
"""Records of an epoch that are remembered (RFC 9147 §4.5.1 asks for at least 64 and suggests more)."""
_PREVIOUS_EPOCH_LIFETIME: Final = 240.0  # two maximum segment lifetimes, as RFC 9147 §4.2.1 suggests
MAX_RECORDS_PER_DATAGRAM: Final = 64
"""How many records of one datagram are parsed: a flight has a dozen, and each may cost a decryption."""
MAX_DEFERRED_RECORDS: Final = 10
"""How many records of an epoch whose keys are not known yet are kept for later."""
KEY_UPDATE_AFTER: Final = 1 << 23
"""Records sent in one epoch of 1.3 before we ask for new keys; RFC 9147 §4.5.3 ends at 2^24.5 for AES-GCM."""
KEPT_AHEAD: Final = 1 << 14
"""How many records may leave between the sealing of one that is kept and its leaving: the 16 bits of a sequence
number that 1.3 sends (RFC 9147 §4.2.2) find it at twice the distance."""
_MAX_FORGERIES: Final = 1 << 36  # RFC 9147 §4.5.3

PLAINTEXT_HEADER_LENGTH: Final = 13
_UNIFIED_HEADER_LENGTH: Final = 5
_PLAINTEXT_HEADER: Final = Struct("!BHQH")  # type, version, epoch and sequence number, length
_UNIFIED_FIXED: Final = 0x20
_UNIFIED_MASK: Final = 0xE0
_UNIFIED_CID: Final = 0x10
_UNIFIED_LONG_SEQUENCE: Final = 0x08
_UNIFIED_LENGTH: Final = 0x04


class ContentType(IntEnum):
    """RFC 8446 §B.1, RFC 9147 §4."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    ACK = 26


class RecordNumber(NamedTuple):
    """What names a record, also inside an ACK (RFC 9147 §4)."""

    epoch: int
    sequence: int


class Record(NamedTuple):
    """A record that was received and, if it was protected, opened."""

    content_type: int
    payload: bytes
    number: RecordNumber


class Protection(Protocol):
    """How the records of one epoch are sealed and opened."""

    @property
    def overhead(self) -> int:
        """Bytes that a record has beyond its payload."""
        ...

    def seal(self, content_type: int, number: RecordNumber, payload: bytes) -> bytes:
        """Return the whole record."""
        ...


class Plaintext:
    """Epoch 0: DTLSPlaintext (RFC 6347 §4.1, RFC 9147 §4).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |      type     |            version            |    epoch …    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |    … epoch    |               sequence_number …               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               … sequence_number               |    length …   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |    … length   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                            fragment                           /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

    overhead = PLAINTEXT_HEADER_LENGTH

    def __init__(self) -> None:
        # RFC 9147 §5.3: an initial ClientHello may say 1.0 for the sake of old middleboxes.
        self.version: int = Version.DTLS_1_0

    def seal(self, content_type: int, number: RecordNumber, payload: bytes) -> bytes:
        """Return the record."""
        epoch_and_sequence = number.epoch << 48 | number.sequence
        return _PLAINTEXT_HEADER.pack(content_type, self.version, epoch_and_sequence, len(payload)) + payload


class Protection12:
    """DTLSCiphertext of 1.2 with an AEAD (RFC 5246 §6.2.3.3, RFC 5288 §3, RFC 7905 §2).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |      type     |            version            |    epoch …    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |    … epoch    |               sequence_number …               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               … sequence_number               |    length …   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |    … length   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /     nonce_explicit (8 bytes with GCM, none with ChaCha20)     /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                           ciphertext                          /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                         tag (16 bytes)                        /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

    __slots__ = ("_aead", "_explicit", "_fixed_iv", "_iv", "overhead")

    def __init__(self, suite: SuiteParameters, key: bytes, fixed_iv: bytes) -> None:
        self._aead: Aead = suite.aead(key)
        self._fixed_iv = fixed_iv
        self._iv = int.from_bytes(fixed_iv, "big")
        self._explicit = 0 if suite.is_chacha else 8
        self.overhead = PLAINTEXT_HEADER_LENGTH + self._explicit + TAG_LENGTH

    def seal(self, content_type: int, number: RecordNumber, payload: bytes) -> bytes:
        """Return the record; the explicit nonce of GCM is the epoch and the sequence number."""
        position = number.epoch << 48 | number.sequence
        counter = position.to_bytes(8, "big")
        associated = counter + bytes((content_type, 0xFE, 0xFD)) + len(payload).to_bytes(2, "big")
        if self._explicit:
            body = counter + self._aead.encrypt(self._fixed_iv + counter, payload, associated)
        else:
            nonce = (self._iv ^ position).to_bytes(NONCE_LENGTH, "big")
            body = self._aead.encrypt(nonce, payload, associated)
        return _PLAINTEXT_HEADER.pack(content_type, Version.DTLS_1_2, position, len(body)) + body

    def open(self, content_type: int, number: RecordNumber, body: bytes) -> bytes:
        """Return the payload or raise `InvalidTag`."""
        position = number.epoch << 48 | number.sequence
        length = len(body) - self._explicit - TAG_LENGTH
        if length < 0:
            raise InvalidTag
        associated = position.to_bytes(8, "big") + bytes((content_type, 0xFE, 0xFD)) + length.to_bytes(2, "big")
        if self._explicit:
            return self._aead.decrypt(self._fixed_iv + body[:8], body[8:], associated)
        return self._aead.decrypt((self._iv ^ position).to_bytes(NONCE_LENGTH, "big"), body, associated)


class Protection13:
    """DTLSCiphertext of 1.3 (RFC 9147 §4) with sequence number encryption (§4.2.3).

    ```
     0 1 2 3 4 5 6 7
    +-+-+-+-+-+-+-+-+
    |0|0|1|C|S|L|E E|   E E: the two low bits of the epoch
    +-+-+-+-+-+-+-+-+
    / connection id /   if C, which was never negotiated
    +-+-+-+-+-+-+-+-+
    |   sequence    |   encrypted; 16 bits if S, else 8
    |    number     |
    +-+-+-+-+-+-+-+-+
    |    length     |   16 bits if L, else to the end of the datagram
    |               |
    +-+-+-+-+-+-+-+-+
    /   encrypted   /   DTLSInnerPlaintext: content, its type (8 bits), zeros;
    /    record     /   then the tag
    +-+-+-+-+-+-+-+-+
    ```
    """

    __slots__ = ("_aead", "_aes_ecb", "_iv", "_sequence_key", "overhead")

    def __init__(self, suite: SuiteParameters, key: bytes, iv: bytes, sequence_key: bytes) -> None:
        self._aead: Aead = suite.aead(key)
        self._iv = int.from_bytes(iv, "big")
        self._sequence_key = sequence_key
        self._aes_ecb: CipherContext | None = None
        if not suite.is_chacha:
            # A single block at a time is what the mask is made of; no data is encrypted this way.
            self._aes_ecb = Cipher(algorithms.AES(sequence_key), modes.ECB()).encryptor()
        self.overhead = _UNIFIED_HEADER_LENGTH + 1 + TAG_LENGTH

    def mask(self, sample: bytes) -> bytes:
        """Return what hides the sequence number; `sample` is the first 16 bytes of the ciphertext."""
        if self._aes_ecb is not None:
            return self._aes_ecb.update(sample)
        return Cipher(algorithms.ChaCha20(self._sequence_key, sample), None).encryptor().update(bytes(2))

    def seal(self, content_type: int, number: RecordNumber, payload: bytes) -> bytes:
        """Return the record, without padding."""
        first = _UNIFIED_FIXED | _UNIFIED_LONG_SEQUENCE | _UNIFIED_LENGTH | number.epoch & 3
        sequence = number.sequence & 0xFFFF
        length = len(payload) + 1 + TAG_LENGTH
        tail = length.to_bytes(2, "big")
        header = bytes((first, sequence >> 8, sequence & 0xFF)) + tail
        nonce = (self._iv ^ number.sequence).to_bytes(NONCE_LENGTH, "big")
        body = self._aead.encrypt(nonce, payload + bytes((content_type,)), header)
        mask = self.mask(body[:16])
        return bytes((first, sequence >> 8 ^ mask[0], sequence & 0xFF ^ mask[1])) + tail + body

    def open(self, sequence: int, header: bytes, body: bytes) -> bytes:
        """Return the inner plaintext (with its type and padding) or raise `InvalidTag`."""
        return self._aead.decrypt((self._iv ^ sequence).to_bytes(NONCE_LENGTH, "big"), body, header)


class _ReadEpoch:
    __slots__ = ("expires", "forgeries", "protection", "window")

    def __init__(self, protection: Protection12 | Protection13 | None) -> None:
        self.protection = protection
        self.window = ReplayWindow(REPLAY_WINDOW_SIZE)
        self.forgeries = 0
        self.expires: Instant | None = None


class _WriteEpoch:
    __slots__ = ("kept", "kept_sequence", "next_sequence", "protection")

    def __init__(self, protection: Protection) -> None:
        self.protection = protection
        self.next_sequence = 0
        self.kept_sequence = -1
        self.kept = b""


def _reconstruct_sequence_number(wire: int, bits: int, highest: int) -> int:
    """Return the sequence number nearest to the one after `highest` that ends in `wire` (RFC 9147 §4.2.2)."""
    span = 1 << bits
    expected = highest + 1
    candidate = (expected & ~(span - 1)) | wire
    if candidate - expected > span // 2 and candidate >= span:
        candidate -= span
    elif expected - candidate >= span // 2:
        candidate += span
    return candidate if candidate <= _MAX_SEQUENCE else candidate - span


class RecordLayer:
    """The epochs of both directions, and the way from datagrams to records and back.

    Reading: `current` is the newest epoch of which a record was authenticated, `newest` the newest whose keys are
    known; they differ while the peer may still be sending in the old one. The one before `current` is kept for a
    while in 1.3, for late records and retransmitted Finished messages.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.version: Version | None = None
        self._plaintext = Plaintext()
        self._read: dict[int, _ReadEpoch] = {0: _ReadEpoch(None)}
        self._write: dict[int, _WriteEpoch] = {0: _WriteEpoch(self._plaintext)}
        self.current_read_epoch = 0
        self.newest_read_epoch = 0
        self.write_epoch = 0
        self._deferred: list[bytes] = []
        self._deferred_epoch = 0
        self._now: Instant = 0.0

    def set_version(self, version: Version) -> None:
        """Fix the version: from now on records carry it (1.3 froze the field at 1.2, RFC 9147 §4)."""
        self.version = version
        self._plaintext.version = Version.DTLS_1_2

    # Writing

    def install_write_epoch(self, epoch: int, protection: Protection) -> None:
        """Send in a new epoch from now on; older ones stay for retransmission until they are forgotten."""
        self._write[epoch] = _WriteEpoch(protection)
        self.write_epoch = epoch

    def discard_write_epochs(self, needed: set[int]) -> None:
        """Drop the keys of old write epochs that no unacknowledged message needs."""
        for epoch in [epoch for epoch in self._write if epoch != self.write_epoch and epoch not in needed]:
            del self._write[epoch]

    def overhead(self, epoch: int) -> int:
        """Bytes that a record of `epoch` has beyond its payload."""
        return self._write[epoch].protection.overhead

    def seal(self, content_type: int, payload: bytes, epoch: int) -> tuple[RecordNumber, bytes]:
        """Return the next record of `epoch` and its number."""
        state = self._write[epoch]
        number = RecordNumber(epoch, state.next_sequence)
        if number.sequence > _MAX_SEQUENCE:
            raise HandshakeFailure(AlertDescription.INTERNAL_ERROR, DtlsFailure.AEAD_LIMIT)
        state.next_sequence += 1
        if state.next_sequence == state.kept_sequence:  # a nonce is used once
            state.next_sequence += 1
        return number, state.protection.seal(content_type, number, payload)

    def seal_to_keep(self, content_type: int, payload: bytes) -> bytes:
        """Return a record that can leave later, behind the next `KEPT_AHEAD` records and instead of all others.

        It is the same one until it is too late for it; no other record gets its number.
        """
        state = self._write[self.write_epoch]
        if state.kept_sequence < state.next_sequence:
            number = RecordNumber(self.write_epoch, state.next_sequence + KEPT_AHEAD)
            state.kept_sequence, state.kept = number.sequence, state.protection.seal(content_type, number, payload)
        return state.kept

    @property
    def wants_key_update(self) -> bool:
        """True when so many records were sent that the keys should be renewed (RFC 9147 §4.5.3)."""
        return self._write[self.write_epoch].next_sequence >= KEY_UPDATE_AFTER

    # Reading

    def install_read_epoch(self, epoch: int, protection: Protection12 | Protection13) -> None:
        """Be ready for the records of `epoch`."""
        self._read[epoch] = _ReadEpoch(protection)
        self.newest_read_epoch = epoch

    @property
    def has_deferred_13(self) -> bool:
        """True if a record of 1.3 came before its keys and waits for them."""
        return any(raw[0] & _UNIFIED_MASK == _UNIFIED_FIXED for raw in self._deferred)

    def take_deferred(self) -> list[bytes]:
        """Return the records that came before their keys, to be opened again."""
        if self._deferred_epoch == self.newest_read_epoch:
            return []  # no keys came since: there is nothing to open them with
        self._deferred_epoch = self.newest_read_epoch
        deferred, self._deferred = self._deferred, []
        return deferred

    def open(self, datagram: bytes, now: Instant) -> Iterator[Record]:
        """Yield the records of a datagram. What is malformed, forged or replayed is counted and dropped."""
        self._now = now
        position, end = 0, len(datagram)
        for _ in range(MAX_RECORDS_PER_DATAGRAM):
            if position >= end:
                return
            if datagram[position] & _UNIFIED_MASK == _UNIFIED_FIXED:
                record, position = self._open_unified(datagram, position)
            else:
                record, position = self._open_plaintext_header(datagram, position)
            if record is not None:
                yield record
        if position < end:
            self._counters.add(DROPPED_RECORD_TOO_MANY)

    def _defer(self, raw: bytes) -> None:
        if len(self._deferred) < MAX_DEFERRED_RECORDS:
            self._deferred.append(raw)
            self._counters.add(RECORD_DEFERRED)
        else:
            self._counters.add(DROPPED_RECORD_UNKNOWN_EPOCH)

    def _open_plaintext_header(self, datagram: bytes, start: int) -> tuple[Record | None, int]:
        """Open a DTLSPlaintext or a 1.2 DTLSCiphertext; return it and where the next record starts."""
        end = len(datagram)
        body_start = start + PLAINTEXT_HEADER_LENGTH
        if body_start > end:
            self._counters.add(DROPPED_RECORD_TRUNCATED)
            return None, end
        content_type, version, position, length = _PLAINTEXT_HEADER.unpack_from(datagram, start)
        following = body_start + length
        if following > end or length > _MAX_CIPHERTEXT_LENGTH:
            self._counters.add(DROPPED_RECORD_TRUNCATED)
            return None, end
        number = RecordNumber(position >> 48, position & _MAX_SEQUENCE)
        # RFC 6347 §4.1: the version of epoch 0 is not certain before negotiation; only its first byte is checked.
        if (version >> 8 != 0xFE) if number.epoch == 0 else (version != Version.DTLS_1_2):
            self._counters.add(DROPPED_RECORD_BAD_VERSION)
            return None, end
        state = self._read.get(number.epoch)
        if state is None or (number.epoch > 0 and self.version is not Version.DTLS_1_2):
            # 1.2 has one epoch with keys: what claims a later one was forged.
            if number.epoch == self.newest_read_epoch + 1 == 1 and self.version is not Version.DTLS_1_3:
                self._defer(datagram[start:following])
            else:
                self._counters.add(DROPPED_RECORD_UNKNOWN_EPOCH)
            return None, following
        # RFC 9147 §4.5.1: the window moves by authenticated records only, so epoch 0 has none. A forged record
        # with a high number would make every honest one a replay.
        if state.protection is not None and state.window.is_replay(number.sequence):
            self._counters.add(DROPPED_RECORD_REPLAYED)
            return None, following
        body = datagram[body_start:following]
        if isinstance(state.protection, Protection12):
            try:
                body = state.protection.open(content_type, number, body)
            except InvalidTag:
                self._count_forgery(state)
                return None, following
        return self._accept(state, Record(content_type, body, number)), following

    def _open_unified(self, datagram: bytes, start: int) -> tuple[Record | None, int]:
        """Open a 1.3 DTLSCiphertext; return it and where the next record starts."""
        end = len(datagram)
        first = datagram[start]
        sequence_length = 2 if first & _UNIFIED_LONG_SEQUENCE else 1
        body_start = start + 1 + sequence_length + (2 if first & _UNIFIED_LENGTH else 0)
        # RFC 9147 §4: a connection id that was not negotiated makes the rest of the datagram unreadable.
        if body_start > end or first & _UNIFIED_CID:
            self._counters.add(DROPPED_RECORD_TRUNCATED if body_start > end else DROPPED_RECORD_CONNECTION_ID)
            return None, end
        following = end
        if first & _UNIFIED_LENGTH:
            following = body_start + int.from_bytes(datagram[body_start - 2 : body_start], "big")
        if following > end or following - body_start > _MAX_CIPHERTEXT_LENGTH:
            self._counters.add(DROPPED_RECORD_TRUNCATED)
            return None, end
        epoch = self._reconstruct_epoch(first & 3)
        state = self._read.get(epoch)
        if state is None or not isinstance(state.protection, Protection13):
            if self.version is not Version.DTLS_1_2 and epoch > self.newest_read_epoch:
                self._defer(datagram[start:following])
            else:
                self._counters.add(DROPPED_RECORD_UNKNOWN_EPOCH)
            return None, following
        if state.expires is not None and self._now > state.expires:
            del self._read[epoch]
            self._counters.add(DROPPED_RECORD_UNKNOWN_EPOCH)
            return None, following
        body = datagram[body_start:following]
        if len(body) < 16:  # RFC 9147 §4.2.3: too short to hold the sample
            self._counters.add(DROPPED_RECORD_TRUNCATED)
            return None, following
        mask = state.protection.mask(body[:16])
        hidden = int.from_bytes(datagram[start + 1 : start + 1 + sequence_length], "big")
        wire = hidden ^ int.from_bytes(mask[:sequence_length], "big")
        sequence = _reconstruct_sequence_number(wire, 8 * sequence_length, state.window.highest)
        if state.window.is_replay(sequence):
            self._counters.add(DROPPED_RECORD_REPLAYED)
            return None, following
        header = (
            datagram[start : start + 1]
            + wire.to_bytes(sequence_length, "big")
            + datagram[start + 1 + sequence_length : body_start]
        )
        try:
            inner = state.protection.open(sequence, header, body)
        except InvalidTag:
            self._count_forgery(state)
            return None, following
        if len(inner) > MAX_PLAINTEXT_LENGTH + 1:
            raise HandshakeFailure(AlertDescription.RECORD_OVERFLOW, DtlsFailure.RECORD_TOO_LONG)
        content = inner.rstrip(b"\0")
        if not content:
            raise HandshakeFailure(AlertDescription.UNEXPECTED_MESSAGE, DtlsFailure.EMPTY_RECORD)
        return self._accept(state, Record(content[-1], content[:-1], RecordNumber(epoch, sequence))), following

    def _reconstruct_epoch(self, low_bits: int) -> int:
        """Return the newest epoch not after the newest known one that ends in `low_bits` (RFC 9147 §4.2.2)."""
        epoch = self.newest_read_epoch & ~3 | low_bits
        return epoch - 4 if epoch > self.newest_read_epoch and epoch >= 4 and epoch - 4 in self._read else epoch

    def _count_forgery(self, state: _ReadEpoch) -> None:
        self._counters.add(DROPPED_RECORD_FORGED)
        state.forgeries += 1
        if state.forgeries > _MAX_FORGERIES:
            raise HandshakeFailure(AlertDescription.BAD_RECORD_MAC, DtlsFailure.AEAD_LIMIT)

    def _accept(self, state: _ReadEpoch, record: Record) -> Record:
        if len(record.payload) > MAX_PLAINTEXT_LENGTH:
            raise HandshakeFailure(AlertDescription.RECORD_OVERFLOW, DtlsFailure.RECORD_TOO_LONG)
        if state.protection is not None:
            state.window.accept(record.number.sequence)
        epoch = record.number.epoch
        if epoch > self.current_read_epoch:
            # The peer sends in a new epoch. 1.2 drops the old one at once; 1.3 keeps it for a while.
            for old in [old for old in self._read if old < self.current_read_epoch]:
                del self._read[old]
            if self.version is Version.DTLS_1_3:
                self._read[self.current_read_epoch].expires = self._now + _PREVIOUS_EPOCH_LIFETIME
            else:
                del self._read[self.current_read_epoch]
            self.current_read_epoch = epoch
        return record
