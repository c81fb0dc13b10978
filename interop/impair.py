"""A relay for UDP between real clients and a server that loses, delays and reorders as a `NetworkModel` says.

    python -m interop.impair --to 127.0.0.1:3478 --loss 5 --burst 3 --delay 40 --jitter normal:15 --seed 7

For machines whose kernel has no netem, and for tests that want the same network each time. Every client address
gets a socket of its own towards the server and a network of its own (its `Link`s are seeded by its number), so the
server tells the clients apart by port, as behind a NAT. There is one timer for all datagrams under way, no task
per datagram. A browser is led to the relay by `interop.redirect`.

Left out: TCP, and clients that are to be told from one another by anything but their address.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any, Self

from interop.arguments import OneLineParser, seconds, written_as
from interop.delay_line import DelayLine, Lateness
from interop.network_model import (
    GilbertElliott,
    Jitter,
    JitterShape,
    Link,
    ModelError,
    NetworkModel,
    RateLimit,
    Stall,
    Trace,
)

MAX_CLIENTS = 256
"""Client addresses that have a socket at one time; the one that was silent for longest makes room."""
READ_BATCH = 64
"""Datagrams that are read from one socket before others get their turn."""
BUFFER_SIZE = 1 << 20
"""What the kernel may keep for a socket of ours, in bytes: the relay itself shall not lose anything."""

Endpoint = tuple[str, int]


@dataclass(slots=True, eq=False)
class _Flow:
    """One client: its address, the socket that stands for it at the server, and its network both ways."""

    number: int
    client: Endpoint
    upstream: socket.socket
    up: Link
    down: Link


class ImpairedRelay:
    """Relays between clients that send to `address` and the server at `target`; an async context manager.

    `up` is the network from clients to server, `down` the way back. `target` has to be on loopback unless
    `allow_remote` is set: a user must not impair a network of others by a slip of the finger.
    """

    def __init__(
        self,
        up: NetworkModel,
        down: NetworkModel,
        target: Endpoint,
        *,
        listen: Endpoint = ("127.0.0.1", 0),
        seed: int | str = 0,
        max_clients: int = MAX_CLIENTS,
        allow_remote: bool = False,
    ) -> None:
        for host, _ in (target, listen):
            if not allow_remote and not ip_address(host).is_loopback:
                raise ValueError(f"{host} is not a loopback address")
        self._models = up, down
        self._target = target
        self._listen = listen
        self._seed = seed
        self._max_clients = max_clients
        self._flows: dict[Endpoint, _Flow] = {}
        self._numbers = count(1)
        self._tally: Counter[str] = Counter()
        self._finished = Counter[str](), Counter[str]()
        self._line: DelayLine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self.on_to_server: Callable[[bytes], None] | None = None
        """Told of each datagram as it reaches the server."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._line = DelayLine(self._loop)
        self._socket = _udp_socket(self._listen[0])
        self._socket.bind(self._listen)
        self._loop.add_reader(self._socket, self._read_clients)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop at once; what is under way is lost."""
        if self._line is not None:
            self._tally["cut_off"] += self._line.close()
        for flow in list(self._flows.values()):
            self._end(flow)
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    @property
    def address(self) -> Endpoint:
        """Where clients send to."""
        if self._socket is None:
            raise RuntimeError("the relay is not open")
        host, port = self._socket.getsockname()[:2]
        return host, port

    def rebind(self) -> None:
        """Give every client another port towards the server, as a NAT does that forgot its mappings."""
        for flow in self._flows.values():
            self._unplug(flow)
            flow.upstream = self._connect()
            self._watch(flow)

    def change(self, up: NetworkModel, down: NetworkModel) -> None:
        """Make the network another one from now on; what is under way arrives as it would have."""
        self._models = up, down
        for flow in self._flows.values():
            self._finish(flow)
            flow.up, flow.down = self._links(flow.number)

    def statistics(self) -> dict[str, Any]:
        """Return counts for each direction, what the relay itself dropped, and how late it was (in ms)."""
        up, down = Counter(self._finished[0]), Counter(self._finished[1])
        for flow in self._flows.values():
            up.update(flow.up.statistics())
            down.update(flow.down.statistics())
        return {
            "up": dict(up),
            "down": dict(down),
            "relay": {name: amount for name, amount in sorted(self._tally.items()) if amount},
            "late_ms": (self._line.lateness if self._line is not None else Lateness()).summary(),
        }

    # --- from clients to the server ---

    def _read_clients(self) -> None:
        assert self._socket is not None
        for _ in range(READ_BATCH):
            try:
                data, source = self._socket.recvfrom(65_536)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error for something sent earlier
                self._tally["refused_by_client"] += 1
                continue
            flow = self._flow(source[:2])
            self._flows[flow.client] = self._flows.pop(flow.client)  # the last is the one heard last
            self._send_later(flow.up, data, partial(self._to_server, flow, data))

    def _to_server(self, flow: _Flow, data: bytes) -> None:
        if self.on_to_server is not None:
            self.on_to_server(data)
        self._send(lambda: flow.upstream.send(data), "refused_by_server")

    # --- from the server to a client ---

    def _read_server(self, flow: _Flow) -> None:
        for _ in range(READ_BATCH):
            try:
                data = flow.upstream.recv(65_536)
            except BlockingIOError:
                return
            except OSError:
                self._tally["refused_by_server"] += 1
                continue
            self._send_later(flow.down, data, partial(self._to_client, flow, data))

    def _to_client(self, flow: _Flow, data: bytes) -> None:
        listening = self._socket
        assert listening is not None
        self._send(lambda: listening.sendto(data, flow.client), "refused_by_client")

    # --- time ---

    def _send_later(self, link: Link, data: bytes, deliver: Callable[[], None]) -> None:
        assert self._loop is not None
        assert self._line is not None
        for at in link.transit(len(data), self._loop.time()):
            if not self._line.add(at, deliver):
                self._tally["too_many_under_way"] += 1

    def _send(self, send: Callable[[], int], refused: str) -> None:
        try:
            send()
        except BlockingIOError:
            self._tally["kernel_buffer_full"] += 1
        except OSError:
            self._tally[refused] += 1

    # --- flows ---

    def _flow(self, client: Endpoint) -> _Flow:
        flow = self._flows.get(client)
        if flow is not None:
            return flow
        if len(self._flows) >= self._max_clients:
            self._end(next(iter(self._flows.values())))
            self._tally["clients_ended"] += 1
        number = next(self._numbers)
        up, down = self._links(number)
        flow = _Flow(number, client, self._connect(), up, down)
        self._watch(flow)
        self._flows[client] = flow
        self._tally["clients"] += 1
        return flow

    def _connect(self) -> socket.socket:
        upstream = _udp_socket(self._target[0])
        upstream.connect(self._target)
        return upstream

    def _watch(self, flow: _Flow) -> None:
        assert self._loop is not None
        self._loop.add_reader(flow.upstream, self._read_server, flow)

    def _unplug(self, flow: _Flow) -> None:
        assert self._loop is not None
        self._loop.remove_reader(flow.upstream)
        flow.upstream.close()

    def _end(self, flow: _Flow) -> None:
        self._unplug(flow)
        self._finish(flow)
        del self._flows[flow.client]

    def _finish(self, flow: _Flow) -> None:
        self._finished[0].update(flow.up.statistics())
        self._finished[1].update(flow.down.statistics())

    def _links(self, number: int) -> tuple[Link, Link]:
        up, down = self._models
        return Link(up, f"{self._seed}/{number}/up"), Link(down, f"{self._seed}/{number}/down")


def _udp_socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_SIZE)
    return sock


# --- the command -----------------------------------------------------------------------------------------------


def percent(text: str) -> float:
    return float(text.removesuffix("%")) / 100


def milliseconds(text: str) -> float:
    return float(text.removesuffix("ms")) / 1000


def jitter(text: str) -> Jitter:
    shape, colon, amount = text.rpartition(":")
    return Jitter(milliseconds(amount), JitterShape(shape) if colon else JitterShape.UNIFORM)


def stall(text: str) -> Stall:
    interval, _, duration = text.partition(":")
    return Stall(float(interval), milliseconds(duration))


def endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    if ":" in host and not (host[0] == "[" and host[-1] == "]"):
        raise ValueError("IPv6 addresses stand in brackets")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    ip_address(host)
    if not 0 <= int(port) <= 0xFFFF:
        raise ValueError("a port is at most 65535")
    return host, int(port)


def server(text: str) -> Endpoint:
    host, port = endpoint(text)
    if port == 0:
        raise ValueError("a server has a port")
    return host, port


def trace(text: str) -> Trace:
    try:
        return Trace.load(Path(text))
    except (OSError, ModelError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


_EFFECTS: Mapping[str, tuple[Callable[[str], Any], str, str]] = {
    "loss": (percent, "PERCENT", "lose so many datagrams"),
    "burst": (float, "N", "lose them in runs of N on the average"),
    "delay": (milliseconds, "MS", "delay all of them"),
    "jitter": (jitter, "[SHAPE:]MS", "delay each by something more: uniform, normal or pareto (spikes)"),
    "reorder": (percent, "PERCENT", "hold so many back, so that others overtake them"),
    "duplicate": (percent, "PERCENT", "deliver so many twice"),
    "stall": (stall, "S:MS", "about every S seconds hold everything for MS"),
    "rate": (float, "KBIT", "let no more through than so many kbit/s"),
    "queue": (float, "KB", "the queue in front of --rate, in kilobytes (64)"),
    "trace": (trace, "FILE", "play loss and delay from CSV lines 'sequence,delay_ms' or 'sequence,lost'"),
}


def _model(settings: Mapping[str, Any]) -> NetworkModel:
    given = {name: value for name, value in settings.items() if value is not None}
    rate, queue, burst, loss = (given.pop(name, None) for name in ("rate", "queue", "burst", "loss"))
    model = NetworkModel(**given)
    if burst is not None and loss is None:
        raise ModelError("--burst says how a --loss is spread")
    if burst is not None:
        model = replace(model, burst=GilbertElliott.from_mean(loss, burst))
    elif loss is not None:
        model = replace(model, loss=loss)
    if rate is not None:
        model = replace(model, rate=RateLimit(rate * 1000, round((64 if queue is None else queue) * 1000)))
    return model


def _chosen(options: argparse.Namespace, direction: str) -> dict[str, Any]:
    """Return the settings of one direction: its own, or else those of both."""
    given = vars(options)
    own = {name: given[f"{direction}_{name}"] for name in _EFFECTS}
    return {name: given[name] if value is None else value for name, value in own.items()}


def _arguments() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m interop.impair", description="Relay UDP over a bad network.")
    address = "an IP address and a port, as 127.0.0.1:3478 or [::1]:3478"
    parser.add_argument(
        "--to", type=written_as(address, server), required=True, metavar="HOST:PORT", help="the server"
    )
    parser.add_argument(
        "--listen", type=written_as(address, endpoint), metavar="HOST:PORT", help="for clients; default: loopback"
    )
    parser.add_argument("--seed", default="0", help="the same seed, the same network")
    time = written_as("seconds, above 0", seconds)
    parser.add_argument("--duration", type=time, metavar="S", help="end by itself")
    parser.add_argument(
        "--rebind", type=time, metavar="S", help="change every client's port about every S seconds"
    )
    parser.add_argument("--json", action="store_true", help="print the statistics at the end as JSON")
    parser.add_argument("--allow-remote", action="store_true", help="addresses need not be on loopback")
    for prefix, title in (("", "both directions"), ("up-", "client to server"), ("down-", "server to client")):
        group = parser.add_argument_group(title)
        for name, (kind, metavar, text) in _EFFECTS.items():
            read = written_as(metavar, kind)
            group.add_argument(f"--{prefix}{name}", type=read, metavar=metavar, help=text)
    return parser


async def _run(relay: ImpairedRelay, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with relay:
        host, port = relay.address
        print(f"relaying udp {host} {port} to {options.to[0]} {options.to[1]}", file=sys.stderr, flush=True)
        end = None if options.duration is None else loop.time() + options.duration
        while not stop.is_set():
            left = None if end is None else end - loop.time()
            patience = min((t for t in (left, options.rebind) if t is not None), default=None)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), patience)
            if end is not None and loop.time() >= end:
                break
            if options.rebind is not None:
                relay.rebind()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the relay until SIGINT, SIGTERM or the end of --duration, then print what happened."""
    parser = _arguments()
    options = parser.parse_args(arguments)
    is_ipv6 = ":" in options.to[0]
    if options.listen is None:
        options.listen = ("::1" if is_ipv6 else "127.0.0.1", 0)
    if (":" in options.listen[0]) is not is_ipv6:
        parser.error("--listen and --to are of two families: both are IPv4, or both IPv6")
    try:
        up, down = (_model(_chosen(options, direction)) for direction in ("up", "down"))
        relay = ImpairedRelay(
            up, down, options.to, listen=options.listen, seed=options.seed, allow_remote=options.allow_remote
        )
    except ValueError as error:  # a ModelError is one
        parser.error(str(error))
    # epoll rounds a timeout up to whole milliseconds, select does not
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        loop.run_until_complete(_run(relay, options))
    except OSError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    finally:
        loop.close()
    statistics = relay.statistics()
    if options.json:
        print(json.dumps(statistics))
    else:
        for name, value in statistics.items():
            print(
                f"{name}: {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
