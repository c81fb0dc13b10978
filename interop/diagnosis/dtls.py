"""The handshake (RFC 6347, 9147, 5763, 8122), as far as it is in the clear."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from interop.diagnosis.description import sections
from interop.diagnosis.ice import succeeded
from interop.diagnosis.rules import rule
from interop.evidence import SIDES, Evidence, Fate, Packet, Side, other
from interop.verdict import Finding, Layer
from interop.wire_reading import Kind, clear_alert, handshake_fragments

FLIGHT_PATIENCE = 2.5
"""Seconds: an initial timeout of one second, and its double (RFC 6347 §4.2.4.1, RFC 9147 §5.8.2)."""
_CERTIFICATE = 11


def dtls_client(evidence: Evidence) -> Side | None:
    """Who begins the handshake, by the answer's setup attribute (RFC 5763 §5)."""
    found = [section.value("setup") for section in sections(evidence.answer) if not section.is_declined]
    return {"active": "server", "passive": "client"}.get(found[0] or "") if found else None  # type: ignore[return-value]


def handshake_datagrams(evidence: Evidence, side: Side) -> list[Packet]:
    """What a side sent of its handshake, lost or not."""
    return [
        packet
        for packet in evidence.sent(side, Kind.DTLS)
        if packet.fate in (Fate.PASSED, Fate.LOST) and any(record.is_handshake for record in packet.records)
    ]


def secured(evidence: Evidence) -> bool:
    """Whether media or data went both ways under the keys."""
    return all(
        any(packet.kind in (Kind.RTP, Kind.RTCP) for packet in evidence.sent(side))
        or any(record.content == 23 or record.epoch == 3 for p in evidence.sent(side) for record in p.records)
        for side in SIDES
    )


@rule
def no_client_hello(evidence: Evidence) -> Iterator[Finding]:
    """Who is active begins when the path is up."""
    began, side = succeeded(evidence), dtls_client(evidence)
    if began is None or side is None or evidence.ended_at - began.at < FLIGHT_PATIENCE:
        return
    if not any(evidence.sent(side, Kind.DTLS)) and not secured(evidence):
        yield Finding(
            "no-client-hello",
            Layer.DTLS,
            side,
            f"a ClientHello of the {side}, which is the active one, once a check has succeeded",
            "RFC 5763 §5",
            f"none in {evidence.ended_at - began.at:.1f} s",
            began,
        )


@rule
def flight_not_repeated(evidence: Evidence) -> Iterator[Finding]:
    """A flight that is lost is sent again."""
    client = dtls_client(evidence)
    if client is None or secured(evidence):
        return
    for side in (other(client), client):
        sent = handshake_datagrams(evidence, side)
        lost = [packet for packet in sent if packet.fate is Fate.LOST]
        if not lost or evidence.ended_at - lost[-1].at < FLIGHT_PATIENCE:
            continue
        after = [packet for packet in sent if packet.number > lost[-1].number]
        if after:
            continue
        repeated = [p for p in handshake_datagrams(evidence, other(side)) if p.at > lost[-1].at + 0.03]
        asked = f" though the {other(side)} repeated its own {len(repeated)} times" if repeated else ""
        yield Finding(
            "flight-not-repeated",
            Layer.DTLS,
            side,
            f"the {side} to send its handshake flight again when its datagrams were lost",
            "RFC 6347 §4.2.4, RFC 9147 §5.8",
            f"a lost flight ({len(lost)} datagrams) that was never repeated in "
            f"{evidence.ended_at - lost[-1].at:.1f} s{asked}",
            lost[0],
        )


@rule
def hello_without_an_answer(evidence: Evidence) -> Iterator[Finding]:
    """A ClientHello that arrives is answered."""
    client = dtls_client(evidence)
    if client is None:
        return
    hellos = [packet for packet in handshake_datagrams(evidence, client) if packet.fate is Fate.PASSED]
    answered = any(evidence.sent(other(client), Kind.DTLS)) or secured(evidence)
    if hellos and not answered and evidence.ended_at - hellos[0].at > FLIGHT_PATIENCE:
        yield Finding(
            "hello-unanswered",
            Layer.DTLS,
            other(client),
            "an answer to the ClientHello",
            "RFC 6347 §4.2",
            f"none to {len(hellos)} datagrams in {evidence.ended_at - hellos[0].at:.1f} s",
            hellos[0],
        )


