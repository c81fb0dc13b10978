"""The rules of the harness on calls made of bytes: each names its fault, and is silent about a call without it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import pack

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from interop.call_summary import call_as_json
from interop.diagnosis import diagnose
from interop.evidence import ChannelMessage, ChannelOpened, Evidence, Fate, Packet, Refused, Side
from interop.verdict import Finding
from tools.captured_call import read_pcap

NEAR, FAR = ("192.0.2.1", 1000), ("192.0.2.2", 2000)
ANSWER = "\r\n".join(
    [
        "v=0",
        "m=audio 2000 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuv",
        "a=fingerprint:sha-256 00",
        "a=setup:passive",
        "a=rtcp-mux",
        "a=sendrecv",
        "a=candidate:1 1 udp 1 192.0.2.2 2000 typ host",
        "",
    ]
)
OFFER = ANSWER.replace("a=setup:passive", "a=setup:actpass").replace("2000", "1000")


class Script:
    """A call, written packet by packet."""

    def __init__(self) -> None:
        self.evidence = Evidence("them", "us", OFFER, ANSWER)

    def add(self, at: float, side: Side, data: bytes, *, fate: Fate = Fate.PASSED, source: object = None) -> None:
        ends = (NEAR, FAR) if side == "client" else (FAR, NEAR)
        place = source or ends[0]
        number = len(self.evidence.packets) + 1
        self.evidence.packets.append(Packet(number, at, side, place, ends[1], data, fate))  # type: ignore[arg-type]

    def check(self, at: float, number: int, *, answered: bool = True, source: object = None) -> None:
        self.add(at, "client", stun(1, number))
        if answered:
            fate = Fate.PASSED if source is None else Fate.FOREIGN
            self.add(at + 0.01, "server", stun(0x101, number), fate=fate, source=source)

    def sound(self, side: Side, began: float, seconds: float, **changes: object) -> None:
        for number in range(round(50 * seconds)):
            packet = rtp(number, 960 * number, **changes)  # type: ignore[arg-type]
            self.add(began + 0.02 * number, side, packet)

    def sort(self) -> Evidence:
        """Return the evidence with its packets in the order of time."""
        ordered = sorted(self.evidence.packets, key=lambda packet: packet.at)
        self.evidence.packets = [
            Packet(number, p.at, p.side, p.source, p.destination, p.data, p.fate)
            for number, p in enumerate(ordered, 1)
        ]
        return self.evidence


def stun(kind: int, transaction: int) -> bytes:
    return pack("!HHI", kind, 0, 0x2112A442) + transaction.to_bytes(12)


def rtp(
    sequence: int,
    timestamp: int,
    payload_type: int = 111,
    frozen: bool = False,
    padding: bool = False,
    ssrc: int = 1,
    extension: bytes = b"",
) -> bytes:
    first = (0xA0 if padding else 0x80) | (0x10 if extension else 0)
    head = pack("!BBHII", first, payload_type, sequence, 7 if frozen else timestamp, ssrc)
    return head + extension + bytes(40)


def rtcp() -> bytes:
    return pack("!BBHI", 0x80, 200, 6, 1) + bytes(24)


def healthy(seconds: float = 10.0) -> Script:
    script = Script()
    for number, at in enumerate((0.0, 0.05, *(5.0 * n for n in range(1, int(seconds // 5) + 1)))):
        script.check(at, number)
    for side in ("client", "server"):
        script.sound(side, 0.2, seconds - 0.2)
        script.add(1.0, side, rtcp())
    return script


def found(evidence: Evidence) -> list[str]:
    return [finding.rule for finding in diagnose(evidence)]


@pytest.mark.parametrize(("step", "rules"), [("answer made", []), ("answer taken", ["no-checks"])])
def test_only_a_client_that_took_the_answer_has_to_check(step: str, rules: list[str]) -> None:
    evidence = Evidence("them", "us", OFFER, ANSWER)
    evidence.steps[step] = 0.2
    evidence.hung_up_at = 4.0
    assert found(evidence) == rules


def test_a_healthy_call_is_not_blamed() -> None:
    assert found(healthy().sort()) == []


def one_way(script: Script) -> None:
    script.sound("client", 0.2, 3)
    script.add(1.0, "client", rtcp())
    script.check(0.0, 1)


def wrong_number(script: Script) -> None:
    script.sound("client", 0.2, 3)
    script.sound("server", 0.2, 3, payload_type=96)


def frozen(script: Script) -> None:
    script.sound("client", 0.2, 3)
    script.sound("server", 0.2, 3, frozen=True)


def no_reports(script: Script) -> None:
    for side in ("client", "server"):
        script.sound(side, 0.2, 9)
    script.add(1.0, "client", rtcp())


def no_consent(script: Script) -> None:
    for number, at in enumerate((0.0, 5.0, 10.0, 11.0)):
        script.check(at, number, answered=at < 6)
    script.add(15.0, "client", rtcp())


def elsewhere(script: Script) -> None:
    script.check(0.0, 1, source=("192.0.2.2", 2001))


def unanswered(script: Script) -> None:
    for number in range(3):
        script.check(0.5 * number, number, answered=False)
    script.add(4.0, "client", stun(1, 9))


def in_bursts(script: Script) -> None:
    script.sound("client", 0.2, 3)
    for number in range(150):
        script.add(0.2 + 0.2 * (number // 10) + 0.0001 * (number % 10), "server", rtp(number, 960 * number))


def test_bursts_that_the_harness_may_have_made_are_not_reported() -> None:
    """The tap's process stood still before each burst: what waited for it meanwhile looks like one."""
    script = Script()
    in_bursts(script)
    script.evidence.standstills += [(0.2 * number + 0.25, 0.2 * number + 0.39) for number in range(16)]
    assert "bursts" not in [finding.rule for finding in diagnose(script.sort())]


