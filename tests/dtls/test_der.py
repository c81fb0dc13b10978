"""Faults in certificates that mean nothing where the fingerprint is the trust, and those that mean something."""

from __future__ import annotations

import warnings
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.dtls import AlertDescription, Certificate, DtlsFailed, DtlsFailure, DtlsRole, HandshakeComplete, Version
from stack.dtls.alerts import HandshakeFailure
from stack.dtls.certificate import peer_public_key
from stack.dtls.der import read_certificate
from stack.dtls.signatures import PrivateKey
from tests.sim.certificates import EPOCH, SERVER_CERTIFICATE
from tests.sim.dtls import DtlsPair

KEY = ec.derive_private_key(12345, ec.SECP256R1())
ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
COMMON_NAME = bytes.fromhex("0603550403")
KEY_USAGE = bytes.fromhex("0603551d0f")
SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    length = bytes((size,)) if size < 0x80 else bytes((0x80 + (size.bit_length() + 7) // 8,))
    if size >= 0x80:
        length += size.to_bytes(length[0] & 0x7F, "big")
    return bytes((tag,)) + length + body


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def name(text: bytes, kind: int = 0x13) -> bytes:
    return sequence(tlv(0x31, sequence(COMMON_NAME, tlv(kind, text))))


def extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    return sequence(oid, critical, tlv(0x04, value))


def key_usage(bits: bytes) -> bytes:
    return extension(KEY_USAGE, tlv(0x03, bits), tlv(0x01, b"\xff"))


def certificate(
    key: PrivateKey = KEY,
    *,
    version: bytes = b"\xa0\x03\x02\x01\x02",
    serial: bytes = b"\x2a",
    algorithm: bytes = ECDSA_SHA256,
    subject: bytes = b"",
    validity: bytes = b"",
    extensions: bytes | None = None,
) -> bytes:
    """A certificate whose signature is nonsense: it is not checked."""
    subject = subject or name(b"WebRTC")
    dates = tlv(0x17, b"260101000000Z"), tlv(0x17, b"270101000000Z")
    info = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = sequence(
        version,
        tlv(0x02, serial),
        sequence(algorithm),
        subject,
        sequence(validity) if validity else sequence(*dates),
        subject,
        info,
        b"" if extensions is None else tlv(0xA3, extensions),
    )
    return sequence(body, sequence(algorithm), tlv(0x03, b"\0nonsense"))


FAULTS: dict[str, bytes] = {
    "none": certificate(),
    "malformed SAN": certificate(extensions=sequence(extension(SUBJECT_ALT_NAME, b"\x30\x09\xff"))),
    "SAN twice": certificate(extensions=sequence(*2 * [extension(SUBJECT_ALT_NAME, sequence())])),
    "@ in a PrintableString": certificate(subject=name(b"me@example")),
    "a name that is no UTF-8": certificate(subject=name(b"\xff\xfe", 0x0C)),
    "empty name": certificate(subject=sequence()),
    "NULL parameters": certificate(algorithm=ECDSA_SHA256 + b"\x05\0"),
    "unknown signature algorithm": certificate(algorithm=bytes.fromhex("06022a03")),
    "serial 0": certificate(serial=b"\0"),
    "negative serial": certificate(serial=b"\xff\x01"),
    "long serial": certificate(serial=bytes(range(1, 40))),
    "empty serial": certificate(serial=b""),
    "version 1 with extensions": certificate(version=b"", extensions=sequence()),
    "version 9": certificate(version=b"\xa0\x03\x02\x01\x08"),
    "no dates": certificate(validity=tlv(0x17, b"never")),
    "malformed extensions": certificate(extensions=b"\x30\x7f"),
    "malformed key usage": certificate(extensions=sequence(extension(KEY_USAGE, b"\x04\x01"))),
    "key usage": certificate(extensions=sequence(key_usage(b"\x07\x80"))),
    "a length in long form": certificate(subject=b"\x30\x82\0\0"),
    "bytes after the end": certificate() + b"\r\n",
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_only_the_key_has_to_be_readable(fault: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert peer_public_key(FAULTS[fault]) == KEY.public_key()


@pytest.mark.parametrize("version", list({Version.DTLS_1_2, Version.DTLS_1_3}))
@pytest.mark.parametrize("fault", ["malformed SAN", "@ in a PrintableString", "NULL parameters", "serial 0"])
def test_such_a_certificate_connects_on_either_side(fault: str, version: Version) -> None:
    odd = Certificate([FAULTS[fault]], KEY)
    settings = {"certificate": odd, "peer_fingerprints": (odd.fingerprint(),)}
    pair = DtlsPair(settings | {"max_version": version}, settings)
    pair.handshake()
    for role in DtlsRole:
        assert [type(event) for event in pair.events[role]] == [HandshakeComplete]
        assert pair.endpoint(role).peer_certificate == odd.der


@pytest.mark.parametrize("bits", [b"\x05\x20", b"\0", b""])
def test_a_key_usage_without_signing_is_still_refused(bits: bytes) -> None:
    with pytest.raises(HandshakeFailure) as caught:
        peer_public_key(certificate(extensions=sequence(extension(b"\x06\x01\x2a", b""), key_usage(bits))))
    assert caught.value.reason is DtlsFailure.KEY_USAGE


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP521R1(), ec.SECP224R1(), ec.BrainpoolP256R1()])
def test_a_key_on_a_curve_that_we_do_not_name_is_refused(curve: ec.EllipticCurve, version: Version) -> None:
    key = ec.derive_private_key(12345, curve)
    odd = Certificate([certificate(key)], key)
    with pytest.raises(HandshakeFailure) as caught:
        peer_public_key(odd.der)
    assert caught.value.alert is AlertDescription.UNSUPPORTED_CERTIFICATE
    if version is Version.DTLS_1_2:  # in 1.3 no scheme fits such a key, so no client can try
        pair = DtlsPair({"certificate": odd, "max_version": version}, {"peer_fingerprints": (odd.fingerprint(),)})
        pair.handshake()
        (event,) = (event for event in pair.events[DtlsRole.SERVER] if isinstance(event, DtlsFailed))
        assert (event.reason, event.remote) == (DtlsFailure.BAD_CERTIFICATE, False)


def test_rsa_keys_are_found_as_well() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert peer_public_key(certificate(key)) == key.public_key()
    with pytest.raises(HandshakeFailure) as caught:
        peer_public_key(certificate(rsa.generate_private_key(65537, 1024)).replace(b"\x05\0", b"\x05\1", 1))
    assert caught.value.reason is DtlsFailure.BAD_CERTIFICATE


def test_what_the_library_makes_is_read_the_same_way() -> None:
    der = Certificate.generate(lambda size: bytes(range(size)), EPOCH, timedelta(days=1)).der
    found = read_certificate(der)
    assert found.may_sign
    assert found.public_key_info in der


@given(st.data())
def test_cut_or_changed_bytes_are_a_key_or_a_parse_error(data: st.DataObject) -> None:
    der = bytearray(SERVER_CERTIFICATE.der)
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_certificate(bytes(der[: data.draw(st.integers(0, len(der)))]))
    except ParseError:
        return
