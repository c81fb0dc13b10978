"""How fast a call is set up, over networks near and far: ours, aiortc's and Pion's, by turns, from each client.

    python -m bench setup --rtt 0,20,100,300 --loss 0,2,10 --scale 2

Times run from `setRemoteDescription(answer)` (our own client: from the answer's arrival), "click to voice" from
before the offer is made. "Voice" is the `unmute` of the remote track, the first packet; "heard" is the server's:
the first packet of the user that it has authenticated. Each server speaks as soon as it may (`bench/servers`).
Every datagram goes through a relay that delays and loses from the same seed for each server.

The clients: Chromium, Firefox, Chromium with the switches for DTLS in STUN and for SCTP's INIT in SDP
("chromium-warp"), the same without ML-KEM, and our own. To us the page and our client open a channel that is
agreed on beforehand, as ours do; to the others one that is opened by a message, because they know no other.
aiortc, which speaks DTLS 1.2, is there when it is asked for (`--client aiortc`).
Ten counted calls each (`--scale` changes that); `--client` and `--server` choose.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median

from bench._load import PION
from bench._progress import say
from bench._setup_ends import (
    CLIENTS,
    HEARD,
    CallFailed,
    Client,
    ClientKind,
    Front,
    Network,
    Server,
    client,
    server,
)
from bench.report import BadOption, Cell, Options, Table
from interop.browsers import BrowserError, PoliciesUnavailable, available, loopback_namespace
from interop.servers import ServerError

METRICS = {
    "connected": "connected",
    "voice": "first audio",
    "channel": "channel open",
    "heard": "server hears",
    "click_to_voice": "click to voice",
}
RUNS = 10
WARM_UPS = 1
"""Calls of each pair that are not counted."""
PAUSE = 0.1
"""Seconds until the next call: the last datagrams of a call are not part of it."""


@dataclass(slots=True)
class Samples:
    """The calls of one client to one server over one network: milliseconds by metric."""

    times: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in METRICS})
    failed: int = 0
    unheard: int = 0
    """Calls that came about, and whose sound the server did not have within `HEARD` seconds after that."""

    def note(self, took: dict[str, float]) -> None:
        """Take a call."""
        for name, values in self.times.items():
            if name in took:
                values.append(took[name])
        self.unheard += "heard" not in took

    def median(self, metric: str) -> float | None:
        """Return the median; None if nothing was measured."""
        values = self.times[metric]
        return median(values) if values else None

    def p95(self, metric: str) -> float | None:
        """Return what 95 % of the calls did not exceed."""
        values = sorted(self.times[metric])
        return values[ceil(0.95 * len(values)) - 1] if values else None


Results = dict[tuple[str, str], Samples]
"""By client and server."""


def tabulate(network: Network, results: Results, runs: int) -> list[Table]:
    """Return the times of one network, and beside them the round trips where there is a delay to count them in."""
    columns = ["client", "server", "calls", "failed", "unheard"]
    columns += [name for title in METRICS.values() for name in (title, f"{title} p95")]
    rows: list[list[Cell]] = []
    trips: list[list[Cell]] = []
    for (who, to), samples in results.items():
        row: list[Cell] = [who, to, len(samples.times["connected"]), samples.failed, samples.unheard]
        for metric in METRICS:
            row += [samples.median(metric), samples.p95(metric)]
        rows.append(row)
        if network.rtt:
            medians = [samples.median(metric) for metric in METRICS]
            trips.append([who, to, *(None if ms is None else ms / network.rtt / 1000 for ms in medians)])
    notes = [
        f"{runs} calls each, by turns; those that failed (nothing within 15 s) are counted and not in the times",
        "'server hears': until the server has authenticated the first sound of the user; 'unheard': not within "
        f"{HEARD:g} s after all else was there",
    ]
    tables = [Table(f"Set-up of a call, {network}: ms from the answer, median and p95", columns, rows, notes)]
    if trips:
        tables.append(
            Table(f"The same in round trips: medians, {network}", ["client", "server", *METRICS.values()], trips)
        )
    return tables


def servers(options: Options) -> dict[str, list[str]]:
    """Return the commands of the servers that can be had here."""
    greeting = [sys.executable, "-m", "bench.servers.greeting"]
    found = {"ours": [*greeting, "ours"], "aiortc": [*greeting, "aiortc"]}
    if PION.exists():
        found["pion"] = [str(PION), "-greeting"]
    elif not options.servers or "pion" in options.servers:
        _miss("server", "pion", f"{PION.name} is built by `make peers`")
    for role in ("active", "passive"):
        if f"ours-{role}" in options.servers:
            found[f"ours-{role}"] = [*greeting, "ours", "--setup", role]
    for folder in options.against:
        found[f"ours-{Path(folder).name}"] = [*greeting, "ours", "--checkout", str(Path(folder).resolve())]
    if options.servers:
        unknown = [name for name in options.servers if name not in (*found, "pion")]
        if unknown:
            raise BadOption(f"no such server: {', '.join(unknown)}; there are {', '.join(found)}")
        found = {name: command for name, command in found.items() if name in options.servers}
    return found


def _miss(what: str, name: str, why: str) -> None:
    """Say that a contestant is not there, and go on without it."""
    say(f"no {what} {name}: {why}")


async def start_servers(commands: Mapping[str, Sequence[str]], stack: AsyncExitStack) -> dict[str, Server]:
    """Start the servers; one that does not start, say a binary from before `-greeting`, is named and left out."""
    started = {}
    for name, command in commands.items():
        try:
            started[name] = await stack.enter_async_context(server(name, command))
        except (ServerError, OSError) as error:
            _miss("server", name, str(error))
    if not started:
        raise ServerError("none of the servers has started")
    return started


async def _measure(
    who: str, calling: Client, front: Front, to: Sequence[Server], runs: int, options: Options
) -> Results:
    results = {(who, each.name): Samples() for each in to}
    for turn in range(WARM_UPS + runs):
        front.seed = f"{options.seed}/{turn}"
        for each in to:
            each.heard, each.answered = None, 0.0
            samples = results[who, each.name]
            try:
                took = await calling.call(front, each, negotiated=each.name.startswith("ours"))
            except CallFailed as failed:
                if options.verbose:
                    say(f"{who} to {each.name}: {failed}")
                samples.failed += turn >= WARM_UPS
            else:
                if options.verbose:
                    say(f"{who} to {each.name}, {front.network}: {took}")
                if turn >= WARM_UPS:
                    samples.note(took)
            await asyncio.sleep(PAUSE)
    return results


async def compare(
    kinds: Sequence[ClientKind],
    networks: Sequence[Network],
    commands: Mapping[str, Sequence[str]],
    options: Options,
) -> list[Table]:
    """Measure every client against every server over every network; the servers run throughout."""
    runs = max(1, round(RUNS * options.scale))
    tables: dict[Network, Results] = {network: {} for network in networks}
    async with AsyncExitStack() as stack:
        to = await start_servers(commands, stack)
        front = await stack.enter_async_context(Front(to).serving())
        for kind in kinds:
            try:
                async with client(kind, front) as (who, calling):
                    for network in networks:
                        front.network = network
                        say(f"{kind.name}, {network}: {runs} calls to each server")
                        found = await _measure(who, calling, front, list(to.values()), runs, options)
                        tables[network].update(found)
            except (PoliciesUnavailable, BrowserError) as error:
                _miss("client", kind.name, str(error))
    return [table for network, results in tables.items() for table in tabulate(network, results, runs)]


def run(options: Options) -> list[Table]:
    """Compare with every client of this machine."""
    unknown = [name for name in options.clients if name not in {kind.name for kind in CLIENTS}]
    if unknown:
        known = ", ".join(kind.name for kind in CLIENTS)
        raise BadOption(f"no such client: {', '.join(unknown)}; there are {known}")
    commands = servers(options)
    installed = {browser.name for browser in available()}
    kinds = [kind for kind in CLIENTS if kind.browser is None or kind.browser in installed]
    if options.clients:
        kinds = [kind for kind in kinds if kind.name in options.clients]
    else:
        kinds = [kind for kind in kinds if kind.name != "aiortc"]
    networks = [Network(rtt / 1000, loss / 100) for loss in options.loss for rtt in options.rtt]
    if not kinds:
        raise BadOption("there is no such client on this machine")
    try:
        with loopback_namespace():
            return asyncio.run(compare(kinds, networks, commands, options))
    except (ServerError, BrowserError) as error:
        raise SystemExit(f"bench setup: {error}") from None
