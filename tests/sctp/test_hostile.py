"""A peer that means harm: it holds the keys, so only our bounds stand between it and our memory and time."""

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.sctp import (
    AssociationClosed,
    AssociationState,
    ChannelClosedError,
    MessageReceived,
    Packet,
    SendBufferFullError,
    build_packet,
)
from stack.sctp.bundling import MAX_CONTROL_CHUNKS
from stack.sctp.chunks import (
    DataChunk,
    ForwardTsnChunk,
    HeartbeatChunk,
    InitChunk,
    ReconfigChunk,
    SackChunk,
    Skip,
    UnknownChunk,
)
from stack.sctp.chunks.data import FLAG_BEGIN, FLAG_UNORDERED
from stack.sctp.chunks.reconfig import OutgoingSsnResetRequest
from stack.sctp.rx.tsn_map import MAX_RANGES, MAX_TSN_AHEAD
from stack.sctp.tx.sender import MAX_OUTSTANDING_CHUNKS
from tests.sim.sctp import make_pair

WINDOW = 200_000


class Attacker:
    """Speaks for the peer of `victim` with its tags and its next TSN."""

    def __init__(self, **config):
        config = {"receive_window": WINDOW, "interleaving": False, "max_message_size": 100_000, **config}
        self.pair = make_pair(**config)
        self.victim = self.pair.b
        self.association = self.victim._association
        self.pair.drop = lambda sender, packet: True
        self.tag = self.association._tcb.local.tag
        self.tsn = self.association._tcb.receiver.tsn_map.cumulative + 1

    def send(self, *chunks):
        packet = build_packet(5000, 5000, self.tag, [chunk.serialize() for chunk in chunks])
        self.victim.handle_datagram(packet, self.pair.now)
        return [
            chunk
            for packet in self.victim.drain_transmits()
            for chunk in Packet.parse(packet, accept_zero_checksum=True).chunks
        ]

    def data(self, ahead, stream=0, ssn=0, flags=3, payload=b"x"):
        return DataChunk(flags, (self.tsn + ahead) & 0xFFFFFFFF, stream, ssn, 51, payload)

    @property
    def buffered(self):
        return self.association._tcb.receiver.buffered


def test_gaps_only():
    attacker = Attacker()
    for ahead in range(1, 5000, 2):
        attacker.send(attacker.data(ahead, ssn=ahead % 65536))
    tsns = attacker.association._tcb.receiver.tsn_map
    assert len(tsns.gaps(10**6)) == MAX_RANGES
    assert attacker.buffered <= WINDOW
    assert attacker.victim.counters["sctp.dropped_data_beyond_window"] > 0
    (sack,) = (chunk for chunk in attacker.send(attacker.data(1)) if isinstance(chunk, SackChunk))
    assert len(sack.serialize()) <= 1148
    assert attacker.victim.state is AssociationState.ESTABLISHED


def test_tsns_far_ahead():
    attacker = Attacker()
    for ahead in (MAX_TSN_AHEAD, MAX_TSN_AHEAD + 1, 1 << 20, (1 << 31) - 2):
        attacker.send(attacker.data(ahead))
    assert attacker.victim.counters["sctp.dropped_data_beyond_window"] == 4
    attacker.send(attacker.data(MAX_TSN_AHEAD - 1))
    assert attacker.victim.counters["sctp.dropped_data_beyond_window"] == 4


@pytest.mark.parametrize("unordered", [0, FLAG_UNORDERED])
def test_messages_that_never_end(unordered):
    """Every fragment is the next TSN and so always welcome, but none completes a message."""
    attacker = Attacker()
    for ahead in range(3000):
        attacker.send(attacker.data(ahead, stream=ahead, flags=FLAG_BEGIN | unordered, payload=bytes(1000)))
        assert attacker.association.state is AssociationState.ENDED or attacker.buffered <= 2 * WINDOW + 2000
    assert attacker.victim.state is AssociationState.ENDED
    (closed,) = (event for event in attacker.victim.drain_events() if isinstance(event, AssociationClosed))
    assert "unfinished messages" in closed.reason


