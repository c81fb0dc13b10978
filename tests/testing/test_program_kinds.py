"""What may be a program, in the forms in which Python can give one: each answers a turn in virtual time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stack import Call, LocalError, Utterance
from stack.aio import Host
from stack.testing import Caller, run_call
from stack.voice.config import ConversationConfig

RATE = 16_000
TONE = (9000 * np.sin(2 * np.pi * 500 * np.arange(RATE // 2) / RATE)).astype(np.int16)
LOUD = ConversationConfig(detector="energy", echo="off")


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as most decorators do: what is returned does not look like what it wraps."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


async def program(call: Call, sound: np.ndarray = TONE) -> None:
    async for _ in call.utterances():
        async with call.reply() as voice:
            await voice.write(sound, RATE)


def plain(utterance: Utterance, sound: np.ndarray = TONE) -> tuple[np.ndarray, int]:
    return sound, RATE


def generator(utterance: Utterance, sound: np.ndarray = TONE) -> Iterator[tuple[np.ndarray, int]]:
    for at in range(0, len(sound), 800):
        yield sound[at : at + 800], RATE


async def asynchronous(utterance: Utterance, sound: np.ndarray = TONE) -> AsyncIterator[tuple[np.ndarray, int]]:
    for at in range(0, len(sound), 800):
        await asyncio.sleep(0.001)
        yield sound[at : at + 800], RATE


async def _later(sound: np.ndarray) -> tuple[np.ndarray, int]:
    await asyncio.sleep(0.001)
    return sound, RATE


def later(utterance: Utterance, sound: np.ndarray = TONE) -> Awaitable[tuple[np.ndarray, int]]:
    return _later(sound)


class Agent:
    async def program(self, call: Call) -> None:
        await program(call)

    async def answer(self, utterance: Utterance) -> AsyncIterator[tuple[np.ndarray, int]]:
        async for sound in asynchronous(utterance):
            yield sound

    async def __call__(self, call: Call) -> None:
        await program(call)


class Answerer:
    async def __call__(self, utterance: Utterance) -> AsyncIterator[tuple[np.ndarray, int]]:
        async for sound in asynchronous(utterance):
            yield sound


KINDS = {
    **{f"{each.__name__}": each for each in (program, plain, generator, asynchronous, later)},
    **{f"partial {each.__name__}": functools.partial(each, sound=TONE) for each in (program, plain, generator)},
    "partial asynchronous": functools.partial(asynchronous, sound=TONE),
    **{f"wrapped {each.__name__}": traced(each) for each in (program, plain, generator, asynchronous)},
    "lambda of generator": lambda utterance: generator(utterance),
    "lambda of asynchronous": lambda utterance: asynchronous(utterance),
    "method": Agent().program,
    "method that yields": Agent().answer,
    "object": Agent(),
    "object that yields": Answerer(),
    "wrapped partial": traced(functools.partial(program, sound=TONE)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_of_every_kind_answers(kind: str) -> None:
    async def scenario(caller: Caller) -> float:
        await caller.say((TONE, RATE))
        return (await caller.reply_heard(timeout=10)).duration

    assert run_call(KINDS[kind], scenario, config=LOUD) == pytest.approx(0.5, abs=0.1)


def nothing_left(utterance: Utterance) -> object:
    return next(iter(()))


def leaves(utterance: Utterance) -> None:
    raise SystemExit("no such model")


def yields_and_leaves(utterance: Utterance) -> Iterator[tuple[np.ndarray, int]]:
    yield TONE[:800], RATE
    raise KeyboardInterrupt


def is_closed(utterance: Utterance) -> None:
    raise GeneratorExit


def is_cancelled(utterance: Utterance) -> None:
    raise asyncio.CancelledError


async def nothing_left_later(utterance: Utterance) -> AsyncIterator[tuple[np.ndarray, int]]:
    yield TONE[:800], RATE
    raise StopAsyncIteration


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (nothing_left, "the function raised StopIteration"),
        (leaves, "the function raised SystemExit: no such model"),
        (yields_and_leaves, "the function raised KeyboardInterrupt"),
        (is_closed, "the function raised GeneratorExit"),
        (is_cancelled, "the function raised CancelledError"),
        (nothing_left_later, "async generator raised StopAsyncIteration"),
    ],
)
def test_what_an_event_loop_takes_for_something_else_is_a_failure_like_any_other(
    answer: Callable[..., Any], said: str
) -> None:
    async def scenario(caller: Caller) -> None:
        await caller.say((TONE, RATE))
        await caller.listen(20)

    with pytest.raises(RuntimeError, match=said):
        run_call(answer, scenario, config=LOUD)


@pytest.mark.parametrize("sound", [b"bytes alone", (TONE,), "words", (TONE, RATE, 1)])
def test_what_is_no_sound_is_said(sound: object) -> None:
    async def scenario(caller: Caller) -> None:
        await caller.say((TONE, RATE))
        await caller.listen(20)

    with pytest.raises(LocalError, match="sound is an AudioFrame or"):
        run_call(lambda utterance: sound, scenario, config=LOUD)


def test_a_class_in_place_of_its_object_is_told() -> None:
    class Program:
        def __init__(self, call: Call) -> None:
            """As of a library that makes an object for each call."""

    class Beep:
        def __init__(self, utterance: object) -> None:
            self.left = [(TONE, RATE)]

        def __iter__(self) -> Iterator[tuple[object, int]]:
            return iter(self.left)

    with pytest.raises(LocalError, match="Program is a class"):
        Host(Program)
    Host(Beep)


@pytest.mark.parametrize("name", ["turns", "prepare", "attach", "counters"])
def test_what_a_host_looks_for_and_finds_as_something_else_is_named(name: str) -> None:
    class Program:
        async def __call__(self, call: Call) -> None:
            """Take no turn."""

    program = Program()
    setattr(program, name, ["of my own"])
    with pytest.raises(LocalError, match=f"`{name}`, which is .*, and not list: call yours something else"):
        Host(program)
    setattr(program, name, None)
    Host(program)
