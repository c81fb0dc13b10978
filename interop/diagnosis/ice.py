"""Connectivity checks and consent (RFC 8445, 7675)."""

from __future__ import annotations

from collections.abc import Iterator

from interop.diagnosis.description import sections
from interop.diagnosis.rules import loses, rule
from interop.evidence import SIDES, Evidence, Fate, Packet, Side, other
from interop.verdict import Finding, Layer
from interop.wire_reading import Kind, StunClass

ANSWER_PATIENCE = 0.75
"""Seconds after which a check without a response counts as unanswered."""
MOST_CONSENT_INTERVAL = 6.0
"""RFC 7675 §5.1: 5 s, times 0.8 to 1.2."""


def requests(evidence: Evidence, side: Side) -> list[Packet]:
    """The checks of a side that reached the other."""
    return [
        packet
        for packet in evidence.sent(side, Kind.STUN)
        if packet.stun is not None and packet.stun.stun_class is StunClass.REQUEST and packet.fate is Fate.PASSED
    ]


def responses(evidence: Evidence, side: Side) -> dict[bytes, Packet]:
    """The responses of a side, by transaction."""
    return {
        packet.stun.transaction: packet
        for packet in evidence.sent(side, Kind.STUN)
        if packet.stun is not None and packet.stun.stun_class in (StunClass.SUCCESS, StunClass.ERROR)
    }


def is_lite(evidence: Evidence, side: Side) -> bool:
    """Whether a side says that it is a lite agent, which makes no checks (RFC 8445 §2.5)."""
    return "a=ice-lite" in (evidence.offer if side == "client" else evidence.answer).splitlines()


def succeeded(evidence: Evidence) -> Packet | None:
    """The first response that says that a path works."""
    for packet in evidence.packets:
        if packet.stun is not None and packet.stun.stun_class is StunClass.SUCCESS and packet.fate is Fate.PASSED:
            return packet
    return None


@rule
def response_from_elsewhere(evidence: Evidence) -> Iterator[Finding]:
    """A response comes from the address that the check was sent to."""
    for side in SIDES:
        asked = {packet.stun.transaction: packet for packet in requests(evidence, other(side)) if packet.stun}
        for packet in evidence.sent(side, Kind.STUN):
            if packet.fate is Fate.FOREIGN and packet.stun is not None and packet.stun.transaction in asked:
                to = asked[packet.stun.transaction].destination
                yield Finding(
                    "response-from-another-address",
                    Layer.ICE,
                    side,
                    f"the response to a check to come from the address that was asked, {to[0]} port {to[1]}",
                    "RFC 8445 §7.2.5.2.1",
                    f"it coming from another address, {packet.source[0]} port {packet.source[1]}",
                    packet,
                )
                break


@rule
def checks_without_an_answer(evidence: Evidence) -> Iterator[Finding]:
    """The first check that is authentic is answered."""
    if not evidence.answer or loses(evidence):
        return
    took = not evidence.steps or "answer taken" in evidence.steps
    for side in SIDES:
        if side == "server" and not took:
            continue  # the client never had the answer, or refused it
        asked = [packet for packet in requests(evidence, side) if packet.at < evidence.ended_at - ANSWER_PATIENCE]
        answered = responses(evidence, other(side))
        if not asked or any(packet.stun and packet.stun.transaction in answered for packet in asked):
            continue
        yield Finding(
            "checks-unanswered",
            Layer.ICE,
            other(side),
            "a response to each Binding request with valid credentials",
            "RFC 8445 §7.3",
            f"none to {len(asked)} requests in {asked[-1].at - asked[0].at:.1f} s, sent to "
            f"{asked[0].destination[0]} port {asked[0].destination[1]}",
            asked[0],
        )
    if took and not requests(evidence, "client") and not is_lite(evidence, "client") and evidence.ended_at > 3:
        yield Finding(
            "no-checks",
            Layer.ICE,
            "client",
            "connectivity checks to the candidate of the answer",
            "RFC 8445 §6.1.4",
            f"none in {evidence.ended_at:.1f} s",
        )


@rule
def checks_that_are_refused(evidence: Evidence) -> Iterator[Finding]:
    """Only error responses."""
    for side in SIDES:
        asked = {packet.stun.transaction for packet in requests(evidence, other(side)) if packet.stun}
        answers = [packet for number, packet in responses(evidence, side).items() if number in asked]
        errors = [packet for packet in answers if packet.stun and packet.stun.error is not None]
        if errors and len(errors) == len(answers):
            yield Finding(
                "checks-refused",
                Layer.ICE,
                None,
                "success responses to checks that carry the credentials of the descriptions",
                "RFC 8445 §7.3, RFC 8489 §9.1.3",
                f"{len(errors)} errors and no success, the first one {errors[0].stun.error}",  # type: ignore[union-attr]
                errors[0],
            )


@rule
def consent_without_an_answer(evidence: Evidence) -> Iterator[Finding]:
    """After the path is up, checks go on and are answered for as long as the call lasts."""
    if loses(evidence):
        return
    for side in SIDES:
        answered = responses(evidence, other(side))
        asked = [packet for packet in requests(evidence, side) if packet.at < evidence.ended_at - ANSWER_PATIENCE]
        heard = [packet.number for packet in asked if packet.stun and packet.stun.transaction in answered]
        late = [packet for packet in asked if heard and packet.number > max(heard)]
        # Retransmissions of one transaction are one question.
        questions = {packet.stun.transaction: packet for packet in late if packet.stun}
        if len(questions) >= 2:
            first = next(iter(questions.values()))
            yield Finding(
                "consent-unanswered",
                Layer.ICE,
                other(side),
                "consent: a response to the Binding requests that go on during the call",
                "RFC 7675 §5.1",
                f"{len(heard)} answered and then none: {len(questions)} requests without a response since "
                f"{first.at:.1f} s, after which the peer must stop sending within 30 s",
                first,
            )


@rule
def full_agent_without_consent_checks(evidence: Evidence) -> Iterator[Finding]:
    """A full agent that sends needs consent, so it asks for it."""
    began = succeeded(evidence)
    if began is None or loses(evidence) or evidence.rebound_at is not None:
        return
    watched = evidence.ended_at - began.at
    if watched < 2 * MOST_CONSENT_INTERVAL:
        return
    for side in SIDES:
        sends = any(packet.at > began.at + 1 for packet in evidence.sent(side, Kind.RTP))
        asked = [packet for packet in requests(evidence, side) if packet.at > began.at + 0.5]
        if sends and not asked and not is_lite(evidence, side):
            yield Finding(
                "no-consent-checks",
                Layer.ICE,
                side,
                "a Binding request about every 5 s from a full agent that sends media",
                "RFC 7675 §5.1",
                f"none in {watched:.1f} s after the path was up",
                began,
            )


@rule
def nothing_to_connect_to(evidence: Evidence) -> Iterator[Finding]:
    """An answer that has candidates."""
    if evidence.answer and "a=candidate:" not in evidence.answer and sections(evidence.answer):
        yield Finding(
            "answer-without-candidates",
            Layer.SIGNALLING,
            "server",
            "candidates in the answer: WHIP has no way for a server to send them later",
            "RFC 9725 §4.3.1",
            "none",
        )
