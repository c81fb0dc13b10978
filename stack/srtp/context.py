"""SRTP and SRTCP written to be read, on top of AES-CTR, HMAC and AES-GCM (RFC 3711 §3, RFC 7714 §8–9).

SRTP (RFC 3711 §3.1, RFC 7714 §8; the tag has 16 bytes in an AEAD, 10 or 4 in HMAC-SHA1):

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|X|   CC  |M|      PT     |        sequence number        |  authenticated
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           timestamp                           |  authenticated
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                              SSRC                             |  authenticated
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                    CSRCs, header extension                    /  authenticated
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                        payload, padding                       /  authenticated and encrypted
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                       authentication tag                      /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

SRTCP (RFC 3711 §3.4, RFC 7714 §9; E says whether it is encrypted):

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|    RC   |       PT      |             length            |  authenticated
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       SSRC of the sender                      |  authenticated
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                  rest of the compound packet                  /  authenticated and encrypted
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                 authentication tag, of an AEAD                /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |E|                         SRTCP index                         |  authenticated
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                authentication tag, of HMAC-SHA1               /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The 48-bit index of an RTP packet never travels: its lower 16 bits are the sequence number, the upper 32 (the
rollover counter) are counted on both sides. `engine.py` is the same over libsrtp and two to six times faster;
tests hold one against the other. Left out: MKI and re-keying (DTLS-SRTP uses neither), encrypted header
extensions (RFC 6904, RFC 9335).
"""

from __future__ import annotations

import hashlib
import hmac
from struct import Struct
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stack.core.errors import LocalError
from stack.core.replay_window import ReplayWindow
from stack.core.serial import SERIAL16, SequenceNumber
from stack.core.srtp_profile import SrtpProfile
from stack.srtp.kdf import SessionKeys, aes_counter_mode, derive_rtcp_keys, derive_rtp_keys
from stack.srtp.master_key import MasterKey
from stack.srtp.transform import MAX_REMOTE_SOURCES, SrtpError, SrtpFailure

REPLAY_WINDOW_SIZE = 128
"""Packets that are remembered; RFC 3711 §3.3.2 asks for at least 64. The same as libsrtp's."""
_RTP_FIXED_HEADER = 12
_RTCP_CLEAR = 8
_RTCP_INDEX = 4
_ENCRYPTED = 0x8000_0000
_MAX_RTCP_INDEX = 0x7FFF_FFFF
_U16 = Struct("!H")
_U32 = Struct("!I")


def _rtp_header_length(packet: bytes) -> int:
    """Return where the payload begins (RFC 3550 §5.1); raise `SrtpError` if that is not within the packet."""
    if len(packet) < _RTP_FIXED_HEADER or packet[0] >> 6 != 2:
        raise SrtpError(SrtpFailure.MALFORMED, "not an RTP packet")
    length = _RTP_FIXED_HEADER + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if len(packet) < length + 4:
            raise SrtpError(SrtpFailure.MALFORMED, "truncated header extension")
        length += 4 + 4 * int(_U16.unpack_from(packet, length + 2)[0])
    if len(packet) < length:
        raise SrtpError(SrtpFailure.MALFORMED, "truncated header")
    return length


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


class CounterModeCipher:
    """AES counter mode with HMAC-SHA1 (RFC 3711 §4.1.1 and §4.2.1)."""

    def __init__(self, keys: SessionKeys, tag_length: int) -> None:
        self._keys = keys
        self._tag_length = tag_length

    def crypt(self, ssrc: bytes, index: int, data: bytes) -> bytes:
        """Encrypt or decrypt `data`, which is the same."""
        # RFC 3711 §4.1.1: IV = salt * 2^16 xor SSRC * 2^64 xor index * 2^16.
        iv = _xor(self._keys.salt + b"\0\0", bytes(4) + ssrc + index.to_bytes(6, "big") + b"\0\0")
        return aes_counter_mode(self._keys.encryption, iv, data)

    def tag(self, authenticated: bytes) -> bytes:
        """Return the truncated HMAC over `authenticated`."""
        return hmac.digest(self._keys.authentication, authenticated, hashlib.sha1)[: self._tag_length]

    def verify(self, authenticated: bytes, tag: bytes) -> None:
        """Raise `SrtpError` unless `tag` is right."""
        if not hmac.compare_digest(self.tag(authenticated), tag):
            raise SrtpError(SrtpFailure.AUTHENTICATION)


