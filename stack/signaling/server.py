"""`serve(program)`: everything between a Python function and a person on the line, in one call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from stack.aio import Host, HostConfig
from stack.core.errors import LocalError
from stack.core.trace import PcapWriter
from stack.signaling.app import create_app

log = logging.getLogger("stack.serve")


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Where the server listens; `port` 0 picks a free one."""

    port: int = 8080
    pcap: str | None = None
    """A file that every datagram is written to, for Wireshark."""
    media: HostConfig = field(default_factory=HostConfig)

    @property
    def host(self) -> str:
        """The address or name that HTTP listens on: the same as the media's."""
        return self.media.host


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that is up."""

    host: Host
    http_port: int

    @property
    def url(self) -> str:
        """Where the page is."""
        name = self.host.config.host
        name = "127.0.0.1" if name in ("0.0.0.0", "::", "*") else name
        return f"http://{f'[{name}]' if ':' in name else name}:{self.http_port}"


@asynccontextmanager
async def serving(program: Callable[..., Any], config: ServeConfig | None = None) -> AsyncIterator[Serving]:
    """Context: the server runs while inside; `LocalError` if a port is taken or the pcap file is not writable."""
    config = config or ServeConfig()
    with contextlib.ExitStack() as stack:
        trace = None
        if config.pcap is not None:
            try:
                file = stack.enter_context(open(config.pcap, "wb"))
            except OSError as error:
                raise LocalError(f"cannot write {config.pcap}: {error.strerror}") from error
            trace = PcapWriter(file, epoch=time.time(), origin=time.monotonic())
        async with Host(program, config.media, trace) as host:
            runner = web.AppRunner(create_app(host), access_log=None, handle_signals=False)
            await runner.setup()
            try:
                site = web.TCPSite(runner, None if config.host == "*" else config.host, config.port)
                try:
                    await site.start()
                except OSError as error:
                    raise LocalError(
                        f"cannot listen on {config.host} port {config.port}: {_reason(error)}"
                    ) from error
                yield Serving(host, runner.addresses[0][1])
            finally:
                await runner.cleanup()


def _reason(error: OSError) -> str:
    import os

    return os.strerror(error.errno) if error.errno else str(error)


async def _serve(program: Callable[..., Any], config: ServeConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(name, stop.set)
        except NotImplementedError:  # Windows: Ctrl-C still raises KeyboardInterrupt
            break
    async with serving(program, config) as server:
        addresses = ", ".join(str(address) for address in server.host.addresses)
        print(f"Open {server.url} and speak.  (media: UDP {addresses}; Ctrl-C ends)", flush=True)
        await stop.wait()
        print("Ending the calls …", flush=True)


def serve(
    program: Callable[..., Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    udp_port: int = 3478,
    public_ip: str | None = None,
    pcap: str | None = None,
    config: HostConfig | None = None,
) -> None:
    """Run `program(call)` for everybody who calls, until Ctrl-C or SIGTERM.

    The page is at `http://HOST:PORT/`; all media goes over the one UDP port. Raises `LocalError` if a port is
    taken. `config` has what is seldom changed.
    """
    media = replace(
        config or HostConfig(), host=host, udp_port=udp_port, public_ips=(public_ip,) if public_ip else ()
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(program, ServeConfig(port=port, pcap=pcap, media=media)))
