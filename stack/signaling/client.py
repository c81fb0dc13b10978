"""Our own client: `dial(url)` places a complete call to any server that takes an offer over HTTP.

It is the full-ICE, controlling side: it offers, sends its offer without waiting for anything, and checks the
candidates of the answer. What STUN and TURN servers find goes into the call as it comes, and is trickled to a
server that is not ICE-lite. A URL of WHIP, WHEP or OpenAI's calls is spoken to with plain SDP, any other with
JSON; one that ends in "/" is the page's, and the offer goes to `api/offer` below it.
"""

from __future__ import annotations

import asyncio
import os
import re
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
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.machine import Address
from stack.core.trace import PacketTrace
from stack.dtls import Certificate, KeyLog
from stack.ice import Candidate, TcpType, Ufrag
from stack.ice.gathering import TransportPolicy
from stack.ice.servers import IceServer
from stack.sdp import (
    ChannelMap,
    LocalParameters,
    Negotiation,
    NegotiationError,
    SessionDescription,
    accept_answer,
    create_offer,
)
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.signaling.client_http import HTTP_TIMEOUT, DialError, OfferAnswered, TokenRefused, exchange
from stack.signaling.client_ice import ClientGathering
from stack.signaling.client_watch import end_with_server
from stack.signaling.instant import FALLBACK_AFTER, InstantGrant, SavedTicket, read_saved, write_saved
from stack.voice.client import EVENTS_CHANNEL
from stack.voice.config import ConversationConfig, offered_codecs, prepare
from stack.voice.endpointing import Endpointer
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
    answer_timeout: float = HTTP_TIMEOUT
    """Seconds for the whole exchange of offer and answer."""
    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers to gather candidates from; the call does not wait for them."""
    ice_transport: TransportPolicy = TransportPolicy.ALL
    """Which candidates of ours there may be."""
    moved_from: str = ""
    """The call that this one takes the place of: its server has said `goaway`, or is silent (docs/scale.md)."""
    avoid: str = ""
    """The node that had it then (`ClientCall.node`)."""
    ticket: str | None = None
    """A file that keeps our certificate and the server's ticket for the next call (`instant.py`)."""

    def __post_init__(self) -> None:
        has_relay = any(server.turn for server in self.ice_servers)
        if self.ice_transport is TransportPolicy.RELAY and not has_relay:
            raise LocalError("calls by relay alone need a TURN server: --ice-server turn:USER:PASSWORD@HOST")


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A call that we placed; `signalling` are the milliseconds that offer and answer took, or the ticket."""

    call: Call
    signalling: dict[str, float]
    stats: Callable[[], Awaitable[CallStatistics]]
    """The call's statistics, which can still be asked for when it is over."""
    report_ice: Callable[[], Awaitable[IceReport]]
    """Which candidate pairs there are."""
    keep: Callable[[InstantGrant], None]
    """Saves a ticket for the next call that came on the channel `events`, if the call has a file for it."""
    name: str = ""
    """What its server calls it, for `DialConfig.moved_from`; empty: it has not said."""
    node: str = ""
    """Which of several machines has it, for `DialConfig.avoid`; empty: it is the only one, or none of ours."""


@asynccontextmanager
async def dial(url: str, config: DialConfig | None = None) -> AsyncIterator[ClientCall]:
    """Context: a call to the server at `url`, hung up when left. It is not connected yet: `call.wait_connected()`.

    With `config.ticket` it is placed without HTTP where the last call to the same `url` has left a ticket there,
    and it connects at once.
    A call whose media process at the server has died ends within seconds, with `EndReason.WORKER_FAILED`, where
    the server can be asked (`client_watch.py`).
    Raises `DialError` if the server cannot be reached, refuses (`TokenRefused`: 401), or answers something else;
    `LocalError` for a part of the conversation that is not there, or a file that is no saved ticket.
    """
    config = config or DialConfig()
    endpointer, saved = await asyncio.to_thread(_prepare, url, config)
    placed = await _place_by_ticket(saved, config) if saved is not None else None
    if placed is None:
        placed = await _place_by_http(url, config, saved)
    try:
        await placed.open()
        if endpointer is not None:
            placed.hosted.call.use_endpointer(endpointer)
        yield ClientCall(
            placed.hosted.call, placed.signalling, placed.hosted.stats, placed.report_ice, placed.keep,
            placed.name, placed.node,
        )  # fmt: skip
    finally:
        await placed.close()


