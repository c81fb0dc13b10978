"""What every door shares: who may come in, a bounded body, refusals in plain words, handing the offer to the host.

Errors are `{"error": "…"}`; under `/v1/` they have the form that OpenAI's clients read. No message holds anything
that was sent as a secret, and the headers that a program gets have lost theirs.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from stack.aio import Call, CallContext, Host, HostFull
from stack.core.errors import LocalError, ParseError
from stack.sdp import NegotiationError, NegotiationFailure
from stack.signaling.metrics import Metrics
from stack.signaling.security import EVERYBODY, Keys, Principal, RateLimits, Scope, allows

MAX_BODY = 256 * 1024
"""Bytes of a request; a browser's offer has 2 to 10 KiB."""
MAX_HEADER = 8190
"""Bytes of the request line, and of each header field."""
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class DoorConfig:
    """Who may come in, and how many."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Bearer tokens, each `TOKEN` or `scope,scope=TOKEN`; without any the door is open."""
    origins: tuple[str, ...] = ("*",)
    """Origins of the pages that may call, besides our own."""
    max_body: int = MAX_BODY
    offers_per_second: float = 100.0
    offers_per_client: float = 20.0
    """A second, from one address; four times as many at once."""
    calls_per_client: int = 100
    redirect: str | None = None
    """Send WHIP and WHEP clients to this base address (307) instead of taking their calls."""
    ice_servers: tuple[str, ...] = ()
    """URLs of STUN or TURN servers that WHIP and WHEP clients are told."""


class Refused(Exception):
    """An offer that was not taken: the HTTP status and what to tell the client."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
        self.code: str | None = None
        self.param: str | None = None


class Door:
    """What the doors of one server know together."""

    def __init__(self, host: Host, config: DoorConfig | None = None) -> None:
        self.host = host
        self.config = config or DoorConfig()
        self.keys = Keys(self.config.tokens, time.time, os.urandom)
        self.metrics = Metrics(host)
        self.draining = False
        self.owners: dict[str, Principal] = {}
        """Who placed a call, by the call's identifier."""
        self._rates = RateLimits(self.config.offers_per_second, self.config.offers_per_client, time.monotonic)
        self._calls_of: Tally[str] = Tally()

    def admit(self, request: web.Request, scope: Scope) -> Principal:
        """Return who asks; raises `Refused` (401, 403) for somebody who may not."""
        principal = self.keys.identify(request.headers.get("Authorization"))
        if principal is None:
            raise Refused(
                401, "a valid bearer token is needed; this one is missing, unknown or expired",
                **{"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if scope not in principal.scopes:
            raise Refused(403, f"this token may not do that: it lacks the scope {scope.value!r}")
        return principal

    def find_call(self, request: web.Request, call_id: str) -> Call:
        """Return a call that the asker may steer: its own, or any with the scope `control`; else `Refused`."""
        principal = self.keys.identify(request.headers.get("Authorization"))
        call = self.host.calls.get(call_id)
        if principal is None:
            self.admit(request, Scope.CALL)
        elif call is not None and Scope.CONTROL not in principal.scopes and self.owners.get(call_id) != principal:
            call = None  # whose it is not learns no more than if it were not there
        if call is None:
            raise Refused(404, "no such call")
        return call

    async def accept(
        self, request: web.Request, principal: Principal, offer: str, session: Mapping[str, Any] | None = None
    ) -> tuple[str, Call]:
        """Hand an offer to the host and return answer and call; raises `Refused` with the right status."""
        client = request.remote or ""
        self._check_limits(client)
        context = CallContext(
            headers={
                name.lower(): value
                for name, value in request.headers.items()
                if name.lower() not in _SECRET_HEADERS
            },
            session=session or {},
            remote=client,
        )
        try:
            accepted = await self.host.accept(offer, context)
        except ParseError as error:
            raise Refused(400, f"the offer is not valid SDP: {error}") from error
        except NegotiationError as error:
            # RFC 9725 §4.2: 422 for an a=setup that cannot be, 406 for what is not supported
            status = 422 if error.failure is NegotiationFailure.SETUP_CONFLICT else 406
            raise Refused(status, f"nothing to agree on: {error}") from error
        except (HostFull, LocalError) as error:
            raise Refused(503, str(error), **{"Retry-After": "5"}) from error
        call = accepted.call
        self.owners[call.id] = principal
        self._calls_of[client] += 1
        self.metrics.follow(call, lambda: self._forget(call.id, client))
        return accepted.answer, call

    def _check_limits(self, client: str) -> None:
        if self.draining:
            raise Refused(503, "the server takes no new calls: it is shutting down", **{"Retry-After": "10"})
        wait = self._rates.take(client)
        if wait > 0.0:
            raise Refused(429, "too many offers", **{"Retry-After": str(math.ceil(wait))})
        if self._calls_of[client] >= self.config.calls_per_client:
            raise Refused(429, "too many calls from your address", **{"Retry-After": "30"})

    def _forget(self, call_id: str, client: str) -> None:
        self.owners.pop(call_id, None)
        self._calls_of[client] -= 1
        if self._calls_of[client] <= 0:
            del self._calls_of[client]


DOOR: web.AppKey[Door] = web.AppKey("door", Door)


def check_origin(request: web.Request) -> None:
    """Raise `Refused` (403) for a page from elsewhere that is not on the list."""
    origin = request.headers.get("Origin")
    own = origin is not None and origin.partition("://")[2] == request.host
    if not own and not allows(request.app[DOOR].config.origins, origin):
        raise Refused(403, "pages from this origin may not call here")


def below(request: web.Request, name: str) -> str:
    """Return the `Location` of the resource `name` below the collection that was asked.

    A reference relative to the request's URL (RFC 9110 §10.2.2, RFC 3986 §5.2.3), because a proxy in front may
    have cut off a prefix of the path that only the client knows.
    """
    return f"{request.path.rpartition('/')[2]}/{name}"


async def read_text(request: web.Request) -> str:
    """Return the body as text; raises `Refused` for one that is too large or not UTF-8."""
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise Refused(400, "the body is not UTF-8") from error


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the body as a JSON object; raises `Refused` for anything else."""
    return parse_json(await read_text(request))


def parse_json(text: str) -> dict[str, Any]:
    """Return a JSON object; raises `Refused` for anything else."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    return body


__all__ = [
    "DOOR",
    "EVERYBODY",
    "MAX_BODY",
    "MAX_HEADER",
    "Door",
    "DoorConfig",
    "Refused",
    "below",
    "check_origin",
    "parse_json",
    "read_json",
    "read_text",
]
