"""RTP and RTCP (RFC 3550, 3264, 8834), whose headers SRTP leaves in the clear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from interop.diagnosis.description import audio_payload_types, sections
from interop.diagnosis.dtls import secured
from interop.diagnosis.rules import loses, rule
from interop.evidence import SIDES, Evidence, Fate, Packet, Side, other
from interop.verdict import Finding, Layer
from interop.wire_reading import Kind, header_extensions

ONE_WAY_PATIENCE = 1.5
"""Seconds of sound from one side in which the other has sent none."""
REPORT_PATIENCE = 7.5
"""Seconds of sound in which a report has to be sent: the longest interval of RFC 3550 §6.3.1, 5 s times 1.5."""
STOP_PATIENCE = 2.0
"""Seconds without sound after which one who is to speak has stopped; a busy machine stalls for less."""
SPOKE_PACKETS = 10
"""Packets after which a source has begun to speak, and is no stray."""
REFUSED_PACKETS = 10
"""Packets that are not authentic after which it is the keys, and no accident."""
FROZEN_PACKETS = 10
BURST_PACKETS = 5
BURST_SECONDS = 0.005
GAP_SECONDS = 0.12


def sound(evidence: Evidence, side: Side) -> list[Packet]:
    """The RTP packets of a side."""
    return [packet for packet in evidence.sent(side, Kind.RTP) if packet.rtp is not None]


def streams(evidence: Evidence, side: Side) -> dict[int, list[Packet]]:
    """The RTP packets of a side by SSRC."""
    found: dict[int, list[Packet]] = defaultdict(list)
    for packet in sound(evidence, side):
        found[packet.rtp.ssrc].append(packet)  # type: ignore[union-attr]
    return found


def may_send(evidence: Evidence, side: Side) -> bool:
    """Whether the answer lets a side send sound."""
    directions = [s.direction for s in sections(evidence.answer) if s.kind == "audio" and not s.is_declined]
    wanted = ("sendrecv", "sendonly") if side == "server" else ("sendrecv", "recvonly")
    return any(direction in wanted for direction in directions)


@rule
def one_way_audio(evidence: Evidence) -> Iterator[Finding]:
    """Both sides of a sendrecv section send."""
    if loses(evidence):
        return
    for side in SIDES:
        theirs = sound(evidence, other(side))
        if not theirs or theirs[-1].at - theirs[0].at < ONE_WAY_PATIENCE or sound(evidence, side):
            continue
        if not may_send(evidence, side):
            continue
        yield Finding(
            "one-way-audio",
            Layer.MEDIA,
            side,
            f"sound from the {side}, whose section is one that sends, and which is to speak here",
            "RFC 3264 §6.1",
            f"one-way audio: {len(theirs)} RTP packets from the {other(side)} in "
            f"{theirs[-1].at - theirs[0].at:.1f} s, and not one from the {side}",
            theirs[-1],
        )


@rule
def wrong_payload_type(evidence: Evidence) -> Iterator[Finding]:
    """What is sent has a number that the receiver announced."""
    video = any(section.kind == "video" and not section.is_declined for section in sections(evidence.answer))
    if video or not evidence.answer:
        return
    for side in SIDES:
        # Who sends uses the numbers of the description of the receiver (RFC 3264 §5.1); an answer may narrow them.
        agreed = audio_payload_types(evidence.answer if side == "client" else evidence.offer)
        wrong = [
            packet for packet in sound(evidence, side) if packet.rtp and packet.rtp.payload_type not in agreed
        ]
        if wrong:
            numbers = sorted({packet.rtp.payload_type for packet in wrong if packet.rtp})
            yield Finding(
                "wrong-payload-type",
                Layer.MEDIA,
                side,
                f"RTP with a payload type that was agreed on ({', '.join(map(str, sorted(agreed)))})",
                "RFC 3264 §6.1, RFC 3550 §5.1",
                f"payload type {', '.join(map(str, numbers))} in {len(wrong)} packets",
                wrong[0],
            )


@rule
def frozen_timestamp(evidence: Evidence) -> Iterator[Finding]:
    """The timestamp grows with the time of sampling; only telephone events keep theirs (RFC 4733 §2.2.1)."""
    for side in SIDES:
        for packets in streams(evidence, side).values():
            run = 0
            real = [packet for packet in packets if packet.rtp is not None and not packet.rtp.padding]
            for former, packet in pairwise(real):
                assert former.rtp is not None
                assert packet.rtp is not None
                same = former.rtp.timestamp == packet.rtp.timestamp
                moved = former.rtp.sequence != packet.rtp.sequence
                run = run + 1 if same and moved else 0
                if run >= FROZEN_PACKETS and packet.rtp.payload_type not in _events(evidence):
                    yield Finding(
                        "frozen-timestamp",
                        Layer.MEDIA,
                        side,
                        "the RTP timestamp to grow by the samples of each packet",
                        "RFC 3550 §5.1",
                        f"a frozen timestamp: {packet.rtp.timestamp} in {run + 1} packets in a row while the "
                        "sequence number went on",
                        packet,
                    )
                    break


def _events(evidence: Evidence) -> set[int]:
    lines = (evidence.offer + "\n" + evidence.answer).splitlines()
    return {
        int(line[9:].split()[0]) for line in lines if line.startswith("a=rtpmap:") and "telephone-event" in line
    }


@rule
def frozen_sequence_number(evidence: Evidence) -> Iterator[Finding]:
    """The sequence number grows by one with each packet; SRTP makes of it the packet's index and its nonce."""
    for side in SIDES:
        for packets in streams(evidence, side).values():
            run = 0
            for former, packet in pairwise(packets):
                assert former.rtp is not None
                assert packet.rtp is not None
                same = former.rtp.sequence == packet.rtp.sequence
                run = run + 1 if same and former.rtp.timestamp != packet.rtp.timestamp else 0
                if run >= FROZEN_PACKETS:
                    yield Finding(
                        "frozen-sequence-number",
                        Layer.MEDIA,
                        side,
                        "the RTP sequence number to grow by one with each packet",
                        "RFC 3550 §5.1, RFC 3711 §3.3.1",
                        f"a frozen sequence number: {packet.rtp.sequence} in {run + 1} packets in a row while the "
                        "timestamp went on; SRTP takes all but the first for replayed",
                        packet,
                    )
                    break


