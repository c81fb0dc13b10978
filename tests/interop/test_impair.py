"""The relay on loopback: what is counted and in which order; never how long it took."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from interop.impair import (
    Endpoint,
    ImpairedRelay,
    main,
)
from interop.network_model import Jitter, Link, NetworkModel, RateLimit, Trace, inversions
from interop.redirect import candidate_address, rewrite_candidates, without_candidates
from interop.servers import free_port
from stack.agents import echo
from stack.aio import HostConfig
from stack.core.machine import Address
from stack.sdp import SessionDescription
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving

pytestmark = pytest.mark.real_clock

PERFECT = NetworkModel()
PATIENCE = 10.0


class Peer(asyncio.DatagramProtocol):
    """One end: keeps what it got and from whom; a server answers."""

    def __init__(self, answers: bool = False) -> None:
        self.got: list[bytes] = []
        self.sources: list[Endpoint] = []
        self.arrived = asyncio.Event()
        self.answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        self.got.append(data)
        self.sources.append(source[:2])
        self.arrived.set()
        if self.answers:
            self.transport.sendto(b"re:" + data, source)

    @property
    def address(self) -> Endpoint:
        host, port = self.transport.get_extra_info("sockname")[:2]
        return host, port

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.arrived.clear()
                await self.arrived.wait()


Opener = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def open_peer() -> AsyncIterator[Opener]:
    transports: list[asyncio.DatagramTransport] = []

    async def opened(host: str = "127.0.0.1", answers: bool = False) -> Peer:
        transport, peer = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Peer(answers), local_addr=(host, 0)
        )
        transports.append(transport)
        return peer

    yield opened
    for transport in transports:
        transport.close()


def numbers(peer: Peer) -> list[int]:
    return [int(data.removeprefix(b"re:")) for data in peer.got]


async def read(relay: ImpairedRelay, direction: str, count: int) -> dict[str, int]:
    """Wait until the relay has read `count` datagrams of one direction, and return their fates."""
    async with asyncio.timeout(PATIENCE):
        while relay.statistics()[direction].get("offered", 0) < count:
            await asyncio.sleep(0.001)
    fates: dict[str, int] = relay.statistics()[direction]
    return fates


async def settle(peer: Peer, relay: ImpairedRelay) -> None:
    """Wait until the answer to one more datagram has come over a perfect network: all others are through."""
    before = len(peer.got)
    relay.change(PERFECT, PERFECT)
    peer.transport.sendto(b"-1", relay.address)
    await peer.until(lambda: b"re:-1" in peer.got[before:])


class TestRelaying:
    async def test_there_and_back(self, open_peer: Opener) -> None:
        server, client = await open_peer(answers=True), await open_peer()
        async with ImpairedRelay(PERFECT, PERFECT, server.address) as relay:
            client.transport.sendto(b"1", relay.address)
            await client.until(lambda: len(client.got) == 1)
            assert client.got == [b"re:1"]
            assert client.sources == [relay.address]
            assert server.sources[0] not in (client.address, relay.address)
            assert relay.statistics()["up"] == {"offered": 1, "delivered": 1}

    async def test_ipv6(self, open_peer: Opener) -> None:
        try:
            server, client = await open_peer("::1", answers=True), await open_peer("::1")
        except OSError:
            pytest.skip("no IPv6 on loopback here")
        async with ImpairedRelay(PERFECT, PERFECT, server.address, listen=("::1", 0)) as relay:
            client.transport.sendto(b"1", relay.address)
            await client.until(lambda: client.got == [b"re:1"])
            assert client.sources == [relay.address]

    async def test_each_client_has_a_socket_and_a_network_of_its_own(self, open_peer: Opener) -> None:
        server = await open_peer(answers=True)
        clients = [await open_peer() for _ in range(5)]
        async with ImpairedRelay(NetworkModel(loss=0.5), PERFECT, server.address, seed=3) as relay:
            for number in range(40):
                for client in clients:
                    client.transport.sendto(b"%d" % number, relay.address)
                await asyncio.sleep(0)
            await read(relay, "up", 40 * len(clients))
            for client in clients:
                await settle(client, relay)
            assert len(set(server.sources)) == len(clients)
            kept = [tuple(n for n in numbers(client) if n >= 0) for client in clients]
            assert len(set(kept)) == len(clients), "different datagrams were lost"
            for number, found in enumerate(kept, start=1):
                link = Link(NetworkModel(loss=0.5), f"3/{number}/up")
                assert found == tuple(n for n in range(40) if link.transit(2, 0.0)), "as the seed says"

    async def test_clients_are_bounded(self, open_peer: Opener) -> None:
        server = await open_peer(answers=True)
        async with ImpairedRelay(PERFECT, PERFECT, server.address, max_clients=2) as relay:
            first, second, third = [await open_peer() for _ in range(3)]
            for client in (first, second, first, third, first):
                before = len(client.got)
                client.transport.sendto(b"1", relay.address)
                await client.until(lambda client=client, before=before: len(client.got) > before)  # type: ignore[misc]
            assert relay.statistics()["relay"] == {"clients": 3, "clients_ended": 1}
            assert len(set(server.sources)) == 3, (
                "the first one kept its socket: the second was silent for longest"
            )

    async def test_rebinding(self, open_peer: Opener) -> None:
        server, client = await open_peer(answers=True), await open_peer()
        async with ImpairedRelay(PERFECT, PERFECT, server.address) as relay:
            for number in range(3):
                client.transport.sendto(b"%d" % number, relay.address)
                await client.until(lambda number=number: numbers(client)[-1:] == [number])  # type: ignore[misc]
                relay.rebind()
            assert len(set(server.sources)) == 3

    async def test_a_server_that_is_not_there(self, open_peer: Opener) -> None:
        server, client = await open_peer(answers=True), await open_peer()
        address = server.address
        server.transport.close()
        await asyncio.sleep(0)
        async with ImpairedRelay(PERFECT, PERFECT, address) as relay:
            async with asyncio.timeout(PATIENCE):
                while not relay.statistics()["relay"].get("refused_by_server"):
                    client.transport.sendto(b"1", relay.address)
                    await asyncio.sleep(0.001)

    async def test_closing_cuts_off_what_is_under_way(self, open_peer: Opener) -> None:
        server, client = await open_peer(), await open_peer()
        async with ImpairedRelay(NetworkModel(delay=30.0), PERFECT, server.address) as relay:
            client.transport.sendto(b"1", relay.address)
            await read(relay, "up", 1)
        assert relay.statistics()["relay"]["cut_off"] == 1
        assert server.got == []
        with pytest.raises(RuntimeError):
            _ = relay.address

    @pytest.mark.parametrize("target", [("192.0.2.1", 9), ("2001:db8::1", 9)])
    def test_loopback_only(self, target: Endpoint) -> None:
        with pytest.raises(ValueError, match="loopback"):
            ImpairedRelay(PERFECT, PERFECT, target)
        assert ImpairedRelay(PERFECT, PERFECT, target, allow_remote=True)


class TestImpairment:
    async def play(
        self, open_peer: Opener, up: NetworkModel, down: NetworkModel = PERFECT, count: int = 200
    ) -> Peer:
        server, client = await open_peer(answers=True), await open_peer()
        async with ImpairedRelay(up, down, server.address, seed=1) as relay:
            for number in range(count):
                client.transport.sendto(b"%d" % number, relay.address)
                await asyncio.sleep(0.0005)
            fates = await read(relay, "up", count)
            arriving = fates["delivered"] + fates.get("duplicated", 0)
            fates = await read(relay, "down", arriving)
            assert len(server.got) == arriving
            wanted = fates["delivered"] + fates.get("duplicated", 0)
            await client.until(lambda: len(client.got) >= wanted)
            assert len(client.got) == wanted
            assert not set(relay.statistics()["relay"]) - {"clients"}
        return client

    async def test_delay_and_jitter_keep_the_order(self, open_peer: Opener) -> None:
        client = await self.play(open_peer, NetworkModel(delay=0.01, jitter=Jitter(0.02)))
        assert numbers(client) == list(range(200))

    async def test_reordering(self, open_peer: Opener) -> None:
        client = await self.play(open_peer, NetworkModel(reorder=0.1, reorder_delay=0.01))
        assert sorted(numbers(client)) == list(range(200))
        assert inversions(numbers(client)) > 5

    async def test_duplicates_on_the_way_back(self, open_peer: Opener) -> None:
        client = await self.play(open_peer, PERFECT, NetworkModel(duplicate=0.3, delay=0.002))
        assert set(numbers(client)) == set(range(200))
        assert 30 < len(client.got) - 200 < 90

    async def test_a_trace(self, open_peer: Opener) -> None:
        client = await self.play(open_peer, NetworkModel(trace=Trace((0.001, None))), count=20)
        assert numbers(client) == list(range(0, 20, 2))

    async def test_a_full_queue(self, open_peer: Opener) -> None:
        server, client = await open_peer(answers=True), await open_peer()
        async with ImpairedRelay(NetworkModel(rate=RateLimit(80_000, 1000)), PERFECT, server.address) as relay:
            for _ in range(100):
                client.transport.sendto(bytes(72), relay.address)
            await server.until(lambda: len(server.got) >= 10)
            assert relay.statistics()["up"]["queue_full"] > 50


ANSWER = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "c=IN IP4 192.0.2.7",
        "m=audio 3478 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 192.0.2.7",
        "a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",
        "a=candidate:1 2 udp 2130706430 192.0.2.7 3479 typ host",
        "a=candidate:2 1 tcp 2130706431 192.0.2.7 3478 typ host tcptype passive",
        "a=candidate:3 1 UDP 2130706431 2001:db8::7 3478 typ srflx raddr 192.0.2.7 rport 1",
        "a=end-of-candidates",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "",
    ]
)


class TestRewriting:
    def test_the_relay_is_the_only_way(self) -> None:
        assert candidate_address(ANSWER) == ("192.0.2.7", 3478)
        rewritten = SessionDescription.parse(rewrite_candidates(ANSWER, ("127.0.0.1", 5555)))
        audio, video = rewritten.media
        assert audio.values("candidate") == ("1 1 udp 2130706431 127.0.0.1 5555 typ host",)
        assert audio.has("end-of-candidates")
        assert (audio.port, video.port) == (5555, 0)
        assert "192.0.2.7" not in rewritten.serialize()
        assert candidate_address(rewritten.serialize()) == ("127.0.0.1", 5555)

    def test_to_ipv6(self) -> None:
        rewritten = SessionDescription.parse(rewrite_candidates(ANSWER.replace("\r\n", "\n"), ("::1", 5555)))
        assert rewritten.media[0].connection is not None
        assert rewritten.media[0].connection.address == "::1"

    def test_without(self) -> None:
        bare = without_candidates(ANSWER)
        assert "a=candidate" not in bare
        assert not SessionDescription.parse(bare).media[0].has("end-of-candidates")
        with pytest.raises(ValueError, match="no UDP candidate"):
            rewrite_candidates(bare, ("127.0.0.1", 1))

    def test_a_port_that_there_is_not_is_no_candidate(self) -> None:
        with pytest.raises(ValueError, match="no UDP candidate"):
            candidate_address("a=candidate:1 1 udp 1 192.0.2.7 65536 typ host")
        assert candidate_address("a=candidate:1 1 udp 1 192.0.2.7 65535 typ host")[1] == 65_535


async def test_a_server_that_is_told_of_it_leads_its_clients_through_it() -> None:
    """As docs/guides/troubleshooting.md has it: `--relay` and no TCP."""
    port = free_port(socket.SOCK_DGRAM)
    lossy = NetworkModel(loss=0.05)
    async with (
        asyncio.timeout(40),
        ImpairedRelay(lossy, lossy, ("127.0.0.1", port)) as relay,
    ):
        media = HostConfig("127.0.0.1", port, relays=(Address(*relay.address),), tcp_port=None)
        async with serving(echo, ServeConfig(port=0, media=media)) as server, dial(server.url) as placed:
            connected = await placed.call.wait_connected()
            assert connected.path.remote == relay.address
            assert relay.statistics()["relay"]["clients"] == 1


class TestCommand:
    async def test_a_run(self, open_peer: Opener) -> None:
        server, client = await open_peer(answers=True), await open_peer()
        host, port = server.address
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "interop.impair", "--to", f"{host}:{port}", "--json", "--seed", "5"),
            *("--delay", "1", "--up-loss", "50%", "--down-jitter", "normal:1", "--down-duplicate", "100"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        try:
            assert process.stderr is not None
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode().split()
            relay = line[2], int(line[3])
            for number in range(100):
                client.transport.sendto(b"%d" % number, relay)
                await asyncio.sleep(0.0005)
            await client.until(lambda: len(client.got) > 50)
            process.send_signal(signal.SIGTERM)
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        assert process.returncode == 0
        statistics = json.loads(output)
        assert 20 < statistics["up"]["lost"] < 80
        assert "lost" not in statistics["down"]
        assert statistics["down"]["duplicated"] == statistics["down"]["delivered"]
        assert statistics["relay"]["clients"] == 1

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "--to"),
            (["--to", "nowhere"], "'nowhere' is not an IP address and a port, as 127.0.0.1:3478 or [::1]:3478"),
            (["--to", "::1:3478"], "'::1:3478' is not an IP address and a port"),
            (["--to", "127.0.0.1:0"], "'127.0.0.1:0' is not an IP address and a port"),
            (["--to", "[::1]:9", "--listen", "127.0.0.1:0"], "of two families"),
            (["--to", "127.0.0.1:9", "--duration", "nan"], "'nan' is not seconds, above 0"),
            (["--to", "127.0.0.1:9", "--delay", ""], "'' is not MS"),
            (["--to", "192.0.2.1:9"], "not a loopback address"),
            (["--to", "127.0.0.1:9", "--loss", "many"], "--loss"),
            (["--to", "127.0.0.1:9", "--loss", "200"], "probability"),
            (["--to", "127.0.0.1:9", "--burst", "3"], "--loss"),
            (["--to", "127.0.0.1:9", "--jitter", "odd:3"], "--jitter"),
            (["--to", "127.0.0.1:9", "--trace", os.devnull], "trace"),
            (["--to", "127.0.0.1:9", "--trace", "/nonexistent"], "No such file"),
        ],
    )
    def test_mistakes_are_named_in_one_line(
        self, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        (said,) = capsys.readouterr().err.strip().splitlines()
        assert said.startswith("interop.impair: ")
        assert complaint in said
