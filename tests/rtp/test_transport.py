import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.serial import RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp import (
    AudioLevel,
    ByeReceived,
    ExtensionIds,
    ExtensionMap,
    PacketReceived,
    PlayoutDelay,
    RtpCodec,
    RtpConfig,
    RtpPacket,
    RtpTransport,
    SourceChanged,
)
from stack.rtp.report import FIRST_REPORT_WITHIN
from stack.rtp.rtcp import (
    ExtendedReport,
    Goodbye,
    ReceiverReport,
    SenderReport,
    SourceDescription,
    parse_compound,
)
from stack.rtp.section import MAX_SOURCES, SOURCE_SILENCE
from tests.sim.clock import START
from tests.sim.pair import unordered
from tests.sim.rtp import CONFIG, FRAME, RtpPair, numbers


def session(config: RtpConfig = CONFIG) -> RtpTransport:
    return RtpTransport((config,), random.Random(1).randbytes, 0.0)


def packet(sequence: int, timestamp: int = 0, ssrc: int = 7, payload_type: int = 111) -> bytes:
    return RtpPacket(
        payload_type, SequenceNumber(sequence & 0xFFFF), RtpTimestamp(timestamp & 0xFFFFFFFF), Ssrc(ssrc), b"sound"
    ).serialize()


def received(target: RtpTransport) -> list[PacketReceived]:
    return [event for event in target.drain_events() if isinstance(event, PacketReceived)]


# The line that is sent


def test_one_unbroken_line() -> None:
    target = session()
    for number in range(70):
        target.send(b"x", FRAME, number * 0.02)
    sent = [RtpPacket.parse(data) for data in target.drain_rtp()]
    assert sent[0].sequence_number < 0x8000
    assert [p.sequence_number - sent[0].sequence_number for p in sent] == list(range(70))
    assert [(p.timestamp - sent[0].timestamp) & 0xFFFFFFFF for p in sent] == [FRAME * n for n in range(70)]
    assert [p.marker for p in sent] == [True] + [False] * 69
    assert {(p.ssrc, p.payload_type) for p in sent} == {(CONFIG.ssrc, 111)}


def test_silence_moves_the_timestamp_but_not_the_sequence() -> None:
    target = session()
    target.send(b"x", FRAME, 0.0)
    for _ in range(10):
        target.sections[0].sender.skip(FRAME)
    target.send(b"y", FRAME, 0.22)
    target.send(b"z", FRAME, 0.24)
    a, b, c = (RtpPacket.parse(data) for data in target.drain_rtp())
    assert b.sequence_number - a.sequence_number == 1
    assert (b.timestamp - a.timestamp) & 0xFFFFFFFF == 11 * FRAME
    assert (b.marker, c.marker) == (True, False)


def test_a_line_that_nobody_fed_catches_up_with_the_clock() -> None:
    target = session()
    target.send(b"x", FRAME, 0.0)
    target.send(b"late", FRAME, 0.3)  # the caller's own jitter moves nothing
    target.send(b"much later", FRAME, 10.0)
    a, b, c = (RtpPacket.parse(data) for data in target.drain_rtp())
    assert (b.timestamp - a.timestamp) & 0xFFFFFFFF == FRAME
    assert (c.timestamp - a.timestamp) & 0xFFFFFFFF == 48000 * 10
    assert (b.marker, c.marker) == (False, True)


def test_what_was_negotiated_stands_in_every_packet() -> None:
    ids = ExtensionIds(audio_level=1, mid=4, transport_sequence=3, abs_send_time=2, playout_delay=6)
    target = session(replace(CONFIG, extensions=ids, mid="0", playout_delay=PlayoutDelay(0, 2)))
    for number in range(3):
        target.send(b"x", FRAME, number * 0.02, audio_level=AudioLevel(20, True))
    reader = ExtensionMap(ids)
    sent = [RtpPacket.parse(data) for data in target.drain_rtp()]
    read = [reader.parse(p.extension_profile, p.extension_data) for p in sent]
    assert [e.transport_sequence for e in read] == [0, 1, 2]
    assert {(e.audio_level, e.mid, e.playout_delay) for e in read} == {
        (AudioLevel(20, True), "0", PlayoutDelay(0, 2))
    }
    assert [e.abs_send_time for e in read] == [int(n * 0.02 * (1 << 18)) for n in range(3)]


# What arrives


def test_packets_go_up_at_once_in_the_order_of_arrival() -> None:
    target = session()
    for sequence in (0xFFFE, 0xFFFF, 1, 0, 2):
        target.handle_rtp(packet(sequence, 960 * ((sequence + 2) & 0xFFFF) - 1920), sequence / 1000)
    events = received(target)
    assert [event.sequence for event in events] == [0xFFFE, 0xFFFF, 0x10001, 0x10000, 0x10002]
    first = events[0].timestamp
    assert [event.timestamp - first for event in events] == [0, 960, 2880, 1920, 3840]