@pytest.mark.parametrize("unordered", [0, FLAG_UNORDERED])
def test_a_message_beyond_the_maximum(unordered):
    attacker = Attacker()
    attacker.send(attacker.data(0, flags=FLAG_BEGIN | unordered, payload=bytes(1000)))
    for ahead in range(1, 200):
        attacker.send(attacker.data(ahead, flags=unordered, payload=bytes(1000)))
    (closed,) = (event for event in attacker.victim.drain_events() if isinstance(event, AssociationClosed))
    assert "a message of more than 100000 bytes" in closed.reason


def test_messages_that_wait_for_ever_for_their_turn():
    attacker = Attacker()
    for ahead in range(5000):
        attacker.send(attacker.data(ahead, ssn=1 + ahead))
        if attacker.victim.state is AssociationState.ENDED:
            break
        assert attacker.buffered <= 2 * WINDOW + 2000
    assert attacker.victim.state is AssociationState.ENDED


def test_a_peer_that_never_acknowledges():
    pair = make_pair(send_buffer=1_000_000, peer_max_message_size=0)
    channel = pair.b.open("x", pair.now)
    pair.run(1)
    pair.drop = lambda sender, packet: sender == 0
    with pytest.raises(SendBufferFullError):
        for _ in range(10_000):
            pair.b.send(channel, bytes(10_000), pair.now)
    pair.run(120)
    assert pair.b.state is AssociationState.ENDED
    assert pair.b._association.buffered_amount() == 0


def test_a_window_that_is_always_closed_is_probed_and_costs_nothing_more():
    pair = make_pair(peer_max_message_size=0, interleaving=False)
    channel = pair.b.open("x", pair.now)
    pair.run(1)
    association = pair.b._association
    pair.drop = lambda sender, packet: True
    pair.b.send(channel, bytes(100_000), pair.now)
    for _ in range(100):
        cumulative = association._tcb.sender.cumulative_tsn_ack & 0xFFFFFFFF
        packet = build_packet(5000, 5000, association._tcb.local.tag, [SackChunk(cumulative, 0).serialize()])
        pair.b.handle_datagram(packet, pair.now)
        pair.run(2)
    assert pair.b.state is AssociationState.ESTABLISHED, "a peer that answers is alive"
    before = len(pair.wire)
    pair.run(6)
    assert len(pair.wire) - before <= 6


@pytest.mark.parametrize("offset", [1, 1000, 1 << 30, -1, -(1 << 30)])
def test_sacks_that_lie_about_the_cumulative_tsn(offset):
    attacker = Attacker()
    sender = attacker.association._tcb.sender
    acked = sender.cumulative_tsn_ack
    attacker.send(SackChunk((sender.next_tsn - 1 + offset) & 0xFFFFFFFF, 1 << 20))
    assert sender.cumulative_tsn_ack == acked
    assert attacker.victim.counters["sctp.dropped_sack_refused"] == (offset > 0)


def test_sacks_that_lie_about_gaps_and_windows():
    attacker = Attacker(peer_max_message_size=0)
    channel = attacker.victim.open("x", attacker.pair.now)
    attacker.victim.send(channel, bytes(200_000), attacker.pair.now)
    sender = attacker.association._tcb.sender
    base = sender.cumulative_tsn_ack & 0xFFFFFFFF
    attacker.send(SackChunk(base, 0xFFFFFFFF, ((2, 65535),)))
    assert attacker.victim.counters["sctp.dropped_sack_refused"] == 1
    noise = random.Random(1)
    for _ in range(2000):
        outstanding = sender.next_tsn - sender.cumulative_tsn_ack - 1
        start = noise.randint(1, max(1, outstanding))
        end = noise.randint(start, max(start, outstanding))
        attacker.pair.network.clock.advance_to(attacker.pair.now + 0.001)
        attacker.send(SackChunk((sender.cumulative_tsn_ack) & 0xFFFFFFFF, 0xFFFFFFFF, ((start, end),)))
        attacker.victim.handle_timeout(attacker.pair.now)
        assert sender.outstanding_count <= MAX_OUTSTANDING_CHUNKS
        assert sender.flight_size >= 0
    everything = SackChunk((sender.next_tsn - 1) & 0xFFFFFFFF, 1 << 20)
    while sender.has_unacknowledged:
        attacker.send(everything)
        everything = SackChunk((sender.next_tsn - 1) & 0xFFFFFFFF, 1 << 20)
    assert sender.flight_size == 0


