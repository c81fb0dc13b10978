"""From what was agreed on to a ticket, and back: which agreements a ticket can hold.

`make_ticket` writes a ticket and reads it again; only where all that a session reads of the agreement is the same
then, the agreement can be held. So nothing is lost by a ticket: whatever else was agreed on has none, and keeps
its session in memory. What is left out of the comparison is what no session reads: the peer's SSRC, cname and msid
before its first packet, ICE options, candidates (a lite agent sends no checks), parameters of formats that no
codec of ours looks at.

Held: one section of sound that sends or receives or does both, by Opus, PCMU or PCMA, with RED and telephone
events; data channels on port 5000, with the channel that our own clients name in their offers; both in the order
sound, data, with mids from 0 to 15 and no section besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stack import sdp
from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, ParseError
from stack.core.header_extensions import URI_AUDIO_LEVEL, URI_PLAYOUT_DELAY, URI_TRANSPORT_CC
from stack.core.machine import Address
from stack.session.parameters import LocalWishes, SessionParameters, make_local_parameters
from stack.session.ticket import (
    FINGERPRINT_SIZE,
    MAX_MID,
    SessionTicket,
    TicketAudio,
    TicketFlag,
    TicketInit,
)
from stack.session.ticket_keys import OpenedTicket

CODECS: Final = ("opus", "PCMU", "PCMA")
DIRECTIONS: Final = (
    sdp.MediaDirection.SENDRECV,
    sdp.MediaDirection.SENDONLY,
    sdp.MediaDirection.RECVONLY,
    sdp.MediaDirection.INACTIVE,
)
PLAYBACK_RATES: Final = (None, "8000", "12000", "16000", "24000", "48000")
PTIMES: Final = (None, 10, 20, 30, 40, 60, 80, 100, 120)
"""Milliseconds of a=ptime."""
MESSAGE_SIZES: Final = (262_144, 1_073_741_823, 65_536, 65_535, 0, 16_384, 1_048_576)
"""Values of a=max-message-size that peers say: Chromium's, Firefox's, the default, Pion's, any, old ones."""
INIT_SHAPES: Final = (
    ("00500000ffffffff", "c00000048008000682c0", "0100001e"),
    ("00400000ffffffff", "c00000048008000882c040c28001000800000001", "01000028"),
)
"""Of INIT chunks (hexadecimal): window and streams, what follows the TSN, and header. Chromium's, and ours."""
SCTP_PORT: Final = 5000
AGREED_CHANNELS: Final = (sdp.ChannelMap(0, "events"),)
"""Data channels that an offer names (RFC 8864) and a ticket can hold: those of our own clients."""

_BY_PARAMETER: Final = {
    "stereo": TicketFlag.STEREO,
    "useinbandfec": TicketFlag.INBAND_FEC,
    "usedtx": TicketFlag.DTX,
    "cbr": TicketFlag.CBR,
}
_UNHELD: Final = frozenset({"maxaveragebitrate"})
"""Parameters that a sender of ours obeys and a ticket has no room for."""
_BY_FEEDBACK: Final = {"nack": TicketFlag.NACK, "transport-cc": TicketFlag.TRANSPORT_CC}


TICKET_CREDIT = 2400
"""Bytes that a session of a ticket may send beyond those that came (`allowance.py`): two flights of a handshake.

Half-open sessions are bounded by ticket and by address (`stack.server.admission.AdmissionLimits`).
"""


@dataclass(frozen=True, slots=True)
class TicketSite:
    """What is the same for all answers of a server, and therefore in no ticket."""

    addresses: Sequence[Address]
    public_ips: Sequence[str] = ()
    codecs: tuple[sdp.CodecDescription, ...] = (sdp.OPUS, sdp.PCMU, sdp.PCMA)
    tcp: tuple[Address, ...] = ()
    """Where ICE-TCP connections are accepted."""
    relays: Sequence[Address] = ()
    """Where relays in front are reached: their addresses are the only candidates then."""


@dataclass(frozen=True, slots=True)
class TicketWishes:
    """What the maker of a ticket says of it; `expiry` in seconds since 1970, the rest as in `SessionTicket`."""

    expiry: int
    reference: bytes
    program: int = 0
    tenant: int = 0
    claim: str = ""
    is_instant: bool = False


