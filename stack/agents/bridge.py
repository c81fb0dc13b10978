"""The bridge: WebRTC at the edge, a model that speaks OpenAI's Realtime protocol over a WebSocket behind it.

    microphone  -> input_audio_buffer.append                         -> model
    speaker     <- queued and paced here <- response.output_audio.delta <- model
    oai-events  <-> every other event, as it is                      <-> model

A model speaks faster than real time; what it sent is queued here and dropped at an interruption, and the model is
told by `conversation.item.truncate` what was heard. Who decides that a turn is over, or interrupted, is a choice:
the *model* (its turn detection stays on, ours is off) or the *stack* (the other way round).

A connection that breaks is made again, `reconnects` times in a row with a growing delay; the model then begins
anew with the last session that it was given, and the client hears of it in an `error` event. What is said
meanwhile is lost, what waits to be spoken is spoken. A refusal (401, 403, 404) is final. The key goes to the
model alone.

Left out: replaying the conversation's items after a reconnect; models that send Opus.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import aiohttp
import numpy as np

from stack.aio import Call, DataChannel, control_of
from stack.audio import G711Decoder, G711Encoder, G711Law, Resampler, Samples, to_int16
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.urls import without_user
from stack.core.values import read_json_object
from stack.voice.commands import BeginReply, EndReply, Interrupt, WriteReply
from stack.voice.events import ReplyFinished, ReplyInterrupted, ReplyStarted, Utterance
from stack.voice.turns import TurnMode, TurnSettings

log = logging.getLogger("stack.bridge")

CHANNEL = "oai-events"
MAX_AHEAD = 600.0
"""Seconds of the model's sound that may wait to be spoken; more is dropped."""
MAX_WAITING = 2000
"""Events that wait for the model or for the client; more are dropped, the newest first."""
MAX_MESSAGE = 16 << 20
_G711_PIECE = 160  # what one packet would hold; a decoder takes no more than some
ABSENT_AFTER = 0.5
"""Seconds without a frame of the microphone after which the model is sent as much silence."""
MAX_ABSENT = 20.0
"""Seconds of such silence, at most: by then every turn is over."""
STABLE = 10.0
"""Seconds after which a connection counts as good, and the next break as the first."""

Event = dict[str, Any]
ToolFunction = Callable[[Mapping[str, Any]], Awaitable[str]]


class AudioFormat(Enum):
    """How sound is written in the model's events."""

    PCM16 = "audio/pcm"
    PCMU = "audio/pcmu"
    PCMA = "audio/pcma"

    @property
    def rate(self) -> int:
        """In Hz."""
        return 24_000 if self is AudioFormat.PCM16 else 8_000


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """Where the model is and who decides; `key` goes to the model alone."""

    url: str
    key: str = field(default="", repr=False)
    turns: str = "model"
    """"model" or "stack": who ends turns and interrupts."""
    format: AudioFormat = AudioFormat.PCM16
    session: Mapping[str, Any] = field(default_factory=dict)
    """What the model is told first, beneath what the client asks for."""
    tools: Mapping[str, ToolFunction] = field(default_factory=dict)
    """Functions that are called here instead of at the client."""
    reconnects: int = 3
    first_delay: float = 0.5
    """Seconds before the first reconnection; doubled for each that follows."""

    def __post_init__(self) -> None:
        if self.turns not in ("model", "stack"):
            raise LocalError(f"turns are decided by the model or the stack, not by {self.turns!r}")
        if not self.url.startswith(("ws://", "wss://", "http://", "https://")):
            raise LocalError(f"{without_user(self.url)!r} is not a ws:// or wss:// address")


def bridge(config: BridgeConfig) -> Callable[[Call], Awaitable[None]]:
    """Return the program that connects each call to the model."""

    async def program(call: Call) -> None:
        await _Bridge(call, config).run()

    return program


@dataclass(slots=True)
class _Spoken:
    """One item of the model as we speak it."""

    response_id: str
    item_id: str
    content_index: int
    number: int = 0
    received: int = 0
    """Samples."""
    whole: bool = False
    waiting: list[Samples] = field(default_factory=list)


