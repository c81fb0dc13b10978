"""Against other people's DTLS: OpenSSL through pyOpenSSL, in memory, 1.2 in both roles.

Its command line tools and GnuTLS are real UDP peers and are tried in `interop/`.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from stack.dtls import (
    ApplicationData,
    Certificate,
    CipherSuite,
    DtlsEndpoint,
    DtlsRole,
    HandshakeComplete,
    NamedGroup,
    PeerClosed,
    SrtpProfile,
    Version,
)
from stack.dtls.suites import SUITES
from tests.dtls.certificates import rsa_certificate
from tests.sim.certificates import CLIENT_CERTIFICATE, SERVER_CERTIFICATE, config
from tests.sim.entropy import entropy

SSL = pytest.importorskip("OpenSSL.SSL")

pytestmark = pytest.mark.peer

SRTP_NAMES = {
    SrtpProfile.AES128_CM_HMAC_SHA1_80: b"SRTP_AES128_CM_SHA1_80",
    SrtpProfile.AES128_CM_HMAC_SHA1_32: b"SRTP_AES128_CM_SHA1_32",
    SrtpProfile.AEAD_AES_128_GCM: b"SRTP_AEAD_AES_128_GCM",
    SrtpProfile.AEAD_AES_256_GCM: b"SRTP_AEAD_AES_256_GCM",
}


class OpenSsl:
    """OpenSSL as the other side. Its memory BIO forgets where datagrams end; records do not."""

    def __init__(
        self,
        role: DtlsRole,
        certificate: Certificate,
        profile: SrtpProfile,
        mtu: int = 1200,
        ciphers: bytes = b"ALL",
    ) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.set_cipher_list(ciphers)
        context.use_privatekey(certificate.private_key)
        context.use_certificate(x509.load_der_x509_certificate(certificate.der))
        context.set_tlsext_use_srtp(SRTP_NAMES[profile])
        context.set_options(SSL.OP_NO_QUERY_MTU)
        self.connection = SSL.Connection(context, None)
        self.connection.set_ciphertext_mtu(mtu)
        if role is DtlsRole.CLIENT:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        self.is_complete = False
        self.is_closed = False
        self.received = b""

    def take(self, data: bytes) -> None:
        self.connection.bio_write(data)
        self.step()

    def step(self) -> None:
        try:
            if not self.is_complete:
                self.connection.do_handshake()
                self.is_complete = True
            self.received += self.connection.recv(4096)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.is_closed = True

    def drain(self) -> bytes:
        try:
            return bytes(self.connection.bio_read(1 << 16))
        except SSL.WantReadError:
            return b""


def connect(ours: DtlsEndpoint, theirs: OpenSsl, drop: set[int] | None = None) -> list[Any]:
    """Run the handshake, losing our datagrams whose numbers are in `drop`."""
    events: list[Any] = []
    sent, now = 0, 0.0
    ours.start(now)
    theirs.step()
    for _ in range(60):
        quiet = True
        for data in ours.drain_transmits():
            quiet = False
            sent += 1
            if not drop or sent not in drop:
                theirs.take(data)
        if data := theirs.drain():
            quiet = False
            ours.handle_datagram(data, now)
        events += ours.drain_events()
        if quiet and theirs.is_complete and ours.can_send:
            break
        if quiet and (at := ours.poll_timeout()) is not None:
            now = at
            ours.handle_timeout(now)
    return events


def assert_alike(ours: DtlsEndpoint, theirs: OpenSsl, events: list[Any], profile: SrtpProfile) -> None:
    assert [type(event) for event in events] == [HandshakeComplete], events
    assert theirs.is_complete
    assert ours.version is Version.DTLS_1_2
    assert ours.srtp_profile is profile
    assert theirs.connection.get_selected_srtp_profile() == SRTP_NAMES[profile]
    assert ours.negotiated.extended_master_secret
    label = "EXTRACTOR-dtls_srtp"
    for context in (None, b"", b"context"):
        exported = theirs.connection.export_keying_material(label.encode(), 60, context)
        assert ours.export_keying_material(label, context, 60) == exported
    ours.send(b"from us", 0.0)
    for data in ours.drain_transmits():
        theirs.take(data)
    assert theirs.received == b"from us"
    theirs.connection.send(b"from them")
    ours.handle_datagram(theirs.drain(), 0.0)
    assert ours.drain_events() == [ApplicationData(b"from them")]
    theirs.connection.shutdown()
    ours.handle_datagram(theirs.drain(), 0.0)
    assert ours.drain_events() == [PeerClosed()]


@pytest.mark.parametrize("profile", list(SrtpProfile))
@pytest.mark.parametrize("role", list(DtlsRole))
def test_openssl_and_we_agree(role: DtlsRole, profile: SrtpProfile) -> None:
    peer = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
    theirs = OpenSsl(peer, SERVER_CERTIFICATE if role is DtlsRole.CLIENT else CLIENT_CERTIFICATE, profile)
    ours = DtlsEndpoint(role, config(role, srtp_profiles=tuple(SrtpProfile)), entropy(3))
    assert_alike(ours, theirs, connect(ours, theirs), profile)


@pytest.mark.parametrize("suite", [suite for suite in CipherSuite if SUITES[suite].version is Version.DTLS_1_2])
@pytest.mark.parametrize("role", list(DtlsRole))
def test_every_suite_with_openssl(role: DtlsRole, suite: CipherSuite) -> None:
    peer = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
    is_rsa = "_RSA_" in suite.name
    client, server = (
        (rsa_certificate(1), rsa_certificate(2)) if is_rsa else (CLIENT_CERTIFICATE, SERVER_CERTIFICATE)
    )
    own, other = (client, server) if role is DtlsRole.CLIENT else (server, client)
    profile = SrtpProfile.AEAD_AES_128_GCM
    theirs = OpenSsl(peer, other, profile)
    settings = {
        "certificate": own,
        "peer_fingerprints": (other.fingerprint("sha-512"),),
        "cipher_suites": (suite, CipherSuite.TLS_AES_128_GCM_SHA256),
    }
    ours = DtlsEndpoint(role, config(role, **settings), entropy(3))
    assert_alike(ours, theirs, connect(ours, theirs), profile)
    assert ours.cipher_suite is suite


@pytest.mark.parametrize("group", [NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1])
@pytest.mark.parametrize("role", list(DtlsRole))
def test_every_group_with_openssl(role: DtlsRole, group: NamedGroup) -> None:
    peer = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
    profile = SrtpProfile.AES128_CM_HMAC_SHA1_80
    theirs = OpenSsl(peer, SERVER_CERTIFICATE if role is DtlsRole.CLIENT else CLIENT_CERTIFICATE, profile)
    # OpenSSL also wants the curve of its certificate among the groups.
    ours = DtlsEndpoint(role, config(role, groups=(group, NamedGroup.SECP256R1)), entropy(3))
    assert_alike(ours, theirs, connect(ours, theirs), profile)
    assert ours.group is group


@pytest.mark.parametrize("mtu", [256, 512])
@pytest.mark.parametrize(
    ("role", "lost"),
    # Our last flight as a server is left alone: OpenSSL would ask for it again by the wall clock.
    [
        (DtlsRole.CLIENT, 1),
        (DtlsRole.CLIENT, 2),
        (DtlsRole.CLIENT, 3),
        (DtlsRole.CLIENT, 4),
        (DtlsRole.SERVER, 1),
        (DtlsRole.SERVER, 2),
    ],
)
def test_openssl_through_a_narrow_and_lossy_link(role: DtlsRole, mtu: int, lost: int) -> None:
    peer = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
    profile = SrtpProfile.AEAD_AES_128_GCM
    theirs = OpenSsl(peer, SERVER_CERTIFICATE if role is DtlsRole.CLIENT else CLIENT_CERTIFICATE, profile, mtu=mtu)
    ours = DtlsEndpoint(role, config(role, mtu=mtu), entropy(3))
    events = connect(ours, theirs, drop={lost})
    assert_alike(ours, theirs, events, profile)
