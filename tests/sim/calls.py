"""Whole calls in virtual time: a client and a server conversation on a simulated network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from interop.network_model import NetworkModel
from stack.core.machine import Address, Instant
from stack.dtls import Certificate
from stack.sdp import ChannelMap, SessionDescription, Setup, accept_answer, create_offer, negotiate
from stack.session import Authenticated, Connected, LocalWishes, SessionParameters, make_local_parameters
from stack.voice.conversation import Conversation, ConversationConfig
from tests.sim.certificates import EPOCH
from tests.sim.clock import START
from tests.sim.entropy import entropy
from tests.sim.network import Host
from tests.sim.pair import LEFT, RIGHT, MachinePair


@dataclass(frozen=True, slots=True)
class Sides:
    """What both sides know before the first packet."""

    client: SessionParameters
    server: SessionParameters
    client_certificate: Certificate
    server_certificate: Certificate


def agree(
    seed: int = 0,
    *,
    setup: Setup = Setup.PASSIVE,
    audio: bool = True,
    data: bool = True,
    channels: tuple[ChannelMap, ...] = (),
    ice_lite: bool = True,
    client_address: Address = LEFT,
    server_address: Address = RIGHT,
    shape: Callable[[SessionDescription], SessionDescription] = lambda offer: offer,
) -> Sides:
    """Let a client offer and a server answer; `setup` is what it answers, `shape` changes the offer.

    `channels` are those that the offer names (RFC 8864).
    """
    ours, theirs = entropy(f"client{seed}"), entropy(f"server{seed}")
    client_certificate, server_certificate = Certificate.generate(ours, EPOCH), Certificate.generate(theirs, EPOCH)
    wishes = LocalWishes(audio=audio, data=data, channels=channels)
    client = make_local_parameters(ours, client_certificate, [client_address], wishes)
    server = make_local_parameters(
        theirs, server_certificate, [server_address], LocalWishes(ice_lite=ice_lite, setup=setup)
    )
    offer = shape(create_offer(client, audio=audio, data=data))
    answered = negotiate(SessionDescription.parse(offer.serialize()), server)
    answer = SessionDescription.parse(answered.answer.serialize())
    return Sides(
        SessionParameters(client, accept_answer(offer, answer, client)),
        SessionParameters(server, answered),
        client_certificate,
        server_certificate,
    )


def is_up(host: Host[Conversation]) -> bool:
    """Return True once the call is connected and the peer has proved who it is."""
    return any(event.authenticated for event in host.seen(Connected)) or bool(host.seen(Authenticated))


class CallPair(MachinePair[Conversation, Conversation]):
    """A call: `left` is the client, `right` the server. Building it starts both.

    `offered` is when the offer reached the server.
    """

    def __init__(
        self,
        sides: Sides | None = None,
        model: NetworkModel | None = None,
        *,
        seed: int = 0,
        client: ConversationConfig | None = None,
        server: ConversationConfig | None = None,
        offered: Instant | None = None,
    ) -> None:
        sides = sides or agree(seed)
        left = Conversation(
            sides.client,
            sides.client_certificate,
            client or ConversationConfig(),
            entropy(f"left{seed}"),
            START,
        )
        right = Conversation(
            sides.server,
            sides.server_certificate,
            server or ConversationConfig(),
            entropy(f"right{seed}"),
            START,
            offered=offered,
        )
        super().__init__(left, right, model, seed=seed, keep_sent=False)
        self.pump()

    @property
    def hosts(self) -> tuple[Host[Conversation], Host[Conversation]]:
        """Client and server."""
        return self.left, self.right


__all__ = ["CallPair", "Sides", "agree", "is_up"]
