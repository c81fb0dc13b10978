"""`serve(program)`: everything between a Python function and the person who calls, in one function."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from aiohttp import web

from stack.aio import Host, HostConfig, control_of
from stack.aio.host_checks import check_port, check_seconds
from stack.aio.key_log import key_log_file
from stack.aio.private_files import for_owner_alone
from stack.aio.threads import use_loose_threads
from stack.aio.udp import LOOPBACK, local_addresses
from stack.aio.workers import default_workers
from stack.core.errors import LocalError
from stack.core.trace import PcapWriter
from stack.dtls import KeyLog
from stack.signaling.aiohttp_face import serve_by_aiohttp
from stack.signaling.app import create_application
from stack.signaling.config import SignalingConfig
from stack.signaling.one_port import share_port
from stack.signaling.service import MAX_HEADER, SERVICE, SignalingService
from stack.voice.commands import Tell

log = logging.getLogger("stack.serve")

EXIT_BY_SIGNAL = 128
"""The exit code of a program that a signal has ended, less the number of the signal."""
MakeHost = Callable[[Callable[..., Any], HostConfig, "PcapWriter | None", "KeyLog | None"], Host]
Beside = Callable[["Serving"], AbstractAsyncContextManager[object]]
"""What runs as long as a server does, and a little longer than its calls."""
_refuses: ContextVar[bool] = ContextVar("refuses to serve", default=False)
PATH_PREFIX = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*")
"""Paths that everything may be below; a browser takes segments of one or two dots away (RFC 3986 §5.2.4)."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Where the server listens; `port` 0 picks a free one."""

    http_host: str | None = None
    """The address or name that HTTP listens on; None: what the media was told, else 127.0.0.1."""
    port: int = 8080
    path_prefix: str = ""
    """Below which path everything is, as "/voice"; for a proxy that does not cut it off."""
    pcap: str | None = None
    """A file that every datagram is written to, for Wireshark."""
    key_log: str | None = None
    """A file that the DTLS secrets of every call are added to, for Wireshark; its reader can read the calls."""
    media: HostConfig = field(default_factory=HostConfig)
    signaling: SignalingConfig = field(default_factory=SignalingConfig)
    tls_cert: str | None = None
    """PEM file with the certificate chain; with `tls_key`, HTTP is HTTPS."""
    tls_key: str | None = None
    program_passes_events: bool = False
    """The program itself speaks OpenAI's protocol on the channel `oai-events`, as the bridge does."""
    drain_seconds: float = 5.0
    """After SIGTERM no new calls are taken, and those that are may go on for so long."""
    goaway_seconds: float = 0.0
    """Then those that are left are told to go to another machine, and have so long for it; 0: none is told."""

    def __post_init__(self) -> None:
        if not isinstance(self.media, HostConfig) or not isinstance(self.signaling, SignalingConfig):
            raise LocalError("`media` is a HostConfig, `signaling` a SignalingConfig (tokens, origins, limits)")
        check_port("port", self.port)
        for name in ("drain_seconds", "goaway_seconds"):
            check_seconds(name, getattr(self, name))
        if not PATH_PREFIX.fullmatch(self.path_prefix):
            raise LocalError(
                f"{self.path_prefix!r} is not a path such as /voice: a slash, then letters, digits or . _ ~ -"
            )

    @property
    def host(self) -> str:
        """The address or name that HTTP listens on."""
        return self.http_host or self.media.host or LOOPBACK

    @property
    def shares_port(self) -> bool:
        """True if HTTP and ICE-TCP are to have one port: it was said so, or both were given the same number."""
        tcp = self.media.tcp_port
        if tcp == "udp":
            tcp = self.media.udp_port
        return tcp == "http" or (self.port != 0 and tcp == self.port)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that is up."""

    host: Host
    http_host: str
    http_port: int
    signaling: SignalingService
    scheme: str = "http"
    path_prefix: str = ""

    async def drain(self, seconds: float) -> bool:
        """Take no new calls and wait until the last one is over; False if there are still some after `seconds`."""
        self.signaling.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while calls := list(self.host.calls.values()):
            left = deadline - loop.time()
            if left <= 0:
                return False
            await asyncio.wait([asyncio.ensure_future(call.wait_ended()) for call in calls], timeout=left)
            await asyncio.sleep(0)  # the host forgets a call a step after its end
        return True

    async def send_away(self, seconds: float) -> bool:
        """Tell every client to call again and then to drop this call; False if some are left after `seconds`."""
        for call_id, call in self.host.calls.items():
            control_of(call).command(Tell({"type": "goaway", "pc_id": call_id, "seconds": seconds}))
        return await self.drain(seconds)

    @property
    def url(self) -> str:
        """Where the page is."""
        name = LOOPBACK if self.http_host in ("0.0.0.0", "::", "*") else self.http_host
        authority = f"{f'[{name}]' if ':' in name else name}:{self.http_port}"
        return f"{self.scheme}://{authority}{self.path_prefix}"


@asynccontextmanager
async def serving(
    program: Callable[..., Any], config: ServeConfig | None = None, make_host: MakeHost | None = None
) -> AsyncIterator[Serving]:
    """Context: the server runs while inside; `LocalError` if a port is taken or the pcap file is not writable.

    `make_host` makes its host where that is not a plain `Host`.
    """
    config = config or ServeConfig()
    with contextlib.ExitStack() as stack:
        trace = None
        if config.pcap is not None:
            try:
                file = stack.enter_context(open(config.pcap, "wb", opener=for_owner_alone))
            except OSError as error:
                raise LocalError(f"cannot write {config.pcap}: {error.strerror}") from error
            trace = PcapWriter(file, epoch=time.time(), origin=time.monotonic())
        key_log = None if config.key_log is None else stack.enter_context(key_log_file(config.key_log))
        tls = _tls_context(config)
        media = replace(config.media, tcp_port="http") if config.shares_port else config.media
        async with (make_host or Host)(program, media, trace, key_log) as host:
            dialects = create_application(
                host, config.signaling, program_passes_events=config.program_passes_events
            )
            runner = web.AppRunner(
                below(config.path_prefix, serve_by_aiohttp(dialects)),
                access_log=None,
                handle_signals=False,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
            )
            await runner.setup()
            try:
                if config.shares_port:
                    port = share_port(host, runner, config.host, config.port, tls)
                else:
                    port = await _listen_http(runner, config, tls)
                scheme = "http" if tls is None else "https"
                yield Serving(host, config.host, port, dialects[SERVICE], scheme, config.path_prefix)
            finally:
                host.stop_listening_tcp()
                await runner.cleanup()


async def _listen_http(runner: web.AppRunner, config: ServeConfig, tls: ssl.SSLContext | None) -> int:
    """Listen for HTTP alone, and return the port."""
    name = None if config.host == "*" else config.host
    try:
        await web.TCPSite(runner, name, config.port, ssl_context=tls).start()
    except OSError as error:
        other = "; port (--port) takes another, 0 any" if error.errno == errno.EADDRINUSE else ""
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            other = "; host (--host) is an address or a name of this machine"
        raise LocalError(f"cannot listen on {config.host} port {config.port}: {_reason(error)}{other}") from error
    port: int = runner.addresses[0][1]
    return port


def below(prefix: str, app: web.Application) -> web.Application:
    """Return an application in which everything of `app` is below `prefix`, and `/` leads to its page."""
    if not prefix:
        return app

    async def lead(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{prefix}/")

    outer = web.Application()
    outer.router.add_get("/", lead)
    outer.add_subapp(prefix, app)
    return outer


def _tls_context(config: ServeConfig) -> ssl.SSLContext | None:
    """Return the context for HTTPS; None if it is not wanted; `LocalError` for files that are no use."""
    if config.tls_cert is None and config.tls_key is None:
        return None
    if config.tls_cert is None or config.tls_key is None:
        raise LocalError("TLS needs both a certificate and its key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise LocalError(
            f"cannot use {config.tls_cert} with {config.tls_key}: {error.strerror or error}"
        ) from error
    return context


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _out_of_reach(host: Host) -> str | None:
    """Say, in a sentence, that browsers with their usual settings will not find the media; None if they will."""
    if host.config.public_ips or not all(ip_address(address.host).is_loopback for address in host.addresses):
        return None
    if all(ip_address(address).is_loopback for address in local_addresses(None)):
        return (
            "This machine has no network address but loopback, and browsers use loopback for calls only when they "
            "are told to: connect it to a network and start again, or see docs/network.md."
        )
    return (
        "Media listens on loopback alone, where Firefox does not send to: "
        "leave out --host, or give --media-host another address, to be called from every browser."
    )


def _announce(server: Serving) -> None:
    addresses = ", ".join(str(address) for address in server.host.addresses)
    page = server.url + ("/" if server.path_prefix else "")
    tcp = ", ".join(str(address) for address in server.host.tcp_addresses)
    also = f"; TCP {tcp}" if tcp else ""
    media = f"media: UDP {addresses}{also}; " if addresses else ""
    print(f"Open {page} and speak.  ({media}Ctrl-C ends)", flush=True)
    if addresses and (advice := _out_of_reach(server.host)):
        print(advice, flush=True)


async def serve_until_stopped(
    program: Callable[..., Any],
    config: ServeConfig,
    make_host: MakeHost | None = None,
    beside: Beside = lambda server: nullcontext(),
) -> None:
    """Serve until SIGINT, or SIGTERM or `POST /drain`: then the calls may end by themselves.

    At the end of that they are told to go elsewhere. A second signal ends them at once.
    """
    stop, now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    use_loose_threads(loop)
    starting = asyncio.current_task()

    def on_signal(number: signal.Signals) -> None:
        if starting is not None:
            if stop.is_set():
                os._exit(EXIT_BY_SIGNAL + number)  # what is being loaded in a thread cannot be stopped
            print("Interrupted before the start.", flush=True)
            starting.cancel(number.name)
        if stop.is_set() or number is signal.SIGINT:
            now.set()
        stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(name, on_signal, name)
        except NotImplementedError:  # Windows: Ctrl-C still raises KeyboardInterrupt
            break
    async with serving(program, config, make_host) as server, beside(server):
        starting = None
        _announce(server)
        await _first_of(stop.wait(), server.signaling.drain_asked.wait())
        if not now.is_set() and server.host.calls:
            print(f"Draining: no new calls, {config.drain_seconds:g} s for {len(server.host.calls)} …", flush=True)
            await _first_of(server.drain(config.drain_seconds), now.wait())
        server.signaling.draining = True
        if not now.is_set() and server.host.calls and config.goaway_seconds > 0:
            print(f"Sending {len(server.host.calls)} calls to other machines …", flush=True)
            await _first_of(server.send_away(config.goaway_seconds), now.wait())
        print("Ending the calls …", flush=True)


async def _first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Wait until the first is done, and cancel the others."""
    tasks = {asyncio.ensure_future(work) for work in works}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def whole_config(
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
) -> ServeConfig:
    """Return the one configuration that these make: an argument that is given goes before what `server` has.

    Raises `LocalError` for media that are configured twice, and for what is no configuration.
    """
    if not isinstance(config, HostConfig | None) or not isinstance(server, ServeConfig | None):
        raise LocalError("`config` is a HostConfig (the media), `server` a ServeConfig (HTTP)")
    whole = server or ServeConfig()
    if config is not None and whole.media != HostConfig():
        raise LocalError("the media are configured twice: in `config` and in `server.media`")
    media = config or whole.media
    if media_host is not None:
        host = host or whole.http_host or LOOPBACK  # what the media is told is not meant for HTTP
    media = replace(
        media,
        host=media_host or (media.host if media.interfaces else host or media.host),
        udp_port=media.udp_port if udp_port is None else udp_port,
        public_ips=_each(public_ip) or media.public_ips,
        workers=media.workers if workers is None else workers,
    )
    return replace(
        whole,
        http_host=host or whole.http_host,
        port=whole.port if port is None else port,
        pcap=pcap or whole.pcap,
        key_log=key_log or whole.key_log,
        media=media,
    )


