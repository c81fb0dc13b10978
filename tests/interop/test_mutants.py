"""The harness against our own server, broken on purpose: it names each fault, its side, section and packet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interop import servers
from interop.mutants import MUTANTS
from interop.peers.registry import PEERS
from interop.peers.target import Target
from interop.runner import Cell, Pair, run_cell
from interop.scenarios import SCENARIOS
from interop.verdict import Blame, Outcome

pytestmark = [pytest.mark.real_clock, pytest.mark.peer]

SLOW = frozenset(
    {"no-consent", "no-rtcp", "flight-not-repeated", "another-address", "ssrc-changes", "sound-stops"}
)
"""Those whose fault takes more than ten seconds to show."""
WORDS = {
    "wrong-fingerprint": "the certificate of the handshake to have the fingerprint of the description",
    "no-consent": "consent: a response to the Binding requests that go on during the call",
    "wrong-payload-type": "payload type 96",
    "one-way-audio": "not one from the server",
    "frozen-timestamp": "a frozen timestamp: 123456",
    "frozen-sequence-number": "a frozen sequence number: 4711",
    "ssrc-changes": "an SSRC that changed in mid-stream",
    "srtp-not-authentic": "SRTP that does not authenticate",
    "sound-stops": "RTP that stops in mid-call",
    "no-rtcp": "no RTCP packet from the server",
    "flight-not-repeated": "a lost flight",
    "channel-acknowledged-wrongly": "message type 0x04 on stream",
    "channel-opened-instead": "a DATA_CHANNEL_OPEN (message type 0x03) instead on stream",
    "bursts": "ms apart",
    "another-address": "coming from another address",
}
"""What the sentence says, by which the fault is found."""


async def tried(mutant: str, scenario: str) -> Cell:
    async with servers.mutant(mutant) as url:
        pair = Pair(PEERS["ours"], Target(url, echoes="all"), "server")
        return await run_cell(pair, SCENARIOS[scenario])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MUTANTS]
)
async def test_each_fault_is_named(name: str) -> None:
    verdict = (await tried(name, MUTANTS[name].scenario)).verdict
    assert (verdict.outcome, verdict.blame, verdict.rule) == (Outcome.FAILED, Blame.THEIRS, MUTANTS[name].rule)
    assert WORDS[name] in verdict.sentence
    assert re.search(r"RFC \d+ §\d", verdict.sentence)
    assert re.search(r"packet #\d+ at \d+\.\d+ s", verdict.sentence)


@pytest.mark.parametrize(
    "scenario",
    ["audio", "messages", "lost answer", pytest.param("reports", marks=pytest.mark.slow)],
)
async def test_the_server_without_a_fault_passes(scenario: str) -> None:
    """Each scenario that shows a fault is one that the healthy server passes."""
    assert {mutant.scenario for mutant in MUTANTS.values()} == {"audio", "messages", "lost answer", "reports"}
    cell = await tried("healthy", scenario)
    assert cell.verdict.outcome is Outcome.PASSED, cell.verdict.sentence


async def test_a_failure_is_kept(tmp_path: Path) -> None:
    """What is kept opens in Wireshark: the capture, and the secrets that decrypt it."""
    cell = await tried("channel-acknowledged-wrongly", "messages")
    assert cell.evidence is not None
    names = cell.evidence.write(tmp_path / "kept")
    assert names == ["answer.sdp", "call.pcap", "keys.log", "log.txt", "offer.sdp", "statistics.json"]
    assert (tmp_path / "kept" / "call.pcap").read_bytes()[:4] == b"\xd4\xc3\xb2\xa1"
    assert "CLIENT_" in (tmp_path / "kept" / "keys.log").read_text()
