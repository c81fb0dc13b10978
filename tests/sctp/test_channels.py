import pytest

from stack.core.errors import LocalError
from stack.sctp import (
    MAX_CHANNELS,
    AssociationClosed,
    AssociationState,
    AssociationUp,
    BufferedAmountLow,
    ChannelClosed,
    ChannelClosedError,
    ChannelOpened,
    ChannelUnavailableError,
    MessageReceived,
    MessageTooBigError,
    Packet,
    SendBufferFullError,
)
from stack.sctp.chunks import IDataChunk, ReconfigChunk
from stack.sctp.chunks.data import FLAG_UNORDERED
from stack.sctp.chunks.reconfig import ReconfigResponse
from stack.sctp.dcep import PayloadProtocol
from tests.sim.pair import unordered
from tests.sim.sctp import make_pair


def received(pair, index, channel=None):
    events = pair.of(index, MessageReceived)
    return [event.data for event in events if channel is None or event.channel == channel]


def test_a_channel_is_opened_and_told_to_the_peer():
    pair = make_pair()
    channel = pair.a.open("transcript ⚡", pair.now, protocol="v1", ordered=False, max_retransmits=3, priority=512)
    pair.run(1)
    told = ("transcript ⚡", "v1", False, 3, None, 512, False)
    assert pair.of(0, ChannelOpened) == [ChannelOpened(channel, *told, by_peer=False)]
    assert pair.of(1, ChannelOpened) == [ChannelOpened(channel, *told, by_peer=True)]


def test_identifiers_are_even_for_the_dtls_client_and_odd_for_the_server():
    pair = make_pair()
    assert [pair.a.open("a", pair.now) for _ in range(3)] == [0, 2, 4]
    assert [pair.b.open("b", pair.now) for _ in range(3)] == [1, 3, 5]


@pytest.mark.parametrize("interleaving", [True, False])
@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_kind_and_size_of_message_arrives(interleaving, loss, ordered):
    pair = make_pair(unordered(loss=loss), interleaving=interleaving, peer_max_message_size=262_144)
    channel = pair.a.open("x", pair.now, ordered=ordered)
    sizes = (0, 1, 2, 3, 1000, 1127, 1128, 1129, 1132, 1133, 5000, 65_536, 262_144)
    sent = [bytes([size % 251]) * size for size in sizes] + ["", "ß", "text" * 300]
    for data in sent:
        pair.a.send(channel, data, pair.now)
    pair.run(30)
    if ordered:
        assert received(pair, 1) == sent
    else:
        assert sorted(received(pair, 1), key=repr) == sorted(sent, key=repr)


def test_messages_before_the_association_is_up_wait_for_it():
    pair = make_pair(up=False)
    channel = pair.a.open("early", pair.now)
    pair.a.send(channel, "hello", pair.now)
    assert pair.a.buffered_amount(channel) > 0
    pair.a.start(pair.now)
    pair.run(1)
    assert received(pair, 1) == ["hello"]
    assert [type(event) for event in pair.events[0]][:2] == [AssociationUp, ChannelOpened]


def test_pre_negotiated_channels_need_no_message():
    pair = make_pair()
    pair.run(10)  # COOKIE ACKs that nothing has answered are repeated for a while
    for end in pair.ends:
        assert end.open("agreed", pair.now, negotiated_id=7) == 7
    packets = len(pair.wire)
    pair.run(1)
    assert len(pair.wire) == packets
    assert [event.negotiated for event in pair.of(0, ChannelOpened) + pair.of(1, ChannelOpened)] == [True, True]
    pair.a.send(7, "ping", pair.now)
    pair.b.send(7, "pong", pair.now)
    pair.run(1)
    assert (received(pair, 0), received(pair, 1)) == (["pong"], ["ping"])
    assert pair.a.open("next", pair.now) == 0
    assert pair.a.open("agreed too", pair.now, negotiated_id=2) == 2
    assert pair.a.open("skips what is taken", pair.now) == 4


def test_a_channel_that_the_descriptions_agreed_on_is_found_by_its_label():
    pair = make_pair(up=False)
    pair.a.open("events", pair.now, negotiated_id=0)
    pair.b.open("events", pair.now, negotiated_id=0, by_peer=True)
    pair.a.open("other", pair.now)
    assert (pair.a.find_agreed("events"), pair.a.find_agreed("other"), pair.b.find_agreed("x")) == (0, None, None)
    pair.a.start(pair.now)
    pair.run(1)
    assert [event.by_peer for event in pair.of(0, ChannelOpened)] == [False, False]
    assert next((event.label, event.by_peer) for event in pair.of(1, ChannelOpened)) == ("events", True)
    pair.a.close_channel(0, pair.now)
    assert pair.a.find_agreed("events") is None


