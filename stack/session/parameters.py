"""What a session is built from, and how each protocol's part is read out of it.

`SessionParameters` is plain: it can be written as JSON and the session be made from it in another process, or by
the first packet that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

from stack import dtls, ice, sctp, sdp
from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, ParseError
from stack.core.header_extensions import (
    URI_ABS_SEND_TIME,
    URI_AUDIO_LEVEL,
    URI_MID,
    URI_PLAYOUT_DELAY,
    URI_TRANSPORT_CC,
)
from stack.core.machine import Address, Entropy, Instant
from stack.core.serial import Ssrc
from stack.core.srtp_profile import SrtpProfile
from stack.core.values import from_json, to_json
from stack.rtp import ExtensionIds, PlayoutDelay, RtpCodec, RtpConfig

SRTP_PROFILES = (
    SrtpProfile.AEAD_AES_128_GCM,
    SrtpProfile.AES128_CM_HMAC_SHA1_80,
    SrtpProfile.AEAD_AES_256_GCM,
)
"""Cheapest first: GCM needs no separate HMAC."""
TYPICAL_OFFER = 3000
"""Bytes of an offer that was not measured; browsers' have 2,000 to 10,000."""
MAX_DTLS_TIMEOUT = 3.0
"""Seconds between two transmissions of a flight at most. RFC 9147 §5.8.2 would have them grow to a minute where
nothing is known of the path; ICE has measured it, and a person waits. SCTP's are bounded by the same."""
_ANY_ROLE = sctp.SctpConfig(is_dtls_client=False)
"""An INIT says nothing of the role, nor of anything else that is not known before an answer."""
MAX_REMEMBERED = 16
"""Sets of addresses of ours whose candidates are remembered: a host has one or two."""


@dataclass(frozen=True, slots=True)
class SessionParameters:
    """Our side and what was agreed on with the peer."""

    local: sdp.LocalParameters
    negotiation: sdp.Negotiation
    offer_size: int = TYPICAL_OFFER
    """Bytes that the caller has sent for this session to be: see `stack.session.allowance`."""

    def with_ice(self, local: ice.IceCredentials, remote: ice.IceCredentials) -> Self:
        """Return the same with other ICE credentials on both sides, as after a restart."""
        return replace(
            self,
            local=replace(self.local, ice_ufrag=local.ufrag, ice_pwd=local.password),
            negotiation=replace(self.negotiation, remote_ice_ufrag=remote.ufrag, remote_ice_pwd=remote.password),
        )

    def to_json(self) -> str:
        """Return everything as JSON text. It holds our ICE password: treat it as a secret."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what `to_json` wrote; raises `ParseError` for anything else."""
        parameters = from_json(cls, text)
        parameters.local.check()
        parameters.negotiation.check()
        return parameters


@dataclass(frozen=True, slots=True)
class LocalWishes:
    """What our side asks for in SDP of any peer."""

    audio: bool = True
    data: bool = True
    ice_lite: bool = False
    tcp: tuple[Address, ...] = ()
    """Where ICE-TCP connections are accepted (RFC 6544: passive candidates)."""
    setup: sdp.Setup = sdp.Setup.PASSIVE
    worker: int | None = None
    """A server's: which of its workers has the session; the ufrag says so (`stack.core.ufrag`)."""
    node: str = ""
    """A server's: which of several machines it is."""
    gathered: tuple[str, ...] = ()
    """Server-reflexive and relayed candidates that a full agent has found, as they stand in SDP."""
    channels: tuple[sdp.ChannelMap, ...] = ()
    """An offerer's: data channels to be agreed on in the descriptions (RFC 8864)."""
    codecs: tuple[sdp.CodecDescription, ...] = (sdp.OPUS, sdp.PCMU, sdp.PCMA)
    """In order of preference; a session hands payloads on, and the room above has the codecs themselves."""


