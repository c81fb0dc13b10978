"""The state cookie: what it holds, its MAC, and what it means when it comes back (RFC 9260 §5.1.3, §5.2).

Only the side that made a cookie reads it, so its layout is no part of the protocol. Inside DTLS it guards against
nothing that DTLS has not settled, but the protocol has it, and with it an answer to INIT costs no memory.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      our verification tag                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                        our initial TSN                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                    peer's verification tag                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       peer's initial TSN                      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                             a_rwnd                            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |        outbound streams       |        inbound streams        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   0   |Z|R|I|P| local tie-tag, peer tie-tag, instant of making|
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :          (32, 32 and 64 bits; seconds as a binary64)          :
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :                MAC: HMAC-SHA-256 of all before                :
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

P: partial reliability, I: interleaving, R: re-configuration, Z: zero checksum.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Self

from stack.core.errors import ParseError
from stack.core.machine import Entropy, Instant
from stack.core.serial import Tsn
from stack.sctp.chunks import Capabilities, InitAckChunk, InitChunk
from stack.sctp.chunks.init_parameters import StateCookieParameter, UnrecognizedParameter
from stack.sctp.config import INBOUND_STREAMS, OUTBOUND_STREAMS

COOKIE_LIFETIME = 60.0
"""Valid.Cookie.Life (RFC 9260 §16), in seconds."""
MAX_REPORTED_PARAMETERS = 8
"""More unknown parameters than this are not reported back."""
_COOKIE = Struct("!IIIIIHHBIId")
_MAC_SIZE = 32


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """Our verification tag and where our TSNs begin."""

    tag: int
    initial_tsn: Tsn

    @classmethod
    def random(cls, entropy: Entropy) -> Self:
        """Draw both (RFC 9260 §5.3.1: the tag is never 0)."""
        tag = 0
        while not tag:
            tag = int.from_bytes(entropy(4), "big")
        return cls(tag, Tsn(int.from_bytes(entropy(4), "big")))

    @classmethod
    def from_init(cls, init: InitChunk) -> Self:
        """Read both off an INIT chunk of ours."""
        return cls(init.initiate_tag, init.initial_tsn)


@dataclass(frozen=True, slots=True)
class PeerEndpoint:
    """What the peer said in its INIT or INIT ACK."""

    tag: int
    initial_tsn: Tsn
    a_rwnd: int
    outbound_streams: int
    inbound_streams: int
    capabilities: Capabilities

    @classmethod
    def from_init(cls, init: InitChunk) -> Self:
        """Read it off a chunk."""
        return cls(
            init.initiate_tag,
            init.initial_tsn,
            init.a_rwnd,
            init.outbound_streams,
            init.inbound_streams,
            init.capabilities,
        )


@dataclass(frozen=True, slots=True)
class StateCookie:
    """Everything that is needed to make the association when the cookie comes back."""

    local: LocalEndpoint
    peer: PeerEndpoint
    local_tie_tag: int
    peer_tie_tag: int
    """Tie-tags: the tags in use when the INIT came, 0 if there were none (RFC 9260 §5.2.2)."""
    created_at: Instant

    def serialize(self, secret: bytes) -> bytes:
        """Return the cookie with its MAC."""
        local, peer, extensions = self.local, self.peer, self.peer.capabilities
        bits = (
            extensions.partial_reliability
            | extensions.interleaving << 1
            | extensions.reconfiguration << 2
            | extensions.zero_checksum << 3
        )
        fields = _COOKIE.pack(
            local.tag,
            local.initial_tsn,
            peer.tag,
            peer.initial_tsn,
            peer.a_rwnd,
            peer.outbound_streams,
            peer.inbound_streams,
            bits,
            self.local_tie_tag,
            self.peer_tie_tag,
            self.created_at,
        )
        return fields + hmac.digest(secret, fields, "sha256")

    @classmethod
    def parse(cls, cookie: bytes, secret: bytes) -> Self:
        """Read a cookie that came back (§5.1.5); raises `ParseError` if its MAC is not ours."""
        fields, mac = cookie[: _COOKIE.size], cookie[_COOKIE.size :]
        if len(mac) != _MAC_SIZE or not hmac.compare_digest(mac, hmac.digest(secret, fields, "sha256")):
            raise ParseError("not a cookie of ours")
        tag, tsn, peer_tag, peer_tsn, rwnd, outbound, inbound, bits, local_tie, peer_tie, created = _COOKIE.unpack(
            fields
        )
        extensions = Capabilities(bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8))
        peer = PeerEndpoint(peer_tag, peer_tsn, rwnd, outbound, inbound, extensions)
        return cls(LocalEndpoint(tag, tsn), peer, local_tie, peer_tie, created)


class StateCookieIssuer:
    """Answers INITs without a memory of them: all that matters travels in the cookie, under our MAC."""

    __slots__ = ("_capabilities", "_secret", "_window")

    def __init__(self, secret: bytes, window: int, capabilities: Capabilities) -> None:
        self._secret = secret
        self._window = window
        self._capabilities = capabilities

    def build_init_ack(
        self, init: InitChunk, local: LocalEndpoint, tie_tags: tuple[int, int], now: Instant
    ) -> InitAckChunk:
        """Return the INIT ACK: the cookie, our extensions, and what we did not know in the INIT."""
        cookie = StateCookie(local, PeerEndpoint.from_init(init), *tie_tags, now).serialize(self._secret)
        unknown = list(init.unrecognized())[:MAX_REPORTED_PARAMETERS]
        return InitAckChunk(
            local.tag,
            self._window,
            OUTBOUND_STREAMS,
            INBOUND_STREAMS,
            local.initial_tsn,
            (
                StateCookieParameter(cookie),
                *self._capabilities.parameters(),
                *(UnrecognizedParameter(parameter.serialize()) for parameter in unknown),
            ),
        )

    def authenticate(self, cookie: bytes) -> StateCookie:
        """Return what a cookie holds; raises `ParseError` if its MAC is not ours."""
        return StateCookie.parse(cookie, self._secret)


class CookieAction(Enum):
    """What a valid cookie means to an association that exists already (RFC 9260 §5.2.4, table 12)."""

    RESTART = auto()  # A
    COLLISION = auto()  # B
    DUPLICATE = auto()  # D
    DISCARD = auto()  # C, and what the table does not name


def choose_cookie_action(cookie: StateCookie, local: LocalEndpoint, peer: PeerEndpoint | None) -> CookieAction:
    """Compare the tags of a cookie with those in use (§5.2.4)."""
    local_matches = cookie.local.tag == local.tag
    peer_matches = peer is not None and cookie.peer.tag == peer.tag
    if local_matches:
        return CookieAction.DUPLICATE if peer_matches else CookieAction.COLLISION
    ties_match = peer is not None and cookie.local_tie_tag == local.tag and cookie.peer_tie_tag == peer.tag
    return CookieAction.RESTART if ties_match and not peer_matches else CookieAction.DISCARD
