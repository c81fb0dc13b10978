"""Calls to a program under test: in virtual time, over loopback, or to a server that is up."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from stack.aio import Call, CallEnded, HostConfig, as_program
from stack.aio.program_runner import leave
from stack.aio.threads import in_thread, use_loose_threads
from stack.core.errors import LocalError
from stack.signaling import ServeConfig, dial, serving
from stack.testing.caller import Caller
from stack.testing.clock import VirtualTimeLoop
from stack.testing.virtual import connect_virtually
from stack.voice.config import ConversationConfig, prepare
from stack.voice.turns import TurnSettings

T = TypeVar("T")

SCENARIO = "a scenario is an async function that is given the caller"
END_GRACE = 5.0
"""Seconds that a program has to return after the call."""


def run_call(
    program: Callable[..., Any],
    scenario: Callable[[Caller], Awaitable[T]],
    *,
    virtual: bool = True,
    config: ConversationConfig | None = None,
    seed: int = 0,
) -> T:
    """Place a call to `program`, let the caller do what `scenario` says, hang up, and return what it returned.

    What the scenario raises is raised. What the program raises ends the scenario and is raised, also after the
    caller has hung up; `CallEnded` is an end like any other, as it is to a server. `program` may be anything that
    `stack.serve` takes, and `config` is its `HostConfig.conversation`. In virtual time a call depends on `seed`
    alone; `LocalError` says so where the program uses the network and where both sides wait for ever. So it does,
    in real time as well, where the program does not end although it was cancelled, and in a loop that runs: use
    `calling` there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise LocalError("an event loop runs here: write `async with calling(program) as caller:` instead")
    if not callable(scenario):
        if inspect.iscoroutine(scenario):
            scenario.close()
        raise LocalError(f"{SCENARIO}: hand over the function itself, not what it returns")
    config = _checked(config)
    if virtual:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(_run_virtually(program, scenario, config, seed))

    async def run() -> T:
        use_loose_threads(asyncio.get_running_loop())
        watched = _Watched(program)
        async with _calling(watched, config) as caller:
            return await watched.first_to_raise(_begun(scenario, caller))

    return asyncio.run(run())


def _checked(config: ConversationConfig | None) -> ConversationConfig:
    if not isinstance(config, ConversationConfig | None):
        raise LocalError(f"`config` is a ConversationConfig, not {type(config).__name__}")
    return config or ConversationConfig()


def _begun(scenario: Callable[[Caller], Awaitable[T]], caller: Caller) -> Awaitable[T]:
    acting = scenario(caller)
    if not inspect.isawaitable(acting):
        raise LocalError(f"{SCENARIO}; this one returned {type(acting).__name__}")
    return acting


