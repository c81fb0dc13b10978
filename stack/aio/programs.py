"""What may be a program: four kinds of function, made into the one that a host runs.

- `async def program(call)`: everything underneath is in reach.
- `async def answer(utterance)` with `yield`, or `def answer(utterance)` with `yield`, or a plain
  `def answer(utterance)`: called for each turn of the person; what is yielded or returned is said. The plain ones
  run in a thread, so they may block.

Sound is an `AudioFrame` or a pair `(samples, sample_rate)`; None says nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

from stack.aio.call import Call, control_of
from stack.audio import AudioFrame, Pcm
from stack.core.errors import LocalError, StackError
from stack.voice.client import EVENTS_CHANNEL
from stack.voice.events import ProgramFailed, Utterance

Sound: TypeAlias = "AudioFrame | tuple[Pcm, int] | None"
Program: TypeAlias = "Callable[[Call], Awaitable[None]]"
_DONE = object()
FAILURE_GRACE = 1.0
"""Seconds for which a call whose program has raised waits for the channel on which its client is told."""


def as_program(function: Callable[..., Any]) -> Program:
    """Return `function` as a program; `LocalError` for what takes no argument."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if not callable(function):
        raise LocalError(f"{function!r} is not a function")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise LocalError(
            f"a program takes one argument, the call or an utterance; {_name_of(function)} does not: {error}"
        ) from error
    except ValueError:
        pass  # a builtin that does not say what it takes
    if inspect.iscoroutinefunction(called):
        return function
    if inspect.isasyncgenfunction(called):
        return _answering(function)
    if inspect.isgeneratorfunction(called):
        return _answering(lambda utterance: _in_thread(function(utterance)))
    return _answering(lambda utterance: _once(function, utterance))


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _answering(answer: Callable[[Utterance], AsyncIterator[Sound]]) -> Program:
    async def program(call: Call) -> None:
        async for utterance in call.utterances():
            async with call.reply() as voice:
                async for sound in answer(utterance):
                    if isinstance(sound, AudioFrame):
                        await voice.write(sound)
                    elif isinstance(sound, tuple) and len(sound) == 2:
                        await voice.write(*sound)
                    elif sound is not None:
                        raise LocalError(f"sound is an AudioFrame or (samples, sample_rate), not {type(sound)}")

    return program


async def tell_of_failure(call: Call) -> None:
    """Tell the clients that the program has raised, and return when that can have left: the call ends next.

    A program may fail before its client's channel is open, which takes some round trips more than the sound.
    """
    control_of(call).tell_clients(ProgramFailed())
    with suppress(StackError, TimeoutError):
        await asyncio.wait_for(call.channels.wait_for(EVENTS_CHANNEL), FAILURE_GRACE)


async def _in_thread(iterator: Iterator[Sound]) -> AsyncIterator[Sound]:
    while (sound := await asyncio.to_thread(next, iterator, _DONE)) is not _DONE:
        yield sound  # type: ignore[misc]


async def _once(function: Callable[[Utterance], Sound], utterance: Utterance) -> AsyncIterator[Sound]:
    yield await asyncio.to_thread(function, utterance)
