"""The media plane by itself: keys in, frames at their instants, what has not left taken back."""

from __future__ import annotations

import pickle
from collections.abc import Generator
from random import Random
from typing import Any

import pytest

from stack.core.machine import Address, Path
from stack.core.serial import Ssrc
from stack.core.srtp_profile import SrtpProfile
from stack.rtp import PacketReceived, ReportReceived, RtpCodec, RtpConfig, RtpPacket
from stack.session import FrameSent, MediaKeys, MediaPlane, PythonMediaPlane, ScheduledFrame, Session
from stack.session.media_plane import MAX_SCHEDULED
from stack.srtp import MasterKey, SrtpEngine
from tests.sim.calls import agree
from tests.sim.clock import START
from tests.sim.pair import MachinePair, unordered

PATH = Path(Address("192.0.2.1", 1), Address("192.0.2.2", 2))
OTHER = Path(Address("192.0.2.1", 1), Address("192.0.2.3", 3))
OURS, THEIRS = MasterKey(b"o" * 16, b"o" * 12), MasterKey(b"t" * 16, b"t" * 12)
PROFILE = SrtpProfile.AEAD_AES_128_GCM
T = 960


def plane(*mids: str) -> PythonMediaPlane:
    configs = [
        RtpConfig(ssrc=index + 1, cname="a", codecs=(RtpCodec(111, "opus", 48_000),), mid=mid)
        for index, mid in enumerate(mids or ("0",))
    ]
    return PythonMediaPlane(configs, Random(1).randbytes, 0.0)


@pytest.fixture
def ready() -> PythonMediaPlane:
    """A plane that has its keys and a path."""
    made = plane()
    made.install(MediaKeys(PROFILE, OURS, THEIRS), PATH)
    return made


@pytest.fixture
def peer() -> SrtpEngine:
    return SrtpEngine(PROFILE, THEIRS, OURS)


def frame(number: int, due: float, **other: object) -> ScheduledFrame:
    return ScheduledFrame(number, b"sound%d" % number, T, number * T, due, **other)  # type: ignore[arg-type]


def sent(ready: PythonMediaPlane, peer: SrtpEngine) -> list[RtpPacket]:
    packets = []
    for data, path in ready.drain_transmits():
        assert path in (PATH, OTHER)
        if not 192 <= data[1] <= 223:
            packets.append(RtpPacket.parse(peer.unprotect(data)))
    return packets


def test_a_frame_leaves_at_its_instant_and_says_so(ready: PythonMediaPlane, peer: SrtpEngine) -> None:
    assert ready.schedule(frame(0, 1.0), 1.0)
    assert not ready.schedule(frame(1, 1.02), 1.0)
    assert [packet.payload for packet in sent(ready, peer)] == [b"sound0"]
    (first,) = ready.drain_events()
    assert isinstance(first, FrameSent)
    assert (first.number, first.at) == (0, 1.0)
    assert ready.poll_timeout() is not None
    assert ready.poll_timeout() <= 1.02
    ready.handle_timeout(1.01)
    assert sent(ready, peer) == []
    ready.handle_timeout(1.02)
    (packet,) = sent(ready, peer)
    (second,) = ready.drain_events()
    assert isinstance(second, FrameSent)
    assert (second.number, second.sequence) == (1, first.sequence + 1)
    assert second.rtp_timestamp == packet.timestamp
    assert (packet.timestamp - (first.rtp_timestamp or 0)) % 2**32 == T


def test_what_has_not_left_is_taken_back_in_order(ready: PythonMediaPlane, peer: SrtpEngine) -> None:
    for number in range(4):
        ready.schedule(frame(number, 1.0 + number * 0.02), 1.0)
    ready.handle_timeout(1.021)
    assert [back.number for back in ready.flush()] == [2, 3]
    ready.handle_timeout(2.0)
    assert [packet.payload for packet in sent(ready, peer)] == [b"sound0", b"sound1"]
    assert not ready.flush()


def test_a_jump_of_the_timeline_is_silence(ready: PythonMediaPlane, peer: SrtpEngine) -> None:
    ready.schedule(frame(0, 1.0), 1.0)
    ready.schedule(ScheduledFrame(1, b"after", T, 11 * T, 1.2), 1.2)
    first, second = sent(ready, peer)
    assert (second.timestamp - first.timestamp) % 2**32 == 11 * T
    assert second.sequence_number - first.sequence_number == 1
    assert second.marker


