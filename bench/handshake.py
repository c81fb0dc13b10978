"""What a DTLS handshake costs a server: ours beside OpenSSL's through pyOpenSSL, and ours by version and group.

Only the server's processor time counts: from making the connection to the exported SRTP keys, with a certificate
asked of the client and held against its fingerprint, as every WebRTC server does. In 1.2 the client is OpenSSL for
both contestants; pyOpenSSL has no DTLS 1.3, so there our own client is the other side. Datagrams travel in
memory.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median
from time import thread_time_ns

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from bench.report import Options, Table
from stack.dtls import (
    Certificate,
    CipherSuite,
    DtlsConfig,
    DtlsEndpoint,
    DtlsRole,
    HandshakeComplete,
    NamedGroup,
    SrtpProfile,
    Version,
)

EXPORT_LABEL = "EXTRACTOR-dtls_srtp"
EXPORT_LENGTH = 56
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT, SERVER = Certificate.generate(os.urandom, NOW), Certificate.generate(os.urandom, NOW)
REPEATS = 150


class Stopwatch:
    """Sums the processor time of one contestant."""

    def __init__(self) -> None:
        self.nanoseconds = 0
        self.laps: list[float] = []

    def __enter__(self) -> None:
        self._began = thread_time_ns()

    def __exit__(self, *_: object) -> None:
        self.nanoseconds += thread_time_ns() - self._began

    def lap(self) -> None:
        """One handshake is over."""
        self.laps.append(self.nanoseconds / 1e6)
        self.nanoseconds = 0


class OpenSsl:
    """One side of OpenSSL's, over memory BIOs."""

    @staticmethod
    def context(certificate: Certificate, group: NamedGroup) -> SSL.Context:
        """What is made once and serves every connection."""
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256")
        context.use_privatekey(certificate.private_key)
        context.use_certificate(x509.load_der_x509_certificate(certificate.der))
        context.set_tlsext_use_srtp(b"SRTP_AEAD_AES_128_GCM")
        context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET)
        if group is NamedGroup.SECP256R1:  # X25519 is OpenSSL's own first choice
            context.set_tmp_ecdh(ec.SECP256R1())
        return context

    def __init__(self, context: SSL.Context, role: DtlsRole) -> None:
        self.connection = SSL.Connection(context, None)
        self.connection.set_ciphertext_mtu(1200)
        if role is DtlsRole.CLIENT:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        self.is_complete = False

    def take(self, data: bytes) -> None:
        """Hand over what arrived (nothing at the beginning) and go on."""
        if data:
            self.connection.bio_write(data)
        try:
            self.connection.do_handshake()
            self.is_complete = True
        except SSL.WantReadError:
            pass

    def drain(self) -> bytes:
        """What is to be sent."""
        try:
            return bytes(self.connection.bio_read(1 << 16))
        except SSL.WantReadError:
            return b""

    def finish(self) -> bytes:
        """Do what DTLS-SRTP asks for in the end: hold the fingerprint against the certificate, export the keys."""
        certificate = self.connection.get_peer_certificate()
        assert certificate is not None
        assert certificate.digest("sha256").decode() == CLIENT.fingerprint().value
        keys: bytes = self.connection.export_keying_material(EXPORT_LABEL.encode(), EXPORT_LENGTH)
        return keys