def test_wrong_use_is_said_clearly():
    pair = make_pair(send_buffer=100_000, peer_max_message_size=1000)
    channel = pair.a.open("x", pair.now)
    with pytest.raises(MessageTooBigError):
        pair.a.send(channel, bytes(1001), pair.now)
    with pytest.raises(MessageTooBigError):
        pair.a.send(channel, "ß" * 501, pair.now)
    with pytest.raises(ChannelClosedError):
        pair.a.send(99, "x", pair.now)
    with pytest.raises(LocalError):
        pair.a.open("both", pair.now, max_retransmits=1, max_lifetime_ms=1)
    with pytest.raises(ChannelUnavailableError):
        pair.a.open("taken", pair.now, negotiated_id=channel)
    with pytest.raises(ChannelUnavailableError):
        pair.a.open("no such", pair.now, negotiated_id=65535)
    with pytest.raises(LocalError):
        pair.a.open("x" * 65536, pair.now)
    with pytest.raises(SendBufferFullError):
        for _ in range(1000):
            pair.a.send(channel, bytes(1000), pair.now)
    pair.run(10)
    pair.a.send(channel, "there is room again", pair.now)


def test_buffered_amount_and_its_threshold():
    pair = make_pair()
    channel = pair.a.open("x", pair.now)
    pair.run(1)
    pair.a.set_low_threshold(channel, 10_000)
    for _ in range(10):
        pair.a.send(channel, bytes(10_000), pair.now)
    before = pair.a.buffered_amount(channel)
    assert before > 50_000
    assert not pair.of(0, BufferedAmountLow)
    pair.run_until(lambda: pair.of(0, BufferedAmountLow))
    assert pair.a.buffered_amount(channel) <= 10_000
    pair.run(5)
    assert pair.a.buffered_amount(channel) == 0
    assert pair.of(0, BufferedAmountLow) == [BufferedAmountLow(channel)]


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("interleaving", [True, False])
def test_closing_delivers_first_and_frees_the_identifier(loss, interleaving):
    pair = make_pair(unordered(loss=loss), interleaving=interleaving)
    for turn in range(4):
        channel = pair.a.open(f"turn {turn}", pair.now)
        assert channel == 0
        pair.a.send(channel, bytes(30_000), pair.now)
        pair.a.send(channel, f"{turn}", pair.now)
        pair.a.close_channel(channel, pair.now)
        with pytest.raises(ChannelClosedError):
            pair.a.send(channel, "late", pair.now)
        pair.run_until(lambda turn=turn: all(len(pair.of(i, ChannelClosed)) == turn + 1 for i in (0, 1)))
    assert received(pair, 1)[1::2] == ["0", "1", "2", "3"]
    assert len(received(pair, 1)) == 8


def reset_response(packet):
    chunks = Packet.parse(packet, accept_zero_checksum=True).chunks
    return any(
        isinstance(p, ReconfigResponse) for c in chunks if isinstance(c, ReconfigChunk) for p in c.parameters
    )


def closed_by_a_whose_answer_is_lost(**config):
    """`a` has closed channel 0 and considers it closed; `b` still waits for the answer to its own reset."""
    pair = make_pair(**config)
    channel = pair.a.open("first", pair.now)
    pair.a.send(channel, "one", pair.now)
    pair.run(0.5)
    pair.b.send(channel, "uno", pair.now)
    pair.run(0.5)
    pair.a.close_channel(channel, pair.now)
    pair.drop = lambda sender, packet: sender == 0 and reset_response(packet)
    pair.run_until(lambda: pair.of(0, ChannelClosed))
    assert not pair.of(1, ChannelClosed)
    return pair


@pytest.mark.parametrize("interleaving", [True, False])
@pytest.mark.parametrize("answer", ["lost", "late", "with the OPEN"])
def test_a_channel_that_is_opened_again_before_our_reset_is_answered(interleaving, answer):
    pair = closed_by_a_whose_answer_is_lost(interleaving=interleaving)
    if answer == "with the OPEN":
        pair.drop = None
        while not (requests := pair.b.drain_transmits()):
            pair.network.clock.advance_to(pair.b.poll_timeout())
            pair.b.handle_timeout(pair.now)
        pair.a.handle_datagrams(requests, pair.now)
        late = list(pair.a.drain_transmits())
        assert pair.a.open("second", pair.now) == 0
        pair.b.handle_datagrams([*pair.a.drain_transmits(), *late], pair.now)
    else:
        assert pair.a.open("second", pair.now) == 0
    pair.a.send(0, "two", pair.now)
    pair.run(0.1)
    if answer == "late":
        pair.drop = None
    pair.run(30)
    assert [event.label for event in pair.of(1, ChannelOpened)] == ["first", "second"]
    assert pair.of(1, ChannelClosed) == [ChannelClosed(0)]
    assert received(pair, 1) == ["one", "two"]
    pair.b.send(0, "due", pair.now)
    pair.run(1)
    assert received(pair, 0) == ["uno", "due"], "our stream was reset, too"
    assert pair.of(0, ChannelClosed) == pair.of(1, ChannelClosed) == [ChannelClosed(0)]
    assert pair.b.counters["sctp.dcep_open_before_reset_response"] == 1
    pair.a.close_channel(0, pair.now)
    pair.drop = None
    pair.run(5)
    assert len(pair.of(0, ChannelClosed)) == len(pair.of(1, ChannelClosed)) == 2


