"""The HTTP exchange of a client: an offer there, an answer back, and candidates that follow.

A URL of WHIP, WHEP or OpenAI's calls is spoken to with plain SDP, any other with JSON; one that ends in "/" is the
page's, and the offer goes to `api/offer` below it, as it does where nothing at the URL takes one (404, 405).
Candidates follow by PATCH, as WHIP has it (RFC 9725 §4.3) or as Pipecat's clients do; OpenAI's calls take none.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp

from stack.core.errors import ParseError, StackError
from stack.core.urls import without_user
from stack.core.values import read_json_object
from stack.sdp import TrickleFragment
from stack.session import EndReason
from stack.signaling.client_ice import Trickle
from stack.signaling.client_watch import AskAboutCall, ServerSays, read_reason
from stack.signaling.instant import InstantGrant

log = logging.getLogger("stack.signaling")

HTTP_TIMEOUT = 15.0
"""Seconds for a request; for the whole exchange of offer and answer, unless others are asked for."""
MAX_ANSWER = 1 << 20
"""Characters of an answer in JSON."""


class DialError(StackError):
    """The call could not be placed; the message is fit to be shown."""


class TokenRefused(DialError):
    """The server wants a bearer token, and this was none or the wrong one (401)."""


class _NotHere(DialError):
    """Nothing takes offers at this address (404, 405)."""


class Access(Protocol):
    """How the server is spoken to."""

    @property
    def token(self) -> str | None:
        """A bearer token."""

    @property
    def insecure(self) -> bool:
        """Take any certificate."""

    @property
    def answer_timeout(self) -> float:
        """Seconds for the whole exchange of offer and answer."""

    @property
    def moved_from(self) -> str:
        """The call that this one takes the place of, or nothing."""

    @property
    def avoid(self) -> str:
        """The node that this call is not wanted on, or nothing."""


@dataclass(frozen=True, slots=True)
class OfferAnswered:
    """The answer; how candidates follow it, how the server is asked about the call (None where it cannot be); a
    ticket for the next call; what the server calls the call (empty: it does not say)."""

    sdp: str
    trickle: Trickle | None
    ask: AskAboutCall | None = None
    instant: InstantGrant | None = None
    name: str = ""


def _session(access: Access, seconds: float = HTTP_TIMEOUT) -> aiohttp.ClientSession:
    headers = {} if access.token is None else {"Authorization": f"Bearer {access.token}"}
    connector = aiohttp.TCPConnector(ssl=not access.insecure)
    timeout = aiohttp.ClientTimeout(total=seconds)
    return aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector)


async def exchange(url: str, offer: str, access: Access) -> OfferAnswered:
    """Post the offer and return the answer; raises `DialError`, or `TokenRefused`."""
    parts = urlsplit(url)
    plain = parts.path.rstrip("/").endswith(("/whip", "/whep", "/v1/realtime/calls"))
    # a URL that ends in "/" is a page's, perhaps below a prefix: its offers go where the page sends them
    if parts.path[-1:] in ("", "/"):
        return await _exchange_at(urljoin(url, "api/offer"), offer, access, plain=plain)
    try:
        return await _exchange_at(url, offer, access, plain=plain)
    except _NotHere as refused:
        if plain:
            raise
        try:  # it may be a page's without its slash
            below = urlunsplit(parts._replace(path=f"{parts.path}/api/offer"))
            return await _exchange_at(below, offer, access, plain=False)
        except _NotHere:
            raise refused from None


async def _exchange_at(target: str, offer: str, access: Access, *, plain: bool) -> OfferAnswered:
    """Post the offer to exactly this address."""
    shown = without_user(target)
    try:
        async with _session(access, access.answer_timeout) as session:
            if plain:
                request = session.post(target, data=offer.encode(), headers={"Content-Type": "application/sdp"})
            else:
                of_former = {"moved_from": access.moved_from, "avoid": access.avoid}
                said = {name: value for name, value in of_former.items() if value}
                request = session.post(target, json={"sdp": offer, "type": "offer", **said})
            async with request as response:
                body = await response.text()
                if response.status == 401:
                    raise TokenRefused(f"{shown} refused the call: 401 {_message(body)}")
                if response.status >= 400:
                    kind = _NotHere if response.status in (404, 405) else DialError
                    raise kind(f"{shown} refused the call: {response.status} {_message(body)}")
                if plain:
                    return OfferAnswered(body, _trickle_to_whip(target, response.headers, access))
                answer = _read_answer(body, shown)
                name = answer.get("pc_id")
                trickle, ask = _trickle_as_json(target, name, access), _ask_as_json(target, name, access)
                instant = InstantGrant.read(answer.get("instant"))
                return OfferAnswered(
                    str(answer["sdp"]), trickle, ask, instant, name if isinstance(name, str) else ""
                )
    except TimeoutError as error:
        raise DialError(f"{shown} did not answer within {access.answer_timeout:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        raise DialError(f"the certificate of {shown} is not trusted: {reason}") from error
    except aiohttp.ClientConnectorError as error:
        raise DialError(f"cannot reach {shown}: {_why(error.os_error)}") from error
    except (aiohttp.ClientError, UnicodeDecodeError, ValueError) as error:
        raise DialError(f"cannot reach {shown}: {error}") from error


def _why(error: OSError) -> str:
    """Return the reason in the system's words; a lookup and TLS have numbers of their own, and their own words."""
    is_systems = error.errno is not None and type(error) in (OSError, ConnectionRefusedError)
    return os.strerror(error.errno or 0) if is_systems else error.strerror or str(error)


