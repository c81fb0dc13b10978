"""Set-ups on a network that loses, simulated: with every mechanism that saves a round trip, and without each.

    python -m bench setup_loss --plot docs/pictures

Two sessions of ours in virtual time, 50 ms of way between them, with real cryptography. Each side speaks as soon
as it may, a packet every 20 ms. "First audio" is when the client has taken the first packet; "complete" when the
server has taken one, too, and the client's data channel is open. The same seeds for every variant: what is lost
differs as soon as other packets travel. At the full scale 10,080 set-ups, a minute or two of one core.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from math import ceil
from statistics import median
from typing import Any

from bench._progress import say
from bench.report import Cell, Curves, Options, Table
from interop.network_model import Link, NetworkModel
from stack.core.machine import Address
from stack.core.serial import ExtendedTimestamp
from stack.dtls import Certificate
from stack.sctp import ChannelOpened
from stack.sdp import ChannelMap, SessionDescription, accept_answer, create_offer, negotiate
from stack.session import (
    Connected,
    Ended,
    LocalWishes,
    ScheduledFrame,
    Session,
    SessionParameters,
    make_local_parameters,
)

DELAY = 0.05
"""Seconds in each direction."""
LOSSES = (0, 5, 10, 15, 20, 25)
SEEDS = 240
"""Set-ups of each variant at each loss, at the full scale."""
PATIENCE = 30.0
"""Seconds of virtual time after which a set-up has failed."""
FRAME = 0.02
PAYLOAD = bytes.fromhex("f8fffe")
"""20 ms of silence in Opus."""
CLIENT, SERVER = Address("192.0.2.1", 1000), Address("192.0.2.2", 2000)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Variant:
    """Which mechanisms are in force."""

    who: str
    dtls_in_stun: bool = True
    init_in_sdp: bool = True
    send_early: bool = True
    agreed_channel: bool = True
    round_trip: bool = True


VARIANTS = (
    Variant("all"),
    Variant("without DTLS in STUN", dtls_in_stun=False),
    Variant("without INIT in SDP", init_in_sdp=False),
    Variant("without sending with the Finished", send_early=False),
    Variant("without an agreed channel", agreed_channel=False),
    Variant("without ICE's round trip", round_trip=False),
    Variant("none of them", *(False,) * 5),
)


class _Guessing(Session):
    """A session whose DTLS and SCTP begin from their own first guesses."""

    def _begin_from_round_trip(self, now: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Agreed:
    """Both sides of an offer and its answer."""

    client: SessionParameters
    server: SessionParameters
    client_certificate: Certificate
    server_certificate: Certificate


def agree(variant: Variant) -> Agreed:
    """Let a client offer and a lite server answer."""
    entropy = random.Random(0).randbytes
    certificates = Certificate.generate(entropy, EPOCH), Certificate.generate(entropy, EPOCH)
    channels = (ChannelMap(0, "events"),) if variant.agreed_channel else ()
    client = make_local_parameters(entropy, certificates[0], [CLIENT], LocalWishes(channels=channels))
    server = make_local_parameters(entropy, certificates[1], [SERVER], LocalWishes(ice_lite=True))
    if not variant.init_in_sdp and server.data is not None:
        server = replace(server, data=replace(server.data, sctp_init=None))
    offer = create_offer(client)
    answered = negotiate(SessionDescription.parse(offer.serialize()), server)
    answer = SessionDescription.parse(answered.answer.serialize())
    taken = accept_answer(offer, answer, client)
    return Agreed(SessionParameters(client, taken), SessionParameters(server, answered), *certificates)


class SetUp:
    """One set-up in virtual time; `run` returns milliseconds until the first audio and until all is there."""

    def __init__(self, agreed: Agreed, variant: Variant, loss: float, seed: str) -> None:
        kind = Session if variant.round_trip else _Guessing
        made: dict[str, Any] = {"dtls_in_stun": variant.dtls_in_stun, "send_early": variant.send_early}
        entropies = (random.Random(f"{seed}/{name}").randbytes for name in ("client", "server"))
        sides = (agreed.client, agreed.client_certificate), (agreed.server, agreed.server_certificate)
        self.sessions = tuple(
            kind(parameters, certificate, entropy, 0.0, **made)
            for (parameters, certificate), entropy in zip(sides, entropies, strict=True)
        )
        model = NetworkModel(delay=DELAY, loss=loss)
        self._links = tuple(Link(model, f"{seed}/{way}") for way in ("up", "down"))
        self._under_way: list[tuple[float, int, int, bytes, Any]] = []
        self._order = count()
        self._spoken = [0, 0]
        self._due: list[float | None] = [None, None]
        self._opens = not variant.agreed_channel
        self._channel: float | None = None
        self._failed = False

    def run(self) -> tuple[float, float] | None:
        """Let time pass; None if the set-up fails."""
        client, server = self.sessions
        now = 0.0
        for side in (0, 1):
            self._pump(side, now)
        while not self._failed:
            steps = client.steps.get("first_packet"), server.steps.get("first_packet")
            if steps[0] is not None and steps[1] is not None and self._channel is not None:
                return steps[0], max(*steps, self._channel * 1000)
            now = min(self._deadlines())
            if now > PATIENCE:
                break
            self._step(now)
        return None

    def _deadlines(self) -> Iterator[float]:
        yield PATIENCE + 1.0
        if self._under_way:
            yield self._under_way[0][0]
        for session, due in zip(self.sessions, self._due, strict=True):
            yield from (at for at in (session.poll_timeout(), due) if at is not None)

    def _step(self, now: float) -> None:
        while self._under_way and self._under_way[0][0] <= now:
            _, _, to, data, path = heappop(self._under_way)
            self.sessions[to].handle_datagrams(((data, path),), now)
            self._pump(to, now)
        for side, session in enumerate(self.sessions):
            due, deadline = self._due[side], session.poll_timeout()
            if due is not None and due <= now:
                self._speak(side, now)
                self._pump(side, now)
            if deadline is not None and deadline <= now:
                session.handle_timeout(now)
                self._pump(side, now)

    def _speak(self, side: int, now: float) -> None:
        number = self._spoken[side]
        self._spoken[side] = number + 1
        self._due[side] = now + FRAME
        frame = ScheduledFrame(number, PAYLOAD, 960, ExtendedTimestamp(960 * number), now)
        if self.sessions[side].is_connected:
            self.sessions[side].schedule(frame, now)

    def _pump(self, side: int, now: float) -> None:
        session = self.sessions[side]
        for event in session.drain_events():
            if isinstance(event, Connected):
                self._due[side] = now
                if side == 0 and self._opens and session.channels is not None:
                    session.channels.open("events", now)
                    session.flush(now)
            elif isinstance(event, ChannelOpened) and self._channel is None:
                # Opened by a message, it is of use when the server has that: half a round trip later at the least.
                if side == (1 if self._opens else 0):
                    self._channel = now
            elif isinstance(event, Ended):
                self._failed = True
        session.drain_routes()
        for data, path in session.drain_transmits():
            for at in self._links[side].transit(len(data), now):
                back = path._replace(local=path.remote, remote=path.local)
                heappush(self._under_way, (at, next(self._order), 1 - side, data, back))


def _p(values: list[float], share: float) -> float:
    return sorted(values)[ceil(share * len(values)) - 1]


def run(options: Options) -> list[Table]:
    """Simulate every variant at every loss."""
    seeds = max(1, round(SEEDS * options.scale))
    columns = ["who", "loss %", "set-ups", "failed", "median ms", "p95 ms", "p99 ms"]
    rows: tuple[list[list[Cell]], list[list[Cell]]] = ([], [])
    for variant in VARIANTS:
        agreed = agree(variant)
        for loss in LOSSES:
            say(f"{variant.who}, {loss} % loss: {seeds} set-ups")
            runs = [SetUp(agreed, variant, loss / 100, f"{options.seed}/{seed}").run() for seed in range(seeds)]
            done = [each for each in runs if each is not None]
            for kind, into in enumerate(rows):
                values = [each[kind] for each in done]
                figures = [median(values), _p(values, 0.95), _p(values, 0.99)] if values else [None] * 3
                into.append([variant.who, loss, seeds, len(runs) - len(done), *figures])
    chart = Curves("loss %", "p95 ms")
    return [
        Table("Simulated set-ups, 100 ms round trip: first audio at the client", columns, rows[0], chart=chart),
        Table("Simulated set-ups, 100 ms round trip: complete, both ways", columns, rows[1], chart=chart),
    ]