def flight_once(script: Script) -> None:
    hello, answer = b"\x16\xfe\xfd" + bytes(8) + b"\0\x0c\x01" + bytes(11), b"\x16\xfe\xfd" + bytes(8) + b"\0\0"
    script.check(0.0, 1)
    script.add(0.1, "client", hello)
    script.add(0.2, "server", answer, fate=Fate.LOST)
    for at in (1.1, 3.1):
        script.add(at, "client", hello)


def wrong_acknowledgement(script: Script) -> None:
    script.evidence.channel_messages.append(ChannelMessage(0.5, "client", 0, 50, b"\x04"))


def frozen_number(script: Script) -> None:
    script.sound("client", 0.2, 3)
    for number in range(50):
        script.add(0.2 + 0.02 * number, "server", rtp(7, 960 * number))


def another_source(script: Script, **changes: object) -> None:
    script.sound("client", 0.2, 3)
    script.sound("server", 0.2, 1)
    script.sound("server", 1.2, 2, ssrc=2, **changes)


def stops(script: Script) -> None:
    script.sound("client", 0.2, 6)
    script.sound("server", 0.2, 2)
    for at in (1.0, 5.0):
        script.add(at, "server", rtcp())


def not_authentic(script: Script, share: int = 1) -> None:
    for side in ("client", "server"):
        script.sound(side, 0.2, 3)
    theirs = [packet for packet in script.evidence.packets if packet.side == "server"][50::share]
    for number, packet in enumerate(theirs):
        fresh = packet.data[:-2] + pack("!H", number)  # no two SRTP packets are alike
        script.evidence.packets[script.evidence.packets.index(packet)] = replace(packet, data=fresh)
        script.evidence.refused.append(Refused(packet.at, fresh))


def opened_instead(script: Script) -> None:
    script.evidence.channels_opened.append(ChannelOpened(0.4, "client", 2))
    script.evidence.channel_messages.append(ChannelMessage(0.5, "client", 2, 50, b"\x03" + bytes(11)))


