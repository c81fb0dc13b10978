"""The simulated world: regions and users in network namespaces, and on them one design of a service at a time.

    us, eu, asia                  all that runs in a region, at 10.84.N.1
    us-user, eu-user, asia-user   the user of a region, at 10.84.N.100
    hub                           `interop.region_router`, which joins them by published round trips

What runs are the roles of docs/scale.md, as processes of `python -m stack`, with NATS between them. It needs what
`interop/namespaces.py` needs, /dev/net/tun, `nats-server` and `nats-py`. Nothing is left behind but, after a
SIGKILL, a temporary folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interop import namespaces
from interop.namespaces import END_PATIENCE, ROOT, START_PATIENCE, NamespaceError, Namespaces, Part, wait_for
from interop.region_router import DEVICE
from interop.regions import CENTRE, REGIONS, Region, by_distance, machines
from stack.aio import ticket_file

INTERFACE = "net"
SIGNALING_PORT, MEDIA_HTTP_PORT, RELAY_HTTP_PORT = 8080, 8081, 8082
RELAY_PORT, MEDIA_PORT = 3478, 3479
NATS_PORT, LEAF_PORT = 4222, 7422
READY = ("Open ", "Taking calls", "Relaying")
ANSWER_PATIENCE = 60.0
"""Seconds that a process beside us may take for one answer."""


def why_not() -> str | None:
    """Return why there can be no such world here; None if there can."""
    absent = namespaces.why_not("nats-server")
    if absent is None and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        absent = "absent here: /dev/net/tun"
    if absent is None and find_spec("nats") is None:
        absent = "nats-py is absent: pip install 'voice-stack[cluster]'"
    return absent


@dataclass(frozen=True, slots=True)
class Design:
    """What runs in every region; all else is in the centre alone."""

    name: str
    title: str
    has_media: bool = False
    has_program: bool = False
    """And then an engine, a leaf node of the centre's with a key-value store of its own."""
    has_relay: bool = False

    @property
    def has_entry(self) -> bool:
        """True if offers are answered in every region."""
        return self.has_media or self.has_relay

    def parts(self, region: Region) -> list[str]:
        """Return what runs in a region, in an order in which it can be started."""
        is_centre = region is CENTRE
        runs = {
            "engine": is_centre or self.has_program,
            "media": is_centre or self.has_media,
            "agent": is_centre or self.has_program,
            "relay": self.has_relay,
            "signaling": is_centre or self.has_entry,
        }
        return [part for part, does in runs.items() if does]

    def entries(self, user: Region, regions: Sequence[Region]) -> list[str]:
        """Return where a user's offers can go, the nearest first."""
        taking = regions if self.has_entry else [CENTRE]
        return [f"http://{region.server}:{SIGNALING_PORT}/" for region in by_distance(user, taking)]


DESIGNS = {
    design.name: design
    for design in (
        Design("central", "all central"),
        Design("edge-media", "edge media, central program", has_media=True),
        Design("edge-relay", "edge relay, central media", has_relay=True),
        Design("edge-all", "all at the edge", has_media=True, has_program=True),
    )
}


class Companion:
    """A process that answers each line on stdin with one of JSON on stdout; one question at a time."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._asking = asyncio.Lock()

    async def read(self, patience: float = ANSWER_PATIENCE) -> dict[str, Any]:
        """Return the next answer. Raises `NamespaceError`."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), patience)
            answer = json.loads(line)
        except (TimeoutError, ValueError) as error:
            raise NamespaceError(f"{self.name} does not answer") from error
        if not isinstance(answer, dict):
            raise NamespaceError(f"{self.name} answers {line!r}")
        return answer

    async def ask(self, line: str) -> dict[str, Any]:
        """Write a line and return the answer. Raises `NamespaceError`."""
        assert self._process.stdin is not None
        async with self._asking:
            with suppress(ConnectionError):  # then there is no answer
                self._process.stdin.write(line.encode() + b"\n")
                await self._process.stdin.drain()
            return await self.read()

    async def end(self) -> None:
        """End the process, and wait until it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), END_PATIENCE)


@dataclass
class World:
    """Regions and users that are up; `users` are by their region's name."""

    regions: Sequence[Region]
    machines: Namespaces
    router: Companion
    users: Mapping[str, Companion]

    async def cut(self, region: Region) -> None:
        """Cut the links of a region: those in it reach each other."""
        await self.router.ask(f"cut {region.name}")

    async def join(self, region: Region) -> None:
        """Join it again."""
        await self.router.ask(f"join {region.name}")

    async def ask(self, region: Region, **question: Any) -> dict[str, Any]:
        """Ask the user of a region. Raises `NamespaceError`, also for what the user calls an error."""
        answer = await self.users[region.name].ask(json.dumps(question))
        if "fault" in answer:
            raise NamespaceError(f"the user in {region.title}: {answer['fault']}")
        return answer