def test_silence_that_is_not_sent_passes_its_time(ready: PythonMediaPlane, peer: SrtpEngine) -> None:
    ready.schedule(frame(0, 1.0), 1.0)
    ready.schedule(ScheduledFrame(1, b"", T, T, 1.02), 1.02)
    ready.schedule(frame(2, 1.04), 1.04)
    assert len(sent(ready, peer)) == 2
    events = [event for event in ready.drain_events() if isinstance(event, FrameSent)]
    assert [(event.number, event.rtp_timestamp is None) for event in events] == [(0, False), (1, True), (2, False)]
    assert events[1].sequence == events[0].sequence


def test_on_hold_nothing_is_sent_and_time_passes(ready: PythonMediaPlane, peer: SrtpEngine) -> None:
    ready.schedule(frame(0, 1.0), 1.0)
    ready.hold(True)
    ready.schedule(frame(1, 1.02), 1.02)
    ready.hold(False)
    ready.schedule(frame(2, 1.04), 1.04)
    first, third = sent(ready, peer)
    assert (first.payload, third.payload) == (b"sound0", b"sound2")
    assert (third.timestamp - first.timestamp) % 2**32 == 2 * T


def test_a_frame_that_pressed_keys_mute_names_no_packet() -> None:
    events = (RtpCodec(110, "telephone-event", 48_000),)
    config = RtpConfig(ssrc=1, cname="a", codecs=(RtpCodec(111, "opus", 48_000),), telephone_events=events)
    muted = PythonMediaPlane([config], Random(1).randbytes, 0.0)
    muted.schedule(frame(0, 1.0), 1.0)
    muted.send_dtmf("1", 1.01)
    muted.schedule(frame(1, 1.02), 1.02)
    before, during = muted.drain_events()
    assert isinstance(before, FrameSent)
    assert isinstance(during, FrameSent)
    assert before.rtp_timestamp is not None
    assert (during.number, during.rtp_timestamp) == (1, None)
    assert (before.muted, during.muted) == (False, True)


def test_another_path_is_used_at_once(ready: PythonMediaPlane) -> None:
    ready.move(OTHER)
    ready.schedule(frame(0, 1.0), 1.0)
    assert [transmit.path for transmit in ready.drain_transmits()] == [OTHER]


def test_what_arrives_is_counted_as_authentic_or_dropped(ready: PythonMediaPlane, peer: SrtpEngine) -> None:
    packet = RtpPacket(111, 7, 0, 99, b"sound").serialize()  # type: ignore[arg-type]
    wire = peer.protect(packet)
    forged = wire[:-1] + bytes((wire[-1] ^ 1,))
    assert ready.handle_datagrams([forged, wire, wire, b"\x80", b""], 1.0) == 1
    heard = [event for event in ready.drain_events() if isinstance(event, PacketReceived)]
    assert [event.payload for event in heard] == [b"sound"]
    assert ready.counters["media.dropped_srtp_authentication"] == 1
    assert ready.counters["media.dropped_srtp_replay"] == 1


def test_without_keys_nothing_is_taken_and_nothing_leaves() -> None:
    made = plane()
    assert made.handle_datagrams([b"\x80\x6f" + bytes(20)], 1.0) == 0
    assert made.counters["media.dropped_media_before_keys"] == 1
    made.schedule(frame(0, 1.0), 1.0)
    assert made.drain_transmits() == ()


def test_what_waits_is_bounded(ready: PythonMediaPlane) -> None:
    for number in range(MAX_SCHEDULED + 5):
        ready.schedule(frame(number, 10.0 + number), 1.0)
    assert ready.counters["media.dropped_scheduled_frame"] == 5
    assert [back.number for back in ready.flush()][:2] == [5, 6]


def test_two_sections_have_timelines_of_their_own() -> None:
    made = plane("a", "b")
    made.install(MediaKeys(PROFILE, OURS, THEIRS), PATH)
    for number in range(2):
        for section in (0, 1):
            made.schedule(frame(number, 1.0 + number * 0.02, section=section), 1.0)
    assert [back.section for back in made.flush(1)] == [1]
    made.handle_timeout(1.02)
    events = [event for event in made.drain_events() if isinstance(event, FrameSent)]
    assert [(event.number, event.section) for event in events] == [(0, 0), (0, 1), (1, 0)]


