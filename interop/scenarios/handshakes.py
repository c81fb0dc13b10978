"""DTLS: versions, roles, and flights that are lost."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from interop.diagnosis.dtls import certificate_key, dtls_client, handshake_datagrams, shown_certificate
from interop.evidence import SIDES, Packet, Side, other
from interop.peers.base import UnsupportedError, Wishes
from interop.scenarios.registry import scenario
from interop.trial import Trial
from interop.verdict import Layer, Unexpected
from interop.wire_reading import Kind, handshake_fragments


@scenario("DTLS 1.2", "RFC 6347, RFC 8827 §6.5", wishes=Wishes(dtls="1.2"))
async def dtls_1_2(trial: Trial) -> None:
    """A call over DTLS 1.2."""
    await trial.connect()
    await trial.hears("client")


@scenario("DTLS 1.3", "RFC 9147", wishes=Wishes(dtls="1.3"))
async def dtls_1_3(trial: Trial) -> None:
    """A call over DTLS 1.3."""
    try:
        await trial.connect()
    except Unexpected as unexpected:
        if trial.traits["server"].can_be_asked:
            raise
        why = "the server completes no handshake in which the client offers DTLS 1.3 alone, as it need not"
        raise UnsupportedError(f"{why} (RFC 8827 §6.5)") from unexpected
    await trial.hears("client")


@scenario("active server", "RFC 5763 §5, RFC 8842 §5.3", wishes=Wishes(setup="active"))
async def active_server(trial: Trial) -> None:
    """The server takes the active part: it sends the ClientHello."""
    await trial.connect()
    await trial.hears("client")


class LoseFirst:
    """Loses the datagrams of a side's first flight: those within 20 ms of the first, eight at most."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._began: float | None = None
        self._lost = 0

    def __call__(self, packet: Packet) -> bool:
        if packet.side != self._side or packet.kind is not Kind.DTLS:
            return False
        if self._began is None:
            self._began = packet.at
        if packet.at - self._began > 0.02 or self._lost >= 8:
            return False
        self._lost += 1
        return True


def lose_first_of(trial: Trial, *, answering: bool) -> None:
    """Have the tap lose the first flight of the DTLS client, or of the side that answers it."""
    losing: list[LoseFirst] = []

    def drop(packet: Packet) -> bool:
        if not losing:  # the roles are in the answer
            client = dtls_client(trial.evidence) or "client"
            losing.append(LoseFirst(other(client) if answering else client))
        return losing[0](packet)

    trial.tap.drop = drop


@scenario("lost answer", "RFC 6347 §4.2.4, RFC 9147 §5.8", seconds=6, is_quick=True)
async def lost_answer(trial: Trial) -> None:
    """The first flight that answers the ClientHello is lost, and sent again."""
    lose_first_of(trial, answering=True)
    await trial.connect()
    await trial.hears("client")


@scenario("lost ClientHello", "RFC 6347 §4.2.4, RFC 9147 §5.8", seconds=6)
async def lost_hello(trial: Trial) -> None:
    """The first ClientHello is lost, and sent again."""
    lose_first_of(trial, answering=False)
    await trial.connect()
    await trial.hears("client")


for _version in ("1.2", "1.3"):

    async def _active_in(trial: Trial) -> None:
        await trial.connect()
        await trial.hears("client")
        await trial.hears("server")

    _active_in.__doc__ = f"The server takes the active part in DTLS {_version}."
    scenario(f"active server, DTLS {_version}", "RFC 8842 §5.3", wishes=Wishes(setup="active", dtls=_version))(
        _active_in
    )


@scenario("own certificate", "RFC 8827 §6.5, RFC 8422 §5.1.1", wishes=Wishes(own_certificate=True))
async def own_certificate(trial: Trial) -> None:
    """Each side shows the certificate that its stack makes by itself, and the other takes it."""
    await trial.connect()
    await trial.hears("server")
    for side in SIDES:
        shown = shown_certificate(trial.evidence, side)
        if shown is not None:  # in DTLS 1.3 it is encrypted
            trial.evidence.facts[f"certificate of the {side}"] = certificate_key(shown[1])


