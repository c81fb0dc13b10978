"""Every process of a peer ends with its cell, also with one that ends before the handshake does.

All that a cell starts, however far down, inherits a mark in the environment: what bears it afterwards was left.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from interop.evidence import Packet
from interop.peers.registry import PEERS
from interop.runner import Pair, run_cell
from interop.scenarios import SCENARIOS
from interop.trial import Trial
from interop.verdict import Outcome, Unexpected
from interop.wire_reading import Kind

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.peer,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here"),
]
MARK = "VOICE_STACK_TEST_OF_PROCESSES"


def marked(value: str) -> set[str]:
    """The command lines of the processes that bear the mark; this one has it only since it runs."""
    found = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if f"{MARK}={value}".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.add(f"{process.name} {command}")
        except OSError:
            continue  # it has ended meanwhile, or belongs to another user
    return found


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The value of this test's mark."""
    value = f"{os.getpid()}-{id(request)}"
    monkeypatch.setenv(MARK, value)
    return value


def expected_processes(name: str) -> int:
    """How many a cell of the peer has at least: a part is a program beside the rest of the call."""
    return 2 if name in ("openssl", "gnutls", "mbedtls", "wolfssl", "nss") else 1


QUICK = ("chromium", "aiortc", "pion", "openssl", "usrsctp")
"""One of each kind: a page, a program, a part beside a call of ours."""
REST = [name for name in PEERS if name not in (*QUICK, "ours", "firefox without ML-KEM")]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
async def test_nothing_is_left_of_a_cell_that_ends_within_the_handshake(name: str, mark: str) -> None:
    peer = PEERS[name]
    why = peer.why_absent()
    if why is not None:
        pytest.skip(why)
    during: set[str] = set()

    async def leave_early(trial: Trial) -> None:
        def drop(packet: Packet) -> bool:
            return packet.kind is Kind.DTLS

        trial.tap.drop = drop
        await trial.signal()
        for _ in range(500):
            if any(packet.kind is Kind.DTLS for packet in trial.evidence.packets):
                break
            await asyncio.sleep(0.02)
        for _ in range(500):  # the part's program begins beside its first packet
            during.update(marked(mark))
            if len(during) >= expected_processes(name):
                break
            await asyncio.sleep(0.02)
        raise Unexpected("nothing", "RFC 6347 §4.2.4", "a handshake under way")

    scenario = replace(SCENARIOS["audio"], name="left early", run=leave_early)
    for side in peer.sides:
        pair = Pair(peer, PEERS["ours"], side) if side == "client" else Pair(PEERS["ours"], peer, side)
        cell = await run_cell(pair, scenario)
        assert cell.verdict.outcome is Outcome.FAILED, cell.verdict.sentence
        assert len(during) >= expected_processes(name), during
        left: set[str] = set()
        for _ in range(100):  # the kernel ends what was killed when it comes to it
            left = marked(mark)
            if not left:
                break
            await asyncio.sleep(0.02)
        assert not left
        during.clear()
