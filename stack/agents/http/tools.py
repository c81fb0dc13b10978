"""Python functions that a language model may call.

    def weather(city: str, day: str = "today") -> str:
        '''The weather in a city.'''

The model is told the name, the docstring and, from the annotations, the types; what it gives is checked against
them before the function is called. A plain function runs in a thread, an `async` one on the loop. What it returns
is told to the model as text, or as JSON, and what a generator yields as a list; what it raises, too, so that the
model can say so.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, get_type_hints

import msgspec

from stack.aio.threads import in_thread
from stack.core.errors import LocalError

log = logging.getLogger("stack.agents.http")

MAX_OUTPUT = 20_000
"""Characters of what a function returns that the model is told."""
MAX_ITEMS = 1000
"""Items of what a generator yields that the model is told, as a list."""


class PythonTool:
    """One function, as the model sees it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises `LocalError` for a function whose arguments JSON cannot name or type."""
        self._function = function
        self.name: str = getattr(function, "__name__", "")
        if not self.name.isidentifier():
            raise LocalError(f"a tool is a function with a name, not {function!r}")
        try:
            self._arguments = _arguments_of(self.name, function)
            parameters = _inlined(msgspec.json.schema(self._arguments))
        except (TypeError, NameError) as error:
            raise LocalError(f"the tool {self.name} cannot be described to a model: {error}") from error
        self.description = {
            "type": "function",
            "function": {
                "name": self.name,
                "description": inspect.getdoc(function) or "",
                "parameters": parameters,
            },
        }

    async def call(self, arguments: str, seconds: float) -> str:
        """Call the function with JSON `arguments` and return what the model is told."""
        try:
            values = msgspec.json.decode(arguments or "{}", type=self._arguments)
        except msgspec.MsgspecError as error:
            return f"error: {error}"
        named = {name: getattr(values, name) for name in self._arguments.__struct_fields__}
        try:
            async with asyncio.timeout(seconds) as limit:
                result = await self._result(named)
        except TimeoutError as error:
            if not limit.expired():
                return self._failed(error)  # its own
            log.error("the tool %s did not return within %g s", self.name, seconds)
            return f"error: no result within {seconds:g} s"
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._failed(error)  # what it awaited was cancelled, and not we
        except (Exception, SystemExit) as error:
            return self._failed(error)
        try:
            return _as_text(result)[:MAX_OUTPUT]
        except Exception as error:  # a `__str__` of its own, or more depth than Python has
            return self._failed(error)

    async def _result(self, named: dict[str, Any]) -> object:
        """Return what the function returns in the end: decorators hide what kind of function it is."""
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(**named)
        else:
            result = await in_thread(self._function, **named)
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, AsyncIterator):
            return await _first_of(result)
        if isinstance(result, Iterator):
            return await in_thread(lambda: list(islice(result, MAX_ITEMS)))
        return result

    def _failed(self, error: BaseException) -> str:
        log.error("the tool %s failed", self.name, exc_info=error)
        said = f"error: {type(error).__name__}: {error}" if str(error) else f"error: {type(error).__name__}"
        return said[:MAX_OUTPUT]


def read_tools(functions: Iterable[Callable[..., Any]]) -> dict[str, PythonTool]:
    """Return the tools by name; raises `LocalError` for two of one name, and as `PythonTool` does."""
    tools: dict[str, PythonTool] = {}
    for function in functions:
        tool = PythonTool(function)
        if tool.name in tools:
            raise LocalError(f"two tools are called {tool.name}")
        tools[tool.name] = tool
    return tools


def _arguments_of(name: str, function: Callable[..., Any]) -> type[msgspec.Struct]:
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{parameter} has no name")
        kind = hints.get(parameter.name, str)
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, parameter.default))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=False)


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the arguments themselves: servers differ in what they make of `$ref` at the top."""
    definitions = schema.get("$defs", {})
    top = dict(definitions.pop(schema["$ref"].rpartition("/")[2])) if "$ref" in schema else dict(schema)
    top.pop("title", None)
    if definitions:
        top["$defs"] = definitions
    return top


async def _first_of(items: AsyncIterator[Any]) -> list[Any]:
    taken: list[Any] = []
    try:
        async for item in items:
            taken.append(item)
            if len(taken) >= MAX_ITEMS:
                break
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
    return taken


def _as_text(result: object) -> str:
    if isinstance(result, str):
        return result
    try:
        return msgspec.json.encode(result).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):  # MsgspecError is a ValueError
        return str(result)
