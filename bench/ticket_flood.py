"""Calls beside a flood of tickets that make nothing: forged, expired, replayed.

One process sends checks to the media port as fast as one core can; our own clients hold calls, and count what
they got of the echo. The sender has the last core of the machine for itself, all else the others: with one core
alone, it shares that. The processor time is that of the worker that the checks name. "Lost" are the packets of
calls that were missing in their sequences, at the server and at the clients, of those that were sent. A check
arrives if a counter of it says so; the rest was dropped by the kernel. A forged check has a fragment that no key
has sealed; an expired one is a ticket's, ten minutes late, and signed; a replayed one is a first check, again
and again. "Looked at" is what the endpoint's bound lets through each second. One worker has one socket for calls
and strangers; two have one for each call (`stack/aio/steering.py`).

`python -m bench ticket_flood`: five calls, five seconds of each kind, with one worker and with two. Linux.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Cell, Options, Table
from stack import Call
from stack.agents import echo
from stack.aio import HostConfig, ticket_file
from stack.aio.context import CallContext
from stack.aio.tickets import TicketConfig, TicketIssuer
from stack.core.machine import Address
from stack.core.machine import Path as NetworkPath
from stack.sdp import SessionDescription, Setup, create_offer
from stack.server import Endpoint, TicketAdmission, UnknownCheck
from stack.server.endpoint import MAX_UNKNOWN_CHECKS
from stack.session import LocalWishes, make_local_parameters
from stack.session.ticket_terms import TicketSite
from stack.signaling.client import ClientCall, dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.stun import (
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    TransactionId,
    Username,
    short_term_key,
)

CALLS = 5
SECONDS = 5.0
KINDS = ("nothing", "forged", "expired", "replayed")
COLUMNS = (
    "flood", "sent /s", "arrived /s", "looked at /s", "refused", "made", "µs each", "late p99 ms",
    "lost %", "echoed",
)  # fmt: skip
SENDER = """
import os, socket, sys, time
os.sched_setaffinity(0, {int(sys.argv[5])})
host, port, seconds, data = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), bytes.fromhex(sys.argv[4])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect((host, port))
until, sent = time.monotonic() + seconds, 0
while time.monotonic() < until:
    for _ in range(200):
        try:
            udp.send(data)
            sent += 1
        except OSError:
            pass
print(sent)
"""
TONE = (6000 * np.sin(np.arange(16_000 * 60) / 5)).astype(np.int16)


def _check(kind: str, keys: Path, address: Address) -> bytes:
    """Return the datagram of a flood."""
    lifetime = -600.0 if kind == "expired" else 3600.0
    issuer = TicketIssuer(TicketConfig(keys, answer_lifetime=lifetime), [address], (), Setup.PASSIVE)
    certificate = ticket_file.make_key(1).certificate
    client = make_local_parameters(os.urandom, certificate, [Address("127.0.0.1", 9)], LocalWishes())
    offer = SessionDescription.parse(create_offer(client).serialize())
    made = issuer.answer(offer, 0, CallContext())
    assert made is not None
    section = made.negotiation.answer.media[0]
    ufrag, password = section.ice_ufrag, section.ice_pwd
    assert ufrag is not None
    assert password is not None
    if kind == "forged":
        ufrag = ufrag[:-4] + "AAAA"
    username = Username(f"{ufrag}:{client.ice_ufrag}")
    attributes = (username, IceControlling(1), Priority(1))
    message = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(os.urandom(12)), attributes)
    return message.sign(short_term_key(password))


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


_OUTCOMES = (
    "made",
    "dropped_forged",
    "dropped_expired",
    "dropped_unsigned",
    "dropped_half_open",
    "dropped_revoked",
)


async def _flood(
    server: Serving,
    calls: list[ClientCall],
    kind: str,
    keys: Path,
    seconds: float,
    idle: float | None,
    sender_core: int,
) -> tuple[list[Cell], float]:
    """Measure one kind. Returns the row, and the worker's processor seconds for each second."""
    address = server.host.addresses[0]
    pool: Any = server.host._media
    pid = pool.links[0].pid
    data = b"" if kind == "nothing" else _check(kind, keys, address)
    ends = [*(each.stats for each in calls), *(each.stats for each in server.host.calls.values())]
    before, stats = await server.host.tally(), [await each() for each in ends]
    spent, began = _processor_time(pid), time.monotonic()
    sent = 0
    if data:
        sender = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SENDER, address.host, str(address.port), str(seconds), data.hex(),
            str(sender_core),
            stdout=subprocess.PIPE,
        )  # fmt: skip
        output, _ = await sender.communicate()
        sent = int(output)
    else:
        await asyncio.sleep(seconds)
    took, load = time.monotonic() - began, _processor_time(pid) - spent
    after, later = await server.host.tally(), [await each() for each in ends]
    counted = {
        name: after.counters.get(name, 0) - before.counters.get(name, 0)
        for name in (*after.counters,)
        if name.startswith(("ticket.", "endpoint.", "ice."))
    }
    looked = sum(counted.get(f"ticket.{name}", 0) for name in _OUTCOMES)
    not_looked = (
        "endpoint.dropped_unknown_ufrag_rate",
        "endpoint.dropped_full",
        "endpoint.dropped_check_rate",
        "ice.repeated_check",
    )
    arrived = looked + sum(counted.get(name, 0) for name in not_looked)
    late = after.frame_lateness()
    late.counts = [b - a for a, b in zip(before.lateness, after.lateness, strict=True)]
    each = None
    if idle is not None and arrived:
        each = (load - idle * took) / arrived * 1e6
    received = [(_part(a), _part(b)) for a, b in zip(stats, later, strict=True)]
    lost = sum(b[1] - a[1] for a, b in received)
    packets = sum(b[0] - a[0] for a, b in received)
    echoed = sum(b[0] - a[0] for a, b in received[: len(calls)])
    share = 100 * lost / max(1, lost + packets)
    row: list[Cell] = [
        kind, sent / took, arrived / took, looked / took, looked - counted.get("ticket.made", 0),
        counted.get("ticket.made", 0), each, _quantile(late, 0.99), share, echoed,
    ]  # fmt: skip
    return row, load / took


