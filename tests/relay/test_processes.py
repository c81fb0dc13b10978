"""A relay as it is run, in front of a server: a call through it, its end and its start, what it tells."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import aiohttp
import pytest

from stack.aio import ticket_file
from stack.signaling.client import ClientCall, dial
from tests.cluster.processes import ROOT, Role, role
from tests.cluster.test_roles import PATIENCE, who

pytestmark = [pytest.mark.real_clock]


@pytest.fixture
def udp_ports() -> tuple[int, int]:
    """Two that were free just now: of the server and of the relay."""
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        found = one.getsockname()[1], other.getsockname()[1]
    return found


def relaying(node: int, port: int, flows: Path) -> AbstractAsyncContextManager[Role]:
    return role(
        "relay", "--host", "127.0.0.1", "--udp-port", str(port), "--node", f"n1=127.0.0.1:{node}", "--inner",
        "127.0.0.1", "--port", "0", "--flows", str(flows), "--first-port", "21000", "--max-flows", "64",
        "--region", "here",
    )  # fmt: skip


async def ask(url: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(url.removesuffix("/metrics") + path) as response:
        return response.status, await response.text()


def forwarding(relay: Role) -> int:
    """Return the process that forwards."""
    children = Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children").read_text()
    return int(children.split()[0])


def is_free(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


async def received(ours: ClientCall) -> int:
    """Return how many packets of sound a caller has."""
    stats = (await ours.stats()).as_webrtc()
    return sum(each["packetsReceived"] for each in stats if each["type"] == "inbound-rtp")


async def test_the_process_that_forwards_ends_with_its_parent(udp_ports: tuple[int, int], tmp_path: Path) -> None:
    node, port = udp_ports
    async with relaying(node, port, tmp_path / "flows") as relay:
        assert not is_free(port)
        relay.process.kill()
        await relay.process.wait()
        async with asyncio.timeout(PATIENCE):
            while not is_free(port):
                await asyncio.sleep(0.01)


async def test_a_call_through_a_relay_survives_its_end(tmp_path: Path, udp_ports: tuple[int, int]) -> None:
    node, port = udp_ports
    ticket_file.add_epoch(tmp_path / "ticket.key")
    server = role(
        "serve", "--agent", "tests.cluster.programs:report", "--node", "n1", "--udp-port", str(node), "--port",
        "0", "--media-host", "127.0.0.1", "--workers", "2", "--ticket-key", str(tmp_path / "ticket.key"),
        "--relay", f"127.0.0.1:{port}",
    )  # fmt: skip
    async with (
        server as serving,
        relaying(node, port, tmp_path / "flows") as relay,
        dial(serving.url + "/") as ours,
    ):
        connected = await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        assert connected.path.remote.port == port
        assert (await who(ours.call))["ticket"]
        frames = aiter(ours.call.microphone)
        await asyncio.wait_for(anext(frames), PATIENCE)
        assert await ask(relay.url, "/livez") == (200, "alive\n")
        assert await ask(relay.url, "/readyz") == (200, json.dumps({"status": "ready", "nodes": "1"}) + "\n")
        code, metrics = await ask(relay.url, "/metrics")
        assert code == 200
        assert 'voice_relay_flows{region="here"} 1' in metrics
        assert 'voice_counters_total{owner="relay",name="flow_proven"} 1' in metrics

        async def hear_more() -> None:
            before = await received(ours)
            async with asyncio.timeout(PATIENCE):
                while await received(ours) <= before + 50:
                    await asyncio.sleep(0.02)

        os.kill(forwarding(relay), signal.SIGKILL)
        await hear_more()
        assert "1 flows go on" in relay.lines[-1]
        code, metrics = await ask(relay.url, "/metrics")
        assert 'name="restarted"} 1' in metrics
        assert 'name="flow_made"} 0' in metrics
        relay.process.kill()
        await relay.process.wait()
        async with relaying(node, port, tmp_path / "flows") as again:
            assert "1 flows go on" in again.lines[0]
            await hear_more()
            assert not ours.call.ended
            assert 'name="flow_made"} 0' in (await ask(again.url, "/metrics"))[1]
            again.process.terminate()
            await asyncio.wait_for(again.process.wait(), PATIENCE)
            assert again.process.returncode == 0


async def test_what_cannot_work_is_refused_in_one_line(tmp_path: Path) -> None:
    async def run(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stack", "relay", *arguments, stdout=-1, stderr=-1, cwd=ROOT
        )
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        return process.returncode, said.decode()

    for arguments, words in (
        ((), "--node PART=HOST:PORT"),
        (("--node", "n1=example.com:3478"), "no IP address"),
        (("--node", "n-1=127.0.0.1:3478"), "not a node"),
        (("--node", "n1=127.0.0.1:1", "--node", "n1=127.0.0.1:2"), "twice"),
        (("--node", "n1=[::1]:3478"), "family"),
        (("--node", "n1=127.0.0.1:1", "--first-port", "65000"), "beyond 65535"),
        (("--node", "n1=127.0.0.1:1", "--host", "0.0.0.0"), "name the addresses"),
        (("--node", "n1=127.0.0.1:1", "--region", 'a"b'), "no name"),
    ):
        code, said = await run(*arguments)
        assert code == 2, said
        assert said.startswith("Error: "), said
        assert said.count("\n") == 1, said
        assert words in said
    common = ("--node", "n1=127.0.0.1:1", "--host", "127.0.0.1", "--udp-port", "0", "--port", "0")
    code, said = await run(*common, "--flows", str(tmp_path / "absent" / "flows"))
    assert (code, said.count("\n")) == (1, 1), said
    async with role("relay", *common, "--flows", str(tmp_path / "flows"), "--max-flows", "8") as first:
        code, said = await run(*common, "--flows", str(tmp_path / "flows"))
        assert code == 1
        assert "another relay has" in said
        assert first.process.returncode is None
