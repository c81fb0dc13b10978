"""Faults of peers that we know of: each with its reason and the version in which it was seen.

A cell that fails as the table says is no news; one that passes although it stands here is red, so that the table
never outlives a fault.
"""

from __future__ import annotations

from dataclasses import dataclass

from interop.evidence import Side


@dataclass(frozen=True, slots=True)
class KnownFault:
    """A fault of a peer. `rule` is the name of the finding; empty: whatever the scenario says."""

    peer: str
    side: Side
    scenario: str
    rule: str
    version: str
    reason: str


KNOWN_FAULTS: tuple[KnownFault, ...] = (
    *(
        KnownFault(
            browser,
            "server",
            "telephone-event",
            "telephone-event-clock",
            version,
            "Offered telephone-event at 48000 and at 8000 Hz, it presses keys at 8000 Hz beside Opus at 48000 Hz",
        )
        for browser, version in (
            ("chromium", "156"),
            ("chromium without ML-KEM", "156"),
            ("firefox", "153"),
            ("firefox without ML-KEM", "153"),
        )
    ),
    *(
        KnownFault(
            browser,
            "server",
            "bundle max-bundle",
            "expectation",
            "153",
            "The process of its page ends when it is offered a data section that is bundle-only and without a "
            "transport of its own (RFC 8829 §5.2.1)",
        )
        for browser in ("firefox", "firefox without ML-KEM")
    ),
    KnownFault(
        "aiortc",
        "client",
        "two audio sections",
        "no-checks",
        "1.16",
        "When the second of two sections of sound is declined it begins no checks for the first one either",
    ),
    KnownFault(
        "aiortc",
        "client",
        "declined video",
        "connection",
        "1.14 to 1.16",
        "It starts the ICE transport of the section that was declined (RFC 3264 §6) and waits for it, so that the "
        "association of its data channels is never begun",
    ),
    KnownFault(
        "aiortc",
        "server",
        "bundle max-bundle",
        "expectation",
        "1.16",
        "It asks for ICE credentials in sections that are bundle-only, which have none (RFC 8829 §5.2.1)",
    ),
    KnownFault(
        "aiortc",
        "server",
        "mDNS",
        "answer-without-candidates",
        "1.16",
        "Its answer to an offer whose only candidates are .local names, followed by end-of-candidates, has no "
        "candidates of its own",
    ),
    KnownFault(
        "gstreamer",
        "client",
        "sizes to the maximum",
        "expectation",
        "1.22",
        "Of a message of 262143 bytes nothing leaves it, although the receiver announced 262144",
    ),
    *(
        KnownFault(
            "gstreamer",
            "client",
            scenario,
            "no-consent-checks",
            "1.22",
            "It keeps the path alive by Binding indications, and asks for no consent",
        )
        for scenario in ("reports", "rebinding", "45 seconds", "mute", "DTX", "speech")
    ),
)


def find(peer: str, side: Side, scenario: str) -> KnownFault | None:
    """Return what is known of a peer in a scenario."""
    for fault in KNOWN_FAULTS:
        if (fault.peer, fault.side, fault.scenario) == (peer, side, scenario):
            return fault
    return None
