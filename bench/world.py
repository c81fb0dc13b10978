"""A service for users in three regions, in four designs: set-up, sound there and back, barge-in, a lost region.

    python -m bench world --plot docs/pictures

Regions are network namespaces, joined by one process that delays each packet by published round trips
(`interop/regions.py`); the users' own lines have delay and jitter of their own. The service are the roles of
docs/scale.md as processes, with NATS between them, and each user is our client in a process. The designs, which
`--server` chooses from: all central; media near the user and the program in the centre; a relay near the user and
the media in the centre; everything near the user.

Each user calls some times (`--scale` changes that), clicks, and interrupts the program. Then all are in a call
while a region is cut off, while the centre is, and when all processes of each are killed. It needs root,
/dev/net/tun, `nats-server` and the extra `cluster`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any

from bench._progress import say
from bench._voices import Missing, people
from bench.report import BadOption, Cell, Chart, Options, Table
from interop import world as worlds
from interop.namespaces import NamespaceError
from interop.regions import CENTRE, EU, REGIONS, Region, round_trip
from interop.world import DESIGNS, Design, Service, World

CALLS = 3
CLICKS = 3
WARM_UPS = 1
"""Calls of each user that are not counted: a worker loads its detector with the first."""
MAX_CALLS = 20
LOST = EU
"""The region that is lost, beside the centre."""
PROGRAM = "bench._world_program:answer"
USER = (sys.executable, "-m", "bench._world_user")
OUTAGE = 5.0
"""Seconds for which a region is cut off, or watched after its processes were killed."""
BACK_PATIENCE = 12.0
"""Seconds in which callers are to hear the program again after that."""
SETTLED = 1.0
"""Seconds for which they do before the next event."""
STAYS_SILENT = 1.5
"""Seconds without sound at the end of an outage after which a caller is taken for silent."""
UNDERSTOOD = ("scale", "seed", "verbose", "servers")


@dataclass
class Samples:
    """What one user measured in one design; milliseconds."""

    set_up: list[float] = field(default_factory=list)
    there: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    barge_in: list[float] = field(default_factory=list)
    failed: int = 0

    def note(self, answer: dict[str, Any]) -> None:
        """Take a call."""
        if "failed" in answer:
            self.failed += 1
            return
        self.set_up.append(answer["set_up"] * 1000)
        self.there += [each * 1000 for each in answer["there"]]
        self.back += [each * 1000 for each in answer["back"]]
        self.barge_in.append(answer["barge_in"] * 1000)


@dataclass(frozen=True)
class Loss:
    """What callers heard of an event: seconds of silence; None: nothing until it was over."""

    event: str
    inside: float | None
    outside: float | None
    back: float | None = None
    """Seconds after the links were joined until all heard the program again; None: not joined, or not heard."""


@dataclass
class Results:
    """Everything of a run."""

    samples: dict[tuple[str, str], Samples] = field(default_factory=dict)
    """By region and design."""
    losses: dict[str, list[Loss]] = field(default_factory=dict)
    """By design."""
    late: dict[str, float] = field(default_factory=dict)
    """Of the router, in milliseconds."""


async def measure_calls(service: Service, calls: int, results: Results) -> None:
    """Have every user call some times, all users at once."""

    async def one(region: Region) -> None:
        samples = results.samples.setdefault((region.name, service.design.name), Samples())
        url = service.design.entries(region, service.world.regions)[0]
        for turn in range(WARM_UPS + calls):
            clicks = CLICKS if turn >= WARM_UPS else 0
            answer = await service.world.ask(region, do="call", url=url, clicks=clicks)
            if "failed" in answer:
                say(f"{service.design.title}: a call from {region.title} failed: {answer['failed']}")
            if turn >= WARM_UPS:
                samples.note(answer)

    await asyncio.gather(*(one(region) for region in service.world.regions))


async def measure_losses(service: Service, results: Results) -> None:
    """Have every user in a call while regions are lost: the cuts first, what is killed stays so.

    Each event has calls of its own: after one they are wherever they have found a way.
    """
    world = service.world
    losses = results.losses.setdefault(service.design.name, [])
    for lost in (LOST, CENTRE):
        say(f"{service.design.title}: {lost.title} is cut off")
        await _hold(service)
        inside, outside = await _watch(world, lost, lambda lost=lost: world.cut(lost))
        await world.join(lost)
        losses.append(Loss(f"{_name(lost)} cut off", inside, outside, await _until_back(world)))
    for lost in (LOST, CENTRE):
        say(f"{service.design.title}: {lost.title} is killed")
        await _hold(service)
        inside, outside = await _watch(world, lost, lambda lost=lost: service.kill(lost))
        losses.append(Loss(f"{_name(lost)} killed", inside, outside))
    await asyncio.gather(*(world.ask(region, do="hang_up") for region in world.regions))


def _name(region: Region) -> str:
    return "centre" if region is CENTRE else "an edge region"


async def _hold(service: Service) -> None:
    """Have every user in a new call, at the nearest entry that is there."""

    async def one(region: Region) -> None:
        await service.world.ask(region, do="hang_up")
        await service.world.ask(region, do="hold", urls=service.design.entries(region, service.world.regions))

    await asyncio.gather(*(one(region) for region in service.world.regions))
    await asyncio.sleep(SETTLED)


async def _watch(
    world: World, lost: Region, event: Callable[[], Awaitable[None]]
) -> tuple[float | None, float | None]:
    """Return the longest silences of the caller in a region and of those elsewhere, while it is lost."""
    await asyncio.gather(*(world.ask(region, do="watch") for region in world.regions))
    await event()
    await asyncio.sleep(OUTAGE)
    heard: dict[bool, list[float | None]] = {True: [], False: []}
    for region in world.regions:
        answer = await world.ask(region, do="heard")
        stays = answer["since"] is None or answer["since"] > STAYS_SILENT
        heard[region is lost].append(None if stays else answer["longest"])
    return _worst(heard[True]), _worst(heard[False])


def _worst(silences: Sequence[float | None]) -> float | None:
    known = [each for each in silences if each is not None]
    return max(known) if len(known) == len(silences) else None


async def _until_back(world: World) -> float | None:
    """Return the seconds until all hear the program again, and wait until they have for a while."""
    began = time.monotonic()
    heard_since: dict[str, float] = {}
    while time.monotonic() - began < BACK_PATIENCE:
        for region in world.regions:
            answer = await world.ask(region, do="heard")
            if answer["since"] is not None and answer["since"] < 0.2:
                heard_since.setdefault(region.name, time.monotonic())
            else:
                heard_since.pop(region.name, None)
        now = time.monotonic()
        if len(heard_since) == len(world.regions) and now - max(heard_since.values()) > SETTLED:
            return max(heard_since.values()) - began
        await asyncio.sleep(0.05)
    return None


async def measure(
    designs: Sequence[Design],
    calls: int,
    seed: int,
    regions: Sequence[Region] = REGIONS,
    has_losses: bool = True,
) -> Results:
    """Return the results of designs, one after the other in the same world. Raises `NamespaceError`."""
    results = Results()
    async with worlds.running(USER, regions, seed) as world:
        for design in designs:
            say(f"{design.title}: starting")
            async with worlds.serving(world, design, PROGRAM) as service:
                say(f"{design.title}: {calls} calls of each user")
                await measure_calls(service, calls, results)
                if has_losses:
                    await measure_losses(service, results)
        results.late = (await world.router.ask("statistics"))["late_ms"]
    return results


# -- as tables -----------------------------------------------------------------------------------------------


def tabulate(results: Results, designs: Sequence[Design]) -> list[Table]:
    """Return a table for each measure, and one of the lost regions."""
    ways = ", ".join(
        f"{one.title} – {other.title} {round_trip(one, other) * 1000:.0f}"
        for number, one in enumerate(REGIONS)
        for other in REGIONS[number + 1 :]
    )
    lines = ", ".join(
        f"{each.title} {each.access * 1000:.0f} to {(each.access + each.jitter) * 1000:.0f}" for each in REGIONS
    )
    late = results.late
    notes = (
        f"round trips in ms: {ways} (published, Azure, June 2024); of users to their region (assumed): {lines}",
        f"the centre is {CENTRE.title}; the router was {late.get('mean', 0):.2g} ms late on the average, "
        f"{late.get('max', 0):.2g} at most; sound cards and a browser's playout come on top",
    )

    def table(title: str, pick: Callable[[Samples], list[float]], more: tuple[str, ...] = ()) -> Table:
        rows: list[list[Cell]] = []
        for region in REGIONS:
            for design in designs:
                samples = results.samples.get((region.name, design.name))
                values = pick(samples) if samples is not None else []
                if samples is not None and values:
                    who = [f"{region.title}", design.title]
                    rows.append([*who, len(values), samples.failed, median(values), min(values), max(values)])
        columns = ("caller in", "who", "times", "failed", "ms", "least", "most")
        return Table(title, columns, rows, (*more, *notes), Chart("ms", ("caller in",)))

    return [
        table(
            "Set-up: from the click to the first sound of the program, ms",
            lambda samples: samples.set_up,
            ("by HTTP on a new connection; TLS would be a round trip to the entry more, a kept one a trip less",),
        ),
        table(
            "Sound there and back: from a click to the beep with which the program answers it, ms",
            lambda samples: [sum(pair) for pair in zip(samples.there, samples.back, strict=True)],
            ("both ways, with a frame of 20 ms there and back; a program that thinks comes on top",),
        ),
        table(
            "Barge-in: from the person's first sound to the last that is heard of the program, ms",
            lambda samples: samples.barge_in,
            ("recorded speech; the detector is where the media are",),
        ),
        _losses(results, designs),
    ]


def _losses(results: Results, designs: Sequence[Design]) -> Table:
    rows: list[list[Cell]] = []
    for design in designs:
        for loss in results.losses.get(design.name, []):
            back = loss.back if "cut" in loss.event else None
            rows.append([design.title, loss.event, _silence(loss.inside), _silence(loss.outside), back])
    return Table(
        "A lost region: what callers in it and elsewhere hear, seconds of silence, the longer of two",
        ("design", "event", "in it", "elsewhere", "back after"),
        rows,
        (
            f"cut off: its links, for {OUTAGE:g} s; killed: all processes in it; the edge region is {LOST.title}",
            "'all': silent to the end of the outage; 'back after': from when the links were joined until all hear",
            "a user calls again after half a second of silence, at the nearest entry first; the program is up to "
            "1.2 s ahead of what is heard",
        ),
    )


def _silence(seconds: float | None) -> Cell:
    return "all" if seconds is None else round(seconds, 2)


# -- the command ---------------------------------------------------------------------------------------------


def _chosen(options: Options) -> list[Design]:
    """Return the designs that are asked for; raises `BadOption` for what has no meaning here."""
    usual = Options()
    for each in fields(Options):
        if each.name not in UNDERSTOOD and getattr(options, each.name) != getattr(usual, each.name):
            name = {"clients": "client"}.get(each.name, each.name)
            raise BadOption(
                f"--{name} has no use here: the regions and their users are as interop/regions.py says"
            )
    unknown = [name for name in options.servers if name not in DESIGNS]
    if unknown:
        raise BadOption(f"no such design: {', '.join(unknown)}; --server knows {', '.join(DESIGNS)}")
    return [design for name, design in DESIGNS.items() if not options.servers or name in options.servers]


def run(options: Options) -> list[Table]:
    """Measure all designs; about four minutes at scale 1."""
    designs = _chosen(options)
    absent = worlds.why_not()
    if absent is not None:
        raise BadOption(absent)
    try:
        people()
    except Missing as missing:
        raise BadOption(str(missing)) from missing
    calls = min(MAX_CALLS, max(1, round(CALLS * options.scale)))
    try:
        results = asyncio.run(_until_asked_to_end(measure(designs, calls, options.seed)))
    except NamespaceError as error:
        raise SystemExit(f"bench world: {error}") from None
    except asyncio.CancelledError:
        raise SystemExit("bench world: ended early; all of it is gone") from None
    return tabulate(results, designs)


async def _until_asked_to_end(work: Awaitable[Results]) -> Results:
    """Run `work`, and cancel it once at SIGINT or SIGTERM: a second one does not disturb the end."""
    doing = asyncio.ensure_future(work)
    asked: list[int] = []

    def end(number: int) -> None:
        if not asked:
            asked.append(number)
            doing.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    return await doing