@asynccontextmanager
async def running(user: Sequence[str], regions: Sequence[Region] = REGIONS, seed: int = 1) -> AsyncIterator[World]:
    """Context: regions without a service, and in each a user, who runs as `user`. Raises `NamespaceError`.

    A user reads a question in JSON from each line, and answers it with a line.
    """
    async with AsyncExitStack() as stack:
        ends = machines(regions)
        made = stack.enter_context(namespaces.namespaces(["hub", *(end.name for end in ends)]))

        async def begin(name: str, machine: str, *command: str) -> Companion:
            process = await asyncio.create_subprocess_exec(
                *made.command(machine, *command), cwd=ROOT, stdin=-1, stdout=-1, start_new_session=True,
                stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            companion = Companion(name, process)
            stack.push_async_callback(companion.end)
            return companion

        names = ",".join(region.name for region in regions)
        python = (sys.executable, "-m")
        router = await begin("the router", "hub", *python, "interop.region_router", names, "--seed", str(seed))
        users = {
            region.name: await begin(f"the user in {region.title}", f"{region.name}-user", *user, str(seed))
            for region in regions
        }
        await router.read(START_PATIENCE)
        for number, end in enumerate(ends):
            _join(made, f"{DEVICE}{number}", end.name, end.address)
        for companion in users.values():
            await companion.read(START_PATIENCE)
        yield World(regions, made, router, users)


def _join(made: Namespaces, device: str, machine: str, address: str) -> None:
    """Give a machine its end of the network."""
    inside = made.pid(machine)
    namespaces.ip("link", "set", device, "netns", str(inside), "name", INTERFACE, inside=made.pid("hub"))
    namespaces.ip("address", "add", f"{address}/32", "dev", INTERFACE, inside=inside)
    namespaces.ip("link", "set", INTERFACE, "up", inside=inside)
    namespaces.ip("route", "add", "default", "dev", INTERFACE, inside=inside)


# -- what runs on it -----------------------------------------------------------------------------------------


@dataclass
class Service:
    """One design, up; `parts` are by region and role."""

    world: World
    design: Design
    program: str
    folder: Path
    parts: dict[tuple[str, str], Part] = field(default_factory=dict)

    async def kill(self, region: Region) -> None:
        """Kill all that runs in a region, at once."""
        await asyncio.gather(*(part.kill_all() for (name, _), part in self.parts.items() if name == region.name))

    def _engine_of(self, region: Region) -> str:
        nearest = region if self.design.has_program else CENTRE
        return f"nats://{nearest.server}:{NATS_PORT}"

    def _engine_config(self, region: Region) -> Path:
        leaf = f"listen: {CENTRE.server}:{LEAF_PORT}"
        if region is not CENTRE:
            leaf = f"reconnect: 1, remotes: [{{url: nats://{CENTRE.server}:{LEAF_PORT}}}]"
        path = self.folder / f"{region.name}.conf"
        path.write_text(
            f"server_name: {region.name}\nlisten: {region.server}:{NATS_PORT}\n"
            f"jetstream {{store_dir: {self.folder / region.name}, domain: {region.name}}}\nleafnodes {{{leaf}}}\n"
        )
        return path

    def _words(self, region: Region, role: str) -> list[str]:
        stack = [sys.executable, "-m", "stack"]
        engine = ["--nats", self._engine_of(region)]
        key = ["--ticket-key", str(self.folder / "ticket.key")]
        host = ["--host", region.server]
        match role:
            case "engine":
                server = namespaces.find_program("nats-server") or "nats-server"
                return [server, "-c", str(self._engine_config(region))]
            case "agent":
                return [*stack, "agent", self.program, *engine, "--name", region.name, "--drain-seconds", "0"]
            case "relay":
                return [
                    *stack, "relay", *engine, *host, "--inner", region.server, "--udp-port", str(RELAY_PORT),
                    "--port", str(RELAY_HTTP_PORT), "--region", region.name,
                ]  # fmt: skip
            case "signaling":
                relay = ["--relay", f"{region.server}:{RELAY_PORT}"] if self.design.has_relay else []
                port = ["--port", str(SIGNALING_PORT)]
                return [*stack, "signaling", *engine, *key, *host, *port, "--region", region.name, *relay]
            case _:
                return [
                    *stack, "media", *engine, *key, *host, "--port", str(MEDIA_HTTP_PORT), "--node", region.name,
                    "--region", region.name, "--interface", INTERFACE, "--udp-port", str(MEDIA_PORT), "--tcp-port",
                    "off", "--workers", "1", "--drain-seconds", "0", "--goaway-seconds", "0",
                ]  # fmt: skip

    async def start(self) -> None:
        """Start all of it, and wait until calls can be made. Raises `NamespaceError`."""
        wanted = [(region, role) for region in self.world.regions for role in self.design.parts(region)]
        await asyncio.gather(*(self._start(region, role) for region, role in wanted if role == "engine"))
        await asyncio.gather(*(self._start(region, role) for region, role in wanted if role != "engine"))
        for region, role in wanted:
            port = {"signaling": SIGNALING_PORT, "relay": RELAY_HTTP_PORT}.get(role)
            if port is not None:
                await wait_for(
                    self._knows_nodes(region, port), f"{role} in {region.title} to know the media nodes"
                )

    def _knows_nodes(self, region: Region, port: int) -> Callable[[], Any]:
        nodes = len(self.world.regions) if self.design.has_media and not self.design.has_program else 1

        async def knows() -> bool:
            answer = await self.world.ask(region, do="fetch", url=f"http://{region.server}:{port}/readyz")
            return f'"nodes": "{nodes}"' in answer["body"]

        return knows

    async def _start(self, region: Region, role: str) -> None:
        command = self.world.machines.command(region.name, *self._words(region, role))
        part = Part(f"{role} in {region.title}", command, ("",) if role == "engine" else READY)
        self.parts[region.name, role] = part
        await part.start()

    async def end(self) -> None:
        """End all that still runs."""
        await asyncio.gather(*(part.kill_all() for part in self.parts.values()))


@asynccontextmanager
async def serving(world: World, design: Design, program: str) -> AsyncIterator[Service]:
    """Context: a design is up, with `program` (`module:function`). Raises `NamespaceError`."""
    with tempfile.TemporaryDirectory(prefix="voice-world-") as folder:
        ticket_file.add_epoch(Path(folder) / "ticket.key")
        service = Service(world, design, program, Path(folder))
        try:
            await service.start()
            yield service
        finally:
            await service.end()
