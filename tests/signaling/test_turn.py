"""Whole calls through a real TURN server, Debian's coturn, on loopback: over UDP, TCP and TLS."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
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
from tests.listening import until

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


class _Forwarder:
    """A port that leads to a TURN server by TCP, and whose connections can be cut."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.bytes = 0

    async def open(self, port: int) -> asyncio.Server:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", port)
            self.writers += [writer, onward]
            await asyncio.gather(self._copy(reader, onward), self._copy(onward_reader, writer))

        return await asyncio.start_server(take, "127.0.0.1", 0)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                self.bytes += len(data)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


async def test_a_call_outlives_the_connection_to_its_only_turn_server(
    server: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller._Talk, "_may_call_again", lambda talk: False)  # it is one call to the end
    write_wav(tmp_path / "tone.wav", (8000 * np.sin(np.arange(16_000 * 9) / 3)).astype(np.int16), 16_000)
    forwarder = _Forwarder()
    async with coturn(tmp_path, "--lt-cred-mech", "--user", f"{USER}:{PASSWORD}") as turn:
        listening = await forwarder.open(turn.port)
        port = listening.sockets[0].getsockname()[1]
        config = CallerConfig(
            server.url,
            play=str(tmp_path / "tone.wav"),
            ice_server=(f"turn:{USER}:{PASSWORD}@127.0.0.1:{port}?transport=tcp",),
            ice_transport="relay",
        )
        async with listening, asyncio.timeout(40):
            call = asyncio.create_task(place_call(config))
            await until(lambda: forwarder.bytes > 30_000, 20.0)  # sound goes both ways
            forwarder.cut()
            report = await call
    results = [each["result"] for each in report["ice"]["servers"]]
    assert len(results) == 3  # what was had, that it was lost, and what is in its place
    assert "was lost" in results[1]
    assert report["ice"]["pair"]["local"] == results[2] != results[0]
    assert report["received"]["packets"] > 250
