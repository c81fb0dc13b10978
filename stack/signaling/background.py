"""`running(program)`: a server in a thread of its own, for notebooks and scripts that are not asynchronous.

    with running(program, port=0) as server:
        print(server.url)
        input("Enter ends it. ")

or, over several cells of a notebook: `server = running(program)` … `server.stop()`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from stack.aio import Call, HostConfig
from stack.aio.threads import use_loose_threads
from stack.core.errors import LocalError
from stack.signaling.server import (
    ServeConfig,
    Serving,
    check_may_serve,
    serving,
    what_is_lacking,
    whole_config,
)

START_PATIENCE = 0.2
"""Seconds between two looks of a thread that waits, so that Ctrl-C reaches it on every system."""


class RunningServer:
    """A server that is up. `stop` ends it, and so does the end of the `with` block or of the interpreter."""

    def __init__(self, program: Callable[..., Any], config: ServeConfig) -> None:
        self._program, self._config = program, config
        self._loop = asyncio.new_event_loop()
        self._up: Future[Serving] = Future()
        self._stopping = asyncio.Event()
        self._at_exit = False
        self._thread = threading.Thread(target=self._run, name="voice server", daemon=True)
        self._thread.start()
        try:
            self._serving = _result(self._up)
        except BaseException:
            self.stop()
            raise
        atexit.register(self._stop_at_exit)

    def __repr__(self) -> str:
        return f"<RunningServer {self.url}: {'up' if self._thread.is_alive() else 'stopped'}>"

    @property
    def url(self) -> str:
        """Where the page is."""
        return self._serving.url

    @property
    def calls(self) -> dict[str, Call]:
        """The calls that are up, by id. They belong to the server's thread: look at them, and command nothing."""
        return dict(self._serving.host.calls)

    def stop(self) -> None:
        """Hang up the calls, close the ports, and wait for it. Once is enough; `LocalError` inside the program."""
        if threading.current_thread() is self._thread:
            raise LocalError("a program cannot stop the server that it runs in: it returns, or hangs up")
        atexit.unregister(self._stop_at_exit)
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        """Return itself; `LocalError` once it has been stopped, as a cell of a notebook that is run again does."""
        if not self._thread.is_alive():
            raise LocalError("this server was stopped: `running(program)` starts another one")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _stop_at_exit(self) -> None:
        self._at_exit = True
        self.stop()

    def _run(self) -> None:
        use_loose_threads(self._loop)
        runner = asyncio.Runner(loop_factory=lambda: self._loop)
        try:
            runner.run(self._serve())
        except Exception as error:
            if not self._up.done():
                self._up.set_exception(error)
        finally:
            try:
                runner.close()
            except RuntimeError:
                # Python 3.12 and later start no thread while they end, which is how the threads of the loop are
                # waited for. They have ended by then: `concurrent.futures` joins them before `atexit`.
                if not self._at_exit:
                    raise

    async def _serve(self) -> None:
        async with serving(self._program, self._config) as server:
            self._up.set_result(server)
            await self._stopping.wait()
            server.signaling.draining = True


def _result(future: Future[Serving]) -> Serving:
    while True:
        with contextlib.suppress(TimeoutError):
            return future.result(START_PATIENCE)


def running(
    program: Callable[..., Any],
    *,
    host: str | None = None,
    media_host: str | None = None,
    port: int | None = None,
    udp_port: int | None = None,
    public_ip: str | Sequence[str] | None = None,
    pcap: str | None = None,
    key_log: str | None = None,
    workers: int | None = None,
    config: HostConfig | None = None,
    server: ServeConfig | None = None,
) -> RunningServer:
    """Start a server for `program` beside what the caller does, and return once it takes calls.

    The arguments are those of `serve`, but that the media are in a thread unless `workers` says else. Port 0
    picks a free one, `url` has it. Raises `LocalError` as `serve` does.
    """
    check_may_serve()
    whole = whole_config(
        host=host,
        media_host=media_host,
        port=port,
        udp_port=udp_port,
        public_ip=public_ip,
        pcap=pcap,
        key_log=key_log,
        workers=workers,
        config=config,
        server=server,
    )
    try:
        return RunningServer(program, whole)
    except LocalError as error:
        if (lacking := what_is_lacking(error)) is None:
            raise
        raise lacking from None