SRTP_NUMBERS = {"AES128_CM_HMAC_SHA1_80": 1, "AEAD_AES_128_GCM": 7, "AEAD_AES_256_GCM": 8}
"""The profiles of WebRTC by their numbers (RFC 5764 §4.1.2, RFC 7714 §14.2)."""
MANDATORY_SRTP = "AES128_CM_HMAC_SHA1_80"
"""The profile that every stack has (RFC 8827 §6.5)."""
NO_SRTP = "agreed to no SRTP profile"
"""What an end of ours says when its ClientHello offers a profile and the other side takes none."""


def protected_by(profile: str) -> Callable[[Trial], Awaitable[None]]:
    """A call in which our end knows this profile alone."""

    async def run(trial: Trial) -> None:
        client, server = (trial.evidence.name(side) for side in SIDES)
        if "ours" not in (client, server):
            raise UnsupportedError(f"neither {client} nor {server} can be told which SRTP profiles to know")
        try:
            await trial.connect()
        except Unexpected as unexpected:
            offered = offered_srtp_profiles(trial)
            asking = dtls_client(trial.evidence) or "client"
            answering = other(asking)
            if offered and SRTP_NUMBERS[profile] not in offered:
                known = [name for name, number in SRTP_NUMBERS.items() if number in offered]
                why = f"{trial.evidence.name(asking)} offers {', '.join(known) or offered}, and not {profile}"
                raise UnsupportedError(why) from unexpected
            name = trial.evidence.name(answering)
            refused = NO_SRTP in (trial.ends[asking].ended or "") and name != "ours"
            if refused and profile != MANDATORY_SRTP:
                why = f"{name} takes no {profile} where it is offered alone, and need not (RFC 8827 §6.5)"
                raise UnsupportedError(why) from unexpected
            raise
        for side in SIDES:
            await trial.hears(side)
        for side, end in trial.ends.items():
            for part in await end.statistics() or ():
                used = part.get("srtpCipher") if isinstance(part, dict) else None
                # Browsers leave out, or put in, parts of the registered name.
                if used and re.sub("SRTP_|HMAC_", "", used) != profile.replace("HMAC_", ""):
                    seen = f"{used}, as the {side} says"
                    raise Unexpected(f"media protected by {profile}", "RFC 5764 §4.1", seen, layer=Layer.DTLS)

    run.__doc__ = f"Media under {profile}: our end knows no other profile."
    return run


def offered_srtp_profiles(trial: Trial) -> set[int]:
    """The profiles in the first ClientHello, which is in the clear (RFC 5764 §4.1.1); empty if there is none."""
    client = dtls_client(trial.evidence) or "client"
    pieces: dict[int, bytes] = {}
    for packet in handshake_datagrams(trial.evidence, client):
        for record in packet.records:
            for piece in handshake_fragments(record):
                if piece.name == "ClientHello" and piece.message_seq == 0:
                    pieces[piece.offset] = piece.body
    hello = b"".join(body for _, body in sorted(pieces.items()))
    for at in range(len(hello) - 6):
        # extension_type use_srtp, its length, the length of the list of profiles, no MKI
        size = int.from_bytes(hello[at + 4 : at + 6])
        if (
            hello[at : at + 2] == b"\0\x0e"
            and int.from_bytes(hello[at + 2 : at + 4]) == size + 3
            and size % 2 == 0
        ):
            listed = hello[at + 6 : at + 6 + size]
            return {int.from_bytes(listed[n : n + 2]) for n in range(0, size, 2)}
    return set()


for _profile in SRTP_NUMBERS:
    scenario(f"SRTP {_profile}", "RFC 5764 §4.1.2, RFC 7714 §14.2", wishes=Wishes(srtp=_profile))(
        protected_by(_profile)
    )
