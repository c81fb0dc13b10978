"""The dialects as an application of aiohttp: requests in, responses and WebSockets out."""

from __future__ import annotations

from aiohttp import WSMsgType, hdrs, web
from multidict import CIMultiDict

from stack.signaling.http import Application, BodyTooLarge, HttpRequest, HttpResponse, SocketSession, page_below

HEARTBEAT = 30.0
"""Seconds between the pings on a WebSocket."""


def serve_by_aiohttp(dialects: Application) -> web.Application:
    """Return an application that hands every request to `dialects`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = await dialects.handle(_read(dialects, request))
        if isinstance(answer, SocketSession):
            return await _run_socket(request, answer)
        return _write(answer)

    async def lead(request: web.Request) -> web.StreamResponse:
        name = request.rel_url.raw_path.rpartition("/")[2]
        if not name:  # without a prefix this is the page
            return await handle(request)
        return web.Response(status=307, headers={"Location": page_below(name, request.rel_url.raw_query_string)})

    app = web.Application()
    app.router.add_route("*", "", lead)  # below a prefix: the prefix itself
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _read(dialects: Application, request: web.Request) -> HttpRequest:
    async def body(limit: int) -> bytes:
        data = bytearray()
        async for chunk in request.content.iter_any():
            data += chunk
            if len(data) > limit:
                raise BodyTooLarge
        return bytes(data)

    return HttpRequest(
        dialects,
        request.method,
        "/" + request.match_info.get("path", ""),
        CIMultiDict(request.headers),
        request.query_string,
        request.remote,
        request.scheme,
        body if request.can_read_body else None,
        upgrades=hdrs.UPGRADE in request.headers and web.WebSocketResponse().can_prepare(request).ok,
    )


def _write(answer: HttpResponse) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def _run_socket(request: web.Request, session: SocketSession) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        protocols=session.protocols, max_msg_size=session.max_message, heartbeat=HEARTBEAT
    )
    await socket.prepare(request)
    try:
        await session.run(_Socket(socket))
    finally:
        await socket.close()
    return socket


class _Socket:
    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes | None:
        """Return the next message; None once the socket is closed."""
        message = await self._socket.receive()
        return message.data if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) else None

    async def send(self, text: str) -> None:
        """Send a text."""
        try:
            await self._socket.send_str(text)
        except RuntimeError as error:  # aiohttp says so of a socket that is closing
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        """Close the socket."""
        await self._socket.close()