FAULTS: list[tuple[Callable[[Script], None], str, Side]] = [
    (one_way, "one-way-audio", "server"),
    (wrong_number, "wrong-payload-type", "server"),
    (frozen, "frozen-timestamp", "server"),
    (no_reports, "no-rtcp", "server"),
    (no_consent, "consent-unanswered", "server"),
    (elsewhere, "response-from-another-address", "server"),
    (unanswered, "checks-unanswered", "server"),
    (in_bursts, "bursts", "server"),
    (flight_once, "flight-not-repeated", "server"),
    (wrong_acknowledgement, "channel-acknowledged-wrongly", "server"),
    (opened_instead, "channel-acknowledged-wrongly", "server"),
    (frozen_number, "frozen-sequence-number", "server"),
    (another_source, "ssrc-changed", "server"),
    (stops, "sound-stopped", "server"),
    (not_authentic, "srtp-not-authentic", "server"),
]


@pytest.mark.parametrize(("write", "rule", "side"), FAULTS, ids=[rule for _, rule, _ in FAULTS])
def test_a_fault_is_named(write: Callable[[Script], None], rule: str, side: Side) -> None:
    script = Script()
    write(script)
    findings = [finding for finding in diagnose(script.sort()) if finding.rule == rule]
    assert len(findings) == 1
    assert findings[0].side == side
    assert findings[0].section.startswith("RFC ")


def test_a_client_that_never_had_the_answer_is_not_blamed_for_checks() -> None:
    """The server's checks come while its answer is on its way, or after the client gave up waiting for it."""
    script = Script()
    for number in range(3):
        script.add(0.5 * number, "server", stun(1, 10 + number))
    script.add(4.0, "server", stun(1, 9))
    script.evidence.steps = {"offer made": 0.0, "answer made": 0.1}
    assert [finding.rule for finding in diagnose(script.sort())] == []
    script.evidence.steps["answer taken"] = 0.2
    assert "checks-unanswered" in [finding.rule for finding in diagnose(script.evidence)]


MID = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
ONE_BYTE_MID = pack("!HH", 0xBEDE, 1) + b"\x40" + b"0" + bytes(2)
TWO_BYTE_MID = pack("!HH", 0x1000, 1) + b"\x04\x01" + b"0" + bytes(1)


@pytest.mark.parametrize("told", ["a=ssrc", "mid", "mid of two bytes", "BYE", "two sections"])
def test_a_source_that_is_announced_may_take_the_place_of_another(told: str) -> None:
    script = Script()
    extension = {"mid": ONE_BYTE_MID, "mid of two bytes": TWO_BYTE_MID}.get(told, b"")
    another_source(script, extension=extension)
    if told == "a=ssrc":
        script.evidence.answer += "a=ssrc:2 cname:x\r\n"
    elif extension:
        script.evidence.answer += MID
    elif told == "BYE":
        script.evidence.goodbyes.add(1)
    else:
        section = ANSWER.partition("m=")[2].replace("a=mid:0", "a=mid:1")
        script.evidence.offer += f"m={section}"
        script.evidence.answer += f"m={section}"
    assert "ssrc-changed" not in found(script.sort())


def test_sources_side_by_side_are_no_change_of_one() -> None:
    script = Script()
    for ssrc in (1, 2):
        script.sound("server", 0.2 * ssrc, 3, ssrc=ssrc)
    assert "ssrc-changed" not in found(script.sort())


def test_a_packet_that_is_sent_again_is_no_frozen_sequence_number() -> None:
    script = healthy()
    for _ in range(30):
        script.add(9.99, "server", rtp(489, 960 * 489))
    assert found(script.sort()) == []


def silent_by_order(script: Script) -> None:
    script.evidence.speaks.discard("server")


def by_dtx(script: Script) -> None:
    script.evidence.offer += "a=fmtp:111 minptime=10;usedtx=1\r\n"


def by_direction(script: Script) -> None:
    script.evidence.answer = ANSWER.replace("a=sendrecv", "a=recvonly")


