"""Tickets under a key: sealed into a username fragment, opened again, and what is derived from one.

The fragment's `rest` (`stack.core.ufrag`) is base64 without padding, all of whose characters are ice-chars, of

     0                 1                                 17               bytes
    +--------+--------+---------------------------------+----------------+
    | version| key id | synthetic IV (16)               | sealed ticket  |
    +--------+--------+---------------------------------+----------------+
       4 bits  4 bits

by AES-SIV (RFC 5297) with a key of 512 bits. The associated data are all that stands before the sealed part, the
worker digit and the node among it: another digit or another machine's name is a forgery, so a ticket has one
fragment, and one worker of a machine. AES-SIV needs no nonce; two tickets are alike only if all of them is, and
the reference is random.

A key is an *epoch*: a secret of 256 bits and the certificate that answers made under it name. The key id is the
epoch's number modulo 16. The newest epoch seals, every epoch of the ring opens; taking one out of the ring revokes
what it has sealed. A reference that is on the ring's list is revoked with all tickets of its chain, and no others.

Password, SSRC, cname, session id, SCTP's initiate tag and TSN, and the call's id follow from the epoch's secret
and the fragment by HKDF-Expand (RFC 5869 §2.3), each with a label of its own, and in the order in which
`make_local_parameters` asks for them: `VERSION` goes up when that changes (a test has the values).
"""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy
from stack.core.ufrag import MAX_TICKET, SEPARATOR
from stack.dtls import Certificate
from stack.dtls.keys13 import hkdf_expand
from stack.ice import Ufrag
from stack.session.ticket import HEAD_SIZE, MAX_WITHOUT_CLAIM, SessionTicket, TicketHead, chain_of

