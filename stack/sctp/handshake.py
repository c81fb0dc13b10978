"""Setting an association up: what INIT says, what the state cookie seals (RFC 9260 §5.1, §5.1.3, §5.2).

Pure functions and values; the states are in `association.py`. The cookie is ours alone: nobody but the side that
made it reads it, so its layout is no part of the protocol. Inside DTLS it guards against nothing that DTLS has
not settled, but the protocol has it, and with it an answer to INIT costs no memory.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Self

from stack.core.errors import ParseError
from stack.core.machine import Entropy, Instant
from stack.sctp.chunks import Capabilities, Cause, ChunkType, ErrorCause, InitAckChunk, InitChunk
from stack.sctp.chunks.init import HOST_NAME_ADDRESS, STATE_COOKIE, UNRECOGNIZED_PARAMETER
from stack.sctp.chunks.tlv import RawParameter

COOKIE_LIFETIME = 60.0
"""Valid.Cookie.Life (RFC 9260 §16), in seconds."""
MAX_REPORTED_PARAMETERS = 8
"""More unknown parameters than this are not reported back."""
OUTBOUND_STREAMS = INBOUND_STREAMS = 0xFFFF
"""As many as there are (RFC 8831 §6.2)."""
_COOKIE = Struct("!IIIIIHHBIId")
_MAC_SIZE = 32


@dataclass(frozen=True, slots=True)
class LocalSide:
    """Our verification tag and where our TSNs begin."""

    tag: int
    initial_tsn: int

    @classmethod
    def random(cls, entropy: Entropy) -> Self:
        """Draw both (RFC 9260 §5.3.1: the tag is never 0)."""
        tag = 0
        while not tag:
            tag = int.from_bytes(entropy(4), "big")
        return cls(tag, int.from_bytes(entropy(4), "big"))


@dataclass(frozen=True, slots=True)
class PeerSide:
    """What the peer said in its INIT or INIT ACK."""

    tag: int
    initial_tsn: int
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

    local: LocalSide
    peer: PeerSide
    tie_local: int
    tie_peer: int
    """Tie-tags: the tags in use when the INIT came, 0 if there were none (RFC 9260 §5.2.2)."""
    created_at: Instant

    def seal(self, secret: bytes) -> bytes:
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
            self.tie_local,
            self.tie_peer,
            self.created_at,
        )
        return fields + hmac.digest(secret, fields, "sha256")

    @classmethod
    def open(cls, cookie: bytes, secret: bytes) -> Self:
        """Read a cookie that came back; raises `ParseError` if it is not ours."""
        fields, mac = cookie[: _COOKIE.size], cookie[_COOKIE.size :]
        if len(mac) != _MAC_SIZE or not hmac.compare_digest(mac, hmac.digest(secret, fields, "sha256")):
            raise ParseError("not a cookie of ours")
        tag, tsn, peer_tag, peer_tsn, rwnd, outbound, inbound, bits, tie_local, tie_peer, created = _COOKIE.unpack(
            fields
        )
        extensions = Capabilities(bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8))
        peer = PeerSide(peer_tag, peer_tsn, rwnd, outbound, inbound, extensions)
        return cls(LocalSide(tag, tsn), peer, tie_local, tie_peer, created)


class CookieJar:
    """Answers INITs without remembering them: all that matters travels in the cookie, under our MAC."""

    __slots__ = ("_capabilities", "_secret", "_window")

    def __init__(self, secret: bytes, window: int, capabilities: Capabilities) -> None:
        self._secret = secret
        self._window = window
        self._capabilities = capabilities

    def answer(self, init: InitChunk, local: LocalSide, ties: tuple[int, int], now: Instant) -> InitAckChunk:
        """Return the INIT ACK: the cookie, our extensions, and what we did not know in the INIT."""
        cookie = StateCookie(local, PeerSide.from_init(init), *ties, now).seal(self._secret)
        unknown = list(init.unrecognized())[:MAX_REPORTED_PARAMETERS]
        return InitAckChunk(
            local.tag,
            self._window,
            OUTBOUND_STREAMS,
            INBOUND_STREAMS,
            local.initial_tsn,
            (
                RawParameter(STATE_COOKIE, cookie),
                *self._capabilities.parameters(),
                *(RawParameter(UNRECOGNIZED_PARAMETER, parameter.serialize()) for parameter in unknown),
            ),
        )

    def open(self, cookie: bytes) -> StateCookie:
        """Return what a cookie holds; raises `ParseError` if it is not ours."""
        return StateCookie.open(cookie, self._secret)


class CookieAction(Enum):
    """What a valid cookie means to an association that exists already (RFC 9260 §5.2.4, table 12)."""

    RESTART = auto()  # A
    COLLISION = auto()  # B
    DUPLICATE = auto()  # D
    DISCARD = auto()  # C, and what the table does not name


def judge_cookie(cookie: StateCookie, local: LocalSide, peer: PeerSide | None) -> CookieAction:
    """Compare the tags of a cookie with those in use."""
    local_matches = cookie.local.tag == local.tag
    peer_matches = peer is not None and cookie.peer.tag == peer.tag
    if local_matches:
        return CookieAction.DUPLICATE if peer_matches else CookieAction.COLLISION
    ties = peer is not None and cookie.tie_local == local.tag and cookie.tie_peer == peer.tag
    return CookieAction.RESTART if ties and not peer_matches else CookieAction.DISCARD


def build_init(local: LocalSide, window: int, capabilities: Capabilities) -> InitChunk:
    """Return our INIT."""
    parameters = tuple(capabilities.parameters())
    return InitChunk(local.tag, window, OUTBOUND_STREAMS, INBOUND_STREAMS, local.initial_tsn, parameters)


def parse_init(data: bytes) -> InitChunk:
    """Read a whole INIT chunk out of an SDP; the padding of its last parameter may be missing."""
    if len(data) < 4 or data[0] != ChunkType.INIT:
        raise ParseError("not an INIT chunk")
    length = int.from_bytes(data[2:4], "big")
    if not length <= len(data) <= length + 3:
        raise ParseError("an INIT chunk of a wrong length")
    return InitChunk.parse(data[1], data[4:length])


def problem_with(init: InitChunk) -> ErrorCause | None:
    """RFC 9260 §3.3.2: what keeps an INIT or INIT ACK from making an association."""
    if not init.initiate_tag or not init.outbound_streams or not init.inbound_streams:
        return ErrorCause(Cause.INVALID_MANDATORY_PARAMETER)
    if init.find(HOST_NAME_ADDRESS) is not None:
        return ErrorCause(Cause.UNRESOLVABLE_ADDRESS)
    return None