class GcmCipher:
    """AES-GCM (RFC 7714 §8 and §9); the tag stands at the end of what it encrypts."""

    def __init__(self, keys: SessionKeys) -> None:
        self._salt = keys.salt
        self._gcm = AESGCM(keys.encryption)

    def _iv(self, ssrc: bytes, index: int) -> bytes:
        # RFC 7714 §8.1 (48-bit index) and §9.1 (31-bit index): two zero bytes, SSRC, index; xor salt.
        return _xor(self._salt, b"\0\0" + ssrc + index.to_bytes(6, "big"))

    def seal(self, ssrc: bytes, index: int, data: bytes, associated: bytes) -> bytes:
        """Return `data` encrypted and followed by the tag."""
        return self._gcm.encrypt(self._iv(ssrc, index), data, associated)

    def open(self, ssrc: bytes, index: int, sealed: bytes, associated: bytes) -> bytes:
        """Return what `sealed` hides; raise `SrtpError` if it or `associated` was changed."""
        try:
            return self._gcm.decrypt(self._iv(ssrc, index), sealed, associated)
        except InvalidTag:
            raise SrtpError(SrtpFailure.AUTHENTICATION) from None


def _make_cipher(profile: SrtpProfile, keys: SessionKeys, tag_length: int) -> CounterModeCipher | GcmCipher:
    return GcmCipher(keys) if profile.is_aead else CounterModeCipher(keys, tag_length)


class _Source:
    """One SSRC: the replay window, whose highest index holds the rollover counter."""

    __slots__ = ("next_rtcp_index", "rtcp", "rtp")

    def __init__(self) -> None:
        self.rtp = ReplayWindow(REPLAY_WINDOW_SIZE)
        self.rtcp = ReplayWindow(REPLAY_WINDOW_SIZE)
        self.next_rtcp_index = 0

    def rtp_index(self, sequence_number: SequenceNumber) -> int:
        """Return the index that `sequence_number` most likely has (RFC 3711 §3.3.1)."""
        if self.rtp.highest < 0:
            return sequence_number
        index = SERIAL16.unwrap(sequence_number, self.rtp.highest)
        return index if index >= 0 else sequence_number  # nothing comes before a rollover counter of zero


class _Direction:
    """The keys of one direction, and what is known of each SSRC that uses them."""

    def __init__(self, profile: SrtpProfile, rtp_keys: SessionKeys, rtcp_keys: SessionKeys) -> None:
        self.rtp = _make_cipher(profile, rtp_keys, profile.rtp_tag_length)
        self.rtcp = _make_cipher(profile, rtcp_keys, profile.rtcp_tag_length)
        self.sources: dict[bytes, _Source] = {}

    def source(self, ssrc: bytes) -> _Source:
        """Return what is known of `ssrc`; a new source is not remembered yet."""
        return self.sources.get(ssrc) or _Source()

    def known_source(self, ssrc: bytes) -> _Source:
        """Return the source of `ssrc` for reading, or raise `SrtpError` if there is no room for a new one."""
        if ssrc not in self.sources and len(self.sources) >= MAX_REMOTE_SOURCES:
            raise SrtpError(SrtpFailure.TOO_MANY_SOURCES)
        return self.source(ssrc)


