import json
from dataclasses import replace

import pytest

from stack.rtp import RtpPacket
from tests.sim.pair import unordered
from tests.sim.rtp import CONFIG, RtpPair


def test_before_anything_happened() -> None:
    stats = RtpPair().near.transport.stats(5.0)[0]
    assert (stats.inbound, stats.remote_inbound, stats.remote_outbound) == (None, None, None)
    assert (stats.outbound.packets_sent, stats.outbound.timestamp) == (0, 5.0)


def test_both_sides_agree_on_what_happened() -> None:
    pair = RtpPair(replace(CONFIG, red_payload_type=63), up=unordered(0.04, loss=0.1), seed=6)
    pair.talk(1000, far=True)
    pair.run(pair.now + 0.1)
    near, far = pair.near.transport.stats(pair.now)[0], pair.far.transport.stats(pair.now)[0]
    assert near.outbound.packets_sent == 1000
    assert near.outbound.bytes_sent == sum(len(RtpPacket.parse(data).payload) for data in pair.near.rtp_sent)
    assert far.inbound is not None
    assert far.inbound.packets_received + far.inbound.packets_lost == pytest.approx(1000, abs=3)
    assert far.inbound.jitter == pytest.approx(0.0, abs=1e-3)
    assert far.remote_outbound is not None
    assert far.remote_outbound.packets_sent <= 1000
    assert far.remote_outbound.reports_sent >= 10
    assert near.remote_inbound is not None
    assert near.remote_inbound.packets_lost == pytest.approx(far.inbound.packets_lost, abs=15)
    assert near.remote_inbound.round_trip_time == pytest.approx(0.09, abs=0.001)
    mean = near.remote_inbound.total_round_trip_time / near.remote_inbound.round_trip_time_measurements
    assert mean == pytest.approx(0.09, abs=0.001)


def test_jitter_is_in_seconds() -> None:
    """A delay uniform in 0 … 30 ms differs by 10 ms on average from the next one (RFC 3550 §A.8 measures that)."""
    pair = RtpPair(up=unordered(0.05, jitter=0.03), seed=6)
    pair.talk(2000, far=True)
    far, near = pair.far.transport.stats(pair.now)[0], pair.near.transport.stats(pair.now)[0]
    assert far.inbound is not None
    assert far.inbound.jitter == pytest.approx(0.01, rel=0.4)
    assert near.remote_inbound is not None
    assert near.remote_inbound.jitter == pytest.approx(0.01, rel=0.4)


def test_the_spelling_of_browsers() -> None:
    pair = RtpPair()
    pair.talk(200, far=True)
    parts = {str(part["type"]): part for part in pair.near.transport.stats(pair.now)[0].as_webrtc()}
    assert set(parts) == {"outbound-rtp", "inbound-rtp", "remote-inbound-rtp", "remote-outbound-rtp"}
    assert parts["outbound-rtp"]["packetsSent"] == 200
    assert parts["inbound-rtp"]["lastPacketReceivedTimestamp"] == pytest.approx(pair.now, abs=0.05)
    assert parts["remote-inbound-rtp"]["roundTripTime"] == pytest.approx(0.1, abs=0.01)
    assert parts["inbound-rtp"]["id"] == "inbound-rtp-00002222"
    assert json.loads(json.dumps(list(parts.values())))
