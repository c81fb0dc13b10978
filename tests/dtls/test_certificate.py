from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from stack.dtls import Certificate, CertificateFingerprint, DtlsFailure
from stack.dtls.alerts import HandshakeFailure
from stack.dtls.certificate import check_fingerprint, peer_public_key
from tests.dtls.certificates import rsa_certificate, self_signed
from tests.sim.certificates import EPOCH, SERVER_CERTIFICATE
from tests.sim.entropy import entropy


def test_generated_certificates_are_self_signed_p256() -> None:
    certificate = Certificate.generate(entropy(5), EPOCH, timedelta(days=7))
    parsed = x509.load_der_x509_certificate(certificate.der)
    parsed.verify_directly_issued_by(parsed)
    assert isinstance(parsed.public_key(), ec.EllipticCurvePublicKey)
    assert parsed.not_valid_before_utc < EPOCH < parsed.not_valid_after_utc == EPOCH + timedelta(days=7)


def test_equal_entropy_makes_equal_keys() -> None:
    one, other = (Certificate.generate(entropy(5), EPOCH) for _ in range(2))
    assert one.private_key.private_numbers() == other.private_key.private_numbers()


def test_one_of_several_fingerprints_is_enough() -> None:
    wrong = CertificateFingerprint("sha-256", bytes(32))
    check_fingerprint(SERVER_CERTIFICATE.der, (wrong, SERVER_CERTIFICATE.fingerprint()))
    check_fingerprint(SERVER_CERTIFICATE.der, None)
    for expected in ((wrong,), ()):
        with pytest.raises(HandshakeFailure) as caught:
            check_fingerprint(SERVER_CERTIFICATE.der, expected)
        assert caught.value.reason is DtlsFailure.FINGERPRINT_MISMATCH


def test_a_certificate_that_may_not_sign_is_refused() -> None:
    flags = dict.fromkeys(
        (
            "content_commitment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    key = ec.generate_private_key(ec.SECP256R1())
    bad = self_signed(key, x509.KeyUsage(digital_signature=False, key_encipherment=True, **flags))
    with pytest.raises(HandshakeFailure) as caught:
        peer_public_key(bad.der)
    assert caught.value.reason is DtlsFailure.KEY_USAGE
    good = self_signed(key, x509.KeyUsage(digital_signature=True, key_encipherment=False, **flags))
    assert peer_public_key(good.der) == key.public_key()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_or_a_failure(data: bytes) -> None:
    with pytest.raises(HandshakeFailure):
        peer_public_key(data)


def test_pem_is_read() -> None:
    certificate = rsa_certificate(1)
    chain = x509.load_der_x509_certificate(certificate.der).public_bytes(serialization.Encoding.PEM)
    key = certificate.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert Certificate.from_pem(chain, key).der == certificate.der
