"""Calls through several machines, all on this one: processor time of each part, lateness, and a relay's start.

The program of every call always speaks, and takes what its caller says, 20 ms at a time. It runs beside the media
(`serve`), then behind NATS, with one node and with two, directly and through a relay. Lateness is that of what
the callers receive, against the RTP timestamps; frames are sent by the node, which has a few of them in hand.

Then a relay is killed, ten times its process that forwards and ten times the whole of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import _relay_start
from bench._load import PERCENTILES, ROOT, START_PATIENCE, Absent, Contestant, Place, cpu_seconds, place_of
from bench._progress import say
from bench._relay_start import Restarts
from bench.report import Cell, Options, Table
from interop.namespaces import find_program
from interop.servers import free_port
from stack.aio import ticket_file

CALLS = 20
SECONDS = 10.0
RESTARTS = 10
CORES = "0,1"
PARTS = ("node", "program", "NATS", "relay", "signaling")
"""The kinds of process, in the order of the columns."""
TITLE = "calls whose program is behind NATS: processor time, ms a call and second"
COLUMNS = ("layout", "calls", *PARTS, "all", "late p50 ms", "p99", "p99.9", "lost")
RESTART_TITLE = "a relay that is killed: ms until it forwards again"
RESTART_COLUMNS = ("what is killed", "times", "median", "least", "most", "lost of a packet each 2 ms")
UNLIMITED = ("--offers-per-second", "1000", "--offers-per-client", "1000", "--calls-per-client", "5000")
READY = re.compile(r"^(Open|Taking calls|Relaying)\b.*$", re.MULTILINE)


@dataclass
class Layout:
    """Which parts there are; `relay`: between callers and the nodes."""

    name: str
    nodes: int = 0
    agents: int = 0
    relay: bool = False


LAYOUTS = (
    Layout("serve"),
    Layout("one node", 1, 1),
    Layout("one node, relay", 1, 1, True),
    Layout("two nodes", 2, 2),
)


@dataclass
class Running:
    """A layout that takes calls."""

    contestant: Contestant
    pid: int
    offer: str
    pids: Mapping[str, Sequence[int]]
    marks: list[dict[str, float]] = field(default_factory=list)

    def mark(self) -> None:
        """Note what each kind of part has used so far."""
        self.marks.append({kind: sum(map(cpu_seconds, pids)) for kind, pids in self.pids.items()})

    def used(self) -> Mapping[str, float]:
        """Return the processor seconds of each kind between the last two marks."""
        before, after = self.marks[-2:]
        return {kind: after[kind] - before[kind] for kind in after}


def run(options: Options) -> Sequence[Table]:
    """Run everything; about three minutes at scale 1."""
    if find_program("nats-server") is None:
        return [Table(TITLE, COLUMNS, [], ("not measured: nats-server is absent: apt-get install nats-server",))]
    seconds, _ = options.amount(SECONDS, 1)
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            for calls in options.calls or (CALLS,):
                for layout in LAYOUTS:
                    say(f"{calls} calls: {layout.name}")
                    rows.append(_measure(place, layout, calls, seconds))
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    note = f"Runs of {seconds:.0f} s; all parts on the cores {CORES}, and the Pion generator on one of them."
    return [Table(TITLE, COLUMNS, rows, (note,)), _restarts(max(1, round(RESTARTS * min(1.0, options.scale))))]


def _restarts(times: int) -> Table:
    say(f"{times} restarts of a relay")
    try:
        forwarding, whole = _relay_start.measure(times)
    except Absent as absent:
        return Table(RESTART_TITLE, RESTART_COLUMNS, [], (f"not measured: {absent}",))
    rows = [
        _restart_row("the process that forwards", forwarding), _restart_row("the relay, and started again", whole)
    ]  # fmt: skip
    return Table(RESTART_TITLE, RESTART_COLUMNS, rows)


def _restart_row(what: str, restarts: Restarts) -> Sequence[Cell]:
    least, most = (1e3 * each(restarts.seconds) for each in (min, max))
    return (what, len(restarts.seconds), restarts.median_ms, least, most, restarts.lost)


def _measure(place: Place, layout: Layout, calls: int, seconds: float) -> Sequence[Cell]:
    with running(layout, place) as target:
        run = place.load(target, "rtp", calls, seconds, on_mark=target.mark)
        used = {kind: each / run.seconds / run.calls * 1e3 for kind, each in target.used().items()}
    late = [float(run.result["late_ms"][PERCENTILES.index(each)]) for each in (50, 99, 99.9)]
    parts = [used.get(kind) for kind in PARTS]
    return (layout.name, run.calls, *parts, sum(used.values()), *late, int(run.result["lost"]))


# -- the parts -----------------------------------------------------------------------------------------------


class _Parts:
    """The processes of a layout."""

    def __init__(self, stack: ExitStack, sound: Path, log: Path) -> None:
        self.pids: dict[str, list[int]] = {}
        self._stack = stack
        self._log = log
        self._environment = dict(os.environ, PYTHONPATH=str(ROOT), BENCH_SOUND=str(sound), OMP_NUM_THREADS="1")

    def begin(self, kind: str, *command: str) -> str:
        """Start a process and return the line by which it says that it is up. Raises `Absent`."""
        with open(self._log, "ab") as log:
            process = subprocess.Popen(
                ["taskset", "-c", CORES, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env=self._environment, cwd=ROOT, text=True,
            )  # fmt: skip
        self._stack.callback(_end, process)
        self.pids.setdefault(kind, []).append(process.pid)
        assert process.stdout is not None
        if kind == "NATS":
            return ""
        for line in process.stdout:
            if READY.match(line):
                return line
        raise Absent(
            f"{kind} did not start; {self._log.read_text('utf-8', 'replace').strip().rpartition(chr(10))[2]}"
        )

    def stack(self, kind: str, *arguments: str) -> str:
        """Start a command of ours."""
        return self.begin(kind, sys.executable, "-m", "stack", *arguments)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextlib.contextmanager
def running(layout: Layout, place: Place) -> Iterator[Running]:
    """Context: the parts of a layout are up. Raises `Absent` if one of them does not start."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        parts = _Parts(stack, place.sound, folder / "log")
        program = "bench.servers.behind:speaking"
        shared = ("--host", "127.0.0.1", "--workers", "1", "--tcp-port", "off", *UNLIMITED)
        if not layout.nodes:
            udp = str(free_port(socket.SOCK_DGRAM))
            said = parts.stack("node", "serve", "--agent", program, "--udp-port", udp, "--port", "0", *shared)
        else:
            said = _begin_roles(parts, layout, folder, program, shared)
        url = re.search(r"https?://[^/ ]+", said)
        if url is None:
            raise Absent(f"no address in {said!r}")
        contestant = Contestant(layout.name, ())
        yield Running(contestant, parts.pids["node"][0], f"{url[0]}/api/offer", parts.pids)