def test_streams_opened_for_ever():
    attacker = Attacker()
    for ahead in range(3000):
        attacker.send(attacker.data(ahead, stream=ahead * 7 % 65535))
    assert attacker.victim.counters["sctp.dropped_message_without_channel"] == 3000
    assert attacker.buffered == 0
    assert not attacker.association._tcb.receiver._reassembly._streams


def test_replies_to_one_packet_are_bounded():
    attacker = Attacker()
    replies = attacker.send(*[HeartbeatChunk(b"x")] * 300)
    assert len(replies) <= MAX_CONTROL_CHUNKS
    replies = attacker.send(*[UnknownChunk(0xC1, 0, bytes(20))] * 60)
    assert len(replies) <= MAX_CONTROL_CHUNKS


def test_forward_tsn_to_nowhere():
    attacker = Attacker()
    attacker.send(attacker.data(5, ssn=9))
    skips = tuple(Skip(stream, 32_000) for stream in range(200))
    attacker.send(ForwardTsnChunk((attacker.tsn + (1 << 30)) & 0xFFFFFFFF, skips))
    attacker.send(ForwardTsnChunk(attacker.tsn, skips))
    assert attacker.buffered == 0
    assert not attacker.association._tcb.receiver.tsn_map.has_gaps


def test_reset_requests_out_of_turn():
    attacker = Attacker()
    first = attacker.association._tcb.reset._expected_sequence
    for sequence in (first + 5, first - 1, first, first, first + 2):
        request = OutgoingSsnResetRequest(sequence & 0xFFFFFFFF, 0, (attacker.tsn - 1) & 0xFFFFFFFF, (1, 2, 3))
        (reply,) = attacker.send(ReconfigChunk((request,)))
        (response,) = reply.parameters
        assert response.sequence == sequence & 0xFFFFFFFF
    assert attacker.association._tcb.reset._expected_sequence == first + 1


def test_inits_in_an_established_association_change_nothing():
    attacker = Attacker()
    for number in range(50):
        init = InitChunk(number + 1, 1000, 1, 1, 5).serialize()
        attacker.victim.handle_datagram(build_packet(5000, 5000, 0, [init]), attacker.pair.now)
    assert len(attacker.victim.drain_transmits()) == 50
    assert attacker.association._tcb.local.tag == attacker.tag


KINDS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 64, 130, 192, 194, 99, 200]


@settings(max_examples=150, deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(KINDS), st.integers(0, 15), st.binary(max_size=40)), min_size=1, max_size=3
        ),
        max_size=8,
    ),
)
def test_any_chunks_with_the_right_tag_never_raise(interleaving, packets):
    attacker = Attacker(interleaving=interleaving)
    attacker.victim.open("x", attacker.pair.now)
    for chunks in packets:
        wires = [UnknownChunk(kind, flags, value).serialize() for kind, flags, value in chunks]
        attacker.victim.handle_datagram(build_packet(5000, 5000, attacker.tag, wires), attacker.pair.now)
        attacker.pair.network.clock.advance_to(attacker.pair.now + 0.5)
        attacker.victim.handle_timeout(attacker.pair.now)
        attacker.victim.drain_transmits()
        attacker.victim.drain_events()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_bent_packets_never_raise_and_never_bend_a_message(seed, flips):
    """Packets of a real conversation with flipped bytes and, to get past it, a right checksum."""
    noise = random.Random(seed)
    pair = make_pair(seed=seed % 7, interleaving=bool(seed % 2), zero_checksum=False)

    def bend(sender, packet):
        if noise.random() < 0.3 and flips:
            bent = bytearray(packet)
            for _ in range(noise.randint(1, flips)):
                bent[noise.randrange(4, len(bent))] ^= 1 << noise.randrange(8)
            body = bytes(bent[12:])
            tag = int.from_bytes(bent[4:8], "big")
            pair.ends[1 - sender].handle_datagram(build_packet(5000, 5000, tag, [body]), pair.now)
            pair.ends[1 - sender].drain_transmits()
        return noise.random() < 0.1

    channel = pair.a.open("x", pair.now)
    pair.drop = bend
    for _ in range(10):
        if pair.a.state is AssociationState.ESTABLISHED:
            with suppress(ChannelClosedError):
                pair.a.send(channel, bytes(1500), pair.now)
        pair.run(0.3)
    assert all(isinstance(event.data, str | bytes) for event in pair.of(1, MessageReceived))