class _Watched:
    """A program, which call it runs for, and what it has raised."""

    def __init__(self, program: Callable[..., Any]) -> None:
        self._run = as_program(program)
        self.call: Call | None = None
        self._is_running = False
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        for name in ("prepare", "turns"):  # a host looks for them
            if hasattr(program, name):
                setattr(self, name, getattr(program, name))

    async def __call__(self, call: Call) -> None:
        self.call = call
        self._is_running = True
        try:
            await self._run(call)
        except CallEnded:
            raise  # the caller hung up while the program asked something of the call
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                failure = LocalError("the program was cancelled by something that it awaited")
                failure.__cause__ = error
                self._fail(failure)
            raise
        except BaseException as error:  # `pytest.fail` raises no Exception
            self._fail(error)
            raise
        finally:
            self._is_running = False

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    def raise_failure(self, instead_of: BaseException | None = None) -> None:
        """Raise what the program has raised, if it has."""
        if self.failed.done() and self.failed.result() is not instead_of:
            raise self.failed.result() from instead_of

    def check_ended(self) -> None:
        """Raise what the program has raised, or `LocalError` if it goes on although it was cancelled."""
        self.raise_failure()
        if self._is_running:
            raise LocalError("the program does not end although it was cancelled")

    async def first_to_raise(self, scenario: Awaitable[T]) -> T:
        """Return what the scenario does; a program that raises meanwhile ends it with that."""
        acting = asyncio.ensure_future(scenario)
        try:
            either: set[asyncio.Future[Any]] = {acting, self.failed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            self.raise_failure()
            return await acting
        finally:
            if not acting.done():
                acting.cancel()
                await asyncio.wait({acting}, timeout=END_GRACE)
            elif not acting.cancelled():
                acting.exception()  # it has been looked at: what the program raised goes before


async def _run_virtually(
    program: Callable[..., Any],
    scenario: Callable[[Caller], Awaitable[T]],
    config: ConversationConfig,
    seed: int,
) -> T:
    """Do what `run_call` says, in virtual time."""
    turns = getattr(program, "turns", None)
    if turns is not None and config.turns == TurnSettings():
        config = replace(config, turns=turns)
    watched = _Watched(program)
    endpointer = await asyncio.to_thread(prepare, config)
    if hasattr(program, "prepare"):
        await in_thread(program.prepare)
    calls = connect_virtually(config, seed)
    if endpointer is not None:
        calls[1].use_endpointer(endpointer)
    running = asyncio.create_task(_run_program(watched, calls[1]), name="program")
    caller: Caller | None = None
    try:
        await calls[0].wait_connected()
        await calls[1].wait_connected()
        caller = Caller(*calls)
        result = await watched.first_to_raise(_begun(scenario, caller))
    except Exception as error:
        watched.raise_failure(instead_of=error)
        raise
    finally:
        for call in calls:
            call.hang_up()
        await asyncio.wait({running}, timeout=END_GRACE)
        running.cancel()
        await asyncio.wait({running}, timeout=END_GRACE)
        if not running.done():
            leave(running)
        if caller is not None:
            caller.close()
    watched.check_ended()
    return result


async def _run_program(program: _Watched, call: Call) -> None:
    await call.wait_connected()
    try:
        await program(call)
    except asyncio.CancelledError:
        raise
    except BaseException:  # it is noted
        if program.failed.get_loop().is_closed():
            raise  # it is thrown away
    await call.speaker.drained()
    call.hang_up()


@asynccontextmanager
async def calling(
    program: Callable[..., Any] | None = None, *, url: str | None = None, config: ConversationConfig | None = None
) -> AsyncIterator[Caller]:
    """Context: a call over loopback to `program`, or to a server that is up at `url`; hung up when left.

    What the program raises is raised when the block is left, instead of what the block has raised after it;
    `LocalError` where it does not end although it was cancelled.
    """
    if (program is None) == (url is None):
        raise LocalError("say either which program to call, or the url of a server")
    if url is not None and config is not None:
        raise LocalError("`config` is the program's: a server at a url has its own")
    if program is not None:
        async with _calling(_Watched(program), _checked(config)) as caller:
            yield caller
        return
    assert url is not None
    async with dial(url) as placed:
        await placed.call.wait_connected()
        caller = Caller(placed.call)
        try:
            yield caller
        finally:
            caller.close()


@asynccontextmanager
async def _calling(program: _Watched, config: ConversationConfig) -> AsyncIterator[Caller]:
    media = HostConfig(host="127.0.0.1", udp_port=0, conversation=config)
    async with serving(program, ServeConfig(port=0, media=media)) as server, dial(server.url) as placed:
        # it is among the host's calls for as long as it is up, and a program may end it at once
        program_call = next(iter(server.host.calls.values()), None)
        caller: Caller | None = None
        try:
            await placed.call.wait_connected()
            caller = Caller(placed.call, program_call or program.call)
            yield caller
        except Exception as error:
            program.raise_failure(instead_of=error)
            raise
        finally:
            if caller is not None:
                caller.close()
    program.check_ended()