@rule
def source_that_changes(evidence: Evidence) -> Iterator[Finding]:
    """A stream keeps its SSRC; one that takes its place says so: by SDP, by its mid, by BYE of the former one."""
    if sum(section.kind == "audio" and not section.is_declined for section in sections(evidence.answer)) > 1:
        return  # two streams, of which one may begin when the other ends
    for side in SIDES:
        own = evidence.offer if side == "client" else evidence.answer
        spoken = [packets for packets in streams(evidence, side).values() if len(packets) >= SPOKE_PACKETS]
        for former, packets in pairwise(sorted(spoken, key=lambda each: each[0].number)):
            first, last = packets[0], former[-1]
            assert first.rtp is not None
            assert last.rtp is not None
            before, now = last.rtp.ssrc, first.rtp.ssrc
            if first.number < last.number or first.rtp.payload_type not in _sound_numbers(evidence):
                continue
            if f"a=ssrc:{now} " in own or before in evidence.goodbyes or _bears_mid(evidence, packets):
                continue
            yield Finding(
                "ssrc-changed",
                Layer.MEDIA,
                side,
                "the SSRC of a stream to stay what it is, or a new one to be told by a=ssrc, by the mid in its "
                "packets or by BYE of the former one",
                "RFC 3550 §8.2, RFC 8843 §9.2",
                f"an SSRC that changed in mid-stream: 0x{before:08x} until packet #{last.number}, after "
                f"{len(former)} packets, and 0x{now:08x} from then on, of which nothing was said",
                first,
            )


def _sound_numbers(evidence: Evidence) -> set[int]:
    return audio_payload_types(evidence.offer) | audio_payload_types(evidence.answer)


def _bears_mid(evidence: Evidence, packets: Sequence[Packet]) -> bool:
    """Whether a packet at the head of a stream has the extension that names its section (RFC 8843 §9.2, §15)."""
    ids = {
        int(line[9:].split()[0].split("/")[0])
        for line in evidence.answer.splitlines()
        if line.startswith("a=extmap:") and line.endswith(" urn:ietf:params:rtp-hdrext:sdes:mid")
    }
    return any(ids & header_extensions(packet.data).keys() for packet in packets[:SPOKE_PACKETS])


