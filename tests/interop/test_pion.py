"""Whole calls of Pion with our server; see `interop/peer_trials.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop import peer_trials as trials
from interop.browsers import addressed_namespace

pytestmark = [pytest.mark.peer, pytest.mark.real_clock]


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """A network with one address, where that is permitted: Pion gathers no loopback candidate."""
    absent = trials.why_pion_is_absent()
    if absent is not None:
        pytest.skip(absent)
    with addressed_namespace():
        yield


async def test_sound_and_data_both_ways_and_a_hang_up_by_us() -> None:
    async with trials.pion() as peer, trials.calling(peer) as trial:
        await trials.sound_both_ways(trial)
        await trials.data_both_ways(trial)
        await trials.hung_up_by_us(trial)


async def test_a_hang_up_by_the_peer() -> None:
    async with trials.pion() as peer, trials.calling(peer) as trial:
        await trials.hung_up_by_the_peer(trial)


async def test_video_that_is_offered_is_declined() -> None:
    async with trials.pion() as peer, trials.calling(peer, video=True) as trial:
        await trials.declined_video(trial)


@pytest.mark.slow
async def test_forty_five_seconds_of_life() -> None:
    async with trials.pion() as peer, trials.calling(peer) as trial:
        await trials.life(trial)