def _trickle_to_whip(target: str, headers: Mapping[str, str], access: Access) -> Trickle | None:
    """RFC 9725 §4.3: a fragment to the session's address, if that takes patches."""
    location, tag = headers.get("Location"), headers.get("ETag")
    if location is None or "sdpfrag" not in headers.get("Accept-Patch", ""):
        return None

    async def trickle(lines: Sequence[str], complete: bool) -> None:
        fragment = TrickleFragment(candidates=tuple(lines), end_of_candidates=complete, mid="0")
        about = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag or "*"}
        await _patch(urljoin(target, location), fragment.serialize(), about, access)

    return None if tag is None else trickle


def _trickle_as_json(target: str, pc_id: object, access: Access) -> Trickle | None:
    """As Pipecat's clients do it; the end of the candidates is written as an empty one."""
    if not isinstance(pc_id, str):
        return None

    async def trickle(lines: Sequence[str], complete: bool) -> None:
        texts = [*lines, ""] if complete else lines
        candidates = [{"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0} for text in texts]
        body = json.dumps({"pc_id": pc_id, "candidates": candidates})
        await _patch(target, body, {"Content-Type": "application/json"}, access)

    return trickle


def _ask_as_json(target: str, pc_id: object, access: Access) -> AskAboutCall | None:
    """Return what asks our servers whether the call is up; see `docs/signaling.md`."""
    if not isinstance(pc_id, str):
        return None
    question = {"pc_id": pc_id}

    async def ask() -> EndReason | ServerSays:
        try:
            async with _session(access) as session, session.get(target, params=question) as response:
                if response.status >= 500:
                    return ServerSays.UNREACHABLE
                said = read_json_object(await response.text(), MAX_ANSWER) if response.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError):
            return ServerSays.UNREACHABLE
        except (ParseError, UnicodeDecodeError):
            return ServerSays.NO_ANSWER
        if said.get("state") == "ended":
            return read_reason(said.get("reason"))
        return ServerSays.UP if said.get("state") == "up" else ServerSays.NO_ANSWER

    return ask


async def _patch(target: str, body: str, about: Mapping[str, str], access: Access) -> None:
    """Send candidates; a server that does not take them finds us by our checks, if it can be reached at all."""
    try:
        async with _session(access) as session, session.patch(target, data=body, headers=about) as response:
            if response.status >= 400:
                log.info("%s does not take trickled candidates: %d", without_user(target), response.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        log.info("candidates did not reach %s: %s", without_user(target), error)


def _read_answer(body: str, shown: str) -> dict[str, Any]:
    try:
        answer = read_json_object(body, MAX_ANSWER)
    except ParseError as error:
        raise DialError(f"{shown} answered something that is no SDP answer") from error
    if not isinstance(answer.get("sdp"), str):
        raise DialError(f"{shown} answered something that is no SDP answer")
    return answer


def _message(body: str) -> str:
    """Return what a refusal says, on one line and not for ever; our servers say it as `{"error": …}`."""
    with suppress(ParseError, KeyError):
        body = str(read_json_object(body, MAX_ANSWER)["error"])
    return " ".join(body.split())[:300]