def test_the_other_channels_of_an_answered_reset_are_closed_with_it():
    pair = make_pair()
    for label in "abc":
        pair.a.open(label, pair.now)
    pair.run(1)
    for channel in (0, 2, 4):
        pair.a.close_channel(channel, pair.now)
    pair.drop = lambda sender, packet: sender == 0 and reset_response(packet)
    pair.run_until(lambda: len(pair.of(0, ChannelClosed)) == 3)
    pair.a.open("again", pair.now)
    pair.run(5)
    assert sorted(event.channel for event in pair.of(1, ChannelClosed)) == [0, 2, 4]
    assert pair.of(1, ChannelOpened)[-1].label == "again"


def test_a_peer_that_does_not_wait_for_our_reset_keeps_its_new_channel():
    """Another reset of ours is under way, so this one was not even requested when the identifier comes again."""
    pair = make_pair()
    pair.a.open("first", pair.now)
    pair.a.open("other", pair.now)
    pair.run(1)
    pair.drop = lambda sender, packet: sender == 0 and reset_response(packet)
    pair.b.close_channel(2, pair.now)
    pair.run(0.05)
    pair.a.close_channel(0, pair.now)
    pair.run(0.1)
    assert pair.of(0, ChannelClosed) == [ChannelClosed(2)]
    del pair.a._channels[0]  # a peer that is content with the answer to its own reset
    pair.a.open("second", pair.now)
    pair.a.send(0, "two", pair.now)
    pair.run(1)
    pair.drop = None
    pair.b.send(0, "due", pair.now)
    pair.run(30)
    assert pair.of(1, ChannelOpened)[-1].label == "second"
    assert received(pair, 1) == ["two"]
    assert received(pair, 0) == ["due"]
    assert 0 not in [event.channel for event in pair.of(0, ChannelClosed)]


@pytest.mark.parametrize("seed", range(6))
def test_channels_come_and_go_under_loss_and_no_message_is_lost(seed):
    pair = make_pair(unordered(loss=0.1, jitter=0.03), seed=seed)
    for turn in range(20):
        channel = pair.a.open(f"{turn}", pair.now)
        pair.a.send(channel, f"{turn}", pair.now)
        pair.run_until(lambda turn=turn: len(received(pair, 1)) == turn + 1, 120)
        pair.b.send(channel, f"{turn}", pair.now)
        pair.run_until(lambda turn=turn: len(received(pair, 0)) == turn + 1, 120)
        pair.a.close_channel(channel, pair.now)
        pair.run_until(lambda turn=turn: len(pair.of(0, ChannelClosed)) == turn + 1, 120)
    assert received(pair, 0) == received(pair, 1) == [str(turn) for turn in range(20)]
    pair.run(60)
    assert len(pair.of(1, ChannelClosed)) == 20


def test_an_unordered_channel_is_so_from_an_acknowledgement_of_any_length_on():
    """Pion's DATA_CHANNEL_ACK is four bytes long."""
    pair = make_pair()
    pair.b._association.send(0, PayloadProtocol.DCEP, b"\2\0\0\0", pair.now)
    channel = pair.a.open("x", pair.now, ordered=False)
    pair.drop = lambda sender, packet: sender == 0
    pair.run(0.1)
    pair.drop = None
    pair.a.send(channel, "x", pair.now)
    (packet,) = pair.a.drain_transmits()
    (chunk,) = [c for c in Packet.parse(packet, accept_zero_checksum=True).chunks if isinstance(c, IDataChunk)]
    assert chunk.flags & FLAG_UNORDERED


def test_both_sides_may_close_at_once():
    pair = make_pair()
    channels = [pair.a.open(str(number), pair.now) for number in range(5)]
    pair.run(1)
    for channel in channels:
        pair.a.close_channel(channel, pair.now)
        pair.b.close_channel(channel, pair.now)
    pair.run(5)
    for index in (0, 1):
        assert sorted(event.channel for event in pair.of(index, ChannelClosed)) == channels


def test_the_peer_closes():
    pair = make_pair()
    channel = pair.a.open("x", pair.now)
    pair.run(1)
    pair.b.close_channel(channel, pair.now)
    pair.run(1)
    assert pair.of(0, ChannelClosed) == pair.of(1, ChannelClosed) == [ChannelClosed(channel)]
    with pytest.raises(ChannelClosedError):
        pair.a.send(channel, "x", pair.now)


