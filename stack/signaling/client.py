"""Our own client: `dial(url)` places a complete call to any server that takes an offer over HTTP.

It is the full-ICE, controlling side: it offers, sends its offer without waiting for anything, and checks the
candidates of the answer. A URL of WHIP, WHEP or OpenAI's calls is spoken to with plain SDP, any other with JSON;
one that ends in "/" is the page's, and the offer goes to `api/offer` below it.
"""

from __future__ import annotations

import asyncio
import os
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
from stack.sdp import ChannelMap, NegotiationError, SessionDescription, accept_answer, create_offer
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.voice.client import EVENTS_CHANNEL
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
    channels: tuple[ChannelMap, ...] = (ChannelMap(0, EVENTS_CHANNEL),)
    """Data channels for the descriptions to agree on: open a round trip earlier, if the server knows RFC 8864."""
    trace: PacketTrace | None = None
    key_log: KeyLog | None = None
    token: str | None = field(default=None, repr=False)
    """A bearer token for the server."""
    insecure: bool = False
    """Take any certificate of an HTTPS server: an attacker on the way may then read and change the offer."""


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A call that we placed; `signalling` are the milliseconds that offer and answer took."""

    call: Call
    signalling: dict[str, float]
    stats: Callable[[], Awaitable[CallStatistics]]
    """The call's statistics, which can still be asked for when it is over."""


@asynccontextmanager
async def dial(url: str, config: DialConfig | None = None) -> AsyncIterator[ClientCall]:
    """Context: a call to the server at `url`, hung up when left. It is not connected yet: `call.wait_connected()`.

    Raises `DialError` if the server cannot be reached, refuses (`TokenRefused`: 401), or answers something else;
    `LocalError` for a part of the conversation that is not there.
    """
    config = config or DialConfig()
    endpointer = await asyncio.to_thread(prepare, config.conversation)
    began = time.monotonic()
    sockets = _bind_towards(url)
    certificate = Certificate.generate(os.urandom, datetime.now(UTC))
    table = CallTable()
    settled = MediaConfig(certificate, config.conversation, trace=config.trace, key_log=config.key_log)
    media = ThreadMedia(settled, table, sockets)
    # While the server answers, so that the first check leaves as soon as the answer is there.
    starting = asyncio.create_task(media.start(one_call), name="media of a client")
    try:
        wishes = LocalWishes(
            audio=config.audio, data=config.data, codecs=offered_codecs(), channels=config.channels
        )
        local = make_local_parameters(os.urandom, certificate, sockets.addresses, wishes)
        offer = create_offer(local, audio=config.audio, data=config.data)
        offered = time.monotonic()
        text = await _exchange(url, offer.serialize(), config)
        answered = time.monotonic()
        try:
            negotiation = accept_answer(offer, SessionDescription.parse(text), local)
        except (ParseError, NegotiationError) as error:
            raise DialError(f"the answer of {url} is no use: {error}") from error
    except BaseException:
        await starting
        await media.stop()
        raise
    signalling = {"offer": round((offered - began) * 1e3, 3), "answer": round((answered - began) * 1e3, 3)}
    hosted = HostedCall(table, media, SessionParameters(local, negotiation))
    try:
        await starting
        await hosted.open(offered=began)  # so that all steps count from there
        if endpointer is not None:
            hosted.call.use_endpointer(endpointer)
        yield ClientCall(hosted.call, signalling, hosted.stats)
    finally:
        hosted.call.hang_up()
        try:
            await asyncio.wait_for(hosted.call.wait_ended(), HANG_UP_TIMEOUT)
        finally:
            await media.stop()


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


async def _exchange(url: str, offer: str, config: DialConfig) -> str:
    """Post the offer and return the answer."""
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
                return body if plain else _sdp_of(body, target)
    except TimeoutError as error:
        raise DialError(f"{target} did not answer within {HTTP_TIMEOUT:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        raise DialError(f"the certificate of {target} is not trusted: {reason}") from error
    except (aiohttp.ClientError, UnicodeDecodeError, ValueError) as error:
        raise DialError(f"cannot reach {target}: {error}") from error


def _sdp_of(body: str, target: str) -> str:
    try:
        sdp = read_json_object(body, MAX_ANSWER)["sdp"]
    except (ParseError, KeyError) as error:
        raise DialError(f"{target} answered something that is no SDP answer") from error
    if not isinstance(sdp, str):
        raise DialError(f"{target} answered something that is no SDP answer")
    return sdp


def _message(body: str) -> str:
    """Return what a refusal says, on one line and not for ever; our servers say it as `{"error": …}`."""
    with suppress(ParseError, KeyError):
        body = str(read_json_object(body, MAX_ANSWER)["error"])
    return " ".join(body.split())[:300]


__all__ = ["ClientCall", "DialConfig", "DialError", "TokenRefused", "dial"]