def shown_certificate(evidence: Evidence, side: Side) -> tuple[Packet, bytes] | None:
    """The certificate that a side showed in the clear (DTLS 1.2), and the packet in which it began."""
    pieces: dict[int, bytes] = {}
    length, first = -1, None
    for packet in evidence.sent(side, Kind.DTLS):
        for record in packet.records:
            for piece in handshake_fragments(record):
                if piece.msg_type == _CERTIFICATE:
                    first = first or packet
                    pieces[piece.offset], length = piece.body, piece.length
    whole = b"".join(body for _, body in sorted(pieces.items()))
    if first is None or len(whole) < length or length < 6:
        return None
    size = int.from_bytes(whole[3:6])
    return first, whole[6 : 6 + size]


MANDATORY_CURVE = "secp256r1"
"""P-256, which every stack has (RFC 8827 §6.5)."""


def certificate_key(certificate: bytes) -> str:
    """What kind of key a certificate is about: the name of its curve, or of its algorithm; empty: not known."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return (
        key.curve.name if isinstance(key, EllipticCurvePublicKey) else type(key).__name__.removesuffix("PublicKey")
    )


@rule
def curve_that_is_not_named(evidence: Evidence) -> Iterator[Finding]:
    """A handshake that ends at a certificate on another curve than the one that is mandatory."""
    if secured(evidence):
        return
    for side in SIDES:
        shown = shown_certificate(evidence, side)
        curve = certificate_key(shown[1]) if shown is not None else ""
        if shown is not None and curve.startswith("sec") and curve != MANDATORY_CURVE:
            yield Finding(
                "certificate-curve",
                Layer.DTLS,
                side,
                "a certificate on a curve that the other side names among its groups, as every stack names P-256, "
                "which is mandatory",
                "RFC 8827 §6.5, RFC 8422 §5.1.1",
                f"one on {curve}, at which the {other(side)} ends the handshake",
                shown[0],
            )


@rule
def another_certificate(evidence: Evidence) -> Iterator[Finding]:
    """The certificate is the one whose fingerprint is in the description."""
    for side in SIDES:
        sdp = evidence.offer if side == "client" else evidence.answer
        announced = [value.split() for section in sections(sdp) if (value := section.value("fingerprint"))]
        shown = shown_certificate(evidence, side)
        seen, packet = "", None
        if shown is not None and announced and all(len(each) == 2 for each in announced):
            packet, certificate = shown
            name, wanted = announced[0][0].lower(), announced[0][1].upper()
            if name.replace("-", "") in hashlib.algorithms_available:
                digest = hashlib.new(name.replace("-", ""), certificate).hexdigest().upper()
                got = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
                seen = f"{name} {got[:11]}… instead of {wanted[:11]}…" if got != wanted else ""
        elif "certificate is not the one in its SDP" in evidence.ends.get(other(side), ""):
            packet = next((p for p in evidence.sent(other(side), Kind.DTLS) if _last_word(evidence, p)), None)
            seen = (
                f"another one, which the {other(side)} refused in the last step of the handshake "
                "(the certificate is encrypted in DTLS 1.3)"
            )
        if seen:
            yield Finding(
                "wrong-fingerprint",
                Layer.DTLS,
                side,
                "the certificate of the handshake to have the fingerprint of the description (a=fingerprint)",
                "RFC 8122 §6.2, RFC 8827 §6.5",
                seen,
                packet,
            )


def _last_word(evidence: Evidence, packet: Packet) -> bool:
    own = [each.number for each in evidence.sent(packet.side, Kind.DTLS)]
    return packet.number == own[-1]


@rule
def fatal_alert(evidence: Evidence) -> Iterator[Finding]:
    """A handshake that ends with an alert in the clear."""
    if secured(evidence):
        return
    for packet in evidence.packets:
        if packet.fate is Fate.FORGED:
            continue
        for record in packet.records:
            alert = clear_alert(record)
            if alert is not None and alert[0]:
                yield Finding(
                    "handshake-refused",
                    Layer.DTLS,
                    None,
                    "a handshake that both sides complete",
                    "RFC 8446 §6.2, RFC 5246 §7.2.2",
                    f"the {packet.side} ends it with the fatal alert {alert[1]}",
                    packet,
                )
                return