@contextmanager
def refusing_to_serve() -> Iterator[None]:
    """Context: `serve` and `running` raise `LocalError`. So a module is imported whose program another serves."""
    token = _refuses.set(True)
    try:
        yield
    finally:
        _refuses.reset(token)


def check_may_serve() -> None:
    """Raise `LocalError` while a module is imported for its program."""
    if _refuses.get():
        raise LocalError(
            'it serves by itself when it is imported: that belongs behind `if __name__ == "__main__":`'
        )


def what_is_lacking(error: LocalError) -> LocalError | None:
    """Return the error without its causes if the machine lacks something (a port, an address, a file), else None.

    Its message has all that helps; the frames that lead to a socket would be forty lines in front of it.
    """
    return LocalError(str(error)) if isinstance(error.__cause__, OSError) else None


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _each(given: str | Sequence[str] | None) -> tuple[str, ...]:
    if not given:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def serve(
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
) -> None:
    """Run `program(call)` for every call, until Ctrl-C or SIGTERM.

    The page is at `http://HOST:PORT/` (port 8080); all media goes over the one UDP port (3478). `host` is for both
    unless `media_host` is given, too; with neither, HTTP listens on 127.0.0.1, and media there and on our
    own addresses. `workers` processes carry the media, so that no program can delay it; without it there is one
    where the platform can, and 0 is a thread. Raises `LocalError` if a port is taken, or for a setting that cannot
    be. `config` (media) and `server` (HTTP, tokens, TLS, limits) have what is seldom changed; an argument goes
    before them.
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
    if workers is None and whole.media.workers == 0:
        whole = replace(whole, media=replace(whole.media, workers=default_workers()))
    if _is_in_a_loop():
        raise LocalError(
            "an event loop runs here already, as in a notebook; beside it serves `with running(program):`"
        )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve_until_stopped(program, whole))
    except LocalError as error:
        if (lacking := what_is_lacking(error)) is None:
            raise
        raise lacking from None
    except asyncio.CancelledError as error:  # by a signal, before it was up
        sys.exit(EXIT_BY_SIGNAL + (signal.SIGTERM if error.args == (signal.SIGTERM.name,) else signal.SIGINT))
