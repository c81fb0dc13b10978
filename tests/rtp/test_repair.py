"""Two parties over a bad network: what was lost, what came back, and that every side knows it."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from interop.network_model import NetworkModel
from stack.core.errors import LocalError
from stack.core.machine import Path
from stack.core.serial import SequenceNumber
from stack.rtp import (
    DtmfEnded,
    DtmfReceived,
    ExtensionIds,
    PacketReceived,
    RtpCodec,
    RtpConfig,
    RtpPacket,
    SourceChanged,
)
from stack.rtp.nack import HOLD_OFF, MAX_MISSING
from stack.rtp.red import RedBlock, RedPayload
from stack.rtp.rtcp import GenericNack, ReceiverReport, RtcpPacket, SourceDescription, parse_compound
from stack.srtp import MasterKey, SrtpEngine, SrtpProfile
from tests.sim.clock import START
from tests.sim.network import Filter, Host
from tests.sim.pair import unordered
from tests.sim.rtp import CONFIG, FRAME, OPUS, RtpPair, is_rtcp, numbers

RED = replace(CONFIG, red_payload_type=63)
NACK = replace(CONFIG, nack=True)
RTX = replace(NACK, rtx_payload_types=((97, 111),), rtx_ssrc=0x1112)
DTMF = replace(CONFIG, telephone_events=(RtpCodec(110, "telephone-event", 48000),))


GOOD = unordered(0.02)


def lossy(loss: float) -> NetworkModel:
    return unordered(0.02, loss=loss)


def dropping(config: RtpConfig, *places: int, times: int = 1, down: NetworkModel | None = None) -> RtpPair:
    """Return a pair whose network loses the first `times` copies of the near side's packets at these places."""
    pair = RtpPair(config, up=GOOD, down=down)
    seen: Counter[int] = Counter()
    first: list[int] = []

    def drop(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        if is_rtcp(data) or (packet := RtpPacket.parse(data)).ssrc != CONFIG.ssrc:
            return data
        first.append(packet.sequence_number)
        place = (packet.sequence_number - first[0]) & 0xFFFF
        seen[place] += 1
        return None if place in places and seen[place] <= times else data

    pair.network.filter = drop
    return pair


def damaging(seed: int, share: float) -> Filter:
    """Return a filter that spoils this share of all datagrams: wrong bytes, and often too few."""
    chance = random.Random(seed)

    def damage(sender: Host[Any], data: bytes, path: Path) -> bytes:
        if chance.random() >= share:
            return data
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        return bytes(damaged[: chance.randint(1, 2 * len(damaged))])

    return damage


# Redundancy


def test_redundancy_repairs_single_losses_at_once_and_in_order() -> None:
    pair = dropping(RED, 10, 20, 30)
    pair.talk(50)
    pair.run(0.1)
    assert numbers(pair.far.heard) == list(range(50))
    recovered = [event for event in pair.far.heard if event.recovered]
    assert numbers(recovered) == [10, 20, 30]
    first = pair.far.heard[0]
    for event in pair.far.heard:
        place = numbers([event])[0]
        assert (event.sequence - first.sequence, event.timestamp - first.timestamp) == (place, place * FRAME)
        assert event.payload_type == OPUS.payload_type
    inbound = pair.far.transport.stats(pair.now)[0].inbound
    assert inbound is not None
    assert (inbound.packets_recovered, inbound.packets_lost, inbound.packets_received) == (3, 3, 47)
    assert inbound.fec_packets_received == inbound.fec_packets_discarded + 3


def test_redundancy_is_chosen_by_reported_loss() -> None:
    pair = RtpPair(RED, up=lossy(0.15), seed=3)
    pair.talk(100, far=True)
    pair.talk(900, far=True, first=100)
    assert pair.near.transport.stats(pair.now)[0].outbound.redundancy_depth == 2
    assert 0.1 < pair.near.transport.sections[0].sender.reported_loss(pair.now) < 0.25
    pair.network.link(pair.left, pair.right, GOOD, unordered(0.05))
    pair.talk(2500, far=True, first=1000)
    assert pair.near.transport.sections[0].sender.reported_loss(pair.now) < 0.003
    assert pair.near.transport.stats(pair.now)[0].outbound.redundancy_depth == 0
    last = RtpPacket.parse(pair.near.rtp_sent[-1])
    assert last.payload_type == OPUS.payload_type


@pytest.mark.parametrize(("loss", "depth", "most_missing"), [(0.05, 1, 0.01), (0.2, 2, 0.03)])
def test_how_much_redundancy_recovers(loss: float, depth: int, most_missing: float) -> None:
    pair = RtpPair(replace(RED, red_depth=depth), up=lossy(loss), seed=3)
    pair.talk(2000)
    heard = numbers(pair.far.heard)
    assert len(heard) == len(set(heard))
    assert 2000 - len(heard) <= most_missing * 2000
    assert 0.7 * loss * 2000 < sum(event.recovered for event in pair.far.heard) < 1.3 * loss * 2000


def test_duplicates_of_what_redundancy_brought_are_suppressed() -> None:
    pair = RtpPair(RED, up=unordered(0.02, 0.08, loss=0.1, duplicate=0.05), seed=8)
    pair.talk(800)
    pair.run(0.5)
    heard = numbers(pair.far.heard)
    assert len(heard) == len(set(heard)) > 785
    first = pair.far.heard[0]
    for event in pair.far.heard:
        place = numbers([event])[0] - numbers([first])[0]
        assert (event.sequence - first.sequence, event.timestamp - first.timestamp) == (place, place * FRAME)


def test_a_block_across_something_else_is_not_taken_for_a_packet() -> None:
    """A block half a second before its primary cannot be the packet just before it."""
    target = RtpPair(RED).far.transport
    red = RedPayload(111, b"new", (RedBlock(111, 0x3FFF, b"old"),)).serialize()
    for sequence, payload_type, payload in ((1, 111, b"a"), (3, 63, red)):
        packet = RtpPacket(payload_type, SequenceNumber(sequence), 0, 7, payload)  # type: ignore[arg-type]
        target.handle_rtp(packet.serialize(), 0.0)
    heard = [event for event in target.drain_events() if isinstance(event, PacketReceived)]
    assert [event.payload for event in heard] == [b"a", b"new"]


def test_red_around_an_unknown_codec_leaves_no_gap_and_no_sound() -> None:
    target = RtpPair(RED).far.transport
    packet = RtpPacket(63, SequenceNumber(1), 0, 7, RedPayload(96, b"video?").serialize())  # type: ignore[arg-type]
    target.handle_rtp(packet.serialize(), 0.0)
    (event,) = (event for event in target.drain_events() if isinstance(event, PacketReceived))
    assert event.payload == b""
    assert target.counters["rtp.dropped_unknown_payload_type"] == 1


# Asking


@pytest.mark.parametrize("config", [NACK, RTX], ids=["same packet again", "rtx"])
def test_a_lost_packet_is_asked_for_and_repeated(config: RtpConfig) -> None:
    pair = dropping(config, 10, 11, 30, down=GOOD)
    pair.talk(50)
    pair.run(0.5)
    assert sorted(numbers(pair.far.heard)) == list(range(50))
    recovered = [event for event in pair.far.heard if event.recovered]
    assert numbers(recovered) == [10, 11, 30]
    # Noticed with the next packet, asked after the hold-off, answered a round trip later.
    noticed = START + 12 * 0.02 + 0.02
    assert recovered[0].arrival == pytest.approx(noticed + HOLD_OFF + 0.04, abs=1e-6)
    near, far = pair.near.transport.stats(pair.now)[0], pair.far.transport.stats(pair.now)[0]
    assert (near.outbound.nack_count, near.outbound.retransmitted_packets_sent) == (2, 3)
    assert far.inbound is not None
    assert far.inbound.nack_count == 2
    repeats = [RtpPacket.parse(data) for data in pair.near.rtp_sent[-20:] if RtpPacket.parse(data).ssrc == 0x1112]
    if config is RTX:
        assert far.inbound.retransmitted_packets_received == 3
        assert {packet.payload_type for packet in repeats} == {97}
        assert (far.inbound.packets_received, far.inbound.packets_lost) == (47, 3)
    else:
        # RFC 3550 counts what comes again as received.
        assert (far.inbound.packets_received, far.inbound.packets_lost) == (50, 0)
        assert len(set(pair.near.rtp_sent)) == 50  # byte for byte the same packet


def test_asking_over_a_bad_network_both_ways() -> None:
    pair = RtpPair(NACK, up=lossy(0.15), down=lossy(0.15), seed=3)
    pair.talk(1500)
    pair.run(1.0)
    heard = numbers(pair.far.heard)
    assert len(heard) == len(set(heard))
    assert 1500 - len(heard) < 0.01 * 1500
    stats = pair.far.transport.stats(pair.now)[0].inbound
    assert stats is not None
    assert 0 < stats.nack_count < 500


def test_feedback_without_reduced_size_stands_behind_a_report() -> None:
    pair = dropping(replace(NACK, reduced_size=False), 5)
    pair.talk(30)
    compounds = [parse_compound(data) for _, data in pair.far.rtcp_sent]
    nacks = [compound for compound in compounds if isinstance(compound[-1], GenericNack)]
    assert nacks
    assert all([type(p) for p in c] == [ReceiverReport, SourceDescription, GenericNack] for c in nacks)


def test_requests_for_others_or_for_everything_do_little() -> None:
    pair = RtpPair(NACK)
    pair.talk(300)
    near = pair.near.transport
    sent = len(pair.near.rtp_sent)
    near.handle_rtcp(GenericNack(2, 0x9999, (1, 2, 3)).serialize(), pair.now)
    assert near.counters["rtp.dropped_nack_not_ours"] == 1
    flood: RtcpPacket = GenericNack(2, CONFIG.ssrc, tuple(range(0x8000)))
    for _ in range(20):
        near.handle_rtcp(flood.serialize(), pair.now)
    assert len(near.drain_rtp()) <= 128
    assert sent == 300


def test_a_long_gap_is_asked_for_within_a_bound() -> None:
    pair = dropping(NACK, *range(100, 600))
    pair.talk(700)
    asked = [
        number
        for _, data in pair.far.rtcp_sent
        for packet in parse_compound(data)
        if isinstance(packet, GenericNack)
        for number in packet.lost
    ]
    assert 0 < len(set(asked)) <= MAX_MISSING


# Both, and everything else


def test_redundancy_spares_the_request() -> None:
    pair = dropping(replace(NACK, red_payload_type=63), 10, 20)
    pair.talk(50)
    assert pair.near.transport.stats(pair.now)[0].outbound.nack_count == 0
    assert numbers(pair.far.heard)[:49] == list(range(49))


def test_a_new_source_forgets_the_gaps_of_the_old() -> None:
    pair = dropping(NACK, 10)
    pair.talk(12)
    far = pair.far.transport
    packet = RtpPacket(111, SequenceNumber(1), 0, 0x7777, b"other")  # type: ignore[arg-type]
    far.handle_rtp(packet.serialize(), pair.now)
    assert SourceChanged(0x7777, CONFIG.ssrc) in far.drain_events()
    far.handle_timeout(pair.now + 1.0)
    assert not any(isinstance(p, GenericNack) for data in far.drain_rtcp() for p in parse_compound(data))


def test_transport_wide_feedback_tells_the_sender_its_loss() -> None:
    config = replace(RED, transport_cc=True, extensions=ExtensionIds(transport_sequence=3))
    pair = RtpPair(config, up=lossy(0.1), seed=3)
    pair.talk(150)
    # Three seconds are enough, though receiver reports alone would take longer to be believed.
    assert pair.near.transport.sections[0].sender.reported_loss(pair.now) == pytest.approx(0.1, abs=0.05)
    assert pair.near.transport.stats(pair.now)[0].outbound.redundancy_depth == 2


def test_keys_travel_once_and_the_sound_gives_way() -> None:
    pair = RtpPair(DTMF, up=GOOD)
    pair.talk(20)
    pair.near.transport.send_dtmf("5#", pair.now, duration=0.1, gap=0.06)
    pair.talk(40, first=20)
    pair.run(0.5)
    keys = [event for event in pair.far.events if isinstance(event, DtmfReceived | DtmfEnded)]
    assert [(type(event), event.digit) for event in keys] == [
        (DtmfReceived, "5"),
        (DtmfEnded, "5"),
        (DtmfReceived, "#"),
        (DtmfEnded, "#"),
    ]
    assert [event.duration for event in keys if isinstance(event, DtmfEnded)] == pytest.approx([0.1, 0.1])
    sequences = [event.sequence for event in pair.far.heard]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))  # no number is missing
    sound = [event for event in pair.far.heard if event.payload]
    muted = pair.near.transport.counters["rtp.dropped_muted_by_dtmf"]
    assert len(sound) == 60 - muted
    assert 8 <= muted <= 14
    first = sound[0]
    for event in sound:  # and the timeline went on
        assert event.timestamp - first.timestamp == numbers([event])[0] * FRAME
    assert pair.far.transport.stats(pair.now)[0].inbound is not None


