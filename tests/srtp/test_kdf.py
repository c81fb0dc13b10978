from stack.core.srtp_profile import SrtpProfile
from stack.srtp.kdf import Label, aes_counter_mode, derive, derive_rtcp_keys, derive_rtp_keys
from stack.srtp.master_key import MasterKey
from tests.vectors import srtp as vectors


def test_rfc3711_key_stream() -> None:
    last = max(vectors.CM_KEY_STREAM)
    stream = aes_counter_mode(vectors.CM_KEY, vectors.CM_COUNTER, bytes(16 * (last + 1)))
    for block, expected in vectors.CM_KEY_STREAM.items():
        assert stream[16 * block : 16 * block + 16] == expected


def test_rfc3711_key_derivation() -> None:
    master = MasterKey(vectors.KDF_MASTER_KEY, vectors.KDF_MASTER_SALT)
    assert derive(master, Label.RTP_ENCRYPTION, 16) == vectors.KDF_CIPHER_KEY
    assert derive(master, Label.RTP_SALT, 14) == vectors.KDF_CIPHER_SALT
    assert derive(master, Label.RTP_AUTHENTICATION, len(vectors.KDF_AUTH_KEY)) == vectors.KDF_AUTH_KEY


def test_every_key_of_a_profile_has_its_length_and_none_is_used_twice() -> None:
    for profile in SrtpProfile:
        master = MasterKey(bytes(profile.key_length), bytes(profile.salt_length))
        rtp, rtcp = derive_rtp_keys(profile, master), derive_rtcp_keys(profile, master)
        for keys in (rtp, rtcp):
            assert len(keys.encryption) == profile.key_length
            assert len(keys.authentication) == profile.auth_key_length
            assert len(keys.salt) == profile.salt_length
        assert rtp.encryption != rtcp.encryption
        assert rtp.salt != rtcp.salt