def _begin_roles(parts: _Parts, layout: Layout, folder: Path, program: str, shared: Sequence[str]) -> str:
    """Start the roles, and return what signaling says when it is up."""
    port, key = str(free_port()), str(folder / "ticket.key")
    ticket_file.add_epoch(folder / "ticket.key")
    nats = ("--nats", f"nats://127.0.0.1:{port}")
    server, store = str(find_program("nats-server")), str(folder / "jetstream")
    parts.begin("NATS", server, "-a", "127.0.0.1", "-p", port, "-js", "-sd", store)
    media = [str(free_port(socket.SOCK_DGRAM)) for _ in range(layout.nodes)]
    for number, udp in enumerate(media, 1):
        parts.stack(
            "node", "media", *nats, "--node", f"n{number}", "--ticket-key", key, "--udp-port", udp, "--port", "0",
            *shared,
        )  # fmt: skip
    for _ in range(layout.agents):
        parts.stack("program", "agent", program, *nats)
    before: tuple[str, ...] = ()
    if layout.relay:
        udp = str(free_port(socket.SOCK_DGRAM))
        told = [word for number, each in enumerate(media, 1) for word in ("--node", f"n{number}=127.0.0.1:{each}")]
        parts.stack("relay", "relay", *told, "--host", "127.0.0.1", "--inner", "127.0.0.1", "--udp-port", udp,
                    "--port", "0")  # fmt: skip
        before = ("--relay", f"127.0.0.1:{udp}")
    http = ("--host", "127.0.0.1", "--port", "0", "--offers-per-second", "1000", "--offers-per-client", "1000")
    said = parts.stack("signaling", "signaling", *nats, "--ticket-key", key, *before, *http)
    url = re.search(r"https?://[^/ ]+", said)
    deadline = time.monotonic() + START_PATIENCE
    while url is not None and time.monotonic() < deadline:
        place = f"{url[0]}/readyz"
        with contextlib.suppress(OSError), urllib.request.urlopen(place, timeout=1.0) as response:
            if f'"nodes": "{layout.nodes}"' in response.read().decode():  # 503 until there is one
                return said
        time.sleep(0.1)
    raise Absent("signaling does not know all nodes")
