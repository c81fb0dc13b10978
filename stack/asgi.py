"""The whole server as an ASGI 3 application: every dialect, the page, and the media of the calls.

    voice = VoiceApp(program)
    app = FastAPI(lifespan=voice.lifespan)
    app.mount("/voice", voice)                                                 # Starlette's Mount is the same
    app.include_router(voice.router(), prefix="/voice", dependencies=[…])      # instead: behind dependencies

or alone: `uvicorn module:voice`. HTTP is the server's; media has a UDP port of its own (`HostConfig.udp_port`), so
one process of several workers gets it and the others refuse to start: run one process, or give each a port.

The host starts and stops with the lifespan of the server (alone), with `voice.lifespan` in the parent's, or, since
parents do not run the lifespans of what they mount, with the first request; it then stops when its loop ends. It
answers below any prefix: `root_path` is cut off, and everything that it says of addresses is relative.

Left out: HTTP/2 push, trailers, and ASGI 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from multidict import CIMultiDict

from stack.aio import Host, HostConfig, as_program
from stack.core.errors import LocalError, StackError
from stack.signaling.app import create_application
from stack.signaling.config import SignalingConfig
from stack.signaling.http import Application, BodyTooLarge, HttpRequest, HttpResponse, SocketSession, page_below
from stack.signaling.service import SERVICE

if TYPE_CHECKING:
    from fastapi import APIRouter

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

log = logging.getLogger("stack.serve")

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
TOO_BIG = 1009
"""The close code for a message that is too large (RFC 6455 §7.4.1)."""


class VoiceApp:
    """Runs `program` for every call that comes in over this application.

    `program`, `config` (media) and `signaling` (tokens, origins, limits) are those of `stack.serve`;
    `program_passes_events` is `ServeConfig.program_passes_events`. Raises `LocalError` for what is none of these.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        *,
        config: HostConfig | None = None,
        signaling: SignalingConfig | None = None,
        program_passes_events: bool = False,
    ) -> None:
        as_program(program)
        if not isinstance(config, HostConfig | None) or not isinstance(signaling, SignalingConfig | None):
            raise LocalError("`config` is a HostConfig (the media), `signaling` a SignalingConfig (HTTP)")
        self._make_host = partial(Host, program, config)
        self._signaling = signaling
        self._passes_events = program_passes_events
        self._host: Host | None = None
        self._dialects: Application | None = None
        self._starting: asyncio.Lock | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def host(self) -> Host:
        """What holds the calls; raises `LocalError` before the start."""
        if self._host is None:
            raise LocalError("the voice application has not started")
        return self._host

    async def start(self) -> None:
        """Bind the media port and load what the program needs; raises `LocalError`. Once is enough."""
        await self._started()

    async def _started(self) -> Application:
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._dialects is None:
                host = self._make_host()
                await host.start()
                self._host = host
                self._dialects = create_application(
                    host, self._signaling, program_passes_events=self._passes_events
                )
            return self._dialects

    async def stop(self) -> None:
        """Take no new calls, hang up those that are up, and close the port. It may be started again."""
        host, dialects = self._host, self._dialects
        self._host = self._dialects = self._starting = None
        if self._keeper is not None and self._keeper is not asyncio.current_task():
            self._keeper.cancel()
        self._keeper = None
        if dialects is not None:
            dialects[SERVICE].draining = True
        if host is not None:
            await host.stop()

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """The host runs while inside: `FastAPI(lifespan=voice.lifespan)`, or inside a lifespan of your own."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    def router(self) -> APIRouter:
        """Return all of this as a router of FastAPI, for `include_router` with a prefix and dependencies.

        The dependencies are asked for each request and each WebSocket; what they note in `request.state` is in the
        program's `call.context.state`. Raises `LocalError` if FastAPI is not installed.
        """
        try:
            from fastapi import APIRouter
            from starlette.requests import Request
            from starlette.responses import Response
            from starlette.websockets import WebSocket
        except ImportError as error:
            raise LocalError("a router needs `pip install fastapi`") from error
        voice = self

        class Answer(Response):
            """What this application answers, where Starlette expects a response."""

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await voice(_below_path(scope), receive, send)

        async def http(request: Request) -> Response:
            return Answer()

        async def socket(socket: WebSocket) -> None:
            await voice(_below_path(socket.scope), socket.receive, socket.send)

        # FastAPI reads these, and cannot find by name what is local here
        http.__annotations__ = {"request": Request}
        socket.__annotations__ = {"socket": WebSocket}
        router = APIRouter()
        router.add_api_route("/{voice_path:path}", http, methods=list(METHODS), include_in_schema=False)
        router.add_api_websocket_route("/{voice_path:path}", socket)
        return router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan (ASGI 3)."""
        match scope["type"]:
            case "lifespan":
                await self._run_lifespan(receive, send)
            case "http":
                await self._serve_http(scope, receive, send)
            case "websocket":
                await self._serve_socket(scope, receive, send)
            case other:
                raise LocalError(f"this application serves no {other!r}")

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except StackError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _dialects_for_request(self) -> Application:
        """Return the dialects; the first request starts the host if no lifespan has."""
        if self._dialects is not None:
            return self._dialects
        dialects = await self._started()
        if self._keeper is None:
            log.info("the media of calls began with the first request: give the parent `lifespan=voice.lifespan`")
            self._keeper = asyncio.create_task(self._stop_with_loop(), name="voice application")
        return dialects

    async def _stop_with_loop(self) -> None:
        """Wait for the end of the loop, which cancels its tasks, and stop then in an orderly way."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._keeper is asyncio.current_task():
                await self.stop()

    async def _answer(self, request: Callable[[Application], HttpRequest]) -> HttpResponse | SocketSession:
        try:
            dialects = await self._dialects_for_request()
        except StackError as error:
            log.error("the voice application cannot start: %s", error)
            return HttpResponse(status=503, text="the voice application cannot start: its log says why")
        return await dialects.handle(request(dialects))

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _route_path(scope)
        if not path:  # the page asks for everything relative to itself
            location = page_below(quote(scope["path"].rpartition("/")[2]), scope["query_string"].decode("latin-1"))
            answer: HttpResponse | SocketSession = HttpResponse(status=307, headers={"Location": location})
        else:
            answer = await self._answer(lambda dialects: _read_request(dialects, scope, path, receive))
        if isinstance(answer, SocketSession):  # a dialect offers one to a WebSocket alone
            answer = HttpResponse(status=426, headers={"Upgrade": "websocket"})
        await _send_response(send, answer, "http.response", with_body=scope["method"] != "HEAD")

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(lambda dialects: _read_request(dialects, scope, _route_path(scope), None))
        await receive()  # websocket.connect
        if isinstance(answer, HttpResponse):
            if "websocket.http.response" in scope.get("extensions", {}):
                await _send_response(send, answer, "websocket.http.response", with_body=True)
            else:
                await send({"type": "websocket.close"})  # the server says 403
            return
        await send(
            {"type": "websocket.accept", "subprotocol": answer.choose_protocol(scope.get("subprotocols", ()))}
        )
        socket = _Socket(receive, send, answer.max_message)
        try:
            await answer.run(socket)
        finally:
            await socket.close()


def _route_path(scope: Scope) -> str:
    """Return the path below `root_path`; "" for the place itself without its slash.

    The path holds `root_path` (ASGI 3, as Starlette and uvicorn have it); some servers cut it off.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def _below_path(scope: Scope) -> Scope:
    """Return the scope of a route that ends in `{voice_path:path}`, as if this application were mounted there."""
    path, rest = scope["path"], scope["path_params"]["voice_path"]
    return {**scope, "root_path": path[: len(path) - len(rest)].rstrip("/")}


