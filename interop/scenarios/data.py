"""Data channels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from interop.evidence import SIDES, Side, other
from interop.lab import content
from interop.network_model import NetworkModel
from interop.peers.base import ChannelKind
from interop.rewriting import max_message_size
from interop.scenarios.registry import scenario, unless_it_has_data
from interop.trial import LARGE, SMALL, Trial
from interop.verdict import Layer, Unexpected

SECTION = "RFC 8831 §6.1, RFC 8832 §5.1"


@scenario("messages", "RFC 8831 §6.6, RFC 8832 §6", unsupported=unless_it_has_data, is_quick=True)
async def messages(trial: Trial) -> None:
    """Text, binary and empty messages arrive both ways as they were sent."""
    await trial.connect()
    await trial.messages(SMALL)


@scenario("large messages", "RFC 8831 §6.6, RFC 8841 §6", seconds=8, unsupported=unless_it_has_data)
async def large_messages(trial: Trial) -> None:
    """Messages of 30 and 60 kB, which SCTP fragments, arrive both ways."""
    await trial.connect()
    await trial.messages(LARGE)


LARGEST_TRIED = 262_144
"""Bytes: what browsers announce; a stack that takes more is not asked for it."""


@scenario("sizes to the maximum", "RFC 8841 §6, RFC 8831 §6.6", seconds=20, unsupported=unless_it_has_data)
async def sizes(trial: Trial) -> None:
    """Messages of every size around the limits of packets, up to the a=max-message-size of the receiver."""
    await trial.connect()
    for sender in SIDES:
        announced = trial.evidence.answer if sender == "client" else trial.evidence.offer
        largest = min(max_message_size(announced) or LARGEST_TRIED, LARGEST_TRIED)
        chosen = sorted({1, 2, 1_023, 1_160, 1_161, 16_384, 65_535, largest - 1, largest})
        trial.evidence.facts[f"largest message of the {sender}"] = f"{largest} bytes"
        await trial.messages([content(size, size) for size in chosen if size <= largest], [sender])


def channel_of(kind: ChannelKind) -> Callable[[Trial], Awaitable[None]]:
    """A channel of this kind, opened by either side: the other sees its kind, and messages pass both ways."""

    async def run(trial: Trial) -> None:
        await trial.connect()
        for side in SIDES:
            label = f"of the {side}"
            if kind.negotiated_id is None:
                await trial.opens(side, label, kind)
            else:
                await asyncio.gather(*(trial.opens(each, label, kind) for each in SIDES))
            await sees_the_kind(trial, other(side), label, kind)
            await trial.carries(label)
            if kind.negotiated_id is not None:
                return

    return run


async def sees_the_kind(trial: Trial, side: Side, label: str, kind: ChannelKind) -> None:
    """What the other side says of a channel is what it was opened as; what it cannot say is not asked."""
    told = await trial.channel(side, label)
    wanted = {
        "protocol": kind.protocol,
        "ordered": kind.ordered,
        "maxRetransmits": kind.max_retransmits,
        "maxPacketLifeTime": kind.max_packet_life_time,
    }
    wrong = {name: told[name] for name, value in wanted.items() if name in told and told[name] != value}
    if wrong:
        expected = ", ".join(f"{name} {wanted[name]!r}" for name in wrong)
        seen = ", ".join(f"{name} {value!r}" for name, value in wrong.items())
        raise Unexpected(f"a channel seen with {expected} at the {side}", SECTION, seen, layer=Layer.DATA)


KINDS: dict[str, tuple[ChannelKind, str]] = {
    "ordered channel": (ChannelKind(protocol="transcript.v1"), "ordered and reliable, with a protocol"),
    "unordered channel": (ChannelKind(ordered=False), "unordered and reliable"),
    "maxRetransmits": (ChannelKind(ordered=False, max_retransmits=3), "unordered, with three retransmissions"),
    "maxPacketLifeTime": (ChannelKind(max_packet_life_time=400), "ordered, of messages that live for 400 ms"),
    "negotiated channel": (
        ChannelKind(negotiated_id=700),
        "on a stream that both agreed on elsewhere, without DATA_CHANNEL_OPEN",
    ),
}
for _name, (_kind, _words) in KINDS.items():
    _run = channel_of(_kind)
    _run.__doc__ = f"A channel that is {_words}: both sides see it so, and messages pass both ways."
    scenario(_name, f"{SECTION}, RFC 3758 §3.5", unsupported=unless_it_has_data)(_run)


@scenario("unreliable in loss", "RFC 3758 §3.5, RFC 8831 §6.1", seconds=10, unsupported=unless_it_has_data)
async def unreliable_in_loss(trial: Trial) -> None:
    """A tenth of all packets is lost: an unreliable channel may lose messages, and both channels go on."""
    await trial.connect()
    await trial.opens("client", "unreliable", ChannelKind(ordered=False, max_retransmits=0))
    trial.tap.change(NetworkModel(loss=0.1, delay=0.01))
    sent = [f"{number}" for number in range(50)]
    for message in sent:
        await trial.client.send_on("unreliable", message)
        await asyncio.sleep(0.01)
    trial.tap.change(NetworkModel())
    await trial.client.send_on("unreliable", "the end")
    got: list[str | bytes] = []
    while not got or got[-1] != "the end":
        got.append(
            await trial.received(
                "server", "the last message, sent when no packet is lost", "RFC 3758 §3.5", "unreliable"
            )
        )
    arrived = [message for message in got if message in sent]
    if len(set(arrived)) != len(arrived) or len(arrived) + 1 != len(got):
        raise Unexpected("each message once, or never", "RFC 9260 §6.9", f"{got}", layer=Layer.DATA)
    trial.evidence.facts["messages on the unreliable channel"] = f"{len(arrived)} of {len(sent)} arrived"
    await trial.messages(("every one", "of these", "arrives"))


@scenario("20 channels at once", "RFC 8832 §6", seconds=10, unsupported=unless_it_has_data)
async def twenty(trial: Trial) -> None:
    """Ten channels of each side, opened at the same moment, and messages on all of them."""
    await trial.connect()
    labels: dict[Side, Sequence[str]] = {side: [f"{side} {n}" for n in range(10)] for side in SIDES}
    await asyncio.gather(*(trial.opens(side, label, ChannelKind()) for side in SIDES for label in labels[side]))
    every = [label for side in SIDES for label in labels[side]]
    for side in SIDES:
        streams = [told["id"] for label in every if "id" in (told := await trial.channel(side, label))]
        if len(set(streams)) != len(streams):
            raise Unexpected("a stream of its own for each channel", "RFC 8832 §6", f"{streams}", layer=Layer.DATA)
    await asyncio.gather(*(trial.carries(label) for label in every))


@scenario(
    "close and reopen", "RFC 8831 §6.7, RFC 6525 §5.1", seconds=12, unsupported=unless_it_has_data, is_quick=True
)
async def close_and_reopen(trial: Trial) -> None:
    """A channel that either side closes is closed at both, its name and stream can be used again."""
    await trial.connect()
    for closer in SIDES:
        for _ in range(2):
            await trial.opens("client", "again", ChannelKind())
            await trial.channel("server", "again")
            await trial.carries("again")
            await trial.closes(closer, "again")
    await trial.messages(("the others live on",))