def make_local_parameters(
    entropy: Entropy,
    certificate: dtls.Certificate,
    addresses: Sequence[Address],
    wishes: LocalWishes | None = None,
    public_ips: Sequence[str] = (),
    relays: Sequence[Address] = (),
) -> sdp.LocalParameters:
    """Return our side of a new call: fresh credentials, our fingerprint, a candidate for each address.

    Behind 1:1 NATs `public_ips` stand in the candidates instead of the bound addresses of their families,
    each of which has one port. A family without a public address keeps its bound ones; one that is not bound has
    none. With `relays` in front (`stack.relay`) the candidates are theirs alone: they forward to us over UDP.
    """
    wishes = wishes or LocalWishes()
    if wishes.worker is None:
        credentials = ice.IceCredentials.generate(entropy)
    else:
        credentials = ice.IceCredentials.generate_for(entropy, wishes.worker, wishes.node)
    if relays:
        candidates = _host_candidates(relays, ())
    else:
        candidates = _host_candidates(_seen_outside(addresses, public_ips), _seen_outside(wishes.tcp, public_ips))
    gathered = wishes.gathered
    if public_ips:  # a NAT that is known already
        gathered = tuple(text for text in gathered if ice.Candidate.parse(text).host not in public_ips)
    audio = None
    if wishes.audio:
        audio = sdp.LocalAudio(
            ssrc=int.from_bytes(entropy(4), "big") or 1,
            cname=entropy(8).hex(),
            codecs=wishes.codecs,
            extensions=(URI_AUDIO_LEVEL, URI_TRANSPORT_CC, URI_PLAYOUT_DELAY),
            rtcp_feedback=("nack", "transport-cc"),
            red=True,
        )
    data = None
    if wishes.data:
        data = sdp.LocalData(sctp_init=sctp.make_local_init(_ANY_ROLE, entropy), channels=wishes.channels)
    return sdp.LocalParameters(
        ice_ufrag=credentials.ufrag,
        ice_pwd=credentials.password,
        fingerprint=certificate.fingerprint(),
        session_id=int.from_bytes(entropy(8), "big") >> 2,
        candidates=(*candidates, *gathered),
        ice_lite=wishes.ice_lite,
        bases=(
            (*_host_candidates(addresses, wishes.tcp), *gathered)
            if (public_ips or relays) and not wishes.ice_lite
            else ()
        ),
        setup=wishes.setup,
        audio=audio,
        data=data,
    )


def _seen_outside(addresses: Sequence[Address], public_ips: Sequence[str]) -> Sequence[Address]:
    """Return the addresses at which 1:1 NATs let bound ones be reached; without NATs the bound ones."""
    seen: dict[Address, None] = {}  # in the order of the bound ones
    for bound in addresses:
        hosts = [host for host in public_ips if (":" in host) is bound.is_ipv6]
        if hosts and any(each.port != bound.port for each in addresses if each.is_ipv6 is bound.is_ipv6):
            raise LocalError("a public address needs one port on every local address")
        seen.update(dict.fromkeys([Address(host, bound.port) for host in hosts] or [bound]))
    return list(seen)


def _host_candidates(udp: Sequence[Address], tcp: Sequence[Address]) -> tuple[str, ...]:
    """Return the candidates of our addresses, which are the same in every answer."""
    return _made_candidates(tuple(udp), tuple(tcp))


@lru_cache(MAX_REMEMBERED)
def _made_candidates(udp: tuple[Address, ...], tcp: tuple[Address, ...]) -> tuple[str, ...]:
    candidates = [
        ice.Candidate.host_candidate(address, local_preference=65_535 - index) for index, address in enumerate(udp)
    ]
    candidates += [
        ice.Candidate.tcp_candidate(ice.TcpType.PASSIVE, address, 8191 - index)
        for index, address in enumerate(tcp)
    ]
    return tuple(candidate.serialize() for candidate in candidates)


def make_ice(
    parameters: SessionParameters,
    entropy: Entropy,
    now: Instant,
    piggyback: ice.Piggyback | None = None,
    resume_timeout: float = 0.0,
) -> ice.IceAgent | ice.LiteAgent:
    """Return the started ICE agent: lite if we said so, else full, in the role that was agreed on.

    `resume_timeout`: seconds that a lite one waits for a peer that has fallen silent.
    """
    local, agreed = parameters.local, parameters.negotiation
    credentials = ice.IceCredentials(local.ice_ufrag, local.ice_pwd)
    agent: ice.IceAgent | ice.LiteAgent
    if local.ice_lite:
        lite = ice.LiteSettings(resume_timeout=resume_timeout)
        agent = ice.LiteAgent(credentials, settings=lite, piggyback=piggyback, entropy=entropy)
    else:
        full = ice.IceSettings(renomination="renomination" in agreed.remote_ice_options)
        agent = ice.IceAgent(
            credentials, entropy, controlling=agreed.ice_controlling, settings=full, piggyback=piggyback
        )
    for text in local.bases or local.candidates:
        agent.add_local_candidate(ice.Candidate.parse(text), now)
    if (
        local.ice_lite and not agreed.remote_ice_pwd
    ):  # a ticket has made the session: no client's password is in it
        assert isinstance(agent, ice.LiteAgent)
        agent.set_remote_ufrag(agreed.remote_ice_ufrag, now)
    else:
        remote = ice.IceCredentials.parse(agreed.remote_ice_ufrag, agreed.remote_ice_pwd)
        if isinstance(agent, ice.IceAgent):
            agent.set_remote_credentials(remote, now, lite=agreed.remote_ice_lite)
        else:
            agent.set_remote_credentials(remote, now)
    for text in agreed.remote_candidates:
        try:
            agent.add_remote_candidate(ice.Candidate.parse(text), now)
        except ParseError:
            agent.counters.add(ice.DROPPED_REMOTE_CANDIDATE_MALFORMED)
    agent.start(now)
    return agent


