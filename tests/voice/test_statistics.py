"""What a call says of itself, held against what the simulated network did to it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from interop.network_model import NetworkModel
from stack.voice.commands import HangUp, Write
from stack.voice.conversation import Conversation, ConversationConfig
from stack.voice.events import AudioReceived
from stack.voice.statistics import CallStatistics, CallTotals
from tests.sim.calls import CallPair, is_up

RATE = 16_000
QUIET = ConversationConfig(detector="energy", echo="off")


def speech(seconds: float) -> np.ndarray:
    at = np.arange(round(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * 300 * at) * np.sin(2 * np.pi * 3 * at)).astype(np.int16)


def call(model: NetworkModel | None = None, **config: object) -> CallPair:
    pair = CallPair(model=model, client=QUIET, server=ConversationConfig(detector="energy", echo="off", **config))
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    return pair


def snapshot(pair: CallPair) -> tuple[CallStatistics, CallStatistics]:
    left: Conversation = pair.left.machine
    return left.stats(pair.now), pair.right.machine.stats(pair.now)


def talk(pair: CallPair, seconds: float) -> None:
    for host in pair.hosts:
        host.handle(Write(speech(seconds), RATE))
    pair.run(seconds + 1)


def test_before_the_first_packet_there_is_a_transport_and_nothing_else() -> None:
    pair = CallPair()
    transport = pair.right.machine.stats(pair.now).session.transport
    assert (transport.ice_role, transport.ice_state, transport.dtls_state.value) == (
        "controlled",
        "checking",
        "new",
    )
    assert transport.selected_candidate_pair_id is None
    types = {part["type"] for part in pair.right.machine.stats(pair.now).as_webrtc()}
    assert types == {"transport", "codec", "outbound-rtp"}


def test_the_transport_of_both_sides() -> None:
    pair = call()
    talk(pair, 3.0)
    client, server = snapshot(pair)
    near, far = client.session.transport, server.session.transport
    assert (near.ice_role, far.ice_role) == ("controlling", "controlled")
    assert {near.dtls_role, far.dtls_role} == {"client", "server"}
    for transport in (near, far):
        assert transport.ice_state in ("connected", "completed")
        assert transport.dtls_state.value == "connected"
        assert transport.tls_version == "FEFC"
        assert transport.srtp_cipher == "AEAD_AES_128_GCM"
        assert transport.dtls_cipher is not None
    assert near.packets_sent == far.packets_received  # nothing was lost, and neither counts ICE
    assert near.bytes_sent == far.bytes_received
    assert far.bytes_sent == near.bytes_received > 150 * 40


def test_every_reference_leads_to_another_part() -> None:
    pair = call()
    talk(pair, 6.0)
    for parts in (side.as_webrtc() for side in snapshot(pair)):
        known = {part["id"] for part in parts}
        assert len(known) == len(parts)
        types = {part["type"] for part in parts}
        assert types >= {"transport", "candidate-pair", "local-candidate", "remote-candidate", "codec"}
        assert types >= {"inbound-rtp", "outbound-rtp", "remote-inbound-rtp", "remote-outbound-rtp"}
        for part in parts:
            for name in (
                "transportId",
                "codecId",
                "localCandidateId",
                "remoteCandidateId",
                "selectedCandidatePairId",
            ):
                assert part.get(name, part["id"]) in known
        assert json.loads(json.dumps(parts)) == parts


def test_the_candidates_are_those_that_carry_the_sound() -> None:
    pair = call(NetworkModel(delay=0.05))
    pair.run(2)
    client, server = snapshot(pair)
    assert client.session.local_candidate is not None
    assert server.session.remote_candidate is not None
    assert client.session.local_candidate.address == server.session.remote_candidate.address
    assert client.session.local_candidate.port == server.session.remote_candidate.port
    assert client.session.local_candidate.candidate_type == "host"
    assert client.session.candidate_pair is not None
    assert client.session.candidate_pair.nominated
    assert client.session.candidate_pair.current_round_trip_time == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize("jitter_buffer", ["arrival", "clock"])
def test_what_was_concealed_is_what_was_lost(jitter_buffer: str) -> None:
    pair = call(NetworkModel(delay=0.03, loss=0.2), jitter_buffer=jitter_buffer)
    talk(pair, 20.0)
    hearing = snapshot(pair)[1].hearing
    assert hearing is not None
    frames = [event.frame for event in pair.right.seen(AudioReceived)]
    assert hearing.total_samples_received == sum(map(len, frames))
    assert hearing.concealment_events > 0
    if jitter_buffer == "arrival":
        assert hearing.concealed_samples == sum(len(frame) for frame in frames if frame.concealed)
        assert 0 < hearing.concealed_share < 0.1  # repaired, most of it
    inbound = next(part for part in snapshot(pair)[1].as_webrtc() if part["type"] == "inbound-rtp")
    assert inbound["concealedSamples"] == hearing.concealed_samples
    assert inbound["fecPacketsReceived"]
    assert hearing.mean_delay < 0.2


def test_totals_add_up() -> None:
    pair = call()
    talk(pair, 1.0)
    both = [side.totals for side in snapshot(pair)]
    total = sum(both, CallTotals())
    assert total.calls == 2
    assert total.packets_sent == total.packets_received == sum(each.packets_sent for each in both) == 100


def test_after_the_end_the_figures_stay() -> None:
    pair = call()
    talk(pair, 1.0)
    pair.left.handle(HangUp())
    pair.run(0.5)
    for side in snapshot(pair):
        assert side.session.transport.dtls_state.value == "closed"
        assert side.totals.packets_received == 50
