"""How the path is found and changed: candidates that come late, IPv6, ICE restarts."""

from __future__ import annotations

from interop.evidence import SIDES
from interop.peers.base import UnsupportedError, Wishes
from interop.redirect import without_candidates
from interop.rewriting import candidate_lines, first_value
from interop.scenarios.registry import scenario
from interop.tap import udp_candidate
from interop.trial import Trial
from interop.verdict import Layer, Unexpected
from interop.wire_reading import Kind, StunClass


@scenario("trickle", "RFC 8838 §12, RFC 8840 §4.1, RFC 9725 §4.3.1")
async def trickle(trial: Trial) -> None:
    """The offer has no candidates; the server gets them when it has answered."""
    held: list[str] = []

    def hold_back(offer: str) -> str:
        held.extend(candidate_lines(offer))
        return without_candidates(offer)

    trial.rewrite_offer = hold_back
    await trial.signal()
    await trial.told(trial.server.trickle(held), "the server to take a candidate after the offer", "RFC 8838 §12")
    await trial.established()
    for side in SIDES:
        await trial.hears(side)


@scenario("IPv6", "RFC 8445 §5.1.1.1, RFC 8200", wishes=Wishes(ip=6))
async def ipv6(trial: Trial) -> None:
    """The whole call goes over IPv6."""
    try:
        await trial.connect()
    except Unexpected as unexpected:
        for side, sdp in (("client", trial.client_offer), ("server", trial.evidence.answer)):
            try:
                udp_candidate(sdp, 6)
            except ValueError:
                why = f"{trial.evidence.name(side)} has no candidate over IPv6 on this machine"  # type: ignore[arg-type]
                raise UnsupportedError(why) from unexpected
        raise
    for side in SIDES:
        await trial.hears(side)
    await trial.also_messages(("hello",))


@scenario("ICE restart", "RFC 8445 §9, RFC 8839 §4.4.1.1, RFC 8829 §5.2.2", seconds=9)
async def ice_restart(trial: Trial) -> None:
    """The client restarts ICE in mid-call: new credentials, the same handshake, and the call goes on."""
    await trial.connect()
    await trial.hears("server")
    former = first_value(trial.evidence.answer, "ice-ufrag")
    began = trial.tap.now()
    await trial.negotiate_again()
    fresh = first_value(trial.evidence.answer, "ice-ufrag")
    if fresh == former:
        raise Unexpected(
            "an answer with a new ice-ufrag to an offer that restarts ICE",
            "RFC 8839 §4.4.1.1",
            f"the former one, {former}",
            side="server",
            layer=Layer.SIGNALLING,
        )
    await trial.stay(1.5)
    users = {
        packet.stun.username.split(":")[0]
        for packet in trial.sent_since(began, "client", Kind.STUN)
        if packet.stun is not None and packet.stun.stun_class is StunClass.REQUEST
    }
    if fresh not in users:
        raise Unexpected(
            "checks of the client with the new credentials", "RFC 8445 §9", f"those of {sorted(users) or 'none'}"
        )
    for side in SIDES:
        await trial.hears(side)
    await trial.also_messages(("after the restart",))