def test_each_section_keeps_its_own_time(peer: SrtpEngine) -> None:
    both = plane("a", "b")
    both.install(MediaKeys(PROFILE, OURS, THEIRS), PATH)
    both.schedule(frame(0, 1.02), 1.0)
    both.schedule(frame(0, 1.005, section=1), 1.0)
    assert both.poll_timeout() == 1.005
    both.handle_timeout(1.005)
    assert [packet.ssrc for packet in sent(both, peer)] == [2]
    assert both.schedule(frame(1, 1.01, section=1), 1.01)
    assert [packet.ssrc for packet in sent(both, peer)] == [2]
    both.handle_timeout(1.02)
    assert [packet.ssrc for packet in sent(both, peer)] == [1]


def test_a_session_takes_another_plane() -> None:
    installed: list[Path] = []

    class Watched(PythonMediaPlane):
        def install(self, keys: MediaKeys, path: Path) -> None:
            installed.append(path)
            super().install(keys, path)

    sides = agree(1)
    ends = [
        Session(sides.client, sides.client_certificate, Random(1).randbytes, START, make_plane=Watched),
        Session(sides.server, sides.server_certificate, Random(2).randbytes, START, make_plane=Watched),
    ]
    pair = MachinePair(*ends, unordered(), seed=1)
    assert pair.run(10, lambda: all(session.is_connected for session in ends))
    assert len(installed) == 2


class Elsewhere:
    """A plane that is reached by its contract only, with all that goes there and comes back as bytes."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._plane = PythonMediaPlane(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        assert name in vars(MediaPlane), f"{name} is no part of the contract"
        if name == "round_trip_time":
            return self._plane.round_trip_time

        def call(*arguments: Any) -> Any:
            arrived = pickle.loads(pickle.dumps([list(a) if isinstance(a, Generator) else a for a in arguments]))
            return pickle.loads(pickle.dumps(getattr(self._plane, name)(*arrived)))

        return call


def test_a_session_needs_of_a_plane_only_values() -> None:
    sides = agree(1)
    ends = [
        Session(sides.client, sides.client_certificate, Random(1).randbytes, START, make_plane=Elsewhere),
        Session(sides.server, sides.server_certificate, Random(2).randbytes, START, make_plane=Elsewhere),
    ]
    pair = MachinePair(*ends, unordered(), seed=1)
    assert pair.run(10, lambda: all(session.is_connected for session in ends))
    for host in (pair.left, pair.right):
        host.command(lambda session, now: session.schedule(frame(0, now), now))
        host.command(lambda session, now: session.schedule(frame(1, now + 0.02), now))
    pair.run(0.1)
    for host in (pair.left, pair.right):
        host.command(lambda session, now: session.send_dtmf("1", now))
    pair.run(8)
    for host in (pair.left, pair.right):
        assert [event.payload for event in host.seen(PacketReceived)][:2] == [b"sound0", b"sound1"]
        assert host.seen(ReportReceived)
        (rtp,) = host.machine.statistics(pair.now).rtp
        assert rtp.outbound.kind == "audio"
        assert rtp.remote_inbound is not None
        assert host.machine.round_trip_time is not None
        assert host.machine.all_counters()["rtp.dropped_malformed_rtp"] == 0


def test_a_section_is_held_and_pressed_by_itself(peer: SrtpEngine) -> None:
    configs = [
        RtpConfig(
            ssrc=Ssrc(index + 1),
            cname="a",
            codecs=(RtpCodec(111, "opus", 48_000),),
            kind=kind,
            telephone_events=(RtpCodec(110, "telephone-event", 48_000),),
            mid=kind,
        )
        for index, kind in enumerate(("audio", "video"))
    ]
    both = PythonMediaPlane(configs, Random(1).randbytes, 0.0)
    both.install(MediaKeys(PROFILE, OURS, THEIRS), PATH)
    both.hold(True, 1)
    for section in (0, 1):
        both.schedule(frame(0, 1.0, section=section), 1.0)
    assert [packet.ssrc for packet in sent(both, peer)] == [1]
    both.send_dtmf("1", 1.02, 1)
    assert [(packet.ssrc, packet.payload_type) for packet in sent(both, peer)] == [(2, 110)]
    assert [each.outbound.kind for each in both.stats(2.0)] == ["audio", "video"]