def make_ticket(agreed: sdp.Negotiation, site: TicketSite, wishes: TicketWishes) -> SessionTicket | None:
    """Return the ticket of an agreement; None if it cannot be held.

    A ticket that is made ahead of its call holds no INIT chunk: the peer makes another one for each connection.
    """
    if wishes.is_instant:
        agreed = replace(agreed, media=tuple(_without_init(each) for each in agreed.media))
    try:
        ticket = _write(agreed, wishes)
        ticket.serialize()
    except LocalError:
        return None
    if [(media.kind, media.mid) for media in agreed.answer.media] != list(map(_place_of, agreed.media)):
        return None
    kept = tuple(_media_of(ticket, site))
    return ticket if kept == tuple(map(_as_read, agreed.media)) else None


def local_parameters_of(opened: OpenedTicket, site: TicketSite) -> sdp.LocalParameters:
    """Return our side as the answer with this ticket says it: all of it follows from key and fragment."""
    key = opened.key
    setup = sdp.Setup.ACTIVE if opened.ticket.dtls_role is DtlsRole.CLIENT else sdp.Setup.PASSIVE
    wishes = LocalWishes(ice_lite=True, tcp=site.tcp, setup=setup, codecs=site.codecs)
    local = make_local_parameters(
        key.entropy(opened.ufrag), key.certificate, site.addresses, wishes, site.public_ips, site.relays
    )
    return replace(local, ice_ufrag=opened.ufrag, ice_pwd=key.password(opened.ufrag))


def parameters_of(opened: OpenedTicket, site: TicketSite, remote_ufrag: str) -> SessionParameters:
    """Return what the session is made from. `remote_ufrag` is the second half of the check's USERNAME.

    Raises `ParseError` for a ticket with a section that this server does not know: of another one with the key,
    whose version is newer, or that has a codec more.
    """
    ticket = opened.ticket
    media = tuple(_media_of(ticket, site))
    if len(media) != (ticket.audio is not None) + (ticket.message_size is not None):
        raise ParseError("this ticket has a section that is not known here")
    local = local_parameters_of(opened, site)
    answer = sdp.SessionDescription(
        sdp.Origin(local.session_id, local.session_version),
        tuple(_outline(each) for each in media),
    )
    negotiation = sdp.Negotiation(
        answer=answer,
        remote_ice_ufrag=remote_ufrag,
        remote_ice_pwd="",
        remote_ice_lite=False,
        remote_ice_options=(),
        remote_fingerprints=(CertificateFingerprint("sha-256", ticket.fingerprint),),
        remote_candidates=(),
        remote_end_of_candidates=False,
        ice_controlling=False,
        dtls_role=ticket.dtls_role,
        media=media,
    )
    return SessionParameters(local, negotiation, offer_size=TICKET_CREDIT)


# -- writing ---------------------------------------------------------------------------------------------------


def _write(agreed: sdp.Negotiation, wishes: TicketWishes) -> SessionTicket:
    """Return the nearest ticket; raises `LocalError` for what has no number."""
    prints = agreed.remote_fingerprints
    if len(prints) != 1 or prints[0].algorithm != "sha-256" or len(prints[0].digest) != FINGERPRINT_SIZE:
        raise LocalError("a ticket holds one SHA-256 fingerprint")
    if agreed.remote_ice_lite or agreed.ice_controlling:
        raise LocalError("a ticket is for a lite agent that a full one calls")
    flags = TicketFlag(0)
    if agreed.dtls_role is DtlsRole.CLIENT:
        flags |= TicketFlag.DTLS_CLIENT
    if wishes.program or wishes.tenant:
        flags |= TicketFlag.ADDRESSED
    if wishes.is_instant:
        flags |= TicketFlag.INSTANT
    audio, data, init = None, None, None
    audio_mid = data_mid = 0
    for section in agreed.media:
        if isinstance(section, sdp.AudioParameters):
            flags |= TicketFlag.AUDIO | _audio_flags(section)
            audio_mid, audio = _mid(section.mid), _write_audio(section)
        else:
            flags |= TicketFlag.DATA
            data_mid, data = _mid(section.mid), _number(MESSAGE_SIZES, section.remote_max_message_size)
            if section.channels == AGREED_CHANNELS and section.channels_by_peer:
                flags |= TicketFlag.CHANNEL
            if section.remote_sctp_init is not None:
                flags |= TicketFlag.SNAP
                init = _write_init(section.remote_sctp_init)
    return SessionTicket(
        wishes.expiry, wishes.reference, prints[0].digest, flags, audio_mid, data_mid, audio, data, init,
        wishes.program, wishes.tenant, wishes.claim,
    )  # fmt: skip


