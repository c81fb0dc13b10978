"""Python functions as a model sees and calls them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest

from stack.agents.http.tools import MAX_ITEMS, MAX_OUTPUT, PythonTool, read_tools
from stack.core.errors import LocalError


@dataclass
class Place:
    city: str
    country: str = "UK"


def weather(
    place: Place,
    days: Annotated[int, msgspec.Meta(ge=1, le=7, description="How many.")] = 1,
    *,
    unit: Literal["C", "F"] = "C",
) -> dict[str, Any]:
    """The weather.

    For some days.
    """
    return {"city": place.city, "days": days, "unit": unit}


async def clock() -> str:
    """What time it is."""
    return "noon"


def test_the_model_is_told_name_docstring_and_types() -> None:
    function = PythonTool(weather).description["function"]
    assert function["name"] == "weather"
    assert function["description"] == "The weather.\n\nFor some days."
    parameters = function["parameters"]
    assert parameters["type"] == "object"
    assert parameters["required"] == ["place"]
    assert parameters["properties"]["days"] == {
        "type": "integer", "minimum": 1, "maximum": 7, "description": "How many.", "default": 1
    }  # fmt: skip
    assert parameters["properties"]["unit"]["enum"] == ["C", "F"]
    assert parameters["$defs"]["Place"]["required"] == ["city"]
    assert PythonTool(clock).description["function"]["parameters"]["properties"] == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"place": {"city": "York"}}', '{"city":"York","days":1,"unit":"C"}'),
        ('{"place": {"city": "York"}, "days": 3, "extra": 1}', '{"city":"York","days":3,"unit":"C"}'),
        ("{}", "error: Object missing required field `place`"),
        ('{"place": {"city": "York"}, "days": 30}', "error: Expected `int` <= 7 - at `$.days`"),
        ("", "error: Object missing required field `place`"),
        ("{nonsense", "error: JSON is malformed"),
        ("[]", "error: Expected `object`, got `array`"),
    ],
)
async def test_what_the_model_gives_is_checked(arguments: str, told: str) -> None:
    assert (await PythonTool(weather).call(arguments, 5)).startswith(told)


async def test_a_plain_function_runs_in_a_thread_and_an_async_one_on_the_loop() -> None:
    def where() -> str:
        return threading.current_thread().name

    async def here() -> str:
        return threading.current_thread().name

    assert await PythonTool(where).call("{}", 5) != threading.current_thread().name
    assert await PythonTool(here).call("{}", 5) == threading.current_thread().name


async def test_what_a_function_raises_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("no such city")

    assert await PythonTool(broken).call("{}", 5) == "error: ValueError: no such city"
    assert "the tool broken failed" in caplog.text


async def test_a_function_that_does_not_return_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    assert await PythonTool(slow).call("{}", 0.01) == "error: no result within 0.01 s"
    assert "did not return" in caplog.text


async def test_a_timeout_of_the_function_itself_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def plain() -> None:
        raise TimeoutError("the database is away")

    async def on_the_loop() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    assert await PythonTool(plain).call("{}", 5) == "error: TimeoutError: the database is away"
    assert await PythonTool(on_the_loop).call("{}", 5) == "error: TimeoutError"
    assert "did not return" not in caplog.text


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return wrapper


@traced
async def traced_clock() -> str:
    await asyncio.sleep(0)
    return "noon"


def days() -> Iterator[str]:
    yield "Monday"
    yield "Tuesday"


async def hours() -> AsyncIterator[int]:
    yield 9
    yield 17


def endless() -> Iterator[int]:
    return itertools.count()


def doubled() -> object:
    return map(str.upper, ["a", "b"])


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (traced_clock, "noon"),
        (days, '["Monday","Tuesday"]'),
        (hours, "[9,17]"),
        (traced(hours), "[9,17]"),
        (doubled, '["A","B"]'),
        (endless, json.dumps(list(range(MAX_ITEMS)), separators=(",", ":"))),
    ],
)
async def test_what_a_function_gives_in_the_end_is_told(function: Callable[..., Any], told: str) -> None:
    assert await PythonTool(function).call("{}", 5) == told


async def test_what_is_awaited_behind_a_decorator_and_a_generator_have_the_same_time() -> None:
    @traced
    async def slow() -> None:
        await asyncio.Event().wait()

    async def slow_items() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    for function in (slow, slow_items):
        assert await PythonTool(function).call("{}", 0.1) == "error: no result within 0.1 s"


async def test_an_iterator_that_has_nothing_is_told_at_once() -> None:
    def first() -> str:
        return next(iter(list[str]()))

    assert await PythonTool(first).call("{}", 5) == "error: RuntimeError: the function raised StopIteration"


async def test_what_a_generator_raises_is_told() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no such day")

    assert await PythonTool(broken).call("{}", 5) == "error: ValueError: no such day"


async def test_a_function_whose_work_was_cancelled_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def given_up() -> None:
        work = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        work.cancel()
        await work

    assert await PythonTool(given_up).call("{}", 5) == "error: CancelledError"
    assert "the tool given_up failed" in caplog.text


async def test_a_call_that_is_not_wanted_any_more_is_cancelled() -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    calling = asyncio.create_task(PythonTool(slow).call("{}", 60))
    await begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert left.is_set()


async def test_a_function_that_leaves_the_program_leaves_only_itself() -> None:
    def plain() -> None:
        raise SystemExit(3)

    async def on_the_loop() -> None:
        raise SystemExit("no such option")

    assert await PythonTool(plain).call("{}", 5) == "error: RuntimeError: the function raised SystemExit: 3"
    assert await PythonTool(on_the_loop).call("{}", 5) == "error: SystemExit: no such option"


async def test_a_result_that_json_cannot_hold_becomes_text_all_the_same() -> None:
    def circular() -> list[object]:
        circle: list[object] = []
        circle.append(circle)
        return circle

    def deep() -> list[object]:
        nested: list[object] = []
        for _ in range(100_000):
            nested = [nested]
        return nested

    def large() -> int:
        return 2**70

    class Silent:
        def __str__(self) -> str:
            raise ValueError("no words")

    def silent() -> object:
        return Silent()

    assert await PythonTool(circular).call("{}", 5) == "[[...]]"
    assert (await PythonTool(deep).call("{}", 5)).startswith("error: RecursionError")
    assert await PythonTool(large).call("{}", 5) == str(2**70)
    assert await PythonTool(silent).call("{}", 5) == "error: ValueError: no words"


async def test_a_result_becomes_text_and_is_bounded() -> None:
    def long() -> str:
        return "x" * (2 * MAX_OUTPUT)

    def odd() -> object:
        return object()

    def nothing() -> None: ...

    assert len(await PythonTool(long).call("{}", 5)) == MAX_OUTPUT
    assert "object" in await PythonTool(odd).call("{}", 5)
    assert await PythonTool(nothing).call("{}", 5) == "null"


def test_what_cannot_be_described_is_refused_at_the_start() -> None:
    def any_number(*numbers: int) -> None: ...

    def unknown(x: threading.Thread) -> None: ...

    for function in (any_number, unknown):
        with pytest.raises(LocalError, match="cannot be described"):
            PythonTool(function)
    with pytest.raises(LocalError, match="with a name"):
        PythonTool(lambda: None)
    with pytest.raises(LocalError, match="two tools"):
        read_tools([clock, clock])
