"""Other stacks with a server that is a full agent, and an agent of theirs that is lite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import pytest

from interop.browsers import addressed_namespace
from interop.peers.base import Peer, Wishes
from interop.peers.programs import PION, ProgramPeer
from interop.peers.registry import PEERS
from stack.agents import echo
from stack.aio import HostConfig, IceMode
from stack.signaling.server import ServeConfig, serving

pytestmark = [pytest.mark.peer, pytest.mark.real_clock]


@pytest.fixture
def network() -> Iterator[None]:
    """One address where that is permitted: the peers gather no loopback candidate."""
    with addressed_namespace():
        yield


async def call(peer: Peer, ice: IceMode) -> bool:
    """Have a peer call, and return True if our side was a lite agent."""
    absent = peer.why_absent()
    if absent is not None:
        pytest.skip(absent)
    media = HostConfig(udp_port=0, ice=ice)
    async with (
        serving(echo, ServeConfig(port=0, media=media)) as server,
        aiohttp.ClientSession(server.url) as http,
        peer.start("client", Wishes()) as end,
    ):
        headers = {"Content-Type": "application/sdp"}
        async with http.post("/whip", data=await end.offer(Wishes()), headers=headers) as response:
            answer = await response.text()
            assert response.status == 201, answer
        (call,) = server.host.calls.values()
        await end.answer(answer)
        await end.connected()
        assert len(await end.listen(0.5)) > 0
        return (await server.host.parameters(call)).local.ice_lite


@pytest.mark.parametrize("name", ["gstreamer", "pion", "aiortc", "wrtc"])
async def test_a_full_server(name: str, network: None) -> None:
    assert not await call(PEERS[name], IceMode.FULL)


async def test_a_lite_client_of_another_stack_gets_a_full_server(network: None) -> None:
    pion = PEERS["pion"]
    assert isinstance(pion, ProgramPeer)
    assert not await call(replace(pion, command=(str(PION), "-lite")), IceMode.AUTO)