def test_the_end_of_the_association_closes_the_channels():
    pair = make_pair()
    channel = pair.a.open("x", pair.now)
    pair.run(1)
    pair.b.abort(pair.now, "bye")
    pair.run(1)
    for index in (0, 1):
        assert pair.of(index, ChannelClosed) == [ChannelClosed(channel)]
        assert len(pair.of(index, AssociationClosed)) == 1
    assert pair.a.state is AssociationState.ENDED
    with pytest.raises(ChannelUnavailableError):
        pair.a.open("y", pair.now)


def test_twenty_channels_at_once_from_both_sides():
    pair = make_pair(unordered(0.05, 0.02, loss=0.05))
    expected = {}
    for number in range(20):
        index = number % 2
        end = pair.ends[index]
        channel = end.open(f"{number}", pair.now, ordered=number % 3 > 0)
        expected[(1 - index, channel)] = [f"{number}:{turn}" * 50 for turn in range(20)]
        for data in expected[(1 - index, channel)]:
            end.send(channel, data, pair.now)
    pair.run(30)
    for (index, channel), sent in expected.items():
        assert sorted(received(pair, index, channel)) == sorted(sent)


def test_too_many_channels_of_the_peer_are_closed_again():
    pair = make_pair()
    for number in range(5):
        pair.b.open("mine", pair.now, negotiated_id=60_001 + 2 * number)
    for _ in range(MAX_CHANNELS):
        pair.a.open("flood", pair.now)
    with pytest.raises(ChannelUnavailableError):
        pair.a.open("one too many", pair.now)
    pair.run(20)
    assert len(pair.of(1, ChannelOpened)) == MAX_CHANNELS
    assert pair.b.counters["sctp.dropped_dcep_too_many_channels"] == 5
    assert len(pair.of(0, ChannelClosed)) == 5


def test_a_second_open_on_a_stream_in_use_ends_the_channel():
    pair = make_pair()
    pair.b.open("mine", pair.now, negotiated_id=0)
    pair.a.open("yours", pair.now)
    pair.run(2)
    assert pair.b.counters["sctp.dropped_dcep_stream_in_use"] == 1
    assert pair.of(0, ChannelClosed) == pair.of(1, ChannelClosed) == [ChannelClosed(0)]


def test_a_peer_that_takes_our_half_of_the_identifiers_is_left_it():
    """werift chooses odd or even by its part in ICE, so that both sides may want the same half."""
    pair = make_pair()
    pair.a._next_id = 1
    pair.a.open("first", pair.now)
    pair.run(1)
    assert pair.b.counters["sctp.dcep_wrong_parity"] == 1
    for _ in range(5):
        pair.a.open("theirs", pair.now)
        pair.b.open("ours", pair.now)
    pair.run(1)
    assert {event.channel for event in pair.of(0, ChannelOpened) if event.by_peer} == {0, 2, 4, 6, 8}
    assert {event.channel for event in pair.of(1, ChannelOpened) if event.by_peer} == {1, 3, 5, 7, 9, 11}
    assert not pair.of(0, ChannelClosed)


def test_messages_without_a_channel_and_of_unknown_kind_are_dropped():
    pair = make_pair()
    send = pair.a._association.send
    send(500, 51, b"nobody listens", pair.now)
    channel = pair.a.open("x", pair.now)
    send(channel, 52, b"deprecated", pair.now)
    send(channel, 50, b"\x03nonsense", pair.now)
    send(channel, 51, b"\xff\xfe", pair.now)
    pair.run(1)
    assert pair.b.counters["sctp.dropped_message_without_channel"] == 1
    assert pair.b.counters["sctp.dropped_message_unknown_protocol"] == 1
    assert pair.b.counters["sctp.dropped_dcep_malformed"] == 1
    assert received(pair, 1) == ["��"]


def test_a_program_that_does_not_read_narrows_the_window():
    pair = make_pair(receive_window=100_000, peer_max_message_size=0)
    channel = pair.a.open("x", pair.now)
    pair.run(1)
    seen = 0

    def read(limit):
        nonlocal seen
        seen = min(limit, sum(map(len, received(pair, 1))))
        pair.b.set_unread(sum(map(len, received(pair, 1))) - seen, pair.now)

    for _ in range(50):
        pair.a.send(channel, bytes(10_000), pair.now)
    for _ in range(1000):
        pair.run(0.004)
        read(0)
    arrived = sum(map(len, received(pair, 1)))
    assert 50_000 <= arrived <= 150_000
    for _ in range(400):
        pair.run(0.05)
        read(10**9)
    assert sum(map(len, received(pair, 1))) == 500_000
    assert pair.a.state is AssociationState.ESTABLISHED