def _prepare(url: str, config: DialConfig) -> tuple[Endpointer | None, SavedTicket | None]:
    """Load what is chosen by name, and what was kept of the last call."""
    endpointer = prepare(config.conversation)
    return endpointer, read_saved(config.ticket).towards(url) if config.ticket is not None else None


class _Side:
    """Our side of a call to be: sockets, media, certificate, and an offer."""

    def __init__(self, sockets: UdpSockets, config: DialConfig, saved: SavedTicket | None) -> None:
        self.local_host = sockets.addresses[0].host
        if saved is not None:
            certificate = saved.own_certificate
        else:
            certificate = Certificate.generate(os.urandom, datetime.now(UTC))
        self.local = _local_parameters(config, certificate, sockets.addresses)
        self.offer = create_offer(self.local, audio=config.audio, data=config.data)
        self.table, self.gathering = CallTable(), ClientGathering(config.ice_servers)
        settled = MediaConfig(certificate, config.conversation, trace=config.trace, key_log=config.key_log)
        self.media = ThreadMedia(settled, self.table, sockets)
        # While the server answers, so that the first check leaves as soon as the answer is there.
        self._starting = asyncio.create_task(self._start(config), name="media of a client")

    async def _start(self, config: DialConfig) -> None:
        await self.media.start(ClientSetup(config.ice_transport, self.gathering.on_found, config.insecure))
        self.gathering.ask(self.media)

    def accept(self, answer: str) -> Negotiation:
        """Return what was agreed on; raises `ParseError` or `NegotiationError`."""
        return accept_answer(self.offer, SessionDescription.parse(answer), self.local)

    async def started(self) -> None:
        """Wait until there is a media side."""
        await self._starting

    async def close(self) -> None:
        """Stop the media side, and close the sockets."""
        await asyncio.wait({self._starting})
        await self.gathering.close()
        await self.media.stop()


class _Placed:
    """A call with an answer. `began` is when it was asked for, by `time.monotonic`."""

    def __init__(
        self, side: _Side, answer: OfferAnswered, began: float, path: str | None, saved: SavedTicket | None
    ) -> None:
        self.signalling: dict[str, float] = {}
        self.hosted = HostedCall(side.table, side.media)
        self._side = side
        self._answer = answer
        self._began = began
        self._path = path
        self._saved = saved
        self._negotiation = side.accept(answer.sdp)
        self._is_open = False
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin, once."""
        if self._is_open:
            return
        self._is_open = True
        side, agreed = self._side, self._negotiation
        await side.started()
        # All steps count from where the call was asked for.
        await self.hosted.open(SessionParameters(side.local, agreed), offered=self._began)
        side.gathering.resolve_remote(agreed.remote_candidates, self.hosted, side.local_host)
        if self._answer.trickle is not None and not agreed.remote_ice_lite:
            side.gathering.trickle(self._answer.trickle)
        if self._answer.ask is not None:
            watch = end_with_server(self.hosted, self._answer.ask)
            self._watching = asyncio.create_task(watch, name="watch of a client")

    @property
    def name(self) -> str:
        """What its server calls it."""
        return self._answer.name

    @property
    def node(self) -> str:
        """Which node of ours has it: it stands in the username fragment."""
        if not self.name:
            return ""
        try:
            return Ufrag.parse(self._negotiation.remote_ice_ufrag).node
        except ParseError:
            return ""

    async def report_ice(self) -> IceReport:
        """Return which candidate pairs there are."""
        return await self._side.media.execute(ReportIce())

    def keep(self, grant: InstantGrant) -> None:
        """Save a ticket for the next call."""
        if self._path is not None and self._saved is not None:
            write_saved(self._path, self._saved.granted(self._answer.sdp, grant))

    def forget(self) -> None:
        """The server grants no tickets any more: none is left in the file."""
        if self._path is not None and self._saved is not None and self._saved.grant is not None:
            write_saved(self._path, self._saved.forgotten())

    async def close(self) -> None:
        """Hang up and close the sockets."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        try:
            if self._is_open:
                self.hosted.call.hang_up()
                await asyncio.wait_for(self.hosted.call.wait_ended(), HANG_UP_TIMEOUT)
        finally:
            await self._side.close()


