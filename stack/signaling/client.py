"""Our own client: `dial(url)` places a complete call to any server that takes an offer over HTTP.

It is the full-ICE, controlling side: it offers, sends its offer without waiting for anything, and checks the
candidates of the answer. A URL of WHIP, WHEP or OpenAI's calls is spoken to with plain SDP, any other with JSON;
one that ends in "/" is the page's, and the offer goes to `api/offer` below it.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit

import aiohttp

from stack.aio import Call, CallTable, HostedCall, MediaConfig, ThreadMedia
from stack.aio.media import one_call
from stack.aio.udp import UdpSockets, bind_all
from stack.core.errors import ParseError, StackError
from stack.core.trace import PacketTrace
from stack.core.values import read_json_object
from stack.dtls import Certificate, KeyLog
from stack.sdp import Negotiation, NegotiationError, SessionDescription, accept_answer, create_offer
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.signaling.instant import FALLBACK_AFTER, InstantGrant, SavedTicket, read_saved, write_saved
from stack.voice.config import ConversationConfig, offered_codecs, prepare
from stack.voice.statistics import CallStatistics

HTTP_TIMEOUT = 15.0
"""Seconds for the whole exchange of offer and answer."""
HANG_UP_TIMEOUT = 2.0
"""Seconds that leaving a call may take."""

MAX_ANSWER = 1 << 20
"""Characters of an answer in JSON."""


class DialError(StackError):
    """The call could not be placed; the message is fit to be shown."""


class TokenRefused(DialError):
    """The server wants a bearer token, and this was none or the wrong one (401)."""


@dataclass(frozen=True, slots=True)
class DialConfig:
    """What the client offers; `trace` sees every datagram, `key_log` the secrets of its DTLS."""

    conversation: ConversationConfig = field(default_factory=ConversationConfig)
    audio: bool = True
    data: bool = True
    trace: PacketTrace | None = None
    key_log: KeyLog | None = None
    token: str | None = field(default=None, repr=False)
    """A bearer token for the server."""
    insecure: bool = False
    """Take any certificate of an HTTPS server: an attacker on the way may then read and change the offer."""
    ticket: str | None = None
    """A file that keeps our certificate and the server's ticket for the next call (`instant.py`)."""


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A call that we placed; `signalling` are the milliseconds that offer and answer took, or the ticket."""

    call: Call
    signalling: dict[str, float]
    stats: Callable[[], Awaitable[CallStatistics]]
    """The call's statistics, which can still be asked for when it is over."""
    keep: Callable[[InstantGrant], None]
    """Saves a ticket for the next call that came on the channel `events`, if the call has a file for it."""


@asynccontextmanager
async def dial(url: str, config: DialConfig | None = None) -> AsyncIterator[ClientCall]:
    """Context: a call to the server at `url`, hung up when left. It is not connected yet: `call.wait_connected()`.

    With `config.ticket` it is placed without HTTP where the last call has left a ticket there, and it connects at
    once.
    Raises `DialError` if the server cannot be reached, refuses (`TokenRefused`: 401), or answers something else;
    `LocalError` for a part of the conversation that is not there, or a file that is no saved ticket.
    """
    config = config or DialConfig()
    endpointer = await asyncio.to_thread(prepare, config.conversation)
    saved = await asyncio.to_thread(read_saved, config.ticket) if config.ticket is not None else None
    placed = await _place_by_ticket(saved, config) if saved is not None else None
    if placed is None:
        placed = await _place_by_http(url, config, saved)
    try:
        await placed.open()
        if endpointer is not None:
            placed.hosted.call.use_endpointer(endpointer)
        yield ClientCall(placed.hosted.call, placed.signalling, placed.hosted.stats, placed.keep)
    finally:
        await placed.close()


class _Placed:
    """A call with an answer: its sockets and its media side."""

    def __init__(
        self,
        side: _Side,
        answer: str,
        config: DialConfig,
        signalling: dict[str, float],
        saved: SavedTicket | None,
    ) -> None:
        self.signalling = signalling
        self._answer = answer
        self._saved = saved
        self._path = config.ticket
        self._parameters = SessionParameters(side.local, side.accept(answer))
        table = CallTable()
        settled = MediaConfig(side.certificate, config.conversation, trace=config.trace, key_log=config.key_log)
        self._media = ThreadMedia(settled, table, side.sockets)
        self.hosted = HostedCall(table, self._media)
        self._is_open = False

    async def open(self) -> None:
        """Begin, once."""
        if not self._is_open:
            self._is_open = True
            await self._media.start(one_call)
            await self.hosted.open(self._parameters)

    def keep(self, grant: InstantGrant) -> None:
        """Save a ticket for the next call."""
        if self._path is not None and self._saved is not None:
            write_saved(self._path, self._saved.granted(self._answer, grant))

    async def close(self) -> None:
        """Hang up and close the sockets."""
        self.hosted.call.hang_up()
        try:
            if self._is_open:
                await asyncio.wait_for(self.hosted.call.wait_ended(), HANG_UP_TIMEOUT)
        finally:
            await self._media.stop()


