"""Ours as a server: `python -m bench.servers.ours MODE [--checkout DIR]`.

Modes: `packets` (an endpoint whose sessions send back the RTP payloads that they receive, without a codec, on a
media thread as in `Host`), and programs on the whole stack: `echo` (`stack.agents.echo`), `speaking` (it always
speaks), `listening` (it always speaks, and hears utterances).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bench.servers._common import Companion, announce, arguments, read_sound, serve_offers, speak

MODES = ("packets", "echo", "speaking", "listening")
FRAME_TICKS = 960
COMPLEXITY = 5
"""Of the Opus encoder; said here, so that it is the same in every checkout."""


class PacketEcho:
    """A hosted machine around a session: each RTP payload that arrives leaves again at once."""

    def __init__(self, session: Any) -> None:
        import stack.session
        from stack.rtp import PacketReceived
        from stack.session import Connected, Ended

        self._session = session
        self._packet, self._kept = PacketReceived, (Connected, Ended)
        self._frame: Any = getattr(stack.session, "ScheduledFrame", None)
        self._events: list[Any] = []
        self._number = 0
        self._wraps = hasattr(session, "send_media")  # a checkout from before the media plane
        self.drain_transmits = session.drain_transmits
        self.drain_routes = session.drain_routes
        self.poll_timeout = session.poll_timeout

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Any]], now: float) -> None:
        self._session.handle_datagrams(batch, now)
        self._return(now)

    def handle_timeout(self, now: float) -> None:
        self._session.handle_timeout(now)
        self._return(now)

    def drain_events(self) -> Sequence[Any]:
        events, self._events = self._events, []
        return events

    @property
    def sources(self) -> Sequence[int]:
        return getattr(self._session, "sources", ())

    @property
    def is_finished(self) -> bool:
        return bool(self._session.is_finished) and not self._events

    def _return(self, now: float) -> None:
        is_connected = self._session.is_connected  # what came with the end is handed up after it has taken effect
        for event in self._session.drain_events():
            if isinstance(event, self._packet):
                if event.payload and is_connected:
                    self._send(event.payload, now)
            elif self._wraps and hasattr(event, "event"):
                if isinstance(event.event, self._packet) and event.event.payload:
                    self._session.send_media(event.event.payload, FRAME_TICKS, now)
            elif isinstance(event, self._kept):
                self._events.append(event)

    def _send(self, payload: bytes, now: float) -> None:
        number = self._number
        self._number += 1
        self._session.schedule(self._frame(number, payload, FRAME_TICKS, number * FRAME_TICKS, now), now)


async def packets() -> None:
    """Serve sessions without a codec."""
    from stack.aio.driver import Driver, MediaThread
    from stack.aio.udp import bind_all
    from stack.dtls import Certificate
    from stack.sdp import SessionDescription, Setup, negotiate
    from stack.server import Endpoint
    from stack.session import LocalWishes, Session, SessionParameters, make_local_parameters

    certificate = Certificate.generate(os.urandom, datetime.now(UTC))
    sockets = bind_all(["127.0.0.1"], 0)
    endpoint: Any = Endpoint(max_sessions=10_000)
    adding_names = "name" in inspect.signature(Endpoint.add).parameters
    media = MediaThread()
    driver = await media.run(lambda: Driver(endpoint, sockets, lambda events: None))

    async def accept(offer: str) -> str:
        wishes = LocalWishes(ice_lite=True, setup=Setup.PASSIVE)
        local = make_local_parameters(os.urandom, certificate, sockets.addresses, wishes)
        negotiation = negotiate(SessionDescription.parse(offer), local)
        parameters = SessionParameters(local, negotiation)

        def host() -> None:
            now = driver.now()
            session = Session(parameters, certificate, os.urandom, now, wall_clock=time.time() - now)
            ufrag = local.ice_ufrag
            names = (ufrag, PacketEcho(session), ufrag) if adding_names else (ufrag, PacketEcho(session))
            endpoint.add(*names)
            driver.pump()

        await media.run(host)
        return negotiation.answer.serialize()

    await serve_offers(accept)


def packets_by_workers(workers: int, forwarder: bool) -> None:
    """Serve sessions without a codec in so many processes on one port, each steered to as a media worker is."""
    from stack.aio.coalescing import MediaLoop
    from stack.aio.steering import bind_group
    from stack.aio.udp import bind_all

    if forwarder:
        from stack.aio.forwarding import forwarding_pair

        groups = [bind_all(["127.0.0.1"], 0)] * workers
        pairs = [forwarding_pair() for _ in range(workers)]
        if os.fork() == 0:
            forward(groups[0], [end for end, _ in pairs])
        ends: list[socket.socket | None] = [end for _, end in pairs]
    else:
        groups, ends = bind_group(["127.0.0.1"], 0, workers), [None] * workers
    links = []
    for number, (sockets, end) in enumerate(zip(groups, ends, strict=True)):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            with asyncio.Runner(loop_factory=MediaLoop) as runner:  # as a media worker has it
                runner.run(packet_worker(number, workers, sockets, theirs, end))
            os._exit(0)
        theirs.close()
        links.append(ours)
    asyncio.run(packets_in_front(links))


def forward(sockets: Any, ends: list[socket.socket]) -> None:
    """Be the process in front, until the server is gone."""
    from stack.aio.coalescing import MediaLoop
    from stack.aio.forwarding import Forwarding

    async def run() -> None:
        forwarding = Forwarding(sockets, ends)
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(0.2)
        forwarding.close()

    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        runner.run(run())
    os._exit(0)


async def packets_in_front(links: list[socket.socket]) -> None:
    """Take offers and hand them to the workers, one after the other."""
    streams = [await asyncio.open_connection(sock=link) for link in links]
    turns = itertools.cycle([(reader, writer, asyncio.Lock()) for reader, writer in streams])

    async def accept(offer: str) -> str:
        reader, writer, lock = next(turns)
        async with lock:
            writer.write(json.dumps(offer).encode() + b"\n")
            return str(json.loads(await reader.readline()))

    await serve_offers(accept)


async def packet_worker(
    number: int, workers: int, sockets: Any, link: socket.socket, end: socket.socket | None
) -> None:
    """Answer the offers that come by the link, until it closes."""
    from stack.aio.driver import Driver
    from stack.aio.steering import SteeredDriver, SteeredSockets
    from stack.dtls import Certificate
    from stack.sdp import SessionDescription, Setup, negotiate
    from stack.server import Endpoint
    from stack.session import LocalWishes, Session, SessionParameters, make_local_parameters

    certificate = Certificate.generate(os.urandom, datetime.now(UTC))
    endpoint: Any = Endpoint(max_sessions=10_000, reports_paths=workers > 1)
    driver: Any
    if end is not None:
        from stack.aio.forwarding import ForwardedDriver

        driver = ForwardedDriver(endpoint, sockets, lambda events: None, None, end=end)
    elif workers == 1:
        driver = Driver(endpoint, sockets, lambda events: None)
    else:
        steered = SteeredSockets(list(sockets))
        driver = SteeredDriver(
            endpoint, steered, lambda events: None, None,
            number=number, workers=workers, pass_on=lambda *_: None, on_path_taken=lambda _: None,
        )  # fmt: skip
    reader, writer = await asyncio.open_connection(sock=link)
    while line := await reader.readline():
        wishes = LocalWishes(ice_lite=True, setup=Setup.PASSIVE, worker=number)
        local = make_local_parameters(os.urandom, certificate, sockets.addresses, wishes)
        negotiation = negotiate(SessionDescription.parse(json.loads(line)), local)
        now = driver.now()
        parameters = SessionParameters(local, negotiation)
        session = Session(parameters, certificate, os.urandom, now, wall_clock=time.time() - now)
        endpoint.add(local.ice_ufrag, PacketEcho(session), local.ice_ufrag)
        driver.pump()
        writer.write(json.dumps(negotiation.answer.serialize()).encode() + b"\n")


async def programs(
    mode: str, sound: str | None, companion: Companion, workers: int, forwarder: bool, tickets: bool = False
) -> None:
    """Serve a program on the whole stack."""
    import stack.signaling
    from stack.agents.echo import echo
    from stack.aio import HostConfig
    from stack.signaling import ServeConfig, serving
    from stack.voice.config import ConversationConfig
    from stack.voice.turns import TurnSettings

    samples, rate = read_sound(sound) if sound is not None else (np.zeros(0, np.int16), 0)
    begun = 0

    async def program(call: Any) -> None:
        nonlocal begun
        begun += 1
        companion.begin()
        if mode == "echo":
            await echo(call)
            return
        speaking = asyncio.create_task(speak(call, samples, rate, begun * 7919 % (len(samples) // 2)))
        try:
            if mode == "listening":
                async for _ in call.utterances():
                    pass
            await call.wait_ended()
        finally:
            speaking.cancel()

    turns = TurnSettings(create_response=False, interrupt_response=False)
    conversation = ConversationConfig(complexity=COMPLEXITY, turns=turns)
    carried: dict[str, Any] = {"workers": workers} if workers else {}  # an older checkout has no workers
    if forwarder:
        from stack.aio.steering import Steering

        carried["steering"] = Steering.FORWARDER
    if tickets:
        from stack.aio.tickets import TicketConfig

        carried["tickets"] = TicketConfig()
    media = HostConfig(host="127.0.0.1", udp_port=0, max_calls=5000, conversation=conversation, **carried)
    name = "signaling" if hasattr(stack.signaling, "SignalingConfig") else "door"  # an older checkout's
    limits: Any = getattr(stack.signaling, "SignalingConfig" if name == "signaling" else "DoorConfig")
    unlimited = {name: limits(offers_per_second=1e6, offers_per_client=1e6, calls_per_client=100_000)}
    async with serving(program, ServeConfig(port=0, media=media, **unlimited)) as server:
        announce(server.http_port)
        await asyncio.Event().wait()


def main() -> None:
    chosen = arguments(MODES, checkout=True)
    if chosen.checkout is not None:
        sys.path.insert(0, chosen.checkout)
    if chosen.mode == "packets":
        asyncio.run(packets()) if chosen.workers == 0 else packets_by_workers(chosen.workers, chosen.forwarder)
    else:
        asyncio.run(
            programs(
                chosen.mode,
                chosen.sound,
                Companion(chosen.beside),
                chosen.workers,
                chosen.forwarder,
                chosen.tickets,
            )
        )


if __name__ == "__main__":
    main()
