"""What may be a program: four kinds of function, made into the one that a host runs.

- `async def program(call)`: everything underneath is in reach.
- `async def answer(utterance)` with `yield`, or `def answer(utterance)` with `yield`, or a plain
  `def answer(utterance)`: called for each turn of the person; what is yielded or returned is said. The plain ones
  run in a thread, so they may block. What a plain one returns may also be any of these: an iterator of sounds,
  asynchronous or not, or an awaitable.

Methods, partial functions, objects with `__call__` and what `functools.wraps` has wrapped are taken for what is
inside.

Sound is an `AudioFrame` or a pair `(samples, sample_rate)`; None says nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

from stack.aio.call import Call, control_of
from stack.aio.threads import in_thread
from stack.audio import AudioFrame, Pcm
from stack.core.counters import Counters
from stack.core.errors import LocalError, StackError
from stack.voice.client import EVENTS_CHANNEL
from stack.voice.events import ProgramFailed, Utterance
from stack.voice.turns import TurnSettings

Sound: TypeAlias = "AudioFrame | tuple[Pcm, int] | None"
Program: TypeAlias = "Callable[[Call], Awaitable[None]]"
_DONE = object()
_ITERATED = ("__iter__", "__next__", "__aiter__", "__anext__", "__await__")
"""What makes a class one whose objects give sound, so that calling it is an answer as that of a function."""
FAILURE_GRACE = 1.0
"""Seconds for which a call whose program has raised waits for the channel on which its client is told."""


def as_program(function: Callable[..., Any]) -> Program:
    """Return `function` as a program.

    Raises `LocalError` for what takes no argument, for a class in place of its object, and for an attribute of a
    host's that is none.
    """
    if not callable(function):
        raise LocalError(f"{function!r} is not a function")
    if isinstance(function, type) and not any(hasattr(function, name) for name in _ITERATED):
        raise LocalError(f"{_name_of(function)} is a class: a program is a function, or an object that is called")
    _check_attributes(function)
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise LocalError(
            f"a program takes one argument, the call or an utterance; {_name_of(function)} does not: {error}"
        ) from error
    except ValueError:
        pass  # a builtin that does not say what it takes
    if _is(inspect.iscoroutinefunction, function):
        return function
    if _is(inspect.isasyncgenfunction, function):
        return _answering(function)
    return _answering(lambda utterance: _from_thread(function, utterance))


def _check_attributes(program: Callable[..., Any]) -> None:
    """Raise `LocalError` for what a `Host` looks for in a program, and finds as something else."""
    for name, kind, is_one in (
        ("turns", "TurnSettings", lambda value: isinstance(value, TurnSettings)),
        ("prepare", "a function", callable),
        ("attach", "a function", callable),
        ("counters", "stack.core.counters.Counters", lambda value: isinstance(value, Counters)),
    ):
        value = getattr(program, name, None)
        if value is not None and not is_one(value):
            found = f"{_name_of(program)} has `{name}`, which is {kind} to a host, and not {type(value).__name__}"
            raise LocalError(f"{found}: call yours something else")


def _is(kind: Callable[[object], bool], function: Callable[..., Any]) -> bool:
    inner = inspect.unwrap(function)
    return kind(inner) or (not inspect.isroutine(inner) and kind(getattr(inner, "__call__", None)))  # noqa: B004


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


async def _from_thread(function: Callable[[Utterance], Any], utterance: Utterance) -> AsyncIterator[Sound]:
    result = await in_thread(function, utterance)
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncIterator):
        async for sound in result:
            yield sound
    elif isinstance(result, Iterator):
        while (sound := await in_thread(next, result, _DONE)) is not _DONE:
            yield sound
    else:
        yield result