def test_the_first_source_is_announced() -> None:
    target = session()
    target.handle_rtp(packet(1), 0.0)
    assert target.drain_events()[0] == SourceChanged(7, None)


def test_a_new_source_takes_the_line_and_stragglers_are_dropped() -> None:
    target = session()
    target.handle_rtp(packet(1, ssrc=7), 0.0)
    target.handle_rtp(packet(1, ssrc=8), 0.1)
    target.handle_rtp(packet(2, ssrc=7), 0.2)
    events = target.drain_events()
    assert events[2] == SourceChanged(8, 7)
    assert [event.ssrc for event in events if isinstance(event, PacketReceived)] == [7, 8]
    assert target.counters["rtp.dropped_other_source"] == 1
    target.handle_rtp(packet(3, ssrc=7), 0.1 + SOURCE_SILENCE)
    assert target.drain_events()[0] == SourceChanged(7, 8)


def test_a_source_that_starts_over_is_announced() -> None:
    target = session()
    target.handle_rtp(packet(1), 0.0)
    target.drain_events()
    for sequence in (30_000, 30_001):
        target.handle_rtp(packet(sequence), 0.1)
    changed, event = target.drain_events()
    assert changed == SourceChanged(7, 7)
    assert isinstance(event, PacketReceived)
    assert event.sequence == 30_001
    assert target.counters["rtp.dropped_doubtful"] == 1


def test_drops_have_names() -> None:
    target = session()
    target.handle_rtp(packet(1), 0.0)
    target.handle_rtp(packet(1), 0.0)
    target.handle_rtp(packet(1, payload_type=96), 0.0)
    target.handle_rtp(packet(1, ssrc=CONFIG.ssrc), 0.0)
    target.handle_rtp(b"\x80", 0.0)
    target.handle_rtcp(b"\x80", 0.0)
    assert target.counters.snapshot() == {
        "rtp.dropped_duplicate": 1,
        "rtp.dropped_malformed_rtcp": 1,
        "rtp.dropped_malformed_rtp": 1,
        "rtp.dropped_own_ssrc": 1,
        "rtp.dropped_unknown_payload_type": 1,
    }


def test_sources_are_bounded() -> None:
    target = session()
    for ssrc in range(10_000, 10_000 + 5 * MAX_SOURCES):
        target.handle_rtp(packet(1, ssrc=ssrc), ssrc / 1000)
    target.handle_rtp(packet(2, ssrc=10_000 + 5 * MAX_SOURCES - 1), 20.0)
    assert len(received(target)) == 5 * MAX_SOURCES + 1
    known = [
        ssrc for ssrc in range(10_000, 10_000 + 5 * MAX_SOURCES) if target.sections[0].stream(ssrc) is not None
    ]
    assert known == list(range(10_000 + 4 * MAX_SOURCES, 10_000 + 5 * MAX_SOURCES))


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60), st.floats(0, 5)), max_size=30))
@settings(max_examples=60)
def test_hostile_bytes_never_raise(inputs: list[tuple[bool, bytes, float]]) -> None:
    config = replace(CONFIG, rcvr_rtt=True, transport_cc=True, nack=True, extensions=ExtensionIds(1, 4, 3, 2, 6))
    target, now = session(config), 0.0
    for is_rtp, data, step in inputs:
        now += step
        if is_rtp:
            target.handle_rtp(bytes((0x80 | data[0] & 0x3F, 111)) + data[1:] if data else b"", now)
        else:
            target.handle_rtcp(bytes((0x80 | data[0] & 0x3F, 200 + data[0] % 9)) + data[1:] if data else b"", now)
        target.handle_timeout(now)
        for compound in target.drain_rtcp():
            assert parse_compound(compound)


@pytest.mark.parametrize("payload_type", [111, 63, 110])
def test_packets_of_nothing_but_padding_keep_their_place(payload_type: int) -> None:
    """Chromium probes the path with them, under the payload type that it sends."""
    target = session(
        replace(CONFIG, red_payload_type=63, telephone_events=(RtpCodec(110, "telephone-event", 48000),))
    )
    target.handle_rtp(packet(1), 0.0)
    padding = RtpPacket(payload_type, SequenceNumber(2), RtpTimestamp(0), Ssrc(7), b"", padding=224)
    target.handle_rtp(padding.serialize(), 0.0)
    target.handle_rtp(packet(3, 960), 0.0)
    assert [(event.sequence, event.payload) for event in received(target)] == [
        (1, b"sound"),
        (2, b""),
        (3, b"sound"),
    ]
    assert target.counters.snapshot() == {}