class _Bridge:
    """One call and its model. Everything runs on the program's loop."""

    def __init__(self, call: Call, config: BridgeConfig) -> None:
        self._call, self._config = call, config
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._to_model: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._to_client: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._session: Event = {**config.session, **call.context.session}
        self._speaking: _Spoken | None = None
        self._next: deque[_Spoken] = deque()
        self._dropped: deque[str] = deque(maxlen=64)
        self._response: str | None = None
        self._tools: set[asyncio.Task[None]] = set()
        law = None if config.format is AudioFormat.PCM16 else G711Law[config.format.name]
        self._encoder = None if law is None else G711Encoder(law)
        self._decoder = None if law is None else G711Decoder(law, config.format.rate)
        self._resampler: Resampler | None = None

    async def run(self) -> None:
        """Bridge until the call is over or the model is lost."""
        call, by_model = self._call, self._config.turns == "model"
        call.configure_turns(TurnSettings(mode=TurnMode.FULL_DUPLEX) if by_model else TurnSettings())
        watching = call.watch()
        call.listen()
        async with aiohttp.ClientSession() as http:
            parts = [self._connection(http), self._follow(watching), self._microphone(), self._channel()]
            tasks = [asyncio.create_task(part) for part in parts]
            connection = tasks[0]
            ended = asyncio.create_task(call.wait_ended())
            try:
                await asyncio.wait({connection, ended}, return_when=asyncio.FIRST_COMPLETED)
                if connection.done() and not call.ended:
                    await asyncio.sleep(0.2)  # the client may still read why
            finally:
                for task in (*tasks, *self._tools, ended):
                    task.cancel()
                await asyncio.gather(*tasks, ended, return_exceptions=True)

    # -- the model -------------------------------------------------------------------------------------------

    async def _connection(self, http: aiohttp.ClientSession) -> None:
        """Connect, and connect again as the policy says; returns when there is no hope."""
        loop, config = asyncio.get_running_loop(), self._config
        headers = {"Authorization": f"Bearer {config.key}"} if config.key else {}
        failures = 0
        while True:
            began = loop.time()
            try:
                async with http.ws_connect(
                    config.url, headers=headers, heartbeat=20.0, max_msg_size=MAX_MESSAGE
                ) as socket:
                    await self._converse(socket)
                reason = "the model closed the connection"
            except aiohttp.WSServerHandshakeError as error:
                reason = f"the model refused the connection: {error.status}"
                if error.status in (401, 403, 404):
                    failures = config.reconnects
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                reason = f"the model cannot be reached: {type(error).__name__}"
            self._response = None
            if loop.time() - began >= STABLE:
                failures = 0
            log.warning("call %s: %s", self._call.id, reason)
            if failures >= config.reconnects:
                self._send_error("upstream_lost", reason)
                return
            self._send_error("upstream_reconnecting", reason)
            await asyncio.sleep(config.first_delay * 2**failures)
            failures += 1

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({"type": "session.update", "session": self._adapted(self._session)})
        self._socket = socket
        sending = asyncio.create_task(self._send_to_model(socket))
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    try:
                        event = read_json_object(message.data, MAX_MESSAGE)
                    except ParseError:
                        continue
                    if isinstance(event.get("type"), str):
                        await self._on_model(event)
        finally:
            self._socket = None
            sending.cancel()

    async def _send_to_model(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            event = await self._to_model.get()
            try:
                await socket.send_json(event)
            except (ConnectionError, RuntimeError):
                return  # the reading side learns of it as well

    def _adapted(self, session: Mapping[str, Any]) -> Event:
        """Return a session with the sound as we send it, and with turn detection where it was decided."""
        audio = session.get("audio") if isinstance(session.get("audio"), dict) else {}
        assert isinstance(audio, dict)
        said: Event = {"type": self._config.format.value}
        if self._config.format is AudioFormat.PCM16:
            said["rate"] = self._config.format.rate
        given, spoken = audio.get("input"), audio.get("output")
        heard = {**(given if isinstance(given, dict) else {}), "format": said}
        if self._config.turns == "stack":
            heard["turn_detection"] = None
        output = {**(spoken if isinstance(spoken, dict) else {}), "format": said}
        return {"type": "realtime", **session, "audio": {**audio, "input": heard, "output": output}}

    def _send_model_event(self, kind: str, **fields: Any) -> None:
        if self._to_model.full():
            log.debug("call %s: an event for the model was dropped", self._call.id)
            return
        self._to_model.put_nowait({"type": kind, "event_id": f"bridge_{secrets.token_hex(6)}", **fields})

    async def _on_model(self, event: Event) -> None:
        match event["type"]:
            case "response.output_audio.delta":
                await self._on_sound(event)
                return  # the client has it on its track
            case "response.output_audio.done":
                await self._on_whole(str(event.get("response_id")), str(event.get("item_id")))
            case "response.created":
                response = event.get("response")
                self._response = str(response.get("id")) if isinstance(response, dict) else None
            case "response.done":
                await self._on_response_done(event)
            case "input_audio_buffer.speech_started" if self._config.turns == "model":
                await self._interrupt()
        self._send_event(event)

    # -- speaking --------------------------------------------------------------------------------------------

    async def _on_sound(self, event: Event) -> None:
        response_id, item_id = str(event.get("response_id")), str(event.get("item_id"))
        if response_id in self._dropped:
            return
        try:
            data = base64.b64decode(str(event.get("delta")), validate=True)
        except ValueError:
            return
        if self._decoder is not None:
            samples = self._decode(data, self._decoder)
        else:
            samples = to_int16(data[: len(data) & ~1])
        spoken = self._find(response_id, item_id)
        if spoken is None:
            spoken = _Spoken(response_id, item_id, int(event.get("content_index") or 0))
            self._next.append(spoken)
            await self._begin_next()
        if spoken.received / self._config.format.rate > MAX_AHEAD:
            log.warning("call %s: the model is more than %g s ahead", self._call.id, MAX_AHEAD)
            return
        spoken.received += len(samples)
        if spoken is self._speaking:
            await self._write(spoken, samples)
        else:
            spoken.waiting.append(samples)

    @staticmethod
    def _decode(data: bytes, decoder: G711Decoder) -> Samples:
        pieces = [decoder.decode(data[at : at + _G711_PIECE]) for at in range(0, len(data), _G711_PIECE)]
        return np.concatenate([np.zeros(0, np.int16), *pieces])

    def _find(self, response_id: str, item_id: str) -> _Spoken | None:
        wanted = (response_id, item_id)
        spoken = [self._speaking] if self._speaking is not None else []
        return next((one for one in (*spoken, *self._next) if (one.response_id, one.item_id) == wanted), None)

    async def _begin_next(self) -> None:
        """Begin the next item if nothing is being spoken."""
        if self._speaking is not None or not self._next:
            return
        spoken = self._speaking = self._next.popleft()
        spoken.number = await control_of(self._call).execute(BeginReply())
        waiting, spoken.waiting = spoken.waiting, []
        for samples in waiting:
            await self._write(spoken, samples)
        if spoken.whole:
            self._end(spoken)

    async def _write(self, spoken: _Spoken, samples: Samples) -> None:
        if len(samples):
            await control_of(self._call).execute(WriteReply(spoken.number, samples, self._config.format.rate))

    def _end(self, spoken: _Spoken) -> None:
        control_of(self._call).command(EndReply(spoken.number))

    async def _on_whole(self, response_id: str, item_id: str) -> None:
        spoken = self._find(response_id, item_id)
        if spoken is not None and not spoken.whole:
            spoken.whole = True
            if spoken is self._speaking:
                self._end(spoken)

    async def _on_response_done(self, event: Event) -> None:
        response = event.get("response")
        if not isinstance(response, dict):
            return
        self._response = None
        for spoken in [self._speaking, *self._next]:
            if spoken is not None and spoken.response_id == response.get("id"):
                await self._on_whole(spoken.response_id, spoken.item_id)
        calls = [item for item in response.get("output") or [] if self._is_ours(item)]
        if calls and response.get("status") == "completed":
            task = asyncio.create_task(self._call_tools(calls))
            self._tools.add(task)
            task.add_done_callback(self._tools.discard)

    async def _interrupt(self) -> None:
        """Fall silent; `_follow` then tells the model what was heard."""
        for spoken in [self._speaking, *self._next]:
            if spoken is not None:
                self._dropped.append(spoken.response_id)
        self._next.clear()
        await control_of(self._call).execute(Interrupt())

    async def _follow(self, watching: Any) -> None:
        """What our side of the call says."""
        async for event in watching:
            spoken = self._speaking
            if isinstance(event, Utterance) and self._config.turns == "stack":
                self._send_model_event("input_audio_buffer.commit")
                self._send_model_event("response.create")
            elif spoken is None or getattr(event, "reply", None) != spoken.number:
                continue
            elif isinstance(event, ReplyStarted):
                self._send_buffer_event("started", spoken)
            elif isinstance(event, ReplyFinished):
                self._speaking = None
                self._send_buffer_event("stopped", spoken)
                await self._begin_next()
            elif isinstance(event, ReplyInterrupted):
                self._speaking = None
                self._on_interrupted(spoken, event.heard_ms)
                await self._begin_next()

    def _on_interrupted(self, spoken: _Spoken, heard_ms: float) -> None:
        self._dropped.append(spoken.response_id)
        self._send_buffer_event("cleared", spoken)
        if self._config.turns == "stack" and self._response == spoken.response_id:
            self._send_model_event("response.cancel", response_id=spoken.response_id)
        received_ms = 1000 * spoken.received // self._config.format.rate
        self._send_model_event(
            "conversation.item.truncate",
            item_id=spoken.item_id,
            content_index=spoken.content_index,
            audio_end_ms=min(round(heard_ms), received_ms),
        )

    # -- the microphone --------------------------------------------------------------------------------------

    async def _microphone(self) -> None:
        rate = self._config.format.rate
        absent = 0.0  # seconds without a frame
        while True:
            try:
                frame = await asyncio.wait_for(anext(self._call.microphone), ABSENT_AFTER)
            except StopAsyncIteration:
                return
            except TimeoutError:
                # A model's turn detection knows no time but that of the sound it is sent, and a microphone that
                # is muted or unplugged sends none: what has passed by the clock was silence.
                if self._config.turns == "model" and absent < MAX_ABSENT:
                    absent += ABSENT_AFTER
                    self._append(np.zeros(round(ABSENT_AFTER * rate), np.int16))
                continue
            absent = 0.0
            samples = frame.samples
            if frame.sample_rate != rate:
                if self._resampler is None:
                    self._resampler = Resampler(frame.sample_rate, rate, causal=True)
                samples = self._resampler.process(samples)
            self._append(samples)

    def _append(self, samples: Samples) -> None:
        if self._socket is None or not len(samples):
            return  # no model is connected
        data = self._encoder.encode(samples) if self._encoder is not None else samples.astype("<i2").tobytes()
        self._send_model_event("input_audio_buffer.append", audio=base64.b64encode(data).decode())

    # -- the client ------------------------------------------------------------------------------------------

    async def _channel(self) -> None:
        try:
            channel = await self._call.channels.wait_for(CHANNEL)
        except StackError:
            return
        sending = asyncio.create_task(self._send_to_client(channel))
        try:
            async for message in channel:
                await self._on_client(message)
        finally:
            sending.cancel()

    async def _send_to_client(self, channel: DataChannel) -> None:
        while True:
            event = await self._to_client.get()
            try:
                await channel.send(json.dumps(event))
            except StackError:
                return

    async def _on_client(self, message: str | bytes) -> None:
        try:
            event = read_json_object(message, MAX_MESSAGE)
        except ParseError:
            event = {}
        if not isinstance(event.get("type"), str):
            self._send_error("invalid_event", "an event is a JSON object with a type")
            return
        match event["type"]:
            case "input_audio_buffer.append":
                self._send_error("not_supported", "the sound of this call comes on its track", event)
            case "output_audio_buffer.clear":
                await self._interrupt()
            case "session.update":
                session = event.get("session")
                if isinstance(session, dict):
                    self._session = {**self._session, **session}
                    event = {**event, "session": self._adapted(session)}
                self._forward(event)
            case _:
                self._forward(event)

    def _forward(self, event: Event) -> None:
        if self._to_model.full():
            self._send_error("upstream_busy", "the model does not keep up", event)
        else:
            self._to_model.put_nowait(event)

    def _send_event(self, event: Event) -> None:
        if not self._to_client.full():
            self._to_client.put_nowait(event)

    def _send_buffer_event(self, what: str, spoken: _Spoken) -> None:
        self._send_event(
            {
                "type": f"output_audio_buffer.{what}",
                "event_id": f"event_{secrets.token_hex(10)}",
                "response_id": spoken.response_id,
            }
        )

    def _send_error(self, code: str, message: str, about: Event | None = None) -> None:
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        error["event_id"] = about.get("event_id") if about is not None else None
        self._send_event({"type": "error", "event_id": f"event_{secrets.token_hex(10)}", "error": error})

    # -- functions -------------------------------------------------------------------------------------------

    def _is_ours(self, item: object) -> bool:
        return (
            isinstance(item, dict)
            and item.get("type") == "function_call"
            and item.get("name") in self._config.tools
        )

    async def _call_tools(self, items: list[Event]) -> None:
        """Call what the model asked for, hand it the outputs, and ask it to go on."""
        for item in items:
            try:
                arguments = json.loads(item.get("arguments") or "{}")
                output = await self._config.tools[item["name"]](arguments)
            except Exception as error:  # the model is told of a function that fails
                log.exception("the function %s failed", item["name"])
                output = json.dumps({"error": type(error).__name__})
            self._send_model_event(
                "conversation.item.create",
                item={"type": "function_call_output", "call_id": item.get("call_id"), "output": output},
            )
        self._send_model_event("response.create")
