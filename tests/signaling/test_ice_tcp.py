"""Calls over TCP: in a thread, in workers, and on the port of HTTP."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import aiohttp
import numpy as np
import pytest

from stack.agents import echo
from stack.aio import Host, HostConfig, IceMode, tcp_client
from stack.aio.workers import default_workers
from stack.core.errors import LocalError
from stack.core.machine import TransportProtocol
from stack.ice.framing import frame
from stack.ice.gathering import TransportPolicy
from stack.sdp import SessionDescription
from stack.signaling.client import DialConfig, dial
from stack.signaling.server import ServeConfig, serving
from tests.listening import listen, until
from tests.signaling.tcp_relay import HOST, tcp_only, tcp_port

pytestmark = pytest.mark.real_clock

TONE = (4000 * np.sin(np.arange(16_000) / 4)).astype(np.int16)


def config(workers: int = 0, tcp: int | Literal["udp", "http"] | None = "udp", **more: Any) -> ServeConfig:
    return ServeConfig(port=0, media=HostConfig(host=HOST, udp_port=0, workers=workers, tcp_port=tcp), **more)


async def test_our_client_connects_again_when_its_connection_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_client, "STEADY", 0.0)
    async with serving(echo, config()) as server:
        async with dial(server.url, DialConfig(ice_transport=TransportPolicy.TCP)) as placed:
            await placed.call.wait_connected()
            (hosted,) = server.host.calls.values()
            await until(partial(getattr, hosted, "connected"))
            assert hosted.connected.path.protocol is TransportProtocol.TCP
            tcp = server.host._media.media.driver.tcp  # type: ignore[union-attr]
            for _ in range(2):
                placed.call.speaker.write(TONE, 16_000)
                await asyncio.wait_for(listen(placed.call, 0.5), 10)
                for path in list(tcp._by_path):  # as a middlebox would
                    await server.host._media.thread.run(partial(tcp._close, path))  # type: ignore[union-attr]
            placed.call.speaker.write(TONE, 16_000)
            await asyncio.wait_for(listen(placed.call, 0.5), 10)
        assert (await server.host.all_counters())["tcp.accepted"] == 3


@pytest.mark.parametrize("tcp", ["udp", "http"])
@pytest.mark.parametrize("workers", [0, 1, 2])
async def test_a_call_over_tcp(workers: int, tcp: Literal["udp", "http"]) -> None:
    if workers and not default_workers():
        pytest.skip("media workers need Linux or macOS")
    async with serving(echo, config(workers, tcp)) as server, tcp_only(server.url) as (relay, url):
        for _ in range(2):  # with two workers, one call for each
            relay.client = relay.writer = None
            relay.early = []
            async with dial(url) as placed:
                await placed.call.wait_connected()
                (hosted,) = server.host.calls.values()
                await until(partial(getattr, hosted, "connected"))
                assert hosted.connected.path.protocol is TransportProtocol.TCP
                placed.call.speaker.write(TONE, 16_000)
                await asyncio.wait_for(listen(placed.call, 0.5), 10)
            await until(lambda: not server.host.calls)
        counted = await server.host.all_counters()
        assert counted["tcp.accepted"] == 2
        if tcp == "http":
            assert relay.target == server.http_port


async def test_http_and_ice_share_a_port_with_tls(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = config(tcp="http", tls_cert=str(tmp_path / "cert"), tls_key=str(tmp_path / "key"))
    async with serving(echo, tls) as server, tcp_only(server.url) as (relay, url):
        connector = aiohttp.TCPConnector(ssl=False)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"{server.url}/healthz") as response,
        ):
            assert response.status == 200
        with pytest.raises((ConnectionError, ssl.SSLError, OSError)):  # no TLS at all
            reader, writer = await asyncio.open_connection(HOST, server.http_port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            if not await reader.read(100):
                raise ConnectionError
        async with dial(url) as placed:
            await placed.call.wait_connected()
        assert relay.target == server.http_port


async def test_the_shared_port_serves_http_as_ever() -> None:
    async with serving(echo, config(tcp="http")) as server:
        reader, writer = await asyncio.open_connection(HOST, server.http_port)
        for piece in (b"G", b"ET /healthz HT", b"TP/1.1\r\nHost: x\r\n\r\n"):  # what is slow is not taken for ICE
            writer.write(piece)
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_what_is_neither_is_closed() -> None:
    async with serving(echo, config()) as server:
        (address,) = server.host.tcp_addresses
        for begins in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            b"\x00\x05hello",
            frame(b"\x00\x01" + b"x" * 30),
        ):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(begins)
            with suppress(ConnectionResetError):  # what it had not read
                assert await reader.read() == b""
            writer.close()
        counted = await server.host.all_counters()
        assert counted["tcp.refused_not_ice"] == 4


async def test_tcp_can_be_turned_off(offer: str) -> None:
    async with serving(echo, config(tcp=None)) as server:
        accepted = await server.host.accept(offer)
        assert server.host.tcp_addresses == ()
        assert tcp_port(accepted.answer) is None


async def test_the_same_number_means_one_port() -> None:
    async with serving(echo, config(tcp="http")) as server:
        free = server.http_port
    same = config()
    same = replace(same, port=free, media=replace(same.media, udp_port=free))
    assert same.shares_port
    async with serving(echo, same) as server:
        assert [address.port for address in server.host.addresses] == [free]
        assert server.host.tcp_addresses == server.host.addresses


async def test_a_tcp_port_that_is_taken_is_said() -> None:
    taken = await asyncio.start_server(lambda *_: None, HOST, 0)
    port = taken.sockets[0].getsockname()[1]
    with pytest.raises(LocalError, match=f"cannot listen on TCP {HOST}:{port}.*--tcp-port"):
        async with serving(echo, config(tcp=port)):
            pass
    taken.close()


async def test_behind_nats_tcp_is_offered_at_the_public_addresses(offer: str) -> None:
    media = replace(config().media, public_ips=("203.0.113.7", "203.0.113.8"))
    async with Host(echo, media) as host:
        answer = SessionDescription.parse((await host.accept(offer)).answer)
        tcp = [line.split() for line in answer.media[0].candidates if line.split()[2] == "tcp"]
        assert [fields[4] for fields in tcp] == ["203.0.113.7", "203.0.113.8"]
        assert {fields[5] for fields in tcp} == {str(host.tcp_addresses[0].port)}
        udp = [line.split() for line in answer.media[0].candidates if line.split()[2] == "udp"]
        assert max(int(fields[3]) for fields in tcp) < min(int(fields[3]) for fields in udp)  # RFC 6544 §4.2
        full = SessionDescription.parse((await host.accept(offer, ice=IceMode.FULL)).answer)
        assert {line.split()[2] for line in full.media[0].candidates} == {"udp", "tcp"}