class SrtpContext:
    """Both directions of one call, in plain Python: the readable counterpart of `SrtpEngine`."""

    def __init__(self, profile: SrtpProfile, local: MasterKey, remote: MasterKey) -> None:
        local.check(profile)
        remote.check(profile)
        self._rtp_tag_length = profile.rtp_tag_length
        self._rtcp_tag_length = profile.rtcp_tag_length
        self._local = _Direction(profile, derive_rtp_keys(profile, local), derive_rtcp_keys(profile, local))
        self._remote = _Direction(profile, derive_rtp_keys(profile, remote), derive_rtcp_keys(profile, remote))

    @classmethod
    def from_session_keys(cls, profile: SrtpProfile, local: SessionKeys, remote: SessionKeys) -> Self:
        """Return a context that uses session keys as they are, for RTP and RTCP alike: the RFCs' examples do."""
        context = cls.__new__(cls)
        context._rtp_tag_length = profile.rtp_tag_length
        context._rtcp_tag_length = profile.rtcp_tag_length
        context._local = _Direction(profile, local, local)
        context._remote = _Direction(profile, remote, remote)
        return context

    # RTP

    def protect(self, packet: bytes) -> bytes:
        """Return the RTP packet as SRTP; raise `LocalError` if it is none."""
        try:
            split = _rtp_header_length(packet)
        except SrtpError as error:
            raise LocalError(str(error)) from None
        header, payload, ssrc = packet[:split], packet[split:], packet[8:12]
        source = self._local.sources.setdefault(ssrc, _Source())
        index = source.rtp_index(_U16.unpack_from(packet, 2)[0])
        cipher = self._local.rtp
        if isinstance(cipher, GcmCipher):
            protected = header + cipher.seal(ssrc, index, payload, header)
        else:
            secret = header + cipher.crypt(ssrc, index, payload)
            # RFC 3711 §4.2: the rollover counter is authenticated although it does not travel.
            protected = secret + cipher.tag(secret + _U32.pack(index >> 16))
        source.rtp.accept(index)
        return protected

    def unprotect(self, packet: bytes) -> bytes:
        """Return the SRTP packet as RTP; raise `SrtpError` if it was forged, replayed or is none."""
        split = _rtp_header_length(packet)
        if len(packet) < split + self._rtp_tag_length:
            raise SrtpError(SrtpFailure.MALFORMED, "no room for a tag")
        header, ssrc = packet[:split], packet[8:12]
        source = self._remote.known_source(ssrc)
        index = source.rtp_index(_U16.unpack_from(packet, 2)[0])
        if source.rtp.is_replay(index):
            raise SrtpError(SrtpFailure.REPLAY)
        cipher = self._remote.rtp
        if isinstance(cipher, GcmCipher):
            payload = cipher.open(ssrc, index, packet[split:], header)
        else:
            secret, tag = packet[: -self._rtp_tag_length], packet[-self._rtp_tag_length :]
            cipher.verify(secret + _U32.pack(index >> 16), tag)
            payload = cipher.crypt(ssrc, index, secret[split:])
        # RFC 3711 §3.3: window and rollover counter move only for a packet that was authenticated.
        source.rtp.accept(index)
        self._remote.sources[ssrc] = source
        return header + payload

    # RTCP

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Return the compound RTCP packet as SRTCP; raise `LocalError` if it is none."""
        if len(packet) < _RTCP_CLEAR:
            raise LocalError("an RTCP packet has at least 8 bytes")
        header, body, ssrc = packet[:_RTCP_CLEAR], packet[_RTCP_CLEAR:], packet[4:8]
        source = self._local.sources.setdefault(ssrc, _Source())
        index = source.next_rtcp_index  # RFC 3711 §3.4: zero in the first packet (libsrtp begins with one)
        if index > _MAX_RTCP_INDEX:
            raise LocalError("2^31 SRTCP packets: the key is used up (RFC 3711 §9.2)")
        source.next_rtcp_index = index + 1
        cipher, trailer = self._local.rtcp, _U32.pack(_ENCRYPTED | index)
        if isinstance(cipher, GcmCipher):
            return header + cipher.seal(ssrc, index, body, header + trailer) + trailer
        secret = header + cipher.crypt(ssrc, index, body) + trailer
        return secret + cipher.tag(secret)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Return the SRTCP packet as RTCP; raise `SrtpError` if it was forged, replayed or is none."""
        if len(packet) < _RTCP_CLEAR + self._rtcp_tag_length + _RTCP_INDEX or packet[0] >> 6 != 2:
            raise SrtpError(SrtpFailure.MALFORMED, "not an SRTCP packet")
        ssrc = packet[4:8]
        source = self._remote.known_source(ssrc)
        cipher = self._remote.rtcp
        if isinstance(cipher, GcmCipher):
            index, plain = self._open_rtcp_gcm(cipher, source, packet)
        else:
            index, plain = self._open_rtcp_counter_mode(cipher, source, packet)
        source.rtcp.accept(index)
        self._remote.sources[ssrc] = source
        return plain

    def _open_rtcp_gcm(self, cipher: GcmCipher, source: _Source, packet: bytes) -> tuple[int, bytes]:
        word, trailer = _U32.unpack(packet[-_RTCP_INDEX:])[0], packet[-_RTCP_INDEX:]
        index = _unseen_rtcp_index(source, word)
        ssrc, sealed = packet[4:8], packet[:-_RTCP_INDEX]
        if word & _ENCRYPTED:
            header = packet[:_RTCP_CLEAR]
            return index, header + cipher.open(ssrc, index, sealed[_RTCP_CLEAR:], header + trailer)
        # RFC 7714 §9.3: authenticated only, so all of the packet is associated data.
        plain = sealed[: -self._rtcp_tag_length]
        cipher.open(ssrc, index, sealed[-self._rtcp_tag_length :], plain + trailer)
        return index, plain

    def _open_rtcp_counter_mode(
        self, cipher: CounterModeCipher, source: _Source, packet: bytes
    ) -> tuple[int, bytes]:
        authenticated, tag = packet[: -self._rtcp_tag_length], packet[-self._rtcp_tag_length :]
        word = _U32.unpack(authenticated[-_RTCP_INDEX:])[0]
        index = _unseen_rtcp_index(source, word)
        cipher.verify(authenticated, tag)
        header, body = packet[:_RTCP_CLEAR], authenticated[_RTCP_CLEAR:-_RTCP_INDEX]
        return index, header + (cipher.crypt(packet[4:8], index, body) if word & _ENCRYPTED else body)


def _unseen_rtcp_index(source: _Source, word: int) -> int:
    index = word & _MAX_RTCP_INDEX
    if source.rtcp.is_replay(index):
        raise SrtpError(SrtpFailure.REPLAY)
    return index
