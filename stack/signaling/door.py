"""What every door shares: reading a bounded body, refusing in plain words, handing the offer to the host."""

from __future__ import annotations

import json

from aiohttp import web

from stack.aio import Call, CallContext, Host, HostFull
from stack.core.errors import LocalError, ParseError, RemoteError

MAX_BODY = 256 * 1024
"""Bytes of a request; a browser's offer has 2 to 10 KiB."""
HOST: web.AppKey[Host] = web.AppKey("host", Host)


class Refused(Exception):
    """An offer that was not taken: the HTTP status and what to tell the client."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


async def accept(request: web.Request, offer: str, session: dict[str, object] | None = None) -> tuple[str, Call]:
    """Hand an offer to the host and return the answer and the call; raises `Refused` with the right status."""
    context = CallContext(
        headers={name.lower(): value for name, value in request.headers.items()},
        session=session or {},
        remote=request.remote or "",
    )
    try:
        accepted = await request.app[HOST].accept(offer, context)
    except ParseError as error:
        raise Refused(400, f"the offer is not valid SDP: {error}") from error
    except RemoteError as error:
        raise Refused(406, f"nothing to agree on: {error}") from error
    except HostFull as error:
        raise Refused(503, str(error), **{"Retry-After": "5"}) from error
    except LocalError as error:
        raise Refused(503, str(error), **{"Retry-After": "5"}) from error
    return accepted.answer, accepted.call


def find_call(request: web.Request) -> Call:
    """Return the call named in the request's path; raises `Refused` (404) if there is none."""
    call = request.app[HOST].calls.get(request.match_info["call_id"])
    if call is None:
        raise Refused(404, "no such call")
    return call


async def read_text(request: web.Request) -> str:
    """Return the body as text; raises `Refused` for one that is too large or not UTF-8."""
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise Refused(400, "the body is not UTF-8") from error


async def read_json(request: web.Request) -> dict[str, object]:
    """Return the body as a JSON object; raises `Refused` for anything else."""
    try:
        body = json.loads(await read_text(request))
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    return body