def _audio_flags(section: sdp.AudioParameters) -> TicketFlag:
    flags = TicketFlag(0)
    for name, flag in _BY_PARAMETER.items():
        if section.remote_parameters.get(name) == "1":
            flags |= flag
    for name in section.rtcp_feedback:
        flags |= _BY_FEEDBACK.get(name, TicketFlag(0))
    if section.rtcp_rsize:
        flags |= TicketFlag.REDUCED_SIZE
    if section.receiver_rtt:
        flags |= TicketFlag.RECEIVER_RTT
    if section.extmap_allow_mixed:
        flags |= TicketFlag.MIXED_EXTENSIONS
    return flags


def _write_audio(section: sdp.AudioParameters) -> TicketAudio:
    ids = section.extensions
    return TicketAudio(
        codec=_number(CODECS, section.codec),
        direction=_number(DIRECTIONS, section.direction),
        playback_rate=_number(PLAYBACK_RATES, section.remote_parameters.get("maxplaybackrate")),
        payload_type=section.payload_type,
        red_payload_type=section.red_payload_type or 0,
        telephone_event_payload_type=section.telephone_event_payload_type or 0,
        audio_level=ids.get(URI_AUDIO_LEVEL, 0),
        transport_cc=ids.get(URI_TRANSPORT_CC, 0),
        playout_delay=ids.get(URI_PLAYOUT_DELAY, 0),
        ptime=_number(PTIMES, section.ptime),
    )


def _write_init(chunk: bytes) -> TicketInit:
    for number, (fixed, tail, head) in enumerate(INIT_SHAPES):
        tag, tsn = chunk[4:8], chunk[16:20]
        if chunk == bytes.fromhex(head) + tag + bytes.fromhex(fixed) + tsn + bytes.fromhex(tail):
            return TicketInit(number, tag, tsn)
    raise LocalError("an INIT chunk of another shape")


def _mid(mid: str | None) -> int:
    if mid is None or not mid.isascii() or not mid.isdigit() or str(int(mid)) != mid or int(mid) > MAX_MID:
        raise LocalError("a ticket holds mids from 0 to 15")
    return int(mid)


def _number(known: Sequence[object], value: object) -> int:
    for number, each in enumerate(known):
        if each == value:
            return number
    raise LocalError(f"a ticket has no number for {value!r}")


def _without_init(section: sdp.AudioParameters | sdp.DataParameters) -> sdp.AudioParameters | sdp.DataParameters:
    if isinstance(section, sdp.AudioParameters):
        return section
    return sdp.DataParameters(
        section.mid,
        section.remote_sctp_port,
        section.remote_max_message_size,
        channels=section.channels,
        channels_by_peer=section.channels_by_peer,
    )


def _place_of(section: sdp.AudioParameters | sdp.DataParameters) -> tuple[str, str | None]:
    return "audio" if isinstance(section, sdp.AudioParameters) else "application", section.mid


# -- reading ---------------------------------------------------------------------------------------------------


def _media_of(ticket: SessionTicket, site: TicketSite) -> Iterator[sdp.AudioParameters | sdp.DataParameters]:
    """Yield the sections that a ticket stands for; none for a number of a newer version."""
    flags = ticket.flags
    if ticket.audio is not None:
        section = _read_audio(ticket, ticket.audio, site.codecs)
        if section is not None:
            yield section
    if ticket.message_size is not None and ticket.message_size < len(MESSAGE_SIZES):
        init = _read_init(ticket.init) if TicketFlag.SNAP in flags and ticket.init is not None else None
        channels = AGREED_CHANNELS if TicketFlag.CHANNEL in flags else ()
        size = MESSAGE_SIZES[ticket.message_size]
        yield sdp.DataParameters(str(ticket.data_mid), SCTP_PORT, size, init, channels, bool(channels))


