from __future__ import annotations

from typing import Any

import pytest

from stack.dtls import Certificate, DtlsFailure, DtlsRole, HandshakeComplete, SignatureScheme, Version
from stack.dtls.alerts import HandshakeFailure
from stack.dtls.certificate import peer_public_key
from stack.dtls.groups import NamedGroup, answer_exchange, start_exchange
from stack.dtls.signatures import choose_scheme, fits, sign, verify
from tests.dtls.certificates import ed25519_certificate, p384_certificate, rsa_certificate
from tests.sim.certificates import CLIENT_CERTIFICATE
from tests.sim.dtls import DtlsPair
from tests.sim.entropy import entropy

V12, V13 = Version.DTLS_1_2, Version.DTLS_1_3
CERTIFICATES = {
    "p256": lambda: CLIENT_CERTIFICATE,
    "p384": p384_certificate,
    "rsa": lambda: rsa_certificate(1),
    "ed25519": ed25519_certificate,
}


@pytest.mark.parametrize("kind", list(CERTIFICATES))
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("scheme", list(SignatureScheme))
def test_every_scheme_that_fits_signs_and_verifies(kind: str, version: Version, scheme: SignatureScheme) -> None:
    certificate: Certificate = CERTIFICATES[kind]()
    key, public = certificate.private_key, peer_public_key(certificate.der)
    assert fits(scheme, key, version) == fits(scheme, public, version)
    if not fits(scheme, key, version):
        with pytest.raises(HandshakeFailure) as caught:
            choose_scheme((scheme,), (scheme,), key, version)
        assert caught.value.reason is DtlsFailure.NO_COMMON_SIGNATURE_ALGORITHM
        with pytest.raises(HandshakeFailure) as caught:
            verify(scheme, public, b"x", b"data", version)
        assert caught.value.reason is DtlsFailure.WRONG_SIGNATURE_ALGORITHM
        return
    signature = sign(scheme, key, b"data")
    verify(scheme, public, signature, b"data", version)
    with pytest.raises(HandshakeFailure) as caught:
        verify(scheme, public, signature, b"other", version)
    assert caught.value.reason is DtlsFailure.BAD_SIGNATURE
    with pytest.raises(HandshakeFailure) as caught:
        verify(scheme, public, signature, b"data", version, offered=())
    assert caught.value.reason is DtlsFailure.WRONG_SIGNATURE_ALGORITHM


@pytest.mark.parametrize("client", list(CERTIFICATES))
@pytest.mark.parametrize("server", list(CERTIFICATES))
@pytest.mark.parametrize("version", [V12, V13])
def test_every_kind_of_certificate_in_both_roles(client: str, server: str, version: Version) -> None:
    own: Certificate = CERTIFICATES[client]()
    other: Certificate = CERTIFICATES[server]()
    client_settings: dict[str, Any] = {"certificate": own, "peer_fingerprints": (other.fingerprint(),)}
    server_settings: dict[str, Any] = {"certificate": other, "peer_fingerprints": (own.fingerprint(),)}
    pair = DtlsPair(client_settings | {"max_version": version}, server_settings)
    pair.handshake()
    for role in DtlsRole:
        (event,) = pair.events[role]
        assert isinstance(event, HandshakeComplete)
        assert event.version is version


@pytest.mark.parametrize("group", list(NamedGroup))
def test_both_halves_of_every_group_agree(group: NamedGroup) -> None:
    first = start_exchange(group, entropy(1))
    public, secret = answer_exchange(group, first.public, entropy(2))
    assert first.shared_secret(public) == secret
    assert start_exchange(group, entropy(1)).public == first.public
    for spoiled in (b"", public[:-1], bytes(len(public))):
        with pytest.raises(HandshakeFailure) as caught:
            first.shared_secret(spoiled)
        assert caught.value.reason is DtlsFailure.BAD_KEY_SHARE
