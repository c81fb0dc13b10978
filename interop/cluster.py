"""Several machines on this one, each in a network namespace: `make cluster`, and the tests of what callers hear.

    outer 10.83.1.0/24, where callers are        inner 10.83.0.0/24, where the backbone is
      this machine    .254                         engine     .2    NATS
      signaling       .3                           signaling  .3
      relay           .4                           relay      .4
      nodes n1, n2    .11 .12                      nodes      .11 .12
                                                   agents a1, a2  .21 .22

Signaling listens twice: at 8080 its answers name the relay, at 8081 the nodes themselves. A page has a microphone
only where it comes from loopback or by HTTPS, so both ports are forwarded from 127.0.0.1.

It needs what `interop/namespaces.py` needs, and `nats-server`. Nothing is left behind but, after a SIGKILL, a
temporary folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from interop import namespaces
from interop.namespaces import NamespaceError, Namespaces, Part, fetch, find_program, ip, wait_for
from stack.aio import ticket_file

INNER, OUTER = "10.83.0", "10.83.1"
HOSTS = {"engine": 2, "signaling": 3, "relay": 4, "n1": 11, "n2": 12, "a1": 21, "a2": 22}
OUTSIDE = ("signaling", "relay", "n1", "n2")
NATS = f"nats://{INNER}.2:4222"
MEDIA_PORT = 3478
BY_RELAY, DIRECT = 8080, 8081
READY = ("Open ", "Taking calls", "Relaying")


def why_not() -> str | None:
    """Return why there can be no such network here; None if there can."""
    return namespaces.why_not("nats-server")


# -- the network ---------------------------------------------------------------------------------------------


class Network:
    """The namespaces, by the name of the machine; `hub` has the two bridges."""

    def __init__(self, machines: Namespaces) -> None:
        self._machines = machines
        self.command = machines.command

    def set_link(self, machine: str, side: str, *, up: bool) -> None:
        """Cut a machine off from the side `in` or `out`, or join it again."""
        ip("link", "set", f"{machine}-{side}", "up" if up else "down", inside=self._machines.pid("hub"))


@contextmanager
def network() -> Iterator[Network]:
    """Context: the machines, without anything on them. Raises `NamespaceError`."""
    with namespaces.namespaces(("hub", *HOSTS)) as machines:
        hub = machines.pid("hub")
        for side in ("in", "out"):
            ip("link", "add", f"br-{side}", "type", "bridge", inside=hub)
            ip("link", "set", f"br-{side}", "up", inside=hub)
        for name, number in HOSTS.items():
            _join(hub, machines.pid(name), name, "in", f"{INNER}.{number}")
            if name in OUTSIDE:
                _join(hub, machines.pid(name), name, "out", f"{OUTER}.{number}")
        try:
            # Our own end is in the namespace of this thread, which may be another than that of the process.
            ip("link", "add", "cluster0", "type", "veth", "peer", "name", "host-out", "netns", str(hub))
            ip("address", "add", f"{OUTER}.254/24", "dev", "cluster0")
            ip("link", "set", "cluster0", "up")
            ip("link", "set", "host-out", "master", "br-out", "up", inside=hub)
            yield Network(machines)
        finally:
            with contextlib.suppress(NamespaceError):
                ip("link", "delete", "cluster0")  # it would go with the hub, a moment later


def _join(hub: int, machine: int, name: str, side: str, address: str) -> None:
    ip("link", "add", f"{name}-{side}", "type", "veth", "peer", "name", side, "netns", str(machine), inside=hub)
    ip("link", "set", f"{name}-{side}", "master", f"br-{side}", "up", inside=hub)
    ip("address", "add", f"{address}/24", "dev", side, inside=machine)
    ip("link", "set", side, "up", inside=machine)


# -- what runs on it -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What runs: `program` at the agents, `own` at the nodes for calls that no agent takes (empty: nothing)."""

    program: str = "echo"
    own: str = ""
    media: Sequence[str] = ()
    """More options of the nodes."""
    ports: tuple[int, int] = (BY_RELAY, DIRECT)
    """On 127.0.0.1, of the page whose calls go by the relay and of that whose calls go to the nodes."""


