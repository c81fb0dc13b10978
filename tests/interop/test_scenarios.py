"""The scenarios: our own two ends pass them, and an end with a fault does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from interop import servers
from interop.evidence import Side
from interop.peers.base import ChannelKind, End, Wishes
from interop.peers.ours import Ours, OurServerEnd
from interop.peers.registry import PEERS
from interop.peers.target import Target
from interop.runner import Cell, Pair, run_cell
from interop.scenarios import SCENARIOS
from interop.verdict import Blame, Outcome

pytestmark = [pytest.mark.real_clock, pytest.mark.peer]

OURS = PEERS["ours"]
QUICK = (
    "stereo",
    "ptime 10",
    "ptime 60",
    "telephone-event",
    "two audio sections",
    "bundle max-bundle",
    "PCMU",
    "trickle",
    "sizes to the maximum",
    "ordered channel",
    "unordered channel",
    "maxRetransmits",
    "maxPacketLifeTime",
    "negotiated channel",
    "unreliable in loss",
    "20 channels at once",
    "close and reopen",
    "SRTP AEAD_AES_256_GCM",
    "SRTP AES128_CM_HMAC_SHA1_80",
)
LONG = ("mute", "DTX", "RED", "10 calls from one page", "30 clients at once", "gone without a word", "IPv6")


async def ours_with_ours(name: str) -> Cell:
    return await run_cell(Pair(OURS, OURS, "server"), SCENARIOS[name])


@pytest.mark.parametrize("name", QUICK)
async def test_our_two_ends_pass(name: str) -> None:
    cell = await ours_with_ours(name)
    assert cell.verdict.outcome is Outcome.PASSED, cell.verdict.sentence


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
async def test_our_two_ends_pass_what_takes_longer(name: str) -> None:
    cell = await ours_with_ours(name)
    assert cell.verdict.outcome is Outcome.PASSED, cell.verdict.sentence


class Faulty(Ours):
    """Our server with a fault: `change` is put into each of its ends."""

    name = "faulty"

    def __init__(self, change: Callable[[OurServerEnd], None]) -> None:
        super().__init__()
        self._change = change

    @asynccontextmanager
    async def start_many(self, side: Side, wishes: Wishes, count: int) -> AsyncIterator[Sequence[End]]:
        async with super().start_many(side, wishes, count) as ends:
            for end in ends:
                assert isinstance(end, OurServerEnd)
                self._change(end)
            yield ends


async def does_nothing(*_: Any) -> None:
    """A command that is taken and not carried out."""


def deaf_to_mute(end: OurServerEnd) -> None:
    end.mute = does_nothing  # type: ignore[method-assign]


def presses_another_key(end: OurServerEnd) -> None:
    press = end.press
    end.press = lambda keys: press("77")  # type: ignore[method-assign]


def opens_everything_ordered(end: OurServerEnd) -> None:
    opening = end.open_channel
    end.open_channel = lambda label, kind: opening(label, ChannelKind())  # type: ignore[method-assign]


def loses_what_is_long(end: OurServerEnd) -> None:
    send = end.send
    end.send = lambda message: send(message[:60_000])  # type: ignore[method-assign]


def closes_nothing(end: OurServerEnd) -> None:
    end.close_channel = does_nothing  # type: ignore[method-assign]


def mixes_up_channels(end: OurServerEnd) -> None:
    send = end.send_on
    end.send_on = lambda label, message: send("server 0", message)  # type: ignore[method-assign]


FAULTS: dict[str, tuple[Callable[[OurServerEnd], None], str]] = {
    "mute": (deaf_to_mute, "silence at the client"),
    "telephone-event": (presses_another_key, "'77'"),
    "unordered channel": (opens_everything_ordered, "ordered False at the client"),
    "maxPacketLifeTime": (opens_everything_ordered, "maxPacketLifeTime 400 at the client"),
    "sizes to the maximum": (loses_what_is_long, "60000 bytes"),
    "20 channels at once": (mixes_up_channels, "of the server at the client on"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interop.peers.ours.PATIENCE", 2.0)
    change, words = FAULTS[name]
    cell = await run_cell(Pair(OURS, Faulty(change), "server"), SCENARIOS[name])
    assert cell.verdict.outcome is Outcome.FAILED, cell.verdict.sentence
    assert words in cell.verdict.sentence


async def test_a_channel_that_stays_open_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interop.peers.ours.PATIENCE", 2.0)
    cell = await run_cell(Pair(OURS, Faulty(closes_nothing), "server"), SCENARIOS["close and reopen"])
    assert cell.verdict.outcome is Outcome.FAILED
    assert "'again' to be closed" in cell.verdict.sentence
    assert "by the server" in cell.verdict.sentence


async def test_one_bad_call_of_ten_is_the_one_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict, and the evidence beside it, are of the call in which it went wrong."""
    monkeypatch.setattr("interop.trial.MESSAGE_PATIENCE", 2.0)
    met: list[OurServerEnd] = []

    def the_fourth_loses_its_offer(end: OurServerEnd) -> None:
        met.append(end)
        if len(met) == 4:
            accept = end.accept

            async def elsewhere(sdp: str, wishes: Wishes) -> str:
                return (await accept(sdp, wishes)).replace("a=ice-pwd:", "a=ice-pwd:wrong")

            end.accept = elsewhere  # type: ignore[method-assign]

    pair = Pair(OURS, Faulty(the_fourth_loses_its_offer), "server")
    cell = await run_cell(pair, SCENARIOS["10 calls from one page"])
    assert (cell.verdict.outcome, cell.verdict.rule) == (Outcome.FAILED, "checks-refused"), cell.verdict.sentence
    assert cell.evidence is not None
    assert "a=ice-pwd:wrong" in cell.evidence.answer


async def test_what_our_ends_cannot_do_is_unsupported() -> None:
    for name in ("ICE restart", "reload", "hang-up over HTTP", "bundle balanced"):
        assert (await ours_with_ours(name)).verdict.outcome is Outcome.UNSUPPORTED


async def test_a_scenario_without_its_means_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interop.scenarios.sound.why_quality_is_not_measured", lambda: "no speech here")
    verdict = (await ours_with_ours("speech")).verdict
    assert (verdict.outcome, verdict.sentence) == (Outcome.ABSENT, "no speech here")


async def test_a_target_is_trickled_to_and_ended_over_http() -> None:
    async with servers.mutant("healthy") as url:
        pair = Pair(OURS, Target(url, echoes="all"), "server")
        for name in ("trickle", "hang-up over HTTP", "DTLS 1.2", "DTLS 1.3"):
            cell = await run_cell(pair, SCENARIOS[name])
            assert cell.verdict.outcome is Outcome.PASSED, cell.verdict.sentence


async def test_a_session_that_delete_does_not_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async with servers.mutant("healthy") as url:

        async def pretends(_: object) -> int:
            return 200

        monkeypatch.setattr("interop.peers.target.TargetEnd.delete", pretends)
        cell = await run_cell(Pair(OURS, Target(url, echoes="all"), "server"), SCENARIOS["hang-up over HTTP"])
    assert (cell.verdict.outcome, cell.verdict.blame) == (Outcome.FAILED, Blame.THEIRS)
    assert "no sound when the session has been ended by DELETE" in cell.verdict.sentence
