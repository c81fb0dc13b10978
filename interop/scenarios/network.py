"""Networks that people have, and what they do to a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from interop.diagnosis.ice import is_lite, requests
from interop.evidence import Packet
from interop.network_model import GilbertElliott, Jitter, JitterShape, NetworkModel, RateLimit, Stall
from interop.peers.base import UnsupportedError
from interop.scenarios.registry import scenario
from interop.trial import Trial
from interop.verdict import Layer, Unexpected
from interop.wire_reading import Kind

PROFILES: dict[str, NetworkModel] = {
    "office": NetworkModel(delay=0.01, jitter=Jitter(0.003), loss=0.001),
    "4g": NetworkModel(delay=0.04, jitter=Jitter(0.012, JitterShape.NORMAL), loss=0.005),
    "bad-wifi": NetworkModel(
        delay=0.015, jitter=Jitter(0.03, JitterShape.PARETO), burst=GilbertElliott.from_mean(0.05, 3)
    ),
    "satellite": NetworkModel(delay=0.3, jitter=Jitter(0.01), loss=0.005, rate=RateLimit(2_000_000)),
    "stall": NetworkModel(delay=0.02, stall=Stall(1.5, 0.4)),
}


def on(profile: str) -> Callable[[Trial], Awaitable[None]]:
    """A call on a profile: sound that can be recognised, and messages that all arrive."""

    async def run(trial: Trial) -> None:
        await trial.connect(patience=20)
        await trial.also_messages(("hello", b"\1" * 3_000))
        await trial.hears("server", purity=0.5, decibels=4)
        await trial.hears("client", purity=0.5, decibels=4)

    run.__doc__ = f"On the network profile {profile} both sides hear each other, and every message arrives."
    return run


for _name, _model in PROFILES.items():
    scenario(
        f"network {_name}",
        "RFC 8834 §7, RFC 9260 §6.3",
        seconds=8,
        network=_model,
        is_quick=_name == "bad-wifi",
    )(on(_name))


@scenario("network cut", "RFC 7675 §5.1, RFC 9260 §6.3.3", seconds=10)
async def cut(trial: Trial) -> None:
    """Nothing passes for three seconds in mid-call; the call goes on, and what was sent meanwhile arrives."""
    await trial.connect()
    await trial.hears("client")
    trial.tap.cut(True)
    await trial.stay(3)
    trial.tap.cut(False)
    await trial.also_messages(("after the cut",))
    await trial.hears("client", purity=0.5, decibels=4)


@scenario("rebinding", "RFC 8445 §7.3.1.4, RFC 9146 §1", seconds=10)
async def rebinding(trial: Trial) -> None:
    """A NAT gives the client another address in mid-call; the server follows when the next check comes."""
    await trial.connect()
    await trial.hears("client")
    trial.tap.rebind()
    await trial.stay(6.5)  # a consent check comes within 6 s (RFC 7675 §5.1)
    follows_the_client(trial)
    await trial.hears("server")
    await trial.hears("client")


def follows_the_client(trial: Trial) -> None:
    """The server's media reach the new address; a full agent is free to stay with a pair of higher priority."""
    evidence = trial.evidence
    rebound = evidence.rebound_at or 0.0
    # To a client that takes no sound the server sends its reports alone.
    kind = Kind.RTP if trial.traits["client"].hears else Kind.RTCP
    if any(packet.at > rebound + 0.1 for packet in evidence.sent("server", kind)):
        return
    asked = [packet for packet in requests(evidence, "client") if packet.at > rebound]
    if not asked:
        raise Unexpected(
            "a Binding request from the new address: consent is asked for every 4 to 6 s",
            "RFC 7675 §5.1",
            "none, so that the server cannot know of it",
            side="client",
            layer=Layer.ICE,
            rule="no-consent-checks",
        )
    if not is_lite(evidence, "server"):
        raise UnsupportedError(
            f"{evidence.server} keeps sending to the former address after {len(asked)} checks from the new one, "
            "as a full agent may until its consent expires (RFC 8445 §12.1.1, RFC 7675 §5.1)"
        )
    raise Unexpected(
        "a lite agent to send where the latest check that nominates came from",
        "RFC 8445 §7.3.2, §12.1.1",
        f"no RTP at the new address after {len(asked)} checks from it",
        side="server",
        layer=Layer.ICE,
        packet=asked[0],
        rule="rebinding-not-followed",
    )


SMALL_MTU = 1_232
"""Bytes of UDP payload that an IPv6 link of the least MTU carries (RFC 8200 §5)."""


@scenario("small MTU", "RFC 8261 §5, RFC 6347 §4.1.1.1, RFC 8831 §5", seconds=10)
async def small_mtu(trial: Trial) -> None:
    """Datagrams of more than 1232 bytes are lost; handshake and messages get through all the same."""

    def drop(packet: Packet) -> bool:
        return len(packet.data) > SMALL_MTU and packet.kind is Kind.DTLS

    trial.tap.drop = drop
    await trial.connect(patience=20)
    await trial.also_messages((b"\1" * 20_000,))
    await trial.hears("client")


__all__ = ["PROFILES", "cut", "rebinding", "small_mtu"]
