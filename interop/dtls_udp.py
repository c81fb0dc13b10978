"""DTLS over real UDP sockets on loopback: one of our endpoints, and the command lines of other stacks.

The tools are told to print exported keying material, and are judged by what they print. OpenSSL, GnuTLS, Pion and
mbedTLS speak DTLS 1.2, wolfSSL both versions. Pion, mbedTLS and wolfSSL are libraries: `peers/pion_dtls` and
`peers/c_dtls` make tools of them, where there is something to build them with.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import shutil
import socket
import subprocess
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from interop.c_peers import SMALL_PROGRAMS, mbedtls_program, wolfssl_program
from stack.dtls import Certificate, DtlsConfig, DtlsEndpoint, DtlsEvent, DtlsFailed, DtlsRole, SrtpProfile

EXPORT_LABEL = "EXTRACTOR-dtls_srtp"
EXPORT_LENGTH = 60
Address = tuple[str, int]

OPENSSL_SRTP = {
    SrtpProfile.AES128_CM_HMAC_SHA1_80: "SRTP_AES128_CM_SHA1_80",
    SrtpProfile.AES128_CM_HMAC_SHA1_32: "SRTP_AES128_CM_SHA1_32",
    SrtpProfile.AEAD_AES_128_GCM: "SRTP_AEAD_AES_128_GCM",
    SrtpProfile.AEAD_AES_256_GCM: "SRTP_AEAD_AES_256_GCM",
}
GNUTLS_SRTP = {
    SrtpProfile.AES128_CM_HMAC_SHA1_80: "SRTP_AES128_CM_HMAC_SHA1_80",
    SrtpProfile.AES128_CM_HMAC_SHA1_32: "SRTP_AES128_CM_HMAC_SHA1_32",
}


class OurSide(asyncio.DatagramProtocol):
    """One endpoint of ours on a socket of its own; a server's peer is the first that sends."""

    def __init__(self, role: DtlsRole, config: DtlsConfig, peer: Address | None = None) -> None:
        self.endpoint = DtlsEndpoint(role, config, os.urandom)
        self.events: list[DtlsEvent] = []
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None

    async def __aenter__(self) -> OurSide:
        self._transport, _ = await self._loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0), family=socket.AF_INET
        )
        self.endpoint.start(self._loop.time())
        self._pump()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    @property
    def port(self) -> int:
        """Where we are."""
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """asyncio's callback."""
        self._peer = self._peer or addr
        if addr == self._peer:
            self.endpoint.handle_datagram(data, self._loop.time())
            self._pump()

    def error_received(self, error: Exception) -> None:
        """asyncio's callback: the peer does not listen yet, say; the handshake's timers take care of it."""

    def send(self, data: bytes) -> None:
        """Send application data."""
        self.endpoint.send(data, self._loop.time())
        self._pump()

    def close(self) -> None:
        """Say close_notify."""
        self.endpoint.close(self._loop.time())
        self._pump()

    def _pump(self) -> None:
        for datagram in self.endpoint.drain_transmits():
            self._transport.sendto(datagram, self._peer)
        if events := self.endpoint.drain_events():
            self.events += events
            self._changed.set()
        if self._timer is not None:
            self._timer.cancel()
        at = self.endpoint.poll_timeout()
        self._timer = None if at is None else self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        # The loop may be early by its clock's resolution; a machine is never woken before its time.
        self.endpoint.handle_timeout(max(self._loop.time(), self.endpoint.poll_timeout() or 0.0))
        self._pump()

    async def wait_for(self, kind: type[DtlsEvent], patience: float = 30.0) -> Any:
        """Return the first event of a kind; `TimeoutError`, or `AssertionError` if the connection fails."""
        async with asyncio.timeout(patience):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                    assert not isinstance(event, DtlsFailed), event
                self._changed.clear()
                await self._changed.wait()


class Tool:
    """A command line tool and what it printed."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.said = b""
        self._reader = asyncio.ensure_future(self._read())
        self._more = asyncio.Event()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(4096):
            self.said += chunk
            self._more.set()

    async def expect(self, pattern: bytes, patience: float = 30.0) -> re.Match[bytes]:
        """Wait until it has printed what matches."""
        try:
            async with asyncio.timeout(patience):
                while (found := re.search(pattern, self.said)) is None:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in {self.said.decode(errors='replace')!r}") from None
        return found

    async def type(self, text: bytes) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        await self._process.stdin.drain()

    async def keys(self) -> bytes:
        """Return the keying material that it exported."""
        found = await self.expect(rb"(?i)\bkey(?:ing)? material: *([0-9A-Fa-f]{%d})" % (2 * EXPORT_LENGTH))
        return bytes.fromhex(found[1].decode())

    async def end(self) -> None:
        """Stop it, whatever it is doing."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader


