"""The shim against a runner of our own: the framing, the virtual clock, what it says and its exit status."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

import interop.bogo
from interop.bogo.case import main
from stack.dtls import (
    AlertDescription,
    ApplicationData,
    Certificate,
    DtlsConfig,
    DtlsEndpoint,
    DtlsEvent,
    DtlsFailed,
    DtlsFailure,
    DtlsRole,
    HandshakeComplete,
    PeerClosed,
    Version,
)

CERTIFICATE = Certificate.generate(Random(7).randbytes, datetime(2026, 1, 1, tzinfo=UTC))
SHIM_ID = 0x0102030405060708
PATIENCE = 20.0


class Runner:
    """The runner's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self._socket = connection
        self._file = connection.makefile("rb")
        assert int.from_bytes(self._file.read(8), "little") == SHIM_ID

    def send(self, opcode: bytes, value: int = 0, size: int = 0, data: bytes = b"") -> None:
        self._socket.sendall(opcode + value.to_bytes(size, "big") + data)

    def packet(self, data: bytes) -> None:
        self.send(b"P", len(data), 4, data)

    def read(self) -> bytes | None:
        """Return a datagram; b"t" for an answered timeout; None when the shim has closed."""
        opcode = self._file.read(1)
        if opcode == b"P":
            return self._file.read(int.from_bytes(self._file.read(4), "big"))
        return opcode or None

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def converse(self, peer: DtlsEndpoint, until: type[DtlsEvent]) -> list[DtlsEvent]:
        """Let our own endpoint be the peer until it sees an event of a kind, or the shim has closed."""
        events: list[DtlsEvent] = []
        while True:
            for data in peer.drain_transmits():
                self.packet(data)
            events += peer.drain_events()
            if any(isinstance(event, until) for event in events) or (data := self.read()) is None:
                return events
            peer.handle_datagram(data, 0.0)


@contextmanager
def shim(*flags: str) -> Iterator[tuple[Runner, Callable[[], int]]]:
    """Run the shim with flags; yields the runner's end, and what waits for the exit status."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        port = str(server.getsockname()[1])
        status: Future[int] = pool.submit(main, ["-dtls", "-port", port, "-shim-id", str(SHIM_ID), *flags])
        server.settimeout(PATIENCE)
        runner = Runner(server.accept()[0])
        try:
            yield runner, lambda: status.result(PATIENCE)
        finally:
            runner.close()


def endpoint(role: DtlsRole, version: Version = Version.DTLS_1_3) -> DtlsEndpoint:
    config = DtlsConfig(
        CERTIFICATE, None, min_version=version, max_version=version, request_client_certificate=False, alpn=()
    )
    return DtlsEndpoint(role, config, Random(3).randbytes)


@pytest.fixture
def certificate_flags(tmp_path: Path) -> list[str]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(x509.load_der_x509_certificate(CERTIFICATE.der).public_bytes(Encoding.PEM))
    key.write_bytes(CERTIFICATE.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return ["-cert-file", str(certificate), "-key-file", str(key)]


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("role", list(DtlsRole))
def test_a_case_that_passes(
    role: DtlsRole, version: Version, certificate_flags: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["-server", *certificate_flags] if role is DtlsRole.SERVER else []
    peer = endpoint(DtlsRole.CLIENT if role is DtlsRole.SERVER else DtlsRole.SERVER, version)
    with shim(*flags, "-expect-version", str(int(version)), "-shim-writes-first", "-check-close-notify") as (
        runner,
        status,
    ):
        peer.start(0.0)
        events = runner.converse(peer, HandshakeComplete)
        events += runner.converse(peer, ApplicationData)
        peer.send(bytes(range(256)), 0.0)
        events += runner.converse(peer, ApplicationData)
        peer.close(0.0)
        events += runner.converse(peer, PeerClosed)
        runner.close()
        assert status() == 0
    assert [event.data for event in events if isinstance(event, ApplicationData)] == [
        b"hello",
        bytes(255 - byte for byte in range(256)),
    ]
    assert capfd.readouterr().err == ""


def test_the_clock_is_the_runners(capfd: pytest.CaptureFixture[str]) -> None:
    with shim("-initial-timeout-duration-ms", "250", "-curves", "29") as (runner, status):
        first = runner.read()
        runner.send(b"E", 250_000_000, 8)
        runner.send(b"T", 83_333_333, 8)
        assert runner.read() == b"t"
        runner.send(b"E", 166_667_000, 8)
        runner.send(b"T", 166_666_667, 8)
        assert runner.read() == b"t"
        again = runner.read()
        assert first is not None
        assert again is not None
        assert first[13:] == again[13:]  # the same hello in a new record
        runner.send(b"U", 1000, 4)
        runner.send(b"E", 2_000_000_000, 8)
        runner.send(b"E", 1_999_999_000, 8)  # a microsecond off
        assert runner.read() is None
        runner.close()
        assert status() == 1
    assert capfd.readouterr().err == ":WIRE: the next timeout is due in 2000000 us, not in 1999999 us\n"


def test_a_failure_has_its_name(capfd: pytest.CaptureFixture[str]) -> None:
    with shim("-verify-fail") as (runner, status):
        peer = endpoint(DtlsRole.SERVER)
        peer.start(0.0)
        events = runner.converse(peer, DtlsFailed)
        runner.close()
        assert status() == 1
    assert isinstance(events[-1], DtlsFailed)
    assert events[-1].alert == AlertDescription.BAD_CERTIFICATE
    assert capfd.readouterr().err.startswith(":FINGERPRINT_MISMATCH: ")


def test_a_received_alert_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with shim() as (runner, status):
        runner.read()
        runner.packet(bytes.fromhex("15fefd0000000000000000000202 16".replace(" ", "")))
        runner.read()
        runner.close()
        assert status() == 1
    assert capfd.readouterr().err.startswith(":ALERT_RECEIVED:RECORD_OVERFLOW:")


def test_a_runner_that_hangs_up(capfd: pytest.CaptureFixture[str]) -> None:
    with shim() as (runner, status):
        runner.read()
        runner.close()
        assert status() == 1
    assert capfd.readouterr().err.startswith(":EOF:")


@pytest.mark.parametrize(
    "flags",
    [["-psk", "secret"], ["-resume-count", "1"], ["-on-resume-verify-fail"], ["-curves", "23", "-curves", "25"]],
)
def test_what_is_not_for_us(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-dtls", "-port", "1", "-shim-id", "1", *flags]) == 89
    assert capfd.readouterr().err.startswith(":UNIMPLEMENTED:")


def test_there_is_no_handshaker(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-is-handshaker-supported"]) == 0
    assert capfd.readouterr().out == "No\n"


def test_the_configuration_speaks_of_what_there_is() -> None:
    config = json.loads((Path(interop.bogo.__file__).parent / "config.json").read_text())
    reasons = {f":{reason.name}:" for reason in DtlsFailure}
    alerts = {f":ALERT_RECEIVED:{alert.name}:" for alert in AlertDescription}
    named = {ours for several in config["ErrorMap"].values() for ours in several}
    assert named <= reasons | alerts
    assert all(len(reason) > 20 for reason in config["DisabledTests"].values())
