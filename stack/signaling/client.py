"""Our own client: `dial(url)` places a complete call to any server that takes an offer over HTTP.

It is the full-ICE, controlling side: it offers, sends its offer without waiting for anything, and checks the
candidates of the answer. What STUN and TURN servers find goes into the call as it comes, and is trickled to a
server that is not ICE-lite. A URL of WHIP, WHEP or OpenAI's calls is spoken to with plain SDP, any other with
JSON; one that ends in "/" is the page's, and the offer goes to `api/offer` below it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from stack.aio import Call, CallTable, HostedCall, MediaConfig, ThreadMedia
from stack.aio.client_media import ClientSetup, IceReport, ReportIce
from stack.aio.udp import UdpSockets, bind_all
from stack.core.errors import ParseError
from stack.core.machine import Address
from stack.core.trace import PacketTrace
from stack.dtls import Certificate, KeyLog
from stack.ice import Candidate, TcpType
from stack.ice.gathering import TransportPolicy
from stack.ice.servers import IceServer
from stack.sdp import (
    ChannelMap,
    LocalParameters,
    NegotiationError,
    SessionDescription,
    accept_answer,
    create_offer,
)
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.signaling.client_http import DialError, TokenRefused, exchange
from stack.signaling.client_ice import ClientGathering
from stack.signaling.client_watch import end_with_server
from stack.voice.client import EVENTS_CHANNEL
from stack.voice.config import ConversationConfig, offered_codecs, prepare
from stack.voice.statistics import CallStatistics

HANG_UP_TIMEOUT = 2.0
"""Seconds that leaving a call may take."""


@dataclass(frozen=True, slots=True)
class DialConfig:
    """What the client offers; `trace` sees every datagram, `key_log` the secrets of its DTLS."""

    conversation: ConversationConfig = field(default_factory=ConversationConfig)
    audio: bool = True
    data: bool = True
    channels: tuple[ChannelMap, ...] = (ChannelMap(0, EVENTS_CHANNEL),)
    """Data channels for the descriptions to agree on: open a round trip earlier, if the server knows RFC 8864."""
    trace: PacketTrace | None = None
    key_log: KeyLog | None = None
    token: str | None = field(default=None, repr=False)
    """A bearer token for the server."""
    insecure: bool = False
    """Take any certificate of an HTTPS server: an attacker on the way may then read and change the offer."""
    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers to gather candidates from; the call does not wait for them."""
    ice_transport: TransportPolicy = TransportPolicy.ALL
    """Which candidates of ours there may be."""


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A call that we placed; `signalling` are the milliseconds that offer and answer took."""

    call: Call
    signalling: dict[str, float]
    stats: Callable[[], Awaitable[CallStatistics]]
    """The call's statistics, which can still be asked for when it is over."""
    report_ice: Callable[[], Awaitable[IceReport]]
    """Which candidate pairs there are."""


@asynccontextmanager
async def dial(url: str, config: DialConfig | None = None) -> AsyncIterator[ClientCall]:
    """Context: a call to the server at `url`, hung up when left. It is not connected yet: `call.wait_connected()`.

    A call whose media process at the server has died ends within seconds, with `EndReason.WORKER_FAILED`, where
    the server can be asked (`client_watch.py`).
    Raises `DialError` if the server cannot be reached, refuses (`TokenRefused`: 401), or answers something else;
    `LocalError` for a part of the conversation that is not there.
    """
    config = config or DialConfig()
    endpointer = await asyncio.to_thread(prepare, config.conversation)
    began = time.monotonic()
    sockets = _bind_towards(url)
    local_host = sockets.addresses[0].host
    certificate = Certificate.generate(os.urandom, datetime.now(UTC))
    table, gathering = CallTable(), ClientGathering(config.ice_servers)
    settled = MediaConfig(certificate, config.conversation, trace=config.trace, key_log=config.key_log)
    media = ThreadMedia(settled, table, sockets)
    hosted: HostedCall | None = None
    watching: asyncio.Task[None] | None = None
    # While the server answers, so that the first check leaves as soon as the answer is there.
    starting = asyncio.create_task(_start(media, config, gathering), name="media of a client")
    try:
        local = _local_parameters(config, certificate, sockets.addresses)
        offer = create_offer(local, audio=config.audio, data=config.data)
        offered = time.monotonic()
        answer = await exchange(url, offer.serialize(), config)
        answered = time.monotonic()
        try:
            negotiation = accept_answer(offer, SessionDescription.parse(answer.sdp), local)
        except (ParseError, NegotiationError) as error:
            raise DialError(f"the answer of {url} is no use: {error}") from error
        signalling = {"offer": round((offered - began) * 1e3, 3), "answer": round((answered - began) * 1e3, 3)}
        await starting
        hosted = HostedCall(table, media, SessionParameters(local, negotiation))
        await hosted.open(offered=began)  # so that all steps count from there
        gathering.resolve_remote(negotiation.remote_candidates, hosted, local_host)
        if answer.trickle is not None and not negotiation.remote_ice_lite:
            gathering.trickle(answer.trickle)
        if endpointer is not None:
            hosted.call.use_endpointer(endpointer)
        if answer.ask is not None:
            watching = asyncio.create_task(end_with_server(hosted, answer.ask), name="watch of a client")
        yield ClientCall(hosted.call, signalling, hosted.stats, lambda: media.execute(ReportIce()))
    finally:
        await asyncio.wait({starting})
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})
        await gathering.close()
        try:
            if hosted is not None:
                hosted.call.hang_up()
                await asyncio.wait_for(hosted.call.wait_ended(), HANG_UP_TIMEOUT)
        finally:
            await media.stop()


async def _start(media: ThreadMedia, config: DialConfig, gathering: ClientGathering) -> None:
    await media.start(ClientSetup(config.ice_transport, gathering.on_found, config.insecure))
    gathering.ask(media)


def _local_parameters(
    config: DialConfig, certificate: Certificate, addresses: Sequence[Address]
) -> LocalParameters:
    """Return our side, with the candidates that are known at once and that the policy wants."""
    policy = config.ice_transport
    udp = addresses if policy in (TransportPolicy.ALL, TransportPolicy.UDP) else ()
    tcp = addresses if policy in (TransportPolicy.ALL, TransportPolicy.TCP) else ()
    wishes = LocalWishes(audio=config.audio, data=config.data, codecs=offered_codecs(), channels=config.channels)
    local = make_local_parameters(os.urandom, certificate, udp, wishes)
    active = tuple(
        Candidate.tcp_candidate(TcpType.ACTIVE, address, 8191 - number).serialize()
        for number, address in enumerate(tcp)
    )
    return replace(
        local,
        candidates=local.candidates + active,
        end_of_candidates=not config.ice_servers,
        ice_options=(*local.ice_options, "renomination"),
    )


def _bind_towards(url: str) -> UdpSockets:
    """Bind a socket on the local address from which the server's HTTP host would be reached."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DialError(f"{url!r} is not an http:// or https:// address")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        target = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(target[0], socket.SOCK_DGRAM) as probe:
            probe.connect(target[4])  # sends nothing: it asks the routing table
            return bind_all([probe.getsockname()[0]], 0)
    except (OSError, ValueError) as error:
        raise DialError(f"cannot reach {parts.hostname}: {error}") from error


__all__ = ["ClientCall", "DialConfig", "DialError", "TokenRefused", "dial"]
