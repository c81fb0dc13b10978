"""What was negotiated for one media section, as far as RTP needs to know it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from stack.core.serial import Ssrc
from stack.rtp.extensions import ExtensionIds, PlayoutDelay


class RtpCodec(NamedTuple):
    """One `a=rtpmap`: the payload type stands for `name` with timestamps at `clock_rate` Hz."""

    payload_type: int
    name: str
    clock_rate: int


@dataclass(frozen=True, slots=True)
class RtpConfig:
    """One media section of an `RtpTransport`.

    `codecs` are the payload types of media: all are received, the first is sent.
    """

    ssrc: Ssrc
    cname: str
    codecs: tuple[RtpCodec, ...]
    kind: str = "audio"
    """The media type of the `m=` line (RFC 8866 §5.14), for statistics."""
    telephone_events: tuple[RtpCodec, ...] = ()
    """RFC 4733: all are received, the one with the clock rate of the first codec is sent."""
    red_payload_type: int | None = None
    """RFC 2198: redundancy, both ways."""
    red_depth: int | None = None
    """A fixed number of earlier frames to repeat, 0 to 2; None: as many as the reported loss asks for."""
    rtx_payload_types: tuple[tuple[int, int], ...] = ()
    """RFC 4588: pairs of a payload type for retransmission and the one that it repeats (`apt`)."""
    rtx_ssrc: Ssrc | None = None
    """The SSRC under which we retransmit."""
    extensions: ExtensionIds = field(default_factory=ExtensionIds)
    mid: str | None = None
    playout_delay: PlayoutDelay | None = None
    """What to ask of the peer's buffer, where the extension was negotiated."""
    nack: bool = False
    """`a=rtcp-fb nack`: ask for what is missing, and answer when asked."""
    transport_cc: bool = False
    """`a=rtcp-fb transport-cc`: report every arrival."""
    rcvr_rtt: bool = False
    """`a=rtcp-xr:rcvr-rtt`: send a reference time of our own (RFC 3611 §4.4)."""
    reduced_size: bool = False
    """`a=rtcp-rsize`: feedback may travel without a report in front of it (RFC 5506)."""

    @property
    def clock_rate(self) -> int:
        """The clock rate of what is sent, in Hz."""
        return self.codecs[0].clock_rate
