"""Runs a program for each call, from the connection to the end, wherever the call's media are."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import Callable
from contextlib import nullcontext
from types import AsyncGeneratorType
from typing import Any
from weakref import WeakSet

from stack.aio.call import Call
from stack.aio.control import CallEnded
from stack.aio.hosted import HostedCall
from stack.aio.programs import Program, tell_of_failure
from stack.aio.recording import Recording
from stack.aio.threads import unfinished
from stack.aio.tracing import CallSpans
from stack.core.counters import Counters, declare, declare_each
from stack.core.errors import LocalError, StackError
from stack.session import EndReason

ENDED = declare_each("host", "ended", EndReason, "Calls that are over: {}")
RECORDING_FAILED = declare("host", "recording_failed", "Recordings that could not be written to their end")
PROGRAM_FAILED = declare("host", "program_failed", "Programs that raised: each ended its own call")

log = logging.getLogger("stack.calls")

END_GRACE = 5.0
"""Seconds that a program has to return after its call has ended; then it is cancelled."""
LAST_GRACE = 1.0
"""Seconds that a cancelled one has; then it is left, as it may hold nothing up."""


class ProgramRunner:
    """Runs one program, in a task for each call. `counters` are those of who has the calls."""

    def __init__(
        self, program: Program, counters: Counters, attach: Callable[[Call], object] | None = None
    ) -> None:
        self._program = program
        self._counters = counters
        self._attach = attach
        self._tasks: set[asyncio.Task[None]] = set()
        self._programs: set[asyncio.Task[None]] = set()  # those of calls that are over, too, until they return
        self._deaf: WeakSet[asyncio.Task[None]] = WeakSet()  # of them, which the log has named

    def begin(self, hosted: HostedCall) -> None:
        """Run the program for a call that has a conversation; none of its events has been delivered yet."""
        call = hosted.call
        if self._attach is not None:
            self._attach(call)
        spans = CallSpans.begin(call)
        task = asyncio.get_running_loop().create_task(self._run(hosted, spans), name=f"call {call.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Wait for the programs, whose calls are hung up; those that take too long are cancelled, or left."""
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=END_GRACE + LAST_GRACE + 1)
            for task in pending:
                task.cancel()
        programs = [each for each in self._programs if not each.done()]
        for each in programs:
            each.cancel()
        await asyncio.gather(*(self._see_the_end_of(each) for each in programs))
        for each in programs:
            if not each.done():
                leave(each)
        for name in unfinished():
            log.error("the function %s still runs in a thread, and is left", name)

    async def _see_the_end_of(self, program: asyncio.Task[None]) -> None:
        """Give a program that was cancelled its grace, and say so, once, if it goes on."""
        if program in self._deaf:
            return
        await asyncio.wait({program}, timeout=LAST_GRACE)
        if not program.done():
            self._deaf.add(program)
            log.error(
                "the program of %s still runs %g s after it was cancelled: it is left",
                program.get_name(),
                LAST_GRACE,
            )

    async def _run(self, hosted: HostedCall, spans: CallSpans | None) -> None:
        """Run the program for one call from its connection to its end."""
        call = hosted.call
        program: asyncio.Task[None] | None = None
        try:
            connected = await call.wait_connected()
            log.info("call %s connected: %s", call.id, connected.path)
            program = asyncio.create_task(self._program_of(call, spans), name=f"call {call.id}")
            self._programs.add(program)
            program.add_done_callback(self._programs.discard)
            await call.wait_ended()
            if not program.done():
                await asyncio.wait({program}, timeout=END_GRACE)
        except StackError:
            pass  # it never connected; its end says why
        finally:
            if program is not None and not program.done():
                program.cancel()
            if not call.ended:
                call.hang_up()
            end = await call.wait_ended()
            log.info("call %s ended: %s%s", call.id, end.reason.value, f" ({end.detail})" if end.detail else "")
            self._counters.add(ENDED[end.reason])
            self._counters.merge(hosted.control.counters)  # and no longer as one of those that are up
            hosted.close()
            if call.recording is not None:
                await self._finish_recording(call.recording)
            if program is not None:
                await self._see_the_end_of(program)

    async def _finish_recording(self, recording: Recording) -> None:
        """Give the disk some time, so that a process which ends leaves whole files."""
        try:
            await asyncio.wait_for(recording.wait_finished(), END_GRACE)
            self._counters.merge(recording.counters)
        except (LocalError, TimeoutError):
            self._counters.add(RECORDING_FAILED)

    async def _program_of(self, call: Call, spans: CallSpans | None) -> None:
        """Run the program, let it be heard to the end, and hang up."""
        try:
            with spans.current() if spans is not None else nullcontext():
                await self._program(call)
        except KeyboardInterrupt:
            raise  # Ctrl-C where the loop does not handle it: for the whole process
        except CallEnded as error:
            # The person hung up while the program asked something of the call: an end like any other.
            log.debug("the program of call %s was told that %s", call.id, error)
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # we were cancelled, not something that the program awaited
            # A program that raises ends its own call and nothing else, also where it calls `sys.exit`.
            log.exception("the program of call %s failed", call.id)
            self._counters.add(PROGRAM_FAILED)
            await tell_of_failure(call)
        finally:
            await call.speaker.drained()  # it is so when the call has ended, too
            call.hang_up()


def leave(task: asyncio.Task[None]) -> None:
    """Have the loop and the process end without a task that takes no cancellation for an answer.

    `asyncio.run` would wait for it. A coroutine that is thrown away is told so by another exception, which this
    one may swallow as well, and then go round for ever: so it is never thrown away.
    """
    asyncio._unregister_task(task)
    generators: WeakSet[AsyncGeneratorType[Any, Any]] = getattr(task.get_loop(), "_asyncgens", WeakSet())
    for each in list(generators):
        if each.ag_running:  # the loop would close it, which it cannot, and complain
            generators.discard(each)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
