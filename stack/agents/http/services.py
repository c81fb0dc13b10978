"""Requests to servers that speak OpenAI's HTTP protocol: words of sound, text of a chat, sound of text.

The library `openai` does HTTP, forms and server-sent events; here is what a call needs besides: no wait is without
end, a request that is not wanted any more is cut off, and every failure is a `ServiceFailed` of one line. It is
tried again once where the server asks for a short wait (429 or 503 with `Retry-After`) or the connection could
not be made.

Left out: speech as server-sent events and compressed speech (PCM and WAV are what every such server has).
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import wave
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from stack.agents.http.config import HttpAgentConfig, Task
from stack.agents.http.sound import SpeechFormatError, SpeechReader
from stack.agents.http.thoughts import Thoughts
from stack.audio import Samples
from stack.core.errors import LocalError, StackError
from stack.core.urls import without_user
from stack.core.values import as_unicode

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

log = logging.getLogger("stack.agents.http")

LONGEST_RETRY_WAIT = 2.0
"""Seconds of `Retry-After` that a caller is kept waiting for; a server that asks for more has failed."""
MAX_ANSWER = 20_000
"""Characters of one answer; a model that goes on is cut off."""
MAX_ANSWER_TIME = 300.0
"""Seconds that one answer may take to be written; it is cut off then."""
LONGEST_END = 1.0
"""Seconds that a response may take to end when the model has said that it is done."""
MAX_CALLS = 16
"""Functions that one answer may call."""
MAX_PROBLEM = 300
"""Characters of what a server says of its failure."""
_END: Any = object()
"""Stands for the end of a stream, which may have `null` in it."""
MAX_SPEECH = 120.0
"""Seconds of sound that one sentence may have."""
SLOWEST_SPEECH = 4.0
"""Seconds that a second of sound may take to come, in the mean and beyond what `Patience.next_sound` allows."""
_TOO_LONG = re.compile(r"^answered 413|context.*(length|size|window|overflow)|too long|too large", re.IGNORECASE)
_HINTS = {Task.TRANSCRIPTION: ("whisper", "transcribe", "parakeet"), Task.SPEECH: ("tts", "kokoro", "piper")}
"""What the names of models for a task have in them."""


class ServiceFailed(StackError):
    """A server did not do what it was asked to: which, and why, on one line."""

    def __init__(self, task: Task, url: str, problem: str) -> None:
        self.task = task
        self.problem = " ".join(problem.split())[:MAX_PROBLEM]
        super().__init__(f"{task.value} at {without_user(url)}: {self.problem}")

    @property
    def is_too_long(self) -> bool:
        """True if the server refused a conversation as too long for its model; each says it in other words."""
        return bool(_TOO_LONG.search(self.problem))


class ModelNotChosen(ServiceFailed):
    """The server has several models, and none was said."""


class NotTheProtocol(ValueError):
    """A server answered that all is well, with something else than what it was asked for."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants to be called."""

    id: str
    name: str
    arguments: str
    """A JSON object, if all is well; a model may stop in the middle of it."""

    @property
    def is_readable(self) -> bool:
        """True if the arguments are a JSON object."""
        try:
            msgspec.json.decode(self.arguments, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            return False
        return True


class ChatAnswer:
    """What the model says: iterate over the pieces of its text; `calls` and `cut` are there afterwards."""

    def __init__(self, services: Services, messages: Sequence[Any], tools: Sequence[Any]) -> None:
        self._services, self._messages, self._tools = services, messages, tools
        self._parts: dict[int, list[str]] = {}  # id, name and arguments, in the order of their coming
        self._place: dict[int, int] = {}  # of the call that an index of the protocol stands for now
        self.cut = False
        """True if the answer ended at a limit."""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The functions that the model wants to be called."""
        calls = dict[str, ToolCall]()
        for number, (given, name, arguments) in self._parts.items():
            if name:
                call_id = as_unicode(given) or f"call_{number}"
                while call_id in calls:  # what each returns is told by the id
                    call_id = f"{call_id}_{number}"
                calls[call_id] = ToolCall(call_id, as_unicode(name), as_unicode(arguments.strip() or "{}"))
        return tuple(calls.values())

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Iterate over the text as it comes; raises `ServiceFailed`."""
        services, length = self._services, 0
        patience = services.config.patience
        with services.failures(Task.CHAT):
            client = await services.client(Task.CHAT)
            model = await services.model(Task.CHAT)
            tools = {"tools": list(self._tools)} if self._tools else {}

            async def begin() -> Any:
                return await client.chat.completions.create(
                    model=model, messages=list(self._messages), stream=True, **tools
                )

            stream = await services.begin(begin, patience.first_token, "did not begin to answer")
            try:
                wait, what = patience.first_token, "sent no text"
                is_chat, finished, thoughts, clock = False, False, Thoughts(), asyncio.get_running_loop().time
                last = clock() + MAX_ANSWER_TIME
                until = clock() + wait
                while True:
                    try:
                        chunk = await _until(until, anext(stream, _END), f"{what} within {wait:g} s")
                    except TimeoutError:
                        if finished:
                            break  # the server does not end the response
                        raise
                    if chunk is _END:
                        break
                    if getattr(chunk, "object", "") == "error":
                        raise NotTheProtocol(f"broke off: {getattr(chunk, 'message', None) or 'an error'}")
                    for choice in (chunk.choices or [])[:1]:
                        is_chat = True
                        finished = bool(choice.finish_reason)
                        self.cut = choice.finish_reason == "length"
                        written = _text_of(choice.delta and choice.delta.content)
                        written += _text_of(choice.delta and getattr(choice.delta, "refusal", None))  # its words
                        piece = thoughts.without(written)
                        has_calls = self._take_calls((choice.delta and choice.delta.tool_calls) or [])
                        length += len(written)
                        if piece.strip() or has_calls:  # nothing else is what the caller waits for
                            wait, what = patience.next_token, "fell silent in the middle of its answer"
                            until = clock() + wait
                        if finished:
                            until = min(until, clock() + LONGEST_END)
                        if piece:
                            yield piece
                    if length > MAX_ANSWER or clock() > last:
                        self.cut = True
                        break
                if not is_chat:
                    kind = stream.response.headers.get("content-type", "without a type")
                    raise NotTheProtocol(f"answered {kind} without any chunk of a chat")
            finally:
                await stream.close()

    def _take_calls(self, deltas: Sequence[Any]) -> bool:
        """Put calls together: OpenAI sends them in pieces by index, some servers whole and all with index 0.

        Return True if there was anything in the pieces.
        """
        before = sum(len(part) for parts in self._parts.values() for part in parts)
        for delta in deltas:
            index = delta.index or 0
            at = self._place.get(index)
            known = self._parts[at][0] if at is not None else ""
            if at is None or (delta.id and known and delta.id != known):
                if len(self._parts) >= MAX_CALLS:
                    continue
                at = self._place[index] = len(self._parts)
                self._parts[at] = [delta.id or "", "", ""]
            function = delta.function
            if function is not None:
                self._parts[at][1] += (function.name or "")[: MAX_ANSWER - len(self._parts[at][1])]
                given = function.arguments or ""
                if isinstance(given, dict):  # some servers send what is to be JSON as it is
                    given = json.dumps(given)
                self._parts[at][2] += given[: MAX_ANSWER - len(self._parts[at][2])]
        return sum(len(part) for parts in self._parts.values() for part in parts) > before


class Services:
    """The three servers. Everything here belongs to one event loop."""

    def __init__(self, config: HttpAgentConfig, models: dict[Task, str] | None = None) -> None:
        """`models` are those that the servers have, as far as it is known; what is found out is added."""
        self.config = config
        self._clients: dict[tuple[str, str], AsyncOpenAI] = {}
        self._models: dict[Task, str] = {} if models is None else models
        self._users = 0

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Context: connections are kept while any call is inside."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                clients, self._clients = list(self._clients.values()), {}
                for client in clients:
                    await client.close()

    async def client(self, task: Task) -> Any:
        """Return the `AsyncOpenAI` for a task; tasks of one server share one. Untyped: the library is optional."""
        where = self.config.url(task), self.config.key(task)
        if where not in self._clients:
            made = await asyncio.to_thread(_make_client, *where, self.config.patience.connect)
            self._clients.setdefault(where, made)
        return self._clients[where]

    async def model(self, task: Task) -> str:
        """Return the model that is chosen, or the one that the server has; raises `ServiceFailed`."""
        chosen = self.config.model(task) or self._models.get(task)
        if chosen is None:
            client = await self.client(task)
            names = await _within(
                self.config.patience.first_token, _list_models(client), "did not say which models it has"
            )
            chosen = self._models[task] = _choose(task, self.config.url(task), names)
        return chosen

    async def check(self) -> None:
        """Ask each server for its models: `LocalError` for a key or a model that cannot be, a warning otherwise.

        A server that does not answer may still be starting; one that tells no models may do all the rest.
        """
        for task in Task:
            try:
                with self.failures(task):
                    client = await self.client(task)
                    await _within(self.config.patience.connect, _list_models(client), "does not answer")
                    await self.model(task)
            except ModelNotChosen as failed:
                raise LocalError(str(failed)) from failed
            except ServiceFailed as failed:
                status = _status(failed.__cause__) if isinstance(failed.__cause__, Exception) else None
                # a restricted key of OpenAI's is told so by 401 or 403
                is_model_known = self.config.model(task) is not None
                if is_model_known and (status == 403 or (status == 401 and "scope" in failed.problem)):
                    log.warning("%s; it is not known whether it takes this key", failed)
                elif status in (401, 403):
                    raise LocalError(f"{failed}") from failed
                else:
                    log.warning("%s; calls will say so until it does", failed)

    async def transcribe(self, samples: Samples, sample_rate: int) -> str:
        """Return what is said in int16 samples of shape (n,); raises `ServiceFailed`."""
        file = io.BytesIO()
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(sample_rate)
            sound.writeframes(samples.astype("<i2").tobytes())
        task, patience = Task.TRANSCRIPTION, self.config.patience
        language = {"language": self.config.language} if self.config.language else {}
        with self.failures(task):
            client, model = await self.client(task), await self.model(task)

            async def begin() -> Any:
                return await client.audio.transcriptions.with_raw_response.create(
                    file=("turn.wav", file.getvalue(), "audio/wav"),
                    model=model,
                    response_format="json",
                    **language,
                )

            return _transcript_of(await self.begin(begin, patience.transcript, "did not answer"))

    def chat(self, messages: Sequence[Any], tools: Sequence[Any]) -> ChatAnswer:
        """Return the model's answer to a conversation."""
        return ChatAnswer(self, messages, tools)

    async def speak(self, text: str) -> AsyncGenerator[tuple[Samples, int], None]:
        """Iterate over the sound of a text as it comes: int16 mono of shape (n,), and its rate in Hz.

        Raises `ServiceFailed`.
        """
        task, patience = Task.SPEECH, self.config.patience
        with self.failures(task):
            client, model = await self.client(task), await self.model(task)

            async def begin() -> Any:
                return await client.audio.speech.with_streaming_response.create(
                    input=text, model=model, voice=self.config.voice, response_format="pcm"
                ).__aenter__()

            response = await self.begin(begin, patience.first_sound, "did not begin to speak")
            try:
                reader = SpeechReader(response.headers.get("content-type", ""), self.config.speech_rate)
                chunks = response.iter_bytes()
                clock, seconds = asyncio.get_running_loop().time, 0.0
                allowed, most, what = patience.first_sound, patience.first_sound, "sent no sound"
                while seconds < MAX_SPEECH:
                    began = clock()
                    wait = max(0.0, min(allowed, most))
                    chunk = await _until(began + wait, anext(chunks, None), f"{what} within {most:g} s")
                    if chunk is None:
                        break
                    allowed -= clock() - began  # what is done with the sound takes time, too: it is not counted
                    samples = reader.feed(chunk)
                    if not len(samples):
                        continue
                    if not seconds:
                        allowed = most = patience.next_sound
                        what = "fell silent in the middle of a sentence"
                    seconds += len(samples) / reader.sample_rate
                    allowed += SLOWEST_SPEECH * len(samples) / reader.sample_rate
                    yield samples, reader.sample_rate
                left = reader.finish()
                if len(left):
                    yield left, reader.sample_rate
            finally:
                await response.close()

    async def begin(self, request: Callable[[], Awaitable[T]], seconds: float, what: str) -> T:
        """Return what comes of a request, tried again once where that helps."""
        return await _within(seconds, _twice(request), what)

    def failures(self, task: Task) -> _Failures:
        """Context: whatever a server or the library raises becomes `ServiceFailed`."""
        return _Failures(task, self.config.url(task))


def _text_of(content: object) -> str:
    """Return the text of a delta; some servers send a list of parts, of which those of type `text` are said."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(_text_of(part.get("text")) for part in parts)
    if content is not None and not isinstance(content, str):
        raise NotTheProtocol(f"sent {type(content).__name__} where text belongs")
    return content or ""


def _transcript_of(response: Any) -> str:
    """Return the words in a response: JSON, or plain text, which some servers send although JSON was asked for."""
    said, kind = response.parse(), response.headers.get("content-type", "")
    if isinstance(said, str):
        if not kind.lower().startswith(("text/plain", "application/json")) and kind:
            raise NotTheProtocol(f"answered {kind} where a transcript was asked for")
        return as_unicode(said)
    return as_unicode(_text_of(said.text))


class _Failures:
    def __init__(self, task: Task, url: str) -> None:
        self._task, self._url = task, url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, StackError):
            log.debug("%s failed", self._task.value, exc_info=error)
            raise ServiceFailed(self._task, self._url, _problem(error)) from error


async def _twice(request: Callable[[], Awaitable[T]]) -> T:
    import openai

    try:
        return await request()
    except openai.APITimeoutError:
        raise
    except openai.APIConnectionError:  # a connection that was kept for too long, or a server that just starts
        wait = 0.0
    except openai.APIStatusError as error:
        wait = _retry_after(error.response.headers.get("retry-after"))
        if error.status_code not in (429, 503) or wait > LONGEST_RETRY_WAIT:
            raise
    await asyncio.sleep(wait)
    return await request()


async def _within(seconds: float, waiting: Awaitable[T], what: str) -> T:
    return await _until(asyncio.get_running_loop().time() + seconds, waiting, f"{what} within {seconds:g} s")


async def _until(when: float, waiting: Awaitable[T], problem: str) -> T:
    """Return what comes of `waiting`; `TimeoutError` with the problem if nothing has by a time of the loop."""
    try:
        async with asyncio.timeout_at(when):
            return await waiting
    except TimeoutError as error:
        raise TimeoutError(problem) from error


def _make_client(url: str, key: str, connect: float) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

    parts = urlsplit(url)
    http = None
    if parts.username:  # apart from the address, which the library's log shows
        user = unquote(parts.username), unquote(parts.password or "")
        http = DefaultAsyncHttpxClient(auth=user)
    return AsyncOpenAI(
        base_url=without_user(url),
        api_key=key or "none",
        max_retries=0,
        timeout=Timeout(None, connect=connect),
        http_client=http,
    )


async def _list_models(client: AsyncOpenAI) -> list[str]:
    """Return the names of a server's models; none of one that has no such list."""
    import openai

    try:
        return [model.id async for model in client.models.list()]
    except openai.APIStatusError as error:
        if error.status_code in (404, 405, 501):
            return []
        raise


def _choose(task: Task, url: str, names: Sequence[str]) -> str:
    hints = _HINTS.get(task, ())
    fitting = [name for name in names if any(hint in name.lower() for hint in hints)]
    if fitting or len(names) == 1:
        return (fitting or names)[0]
    option = {Task.TRANSCRIPTION: "--stt-model", Task.CHAT: "--llm-model", Task.SPEECH: "--tts-model"}[task]
    there = f"has {', '.join(names[:10])}{' …' if len(names) > 10 else ''}" if names else "names none"
    raise ModelNotChosen(task, url, f"say which model it is to use ({option}): it {there}")


def _retry_after(value: str | None) -> float:
    """Return the seconds that a server asks to be left alone; a date (RFC 9110 §10.2.3) is too long a wait."""
    try:
        return max(0.0, float(value)) if value else 0.5
    except ValueError:
        return LONGEST_RETRY_WAIT + 1


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _problem(error: Exception) -> str:
    """Return what went wrong, without what the library wraps around it."""
    status, body = _status(error), getattr(error, "body", None)
    if isinstance(error, SpeechFormatError | NotTheProtocol | TimeoutError):
        return str(error) or "took too long"
    said = str(body.get("message") or body) if isinstance(body, dict) else str(body or "")
    if status is not None:
        after = error.response.headers.get("retry-after") if hasattr(error, "response") else None
        return f"answered {status}{f' (Retry-After: {after})' if after else ''}{f': {said}' if said else ''}"
    if said and isinstance(body, str):
        return f"broke off: {said}"
    cause = error.__cause__ or error
    if isinstance(
        cause, AttributeError | LookupError | TypeError
    ):  # raised by what reads it, here or in the library
        return f"did not answer in OpenAI's protocol ({type(cause).__name__})"
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