# Reports


def test_reports_carry_what_was_sent_and_received() -> None:
    pair = RtpPair()
    pair.talk(250, near=True, far=True)
    near = [report for _, data in pair.near.rtcp_sent for report in parse_compound(data)]
    reports = [report for report in near if isinstance(report, SenderReport)]
    assert pair.near.rtcp_sent[0][0] - START <= FIRST_REPORT_WITHIN
    assert 4 <= len(reports) <= 9
    assert [report.packet_count for report in reports] == sorted(report.packet_count for report in reports)
    assert reports[-1].octet_count == 4 * reports[-1].packet_count
    assert reports[-1].reports[0].ssrc == 0x2222
    assert reports[-1].reports[0].cumulative_lost == 0
    names = [chunk.cname for report in near if isinstance(report, SourceDescription) for chunk in report.chunks]
    assert set(names) == {"near"}


def test_the_sender_reports_timestamp_is_that_of_its_ntp_time() -> None:
    pair = RtpPair()
    pair.talk(250)
    first = RtpPacket.parse(pair.near.rtp_sent[0]).timestamp
    for _, data in pair.near.rtcp_sent:
        report = parse_compound(data)[0]
        assert isinstance(report, SenderReport)
        seconds = report.ntp_time / 2**32 - 2_208_988_800 - START
        assert abs(((report.rtp_timestamp - first) & 0xFFFFFFFF) / 48000 - seconds) < 0.001


def test_both_sides_learn_the_round_trip() -> None:
    pair = RtpPair(up=unordered(0.03), down=unordered(0.05))
    pair.talk(200, near=True, far=True)
    for party in (pair.near, pair.far):
        assert party.transport.round_trip_time is not None
        assert abs(party.transport.round_trip_time - 0.08) < 0.001


def test_who_only_listens_learns_the_round_trip_by_extended_reports() -> None:
    pair = RtpPair(replace(CONFIG, rcvr_rtt=True), up=unordered(0.03), down=unordered(0.05))
    pair.talk(200, near=True, far=False)
    assert pair.far.transport.round_trip_time is not None
    assert abs(pair.far.transport.round_trip_time - 0.08) < 0.001
    kinds = {type(p) for _, data in pair.far.rtcp_sent for p in parse_compound(data)}
    assert kinds == {ReceiverReport, SourceDescription, ExtendedReport}


def test_loss_is_reported_as_it_was() -> None:
    pair = RtpPair(up=unordered(0.05, loss=0.1), seed=5)
    pair.talk(1000, far=True)
    view = pair.near.transport.sections[0].remote_view
    assert view is not None
    lost = 1000 - len(pair.far.heard)
    assert 60 < lost < 140
    assert abs(view.packets_lost - lost) <= 10  # what happened after the last report
    assert 0 <= view.fraction_lost < 0.3


def test_who_falls_silent_sends_receiver_reports() -> None:
    pair = RtpPair()
    pair.talk(50, near=True, far=True)
    pair.talk(300, near=False, far=True)
    last = parse_compound(pair.near.rtcp_sent[-1][1])
    assert isinstance(last[0], ReceiverReport)
    assert last[0].reports[0].ssrc == 0x2222


def test_nothing_to_say_means_no_timer() -> None:
    assert session().poll_timeout() is None


def test_goodbye() -> None:
    pair = RtpPair()
    pair.talk(20)
    pair.near.transport.close(pair.now)
    pair.near.transport.send(b"x", FRAME, pair.now)
    pair.run(1.0)
    assert isinstance(parse_compound(pair.near.rtcp_sent[-1][1])[-1], Goodbye)
    assert pair.far.events[-1] == ByeReceived((0x1111,), "")
    assert pair.near.transport.poll_timeout() is None
    assert pair.near.transport.counters["rtp.dropped_sent_after_close"] == 1
    assert len(pair.far.heard) == 20


def test_a_network_that_does_everything() -> None:
    pair = RtpPair(up=unordered(0.05, jitter=0.1, loss=0.1, duplicate=0.1), seed=9)
    pair.talk(500)
    pair.run(1.0)
    heard = numbers(pair.far.heard)
    assert len(heard) == len(set(heard)) > 400
    assert sorted(heard, key=lambda n: n) != heard  # reordered, and left so
    by_sequence = sorted(pair.far.heard, key=lambda event: event.sequence)
    base = by_sequence[0].sequence - numbers(by_sequence)[0]
    assert [event.sequence - base for event in by_sequence] == numbers(by_sequence)
    assert pair.far.transport.counters["rtp.dropped_duplicate"] > 20
