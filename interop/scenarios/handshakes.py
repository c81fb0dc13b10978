"""DTLS: versions, roles, and flights that are lost."""

from __future__ import annotations

from interop.diagnosis.dtls import dtls_client
from interop.evidence import Packet, Side, other
from interop.peers.base import Wishes
from interop.scenarios.registry import scenario
from interop.trial import Trial
from interop.wire_reading import Kind


@scenario("DTLS 1.2", "RFC 6347, RFC 8827 §6.5", wishes=Wishes(dtls="1.2"))
async def dtls_1_2(trial: Trial) -> None:
    """A call over DTLS 1.2."""
    await trial.connect()
    await trial.hears("client")


@scenario("DTLS 1.3", "RFC 9147", wishes=Wishes(dtls="1.3"))
async def dtls_1_3(trial: Trial) -> None:
    """A call over DTLS 1.3."""
    await trial.connect()
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


@scenario("lost answer", "RFC 6347 §4.2.4, RFC 9147 §5.8", seconds=6)
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
