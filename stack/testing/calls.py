"""Calls to a program under test: in virtual time, over loopback, or to a server that is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from stack.aio import Call, HostConfig, as_program
from stack.core.errors import LocalError
from stack.signaling import ServeConfig, dial, serving
from stack.testing.caller import Caller
from stack.testing.clock import VirtualTimeLoop
from stack.testing.virtual import connect_virtually
from stack.voice.config import ConversationConfig, prepare
from stack.voice.turns import TurnSettings

T = TypeVar("T")

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

    What the scenario or the program raises is raised. `program` may be anything that `stack.serve` takes, and
    `config` is its `HostConfig.conversation`. In virtual time a call depends on `seed` alone; `LocalError` says so
    where the program uses the network, or where both sides wait for ever.
    """
    if virtual:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(_run_virtually(program, scenario, config or ConversationConfig(), seed))

    async def run() -> T:
        async with calling(program, config=config) as caller:
            return await scenario(caller)

    return asyncio.run(run())


async def _run_virtually(
    program: Callable[..., Any], scenario: Callable[[Caller], Awaitable[T]], config: ConversationConfig, seed: int
) -> T:
    turns = getattr(program, "turns", None)
    if turns is not None and config.turns == TurnSettings():
        config = replace(config, turns=turns)
    endpointer = await asyncio.to_thread(prepare, config)
    if hasattr(program, "prepare"):
        await asyncio.to_thread(program.prepare)
    calls = connect_virtually(config, seed)
    if endpointer is not None:
        calls[1].use_endpointer(endpointer)
    running = asyncio.create_task(_run_program(program, calls[1]), name="program")
    caller: Caller | None = None
    try:
        await calls[0].wait_connected()
        await calls[1].wait_connected()
        caller = Caller(*calls)
        return await _first_to_raise(scenario(caller), running)
    finally:
        for call in calls:
            call.hang_up()
        await asyncio.wait({running}, timeout=END_GRACE)
        running.cancel()
        if caller is not None:
            caller.close()


async def _run_program(program: Callable[..., Any], call: Call) -> None:
    await call.wait_connected()
    await as_program(program)(call)
    await call.speaker.drained()
    call.hang_up()


async def _first_to_raise(scenario: Awaitable[T], program: asyncio.Task[None]) -> T:
    """Return what the scenario does; a program that raises meanwhile ends it with that."""
    acting = asyncio.ensure_future(scenario)
    try:
        await asyncio.wait({acting, program}, return_when=asyncio.FIRST_COMPLETED)
        if program.done():
            program.result()
        return await acting
    finally:
        acting.cancel()


@asynccontextmanager
async def calling(
    program: Callable[..., Any] | None = None, *, url: str | None = None, config: ConversationConfig | None = None
) -> AsyncIterator[Caller]:
    """Context: a call over loopback to `program`, or to a server that is up at `url`; hung up when left.

    What the program raises is raised when the block is left.
    """
    if (program is None) == (url is None):
        raise LocalError("say either which program to call, or the url of a server")
    if program is None:
        assert url is not None
        async with dial(url) as placed:
            await placed.call.wait_connected()
            caller = Caller(placed.call)
            try:
                yield caller
            finally:
                caller.close()
        return
    failed: list[BaseException] = []
    run = as_program(program)

    async def watched(call: Call) -> None:
        try:
            await run(call)
        except Exception as error:
            failed.append(error)
            raise

    for name in ("prepare", "turns"):
        if hasattr(program, name):
            setattr(watched, name, getattr(program, name))
    media = HostConfig(host="127.0.0.1", udp_port=0, conversation=config or ConversationConfig())
    async with serving(watched, ServeConfig(port=0, media=media)) as server, dial(server.url) as placed:
        await placed.call.wait_connected()
        (program_call,) = server.host.calls.values()
        caller = Caller(placed.call, program_call)
        try:
            yield caller
        finally:
            caller.close()
    if failed:
        raise failed[0]
