"""Whole calls through a real TURN server, Debian's coturn, on loopback: over UDP, TCP and TLS."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from stack.audio import write_wav
from stack.ice.servers import make_ephemeral_credentials
from stack.signaling import caller
from stack.signaling.caller import CallerConfig, place_call, render
from stack.signaling.client import DialError
from stack.signaling.server import Serving
from tests.coturn import EPHEMERAL, SECRET, coturn, free_port, needs_coturn, uri

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.peer,
    needs_coturn,
]

USER, PASSWORD = "user", "not-a-secret"


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
    async with coturn(tmp_path, *EPHEMERAL) as turn:
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
        "the connection to the TURN server was lost: Connection refused",
    }


async def test_a_relayed_call_that_fails_says_what_each_server_answered(
    server: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "CONNECT_TIMEOUT", 4.0)
    async with coturn(tmp_path, "--lt-cred-mech", "--user", f"{USER}:{PASSWORD}") as turn:
        dead = free_port()
        asked = (
            f"turn:{USER}:wrong@127.0.0.1:{turn.port}",
            f"turns:{USER}:{PASSWORD}@127.0.0.1:{turn.tls_port}",
            f"turn:u:p@127.0.0.1:{dead}?transport=tcp",
            f"turn:u:p@127.0.0.1:{dead}",
        )
        config = CallerConfig(server.url, ice_server=asked, ice_transport="relay")
        with pytest.raises(DialError, match="no connection within 4 s") as failed:
            async with asyncio.timeout(30):
                await place_call(config)
    said = str(failed.value)
    assert f"turn:127.0.0.1:{turn.port}: the TURN server does not take our username and password (401)" in said
    assert "its certificate is not trusted (self-signed certificate)" in said
    assert (
        f"turn:127.0.0.1:{dead}?transport=tcp: the connection to the TURN server was lost: Connection ref" in said
    )
    assert f"turn:127.0.0.1:{dead}: no answer" in said