def test_keys_over_a_lossy_network_are_told_exactly_once() -> None:
    pair = RtpPair(DTMF, up=lossy(0.3), seed=8)
    pair.near.transport.send_dtmf("0123456789*#", pair.now, duration=0.1, gap=0.1)
    pair.run(6.0)
    pressed = [event.digit for event in pair.far.events if isinstance(event, DtmfReceived)]
    released = [event.digit for event in pair.far.events if isinstance(event, DtmfEnded)]
    assert "".join(pressed) == "".join(released) == "0123456789*#"


def test_keys_need_to_be_negotiated() -> None:
    with pytest.raises(LocalError):
        RtpPair().near.transport.send_dtmf("1", 0.0)


EVERYTHING = replace(
    RTX,
    red_payload_type=63,
    rtx_payload_types=((97, 111), (98, 63)),
    transport_cc=True,
    rcvr_rtt=True,
    extensions=ExtensionIds(audio_level=1, mid=4, transport_sequence=3, abs_send_time=2),
    mid="0",
    telephone_events=DTMF.telephone_events,
)


@pytest.mark.parametrize("profile", SrtpProfile)
def test_repairs_pass_through_srtp(profile: SrtpProfile) -> None:
    """The same packet again is the same SRTP packet again, and is let in where the first one was lost."""
    key = MasterKey(bytes(profile.key_length), bytes(profile.salt_length))
    srtp = SrtpEngine(profile, key, key), SrtpEngine(profile, key, key)
    pair = RtpPair(NACK, up=unordered(0.02, loss=0.1, duplicate=0.1), seed=3, srtp=srtp)
    pair.talk(500)
    pair.run(0.5)
    assert sorted(numbers(pair.far.heard)) == list(range(500))
    assert set(pair.far.refused) == {"replay"}
    assert pair.far.transport.counters["rtp.dropped_duplicate"] == 0  # SRTP has refused them already


