"""Whole calls of other stacks with our server and our client: the scenarios of `python -m interop`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from interop.browsers import addressed_namespace
from interop.peers.base import Peer, Wishes
from interop.peers.registry import PEERS
from interop.runner import Pair, run_cell
from interop.scenarios import SCENARIOS
from interop.verdict import Outcome
from stack import Call
from stack.aio import HostConfig
from stack.session import EndReason
from stack.signaling.server import ServeConfig, serving

pytestmark = [pytest.mark.peer, pytest.mark.real_clock]

SHORT = ("audio", "messages", "large messages", "declined video", "hang-up by the client", "hang-up by the server")
OURS = PEERS["ours"]


@pytest.fixture(params=["gstreamer", "pion"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Each peer, on a network with one address where that is permitted: neither gathers a loopback candidate."""
    chosen = PEERS[request.param]
    absent = chosen.why_absent()
    if absent is not None:
        pytest.skip(absent)
    with addressed_namespace():
        yield chosen


async def passes(pair: Pair, name: str) -> None:
    cell = await run_cell(pair, SCENARIOS[name])
    if cell.verdict.outcome is Outcome.UNSUPPORTED:
        pytest.skip(cell.verdict.sentence)
    assert cell.verdict.outcome is Outcome.PASSED, cell.verdict.sentence


@pytest.mark.parametrize("name", SHORT)
async def test_a_call_of_the_peer(peer: Peer, name: str) -> None:
    await passes(Pair(peer, OURS, "client"), name)


@pytest.mark.parametrize("name", ["audio", "messages"])
async def test_a_call_to_the_peer(peer: Peer, name: str) -> None:
    if "server" not in peer.sides:
        pytest.skip(f"{peer.name} has no driver as a server")
    await passes(Pair(OURS, peer, "server"), name)


FURTHER = (
    *("webrtc-rs", "str0m", "node-datachannel", "ffmpeg", "openai-agents", "pipecat", "whip-web-client"),
    *("openssl", "gnutls", "mbedtls", "wolfssl", "nss", "usrsctp", "pion-sctp"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["audio", "messages"])
@pytest.mark.parametrize("further", FURTHER)
async def test_a_call_of_and_to_a_further_peer(further: str, name: str) -> None:
    peer = PEERS[further]
    absent = peer.why_absent()
    if absent is not None:
        pytest.skip(absent)
    with addressed_namespace():
        for side in peer.sides:
            await passes(Pair(peer, OURS, side) if side == "client" else Pair(OURS, peer, side), name)


@pytest.mark.slow
async def test_forty_five_seconds_of_life(peer: Peer) -> None:
    await passes(Pair(peer, OURS, "client"), "45 seconds")


async def stay(call: Call) -> None:
    await call.wait_ended()


async def test_a_peer_that_ends_its_session_over_http(peer: Peer) -> None:
    """Whatever it says on the path, DELETE ends the call at once (RFC 9725 §4.2)."""
    async with (
        serving(stay, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
        aiohttp.ClientSession(server.url) as http,
        peer.start("client", Wishes()) as end,
    ):
        headers = {"Content-Type": "application/sdp"}
        async with http.post("/whip", data=await end.offer(Wishes()), headers=headers) as response:
            answer, location = await response.text(), response.headers["Location"]
            assert response.status == 201, answer
        (call,) = server.host.calls.values()
        await end.answer(answer)
        await end.connected()
        async with http.delete(location) as response:
            assert response.status == 200
        async with asyncio.timeout(10):
            assert (await call.wait_ended()).reason is EndReason.HUNG_UP