def _read_audio(
    ticket: SessionTicket, audio: TicketAudio, codecs: Sequence[sdp.CodecDescription]
) -> sdp.AudioParameters | None:
    flags = ticket.flags
    known = audio.codec < len(CODECS) and audio.playback_rate < len(PLAYBACK_RATES) and audio.ptime < len(PTIMES)
    codec = next((each for each in codecs if known and each.encoding == CODECS[audio.codec]), None)
    if codec is None:
        return None
    asked = {name: "1" for name, flag in _BY_PARAMETER.items() if flag in flags}
    rate = PLAYBACK_RATES[audio.playback_rate]
    if rate is not None:
        asked["maxplaybackrate"] = rate
    ids = {
        URI_AUDIO_LEVEL: audio.audio_level,
        URI_TRANSPORT_CC: audio.transport_cc,
        URI_PLAYOUT_DELAY: audio.playout_delay,
    }
    return sdp.AudioParameters(
        mid=str(ticket.audio_mid),
        payload_type=audio.payload_type,
        codec=codec.encoding,
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        direction=DIRECTIONS[audio.direction],
        local_parameters=dict(codec.parameters),
        remote_parameters=asked,
        red_payload_type=audio.red_payload_type or None,
        telephone_event_payload_type=audio.telephone_event_payload_type or None,
        extensions={uri: number for uri, number in ids.items() if number},
        extmap_allow_mixed=TicketFlag.MIXED_EXTENSIONS in flags,
        rtcp_feedback=tuple(name for name, flag in _BY_FEEDBACK.items() if flag in flags),
        rtcp_rsize=TicketFlag.REDUCED_SIZE in flags,
        receiver_rtt=TicketFlag.RECEIVER_RTT in flags,
        ptime=PTIMES[audio.ptime],
    )


def _read_init(init: TicketInit) -> bytes | None:
    if init.shape >= len(INIT_SHAPES):
        return None
    fixed, tail, head = INIT_SHAPES[init.shape]
    return bytes.fromhex(head) + init.initiate_tag + bytes.fromhex(fixed) + init.initial_tsn + bytes.fromhex(tail)


def _as_read(
    section: sdp.AudioParameters | sdp.DataParameters,
) -> sdp.AudioParameters | sdp.DataParameters:
    """Return a section with what a session reads of it, and nothing else."""
    if isinstance(section, sdp.DataParameters):
        return section
    return sdp.AudioParameters(
        mid=section.mid,
        payload_type=section.payload_type,
        codec=section.codec,
        clock_rate=section.clock_rate,
        channels=section.channels,
        direction=section.direction,
        local_parameters=section.local_parameters,
        remote_parameters=_obeyed(section.remote_parameters),
        red_payload_type=section.red_payload_type,
        telephone_event_payload_type=section.telephone_event_payload_type,
        extensions=section.extensions,
        extmap_allow_mixed=section.extmap_allow_mixed,
        rtcp_feedback=section.rtcp_feedback,
        rtcp_rsize=section.rtcp_rsize,
        receiver_rtt=section.receiver_rtt,
        ptime=section.ptime,
        max_ptime=section.max_ptime,
    )


def _obeyed(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that a sender of ours obeys, as far as they say anything."""
    kept = {name: "1" for name in _BY_PARAMETER if parameters.get(name) == "1"}
    kept |= {name: value for name, value in parameters.items() if name in _UNHELD or name == "maxplaybackrate"}
    return kept


def _outline(section: sdp.AudioParameters | sdp.DataParameters) -> sdp.MediaDescription:
    """Return as much of a section of the answer as a further offer is held against."""
    mid = (sdp.SdpAttribute("mid", section.mid),)
    if isinstance(section, sdp.AudioParameters):
        return sdp.MediaDescription(
            "audio", 9, "UDP/TLS/RTP/SAVPF", (str(section.payload_type),), sdp.Connection(), mid
        )
    return sdp.MediaDescription("application", 9, "UDP/DTLS/SCTP", ("webrtc-datachannel",), sdp.Connection(), mid)


__all__ = ["TicketSite", "TicketWishes", "local_parameters_of", "make_ticket", "parameters_of"]