def test_damage_everywhere_raises_nowhere() -> None:
    for seed in range(4):
        bad = unordered(0.05, jitter=0.03, loss=0.05)
        pair = RtpPair(EVERYTHING, up=bad, down=bad, seed=seed)
        pair.network.filter = damaging(seed, 0.3)
        pair.near.transport.send_dtmf("123", pair.now)
        pair.talk(300, far=True)
        assert pair.near.transport.counters["rtp.dropped_malformed_rtcp"] > 0
        assert pair.far.transport.counters["rtp.dropped_malformed_rtp"] > 0
        assert len(pair.far.heard) > 20


def test_everything_at_once_over_a_terrible_network() -> None:
    terrible = unordered(0.06, jitter=0.06, loss=0.2, duplicate=0.05)
    pair = RtpPair(EVERYTHING, up=terrible, down=terrible, seed=11)
    pair.talk(1000, far=True)
    pair.run(1.0)
    for party, other in ((pair.near, pair.far), (pair.far, pair.near)):
        heard = numbers(party.heard)
        assert len(heard) == len(set(heard)) >= 995
        stats, sent = party.transport.stats(pair.now)[0], other.transport.stats(pair.now)[0].outbound
        assert stats.inbound is not None
        # Duplicates by the network count as received (RFC 3550 §A.3), so the loss is that much smaller.
        assert stats.inbound.packets_lost + stats.inbound.packets_received == pytest.approx(1000, abs=2)
        assert sent.packets_sent == 1000
        assert stats.remote_outbound is not None
        assert stats.remote_inbound is not None
        assert stats.remote_inbound.round_trip_time == pytest.approx(0.18, abs=0.07)
        assert stats.inbound.jitter == pytest.approx(0.02, abs=0.01)
