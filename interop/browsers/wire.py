"""Commands and events as JSON over a WebSocket: the part that DevTools and BiDi have in common."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from interop.browsers.process import BrowserError

EventHandler = Callable[[str, dict[str, Any]], None]
COMMAND_TIMEOUT = 120.0
"""Seconds; only to turn a browser that hangs into an error."""


class Wire:
    """A connection on which commands are numbered and their results matched by number."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, on_event: EventHandler) -> None:
        self._websocket = websocket
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._closed = False

    async def command(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float = COMMAND_TIMEOUT,
        **envelope: Any,
    ) -> dict[str, Any]:
        """Send a command and return its result. `envelope` are members beside `params` (DevTools' `sessionId`)."""
        if self._closed:
            raise BrowserError(f"{method}: the browser has gone")
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._websocket.send_json({"id": number, "method": method, "params": params or {}, **envelope})
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise BrowserError(f"{method}: no answer within {timeout:g} s") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise BrowserError(f"{method}: {error}") from error
        finally:
            self._waiting.pop(number, None)

    async def read(self) -> None:
        """Hand out results and events until the connection closes."""
        async for message in self._websocket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            data = json.loads(message.data)
            future = self._waiting.get(data.get("id"))
            if future is None:
                if "method" in data:
                    self._on_event(data["method"], data.get("params", {}))
            elif not future.done():
                _settle(future, data)
        self._closed = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BrowserError("the browser has gone"))


def _settle(future: asyncio.Future[dict[str, Any]], data: dict[str, Any]) -> None:
    error = data.get("error")
    if error is None:
        future.set_result(data.get("result", {}))
    else:
        # DevTools has an object here, BiDi a code beside a message.
        future.set_exception(
            BrowserError(error["message"] if isinstance(error, dict) else f"{error}: {data['message']}")
        )


@asynccontextmanager
async def connect(url: str, on_event: EventHandler, timeout: float) -> AsyncIterator[Wire]:
    """Open the connection to a browser."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=timeout)) as session:
        try:
            websocket = await session.ws_connect(url, max_msg_size=0)
        except (aiohttp.ClientError, OSError) as error:
            raise BrowserError(f"cannot connect to {url}: {error}") from error
        wire = Wire(websocket, on_event)
        reader = asyncio.create_task(wire.read())
        try:
            yield wire
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
            # The close handshake is not awaited: the process is about to be ended.
            websocket._response.close()
