"""Which side of a DTLS connection we are: negotiated in SDP, carried out by DTLS, asked for by SRTP and SCTP."""

from __future__ import annotations

from enum import Enum


class DtlsRole(Enum):
    """Who sends the ClientHello: in WebRTC the side with `a=setup:active` is the client (RFC 8842 §5)."""

    CLIENT = "client"
    SERVER = "server"
