"""A server of other people, known by its URL alone: it is offered a call over HTTP.

A URL that ends in `/whip`, `/whep` or `/v1/realtime/calls` is spoken to with plain SDP (RFC 9725 §4.2), any other
with JSON `{sdp, type}`; of one that ends in `/` the offer goes to `api/offer` below it, as our own client does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urljoin, urlsplit

import aiohttp

from interop.evidence import Side
from interop.peers.base import End, EndError, Needs, Peer, Traits, UnsupportedError, Wishes
from interop.rewriting import candidate_lines, first_value
from interop.sound import Samples

PLAIN = ("/whip", "/whep", "/v1/realtime/calls")
HTTP_TIMEOUT = 15.0
Echoes = Literal["", "sound", "all"]
"""What a server is said to return."""


class TargetEnd(End):
    """One call of a server. What it hears it cannot be asked."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self._url = urljoin(url, "api/offer") if urlsplit(url).path in ("", "/") else url
        self._is_plain = any(part in urlsplit(url).path for part in PLAIN)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = ""
        self._tag = ""
        self._offer = self._answer = ""

    def _has_no(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"a server that is known by its URL cannot be told to {what}")

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        if wishes.setup:
            raise self._has_no("take a part of DTLS")
        try:
            if self._is_plain:
                headers = {**self._headers, "Content-Type": "application/sdp"}
                request = self._http.post(self._url, data=sdp.encode(), headers=headers)
            else:
                request = self._http.post(self._url, json={"sdp": sdp, "type": "offer"}, headers=self._headers)
            async with request as response:
                body = await response.text()
                said = " ".join(body.split())[:200]
                if wishes.codec != "opus" and 400 <= response.status < 500:
                    why = f"the server refuses an offer of {wishes.codec} alone: {response.status} {said}"
                    raise UnsupportedError(why)
                if response.status >= 400:
                    raise EndError(f"{self._url} answers {response.status}: {said}")
                self._session = urljoin(self._url, response.headers.get("Location", ""))
                self._tag = response.headers.get("ETag", "")
                answer = body if self._is_plain else (await response.json())["sdp"]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise EndError(f"{self._url} gave no answer: {error or 'it took too long'}") from error
        self._offer, self._answer = sdp, str(answer)
        return self._answer

    async def hang_up(self) -> None:
        """End the session over HTTP (RFC 9725 §4.2), if there is one."""
        if self._has_session:
            with suppress(EndError, UnsupportedError):
                await self.delete()

    @property
    def _has_session(self) -> bool:
        return bool(self._session) and self._session != self._url

    async def delete(self) -> int:
        if not self._has_session:
            raise UnsupportedError("the server named no session (Location) that could be ended over HTTP")
        if "/v1/realtime/calls" in self._url:
            raise UnsupportedError("the Realtime dialect has no DELETE")
        try:
            async with self._http.delete(self._session, headers=self._headers) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EndError(f"DELETE of {self._session} has no answer: {error or 'it took too long'}") from error

    async def _patch(self, fragment: str, match: str) -> str:
        """Send a fragment (RFC 9725 §4.3); return the one that comes back."""
        if not self._has_session:
            raise UnsupportedError("the server named no session (Location) that could be changed over HTTP")
        headers = {**self._headers, "Content-Type": "application/trickle-ice-sdpfrag"}
        if match:
            headers["If-Match"] = match
        try:
            async with self._http.patch(self._session, data=fragment.encode(), headers=headers) as response:
                body = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EndError(f"PATCH of {self._session} has no answer: {error or 'it took too long'}") from error
        if response.status in (404, 405, 415, 422, 501):
            raise UnsupportedError(f"the server answers PATCH of its session with {response.status}")
        if response.status >= 400:
            raise EndError(
                f"PATCH of {self._session} is answered {response.status}: {' '.join(body.split())[:200]}"
            )
        return body

    async def trickle(self, candidates: Sequence[str]) -> None:
        await self._patch(fragment_of(self._offer, candidates), self._tag)

    async def accept_again(self, sdp: str) -> str:
        """Restart ICE (RFC 9725 §4.3.3): the answer is the former one with what the fragment changes."""
        fresh = await self._patch(fragment_of(sdp, candidate_lines(sdp)), "*")
        if not first_value(fresh, "ice-ufrag"):
            raise EndError("the fragment that answers the restart has no ice-ufrag")
        self._offer, self._answer = sdp, changed_by(self._answer, fresh)
        return self._answer

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


def fragment_of(offer: str, candidates: Sequence[str]) -> str:
    """Candidates as a fragment of their offer; the credentials are at the level of the offer (RFC 8840 §9)."""
    credentials = [f"a={name}:{first_value(offer, name)}" for name in ("ice-ufrag", "ice-pwd")]
    of_session = "a=ice-ufrag:" in offer.partition("\nm=")[0]
    group = [line for line in offer.splitlines() if line.startswith("a=group:BUNDLE")]
    section = [offer.partition("\nm=")[2].splitlines()[0], f"a=mid:{first_value(offer, 'mid')}"]
    section[0] = f"m={section[0]}"
    lines = [*group, *credentials, *section] if of_session else [*group, *section, *credentials]
    return "".join(f"{line}\r\n" for line in (*lines, *(f"a={each}" for each in candidates)))


def changed_by(answer: str, fragment: str) -> str:
    """An answer with the credentials and candidates of a fragment."""
    fresh = {f"a={name}:": f"a={name}:{first_value(fragment, name)}" for name in ("ice-ufrag", "ice-pwd")}
    candidates = [line for line in fragment.splitlines() if line.startswith("a=candidate:")]
    made: list[str] = []
    for line in answer.splitlines():
        if line.startswith("a=candidate:") and candidates:
            continue
        made.append(next((new for start, new in fresh.items() if line.startswith(start)), line))
        if line.startswith("a=ice-pwd:"):
            made += candidates
    return "".join(f"{line}\r\n" for line in made)


@dataclass
class Target(Peer):
    """A server by its URL. `echoes`: it returns sound, and messages as well, and is held to that."""

    url: str
    echoes: Echoes = ""
    token: str = ""
    name: str = "target"
    needs: Needs = field(default_factory=lambda: Needs("a URL"))
    sides: tuple[Side, ...] = ("server",)

    def __post_init__(self) -> None:
        sound = bool(self.echoes)
        self.traits = Traits(
            echoes=sound, echoes_messages=self.echoes == "all", can_be_asked=False, plays_speech=sound
        )

    def why_absent(self) -> str | None:
        return None

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        async with self.start_many(side, wishes, 1) as ends:
            yield ends[0]

    @asynccontextmanager
    async def start_many(self, side: Side, wishes: Wishes, count: int) -> AsyncIterator[Sequence[End]]:
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            ends = [TargetEnd(http, self.url, self.token) for _ in range(count)]
            try:
                yield ends
            finally:
                for end in ends:
                    await end.hang_up()
