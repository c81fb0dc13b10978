"""A server of other people, known by its URL alone: it is offered a call over HTTP.

A URL that ends in `/whip`, `/whep` or `/v1/realtime/calls` is spoken to with plain SDP (RFC 9725 §4.2), any other
with JSON `{sdp, type}`; of one that ends in `/` the offer goes to `api/offer` below it, as our own client does.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import aiohttp

from interop.diagnosis.description import sections
from interop.evidence import Side
from interop.http_reason import ABOUT_A_STATUS, reason
from interop.peers.base import (
    DialectError,
    End,
    EndError,
    Needs,
    NoAnswerError,
    Peer,
    Traits,
    UnsupportedError,
    Wishes,
)
from interop.rewriting import candidate_lines, first_value
from interop.sound import Samples

PLAIN = ("/whip", "/whep", "/v1/realtime/calls")
HTTP_TIMEOUT = 15.0
FAREWELL_TIMEOUT = 3.0
"""Seconds in which a server takes the end of a session, when nothing depends on it any more."""
PROBE_TIMEOUT = 5.0
"""Seconds in which a server shows, before the first call, that it is there."""
SHOWN = 80
"""Characters of an answer that a verdict shows."""
MAX_ANSWER = 1_000_000
"""Bytes of an answer that are read."""
ABOUT_THE_REQUEST = (401, 403, 404, 405, 408, 429)
"""Statuses that say nothing of the codec that was offered."""
Echoes = Literal["", "sound", "all"]
"""What a server is said to return."""


class TargetEnd(End):
    """One call of a server. What it hears it cannot be asked."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        url, self._headers = with_credentials(url, token)
        self._url = urljoin(url, "api/offer") if urlsplit(url).path in ("", "/") else url
        self._is_plain = any(part in urlsplit(url).path for part in PLAIN)
        self._session = ""
        self._tag = ""
        self._offer = self._answer = ""

    def _has_no(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"a server that is known by its URL cannot be told to {what}")

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        if wishes.setup:
            raise self._has_no("take a part of DTLS")
        try:
            answer = await self._post(sdp, wishes.codec)
        except TimeoutError as error:
            raise NoAnswerError(f"{self._url} gave no answer within {HTTP_TIMEOUT:g} s") from error
        except aiohttp.ClientConnectionError as error:
            raise NoAnswerError(f"{self._url} gave no answer: {reason(error)}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise EndError(f"{self._url} gave no answer: {reason(error)}") from error
        found = sections(answer)
        if all(section.is_declined for section in [each for each in found if each.kind == "audio"] or found):
            if wishes.codec != "opus":
                raise UnsupportedError(f"the server declines an offer of {wishes.codec} alone")
            seen = "every section of sound is declined" if found else "a description without sections"
            if self._is_whip:
                raise DialectError("the offered section of sound to be taken", "RFC 9725 §4.4.3", seen)
            raise EndError(f"{self._url} takes no sound: {seen}")
        self._offer, self._answer = sdp, answer
        return answer

    @property
    def _is_whip(self) -> bool:
        return "/whip" in urlsplit(self._url).path

    async def _post(self, sdp: str, codec: str) -> str:
        """Send the offer; return the answer, which begins as a description does."""
        if self._is_plain:
            headers = {**self._headers, "Content-Type": "application/sdp"}
            request = self._http.post(self._url, data=sdp.encode(), headers=headers)
        else:
            request = self._http.post(self._url, json={"sdp": sdp, "type": "offer"}, headers=self._headers)
        async with request as response:
            came = f"{response.status}, {response.headers.get('Content-Type') or 'no Content-Type'}"
            body = await bounded_text(response, came)
            came += f", {' '.join(body.split())[:SHOWN]!r}" if body.strip() else ", and an empty body"
            if codec != "opus" and 400 <= response.status < 500 and response.status not in ABOUT_THE_REQUEST:
                raise UnsupportedError(f"the server refuses an offer of {codec} alone: {came}")
            self._refuse_status(response, came)
            answer = body if self._is_plain else member_of(body, "sdp")
            if not answer.startswith("v=0"):
                self._is_wrong(came)
            location = response.headers.get("Location", "")
            self._session = urljoin(str(response.url), location) if location else ""
            self._tag = response.headers.get("ETag", "")
            return answer

    def _refuse_status(self, response: aiohttp.ClientResponse, came: str) -> None:
        """Raise what a status says that is no success, or what came of a redirect."""
        if response.method != "POST":
            first = response.history[0]
            raise DialectError(
                "a redirect of a POST that stays one (307 or 308)",
                "RFC 9725 §4.5, RFC 9110 §15.4",
                f"{first.status} to {first.headers.get('Location', '')[:SHOWN]}, where a GET is answered {came}",
            )
        if response.status in (401, 403):
            sent = self._headers.get("Authorization", "").partition(" ")[0]
            sent = {"": "no --token was given", "Bearer": "the token of --token was sent"}.get(
                sent, "the name and the password of the URL were sent"
            )
            raise EndError(f"{self._url} does not let the call in ({sent}): {came}")
        if response.status >= 500:
            raise DialectError("an answer to the offer", f"{self._section}, RFC 9110 §15.6".lstrip(", "), came)
        if response.status >= 300:
            about = ABOUT_A_STATUS.get(response.status)
            where = str(response.url) if response.history else self._url
            raise EndError(f"{where} answers {came}" + (f"; {about}" if about else ""))

    @property
    def _section(self) -> str:
        return "RFC 9725 §4.2" if self._is_whip else ""

    def _is_wrong(self, came: str) -> None:
        """Raise that a success holds no answer: the server's fault where a section says what it has to hold."""
        if self._is_whip:
            raise DialectError("201 with the answer, of type application/sdp", self._section, came)
        what = "the answer as SDP" if self._is_plain else "JSON with the answer in `sdp`"
        raise EndError(f"{self._url} does not send {what}: {came}")

    async def hang_up(self) -> None:
        """End the session over HTTP (RFC 9725 §4.2), if there is one."""
        if self._has_session:
            with suppress(EndError, UnsupportedError, TimeoutError):
                async with asyncio.timeout(FAREWELL_TIMEOUT):
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
            raise EndError(f"DELETE of {self._session} has no answer: {reason(error)}") from error

    async def _patch(self, fragment: str, match: str) -> str:
        """Send a fragment (RFC 9725 §4.3); return the one that comes back."""
        if not self._has_session:
            raise UnsupportedError("the server named no session (Location) that could be changed over HTTP")
        headers = {**self._headers, "Content-Type": "application/trickle-ice-sdpfrag"}
        if match:
            headers["If-Match"] = match
        try:
            async with self._http.patch(self._session, data=fragment.encode(), headers=headers) as response:
                body = await bounded_text(response, str(response.status))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EndError(f"PATCH of {self._session} has no answer: {reason(error)}") from error
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


async def probe(url: str, token: str = "") -> str | None:
    """Ask a server by OPTIONS whether it is there: any response will do; return one line if there is none."""
    url, headers = with_credentials(url, token)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT)) as http,
            http.options(url, headers=headers, allow_redirects=False),
        ):
            return None
    except TimeoutError:
        return f"it does not answer within {PROBE_TIMEOUT:g} s"
    except (aiohttp.ClientError, ValueError, OSError) as error:
        return reason(error)


def without_credentials(url: str) -> str:
    """A URL as it may be shown: without a name and a password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def with_credentials(url: str, token: str) -> tuple[str, dict[str, str]]:
    """A URL as it may be shown, and the header with the token, or with the name and the password that it had."""
    parts = urlsplit(url)
    if token:
        value = f"Bearer {token}"
    elif parts.username is not None:
        said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        value = f"Basic {b64encode(said.encode()).decode()}"
    else:
        return url, {}
    return without_credentials(url), {"Authorization": value}


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this machine's loopback, by its name or address."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def bounded_text(response: aiohttp.ClientResponse, came: str) -> str:
    """The body of a response, U+FFFD for what is no UTF-8; `EndError` if it has more than `MAX_ANSWER` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise EndError(f"{response.url} answers {came}, and more than {MAX_ANSWER} bytes")
    return body.decode("utf-8", "replace")


def member_of(body: str, name: str) -> str:
    """A string in a JSON object; empty if the body is anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""


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
    is_elsewhere = True

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
