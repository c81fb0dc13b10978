from __future__ import annotations

import pytest

from stack.core.srtp_profile import SrtpProfile

# RFC 5764 §4.1.2 and RFC 7714 §14.2, in bytes: key, salt, tag of SRTP, tag of SRTCP.
PARAMETERS = {
    1: (16, 14, 10, 10),
    2: (16, 14, 4, 10),
    7: (16, 12, 16, 16),
    8: (32, 12, 16, 16),
}


@pytest.mark.parametrize(("number", "lengths"), PARAMETERS.items())
def test_lengths_are_those_of_the_rfcs(number: int, lengths: tuple[int, ...]) -> None:
    profile = SrtpProfile(number)
    found = (profile.key_length, profile.salt_length, profile.rtp_tag_length, profile.rtcp_tag_length)
    assert found == lengths
    assert profile.auth_key_length == (0 if profile.is_aead else 20)


def test_no_other_profile_is_known() -> None:
    assert {int(profile) for profile in SrtpProfile} == set(PARAMETERS)
