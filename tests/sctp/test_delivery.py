"""Whatever the network does: reliable channels deliver what was sent, unreliable ones nothing else."""

import random
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.sctp import AssociationState, MessageReceived, Packet
from stack.sctp.chunks import ForwardTsnChunk, IForwardTsnChunk, SackChunk
from stack.sctp.procedures.user_data import flush
from tests.sim.pair import unordered
from tests.sim.sctp import make_pair

NETWORKS = st.builds(
    unordered,
    delay=st.floats(0.001, 0.2),
    jitter=st.sampled_from([0.0, 0.001, 0.05, 0.3]),
    loss=st.sampled_from([0.0, 0.02, 0.1, 0.25]),
    duplicate=st.sampled_from([0.0, 0.1]),
    bytes_per_second=st.sampled_from([None, 50_000, 1_000_000]),
)
KINDS = st.sampled_from(
    [
        {},
        {"ordered": False},
        {"max_retransmits": 0},
        {"max_retransmits": 2, "ordered": False},
        {"max_lifetime_ms": 100},
        {"max_lifetime_ms": 300, "ordered": False},
    ]
)
PLANS = st.lists(
    st.tuples(
        st.integers(0, 1),
        KINDS,
        st.lists(st.sampled_from([0, 1, 30, 1100, 1132, 2500, 20_000]), min_size=1, max_size=12),
        st.sampled_from([64, 256, 1024]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NETWORKS, PLANS, st.integers(0, 1000), st.booleans())
def test_whatever_the_network_does(model, plans, seed, interleaving):
    pair = make_pair(model, seed, up=False, interleaving=interleaving)
    pair.a.start(pair.now)
    noise = random.Random(seed)
    sent = {}
    queue = []
    for number, (index, kind, sizes, priority) in enumerate(plans):
        channel = pair.ends[index].open(f"{number}", pair.now, priority=priority, **kind)
        messages = [noise.randbytes(size) for size in sizes]
        sent[(index, channel)] = (kind, messages)
        queue += [(index, channel, message) for message in messages]
    noise.shuffle(queue)
    wanted = {key: [] for key in sent}
    for index, channel, message in queue:
        wanted[(index, channel)].append(message)
        pair.ends[index].send(channel, message, pair.now)
        if noise.random() < 0.3:
            pair.run(noise.random() * 0.2)
    pair.run(300)
    assert pair.a.state is pair.b.state is AssociationState.ESTABLISHED
    for (index, channel), (kind, _) in sent.items():
        messages = wanted[(index, channel)]
        got = [event.data for event in pair.of(1 - index, MessageReceived) if event.channel == channel]
        reliable = "max_retransmits" not in kind and "max_lifetime_ms" not in kind
        if reliable and kind.get("ordered", True):
            assert got == messages
        elif reliable:
            assert sorted(got) == sorted(messages)
        else:
            left = list(messages)
            for data in got:
                assert data in left, "neither a wrong byte nor a message twice"
                left.remove(data)
            if kind.get("ordered", True):
                rest = iter(messages)
                assert all(any(data == each for each in rest) for data in got), "in order"
        assert pair.ends[index].buffered_amount(channel) == 0
    for end in pair.ends:
        assert end._association._tcb.sender.outstanding_count == 0
        assert end._association._tcb.receiver.buffered == 0


@pytest.mark.parametrize("interleaving", [True, False])
def test_a_large_transfer_each_way_with_a_hash(interleaving):
    pair = make_pair(unordered(0.05, 0.002, loss=0.02), 7, interleaving=interleaving, peer_max_message_size=0)
    digests = []
    for index, end in enumerate(pair.ends):
        noise = random.Random(index)
        channel = end.open("file", pair.now)
        digest = sha256()
        for _ in range(20):
            data = noise.randbytes(100_000)
            digest.update(data)
            end.send(channel, data, pair.now)
        digests.append(digest.hexdigest())
    pair.run_until(lambda: len(pair.of(0, MessageReceived)) == len(pair.of(1, MessageReceived)) == 20, 200)
    for index in (0, 1):
        got = sha256(b"".join(event.data for event in pair.of(1 - index, MessageReceived)))
        assert got.hexdigest() == digests[index]


def test_tsns_and_ssns_wrap():
    pair = make_pair(up=False, interleaving=False)
    for end in pair.ends:
        # The numbers come from the entropy; this is the one place where they must be chosen.
        association = end._association
        association._tcb.local = type(association._tcb.local)(association._tcb.local.tag, 0xFFFFFFF0)
        association._tcb.sender = association._tcb.new_sender()
    pair.a.start(pair.now)
    pair.run(1)
    channel = pair.a.open("x", pair.now)
    pair.network.link(pair.left, pair.right, unordered(loss=0.05))
    total = 66_000
    for number in range(total):
        pair.a.send(channel, str(number), pair.now)
    pair.run_until(lambda: len(pair.events[1]) >= total + 2, 600)
    assert [event.data for event in pair.of(1, MessageReceived)] == [str(number) for number in range(total)]


def test_unreliable_messages_are_given_up_and_those_behind_them_are_not_held_back():
    for interleaving in (True, False):
        pair = make_pair(interleaving=interleaving)
        channel = pair.a.open("x", pair.now, max_retransmits=0)
        pair.run(1)
        pair.drop = lambda sender, packet: sender == 0
        pair.a.send(channel, "lost", pair.now)
        pair.a.send(channel, bytes(5000), pair.now)
        pair.pump()
        pair.drop = None
        began = pair.now
        pair.a.send(channel, "kept", pair.now)
        pair.run_until(lambda pair=pair: pair.of(1, MessageReceived))
        assert pair.now - began < 0.2
        pair.run(2)
        assert [event.data for event in pair.of(1, MessageReceived)] == ["kept"]
        kind = IForwardTsnChunk if interleaving else ForwardTsnChunk
        chunks = [c for _, p in pair.wire for c in Packet.parse(p, accept_zero_checksum=True).chunks]
        assert any(isinstance(chunk, kind) for chunk in chunks)


def test_a_lifetime_ends_what_was_begun():
    """A long message expires half sent: the peer has every fragment that was sent, and must not wait for more."""
    for interleaving in (True, False):
        pair = make_pair(unordered(bytes_per_second=20_000), interleaving=interleaving)
        channel = pair.a.open("x", pair.now, max_lifetime_ms=300)
        pair.run(1)
        pair.a.send(channel, bytes(60_000), pair.now)
        pair.run(5)
        pair.a.send(channel, "after", pair.now)
        pair.run(5)
        assert [event.data for event in pair.of(1, MessageReceived)] == ["after"]
        assert pair.b._association._tcb.receiver.buffered == 0


def test_a_peer_without_partial_reliability_gets_everything():
    pair = make_pair(unordered(loss=0.2), b={"partial_reliability": False})
    channel = pair.a.open("x", pair.now, max_retransmits=0)
    for number in range(50):
        pair.a.send(channel, f"{number}", pair.now)
    pair.run(60)
    assert [event.data for event in pair.of(1, MessageReceived)] == [str(number) for number in range(50)]


# --- how quick it is: virtual time, so these are exact -----------------------------------------------------


def test_a_lost_last_message_is_probed_for_in_about_two_round_trips():
    pair = make_pair(unordered(0.05))
    channel = pair.a.open("x", pair.now)
    for _ in range(10):
        pair.a.send(channel, "warm", pair.now)
        pair.run(0.5)
    pair.drop = lambda sender, packet: sender == 0
    pair.a.send(channel, "tail", pair.now)
    pair.pump()
    pair.drop = None
    began = pair.now
    pair.run_until(lambda: pair.of(1, MessageReceived)[-1].data == "tail")
    assert pair.now - began < 0.28


def test_a_loss_in_the_middle_costs_one_round_trip_more():
    pair = make_pair(unordered(0.05))
    channel = pair.a.open("x", pair.now)
    for _ in range(10):
        pair.a.send(channel, "warm", pair.now)
        pair.run(0.5)
    began = pair.now
    count = 0

    def drop_second(sender, packet):
        nonlocal count
        count += sender == 0
        return sender == 0 and count == 2

    pair.drop = drop_second
    for number in range(6):
        pair.a.send(channel, f"{number}", pair.now)
    pair.run_until(lambda: pair.of(1, MessageReceived)[-1].data == "5")
    assert pair.now - began == pytest.approx(0.15, abs=0.005)


def test_small_messages_are_acknowledged_at_once_and_bulk_every_second_packet():
    pair = make_pair(unordered(0.02), peer_max_message_size=0)
    channel = pair.a.open("x", pair.now)
    pair.run(1)
    pair.wire.clear()
    pair.a.send(channel, "small", pair.now)
    pair.run(0.041)
    assert [index for index, _ in pair.wire] == [0, 1]
    pair.wire.clear()
    pair.a.send(channel, bytes(200_000), pair.now)
    pair.run(5)
    sacks = sum(index for index, _ in pair.wire)
    data = len(pair.wire) - sacks
    assert data / 2 <= sacks <= data / 2 + 12


def test_reordering_alone_costs_few_retransmissions():
    pair = make_pair(unordered(0.05, jitter=0.02), peer_max_message_size=0)
    channel = pair.a.open("x", pair.now)
    for _ in range(10):
        pair.a.send(channel, bytes(50_000), pair.now)
    pair.run(30)
    assert len(pair.of(1, MessageReceived)) == 10
    duplicates = pair.b.counters["sctp.dropped_data_duplicate"]
    assert duplicates < 25, f"{duplicates} of 450 packets for nothing"


def test_a_small_message_does_not_wait_behind_a_large_one_if_messages_interleave():
    waits = {}
    for interleaving in (True, False):
        pair = make_pair(
            unordered(0.02, bytes_per_second=100_000), interleaving=interleaving, peer_max_message_size=0
        )
        bulk, small = pair.a.open("bulk", pair.now), pair.a.open("small", pair.now)
        pair.run(1)
        pair.a.send(bulk, bytes(200_000), pair.now)
        began = pair.now
        pair.a.send(small, "now!", pair.now)
        arrived = pair.events[1]
        pair.run_until(lambda seen=arrived, small=small: MessageReceived(small, "now!") in seen)
        waits[interleaving] = pair.now - began
    assert waits[True] < 0.3 < 1.5 < waits[False]


def test_a_priority_of_four_gets_four_times_the_share():
    pair = make_pair(unordered(0.02, bytes_per_second=100_000), peer_max_message_size=0)
    high, low = pair.a.open("high", pair.now, priority=1024), pair.a.open("low", pair.now, priority=256)
    for _ in range(100):
        for channel in (low, high):
            pair.a.send(channel, bytes(5_000), pair.now)
    pair.run(4)
    counts = [sum(event.channel == channel for event in pair.of(1, MessageReceived)) for channel in (high, low)]
    assert 3 < counts[0] / counts[1] < 5


def test_a_reneging_peer_gets_again_what_it_forgot():
    pair = make_pair(interleaving=False)
    channel = pair.a.open("x", pair.now)
    pair.run(1)
    sender = pair.a._association._tcb.sender
    pair.drop = lambda index, packet: True
    first = sender.next_tsn
    for number in range(5):
        pair.a.send(channel, f"{number}", pair.now)
    pair.pump()
    sender.handle_sack(SackChunk((first - 1) & 0xFFFFFFFF, 100_000, ((2, 5),)), pair.now + 0.02)
    sender.handle_sack(SackChunk((first - 1) & 0xFFFFFFFF, 100_000), pair.now + 0.04)
    flush(pair.a._association._tcb, pair.now + 0.04)
    pair.drop = None
    pair.run(5)
    assert [event.data for event in pair.of(1, MessageReceived)] == ["0", "1", "2", "3", "4"]