def with_loss(script: Script) -> None:
    script.add(3.0, "server", rtp(999, 0), fate=Fate.LOST)


def behind_another_address(script: Script) -> None:
    script.evidence.rebound_at = 2.5


def when_all_is_over(script: Script) -> None:
    script.evidence.packets = [p for p in script.evidence.packets if p.side == "client" or p.at < 3]


@pytest.mark.parametrize(
    "excuse", [silent_by_order, by_dtx, by_direction, with_loss, behind_another_address, when_all_is_over]
)
def test_who_may_be_silent_has_not_stopped(excuse: Callable[[Script], None]) -> None:
    script = Script()
    stops(script)
    excuse(script)
    assert "sound-stopped" not in found(script.sort())


def test_what_the_harness_forged_is_no_srtp_of_a_side_that_does_not_authenticate() -> None:
    script = healthy()
    for number in range(50):
        data = rtp(number, 77)
        script.add(1.5, "server", data, fate=Fate.FORGED)
        script.evidence.refused.append(Refused(1.5, data))
    assert found(script.sort()) == []


def test_a_few_packets_that_do_not_authenticate_are_no_finding() -> None:
    script = Script()
    not_authentic(script, share=8)
    assert len(script.evidence.refused) >= 10
    assert "srtp-not-authentic" not in found(script.sort())


def test_a_channel_of_its_own_is_no_acknowledgement() -> None:
    script = healthy()
    script.evidence.channels_opened.append(ChannelOpened(0.4, "client", 2))
    for stream, data in ((2, b"\x02"), (3, b"\x03" + bytes(11)), (2, b"\x03" + bytes(11))):
        script.evidence.channel_messages.append(ChannelMessage(0.5, "client", stream, 50, data))
    assert found(script.sort()) == []


def test_padding_that_probes_the_network_is_no_frozen_timestamp() -> None:
    script = healthy()
    for number in range(30):
        script.add(0.3, "server", rtp(1000 + number, 0, padding=True))
    assert found(script.sort()) == []


def test_what_the_harness_forged_is_held_against_neither_side() -> None:
    script = healthy()
    for number in range(30):
        script.add(1.5, "server", rtp(1000 + number, 0, payload_type=99, frozen=True), fate=Fate.FORGED)
        script.add(1.5, "client", stun(1, 900 + number), fate=Fate.FORGED)
        script.add(1.6, "server", stun(0x111, 900 + number))
    assert found(script.sort()) == []


def test_a_lossy_network_excuses_what_is_missing() -> None:
    script = Script()
    one_way(script)
    script.add(0.5, "server", rtp(1, 960), fate=Fate.LOST)
    script.evidence.packets.pop()
    script.add(0.4, "server", b"\x7f", fate=Fate.LOST)
    assert "one-way-audio" not in found(script.sort())


@pytest.mark.parametrize(
    ("former", "latter", "rule"),
    [
        ("a=setup:passive", "a=setup:actpass", "answer-setup"),
        ("a=ice-pwd:abcdefghijklmnopqrstuv", "a=ice-pwd:short", "answer-ice"),
        ("a=fingerprint:sha-256 00\r\n", "", "answer-fingerprint"),
        ("sha-256 00", "sha-256 ZZ", "answer-fingerprint"),
        ("sha-256 00", "sha-256", "answer-fingerprint"),
        ("m=audio 2000 UDP/TLS/RTP/SAVPF 111", "m=audio", "answer-media-line"),
        ("m=audio 2000 UDP/TLS/RTP/SAVPF 111", "m=", "answer-media-line"),
        ("m=audio 2000", "m=audio many", "answer-media-line"),
        ("192.0.2.2 2000 typ", "192.0.2.2 99999 typ", "answer-candidate"),
        ("192.0.2.2 2000 typ host", "192.0.2.2", "answer-candidate"),
        ("a=rtcp-mux\r\n", "", "answer-rtcp-mux"),
        ("a=mid:0", "a=mid:1", "answer-mid"),
        ("SAVPF 111", "SAVPF 96", "answer-formats"),
        ("m=audio", "m=video", "answer-kind"),
        ("a=candidate:1 1 udp 1 192.0.2.2 2000 typ host\r\n", "", "answer-without-candidates"),
        ("a=sendrecv", "a=sendrecv\r\nm=video 0 UDP/TLS/RTP/SAVPF 0", "answer-sections"),
    ],
)
def test_an_answer_is_held_against_its_offer(former: str, latter: str, rule: str) -> None:
    evidence = Evidence("them", "us", OFFER, ANSWER.replace(former, latter))
    findings: Iterable[Finding] = diagnose(evidence)
    assert [(finding.rule, finding.side) for finding in findings] == [(rule, "server")]
    assert call_as_json(evidence)["answer"] == evidence.answer