class _Side:
    """Our side of a call to be: sockets, certificate, and an offer."""

    def __init__(self, sockets: UdpSockets, config: DialConfig, saved: SavedTicket | None) -> None:
        self.sockets = sockets
        if saved is not None:
            self.certificate = saved.own_certificate
        else:
            self.certificate = Certificate.generate(os.urandom, datetime.now(UTC))
        wishes = LocalWishes(audio=config.audio, data=config.data, codecs=offered_codecs())
        self.local = make_local_parameters(os.urandom, self.certificate, sockets.addresses, wishes)
        self.offer = create_offer(self.local, audio=config.audio, data=config.data)

    def accept(self, answer: str) -> Negotiation:
        """Return what was agreed on; raises `ParseError` or `NegotiationError`."""
        return accept_answer(self.offer, SessionDescription.parse(answer), self.local)


async def _place_by_http(url: str, config: DialConfig, saved: SavedTicket | None) -> _Placed:
    began = time.monotonic()
    sockets = _bind_towards(url)
    try:
        side = _Side(sockets, config, saved)
        offered = time.monotonic()
        text, grant = await _exchange(url, side.offer.serialize(), config)
        answered = time.monotonic()
        signalling = {"offer": round((offered - began) * 1e3, 3), "answer": round((answered - began) * 1e3, 3)}
        try:
            placed = _Placed(side, text, config, signalling, saved)
        except (ParseError, NegotiationError) as error:
            raise DialError(f"the answer of {url} is no use: {error}") from error
        if grant is not None:
            placed.keep(grant)
        return placed
    except BaseException:
        sockets.close()
        raise


async def _place_by_ticket(saved: SavedTicket, config: DialConfig) -> _Placed | None:
    """Return a call that the ticket of the last one has connected; None if there is none, or it did not soon."""
    began = time.monotonic()
    answer = saved.make_answer()
    server = _media_address(answer) if answer is not None else None
    if answer is None or server is None:
        return None
    sockets = bind_all([_local_address_towards(*server)], 0)
    try:
        side = _Side(sockets, config, saved)
        placed = _Placed(side, answer, config, {"ticket": round((time.monotonic() - began) * 1e3, 3)}, saved)
    except (ParseError, NegotiationError):  # an offer of another shape than that of the last call
        sockets.close()
        return None
    except BaseException:
        sockets.close()
        raise
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


def _media_address(answer: str) -> tuple[str, int] | None:
    """Return the first address of an answer's candidates."""
    found = re.search(r"^a=candidate:\S+ 1 udp \d+ ([0-9a-fA-F.:]+) (\d+) ", answer, re.MULTILINE)
    return (found[1], int(found[2])) if found is not None else None


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


async def _exchange(url: str, offer: str, config: DialConfig) -> tuple[str, InstantGrant | None]:
    """Post the offer and return the answer, and a ticket for the next call if there is one."""
    path = urlsplit(url).path
    plain = path.rstrip("/").endswith(("/whip", "/whep", "/v1/realtime/calls"))
    # a URL that ends in "/" is a page's, perhaps below a prefix: its offers go where the page sends them
    target = urljoin(url, "api/offer") if path[-1:] in ("", "/") else url
    timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT)
    headers = {} if config.token is None else {"Authorization": f"Bearer {config.token}"}
    connector = aiohttp.TCPConnector(ssl=not config.insecure)
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector) as session:
            if plain:
                request = session.post(target, data=offer.encode(), headers={"Content-Type": "application/sdp"})
            else:
                request = session.post(target, json={"sdp": offer, "type": "offer"})
            async with request as response:
                body = await response.text()
                if response.status == 401:
                    raise TokenRefused(f"{target} refused the call: 401 {_message(body)}")
                if response.status >= 400:
                    raise DialError(f"{target} refused the call: {response.status} {_message(body)}")
                return (body, None) if plain else _read_answer(body, target)
    except TimeoutError as error:
        raise DialError(f"{target} did not answer within {HTTP_TIMEOUT:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        raise DialError(f"the certificate of {target} is not trusted: {reason}") from error
    except (aiohttp.ClientError, UnicodeDecodeError, ValueError) as error:
        raise DialError(f"cannot reach {target}: {error}") from error


def _read_answer(body: str, target: str) -> tuple[str, InstantGrant | None]:
    try:
        answer = read_json_object(body, MAX_ANSWER)
        sdp = answer["sdp"]
    except (ParseError, KeyError) as error:
        raise DialError(f"{target} answered something that is no SDP answer") from error
    if not isinstance(sdp, str):
        raise DialError(f"{target} answered something that is no SDP answer")
    return sdp, InstantGrant.read(answer.get("instant"))


def _message(body: str) -> str:
    """Return what a refusal says, on one line and not for ever; our servers say it as `{"error": …}`."""
    with suppress(ParseError, KeyError):
        body = str(read_json_object(body, MAX_ANSWER)["error"])
    return " ".join(body.split())[:300]


__all__ = ["ClientCall", "DialConfig", "DialError", "TokenRefused", "dial"]
