"""What our own ends tell a trial besides what a program sees: what SCTP carries, and the secrets of the handshake.

Under the encryption a tap sees nothing; an end of ours is the only witness. While `watching` is entered, the
sessions that are made in this process report to the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from struct import unpack_from
from typing import Any

from interop.evidence import ChannelMessage, Evidence, Side
from interop.tap import Tap
from stack import dtls
from stack.core.machine import Entropy, Instant
from stack.core.srtp_profile import SrtpProfile
from stack.session import SessionParameters, session
from stack.session.parameters import make_channels

DATA_CHUNK, I_DATA_CHUNK = 0, 64
SCTP_HEADER = 12
_PPID_AT = {DATA_CHUNK: 12, I_DATA_CHUNK: 16}
_UNFRAGMENTED = 3


def user_messages(packet: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield stream, payload protocol and bytes of each whole user message in an SCTP packet.

    DATA is RFC 9260 §3.3.1, I-DATA RFC 8260 §2.1.
    """
    at = SCTP_HEADER
    while at + 4 <= len(packet):
        kind, flags, length = unpack_from("!BBH", packet, at)
        if length < 4:
            return
        place = _PPID_AT.get(kind)
        if place is not None and flags & 3 == _UNFRAGMENTED and at + place + 4 <= len(packet):
            stream, ppid = unpack_from("!H", packet, at + 8)[0], unpack_from("!I", packet, at + place)[0]
            yield stream, ppid, packet[at + place + 4 : at + length]
        at += length + (-length % 4)


@contextmanager
def watching(evidence: Evidence, tap: Tap, srtp: str = "") -> Iterator[None]:
    """Have the sessions made in this process report; `srtp` is the only profile that they know then."""
    endpoint = dtls.DtlsEndpoint

    def channels(parameters: SessionParameters, entropy: Entropy, now: Instant) -> Any:
        made = make_channels(parameters, entropy, now)
        if made is None:
            return None
        receiver: Side = "server" if parameters.local.ice_lite else "client"
        handle = made.handle_datagrams

        def handle_datagrams(batch: Iterable[bytes], now: Instant) -> None:
            batch = list(batch)
            for packet in batch:
                for stream, ppid, data in user_messages(packet):
                    message = ChannelMessage(tap.now(), receiver, stream, ppid, data[:2_000])
                    evidence.channel_messages.append(message)
            handle(batch, now)

        made.handle_datagrams = handle_datagrams  # type: ignore[method-assign]
        return made

    def make_endpoint(role: Any, config: dtls.DtlsConfig, entropy: Entropy) -> dtls.DtlsEndpoint:
        config = replace(config, key_log=evidence.key_log.append)
        if srtp:
            config = replace(config, srtp_profiles=(SrtpProfile[srtp],))
        return endpoint(role, config, entropy)

    former = session.make_channels
    session.make_channels = channels
    dtls.DtlsEndpoint = make_endpoint  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        session.make_channels = former
        dtls.DtlsEndpoint = endpoint  # type: ignore[misc]
