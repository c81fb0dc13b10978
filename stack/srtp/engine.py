"""SRTP for calls: libsrtp through `pylibsrtp`, which bundles its own copy on OpenSSL.

About 1.3 µs a packet each way. `context.py` says what happens inside; this file only maps keys, errors and
bounds. Debian's own libsrtp2 must never take this place: its cost per packet grows with the number of calls.
"""

from __future__ import annotations

from pylibsrtp import Error, Policy, Session

from stack.core.errors import LocalError
from stack.core.srtp_profile import SrtpProfile
from stack.srtp.master_key import MasterKey
from stack.srtp.transform import MAX_REMOTE_SOURCES, SrtpError, SrtpFailure

_POLICY = {
    SrtpProfile.AES128_CM_HMAC_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpProfile.AES128_CM_HMAC_SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}

# pylibsrtp tells its errors apart by their words only.
_FAILURE = {
    "authentication failure": SrtpFailure.AUTHENTICATION,
    "cipher failure": SrtpFailure.AUTHENTICATION,  # what GCM calls a wrong tag
    "replay check failed (bad index)": SrtpFailure.REPLAY,
    "replay check failed (index too old)": SrtpFailure.REPLAY,
    "packet index is too old to consider": SrtpFailure.REPLAY,
}


class SrtpEngine:
    """Both directions of one call over libsrtp; see `SrtpTransform` for the contract.

    It owns the rollover counters and replay windows of every SSRC that it has seen: a second engine that protects
    under the same keys would repeat nonces.
    """

    __slots__ = ("_inbound", "_outbound", "_remote_sources")

    def __init__(self, profile: SrtpProfile, local: MasterKey, remote: MasterKey) -> None:
        local.check(profile)
        remote.check(profile)
        outbound = Policy(local.key + local.salt, Policy.SSRC_ANY_OUTBOUND, srtp_profile=_POLICY[profile])
        outbound.allow_repeat_tx = True  # a NACK without RTX is answered with the very same packet
        self._outbound = Session(outbound)
        self._inbound = Session(
            Policy(remote.key + remote.salt, Policy.SSRC_ANY_INBOUND, srtp_profile=_POLICY[profile])
        )
        self._remote_sources: set[bytes] = set()

    def protect(self, packet: bytes) -> bytes:
        """Return the RTP packet as SRTP; raise `LocalError` if it is none."""
        try:
            protected: bytes = self._outbound.protect(packet)
        except (Error, ValueError) as error:
            raise LocalError(f"cannot protect RTP: {error}") from None
        return protected

    def unprotect(self, packet: bytes) -> bytes:
        """Return the SRTP packet as RTP; raise `SrtpError` if it was forged, replayed or is none."""
        ssrc = packet[8:12]
        known = ssrc in self._remote_sources
        if not known and len(self._remote_sources) >= MAX_REMOTE_SOURCES:
            raise SrtpError(SrtpFailure.TOO_MANY_SOURCES)
        try:
            plain: bytes = self._inbound.unprotect(packet)
        except (Error, ValueError) as error:
            raise _srtp_error(error) from None
        if not known:
            self._remote_sources.add(ssrc)
        return plain

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Return the compound RTCP packet as SRTCP; raise `LocalError` if it is none."""
        try:
            protected: bytes = self._outbound.protect_rtcp(packet)
        except (Error, ValueError) as error:
            raise LocalError(f"cannot protect RTCP: {error}") from None
        return protected

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Return the SRTCP packet as RTCP; raise `SrtpError` if it was forged, replayed or is none."""
        ssrc = packet[4:8]
        known = ssrc in self._remote_sources
        if not known and len(self._remote_sources) >= MAX_REMOTE_SOURCES:
            raise SrtpError(SrtpFailure.TOO_MANY_SOURCES)
        try:
            plain: bytes = self._inbound.unprotect_rtcp(packet)
        except (Error, ValueError) as error:
            raise _srtp_error(error) from None
        if not known:
            self._remote_sources.add(ssrc)
        return plain


def _srtp_error(error: Exception) -> SrtpError:
    detail = str(error)
    return SrtpError(_FAILURE.get(detail, SrtpFailure.MALFORMED), detail)
