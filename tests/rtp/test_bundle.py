"""Several media sections on one transport: which packet belongs to which (RFC 9143 §9.2)."""

from __future__ import annotations

from random import Random

import pytest

from stack.core.errors import LocalError
from stack.rtp import (
    AudioLevel,
    ByeReceived,
    ExtensionIds,
    ExtensionMap,
    HeaderExtensions,
    PacketReceived,
    RtpCodec,
    RtpConfig,
    RtpPacket,
    RtpTransport,
    SourceChanged,
)
from stack.rtp.rtcp import Goodbye, ReceiverReport, ReportBlock, SenderReport, parse_compound, serialize_compound
from stack.rtp.section import BYE_GRACE
from stack.rtp.transport import MAX_SSRCS

IDS = ExtensionIds(mid=3, audio_level=1)
OPUS, PCMU = RtpCodec(111, "opus", 48_000), RtpCodec(0, "PCMU", 8_000)


def transport(*codecs: RtpCodec) -> RtpTransport:
    configs = [
        RtpConfig(ssrc=index + 1, cname="ours", codecs=(codec,), extensions=IDS, mid=str(index), reduced_size=True)
        for index, codec in enumerate(codecs)
    ]
    return RtpTransport(configs, Random(1).randbytes, 0.0)


def packet(ssrc: int, sequence: int, payload_type: int, mid: str | None = None) -> bytes:
    profile, data = ExtensionMap(IDS).serialize(HeaderExtensions(AudioLevel(10), mid))
    made = RtpPacket(
        payload_type,
        sequence,  # type: ignore[arg-type]
        sequence * 960,  # type: ignore[arg-type]
        ssrc,  # type: ignore[arg-type]
        b"sound",
        extension_profile=profile,
        extension_data=data,
    )
    return made.serialize()


def heard(target: RtpTransport) -> list[tuple[str | None, int]]:
    return [(event.mid, event.ssrc) for event in target.drain_events() if isinstance(event, PacketReceived)]


def test_by_the_payload_type_where_it_is_of_one_section_alone() -> None:
    target = transport(OPUS, PCMU)
    target.handle_rtp(packet(70, 1, 111), 0.0)
    target.handle_rtp(packet(71, 1, 0), 0.0)
    assert heard(target) == [("0", 70), ("1", 71)]


def test_by_the_mid_and_from_then_on_by_the_ssrc() -> None:
    target = transport(OPUS, OPUS)
    target.handle_rtp(packet(70, 1, 111, "1"), 0.0)
    target.handle_rtp(packet(71, 1, 111, "0"), 0.0)
    target.handle_rtp(packet(70, 2, 111), 0.02)
    target.handle_rtp(packet(71, 2, 111), 0.02)
    assert heard(target) == [("1", 70), ("0", 71), ("1", 70), ("0", 71)]


def test_a_payload_type_of_several_sections_says_nothing() -> None:
    target = transport(OPUS, OPUS)
    target.handle_rtp(packet(70, 1, 111), 0.0)
    assert heard(target) == []
    assert target.counters["rtp.dropped_unknown_payload_type"] == 1


def test_a_later_mid_moves_the_ssrc() -> None:
    target = transport(OPUS, OPUS)
    target.handle_rtp(packet(70, 1, 111, "0"), 0.0)
    target.handle_rtp(packet(70, 2, 111, "1"), 0.02)
    target.handle_rtp(packet(70, 3, 111), 0.04)
    assert heard(target) == [("0", 70), ("1", 70), ("1", 70)]


def test_sections_have_current_sources_of_their_own() -> None:
    target = transport(OPUS, PCMU)
    for sequence in range(3):
        target.handle_rtp(packet(70, sequence, 111), sequence * 0.02)
        target.handle_rtp(packet(71, sequence, 0), sequence * 0.02)
    changes = [event for event in target.drain_events() if isinstance(event, SourceChanged)]
    assert [(event.mid, event.ssrc) for event in changes] == [("0", 70), ("1", 71)]


def test_the_table_of_ssrcs_is_bounded() -> None:
    target = transport(OPUS, PCMU)
    for ssrc in range(MAX_SSRCS + 10):
        target.handle_rtp(packet(1000 + ssrc, 1, 111), 0.0)
    assert len(target._by_ssrc) == MAX_SSRCS


def test_each_ssrc_of_ours_reports_and_hears_what_is_reported_of_it() -> None:
    target = transport(OPUS, PCMU)
    target.send(b"one", 960, 0.0)
    target.send(b"two", 160, 0.0, section=1)
    assert [RtpPacket.parse(data).ssrc for data in target.drain_rtp()] == [1, 2]
    target.handle_timeout(0.2)
    (compound,) = target.drain_rtcp()
    senders = [report.ssrc for report in parse_compound(compound) if isinstance(report, SenderReport)]
    assert senders == [1, 2]
    blocks = tuple(ReportBlock(ssrc, 128, 5, 9, 0, 0, 0) for ssrc in (2,))
    target.handle_rtcp(serialize_compound([ReceiverReport(70, blocks)]), 0.3)
    assert target.sections[0].remote_view is None
    assert target.sections[1].remote_view is not None
    assert target.sections[1].remote_view.fraction_lost == 0.5
    target.close(0.4)
    (last,) = [part for part in parse_compound(target.drain_rtcp()[0]) if isinstance(part, Goodbye)]
    assert last.ssrcs == (1, 2)


def test_a_goodbye_ends_the_source_in_its_section() -> None:
    target = transport(OPUS, PCMU)
    target.handle_rtp(packet(70, 1, 111), 0.0)
    target.handle_rtp(packet(71, 1, 0), 0.0)
    target.handle_rtcp(serialize_compound([ReceiverReport(70), Goodbye((70,))]), 0.1)
    assert target.sections[0].current is None
    assert target.sections[1].current is not None
    assert any(isinstance(event, ByeReceived) for event in target.drain_events())


def test_packets_that_a_goodbye_has_overtaken_belong_to_their_source() -> None:
    target = transport(OPUS, PCMU)
    target.handle_rtp(packet(70, 1, 111), 0.0)
    target.handle_rtcp(serialize_compound([ReceiverReport(70), Goodbye((70,))]), 0.1)
    target.drain_events()
    for sequence in (2, 3, 2):
        target.handle_rtp(packet(70, sequence, 111), 0.12)
    assert [event.sequence for event in target.drain_events() if isinstance(event, PacketReceived)] == [2, 3]
    assert target.counters["rtp.dropped_duplicate"] == 1
    assert target.sections[0].current is None
    target.handle_rtp(packet(70, 4, 111), 0.1 + BYE_GRACE)
    assert [type(event) for event in target.drain_events()] == [SourceChanged, PacketReceived]
    assert target.sections[0].current is not None


@pytest.mark.parametrize(
    "configs",
    [
        [],
        [
            RtpConfig(ssrc=1, cname="a", codecs=(OPUS,), mid="0"),
            RtpConfig(ssrc=1, cname="a", codecs=(OPUS,), mid="1"),
        ],
        [RtpConfig(ssrc=1, cname="a", codecs=(OPUS,)), RtpConfig(ssrc=2, cname="a", codecs=(OPUS,), mid="1")],
        [
            RtpConfig(ssrc=1, cname="a", codecs=(OPUS,), mid="0", extensions=IDS),
            RtpConfig(ssrc=2, cname="a", codecs=(OPUS,), mid="1"),
        ],
    ],
)
def test_sections_that_cannot_be_told_apart_are_refused(configs: list[RtpConfig]) -> None:
    with pytest.raises(LocalError):
        RtpTransport(configs, Random(1).randbytes, 0.0)
