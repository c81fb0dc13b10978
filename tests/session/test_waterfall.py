"""The steps of a set-up, with the round trips that each took."""

from __future__ import annotations

import numpy as np
import pytest

from interop.network_model import NetworkModel
from stack.sdp import ChannelMap
from stack.session import STEPS, SetupStep
from stack.session.waterfall import waterfall
from stack.voice.commands import GetStatistics, Write
from tests.sim.calls import CallPair, agree, is_up
from tests.sim.clock import START


def test_round_trips_count_from_the_first_check() -> None:
    steps = {"keys_ready": 160.0, "session_made": 2.0, "ice_validated": 60.0}
    assert waterfall(steps, 0.1, lite=True) == (
        SetupStep("session_made", 2.0),
        SetupStep("ice_validated", 60.0, 0.5),
        SetupStep("keys_ready", 160.0, 1.5),
    )
    assert [step.round_trips for step in waterfall(steps, 0.1, lite=False)] == [0.0, 0.58, 1.58]


@pytest.mark.parametrize("round_trip", [None, 0.0001, 0.0049])
def test_without_a_round_trip_there_are_times_alone(round_trip: float | None) -> None:
    steps = {"session_made": 0.0, "ice_validated": 1.0}
    assert [step.round_trips for step in waterfall(steps, round_trip, lite=True)] == [None, None]
    assert waterfall({}, 0.1, lite=True) == ()


def test_a_call_has_every_step_on_both_sides() -> None:
    pair = CallPair(agree(channels=(ChannelMap(0, "events"),)), NetworkModel(delay=0.05), offered=START - 0.004)
    assert pair.run(5, lambda: all(is_up(host) for host in pair.hosts))
    for host in pair.hosts:
        host.handle(Write(np.full(1600, 1000, np.int16), 16_000))
    pair.run(1)
    client, server = (host.handle(GetStatistics()) for host in pair.hosts)
    for statistics in (client, server):
        assert {step.name for step in statistics.setup} == set(STEPS)
        times = [step.at_ms for step in statistics.setup]
        assert times == sorted(times)
    at = {step.name: step for step in server.setup}
    assert at["session_made"].at_ms == pytest.approx(4.0), "from the offer's arrival"
    assert (at["ice_validated"].round_trips, at["dtls_begun"].round_trips) == (0.5, 0.5)
    assert at["keys_ready"].at_ms == pytest.approx(54.0)
    assert at["dtls_connected"].round_trips == pytest.approx(1.5)
    here = {step.name: step.round_trips for step in client.setup}
    assert here["keys_ready"] == here["channel_open"] == pytest.approx(1.0)