@rule
def sound_that_stops(evidence: Evidence) -> Iterator[Finding]:
    """Who has something to say sends it for as long as the call lasts."""
    if loses(evidence) or evidence.rebound_at is not None:
        return
    numbers = _sound_numbers(evidence)
    for side in sorted(evidence.speaks):
        packets = [packet for packet in sound(evidence, side) if packet.rtp and packet.rtp.payload_type in numbers]
        if len(packets) < SPOKE_PACKETS or not may_send(evidence, side) or _asks_for_dtx(evidence, side):
            continue
        last = packets[-1]
        # Seen alive when its sound was due: it is neither gone nor stalled.
        alive = [
            packet for packet in evidence.sent(side) if packet.at > last.at + STOP_PATIENCE / 2 and not packet.rtp
        ]
        if evidence.ended_at - last.at < STOP_PATIENCE or not alive:
            continue
        kinds = " and ".join(sorted({packet.kind.value for packet in alive}))
        yield Finding(
            "sound-stopped",
            Layer.MEDIA,
            side,
            f"sound from the {side} for as long as the call lasts: who pauses says so by the direction",
            "RFC 3264 §8.4",
            f"RTP that stops in mid-call: {len(packets)} packets until {last.at:.1f} s, and none in the "
            f"{evidence.ended_at - last.at:.1f} s after it, while its {kinds} went on",
            last,
        )


def _asks_for_dtx(evidence: Evidence, side: Side) -> bool:
    """Whether the other side lets this one leave out silence (RFC 7587 §3.1.3)."""
    return "usedtx=1" in (evidence.answer if side == "client" else evidence.offer)


@rule
def srtp_that_is_not_authentic(evidence: Evidence) -> Iterator[Finding]:
    """What is sent under the keys of the handshake authenticates, as an end of ours finds."""
    at_hand = {packet.data: packet for side in SIDES for packet in evidence.sent(side)}
    refused = [at_hand[each.data] for each in evidence.refused if each.data in at_hand]
    for side in SIDES:
        wrong = [packet for packet in refused if packet.side == side and packet.kind is Kind.RTP]
        if len(wrong) < REFUSED_PACKETS:
            continue
        first = wrong[0]
        before = sum(packet.number < first.number for packet in sound(evidence, side))
        after = sum(packet.number >= first.number for packet in sound(evidence, side))
        if 2 * len(wrong) < after:
            continue
        since = (
            f"after {before} that did: a rollover counter or keys that changed" if before else "from the first on"
        )
        yield Finding(
            "srtp-not-authentic",
            Layer.MEDIA,
            side,
            "SRTP packets whose authentication tag fits the keys and the profile of the handshake",
            "RFC 3711 §3.3, RFC 5764 §4.2",
            f"SRTP that does not authenticate: {len(wrong)} of {after} RTP packets from the {side} were refused "
            f"by the {other(side)}, {since}",
            first,
        )


@rule
def no_reports(evidence: Evidence) -> Iterator[Finding]:
    """Who takes part in a session sends RTCP."""
    for side in SIDES:
        packets = sound(evidence, side)
        if not packets or not secured(evidence) or evidence.ended_at - packets[0].at < REPORT_PATIENCE:
            continue
        if not any(evidence.sent(side, Kind.RTCP)):
            yield Finding(
                "no-rtcp",
                Layer.MEDIA,
                side,
                "RTCP reports, the first one within 7.5 s of the first RTP packet",
                "RFC 3550 §6.2, RFC 8834 §4.1",
                f"no RTCP packet from the {side} in {evidence.ended_at - packets[0].at:.1f} s and "
                f"{len(packets)} RTP packets",
                packets[-1],
            )


@rule
def bursts(evidence: Evidence) -> Iterator[Finding]:
    """Packets leave at the pace of their timestamps."""
    if loses(evidence):
        return
    for side in SIDES:
        packets = [p for p in sound(evidence, side) if p.fate is Fate.PASSED and p.rtp and not p.rtp.padding]
        if len(packets) < 40:
            continue
        groups, size, since, judged = [], 1, packets[0].at, 0
        for before, after in pairwise(packets):
            if after.at - before.at < BURST_SECONDS:
                size += 1
                continue
            if not evidence.stood_still(since, after.at):
                groups.append((size, after.at - before.at, after))
                judged += size
            size, since = 1, before.at
        big = [(size, gap, packet) for size, gap, packet in groups if size >= BURST_PACKETS and gap > GAP_SECONDS]
        # A machine that stalls makes one burst; a sender that sends in bursts sends nearly everything so.
        if sum(size for size, _, _ in big) > 0.6 * judged and len(big) >= 4:
            typical = sorted(gap for _, gap, _ in big)[len(big) // 2]
            many = sorted(size for size, _, _ in big)[len(big) // 2]
            yield Finding(
                "bursts",
                Layer.MEDIA,
                side,
                "a packet for each ptime, at the pace of the timestamps",
                "RFC 8866 §6.4 (ptime), RFC 3551 §4.2",
                f"bursts of {many} packets within {1000 * BURST_SECONDS:.0f} ms, {1000 * typical:.0f} ms apart",
                big[0][2],
            )
