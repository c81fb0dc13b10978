"""Data channels between other people's stacks and our server: aiortc, libdatachannel (by Node) and werift.

The same trials as in the browsers, on the same two networks. What a stack gets wrong by itself is named
where it is spared.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from interop import data_trials as trials
from interop.lab import Line, ProcessLab, connected, process_lab, trial_server, why_absent
from interop.network_model import NetworkModel
from stack.signaling.server import Serving

pytestmark = [pytest.mark.peer, pytest.mark.real_clock, pytest.mark.asyncio(loop_scope="module")]

NETWORKS = {"good": NetworkModel(), "bad": NetworkModel(delay=0.05, loss=0.05)}
LARGEST = {"aiortc": 65_536, "node-datachannel": 262_144, "werift": 65_536}


@dataclass(frozen=True)
class Far:
    """A stack that is ready for calls."""

    server: Serving
    lab: ProcessLab
    network: NetworkModel

    @property
    def is_bad(self) -> bool:
        return self.network.loss > 0


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        pytest.param((name, network), id=f"{name}-{network}", marks=[pytest.mark.slow] if network == "bad" else [])
        for name in LARGEST
        for network in NETWORKS
    ],
)
async def far(request: pytest.FixtureRequest) -> AsyncIterator[Far]:
    """Each stack on each network."""
    name, network = request.param
    absent = why_absent(name)
    if absent is not None:
        pytest.skip(absent)
    async with trial_server() as server, process_lab(name) as lab:
        yield Far(server, lab, NETWORKS[network])


@pytest.fixture
def keeps_promises(far: Far) -> None:
    """Leave out what werift does not do on a lossy path, with any peer.

    It acknowledges every piece of a reliable unordered message and never delivers it (all TSNs were acknowledged,
    nothing was queued, minutes passed), and resets a stream over data that it still has to retransmit.
    """
    if far.lab.name == "werift" and far.is_bad:
        pytest.skip("werift loses reliable messages on a lossy path: acknowledged, but not delivered")


@pytest_asyncio.fixture(loop_scope="module")
async def line(far: Far) -> AsyncIterator[Line]:
    """A call between the stack and us."""
    async with connected(far.server, far.lab, far.network) as line:
        yield line


async def test_every_kind_of_channel_opened_from_either_side(keeps_promises: None, line: Line) -> None:
    await trials.kinds(line)


async def test_channels_agreed_on_beforehand(line: Line) -> None:
    await trials.negotiated(line)


async def test_messages_from_nothing_to_the_largest(far: Far, line: Line) -> None:
    if far.is_bad:
        await trials.sizes(16_384, 16_384)(line)
    else:
        await trials.sizes(trials.OUR_LIMIT, LARGEST[far.lab.name])(line)


async def test_a_message_that_is_too_big_is_refused(line: Line) -> None:
    await trials.too_big(line)


async def test_twenty_channels_at_once(keeps_promises: None, line: Line) -> None:
    await trials.twenty(line)


async def test_closing_and_opening_again_from_either_side(keeps_promises: None, line: Line) -> None:
    await trials.reopening(line)


async def test_a_large_transfer_each_way(far: Far, line: Line) -> None:
    print(f"\n{far.lab.name}: {await trials.transfer(line, 300_000 if far.is_bad else 3_000_000)}")