def test_an_answer_may_not_send_to_one_that_only_sends() -> None:
    offer = OFFER.replace("a=sendrecv", "a=sendonly")
    assert found(Evidence("them", "us", offer, ANSWER)) == ["answer-direction"]
    assert found(Evidence("them", "us", offer, ANSWER.replace("a=sendrecv", "a=recvonly"))) == []


def certificate_on(curve: ec.EllipticCurve) -> bytes:
    """A certificate that signs itself, as a stack makes one."""
    key = ec.generate_private_key(curve)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a stack")])
    began = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, began, began + timedelta(days=30))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("curve", "is_secured", "rules"),
    [
        (ec.SECP224R1(), False, ["certificate-curve", "handshake-refused"]),
        (ec.SECP224R1(), True, []),
        (ec.SECP256R1(), False, ["handshake-refused"]),
    ],
)
def test_a_certificate_on_a_curve_that_is_refused_is_named(
    curve: ec.EllipticCurve, is_secured: bool, rules: list[str]
) -> None:
    certificate = certificate_on(curve)
    script = Script()
    digest = hashlib.sha256(certificate).hexdigest().upper()
    fingerprint = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    script.evidence.offer = OFFER.replace("sha-256 00", f"sha-256 {fingerprint}")
    script.check(0.0, 1)
    body = (len(certificate) + 3).to_bytes(3) + len(certificate).to_bytes(3) + certificate
    message = bytes((11,)) + len(body).to_bytes(3) + pack("!H", 3) + bytes(3) + len(body).to_bytes(3) + body
    script.add(0.1, "client", bytes((22,)) + b"\xfe\xfd" + bytes(8) + pack("!H", len(message)) + message)
    if is_secured:
        for side in ("client", "server"):
            script.add(0.2, side, rtcp())
    else:
        script.add(0.2, "server", bytes((21,)) + b"\xfe\xfd" + bytes(8) + b"\0\x02\x02\x2b")
    findings = diagnose(script.sort())
    assert [finding.rule for finding in findings] == rules
    if "certificate-curve" in rules:
        assert findings[0].side == "client"
        assert "RFC 8827 §6.5" in findings[0].section
        assert "secp224r1" in findings[0].seen
        assert findings[0].packet is not None
        assert findings[0].packet.data[0] == 22


def test_the_recorded_call_of_the_documentation_is_not_blamed() -> None:
    """A real call, with the descriptions that lie beside its capture."""
    folder = Path("docs/learn/call")
    evidence = Evidence("them", "us", (folder / "offer.sdp").read_text(), (folder / "answer.sdp").read_text())
    datagrams = list(read_pcap((folder / "call.pcap").read_bytes()))
    began, client, _ = datagrams[0]
    for number, (at, port, data) in enumerate(datagrams, 1):
        side: Side = "client" if port == client else "server"
        source, destination = (NEAR, FAR) if side == "client" else (FAR, NEAR)
        evidence.packets.append(Packet(number, at - began, side, source, destination, data))
    assert sum(packet.rtp is not None for packet in evidence.packets) > 10
    assert found(evidence) == []
