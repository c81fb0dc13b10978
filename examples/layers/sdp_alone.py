"""SDP alone: read an offer on the standard input, write the answer and what was negotiated."""

import os
import sys

from stack.core.errors import ParseError
from stack.sdp import (
    CertificateFingerprint,
    LocalAudio,
    LocalParameters,
    NegotiationError,
    SessionDescription,
    negotiate,
)


def main() -> None:
    """Answer one offer."""
    local = LocalParameters(
        ice_ufrag=os.urandom(4).hex(),
        ice_pwd=os.urandom(12).hex(),
        fingerprint=CertificateFingerprint("sha-256", os.urandom(32)),  # of a certificate, in a real program
        session_id=int.from_bytes(os.urandom(7), "big"),
        candidates=("candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",),
        ice_lite=True,
        audio=LocalAudio(ssrc=int.from_bytes(os.urandom(4), "big"), cname="alone", red=True),
    )
    try:
        agreed = negotiate(SessionDescription.parse(sys.stdin.read()), local)
    except (ParseError, NegotiationError) as error:
        sys.exit(f"no answer: {error}")
    print(agreed.answer.serialize().replace("\r\n", "\n"))
    print(f"we are the DTLS {agreed.dtls_role.value}, the peer's ufrag is {agreed.remote_ice_ufrag}")
    if agreed.audio is not None:
        audio = agreed.audio
        print(f"audio: {audio.codec}/{audio.clock_rate} as {audio.payload_type}, {audio.direction.value}")
        print(f"       RED as {audio.red_payload_type}, parameters {dict(audio.remote_parameters)}")
    if agreed.data is not None:
        data = agreed.data
        print(f"data:  SCTP port {data.remote_sctp_port}, messages up to {data.remote_max_message_size}")


if __name__ == "__main__":
    main()