@dataclass
class Cluster:
    """What is up."""

    network: Network
    config: ClusterConfig
    folder: Path
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def by_relay(self) -> str:
        """The page whose calls go through the relay."""
        return f"http://127.0.0.1:{self.config.ports[0]}/"

    @property
    def direct(self) -> str:
        """The page whose calls go to the nodes."""
        return f"http://127.0.0.1:{self.config.ports[1]}/"

    def status_url(self, name: str) -> str:
        """Return where the HTTP of a node or of the relay is."""
        return f"http://{OUTER}.{HOSTS[name]}:8080"

    def _words(self, name: str) -> list[str]:
        stack = [sys.executable, "-m", "stack"]
        key = str(self.folder / "ticket.key")
        if name == "engine":
            server = find_program("nats-server") or "nats-server"
            return [server, "-a", f"{INNER}.2", "-p", "4222", "-js", "-sd", str(self.folder / "jetstream")]
        if name == "relay":
            here = HOSTS["relay"]
            return [
                *stack, "relay", "--nats", NATS, "--host", f"{OUTER}.{here}", "--inner", f"{INNER}.{here}",
                "--udp-port", str(MEDIA_PORT), "--port", "8080", "--flows", str(self.folder / "flows"),
            ]  # fmt: skip
        if name in ("signaling", "signaling-direct"):
            port, relay = (BY_RELAY, ["--relay", f"{OUTER}.{HOSTS['relay']}:{MEDIA_PORT}"])
            if name == "signaling-direct":
                port, relay = DIRECT, []
            return [
                *stack, "signaling", "--nats", NATS, "--ticket-key", key, "--host", f"{OUTER}.3", "--port",
                str(port), *relay,
            ]  # fmt: skip
        if name in ("a1", "a2"):
            return [*stack, "agent", self.config.program, "--nats", NATS, "--name", name, "--drain-seconds", "1"]
        own = ["--agent", self.config.own] if self.config.own else []
        address = f"{OUTER}.{HOSTS[name]}"
        return [
            *stack, "media", "--nats", NATS, "--node", name, "--ticket-key", key, "--interface", "in",
            "--interface", "out", "--udp-port", str(MEDIA_PORT), "--host", address, "--port", "8080",
            "--http-url", f"http://{address}:8080", "--workers", "1", "--tcp-port", "off",
            "--drain-seconds", "0", "--goaway-seconds", "20", *own, *self.config.media,
        ]  # fmt: skip

    async def start(self, name: str) -> Part:
        """Start a part, or start it again."""
        machine = name.partition("-")[0]
        command = self.network.command(machine, *self._words(name))
        ready = ("",) if name == "engine" else READY
        part = self.parts[name] = Part(name, command, ready, restarts=name == "relay")
        await part.start()
        return part


@asynccontextmanager
async def running(config: ClusterConfig | None = None) -> AsyncIterator[Cluster]:
    """Context: all of it is up, and calls can be made. Raises `NamespaceError`."""
    config = config or ClusterConfig()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voice-cluster-")))
        ticket_file.add_epoch(folder / "ticket.key")
        cluster = Cluster(stack.enter_context(network()), config, folder)
        stack.push_async_callback(_end_all, cluster)
        await cluster.start("engine")
        await asyncio.gather(*(cluster.start(name) for name in ("n1", "n2", "a1", "a2", "relay")))
        await asyncio.gather(*(cluster.start(name) for name in ("signaling", "signaling-direct")))
        for port, inner in zip(config.ports, (BY_RELAY, DIRECT), strict=True):
            await stack.enter_async_context(_forwarded(port, f"{OUTER}.3", inner))
        await wait_for(lambda: knows_both(cluster), "two nodes")
        yield cluster


async def _end_all(cluster: Cluster) -> None:
    await asyncio.gather(*(part.end(signal.SIGINT) for part in cluster.parts.values()))


async def knows_both(cluster: Cluster) -> bool:
    known = 0
    for url in (cluster.by_relay, cluster.direct):
        known += '"nodes": "2"' in await fetch(url + "readyz")
    return known == 2 and '"nodes": "2"' in await fetch(cluster.status_url("relay") + "/readyz")


@asynccontextmanager
async def _forwarded(port: int, host: str, inner: int) -> AsyncIterator[None]:
    """Context: TCP connections to 127.0.0.1 go to an address of the cluster."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, inner)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    try:
        server = await asyncio.start_server(connect, "127.0.0.1", port)
    except OSError as error:
        raise NamespaceError(f"127.0.0.1:{port} is taken: {error.strerror}") from error
    async with server:
        yield


# -- the command ---------------------------------------------------------------------------------------------


async def _serve(config: ClusterConfig) -> None:
    """Run it until SIGINT or SIGTERM, also while it starts."""
    ours = asyncio.current_task()
    assert ours is not None
    asked: list[int] = []

    def end(number: int) -> None:
        if not asked:  # a second one would disturb the end
            asked.append(number)
            ours.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    print("Starting NATS, two nodes, two agents, a relay and signaling …", flush=True)
    async with running(config) as cluster:
        print(f"Open {cluster.by_relay} and speak: media go through the relay.")
        print(f"Open {cluster.direct} and speak: media go to the nodes themselves.")
        print(f"From a terminal: python -m stack call http://{OUTER}.3:{BY_RELAY}/")
        for name, part in cluster.parts.items():
            print(f"  {name:<17} process {part.pid}")
        print(
            "Kill any of them (the relay is started again); kill -TERM drains a node.  (Ctrl-C ends all)",
            flush=True,
        )
        await asyncio.get_running_loop().create_future()


def main() -> int:
    """Run the cluster until Ctrl-C: `python -m interop.cluster [MODULE:FUNCTION]`."""
    absent = why_not()
    if absent is not None:
        print(f"Error: {absent}", file=sys.stderr)
        return 1
    program = sys.argv[1] if len(sys.argv) > 1 else "echo"
    if len(sys.argv) > 2 or not re.fullmatch(r"[\w.]+(:\w+)?", program):
        print("Error: python -m interop.cluster [AGENT], as echo or module:function", file=sys.stderr)
        return 2
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_serve(ClusterConfig(program)))
    except NamespaceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
