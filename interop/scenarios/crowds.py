"""Several calls at once: of one page or process, to one server."""

from __future__ import annotations

from interop.evidence import SIDES
from interop.peers.base import Wishes
from interop.scenarios.registry import scenario
from interop.trial import Trial


async def messages_of_their_own(trial: Trial) -> None:
    """Messages of each call arrive in that call."""
    for number, each in enumerate(trial.calls):
        await each.also_messages((f"call {number}",))


@scenario("10 calls from one page", "RFC 8445 §7.3, RFC 5764 §5.1.2", calls=10, seconds=60, is_alone=True)
async def ten_calls(trial: Trial) -> None:
    """Ten calls at once: each has its own sound and its own messages, and one that ends takes none along."""
    await trial.in_every_call(lambda each: each.connect(patience=30))
    await messages_of_their_own(trial)
    for each in (trial.calls[0], trial.calls[-1]):
        for side in SIDES:
            await each.hears(side, purity=0.5, decibels=3)
    await trial.calls[-1].client.hang_up()
    await trial.stay(1)
    await trial.hears("client", purity=0.5, decibels=3)
    await trial.also_messages(("still here",))


@scenario(
    "30 clients at once",
    "RFC 8445 §7.3, RFC 8826 §4",
    wishes=Wishes(silent=True),
    calls=30,
    seconds=90,
    is_alone=True,
)
async def thirty_clients(trial: Trial) -> None:
    """Thirty calls begin in the same moment: all stand, with messages of their own, and the last one has sound."""
    await trial.in_every_call(lambda each: each.connect(patience=60))
    slowest = max(each.evidence.steps["client connected"] for each in trial.calls)
    trial.evidence.facts["the slowest of 30 connections"] = f"{slowest:.2f} s"
    await messages_of_their_own(trial)
    await trial.stay(1)
    for each in trial.calls:
        each.stands()
    for each in (trial.calls[0], trial.calls[-1]):
        for side in SIDES:
            if each.traits[side].can_be_asked:
                await each.ends[side].mute(False)
        await each.hears("client", purity=0.5, decibels=6)