def _read_request(dialects: Application, scope: Scope, path: str, receive: Receive | None) -> HttpRequest:
    headers = CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    client: Sequence[Any] | None = scope.get("client")
    state = dict(scope.get("state") or {})
    if "user" in scope:
        state["user"] = scope["user"]
    return HttpRequest(
        dialects,
        scope.get("method", "GET"),
        path,
        headers,
        scope["query_string"].decode("latin-1"),
        client[0] if client else None,
        "https" if scope.get("scheme") in ("https", "wss") else "http",
        None if receive is None else _body_of(receive),
        upgrades=scope["type"] == "websocket",
        state=state,
    )


def _body_of(receive: Receive) -> Callable[[int], Awaitable[bytes]]:
    async def body(limit: int) -> bytes:
        data, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            data += message.get("body", b"")
            more = message.get("more_body", False)
            if len(data) > limit:
                raise BodyTooLarge
        return bytes(data)

    return body


async def _send_response(send: Send, answer: HttpResponse, kind: str, *, with_body: bool) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.status != 204 and "Content-Length" not in answer.headers:  # RFC 9110 §8.6
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": answer.body if with_body else b""})


class _Socket:
    """A WebSocket of an ASGI server."""

    def __init__(self, receive: Receive, send: Send, max_message: int) -> None:
        self._receive, self._send, self._max_message = receive, send, max_message
        self._closed = False

    async def receive(self) -> str | bytes | None:
        """Return the next message; None once the socket is closed."""
        if self._closed:
            return None
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._closed = True
            return None
        text = message.get("text")
        data: str | bytes = text if text is not None else message.get("bytes") or b""
        if len(data) > self._max_message:
            await self.close(TOO_BIG)
            return None
        return data

    async def send(self, text: str) -> None:
        """Send a text."""
        if self._closed:
            raise ConnectionError("the WebSocket is closed")
        try:
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError) as error:  # servers differ in what they raise
            self._closed = True
            raise ConnectionError(str(error)) from error

    async def close(self, code: int = 1000) -> None:
        """Close the socket."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError, RuntimeError):
                await self._send({"type": "websocket.close", "code": code})