def _part(stats: Any) -> tuple[int, int]:
    inbound: dict[str, Any] = next((part for part in stats.as_webrtc() if part["type"] == "inbound-rtp"), {})
    return int(inbound.get("packetsReceived", 0)), int(inbound.get("packetsLost", 0))


def _quantile(late: Any, share: float) -> float | None:
    """Return a bound, in milliseconds, below which such a share of the frames was late; None beyond the last."""
    wanted, total = share * sum(late.counts), 0
    for count, bound in zip(late.counts, (*late.BOUNDS, None), strict=True):
        total += count
        if total >= wanted:
            return None if bound is None else float(bound) * 1000
    return None


async def _drained(server: Serving) -> None:
    """Wait until what the kernel has kept of a flood was read."""
    before = -1
    while (counted := (await server.host.all_counters()).get("endpoint.dropped_unknown_ufrag", 0)) != before:
        before = counted
        await asyncio.sleep(1.0)


async def _speak(placed: ClientCall) -> None:
    call: Call = placed.call
    await call.wait_connected()
    call.speaker.write(TONE, 16_000)
    async for _ in call.microphone:
        pass


async def compare(seconds: float, workers: int, sender_core: int) -> Table:
    """Measure each kind beside the same calls."""
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        ticket_file.add_epoch(keys)
        media = HostConfig(host="127.0.0.1", udp_port=0, workers=workers, tickets=TicketConfig(keys))
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(echo, ServeConfig(port=0, media=media)))
            calls = [await stack.enter_async_context(dial(server.url)) for _ in range(CALLS)]
            speaking = [asyncio.create_task(_speak(placed)) for placed in calls]
            await asyncio.gather(*(placed.call.wait_connected() for placed in calls))
            await asyncio.sleep(1.0)
            idle: float | None = None
            for kind in KINDS:
                row, load = await _flood(server, calls, kind, keys, seconds, idle, sender_core)
                idle = load if idle is None else idle
                rows.append(row)
                await _drained(server)
            for task in speaking:
                task.cancel()
    notes = (
        f"{CALLS} echo calls; one sender; 'late' is the bound of a histogram",
        "replayed: copies of one check, which its half-open session answers as it did the first time",
        f"the machine had {os.cpu_count()} cores and a load of {os.getloadavg()[0]:.1f}",
    )
    return Table(f"Calls beside a flood of tickets that make nothing: {workers} worker(s)", COLUMNS, rows, notes)


def refusals() -> Table:
    """Measure what the endpoint spends on one check that makes nothing, in one process and without sockets."""
    address = Address("127.0.0.1", 3478)
    where = NetworkPath(address, Address("127.0.0.1", 9))
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        ring = ticket_file.add_epoch(keys)
        for kind, title, step in (
            ("forged", "forged", 1.0),
            ("expired", "expired", 1.0),
            ("replayed", "signed, while its session is half-open", 1.0),
            ("forged", "beyond the bound", 0.0),
        ):
            admission = TicketAdmission(ring, TicketSite([address]))
            endpoint: Endpoint[str] = Endpoint(partial(_refuse, admission))
            batch = [(_check(kind, keys, address), where)] * MAX_UNKNOWN_CHECKS
            now, took = 10.0, []
            for _ in range(20):
                began = time.process_time()
                endpoint.handle_datagrams(batch, now)
                took.append((time.process_time() - began) / len(batch) * 1e6)
                now += step
            rows.append([title, statistics.median(took[1:])])
    return Table("Processor time for a check that makes nothing, µs", ("check", "µs"), rows)


def _refuse(admission: TicketAdmission, check: UnknownCheck, now: float) -> None:
    admission.admit(check.data, check.username, check.path, now, time.time())


def run(options: Options) -> list[Table]:
    """Measure; a minute at scale 1."""
    seconds = max(1.0, SECONDS * options.scale)
    cores = sorted(os.sched_getaffinity(0))
    tables = [refusals()]
    try:
        os.sched_setaffinity(0, cores[:-1] or cores)  # what is started from here on has these, too
        for workers in options.workers or (1, 2):
            tables.append(asyncio.run(compare(seconds, workers, cores[-1])))
    finally:
        os.sched_setaffinity(0, cores)
    return tables
