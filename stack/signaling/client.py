"""Our own client: `dial(url)` places a complete call to any server that takes an offer over HTTP.

It is the full-ICE, controlling side: it offers, sends its offer without waiting for anything, and checks the
candidates of the answer. A URL of WHIP, WHEP or OpenAI's calls is spoken to with plain SDP, any other with JSON;
one that ends in "/" is the page's, and the offer goes to `api/offer` below it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit

import aiohttp

from stack.aio import Call, HostedCall, MediaSide
from stack.aio.udp import UdpSockets, bind_all
from stack.core.errors import ParseError, StackError
from stack.core.trace import PacketTrace
from stack.dtls import Certificate, KeyLog
from stack.sdp import NegotiationError, SessionDescription, accept_answer, create_offer
from stack.session import LocalWishes, SessionParameters, make_local_parameters
from stack.voice.config import ConversationConfig, offered_codecs, prepare
from stack.voice.statistics import CallStatistics

HTTP_TIMEOUT = 15.0
"""Seconds for the whole exchange of offer and answer."""
HANG_UP_TIMEOUT = 2.0
"""Seconds that leaving a call may take."""


class DialError(StackError):
    """The call could not be placed; the message is fit to be shown."""


@dataclass(frozen=True, slots=True)
class DialConfig:
    """What the client offers; `trace` sees every datagram, `key_log` the secrets of its DTLS."""

    conversation: ConversationConfig = field(default_factory=ConversationConfig)
    audio: bool = True
    data: bool = True
    trace: PacketTrace | None = None
    key_log: KeyLog | None = None


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

    Raises `DialError` if the server cannot be reached, refuses, or answers with something else;
    `LocalError` for a part of the conversation that is not there.
    """
    config = config or DialConfig()
    endpointer = await asyncio.to_thread(prepare, config.conversation)
    began = time.monotonic()
    sockets = _bind_towards(url)
    try:
        certificate = Certificate.generate(os.urandom, datetime.now(UTC))
        wishes = LocalWishes(audio=config.audio, data=config.data, codecs=offered_codecs())
        local = make_local_parameters(os.urandom, certificate, sockets.addresses, wishes)
        offer = create_offer(local, audio=config.audio, data=config.data)
        offered = time.monotonic()
        text = await _exchange(url, offer.serialize())
        answered = time.monotonic()
        try:
            negotiation = accept_answer(offer, SessionDescription.parse(text), local)
        except (ParseError, NegotiationError) as error:
            raise DialError(f"the answer of {url} is no use: {error}") from error
    except BaseException:
        sockets.close()
        raise
    signalling = {"offer": round((offered - began) * 1e3, 3), "answer": round((answered - began) * 1e3, 3)}
    media = MediaSide(config.key_log)
    hosted = HostedCall(media, SessionParameters(local, negotiation), certificate, config.conversation)
    try:
        await hosted.open_alone(sockets, config.trace)
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
        port = parts.port or 80
        target = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(target[0], socket.SOCK_DGRAM) as probe:
            probe.connect(target[4])  # sends nothing: it asks the routing table
            return bind_all([probe.getsockname()[0]], 0)
    except (OSError, ValueError) as error:
        raise DialError(f"cannot reach {parts.hostname}: {error}") from error


async def _exchange(url: str, offer: str) -> str:
    """Post the offer and return the answer."""
    path = urlsplit(url).path
    plain = path.rstrip("/").endswith(("/whip", "/whep", "/v1/realtime/calls"))
    # a URL that ends in "/" is a page's, perhaps below a prefix: its offers go where the page sends them
    target = urljoin(url, "api/offer") if path[-1:] in ("", "/") else url
    timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            if plain:
                request = session.post(target, data=offer.encode(), headers={"Content-Type": "application/sdp"})
            else:
                request = session.post(target, json={"sdp": offer, "type": "offer"})
            async with request as response:
                body = await response.text()
                if response.status >= 400:
                    raise DialError(f"{target} refused the call: {response.status} {_message(body)}")
                return body if plain else _sdp_of(body, target)
    except TimeoutError as error:
        raise DialError(f"{target} did not answer within {HTTP_TIMEOUT:g} s") from error
    except (aiohttp.ClientError, UnicodeDecodeError) as error:
        raise DialError(f"cannot reach {target}: {error}") from error


def _sdp_of(body: str, target: str) -> str:
    try:
        sdp = json.loads(body)["sdp"]
    except (ValueError, KeyError, TypeError) as error:
        raise DialError(f"{target} answered something that is no SDP answer") from error
    if not isinstance(sdp, str):
        raise DialError(f"{target} answered something that is no SDP answer")
    return sdp


def _message(body: str) -> str:
    """Return what a refusal says, on one line and not for ever."""
    return " ".join(body.split())[:300]


__all__ = ["ClientCall", "DialConfig", "DialError", "dial"]
