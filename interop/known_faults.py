"""Faults of peers that we know of: each with its reason and the version in which it was seen.

A cell that fails as the table says is no news; one that passes although it stands here is red, so that the table
never outlives a fault.
"""

from __future__ import annotations

from dataclasses import dataclass

from interop.evidence import SIDES, Side


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
    *(
        KnownFault(
            "gstreamer",
            side,
            "sizes to the maximum",
            "expectation",
            "1.22",
            "Of a message of 262143 bytes nothing leaves it, although the receiver announced 262144",
        )
        for side in SIDES
    ),
    KnownFault(
        "gstreamer",
        "server",
        "stereo",
        "expectation",
        "1.22",
        "It takes the parameters of a format for caps that have to be its own: its answer to Opus with "
        "sprop-stereo=1, which says what the offerer sends (RFC 7587 §7), has RED of that Opus alone",
    ),
    KnownFault(
        "gstreamer",
        "server",
        "bundle max-bundle",
        "expectation",
        "1.22",
        "It asks for a fingerprint in a section that is bundle-only, which needs none (RFC 8829 §5.2.1)",
    ),
    *(
        KnownFault(
            "gstreamer",
            side,
            scenario,
            "no-consent-checks",
            "1.22",
            "It keeps the path alive by Binding indications, and asks for no consent",
        )
        for side, scenario in (
            ("client", "reports"),
            ("client", "45 seconds"),
            ("client", "mute"),
            ("client", "DTX"),
            ("client", "speech"),
            ("server", "reports"),
            ("server", "45 seconds"),
            ("server", "mute"),
            ("server", "DTX"),
            ("server", "speech"),
        )
    ),
    *(
        KnownFault(
            "gstreamer",
            side,
            "small MTU",
            "expectation",
            "1.22",
            "Its SCTP sends packets of 1212 bytes, 1277 with DTLS, UDP and IPv4, where RFC 8831 §5 says 1200 at "
            "most, and repeats them as large as they were when they are lost",
        )
        for side in SIDES
    ),
    KnownFault(
        "gstreamer",
        "client",
        "bundle balanced",
        "",
        "1.22",
        "It offers a data section that is bundle-only, with a port and without a group (RFC 8843 §6), "
        "so that the section is declined",
    ),
    *(
        KnownFault(
            "gstreamer",
            side,
            "negotiated channel",
            "expectation",
            "1.22",
            "It makes no channel on a stream that was agreed on elsewhere: even in mid-call its limit of streams "
            "(max-channels) is 0",
        )
        for side in SIDES
    ),
    KnownFault(
        "werift",
        "client",
        "ICE restart",
        "expectation",
        "0.24.4",
        "Its offer has new credentials, and with the answer it makes no checks: it does not start ICE again where "
        "DTLS stands",
    ),
    *(
        KnownFault(
            "werift",
            side,
            "maxRetransmits",
            "expectation",
            "0.24.4",
            "A channel that is unordered and of limited retransmissions it announces as an ordered one: its type "
            "has lost the bit of the order (RFC 8832 §5.1)",
        )
        for side in SIDES
    ),
    *(
        KnownFault(
            peer,
            side,
            "garbage",
            "",  # no sound from the beginning, sound that stops, or silence: as early as the noise comes
            "153",
            "In DTLS 1.3 a single datagram that begins with the byte 20, 24 to 31 or 48 to 63, which is no record "
            "that NSS knows, is taken for the end of the connection and not dropped (RFC 9147 §4.5.2): from then "
            "on it sends no RTP and no data, and only its checks go on. In DTLS 1.2 it lives on",
        )
        for peer in ("firefox", "firefox without ML-KEM")
        for side in SIDES
    ),
    KnownFault(
        "str0m",
        "client",
        "45 seconds",
        "expectation",
        "0.24.1 (dimpl 0.7.6)",
        "As the client of DTLS 1.3 it does not stop the timer of its handshake: 40 s later the connection ends "
        "with `timeout: connect`, and nothing is sent any more",
    ),
    *(
        KnownFault(
            "str0m",
            side,
            "gone without a word",
            "expectation",
            "0.24.1",
            "Its consent expires, and it goes on to send sound until its program stops it (RFC 7675 §5.1)",
        )
        for side in SIDES
    ),
    *(
        KnownFault(
            "werift",
            side,
            "forged alert",
            "",
            "0.24.4",
            "An alert that is not authentic ends what it sends (RFC 6347 §4.1.2.7)",
        )
        for side in SIDES
    ),
    *(
        KnownFault(
            "werift",
            side,
            "small MTU",
            "expectation",
            "0.24.4",
            "Its SCTP makes packets of up to 1293 bytes, with DTLS, UDP and IPv4, where RFC 8831 §5 says 1200 at "
            "most, and repeats them as large as they were when they are lost",
        )
        for side in SIDES
    ),
    KnownFault(
        "werift",
        "server",
        "garbage",
        "",
        "0.24.4",
        "Noise that has the form of an alert ends what it sends, as a forged alert does",
    ),
    KnownFault(
        "ffmpeg",
        "client",
        "rebinding",
        "",  # of the checks at the first address, or at the new one: whichever is seen first
        "62.12 (FFmpeg 8.1)",
        "It answers no checks (RFC 8445 §7.3), with which our server asks whether a new address is its own",
    ),
    KnownFault(
        "werift",
        "server",
        "mDNS",
        "no-client-hello",
        "0.24.4",
        "Offered .local candidates alone, it answers checks and does not begin the handshake",
    ),
    *(
        KnownFault(
            "gstreamer",
            side,
            "gone without a word",
            "expectation",
            "1.22",
            "It asks for no consent (RFC 7675 §5.1), and so does not find out that the other side is gone",
        )
        for side in SIDES
    ),
    *(
        KnownFault(
            "webrtc-rs",
            side,
            "sizes to the maximum",
            "expectation",
            "0.21",
            "It sends no message that is longer than it would take itself, 65536 bytes, whatever the receiver "
            "announced",
        )
        for side in SIDES
    ),
    KnownFault(
        "ffmpeg",
        "client",
        "own certificate",
        "certificate-curve",
        "62.12 (FFmpeg 8.1)",
        "The certificate that it makes with GnuTLS is on P-224, which no DTLS of ours or of a browser names among "
        "its groups",
    ),
    KnownFault(
        "ffmpeg",
        "client",
        "declined video",
        "",  # the checks are seen first, where our server sends one
        "62.12 (FFmpeg 8.1)",
        "It sends the video that was declined, with a payload type that was not agreed on (RFC 3264 §6), and "
        "answers no checks",
    ),
)


def find(peer: str, side: Side, scenario: str) -> KnownFault | None:
    """Return what is known of a peer in a scenario."""
    for fault in KNOWN_FAULTS:
        if (fault.peer, fault.side, fault.scenario) == (peer, side, scenario):
            return fault
    return None
