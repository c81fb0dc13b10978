"""Two sessions, each with a UDP socket, in a loop of their own: no asyncio, no thread, no server."""

import os
import select
import socket
import time
from datetime import UTC, datetime

from stack.core.machine import Address, Path
from stack.dtls import Certificate
from stack.rtp import PacketReceived
from stack.sctp import AssociationUp, MessageReceived
from stack.sdp import accept_answer, create_offer, negotiate
from stack.session import (
    Connected,
    LocalWishes,
    ScheduledFrame,
    Session,
    SessionParameters,
    make_local_parameters,
)

SILENCE = b"\xf8\xff\xfe"
"""An Opus frame of 20 ms."""


class Peer:
    """A session and its socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = Address(*self.socket.getsockname())
        self.certificate = Certificate.generate(os.urandom, datetime.now(UTC))
        wishes = LocalWishes(ice_lite=name == "server")
        self.local = make_local_parameters(os.urandom, self.certificate, [self.address], wishes)
        self.session: Session

    def begin(self, parameters: SessionParameters) -> None:
        """Make the session from what was negotiated."""
        self.session = Session(parameters, self.certificate, os.urandom, time.monotonic())

    def read(self) -> None:
        """Hand over one datagram."""
        data, (host, port) = self.socket.recvfrom(2048)
        self.session.handle_datagrams([(data, Path(self.address, Address(host, port)))], time.monotonic())

    def turn(self) -> list[object]:
        """Let what is due happen, send what is to be sent, return what has happened."""
        now = time.monotonic()
        due = self.session.poll_timeout()
        if due is not None and due <= now:
            self.session.handle_timeout(now)
        for data, path in self.session.drain_transmits():
            self.socket.sendto(data, path.remote)
        return list(self.session.drain_events())


def handle(peer: Peer, event: object) -> bool:
    """Answer an event; True if it is the last that this program waits for."""
    now, session = time.monotonic(), peer.session
    if isinstance(event, Connected):
        print(f"{peer.name}: connected by {event.dtls_version}, {event.srtp_profile}")
        if peer.name == "client":
            session.schedule(ScheduledFrame(1, SILENCE, ticks=960, timestamp=0, due=now + 0.02), now)
    elif isinstance(event, AssociationUp) and peer.name == "client" and session.channels is not None:
        session.channels.send(session.channels.open("chat", now), "hello", now)
        session.flush(now)
    elif isinstance(event, PacketReceived | MessageReceived):
        print(f"{peer.name}: {type(event).__name__}")
        return True
    return False


def main() -> None:
    """Connect, send a frame and a message, hang up."""
    client, server = peers = Peer("client"), Peer("server")
    offer = create_offer(client.local)
    answered = negotiate(offer, server.local)
    server.begin(SessionParameters(server.local, answered))
    client.begin(SessionParameters(client.local, accept_answer(offer, answered.answer, client.local)))
    missing = 2  # a frame and a message
    while missing:
        for peer in peers:
            missing -= sum(handle(peer, event) for event in peer.turn())
        deadlines = [at for at in (peer.session.poll_timeout() for peer in peers) if at is not None]
        wait = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        for ready in select.select([peer.socket for peer in peers], [], [], wait)[0]:
            next(peer for peer in peers if peer.socket is ready).read()
    client.session.close(time.monotonic())
    while not client.session.is_finished:
        for event in client.turn():
            print(f"client: {event}")
    for peer in peers:
        peer.socket.close()


if __name__ == "__main__":
    main()