def make_dtls(
    parameters: SessionParameters,
    certificate: dtls.Certificate,
    entropy: Entropy,
    version: dtls.Version | None = None,
    key_log: dtls.KeyLog | None = None,
) -> dtls.DtlsEndpoint:
    """Return the DTLS endpoint in our role; it accepts the certificates whose fingerprints the peer announced."""
    agreed = parameters.negotiation
    config = dtls.DtlsConfig(
        certificate,
        agreed.remote_fingerprints,
        min_version=version or dtls.Version.DTLS_1_2,
        max_version=version or dtls.Version.DTLS_1_3,
        max_timeout=MAX_DTLS_TIMEOUT,
        # Agreed on without sound too: it costs nothing, and werift gives up a call for data alone otherwise.
        srtp_profiles=SRTP_PROFILES,
        key_log=key_log,
    )
    return dtls.DtlsEndpoint(agreed.dtls_role, config, entropy)


def make_rtp(parameters: SessionParameters) -> tuple[RtpConfig, ...]:
    """Return a media section of RTP for each agreed line of sound; none without sound."""
    ours = parameters.local.audio
    return () if ours is None else tuple(_rtp_config(ours, line) for line in parameters.negotiation.audio_lines)


def _rtp_config(ours: sdp.LocalAudio, line: sdp.AudioLineParameters) -> RtpConfig:
    """Return the section of RTP of one line.

    Of a line with a section for each direction, what RTP is told but once holds in both, or it does not hold.
    """
    sent, received = line
    ids = {uri: number for uri, number in sent.extensions.items() if received.extensions.get(uri) == number}
    return RtpConfig(
        ssrc=Ssrc(ours.ssrc),
        cname=ours.cname,
        codecs=tuple(RtpCodec(each.payload_type, each.codec, each.clock_rate) for each in line.sections),
        kind=sent.kind,
        telephone_events=tuple(
            RtpCodec(each.telephone_event_payload_type, "telephone-event", each.clock_rate)
            for each in line.sections
            if each.telephone_event_payload_type is not None
        ),
        red_payload_type=sent.red_payload_type,
        extensions=ExtensionIds(
            audio_level=ids.get(URI_AUDIO_LEVEL),
            mid=ids.get(URI_MID),
            transport_sequence=ids.get(URI_TRANSPORT_CC),
            abs_send_time=ids.get(URI_ABS_SEND_TIME),
            playout_delay=ids.get(URI_PLAYOUT_DELAY),
        ),
        playout_delay=PlayoutDelay(0, 10) if URI_PLAYOUT_DELAY in ids else None,
        mid=sent.mid,
        nack=line.has_feedback("nack"),
        transport_cc=line.has_feedback("transport-cc"),
        rcvr_rtt=all(each.receiver_rtt for each in line.sections),
        reduced_size=all(each.rtcp_rsize for each in line.sections),
    )


def make_channels(parameters: SessionParameters, entropy: Entropy, now: Instant) -> sctp.DataChannels | None:
    """Return the data channels of the agreed data section, with those that are agreed on; None without one."""
    ours, agreed = parameters.local.data, parameters.negotiation.data
    if ours is None or agreed is None:
        return None
    config = sctp.SctpConfig(
        is_dtls_client=parameters.negotiation.dtls_role is DtlsRole.CLIENT,
        local_port=ours.sctp_port,
        remote_port=agreed.remote_sctp_port,
        max_message_size=ours.max_message_size,
        peer_max_message_size=agreed.remote_max_message_size,
        local_init=ours.sctp_init,
        # The answers are all that says of a peer which never checks, on a quiet channel, that it is there.
        heartbeat_interval=ice.LiteSettings().consent_timeout / 3,
    )
    channels = sctp.DataChannels(config, entropy)
    for each in agreed.channels:
        channels.open(
            each.label,
            now,
            protocol=each.subprotocol,
            ordered=each.ordered,
            max_retransmits=each.max_retransmits,
            max_lifetime_ms=each.max_lifetime_ms,
            negotiated_id=each.channel_id,
            priority=each.priority,
            by_peer=agreed.channels_by_peer,
        )
    return channels
