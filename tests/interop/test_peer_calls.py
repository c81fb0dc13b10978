"""Whole calls of GStreamer and of Pion with our server; see `interop/peer_trials.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from interop import peer_trials as trials
from interop.browsers import addressed_namespace

pytestmark = [pytest.mark.peer, pytest.mark.real_clock]

Start = Callable[[], AbstractAsyncContextManager[trials.Peer]]
PEERS = {
    "gstreamer": (trials.why_gstreamer_is_absent, trials.gstreamer),
    "pion": (trials.why_pion_is_absent, trials.pion),
}


@pytest.fixture(params=PEERS)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Each peer, on a network with one address where that is permitted: neither gathers a loopback candidate."""
    why_absent, peer = PEERS[request.param]
    absent = why_absent()
    if absent is not None:
        pytest.skip(absent)
    with addressed_namespace():
        yield peer


async def test_sound_and_data_both_ways_and_a_hang_up_by_us(start: Start) -> None:
    async with start() as peer, trials.calling(peer) as trial:
        await trials.sound_both_ways(trial)
        await trials.data_both_ways(trial)
        await trials.hung_up_by_us(trial)


async def test_a_hang_up_by_the_peer(start: Start) -> None:
    async with start() as peer, trials.calling(peer) as trial:
        await trials.hung_up_by_the_peer(trial)


async def test_video_that_is_offered_is_declined(start: Start) -> None:
    async with start() as peer, trials.calling(peer, video=True) as trial:
        await trials.declined_video(trial)


@pytest.mark.slow
async def test_forty_five_seconds_of_life(start: Start) -> None:
    async with start() as peer, trials.calling(peer) as trial:
        await trials.life(trial)
