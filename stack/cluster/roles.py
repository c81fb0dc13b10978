"""The roles of several machines, each one process: `media`, `agent`, `signaling`. `serve` is all of them on one
machine.

What they have in common: the engine may be gone when they start and at any time later; `/livez` never asks for
it, `/readyz` says how it is, and is 503 only where no new call could be served.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from stack.aio.host import Host
from stack.aio.programs import as_program
from stack.cluster.backbone import Backbone, BackboneConfig
from stack.cluster.messages import EXPECTED, NodeRecord, check_name, check_node_name, node_subject
from stack.cluster.nodes import NodeBook, NodeRegistration
from stack.cluster.ordered import DROPPED_MALFORMED
from stack.cluster.program_host import ProgramHost, ProgramHostConfig
from stack.cluster.remote_program import RemoteProgram
from stack.cluster.signaling_host import SignalingHost
from stack.core.errors import LocalError, ParseError
from stack.signaling.server import ServeConfig, Serving, serve_until_stopped

log = logging.getLogger("stack.cluster")


@dataclass(frozen=True, slots=True)
class RoleConfig:
    """What the roles have in common."""

    backbone: BackboneConfig
    region: str = ""
    """Where this machine is, in the operator's words: calls stay in it while it has room."""
    program: str = "default"
    """The name of the programs that take calls."""
    url: str = ""
    """media: where clients reach this node's HTTP; empty: nowhere."""

    def __post_init__(self) -> None:
        check_name(self.program)
        if self.region:
            check_name(self.region)


# -- media -------------------------------------------------------------------------------------------------


class MediaNode:
    """What a media node has beside its server."""

    def __init__(self, role: RoleConfig, config: ServeConfig, local: Callable[..., Any] | None) -> None:
        self.name = check_node_name(config.media.node)
        self.backbone = Backbone(role.backbone, f"media node {self.name}")
        program = as_program(local) if local is not None else None
        self.program = RemoteProgram(self.backbone, self.name, role.program, program)
        self.book = NodeBook(self.backbone, role.region)
        self._role = role

    @asynccontextmanager
    async def beside(self, server: Serving) -> AsyncIterator[None]:
        """Context: the node is known to the others, and told which calls come."""
        registration = NodeRegistration(self.backbone, lambda: self._describe(server))
        service = server.signaling
        service.find_elsewhere = self._find_elsewhere
        service.describe_readiness = self._describe_readiness
        await self.backbone.subscribe(
            node_subject(self.name, "expect"), lambda subject, data, reply: self._expect(server.host, data)
        )
        registration.start()
        self.book.start()
        watching = asyncio.get_running_loop().create_task(self._note_drain(server, registration))
        try:
            yield
        finally:
            watching.cancel()
            await registration.stop()
            await self.book.stop()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Context: the connection to the backbone, around the server: its calls end before."""
        await self.backbone.start()
        try:
            await self.program.start()
            yield
        finally:
            await self.program.stop()
            await self.backbone.stop()

    async def _note_drain(self, server: Serving, registration: NodeRegistration) -> None:
        """Say at once that no more calls are taken: the next answer names another node."""
        while not self._is_draining(server):
            await asyncio.sleep(0.05)
        registration.say_now()

    @staticmethod
    def _is_draining(server: Serving) -> bool:
        return server.signaling.draining or server.signaling.drain_asked.is_set()

    def _describe(self, server: Serving) -> NodeRecord:
        host = server.host
        return NodeRecord(
            self.name,
            self._role.region,
            self._role.url,
            host.addresses,
            host.tcp_addresses,
            host.config.public_ips,
            host.config.max_calls,
            len(host.calls),
            self._is_draining(server),
            host.config.relays,
        )

    def _describe_readiness(self) -> tuple[bool, Mapping[str, str]]:
        state = "up" if self.backbone.is_up else "down"
        return self.backbone.is_up or self.program.has_local, {"backbone": state}

    def _find_elsewhere(self) -> str | None:
        node = self.book.choose(but=self.name)
        return node.url or None if node is not None else None

    def _expect(self, host: Host, data: bytes) -> None:
        try:
            expected = EXPECTED.decode(data)
        except ParseError:
            self.backbone.counters.add(DROPPED_MALFORMED)
            return
        host.expect(expected.call, expected.context, expected.reference, expected.lifetime)


async def run_media(role: RoleConfig, config: ServeConfig, local: Callable[..., Any] | None) -> None:
    """Take calls, and hand each to a program process, or to `local` where none answers, until stopped.

    Raises `LocalError` as `serve` does, and for a node without a name.
    """
    node = MediaNode(role, config, local)
    config = replace(config, media=replace(config.media, region=role.region))
    async with node.running():
        await serve_until_stopped(node.program, config, beside=node.beside)


# -- signaling ---------------------------------------------------------------------------------------------


async def run_signaling(role: RoleConfig, config: ServeConfig) -> None:
    """Answer offers for all nodes, until stopped."""
    backbone = Backbone(role.backbone, "signaling")
    book = NodeBook(backbone, role.region)

    @asynccontextmanager
    async def beside(server: Serving) -> AsyncIterator[None]:
        server.signaling.describe_readiness = lambda: (
            any(node.room > 0.0 for node in book.nodes),
            {"backbone": "up" if backbone.is_up else "down", "nodes": str(len(book.nodes))},
        )
        yield

    media = replace(config.media, tcp_port=None, workers=0)
    await serve_until_stopped(
        _no_program, replace(config, media=media), partial(SignalingHost, backbone, book), beside
    )


async def _no_program(call: object) -> None:
    raise LocalError("no call comes here")


# -- programs ----------------------------------------------------------------------------------------------


async def run_agent(
    program: Callable[..., Any], role: RoleConfig, settings: ProgramHostConfig, drain_seconds: float
) -> None:
    """Take calls from the backbone and run `program(call)` for each, until SIGINT or SIGTERM.

    After SIGTERM the calls may end by themselves for `drain_seconds`; the rest are given to other processes.
    """
    host = ProgramHost(program, role.backbone, settings)
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set() or number is signal.SIGINT:
            now.set()
        stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, on_signal, name)
    await host.start()
    state = "up" if host.backbone.is_up else "not there yet"
    print(f"Taking calls of {settings.program!r} as {host.name}.  (backbone: {state}; Ctrl-C ends)", flush=True)
    try:
        await stop.wait()
        if not now.is_set() and host.calls:
            print(f"Draining: no new calls, {drain_seconds:g} s for {host.calls} …", flush=True)
            draining = asyncio.ensure_future(host.drain(drain_seconds))
            await asyncio.wait({draining, asyncio.ensure_future(now.wait())}, return_when=asyncio.FIRST_COMPLETED)
            draining.cancel()
    finally:
        await host.stop()
