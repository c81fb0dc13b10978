"""Key schedules against published vectors (`tests/vectors/dtls-key-schedule.txt`) and against `cryptography`."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from stack.dtls.keys12 import Keys12, prf
from stack.dtls.keys13 import Keys13, Transcript, expand_label, hkdf_expand
from stack.dtls.suites import SUITES, CipherSuite

VECTORS = {
    name: bytes.fromhex(value)
    for name, value in (
        line.split()
        for line in (Path(__file__).parent.parent / "vectors" / "dtls-key-schedule.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}
TLS = b"tls13 "


def rfc8448(name: str) -> bytes:
    return VECTORS["rfc8448." + name]


def test_the_1_3_schedule_follows_rfc_8448() -> None:
    early = hmac.digest(bytes(32), bytes(32), "sha256")
    assert early == rfc8448("early_secret")
    derived = expand_label("sha256", early, b"derived", hashlib.sha256().digest(), 32, TLS)
    assert derived == rfc8448("derived")
    handshake = hmac.digest(derived, rfc8448("shared_secret"), "sha256")
    assert handshake == rfc8448("handshake_secret")
    context = rfc8448("hello_hash")
    assert expand_label("sha256", handshake, b"c hs traffic", context, 32, TLS) == rfc8448(
        "client_handshake_traffic"
    )
    server = expand_label("sha256", handshake, b"s hs traffic", context, 32, TLS)
    assert server == rfc8448("server_handshake_traffic")
    assert expand_label("sha256", server, b"key", b"", 16, TLS) == rfc8448("server_handshake_key")
    assert expand_label("sha256", server, b"iv", b"", 12, TLS) == rfc8448("server_handshake_iv")
    salt = expand_label("sha256", handshake, b"derived", hashlib.sha256().digest(), 32, TLS)
    master = hmac.digest(salt, bytes(32), "sha256")
    assert master == rfc8448("master_secret")
    context = rfc8448("finished_hash")
    for label, name in ((b"s ap traffic", "server_application_traffic"), (b"exp master", "exporter_master")):
        assert expand_label("sha256", master, label, context, 32, TLS) == rfc8448(name)


def test_dtls_has_its_own_label_prefix_without_a_space() -> None:
    info = b"\x00\x10\x09dtls13key\x00"
    expected = hmac.digest(bytes(32), info + b"\x01", "sha256")[:16]
    assert expand_label("sha256", bytes(32), b"key", b"", 16) == expected


@pytest.mark.parametrize("name", ["sha256", "sha384"])
def test_the_1_2_prf_follows_its_vectors(name: str) -> None:
    expected = VECTORS[f"prf12.{name}.output"]
    secret, seed = VECTORS[f"prf12.{name}.secret"], VECTORS[f"prf12.{name}.seed"]
    assert prf(name, secret, b"test label", seed, len(expected)) == expected


@given(st.binary(min_size=32, max_size=48), st.binary(max_size=80), st.integers(1, 200))
def test_hkdf_expand_agrees_with_the_library(secret: bytes, info: bytes, length: int) -> None:
    assert hkdf_expand("sha384", secret, info, length) == HKDFExpand(hashes.SHA384(), length, info).derive(secret)


@pytest.mark.parametrize("suite", [CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384])
def test_application_secrets_differ_from_each_other_and_by_transcript(suite: CipherSuite) -> None:
    outcomes = set()
    for finished_hash in (b"a" * 32, b"b" * 32):
        keys = Keys13(SUITES[suite], b"shared", b"hello hash")
        keys.derive_application(finished_hash)
        outcomes |= {keys.client_application, keys.server_application, keys.export(b"label", b"", 32)}
        outcomes |= {keys.next_generation(keys.client_application)}
        assert keys.export(b"label", None, 32) == keys.export(b"label", b"", 32)  # RFC 8446 §7.5
    assert len(outcomes) == 8


def test_the_1_2_exporter_tells_no_context_from_an_empty_one() -> None:
    suite = SUITES[CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
    keys = Keys12.derive(suite, b"premaster", b"c" * 32, b"s" * 32, None)
    assert keys.export(b"label", None, 32) != keys.export(b"label", b"", 32)
    extended = Keys12.derive(suite, b"premaster", b"c" * 32, b"s" * 32, b"transcript")
    assert extended.master_secret != keys.master_secret


def test_message_hash_replaces_the_first_hello() -> None:
    transcript = Transcript("sha256")
    transcript.add(b"hello")
    transcript.replace_by_message_hash()
    assert transcript.digest() == hashlib.sha256(b"\xfe\0\0\x20" + hashlib.sha256(b"hello").digest()).digest()