@asynccontextmanager
async def running(arguments: Sequence[str]) -> AsyncIterator[Tool]:
    """Run a tool for as long as the block takes."""
    process = await asyncio.create_subprocess_exec(*arguments, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    tool = Tool(process)
    try:
        yield tool
    finally:
        await tool.end()


def write_pem(certificate: Certificate, directory: Path) -> tuple[str, str]:
    """Write a certificate and its key to files; return their names."""
    pem, key = directory / "certificate.pem", directory / "key.pem"
    pem.write_bytes(x509.load_der_x509_certificate(certificate.der).public_bytes(Encoding.PEM))
    key.write_bytes(certificate.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(pem), str(key)


def openssl(role: DtlsRole, port: int, pem: tuple[str, str], profile: SrtpProfile, mtu: int) -> list[str]:
    """Return the command line of OpenSSL's client or server."""
    where = ["s_server", "-accept", f"127.0.0.1:{port}", "-Verify", "1", "-naccept", "1"]
    if role is DtlsRole.CLIENT:
        where = ["s_client", "-connect", f"127.0.0.1:{port}"]
    certificate, key = pem
    return [
        *("openssl", *where, "-dtls1_2", "-timeout", "-mtu", str(mtu), "-cert", certificate, "-key", key),
        *("-use_srtp", OPENSSL_SRTP[profile]),
        *("-keymatexport", EXPORT_LABEL, "-keymatexportlen", str(EXPORT_LENGTH)),
    ]


def pion(role: DtlsRole, port: int, pem: tuple[str, str], profile: SrtpProfile, mtu: int) -> list[str]:
    """Return the command line of our program around Pion, which has to be there."""
    return [str(pion_program()), role.value, f"127.0.0.1:{port}", *pem, str(int(profile)), str(mtu)]


def mbedtls(role: DtlsRole, port: int, pem: tuple[str, str], profile: SrtpProfile, mtu: int) -> list[str]:
    """Return the command line of our program around mbedTLS, which has to be there."""
    return [str(mbedtls_program()), role.value, f"127.0.0.1:{port}", *pem, str(int(profile)), str(mtu)]


def small_program(
    name: str, *options: str
) -> Callable[[DtlsRole, int, tuple[str, str], SrtpProfile, int], list[str]]:
    """Return what makes command lines of one of the small programs in C, which has to be there."""

    def command(role: DtlsRole, port: int, pem: tuple[str, str], profile: SrtpProfile, mtu: int) -> list[str]:
        where = [str(SMALL_PROGRAMS[name].program), role.value, f"127.0.0.1:{port}"]
        return [*where, *pem, str(int(profile)), str(mtu), *options]

    return command


def wolfssl(option: str) -> Callable[[DtlsRole, int, tuple[str, str], SrtpProfile, int], list[str]]:
    """Return what makes command lines of our program around wolfSSL: of `1.2`, `1.3`, or `hybrid` (1.3)."""

    def command(role: DtlsRole, port: int, pem: tuple[str, str], profile: SrtpProfile, mtu: int) -> list[str]:
        where = [role.value, f"127.0.0.1:{port}"]
        return [str(wolfssl_program()), *where, *pem, str(int(profile)), str(mtu), option]

    return command


@lru_cache
def pion_program() -> Path | None:
    """Build the program around Pion, once; None if there is no Go, or no Pion to be had."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="pion-dtls-")) / "pion_dtls"
    atexit.register(shutil.rmtree, program.parent, ignore_errors=True)
    source = Path(__file__).parent / "peers" / "pion_dtls"
    built = subprocess.run([go, "build", "-o", str(program), "."], cwd=source, capture_output=True, check=False)
    return program if built.returncode == 0 else None


def gnutls(role: DtlsRole, port: int, pem: tuple[str, str], profile: SrtpProfile, mtu: int) -> list[str]:
    """Return the command line of GnuTLS's client or server."""
    where = ["gnutls-serv", "--echo", "--require-client-cert"]
    if role is DtlsRole.CLIENT:
        where = ["gnutls-cli", "127.0.0.1", "--insecure"]
    certificate, key = pem
    return [
        *(*where, "--udp", "--port", str(port), "--mtu", str(mtu)),
        *("--x509certfile", certificate, "--x509keyfile", key, "--srtp-profiles", GNUTLS_SRTP[profile]),
        *("--keymatexport", EXPORT_LABEL, "--keymatexportsize", str(EXPORT_LENGTH)),
    ]
