"""Data channels between real browsers and our server: every kind, every size, both ways, on good and bad networks.

A browser is started once for all trials of one network; every trial is a call of its own. The network is the
relay's: a good one, and one that loses 5 % of the datagrams each way at a round trip of 100 ms. `-m slow` adds the
transfer of 50 MB (on the bad network 5 MB: there, loss keeps every congestion window small).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from interop import data_trials as trials
from interop.browsers import available, launch, loopback_namespace
from interop.lab import BrowserLab, Line, connected, trial_server
from interop.network_model import NetworkModel
from stack.signaling.server import Serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browsers"),
    pytest.mark.asyncio(loop_scope="module"),
]

NETWORKS = {"good": NetworkModel(), "bad": NetworkModel(delay=0.05, loss=0.05)}
LARGE_PATIENCE = 3600.0
"""Seconds: at 5 % loss and 100 ms a browser's own congestion control leaves it 0.04 to 0.06 MB/s."""
LARGEST_TRIED = {"chromium": 262_144, "firefox": 4_000_000}
"""What a browser takes; Firefox announces 1 GiB, of which we try less, and more in the slow tests."""


@dataclass(frozen=True)
class Far:
    """A browser that is ready for calls."""

    server: Serving
    lab: BrowserLab
    network: NetworkModel

    @property
    def is_bad(self) -> bool:
        return self.network.loss > 0


@pytest.fixture(scope="module")
def isolated() -> Iterator[None]:
    """Everything here, and all that it starts, with loopback as the only network where that is permitted."""
    with loopback_namespace():
        yield


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        pytest.param(f"{browser}-{network}", marks=[pytest.mark.slow] if network == "bad" else [])
        for browser in LARGEST_TRIED
        for network in NETWORKS
    ],
)
async def far(request: pytest.FixtureRequest, isolated: None) -> AsyncIterator[Far]:
    """Each browser on each network."""
    name, _, network = request.param.partition("-")
    if name not in {browser.name for browser in available()}:
        pytest.skip(f"{name} is not installed here: nothing was tried in it")
    async with trial_server() as server, launch(name) as browser:
        lab = BrowserLab(browser)
        await lab.load(server.url)
        yield Far(server, lab, NETWORKS[network])
        assert browser.errors == []


@pytest_asyncio.fixture(loop_scope="module")
async def line(far: Far) -> AsyncIterator[Line]:
    """A call between the browser and us."""
    async with connected(far.server, far.lab, far.network) as line:
        yield line


async def test_every_kind_of_channel_opened_from_either_side(line: Line) -> None:
    await trials.kinds(line)


async def test_channels_agreed_on_beforehand(line: Line) -> None:
    await trials.negotiated(line)


async def test_messages_from_nothing_to_the_largest(far: Far, line: Line) -> None:
    if far.is_bad:
        await trials.sizes(65_536, 65_536)(line)
    else:
        await trials.sizes(trials.OUR_LIMIT, LARGEST_TRIED[far.lab.name])(line)


async def test_a_message_that_is_too_big_is_refused(far: Far, line: Line) -> None:
    if far.lab.name == "firefox":
        pytest.skip("Firefox announces 1 GiB, which is more than we queue for one peer")
    await trials.too_big(line)


async def test_twenty_channels_at_once(line: Line) -> None:
    await trials.twenty(line)


async def test_closing_and_opening_again_from_either_side(line: Line) -> None:
    await trials.reopening(line)


async def test_a_large_transfer_each_way(far: Far, line: Line) -> None:
    print(f"\n{far.lab.name}: {await trials.transfer(line, 300_000 if far.is_bad else 5_000_000)}")
    went = line.relay.statistics()
    for way in (went["up"], went["down"]):
        lost = 1 - way["delivered"] / way["offered"]
        assert 0.01 < lost < 0.12 if far.is_bad else lost == 0, "the network was the one that was meant"


async def test_inits_in_the_descriptions_with_chromium(isolated: None) -> None:
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("chromium is not installed here: nothing was tried in it")
    async with (
        trial_server() as server,
        launch("chromium", field_trials={"WebRTC-Sctp-Snap": "Enabled"}) as browser,
    ):
        lab = BrowserLab(browser)
        await lab.load(server.url)
        async with connected(server, lab, NETWORKS["good"]) as line:
            await trials.kinds(line)
            counters = await server.host.all_counters()
            assert counters["sctp.established_from_sdp"] == 1


async def test_the_handshake_inside_of_checks_with_chromium(isolated: None) -> None:
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("chromium is not installed here: nothing was tried in it")
    trials_on = {"WebRTC-IceHandshakeDtls": "Enabled", "WebRTC-Sctp-Snap": "Enabled"}
    async with trial_server() as server, launch("chromium", field_trials=trials_on) as browser:
        lab = BrowserLab(browser)
        await lab.load(server.url)
        async with connected(server, lab, NETWORKS["good"]) as line:
            await trials.kinds(line)
            counters = await server.host.all_counters()
            assert counters["session.dtls_in_stun"] >= 1
            assert counters.get("session.dropped_dtls_in_stun", 0) == 0


@pytest.mark.slow
@pytest.mark.skipif("LARGE_TRANSFERS" not in os.environ, reason="minutes: LARGE_TRANSFERS=50 does 50 MB each way")
async def test_a_very_large_transfer_each_way(far: Far, line: Line) -> None:
    size = int(os.environ["LARGE_TRANSFERS"]) * 1_000_000
    print(f"\n{far.lab.name}: {await trials.transfer(line, size, patience=LARGE_PATIENCE)}")
