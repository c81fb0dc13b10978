"""Debian's TURN server on loopback, for the tests that go through it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.listening import until

TURNSERVER = shutil.which("turnserver", path="/usr/bin:/usr/sbin:/usr/local/bin")
needs_coturn = pytest.mark.skipif(TURNSERVER is None, reason="no turnserver here: apt-get install coturn")
SECRET = "north"
EPHEMERAL = ("--use-auth-secret", "--static-auth-secret", SECRET)
"""Options by which it takes credentials that expire."""


@dataclass(frozen=True)
class Coturn:
    """A running server."""

    port: int
    tls_port: int
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def coturn(folder: Path, *options: str) -> AsyncIterator[Coturn]:
    """Context: a server on loopback that relays to loopback."""
    assert TURNSERVER is not None
    certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    make = await asyncio.create_subprocess_exec(
        "openssl",
        *certificate.split(" "),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await make.wait() == 0
    server = Coturn(free_port(), free_port(), folder / "turnserver.log")
    arguments = [
        *("-n", "--no-cli", "--allow-loopback-peers", "--log-file", "stdout", "--simple-log", "-v"),
        *("--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--realm", "example.com"),
        *("--listening-port", str(server.port), "--tls-listening-port", str(server.tls_port)),
        *("--cert", str(folder / "cert.pem"), "--pkey", str(folder / "key.pem")),
        *("--pidfile", str(folder / "pid"), "--userdb", str(folder / "db")),
        *options,
    ]
    with server.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(TURNSERVER, *arguments, stdout=log, stderr=log, cwd=folder)
        try:
            await until(lambda: accepts(server.tls_port))  # the last of its sockets to listen
            yield server
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def uri(server: Coturn, transport: str) -> str:
    if transport == "tls":
        return f"turns:127.0.0.1:{server.tls_port}"
    return f"turn:127.0.0.1:{server.port}?transport={transport}"
