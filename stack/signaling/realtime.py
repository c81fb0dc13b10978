"""OpenAI Realtime over HTTP: calls, client secrets, hang-up, and the two ways to a session's events.

    POST /v1/realtime/calls               an SDP offer, alone or with a session as multipart; 201 and the answer
    POST /v1/realtime/client_secrets      a secret for a browser, with real expiry
    POST /v1/realtime/calls/{id}/hangup
    WS   /v1/realtime?call_id={id}        the events of a call that is up, and control over it

A session's events go to the data channel `oai-events`, which the client opens, and to every WebSocket that has
joined; an error goes to the one alone whose event it is about. `realtime_session.py` does the
translation; this file moves it. Where the program passes a model's own events through (the bridge), only the calls
and the secrets are ours.

Left out: `WS ?model=`, a call whose sound goes over the WebSocket, and everything of SIP and of transcription
sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from stack.aio import Call, DataChannel, control_of
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.values import read_json_object
from stack.signaling.forms import parse_form
from stack.signaling.http import (
    AppKey,
    Application,
    HttpRequest,
    HttpResponse,
    RequestRefused,
    RouteTable,
    SocketSession,
    WebSocket,
    json_response,
    location_below,
    parse_json,
    read_text,
)
from stack.signaling.ice_servers import link_ice_servers
from stack.signaling.realtime_parts import (
    AddContext,
    AwaitReply,
    Clear,
    Commit,
    Configure,
    Event,
    FinishTool,
    HandOver,
    InterruptReply,
    SessionCommand,
)
from stack.signaling.realtime_schema import InvalidField
from stack.signaling.realtime_session import RealtimeSession
from stack.signaling.realtime_settings import DEFAULT_SESSION, merge_session, merge_unchecked
from stack.signaling.security import Scope
from stack.signaling.service import SERVICE
from stack.voice.commands import ClearUtterance, CommitUtterance, OpenUtterance
from stack.voice.events import ContextAdded, SessionUpdated, Utterance
from stack.voice.turns import TurnMode

log = logging.getLogger("stack.realtime")

CHANNEL = "oai-events"
CALL_PREFIX = "rtc_"
MAX_CLIENTS = 8
"""Data channel and WebSockets that listen to one session."""
CLIENT_BACKLOG = 1000
"""Events that wait for one of them; one that is slower is dropped."""
RESPONSE_TIMEOUT = 30.0
"""Seconds for a program to begin its reply; then the response ends without a word."""
TOOL_DELAY = 0.3
"""Seconds for a client that returned a function's output to ask for the response as well."""
MAX_MESSAGE = 256 * 1024
COMMIT_TIMEOUT = 1.0
"""Seconds that the turn of a commit may take to come from the media side."""

routes = RouteTable()