async def _place_by_http(url: str, config: DialConfig, saved: SavedTicket | None) -> _Placed:
    began = time.monotonic()
    side = _make_side(_bind_towards(url), config, saved)
    try:
        offered = time.monotonic()
        answer = await exchange(url, side.offer.serialize(), config)
        answered = time.monotonic()
        try:
            placed = _Placed(side, answer, began, config.ticket, saved)
        except (ParseError, NegotiationError) as error:
            raise DialError(f"the answer of {url} is no use: {error}") from error
        placed.signalling["offer"] = round((offered - began) * 1e3, 3)
        placed.signalling["answer"] = round((answered - began) * 1e3, 3)
        if answer.instant is not None:
            placed.keep(answer.instant)
        else:
            placed.forget()
        return placed
    except BaseException:
        await side.close()
        raise


async def _place_by_ticket(saved: SavedTicket, config: DialConfig) -> _Placed | None:
    """Return a call that the ticket of the last one has connected; None if there is none, or it did not soon."""
    began = time.monotonic()
    answer = saved.make_answer()
    server = _media_address(answer) if answer is not None else None
    if answer is None or server is None or config.ice_transport not in (TransportPolicy.ALL, TransportPolicy.UDP):
        return None
    try:
        sockets = bind_all([_local_address_towards(*server)], 0)
    except (OSError, OverflowError, LocalError):  # no address, or one that this machine does not reach
        return None
    side = _make_side(sockets, config, saved)
    await asyncio.sleep(0)  # so that the media side starts beside what follows
    try:
        placed = _Placed(side, OfferAnswered(answer, None), began, config.ticket, saved)
    except (ParseError, NegotiationError):  # an offer of another shape than that of the last call
        await side.close()
        return None
    except BaseException:
        await side.close()
        raise
    placed.signalling["ticket"] = round((time.monotonic() - began) * 1e3, 3)
    try:
        await placed.open()
        await asyncio.wait_for(placed.hosted.call.wait_connected(), FALLBACK_AFTER)
    except (StackError, TimeoutError):
        await placed.close()
        return None
    except BaseException:
        await placed.close()
        raise
    return placed


def _make_side(sockets: UdpSockets, config: DialConfig, saved: SavedTicket | None) -> _Side:
    try:
        return _Side(sockets, config, saved)
    except BaseException:
        sockets.close()
        raise


def _media_address(answer: str) -> tuple[str, int] | None:
    """Return the first address of an answer's candidates."""
    found = re.search(r"^a=candidate:\S+ 1 udp \d+ ([0-9a-fA-F.:]+) (\d+) ", answer, re.MULTILINE)
    return (found[1], int(found[2])) if found is not None else None


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
        return bind_all([_local_address_towards(parts.hostname, port)], 0)
    except (OSError, ValueError) as error:
        raise DialError(f"cannot reach {parts.hostname}: {error}") from error


def _local_address_towards(host: str, port: int) -> str:
    target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(target[0], socket.SOCK_DGRAM) as probe:
        probe.connect(target[4])  # sends nothing: it asks the routing table
        address: str = probe.getsockname()[0]
        return address


__all__ = ["ClientCall", "DialConfig", "DialError", "TokenRefused", "dial"]
