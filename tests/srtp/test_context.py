"""The readable reference against the RFCs' own examples; `test_transform.py` holds it against the engine."""

import pytest

from stack.core.errors import LocalError
from stack.srtp import SrtpContext, SrtpError, SrtpFailure, SrtpProfile
from stack.srtp.kdf import SessionKeys
from tests.vectors import srtp as vectors

KEYS = {
    SrtpProfile.AEAD_AES_128_GCM: SessionKeys(vectors.GCM_KEY_128, b"", vectors.GCM_SALT),
    SrtpProfile.AEAD_AES_256_GCM: SessionKeys(vectors.GCM_KEY_256, b"", vectors.GCM_SALT),
}


def context(profile: SrtpProfile) -> SrtpContext:
    return SrtpContext.from_session_keys(profile, KEYS[profile], KEYS[profile])


@pytest.mark.parametrize(
    ("profile", "protected"),
    [
        (SrtpProfile.AEAD_AES_128_GCM, vectors.GCM_SRTP_128),
        (SrtpProfile.AEAD_AES_256_GCM, vectors.GCM_SRTP_256),
    ],
)
def test_rfc7714_section_16(profile: SrtpProfile, protected: bytes) -> None:
    assert context(profile).protect(vectors.GCM_RTP) == protected
    assert context(profile).unprotect(protected) == vectors.GCM_RTP


@pytest.mark.parametrize(
    ("profile", "protected"),
    [
        (SrtpProfile.AEAD_AES_128_GCM, vectors.GCM_SRTCP_128),
        (SrtpProfile.AEAD_AES_256_GCM, vectors.GCM_SRTCP_256),
    ],
)
def test_rfc7714_section_17(profile: SrtpProfile, protected: bytes) -> None:
    assert context(profile).unprotect_rtcp(protected) == vectors.GCM_RTCP
    sender = context(profile)
    for _ in range(vectors.GCM_RTCP_INDEX):  # the example has this many packets behind it
        sender.protect_rtcp(vectors.GCM_RTCP)
    assert sender.protect_rtcp(vectors.GCM_RTCP) == protected


def test_rfc7714_section_17_3_authenticated_but_not_encrypted() -> None:
    receiver = context(SrtpProfile.AEAD_AES_128_GCM)
    assert receiver.unprotect_rtcp(vectors.GCM_SRTCP_128_TAG_ONLY) == vectors.GCM_RTCP
    forged = bytearray(vectors.GCM_SRTCP_128_TAG_ONLY)
    forged[20] ^= 1
    with pytest.raises(SrtpError) as refused:
        context(SrtpProfile.AEAD_AES_128_GCM).unprotect_rtcp(bytes(forged))
    assert refused.value.reason is SrtpFailure.AUTHENTICATION


def test_the_first_rtcp_packet_has_index_zero() -> None:
    assert context(SrtpProfile.AEAD_AES_128_GCM).protect_rtcp(vectors.GCM_RTCP)[-4:] == b"\x80\0\0\0"


def test_what_is_not_rtp_cannot_be_protected() -> None:
    with pytest.raises(LocalError):
        context(SrtpProfile.AEAD_AES_128_GCM).protect(b"\x80\x00")
    with pytest.raises(LocalError):
        context(SrtpProfile.AEAD_AES_128_GCM).protect_rtcp(b"\x80\xc8")