VERSION: Final = 1
SECRET_SIZE: Final = 32
MAX_EPOCHS: Final = 16
"""Epochs in one ring: as many as there are key ids."""
MAX_REVOKED: Final = 10_000
"""References that are revoked one by one; to revoke more, take their epoch out."""
_SIV_KEY_SIZE = 64
_PASSWORD_SIZE = 18
_CALL_ID_SIZE = 12
_RANDOM_SIZE = 255 * 32  # the most that HKDF-Expand gives with SHA-256
_FIRST_RANDOM = 96  # more than is asked for at present, so that it is derived in one step
_PURPOSE = b"voice-stack session ticket 1 "
_OVERHEAD = 17
_SIZES: Final = range(-(-(_OVERHEAD + HEAD_SIZE) * 4 // 3), MAX_TICKET + 1)  # of the rest, in characters
_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PADDING: Final = ("", None, "==", "=")  # by the number of characters modulo 4
_LAST: Final = (_BASE64, "", _BASE64[::16], _BASE64[::4])  # else one ticket would have several fragments


def claim_room(node: str = "") -> int:
    """Return how many bytes of a claim have room in every ticket of a node, whatever else it has to hold."""
    characters = MAX_TICKET - len(node)
    return characters * 3 // 4 - _OVERHEAD - MAX_WITHOUT_CLAIM


class TicketKey:
    """One epoch. Raises `LocalError` for a secret of another size, or an epoch below 1."""

    __slots__ = ("_derivation", "_siv", "certificate", "epoch", "secret")

    def __init__(self, epoch: int, secret: bytes, certificate: Certificate) -> None:
        if epoch < 1 or len(secret) != SECRET_SIZE:
            raise LocalError(f"a ticket key has a number from 1 on and a secret of {SECRET_SIZE} bytes")
        self.epoch = epoch
        self.secret = secret
        self.certificate = certificate
        self._siv = AESSIV(hkdf_expand("sha256", secret, _PURPOSE + b"seal", _SIV_KEY_SIZE))
        self._derivation = hkdf_expand("sha256", secret, _PURPOSE + b"derive", SECRET_SIZE)

    def __repr__(self) -> str:
        return f"TicketKey({self.epoch})"

    @property
    def id(self) -> int:
        """What stands in the clear."""
        return self.epoch % MAX_EPOCHS

    def seal(self, ticket: SessionTicket, worker: int, node: str = "") -> str:
        """Return the fragment; raises `LocalError` for a ticket that has no room in it."""
        head = bytes((VERSION << 4 | self.id,))
        bare = Ufrag(worker, "0" * 12, node).prefix.encode()
        sealed = self._siv.encrypt(ticket.serialize(), [bare + head])
        return Ufrag(worker, b64encode(head + sealed).decode().rstrip("="), node).serialize()

    def unseal(self, data: bytes, prefix: bytes) -> bytes | None:
        """Return what is sealed in the decoded rest of a fragment; None for what this key has not sealed."""
        try:
            return self._siv.decrypt(data[1:], [prefix + data[:1]])
        except InvalidTag:
            return None

    def password(self, ufrag: str) -> str:
        """Return our ICE password for a ticket's fragment."""
        return b64encode(self._derive("password", ufrag, _PASSWORD_SIZE)).decode()

    def call_id(self, username: str) -> str:
        """Return the id of the call that comes by this USERNAME; it cannot be guessed without the key."""
        return self._derive("call", username, _CALL_ID_SIZE).hex()

    def entropy(self, ufrag: str) -> Entropy:
        """Return the source of all that an answer says and that would be random otherwise."""
        pool, used = self._derive("random", ufrag, _FIRST_RANDOM), 0

        def take(size: int) -> bytes:
            nonlocal pool, used
            if used + size > len(pool):
                pool = self._derive("random", ufrag, _RANDOM_SIZE)  # begins with the same bytes
            if used + size > len(pool):
                raise LocalError("more is asked of a ticket than can be derived from it")
            used += size
            return pool[used - size : used]

        return take

    def _derive(self, label: str, about: str, size: int) -> bytes:
        return hkdf_expand("sha256", self._derivation, f"{label} {about}".encode(), size)


@dataclass(frozen=True, slots=True)
class OpenedTicket:
    """A ticket, the fragment that it came in, and the key that opened it."""

    ticket: SessionTicket
    ufrag: str
    key: TicketKey


class UnsealedTicket(NamedTuple):
    """A ticket that a key has sealed, and of which only the head was looked at."""

    head: TicketHead
    data: bytes
    """As `SessionTicket.serialize` writes it."""
    ufrag: str
    key: TicketKey

    def open(self) -> OpenedTicket:
        """Read the rest; raises `ParseError` for a ticket of a newer form."""
        return OpenedTicket(SessionTicket.parse(self.data), self.ufrag, self.key)


@dataclass(frozen=True, slots=True)
class TicketRing:
    """The keys that open tickets, oldest first; the last one seals. `revoked` has references.

    Raises `LocalError` without a key, with more than `MAX_EPOCHS` or epochs that go by one key id, or beyond
    `MAX_REVOKED`.
    """

    keys: tuple[TicketKey, ...]
    revoked: frozenset[bytes] = frozenset()
    _by_start: dict[str, TicketKey] = field(init=False, repr=False, compare=False)
    _chains: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.keys or len({key.id for key in self.keys}) != len(self.keys):
            raise LocalError(f"a ring has 1 to {MAX_EPOCHS} ticket keys, whose epochs differ modulo {MAX_EPOCHS}")
        if len(self.revoked) > MAX_REVOKED:
            raise LocalError(f"at most {MAX_REVOKED} tickets are revoked one by one: take their key out instead")
        object.__setattr__(self, "keys", tuple(sorted(self.keys, key=lambda key: key.epoch)))
        by_start = {start: key for key in self.keys for start in _starts(VERSION << 4 | key.id)}
        object.__setattr__(self, "_by_start", by_start)
        object.__setattr__(self, "_chains", frozenset(map(chain_of, self.revoked)))

    @classmethod
    def of(cls, keys: Iterable[TicketKey], revoked: Iterable[bytes] = ()) -> TicketRing:
        """Return the ring of these keys."""
        return cls(tuple(keys), frozenset(revoked))

    @property
    def newest(self) -> TicketKey:
        """The key that seals."""
        return self.keys[-1]

    def open(self, ufrag: str) -> OpenedTicket:
        """Return the ticket in a fragment; raises `ParseError` for a fragment that is none of ours.

        It may have expired or be revoked: that is for the caller to look at (`is_revoked`).
        """
        unsealed = self.unseal(ufrag)
        if unsealed is None:
            raise ParseError("this fragment is no ticket of a key of ours")
        return unsealed.open()

    def unseal(self, ufrag: str) -> UnsealedTicket | None:
        """Return the ticket in a fragment, of which the head alone was read; None for one that has none.

        In the order of cost: size, version and key id, base64, the seal. The prefix is authenticated by that, and
        need not be looked at.
        """
        prefix, separator, rest = ufrag.partition(SEPARATOR)
        size = len(rest)
        if size not in _SIZES or (key := self._by_start.get(rest[:2])) is None or rest[-1] not in _LAST[size & 3]:
            return None
        try:
            data = a2b_base64(rest + (_PADDING[size & 3] or ""), strict_mode=True)
            plain = key.unseal(data, (prefix + separator).encode())
        except (Base64Error, ValueError):  # ValueError: characters that ASCII, or UTF-8, does not have
            return None
        return None if plain is None else UnsealedTicket(TicketHead.peek(plain), plain, ufrag, key)

    def is_revoked(self, ticket: SessionTicket) -> bool:
        """Return True if the ticket, or another one of its chain, is on the list."""
        return self.revokes(ticket.chain)

    def revokes(self, chain: bytes) -> bool:
        """Return True if a ticket of this chain is on the list."""
        return chain in self._chains


def _starts(first: int) -> Iterable[str]:
    """Return the two characters with which base64 of a byte, and another one behind it, can begin."""
    high = _BASE64[first >> 2]
    return [high + _BASE64[(first & 3) << 4 | low] for low in range(16)]
