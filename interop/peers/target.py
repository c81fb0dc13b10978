"""A server of other people, known by its URL alone: it is offered a call over HTTP.

A URL that ends in `/whip`, `/whep` or `/v1/realtime/calls` is spoken to with plain SDP (RFC 9725 §4.2), any other
with JSON `{sdp, type}`; of one that ends in `/` the offer goes to `api/offer` below it, as our own client does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import aiohttp

from interop.evidence import Side
from interop.peers.base import End, EndError, Needs, Peer, Traits, UnsupportedError, Wishes
from interop.sound import Samples

PLAIN = ("/whip", "/whep", "/v1/realtime/calls")
HTTP_TIMEOUT = 15.0


class TargetEnd(End):
    """One call of a server. What it hears it cannot be asked."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self._url = urljoin(url, "api/offer") if urlsplit(url).path in ("", "/") else url
        self._is_plain = any(part in urlsplit(url).path for part in PLAIN)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = ""

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        if wishes.dtls or wishes.setup:
            raise UnsupportedError("a server that is known by its URL cannot be told its part of DTLS")
        try:
            if self._is_plain:
                headers = {**self._headers, "Content-Type": "application/sdp"}
                request = self._http.post(self._url, data=sdp.encode(), headers=headers)
            else:
                request = self._http.post(self._url, json={"sdp": sdp, "type": "offer"}, headers=self._headers)
            async with request as response:
                body = await response.text()
                if response.status >= 400:
                    raise EndError(f"{self._url} answers {response.status}: {' '.join(body.split())[:200]}")
                self._session = urljoin(self._url, response.headers.get("Location", ""))
                answer = body if self._is_plain else (await response.json())["sdp"]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise EndError(f"{self._url} gave no answer: {error or 'it took too long'}") from error
        return str(answer)

    async def hang_up(self) -> None:
        """End the session over HTTP (RFC 9725 §4.2), if there is one."""
        if self._session and self._session != self._url:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.delete(self._session, headers=self._headers):
                    pass

    async def connected(self) -> None:
        return

    async def listen(self, seconds: float) -> tuple[Samples, int] | None:
        return None

    async def offer(self, wishes: Wishes) -> str:
        raise UnsupportedError("a server makes no offer")

    async def answer(self, sdp: str) -> None:
        raise UnsupportedError("a server takes no answer")

    async def send(self, message: str | bytes) -> None:
        raise UnsupportedError("a server that is known by its URL cannot be told to send")

    async def receive(self) -> str | bytes:
        raise UnsupportedError("a server that is known by its URL does not say what it received")

    async def wait_ended(self) -> None:
        raise UnsupportedError("a server that is known by its URL does not say that it noticed the end")


@dataclass
class Target(Peer):
    """A server by its URL. `echoes`: it returns sound and messages, and is held to that."""

    url: str
    echoes: bool = False
    token: str = ""
    name: str = "target"
    needs: Needs = field(default_factory=lambda: Needs("a URL"))
    sides: tuple[Side, ...] = ("server",)

    def __post_init__(self) -> None:
        self.traits = Traits(echoes=self.echoes, can_be_asked=False)

    def why_absent(self) -> str | None:
        return None

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            end = TargetEnd(http, self.url, self.token)
            try:
                yield end
            finally:
                await end.hang_up()
