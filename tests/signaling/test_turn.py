"""Whole calls through a real TURN server, Debian's coturn, on loopback: over UDP, TCP and TLS."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stack.audio import write_wav
from stack.ice.servers import make_ephemeral_credentials
from stack.signaling.caller import CallerConfig, place_call, render
from stack.signaling.server import Serving
from tests.listening import until

TURNSERVER = shutil.which("turnserver", path="/usr/bin:/usr/sbin:/usr/local/bin")
pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.peer,
    pytest.mark.skipif(TURNSERVER is None, reason="no turnserver here: apt-get install coturn"),
]

USER, PASSWORD, SECRET = "user", "not-a-secret", "north"


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


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_call_through_coturn(server: Serving, tmp_path: Path, transport: str) -> None:
    write_wav(tmp_path / "tone.wav", (8000 * np.sin(np.arange(16_000) / 3)).astype(np.int16), 16_000)
    async with coturn(tmp_path, "--lt-cred-mech", "--user", f"{USER}:{PASSWORD}") as turn:
        config = CallerConfig(
            server.url,
            play=str(tmp_path / "tone.wav"),
            ice_server=(uri(turn, transport),),
            ice_user=USER,
            ice_password=PASSWORD,
            ice_transport="relay",
            insecure=True,
        )
        async with asyncio.timeout(30):
            report = await place_call(config)
    pair = report["ice"]["pair"]
    assert pair["local_type"] == "relay"
    assert pair["relay"] == (uri(turn, transport) if transport != "udp" else f"turn:127.0.0.1:{turn.port}")
    assert report["received"]["packets"] > 20
    assert report["received"]["lost"] == 0
    assert "through turn" in render(report)
    log = turn.log.read_text()
    assert "ALLOCATE processed, success" in log
    assert "CHANNEL_BIND processed, success" in log
    assert "REFRESH processed, success" in log  # the allocation was given back


async def test_credentials_that_expire_are_what_coturn_takes(server: Serving, tmp_path: Path) -> None:
    async with coturn(tmp_path, "--use-auth-secret", "--static-auth-secret", SECRET) as turn:
        outcomes = []
        for expires_in in (60, -60):
            credentials = make_ephemeral_credentials(SECRET, int(time.time()) + expires_in, "caller")
            config = CallerConfig(
                server.url,
                duration=0.5,
                ice_server=(uri(turn, "udp"),),
                ice_user=credentials.username,
                ice_password=credentials.password,
            )
            async with asyncio.timeout(30):
                report = await place_call(config)
            assert report["ice"]["pair"]["local_type"] == "host"  # a direct path is better, and came first
            outcomes.append(report["ice"]["servers"])
    (taken,), (refused,) = outcomes
    assert taken["result"].startswith("127.0.0.1:")
    assert "does not take our username" in refused["result"]


async def test_a_wrong_password_and_a_dead_server_are_named(server: Serving, tmp_path: Path) -> None:
    async with coturn(tmp_path, "--lt-cred-mech", "--user", f"{USER}:{PASSWORD}") as turn:
        config = CallerConfig(
            server.url,
            duration=0.5,
            ice_server=(
                f"turn:{USER}:wrong@127.0.0.1:{turn.port}",
                f"turn:u:p@127.0.0.1:{free_port()}?transport=tcp",
            ),
        )
        async with asyncio.timeout(30):
            report = await place_call(config)
    assert {each["result"] for each in report["ice"]["servers"]} == {
        "the TURN server does not take our username and password (401)",
        "the connection to the TURN server was lost",
    }
