"""Connectivity checks that are refused, 20,000 a second, beside calls: what arrives, what it costs, who notices.

The sender shares the generator's core, the server has the other. Three runs in turn: without a flood, with checks
for ufrags that no call has, and with checks for a call that is up, signed with a wrong password (a stranger does
not know its ufrag; one who has seen the SDP does). What did not arrive was dropped by the kernel, in the socket's
buffer. Bytes are those of UDP payloads. Ours alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench._load import LOAD_CORE, ROOT, Absent, Place, Run, Server, ours, place_of
from bench._progress import say
from bench.report import Cell, Options, Table
from stack.sdp import SessionDescription

RATE = 20_000
SECONDS = 5.0
CALLS = 10
REPETITIONS = 3
BEFORE = 1.0
"""Seconds of calls before the flood begins, and after it is over."""
KINDS = ("none", "unknown ufrag", "wrong password")
TITLE = f"checks that are refused, {RATE} a second, beside calls"
COLUMNS = (
    "checks", "sent/s", "arrived", "dropped by the kernel", "refused", "µs each", "bytes back/bytes sent",
    "calls", "packets lost", "late p50 ms", "p99", "p99.9", "max", "core",
)  # fmt: skip
_OFFER = ROOT / "tests/vectors/offers/chromium156-audio_dc.sdp"


def run(options: Options) -> Sequence[Table]:
    """Run everything; about two minutes at scale 1."""
    seconds, repetitions = options.amount(SECONDS, REPETITIONS)
    calls = (options.calls or (CALLS,))[0]
    workers = str((options.workers or (1,))[0])
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            (contestant, *_) = ours("echo", options, "--workers", workers)
            found: dict[str, list[tuple[Run, dict[str, float]]]] = {kind: [] for kind in KINDS}
            for repetition in range(repetitions):
                for kind in (*KINDS[repetition % 3 :], *KINDS[: repetition % 3]):
                    say(f"run {repetition + 1} of {repetitions}: {kind}")
                    with place.server(contestant) as server:
                        found[kind].append(_measure(place, server, kind, calls, seconds))
            rows = [_row(kind, found) for kind in KINDS]
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    note = (
        f"Median of {repetitions} runs with {seconds:.0f} s of flood; {workers} media workers; calls with sound "
        "both ways. µs: processor time of the server beyond that of the run without a flood, for each refused."
    )
    return [Table(TITLE, COLUMNS, rows, (note,))]


def _measure(place: Place, server: Server, kind: str, calls: int, seconds: float) -> tuple[Run, dict[str, float]]:
    """Have calls, and a flood in the middle of their time."""
    host, port, ufrag = _target(server)
    said: dict[str, float] = {}
    username = username_of(kind, ufrag)

    def flooding() -> None:
        command = ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench._flooding"]
        command += [host, str(port), username, str(RATE), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        said.update(json.loads(done.stdout))

    before, dropped = _counters(server), _kernel_drops(port)
    loading: list[Run] = []
    thread = threading.Thread(
        target=lambda: loading.append(place.load(server, "rtp", calls, seconds + 2 * BEFORE + 1.5))
    )
    thread.start()
    _wait_for_calls(server, calls)
    if kind != "none":
        flooding()
    thread.join()
    if not loading:
        raise Absent("the calls did not come about")
    after = _counters(server)
    said["dropped"] = _kernel_drops(port) - dropped
    names = (
        "endpoint_dropped_unknown_ufrag",
        "endpoint_dropped_check_rate",
        "ice_dropped_wrong_integrity",
        "ice_dropped_flood",
    )
    said["refused"] = sum(after.get(name, 0) - before.get(name, 0) for name in names)
    return loading[0], said


def username_of(kind: str, ufrag: str) -> str:
    """Return the USERNAME of the checks; with a call's own fragments its password is what refuses them."""
    offer = SessionDescription.parse(_OFFER.read_text())
    return f"{ufrag if kind == 'wrong password' else '0+0000c0ffee00'}:{offer.media[0].ice_ufrag}"


def _row(kind: str, found: Mapping[str, list[tuple[Run, dict[str, float]]]]) -> Sequence[Cell]:
    def middle(value: Any, of: str = kind) -> float:
        values = sorted(value(run, said) for run, said in found[of])
        return float(values[len(values) // 2])

    def core(run: Run, _said: Mapping[str, float]) -> float:
        return run.cpu / run.seconds

    late = [middle(lambda run, _, at=at: run.result["late_ms"][at]) for at in (0, 2, 3, 4)]
    calls = (int(middle(lambda run, _: run.calls)), int(middle(lambda run, _: run.result["lost"])))
    if kind == "none":
        return (kind, None, None, None, None, None, None, *calls, *late, middle(core))
    refused = middle(lambda _, said: said["refused"])
    extra = middle(lambda run, _: run.cpu) - middle(lambda run, _: run.cpu, "none")
    return (
        kind,
        round(middle(lambda _, said: said["rate"])),
        round(middle(lambda _, said: said["sent"] - said["dropped"])),
        round(middle(lambda _, said: said["dropped"])),
        round(refused),
        extra / refused * 1e6 if refused else None,
        middle(lambda _, said: said["back_bytes"] / said["sent_bytes"]),
        *calls,
        *late,
        middle(core),
    )


def _target(server: Server) -> tuple[str, int, str]:
    """Call the server and return where its media listen, and the ufrag of the call."""
    body = json.dumps({"sdp": _OFFER.read_text(), "type": "offer"}).encode()
    request = urllib.request.Request(server.offer, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: str = json.load(response)["sdp"]
    lines = answer.splitlines()
    candidate = next(line.split() for line in lines if line.startswith("a=candidate") and " udp " in line)
    ufrag = next(line.partition(":")[2] for line in lines if line.startswith("a=ice-ufrag"))
    return candidate[4], int(candidate[5]), ufrag


def _counters(server: Server) -> dict[str, int]:
    with urllib.request.urlopen(server.offer.replace("/api/offer", "/metrics"), timeout=10) as response:
        text = response.read().decode()
    found = re.findall(r'voice_counters_total{name="(\w+)",owner="(\w+)"} (\S+)', text)
    return {f"{owner}_{name}": int(float(value)) for name, owner, value in found}


def _wait_for_calls(server: Server, calls: int) -> None:
    """Wait until they are up, and `BEFORE` seconds more."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        with urllib.request.urlopen(server.offer.replace("/api/offer", "/metrics"), timeout=10) as response:
            active = re.search(r"^voice_setup_seconds_count (\S+)", response.read().decode(), re.MULTILINE)
        if active is not None and float(active[1]) >= calls:
            break
        time.sleep(0.2)
    time.sleep(BEFORE)


def _kernel_drops(port: int) -> int:
    """Return how many datagrams the kernel has dropped for want of room, by all sockets of a port."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(int(each[-1]) for each in fields if int(each[1].rpartition(":")[2], 16) == port)
