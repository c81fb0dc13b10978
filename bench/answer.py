"""What an answer costs: processor time of the server from a `POST` with an offer to the answer, and afterwards.

    python -m bench answer --workers 1 --against ../other-checkout

Chromium's offer, each time with credentials and a certificate of its own, is sent by turns to each server, 40 a
second, as browsers come: each finds the caches of a server that has done something else since. The process clock
is read before an offer is sent, when its answer is there, and before the next offer to the same server: "until the
answer" is what the client waits for, "behind it" what can wait. No call comes about: nothing is sent but the
offers. "aiohttp alone" reads the JSON and answers as many bytes; an answer cannot cost less.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from statistics import median, quantiles
from urllib.parse import urlsplit

from bench._load import (
    LOAD_CORE,
    PION,
    ROOT,
    SERVER_CORE,
    Absent,
    Contestant,
    Server,
    aiortc,
    family,
    ours,
    pion,
    process_seconds,
)
from bench.report import Cell, Options, Table

CALLS = 200
"""Offers to each server, by each kind of connection."""
WARM = 20
RATE = 40
"""Offers a second, to all servers together."""
OFFER = ROOT / "tests" / "vectors" / "offers" / "chromium156-audio_dc.sdp"
NOWHERE = "1 1 udp 2122260223 127.0.0.1 9 typ host"
KINDS = ("kept", "new")
"""A connection that has carried a request before, as the page's, and one for this offer alone."""
COLUMNS = ("who", "connection", "until the answer, ms", "p95", "behind it, ms", "answer there after, ms", "p95")


@dataclass
class Contest:
    """A server that runs, and what its answers cost: milliseconds by the kind of the connection."""

    server: Server
    pids: Sequence[int]
    kept: HTTPConnection | None = None
    until: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    behind: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    took: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    last: tuple[str, float] | None = None
    """The kind of the latest offer, and what the clock said at its answer."""

    def cpu(self) -> float:
        """Return the processor time so far, in seconds."""
        return sum(map(process_seconds, self.pids))

    def ask(self, kind: str, body: bytes, counts: bool) -> None:
        """Send an offer and wait for the answer."""
        before = self.cpu()
        if self.last is not None:
            former, at = self.last
            self.behind[former].append((before - at) * 1e3)
        began = time.perf_counter()
        answer = self._post(kind, body)
        took, spent = time.perf_counter() - began, self.cpu()
        if "sdp" not in answer:
            raise Absent(f"{self.server.contestant.name} answers {str(answer)[:200]}")
        self.last = (kind, spent) if counts else None
        if counts:
            self.until[kind].append((spent - before) * 1e3)
            self.took[kind].append(took * 1e3)

    def _post(self, kind: str, body: bytes) -> dict[str, object]:
        url = urlsplit(self.server.offer)
        connection = self.kept if kind == "kept" else None
        if connection is None:
            connection = HTTPConnection(str(url.hostname), url.port, timeout=10)
        connection.request("POST", url.path, body, {"Content-Type": "application/json"})
        answer: dict[str, object] = json.loads(connection.getresponse().read())
        if kind == "kept":
            self.kept = connection
        else:
            connection.close()
        return answer

    def row(self, kind: str) -> list[Cell]:
        """Return the row of a table."""
        until, took = self.until[kind], self.took[kind]
        return [
            self.server.contestant.name, kind, median(until), quantiles(until, n=20)[-1],
            median(self.behind[kind]), median(took), quantiles(took, n=20)[-1],
        ]  # fmt: skip


def make_offer(text: str, source: random.Random) -> str:
    """Return the offer of another connection of the same client; its candidate leads nowhere."""
    lines, has_candidate = [], False
    ufrag, pwd = (f"{source.getrandbits(bits):0{bits // 4}x}" for bits in (32, 96))
    fingerprint = ":".join(f"{source.getrandbits(8):02X}" for _ in range(32))
    for line in text.splitlines():
        name = line.partition(":")[0]
        if line.startswith("o="):
            line = f"o=- {source.getrandbits(62)} 2 IN IP4 127.0.0.1"
        elif name == "a=ice-ufrag":
            line = f"{name}:{ufrag}"
        elif name == "a=ice-pwd":
            line = f"{name}:{pwd}"
        elif name == "a=fingerprint":
            line = f"{name}:sha-256 {fingerprint}"
        elif name == "a=candidate":
            if has_candidate:
                continue
            line, has_candidate = f"{name}:{NOWHERE}", True
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def contestants(options: Options) -> list[Contestant]:
    """Return the servers: ours, others of `--against`, and what an answer costs without a call."""
    alone = Contestant("aiohttp alone", [sys.executable, "-m", "bench.servers.aiohttp_alone"])
    tickets = [replace(each, name=f"{each.name}, by tickets") for each in ours("echo", options, "--tickets")]
    found = [*ours("echo", options), *tickets, alone]
    if "aiortc" in options.servers:
        found.append(aiortc("echo"))
    if "pion" in options.servers and PION.exists():
        found.append(pion())
    return found


def run(options: Options) -> Table:
    """Ask all of them; about half a minute at scale 1, and so much more for each further server."""
    calls = max(20, round(CALLS * options.scale))
    source, text = random.Random(options.seed), OFFER.read_text()
    at_home = os.sched_getaffinity(0)
    try:
        with ExitStack() as stack:
            log = stack.enter_context(tempfile.NamedTemporaryFile("ab", prefix="bench-answer-"))
            running = []
            for each in contestants(options):
                server = Server(each, log, str(SERVER_CORE), options.realtime, options.realtime)
                stack.callback(server.stop)
                running.append(Contest(server, family(server.pid)))
            os.sched_setaffinity(0, {LOAD_CORE} & at_home or at_home)
            stack.callback(os.sched_setaffinity, 0, at_home)
            due = time.perf_counter()
            for turn in range(WARM + calls):
                for kind in KINDS:
                    for contest in running:
                        due += 1 / RATE
                        time.sleep(max(0.0, due - time.perf_counter()))
                        body = json.dumps({"sdp": make_offer(text, source), "type": "offer"}).encode()
                        contest.ask(kind, body, counts=turn >= WARM)
            rows = [contest.row(kind) for contest in running for kind in KINDS]
    except Absent as absent:
        return Table("what an answer costs", COLUMNS, [], (f"not measured: {absent}",))
    note = f"{calls} offers each, by turns, {RATE} a second in all; medians; the server on core {SERVER_CORE}."
    return Table("what an answer costs: processor time of the server", COLUMNS, rows, (note,))


__all__ = ["Contest", "contestants", "make_offer", "run"]
