import pytest

from stack.core.errors import LocalError
from stack.srtp import MasterKey, SrtpProfile, keying_material_length, split_keying_material


@pytest.mark.parametrize(
    ("profile", "length"),
    [
        (SrtpProfile.AES128_CM_HMAC_SHA1_80, 60),
        (SrtpProfile.AES128_CM_HMAC_SHA1_32, 60),
        (SrtpProfile.AEAD_AES_128_GCM, 56),
        (SrtpProfile.AEAD_AES_256_GCM, 88),
    ],
)
def test_material_is_client_key_server_key_client_salt_server_salt(profile: SrtpProfile, length: int) -> None:
    assert keying_material_length(profile) == length
    material = bytes(range(length))
    key, salt = profile.key_length, profile.salt_length
    local, remote = split_keying_material(profile, material, is_client=True)
    assert local.key + remote.key + local.salt + remote.salt == material
    assert (len(local.key), len(remote.salt)) == (key, salt)
    assert split_keying_material(profile, material, is_client=False) == (remote, local)


def test_wrong_lengths_are_our_own_fault() -> None:
    with pytest.raises(LocalError):
        split_keying_material(SrtpProfile.AEAD_AES_128_GCM, bytes(55), is_client=True)
    with pytest.raises(LocalError):
        MasterKey(bytes(16), bytes(14)).check(SrtpProfile.AEAD_AES_128_GCM)


def test_a_key_does_not_show_itself() -> None:
    assert "41" not in repr(MasterKey(b"A" * 16, b"A" * 12))
    assert "AAAA" not in repr(MasterKey(b"A" * 16, b"A" * 12))
