from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.certificate_fingerprint import TRUSTED_HASHES, CertificateFingerprint
from stack.core.errors import ParseError

DER = bytes(range(200))


def test_letter_case_is_settled() -> None:
    fingerprint = CertificateFingerprint.parse("SHA-1 " + ":".join(["ab"] * 20))
    assert fingerprint.serialize() == "sha-1 " + ":".join(["AB"] * 20)
    assert fingerprint.digest == b"\xab" * 20
    assert CertificateFingerprint.parse("sha-384 " + ":".join(["ab"] * 48)).strength == 48


def test_weak_and_unknown_functions_have_no_strength() -> None:
    for text in ("md5 " + ":".join(["00"] * 16), "whirlpool 00:11"):
        fingerprint = CertificateFingerprint.parse(text)
        assert fingerprint.strength == 0
        assert not fingerprint.matches(DER)
    for name, size in (("sha-1", 20), ("sha-224", 28)):
        assert CertificateFingerprint.parse(f"{name} " + ":".join(["00"] * size)).strength == 0


def test_the_trusted_functions_differ_in_strength() -> None:
    assert [CertificateFingerprint.of(DER, name).strength for name in TRUSTED_HASHES] == [32, 48, 64]


@pytest.mark.parametrize(
    ("algorithm", "name"), [("sha-256", "sha256"), ("sha-384", "sha384"), ("sha-512", "sha512")]
)
def test_fingerprints_match_what_hashlib_says(algorithm: str, name: str) -> None:
    fingerprint = CertificateFingerprint.of(DER, algorithm)
    assert fingerprint.digest == hashlib.new(name, DER).digest()
    assert CertificateFingerprint.parse(fingerprint.serialize()) == fingerprint
    assert fingerprint.matches(DER)
    assert not fingerprint.matches(DER + b"\0")


def test_weak_hashes_are_read_but_never_match() -> None:
    weak = CertificateFingerprint.parse("sha-1 " + hashlib.sha1(DER).digest().hex(":"))
    assert not weak.matches(DER)


def test_lower_case_is_read_and_upper_case_is_written() -> None:
    fingerprint = CertificateFingerprint.parse("SHA-256  " + bytes(range(32)).hex(":"))
    assert str(fingerprint).startswith("sha-256 00:01:02")
    assert str(fingerprint).endswith("1D:1E:1F")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha-256",
        "sha-256 AB",
        "sha-1 GG",
        "sha-256 " + "AB" * 32,
        "sha-1 :AB",
        "md5 00",
        "sha-256 00:11",
        "sha-256 " + "0:" * 31 + "0",
        "sha-256 zz",
    ],
)
def test_malformed_fingerprints_are_parse_errors(text: str) -> None:
    with pytest.raises(ParseError):
        CertificateFingerprint.parse(text)


@given(st.text(max_size=120))
def test_any_text_is_a_fingerprint_or_a_parse_error(text: str) -> None:
    with contextlib.suppress(ParseError):
        CertificateFingerprint.parse(text)
