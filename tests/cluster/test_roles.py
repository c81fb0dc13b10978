"""The roles as they are run: signaling, two media nodes, program processes, one NATS, on loopback."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stack.aio import Call, ticket_file
from stack.signaling.client import DialConfig, dial
from tests.cluster.engine import Engine
from tests.cluster.processes import Role, role
from tests.listening import until

pytestmark = [pytest.mark.real_clock]
PATIENCE = 20.0
PROGRAM = "tests.cluster.programs:report"


class Machines:
    """What a test has started."""

    def __init__(self, engine: Engine, keys: Path) -> None:
        self.engine = engine
        self.keys = keys
        self._stack = AsyncExitStack()

    async def _start(self, *arguments: str) -> Role:
        return await self._stack.enter_async_context(role(*arguments, "--nats", self.engine.url))

    async def media(self, name: str, port: int = 0, *more: str) -> Role:
        url = ("--http-url", f"http://127.0.0.1:{port}") if port else ()
        return await self._start(
            "media", "--node", name, "--ticket-key", str(self.keys), "--udp-port", "0", "--port", str(port),
            "--media-host", "127.0.0.1", *url, *more,
        )  # fmt: skip

    async def agent(self, *more: str) -> Role:
        return await self._start("agent", PROGRAM, *more)

    async def signaling(self, *more: str) -> Role:
        return await self._start("signaling", "--ticket-key", str(self.keys), "--port", "0", *more)

    async def relay(self, udp_port: int, *more: str) -> Role:
        return await self._start(
            "relay", "--host", "127.0.0.1", "--udp-port", str(udp_port), "--inner", "127.0.0.1", "--port", "0",
            "--first-port", "22000", "--max-flows", "64", *more,
        )  # fmt: skip

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def machines(engine: Engine, tmp_path: Path) -> AsyncIterator[Machines]:
    keys = tmp_path / "ticket.key"
    ticket_file.add_epoch(keys)
    running = Machines(engine, keys)
    yield running
    await running.close()


async def who(call: Call) -> dict[str, Any]:
    """Return what the program says of the call on the next channel that it opens."""
    async with asyncio.timeout(PATIENCE):
        channel = await call.channels.wait_for("who")
        return dict(json.loads(await anext(aiter(channel))))


async def ready(url: str) -> tuple[int, dict[str, str]]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as response:
        return response.status, await response.json()


async def settled(url: str, code: int, **expected: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await ready(url)
            if found[0] == code and expected.items() <= found[1].items():
                return
            await asyncio.sleep(0.02)


async def test_signaling_answers_with_a_ticket_and_the_node_has_the_call(machines: Machines) -> None:
    signaling = await machines.signaling()
    assert (await ready(signaling.url))[0] == 503  # there is no node yet
    await machines.media("n1")
    await machines.agent("--name", "a1")
    await settled(signaling.url, 200, nodes="1", backbone="up")
    async with dial(signaling.url + "/") as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        said = await who(ours.call)
    assert said["node"] == "n1"
    assert said["ticket"]
    assert said["remote"] == "127.0.0.1"
    assert "aiohttp" in said["agent"].lower()  # a header of the request, sent after the answer


async def test_a_relay_learns_its_nodes_and_signaling_names_it(machines: Machines, tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    signaling = await machines.signaling("--relay", f"127.0.0.1:{port}")
    await machines.media("n1", 0, "--agent", PROGRAM)
    relay = await machines.relay(port, "--flows", str(tmp_path / "flows"))
    status = relay.url.removesuffix("/metrics")
    await settled(status, 200, nodes="1")
    await settled(signaling.url, 200, nodes="1")
    async with dial(signaling.url + "/") as ours:
        connected = await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        said = await who(ours.call)
    assert connected.path.remote.port == port
    assert said["remote"] == "127.0.0.1"
    machines.engine.stop()
    relay.process.kill()
    again = await machines.relay(port, "--flows", str(tmp_path / "flows"))  # knows them without the engine
    assert "1 known nodes" in again.lines[0]
    async with (
        aiohttp.ClientSession() as http,
        http.get(again.url.removesuffix("/metrics") + "/livez") as response,
    ):
        assert response.status == 200


async def test_an_answer_that_no_ticket_can_hold_is_given_by_the_node(machines: Machines, free_port: int) -> None:
    signaling = await machines.signaling()
    await machines.media("n1", free_port)
    await settled(signaling.url, 200, nodes="1")
    async with aiohttp.ClientSession() as http:
        body = {"sdp": OFFER, "type": "offer", "session": {"voice": "alloy"}}
        async with http.post(f"{signaling.url}/api/offer", json=body, allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Location"] == f"http://127.0.0.1:{free_port}/api/offer"
        async with http.post(f"{signaling.url}/api/offer", json=body) as response:
            assert response.status == 200
            assert str(response.url).startswith(f"http://127.0.0.1:{free_port}/")


async def test_without_room_an_offer_is_refused_in_words_that_clients_know(machines: Machines) -> None:
    signaling = await machines.signaling()
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{signaling.url}/whip", data=OFFER, headers={"Content-Type": "application/sdp"}) as response,
    ):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0


async def test_a_killed_program_process_loses_its_calls_to_another_within_a_second(machines: Machines) -> None:
    node = await machines.media("n1")
    first = await machines.agent("--name", "a1")
    async with dial(node.url + "/") as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        assert (await who(ours.call))["pid"] == first.process.pid
        await machines.agent("--name", "a2")
        events = await asyncio.wait_for(ours.call.channels.wait_for("events"), PATIENCE)
        told: list[tuple[float, str]] = []

        async def read() -> None:
            async for message in events:
                if json.loads(message).get("type") == "program":
                    told.append((time.monotonic(), json.loads(message)["state"]))

        reading = asyncio.create_task(read())
        killed = time.monotonic()
        first.process.kill()
        await until(lambda: len(told) == 2, PATIENCE)
        reading.cancel()
        assert [state for _, state in told] == ["lost", "continued"]
        print(f"told after {told[0][0] - killed:.2f} s, taken after {told[1][0] - killed:.2f} s")
        assert not ours.call.ended


async def test_a_node_that_drains_takes_no_call_and_sends_those_that_are_left_away(
    machines: Machines, free_port: int
) -> None:
    signaling = await machines.signaling()
    first = await machines.media("n1", 0, "--drain-seconds", "0.5", "--goaway-seconds", "20")
    await machines.agent()
    await settled(signaling.url, 200, nodes="1")
    async with dial(signaling.url + "/") as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        assert (await who(ours.call))["node"] == "n1"
        events = await asyncio.wait_for(ours.call.channels.wait_for("events"), PATIENCE)
        await machines.media("n2", free_port)
        await settled(signaling.url, 200, nodes="2")
        first.process.send_signal(signal.SIGTERM)
        await settled(first.url, 503, status="draining")
        async with aiohttp.ClientSession() as http:
            body = {"sdp": OFFER, "type": "offer"}
            async with http.post(f"{first.url}/api/offer", json=body, allow_redirects=False) as response:
                assert response.status == 307
                assert str(free_port) in response.headers["Location"]
        async with asyncio.timeout(PATIENCE):
            async for message in events:
                said = json.loads(message)
                if said.get("type") == "goaway":
                    break
        assert not ours.call.ended  # the old call goes on until there is a new one
        async with dial(signaling.url + "/", DialConfig(moved_from=said["pc_id"])) as moved:
            await asyncio.wait_for(moved.call.wait_connected(), PATIENCE)
            found = await who(moved.call)
            assert found["node"] == "n2"
            assert found["moved_from"] == said["pc_id"]
            ours.call.hang_up()
            await asyncio.wait_for(first.process.wait(), PATIENCE)  # nothing is left to wait for
            assert not moved.call.ended


async def test_drain_is_asked_for_over_http(machines: Machines) -> None:
    node = await machines.media("n1", 0, "--agent", "echo")
    async with aiohttp.ClientSession() as http, http.post(f"{node.url}/drain") as response:
        assert response.status == 202
    await asyncio.wait_for(node.process.wait(), PATIENCE)
    assert node.process.returncode == 0


async def test_livez_does_not_ask_the_engine_and_readyz_does(machines: Machines) -> None:
    signaling = await machines.signaling()
    alone = await machines.media("n1", 0, "--agent", "echo")
    dependent = await machines.media("n2")
    await settled(signaling.url, 200, nodes="2")
    machines.engine.stop()
    await settled(alone.url, 200, status="ready", backbone="down")
    await settled(dependent.url, 503, backbone="down")
    await settled(signaling.url, 200, backbone="down", nodes="2")  # it goes on with what it knows
    async with aiohttp.ClientSession() as http:
        for each in (signaling, alone, dependent):
            async with http.get(f"{each.url}/livez") as response:
                assert response.status == 200
    async with dial(alone.url + "/") as ours:  # the local program takes new calls
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)


OFFER = (Path(__file__).parents[1] / "vectors/offers/chromium156-audio_dc.sdp").read_text()