def our_config(role: DtlsRole, version: Version, group: NamedGroup) -> DtlsConfig:
    """The same choices for both of our sides."""
    suites = (CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
    own, peer = (CLIENT, SERVER) if role is DtlsRole.CLIENT else (SERVER, CLIENT)
    return DtlsConfig(
        certificate=own,
        peer_fingerprints=(peer.fingerprint(),),
        min_version=version,
        max_version=version,
        cipher_suites=suites,
        groups=(group,),
        srtp_profiles=(SrtpProfile.AEAD_AES_128_GCM,),
        alpn=(),
    )


def ours_against_openssl(watch: Stopwatch, context: SSL.Context, config: DtlsConfig) -> None:
    """One 1.2 handshake of our server."""
    client = OpenSsl(context, DtlsRole.CLIENT)
    client.take(b"")
    with watch:
        server = DtlsEndpoint(DtlsRole.SERVER, config, os.urandom)
        server.start(0.0)
    events: list[object] = []
    while not client.is_complete:
        data = client.drain()
        with watch:
            server.handle_datagram(data, 0.0)
            datagrams = server.drain_transmits()
            events += server.drain_events()
        for datagram in datagrams:
            client.take(datagram)
    with watch:
        keys = server.export_keying_material(EXPORT_LABEL, None, EXPORT_LENGTH)
    watch.lap()
    assert isinstance(events[0], HandshakeComplete)
    assert keys == client.connection.export_keying_material(EXPORT_LABEL.encode(), EXPORT_LENGTH)


def openssl_against_openssl(
    watch: Stopwatch, client_context: SSL.Context, make_server_context: Callable[[], SSL.Context]
) -> None:
    """One 1.2 handshake of OpenSSL's server."""
    client = OpenSsl(client_context, DtlsRole.CLIENT)
    client.take(b"")
    with watch:
        server = OpenSsl(make_server_context(), DtlsRole.SERVER)
    while not client.is_complete:
        data = client.drain()
        with watch:
            server.take(data)
            data = server.drain()
        client.take(data)
    with watch:
        keys = server.finish()
    watch.lap()
    assert keys == client.connection.export_keying_material(EXPORT_LABEL.encode(), EXPORT_LENGTH)


def ours_against_ours(watch: Stopwatch, client_config: DtlsConfig, server_config: DtlsConfig) -> None:
    """One handshake of our server with our client."""
    client = DtlsEndpoint(DtlsRole.CLIENT, client_config, os.urandom)
    client.start(0.0)
    with watch:
        server = DtlsEndpoint(DtlsRole.SERVER, server_config, os.urandom)
        server.start(0.0)
    events: list[object] = []
    while not events:
        incoming = client.drain_transmits()
        with watch:
            for datagram in incoming:
                server.handle_datagram(datagram, 0.0)
            outgoing = server.drain_transmits()
            events += server.drain_events()
        for datagram in outgoing:
            client.handle_datagram(datagram, 0.0)
    with watch:
        keys = server.export_keying_material(EXPORT_LABEL, None, EXPORT_LENGTH)
    watch.lap()
    assert keys == client.export_keying_material(EXPORT_LABEL, None, EXPORT_LENGTH)


def run(options: Options) -> Sequence[Table]:
    """Run everything; a few seconds at scale 1."""
    repeats = max(3, int(REPEATS * options.scale))
    return [_beside_openssl(repeats), _by_version_and_group(repeats)]


def _measure(contestants: dict[str, Callable[[Stopwatch], None]], repeats: int) -> dict[str, list[float]]:
    """Return the laps of each, in milliseconds. They take turns, so that a busy machine is fair to all."""
    watches = {name: Stopwatch() for name in contestants}
    for once in contestants.values():
        once(Stopwatch())
    gc.collect()
    for _ in range(repeats):
        for name, once in contestants.items():
            once(watches[name])
    return {name: watch.laps for name, watch in watches.items()}


def _beside_openssl(repeats: int) -> Table:
    rows: list[tuple[str, str, float, float, float]] = []
    for group, name in ((NamedGroup.X25519, "X25519"), (NamedGroup.SECP256R1, "P-256")):
        client, server = OpenSsl.context(CLIENT, group), OpenSsl.context(SERVER, group)
        config = our_config(DtlsRole.SERVER, Version.DTLS_1_2, group)
        laps = _measure(
            {
                "OpenSSL": lambda watch, c=client, s=server: openssl_against_openssl(watch, c, lambda: s),  # type: ignore[misc]
                "OpenSSL, a context each": lambda watch, c=client, g=group: openssl_against_openssl(  # type: ignore[misc]
                    watch, c, lambda: OpenSsl.context(SERVER, g)
                ),
                "ours": lambda watch, c=client, o=config: ours_against_openssl(watch, c, o),  # type: ignore[misc]
            },
            repeats,
        )
        theirs = median(laps["OpenSSL"])
        for who, times in laps.items():
            rows.append((name, who, median(times), min(times), median(times) / theirs))
    return Table(
        f"DTLS 1.2, the server's processor time of a handshake with client certificate; {repeats} in turn",
        ("group", "who", "median ms", "best ms", "times OpenSSL"),
        rows,
        (
            "ECDSA P-256 certificates, ECDHE-ECDSA-AES128-GCM-SHA256; the client is OpenSSL for both.",
            f"{SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()} through pyOpenSSL; the context is made once,",
            "or for each connection, as aiortc does.",
        ),
    )


def _by_version_and_group(repeats: int) -> Table:
    rows: list[tuple[str, str, float, float]] = []
    for version in (Version.DTLS_1_2, Version.DTLS_1_3):
        for group in (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.X25519MLKEM768):
            if version is Version.DTLS_1_2 and group is NamedGroup.X25519MLKEM768:
                continue
            client, server = (our_config(role, version, group) for role in (DtlsRole.CLIENT, DtlsRole.SERVER))
            laps = _measure({"ours": lambda w, c=client, s=server: ours_against_ours(w, c, s)}, repeats)  # type: ignore[misc]
            rows.append((version.label, group.name, median(laps["ours"]), min(laps["ours"])))
    return Table("our server by version and group, our client", ("version", "group", "median ms", "best ms"), rows)
