"""What the tests of this directory share: the offers of real browsers, and our side of a negotiation."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.sdp import (
    CertificateFingerprint,
    LocalAudio,
    LocalData,
    LocalParameters,
    NegotiationError,
    SessionDescription,
    negotiate,
)

VECTORS = Path(__file__).parent.parent / "vectors"
OFFERS = sorted((VECTORS / "offers").glob("*.sdp"))
FINGERPRINT = CertificateFingerprint("sha-256", bytes(range(32)))
CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host"

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
TRANSPORT = (
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\n"
    f"a=fingerprint:{FINGERPRINT.serialize()}\r\na=setup:actpass\r\n"
)
AUDIO = f"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\n{TRANSPORT}a=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
DATA = f"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n{TRANSPORT}a=sctp-port:5000\r\n"
VIDEO = f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n{TRANSPORT}a=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
BUNDLED = HEAD + "a=group:BUNDLE a d\r\n"


def read(path: Path) -> SessionDescription:
    """Return a stored description."""
    return SessionDescription.parse(path.read_bytes())


def offered(*parts: str, head: str = HEAD) -> SessionDescription:
    """Return the description made of these lines."""
    return SessionDescription.parse(head + "".join(parts))


def failure_of(offer: SessionDescription, local: LocalParameters | None = None) -> NegotiationError:
    """Return the error with which an offer is refused."""
    with pytest.raises(NegotiationError) as caught:
        negotiate(offer, local or our_side())
    return caught.value


def our_side(**changes: object) -> LocalParameters:
    """Return what our side brings, with changes."""
    settings: dict[str, object] = {
        "ice_ufrag": "n1abcdef",
        "ice_pwd": "pwdpwdpwdpwdpwdpwdpwdpwd",
        "fingerprint": FINGERPRINT,
        "session_id": 42,
        "candidates": (CANDIDATE,),
        "ice_lite": True,
        "audio": our_audio(),
        "data": LocalData(),
    }
    return LocalParameters(**(settings | changes))  # type: ignore[arg-type]


def our_client(**changes: object) -> LocalParameters:
    """Return what our side brings as a full ICE agent, which is what offers."""
    return our_side(**({"ice_lite": False} | changes))


def our_audio(**changes: object) -> LocalAudio:
    """Return our audio wishes, with changes."""
    return LocalAudio(**({"ssrc": 0xDECAFBAD, "cname": "ours"} | changes))  # type: ignore[arg-type]
