"""DTLS and SCTP between two ends in memory: a handshake, a data channel and a message, without a network."""

import os
import time
from datetime import UTC, datetime

from stack.dtls import ApplicationData, Certificate, DtlsConfig, DtlsEndpoint, DtlsRole, HandshakeComplete
from stack.sctp import ChannelOpened, DataChannels, MessageReceived, SctpConfig


class End:
    """A DTLS endpoint with data channels above it."""

    def __init__(self, role: DtlsRole, own: Certificate, peer: Certificate) -> None:
        self.name = role.value
        self.dtls = DtlsEndpoint(role, DtlsConfig(own, (peer.fingerprint(),)), os.urandom)
        self.channels = DataChannels(SctpConfig(is_dtls_client=role is DtlsRole.CLIENT), os.urandom)
        self.received: list[str | bytes] = []

    def pump(self, now: float) -> list[bytes]:
        """Do what is due, move what DTLS and SCTP have for each other; return the datagrams for the peer."""
        for tunnel in (self.dtls, self.channels):
            due = tunnel.poll_timeout()
            if due is not None and due <= now:
                tunnel.handle_timeout(now)
        for event in self.dtls.drain_events():
            if isinstance(event, HandshakeComplete):
                print(f"{self.name}: {event.version.label}, {event.group.name}")
                self.channels.start(now)
            elif isinstance(event, ApplicationData):
                self.channels.handle_datagram(event.data, now)
        for packet in self.channels.drain_transmits():
            self.dtls.send(packet, now)
        for happened in self.channels.drain_events():
            if isinstance(happened, ChannelOpened):
                print(f"{self.name}: channel {happened.label!r} is open")
            elif isinstance(happened, MessageReceived):
                self.received.append(happened.data)
        return list(self.dtls.drain_transmits())


def main() -> None:
    """Open a channel from one end and send a message to the other."""
    ours, theirs = (Certificate.generate(os.urandom, datetime.now(UTC)) for _ in range(2))
    client, server = End(DtlsRole.CLIENT, ours, theirs), End(DtlsRole.SERVER, theirs, ours)
    now = time.monotonic()
    server.dtls.start(now)
    client.dtls.start(now)
    channel = client.channels.open("chat", now)
    client.channels.send(channel, "hello", now)  # waits for the association
    while not server.received:
        now = time.monotonic()
        for end, peer in ((client, server), (server, client)):
            peer.dtls.handle_datagrams(end.pump(now), now)
    print(f"server: received {server.received[0]!r}")


if __name__ == "__main__":
    main()