class RealtimeTransport:
    """Carries the events of one call's session between its data channel, WebSockets and the call."""

    def __init__(self, call: Call, session: Mapping[str, Any]) -> None:
        self.call = call
        self._control = control = control_of(call)
        self._session = RealtimeSession(lambda prefix: f"{prefix}_{secrets.token_hex(10)}", session, time.time)
        self._session.program_takes_turns = lambda: control.asks_for_turns
        self._clients: list[asyncio.Queue[Event | None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._manual = False
        self._committing = False
        self._committed = asyncio.Event()
        self._held: deque[tuple[str | bytes, asyncio.Queue[Event | None]]] = deque()
        self._handed_over: list[Utterance] = []  # typed turns that the session knows when they are told to all
        self._watching = call.watch()
        control.session = self._session.session
        control.manage_turns()
        control.dialect_channels.add(CHANNEL)
        call.listen()
        self._spawn(self._follow())
        self._spawn(self._serve_channel())
        self._pump()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=f"realtime {self.call.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        """Translate what the call says, until it is over."""
        async for event in self._watching:
            if event in self._handed_over:
                self._handed_over.remove(event)
                continue
            self._session.handle_event(event)
            self._pump()
            if isinstance(event, Utterance) and not event.is_typed:
                self._committed.set()
        for client in self._clients:
            client.put_nowait(None)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def _serve_channel(self) -> None:
        try:
            channel = await self.call.channels.wait_for(CHANNEL)
        except StackError:
            return
        client = self.join()
        self._spawn(_send_all(channel, client))
        async for message in channel:
            self.receive(message, client)
        self.leave(client)

    @property
    def is_full(self) -> bool:
        """True if as many listen as may."""
        return len(self._clients) >= MAX_CLIENTS

    def join(self) -> asyncio.Queue[Event | None]:
        """Return a queue of what the session says from now on; None ends it. `LocalError` if all are taken."""
        if self.is_full:
            raise LocalError("too many listen to this session")
        client: asyncio.Queue[Event | None] = asyncio.Queue(CLIENT_BACKLOG + 1)
        self._clients.append(client)
        client.put_nowait(self._session.greeting())
        return client

    def leave(self, client: asyncio.Queue[Event | None]) -> None:
        """That client is gone."""
        if client in self._clients:
            self._clients.remove(client)

    def receive(self, text: str | bytes, client: asyncio.Queue[Event | None]) -> None:
        """Take an event of a client that joined.

        A commit is done by the media side; what is said after it waits, so that the order is kept.
        """
        if self._committing and len(self._held) < CLIENT_BACKLOG:
            self._held.append((text, client))
            return
        message: object = None
        if isinstance(text, str):
            with contextlib.suppress(ParseError):
                message = read_json_object(text, MAX_MESSAGE)
        error = self._session.handle_client(message)
        if error is not None:
            self._put(client, error)
        self._pump(client)

    def _put(self, client: asyncio.Queue[Event | None], event: Event) -> None:
        if client.qsize() < CLIENT_BACKLOG:
            client.put_nowait(event)
        elif client in self._clients:
            self._clients.remove(client)
            client.put_nowait(None)

    def _pump(self, sender: asyncio.Queue[Event | None] | None = None) -> None:
        """Hand on what the session has to say and to do."""
        for event in self._session.drain():
            for client in list(self._clients):
                self._put(client, event)
        for command in self._session.drain_commands():
            self._do(command, sender)

    def _do(self, command: SessionCommand, sender: asyncio.Queue[Event | None] | None) -> None:
        call, control = self.call, self._control
        match command:
            case Configure(settings, tools, session):
                control.offer_tools(tools)
                if session is not None:
                    control.inform(SessionUpdated(session))
                call.configure_turns(settings)
                self._manual = settings.mode is TurnMode.MANUAL
                if self._manual:
                    control.command(OpenUtterance())
            case HandOver(utterance) if utterance.is_typed:
                self._handed_over.append(utterance)
                control.hand_over_typed(utterance)
            case HandOver(utterance):
                control.hand_over(utterance)
            case InterruptReply():
                call.interrupt()
            case Commit(event_id):
                self._committing = True
                self._spawn(self._commit(event_id, sender))
            case Clear():
                control.command(ClearUtterance())
                if self._manual:
                    control.command(OpenUtterance())
            case FinishTool(request, output, soon):
                self._spawn(self._finish_tool(request, output, TOOL_DELAY if soon else 0.0))
            case AddContext(role, text):
                control.inform(ContextAdded(role, text))
            case AwaitReply(response_id):
                self._spawn(self._expect(response_id))

    async def _commit(self, event_id: str | None, sender: asyncio.Queue[Event | None] | None) -> None:
        self._committed.clear()
        try:
            committed = await self._control.execute(CommitUtterance())
            if committed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(COMMIT_TIMEOUT):
                        await self._committed.wait()
        except StackError:
            return
        if not committed and sender is not None:
            self._put(sender, self._session.refuse(event_id))
        if self._manual:
            self._control.command(OpenUtterance())
        self._committing = False
        while self._held and not self._committing:
            self.receive(*self._held.popleft())

    async def _finish_tool(self, request: str, output: str, delay: float) -> None:
        await asyncio.sleep(delay)
        self._session.tool_finished(request)
        self._control.finish_tool(request, output)

    async def _expect(self, response_id: str) -> None:
        await asyncio.sleep(RESPONSE_TIMEOUT)
        self._session.give_up(response_id)
        self._pump()


async def _send_all(channel: DataChannel, client: asyncio.Queue[Event | None]) -> None:
    try:
        while (event := await client.get()) is not None:
            await channel.send(json.dumps(event))
    except StackError:
        log.debug("the channel %s closed while there was something to be said", channel.label)


_TRANSPORTS: AppKey[dict[str, RealtimeTransport]] = AppKey("realtime transports", dict)
_PASSES_EVENTS: AppKey[bool] = AppKey("the program passes events through", bool)


def prepare(app: Application, *, program_passes_events: bool = False) -> None:
    """Add the routes to an application."""
    app[_TRANSPORTS] = {}
    app[_PASSES_EVENTS] = program_passes_events
    app.add_routes(routes)


@routes.post("/v1/realtime/calls")
async def create_call(request: HttpRequest) -> HttpResponse:
    """Take an offer, alone or with a session."""
    service = request.app[SERVICE]
    principal = service.authorise(request, Scope.CALL)
    session: dict[str, Any] = {}
    if request.content_type == "application/sdp":
        offer = await read_text(request)
    elif request.content_type == "multipart/form-data":
        offer, session = await _read_multipart(request)
    else:
        raise RequestRefused(415, "the offer comes as application/sdp, or in multipart/form-data with a session")
    merged = {**principal.session, **session}
    _merged(request, merged)
    if "model" in request.query:
        merged.setdefault("model", request.query["model"])
    taken = await service.accept(request, principal, offer, merged)
    call = taken.call
    if taken.is_new and not request.app[_PASSES_EVENTS]:
        service.keep(call.id, request.app[_TRANSPORTS], call.id, RealtimeTransport(call, merged))
    response = HttpResponse(
        status=201,
        text=taken.answer,
        content_type="application/sdp",
        headers={"Location": location_below(request, CALL_PREFIX + call.id)},
    )
    link_ice_servers(request, response)
    return response


async def _read_multipart(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    parts: dict[str, str] = {}
    body = await request.read()
    try:
        for name, content in parse_form(request.headers["Content-Type"], body):
            if name not in ("sdp", "session") or name in parts:
                raise RequestRefused(400, "the parts of the form are one sdp and, if any, one session")
            parts[name] = content.decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(400, "the form is not UTF-8") from error
    except ValueError as error:
        raise RequestRefused(400, "the body is not multipart/form-data") from error
    if "sdp" not in parts:
        raise RequestRefused(400, "the form has no part named sdp")
    return parts["sdp"], parse_json(parts["session"], request.app.max_body) if "session" in parts else {}


def _merged(request: HttpRequest, session: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole session that begins with these fields; raises `RequestRefused` for what cannot be.

    Where the program passes a model's events through, the fields are the model's to judge.
    """
    merge = merge_unchecked if request.app[_PASSES_EVENTS] else merge_session
    try:
        return merge(DEFAULT_SESSION, session)
    except InvalidField as error:
        refused = RequestRefused(400, str(error))
        refused.code, refused.param = error.code, error.param
        raise refused from error


@routes.post("/v1/realtime/client_secrets")
async def create_secret(request: HttpRequest) -> HttpResponse:
    """Make a secret that a browser may have."""
    service = request.app[SERVICE]
    service.authorise(request, Scope.SECRETS)
    text = await read_text(request)
    body = parse_json(text, request.app.max_body) if text else {}
    expiry = body.get("expires_after") or {}
    seconds = expiry.get("seconds", 600) if isinstance(expiry, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 10 <= seconds <= 7200:
        refused = RequestRefused(400, "expires_after.seconds is a number from 10 to 7200")
        refused.param = "expires_after.seconds"
        raise refused
    session = body.get("session") or {}
    if not isinstance(session, dict):
        raise RequestRefused(400, "session is an object")
    told = {**_merged(request, session), "object": "realtime.session"}
    value, expires_at = service.keys.make_secret(seconds, session)
    return json_response({"value": value, "expires_at": expires_at, "session": told})


@routes.post("/v1/realtime/calls/{call_id}/hangup")
async def hang_up(request: HttpRequest) -> HttpResponse:
    """End a call."""
    call_id = request.match_info["call_id"].removeprefix(CALL_PREFIX)
    request.app[SERVICE].find_call(request, call_id).hang_up()
    return HttpResponse(status=200)


@routes.get("/v1/realtime")
async def sideband(request: HttpRequest) -> SocketSession:
    """Join a call's session over a WebSocket."""
    call_id = request.query.get("call_id")
    if call_id is None:
        raise RequestRefused(400, "only calls that are up can be joined here: say ?call_id=")
    call = request.app[SERVICE].find_call(request, call_id.removeprefix(CALL_PREFIX))
    transport = request.app[_TRANSPORTS].get(call.id)
    if transport is None:
        raise RequestRefused(404, "this call has no session of ours")
    if not request.upgrades:
        raise RequestRefused(426, "the events of a session come over a WebSocket", Upgrade="websocket")
    if transport.is_full:
        raise RequestRefused(429, "too many listen to this session")
    return SocketSession(partial(_serve_socket, transport), ("realtime",), MAX_MESSAGE)


async def _serve_socket(transport: RealtimeTransport, socket: WebSocket) -> None:
    try:
        client = transport.join()
    except LocalError:
        return  # the last place was taken while this socket was being opened
    sending = asyncio.create_task(_send_to_socket(socket, client))
    try:
        while (message := await socket.receive()) is not None:
            transport.receive(message if isinstance(message, str) else b"", client)
    finally:
        transport.leave(client)
        sending.cancel()


async def _send_to_socket(socket: WebSocket, client: asyncio.Queue[Event | None]) -> None:
    try:
        while (event := await client.get()) is not None:
            await socket.send(json.dumps(event))
        await socket.close()
    except ConnectionError:
        log.debug("a WebSocket closed while there was something to be said")
