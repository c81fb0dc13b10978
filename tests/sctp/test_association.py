import pytest

from stack.core.errors import ParseError
from stack.sctp import (
    Association,
    AssociationClosed,
    AssociationEndedError,
    AssociationRestarted,
    AssociationState,
    AssociationUp,
    Packet,
    SctpConfig,
    UserMessage,
    build_packet,
)
from stack.sctp.chunks import (
    AbortChunk,
    CookieAckChunk,
    CookieEchoChunk,
    DataChunk,
    ErrorChunk,
    HeartbeatAckChunk,
    HeartbeatChunk,
    InitAckChunk,
    InitChunk,
    SackChunk,
    ShutdownCompleteChunk,
    UnknownChunk,
)
from stack.sctp.chunks.init_parameters import UnrecognizedParameter
from stack.sctp.chunks.tlv import RawParameter
from stack.sctp.tx.rto import RtoEstimator
from tests.sim.clock import START
from tests.sim.entropy import entropy
from tests.sim.pair import unordered
from tests.sim.sctp import SctpPair, make_associations

CLIENT, SERVER = SctpConfig(is_dtls_client=True), SctpConfig(is_dtls_client=False)


def read(packet):
    return Packet.parse(packet, accept_zero_checksum=True)


def chunks_sent(pair, index):
    return [chunk for sender, packet in pair.wire if sender == index for chunk in read(packet).chunks]


def tag_towards(pair, index):
    """The verification tag in packets that `index` receives."""
    sent = [packet for sender, packet in pair.wire if sender == 1 - index]
    return read(sent[-1]).verification_tag


def inject(pair, index, *chunks, tag=None):
    """Hand a made-up packet to one end."""
    tag = tag_towards(pair, index) if tag is None else tag
    pair.ends[index].handle_datagram(build_packet(5000, 5000, tag, [c.serialize() for c in chunks]), pair.now)
    pair.pump()


# --- set-up ------------------------------------------------------------------------------------------------


def test_the_handshake_measures_the_round_trip_so_that_the_first_message_need_not_wait_a_second_when_lost():
    pair = make_associations(unordered(delay=0.05))
    dropped = []
    pair.drop = lambda sender, packet: not dropped and sender == 0 and not dropped.append(packet)
    began = pair.now
    pair.a.send(0, 51, b"first", pair.now)
    pair.run_until(lambda: pair.of(1, UserMessage))
    assert len(dropped) == 1
    assert pair.now - began < 0.5, "the round trip is 0.1 s, RTO.Initial 1 s"


def test_a_round_trip_of_another_protocol_moves_what_waits_for_the_first_answer():
    pair = make_associations(unordered(delay=0.02), up=False)
    dropped = []
    pair.drop = lambda sender, packet: len(dropped) < 1 and not dropped.append(packet)
    pair.a.start(pair.now)
    began = pair.now
    pair.a.set_rtt_hint(0.04, pair.now)
    pair.run_until(lambda: pair.of(0, AssociationUp))
    assert len(dropped) == 1
    assert pair.now - began < 0.4, "RTO.Initial is 1 s"
    pair.a.send(0, 51, b"word", pair.now)
    before = pair.a.poll_timeout()
    pair.a.set_rtt_hint(5.0, pair.now)
    assert pair.a.poll_timeout() == before, "it has measured for itself"


def test_four_packets_set_it_up():
    pair = make_associations()
    assert pair.a.state is pair.b.state is AssociationState.ESTABLISHED
    assert [type(chunk).__name__ for _, p in pair.wire for chunk in read(p).chunks] == [
        "InitChunk",
        "InitAckChunk",
        "CookieEchoChunk",
        "CookieAckChunk",
    ]
    assert pair.events == ([AssociationUp(65535)], [AssociationUp(65535)])


def test_data_rides_with_cookie_echo():
    pair = make_associations(up=False)
    pair.a.send(0, 51, b"early", pair.now)
    pair.a.start(pair.now)
    pair.run_until(lambda: pair.of(1, UserMessage))
    assert pair.now - START == pytest.approx(0.03)  # one and a half round trips
    assert pair.of(1, UserMessage) == [UserMessage(0, 51, b"early")]


def test_both_sides_may_start():
    pair = make_associations(up=False)
    pair.a.start(pair.now)
    pair.b.start(pair.now)
    pair.run(5)
    assert pair.a.state is pair.b.state is AssociationState.ESTABLISHED
    assert pair.events == ([AssociationUp(65535)], [AssociationUp(65535)])
    for sender, receiver in ((pair.a, 1), (pair.b, 0)):
        sender.send(1, 51, b"hello", pair.now)
        pair.run(1)
        assert pair.of(receiver, UserMessage) == [UserMessage(1, 51, b"hello")]


@pytest.mark.parametrize("seed", range(20))
def test_set_up_in_bad_weather(seed):
    pair = make_associations(unordered(0.05, 0.1, loss=0.3, duplicate=0.2), seed, up=False)
    pair.a.start(pair.now)
    if seed % 2:
        pair.run(0.05)
        pair.b.start(pair.now)
    pair.a.send(0, 51, b"from a", pair.now)
    pair.b.send(0, 51, b"from b", pair.now)
    pair.run_until(lambda: pair.of(0, UserMessage) and pair.of(1, UserMessage))
    assert pair.of(0, UserMessage) == [UserMessage(0, 51, b"from b")]
    assert pair.of(1, UserMessage) == [UserMessage(0, 51, b"from a")]
    assert len(pair.of(0, AssociationUp)) == len(pair.of(1, AssociationUp)) == 1


def cookie_acks(packet):
    return sum(isinstance(chunk, CookieAckChunk) for chunk in read(packet).chunks)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_cookie_ack_that_is_lost_is_sent_again_whether_the_peer_asks_for_it_or_not(lost):
    pair = make_associations(unordered(delay=0.05), up=False)
    dropped, echoes = [], []

    def drop(sender, packet):
        if sender == 0 and any(isinstance(chunk, CookieEchoChunk) for chunk in read(packet).chunks):
            echoes.append(pair.now)
            return len(echoes) > 1
        if sender == 1 and cookie_acks(packet) and len(dropped) < lost:
            dropped.append(pair.now)
            return True
        return False

    pair.drop = drop
    pair.b.set_rtt_hint(0.1, pair.now)
    pair.a.start(pair.now)
    pair.run_until(lambda: pair.of(0, AssociationUp))
    assert len(dropped) == lost
    assert pair.events == ([AssociationUp(65535)], [AssociationUp(65535)])
    assert pair.now - dropped[0] < (0.5, 1.1, 2.3)[lost - 1], "0.3 s (RTO), three, seven, and half a round trip"


def test_a_cookie_ack_is_not_repeated_to_a_peer_that_has_it_nor_for_ever():
    pair = make_associations(unordered(delay=0.05))
    pair.a.send(0, 51, b"hello", pair.now)
    pair.run(60)
    assert sum(cookie_acks(packet) for sender, packet in pair.wire if sender == 1) == 1
    silent = make_associations(unordered(delay=0.05))
    silent.run(20)
    assert sum(cookie_acks(packet) for sender, packet in silent.wire if sender == 1) == 4
    assert silent.a.state is silent.b.state is AssociationState.ESTABLISHED
    assert silent.events == ([AssociationUp(65535)], [AssociationUp(65535)])


def test_set_up_that_nobody_answers_ends():
    pair = make_associations(up=False)
    pair.drop = lambda sender, packet: True
    pair.a.start(pair.now)
    pair.run(100)
    assert pair.events[0] == [AssociationClosed("the peer does not answer", False)]
    assert pair.a.poll_timeout() is None
    assert len(pair.wire) == SctpConfig(True).max_init_retransmissions + 1


def test_without_a_handshake():
    a, b = Association(CLIENT, entropy(1)), Association(SERVER, entropy(2))
    pair = SctpPair(a, b)
    init_a, init_b = a.local_init(), b.local_init()
    assert init_a == a.local_init(), "a second offer repeats the value"
    assert int.from_bytes(init_a[2:4], "big") == len(init_a), "no trailing padding"
    assert a.poll_timeout() is None
    a.establish(init_b, pair.now)
    b.establish(init_a, pair.now)
    a.send(0, 51, b"first", pair.now)
    pair.run(1)
    assert pair.of(1, UserMessage) == [UserMessage(0, 51, b"first")]
    assert not any(isinstance(chunk, InitChunk) for chunk in chunks_sent(pair, 0) + chunks_sent(pair, 1))
    assert a.capabilities == b.capabilities
    assert a.capabilities.interleaving


@pytest.mark.parametrize(
    "init",
    [
        b"",
        b"\1\0\0\4",
        b"\2" + bytes(19),
        InitChunk(0, 1, 1, 1, 1).serialize(),
        InitChunk(1, 1, 0, 1, 1).serialize(),
    ],
)
def test_an_init_that_makes_no_association_is_the_callers_business(init):
    with pytest.raises(ParseError):
        Association(CLIENT, entropy(1)).establish(init, 0.0)


def test_unknown_parameters_come_back_in_init_ack():
    b = Association(SERVER, entropy(2))
    init = InitChunk(7, 100000, 10, 10, 1, (RawParameter(0xC0FF, b"hey"), RawParameter(0x80FF, b"ho")))
    b.handle_datagram(build_packet(5000, 5000, 0, [init.serialize()]), 0.0)
    (packet,) = b.drain_transmits()
    parsed = read(packet)
    assert parsed.verification_tag == 7
    (ack,) = parsed.chunks
    assert type(ack) is InitAckChunk
    assert ack.find(UnrecognizedParameter) == UnrecognizedParameter(b"\xc0\xff\0\7hey")
    assert b.state is AssociationState.CLOSED, "an INIT costs no state"


@pytest.mark.parametrize(
    ("init", "code"),
    [
        (InitChunk(7, 1, 0, 1, 1), 7),
        (InitChunk(7, 1, 1, 0, 1), 7),
        (InitChunk(7, 1, 1, 1, 1, (RawParameter(11, b"host.example\0"),)), 5),
    ],
)
def test_an_init_that_cannot_be_is_aborted(init, code):
    b = Association(SERVER, entropy(2))
    b.handle_datagram(build_packet(5000, 5000, 0, [init.serialize()]), 0.0)
    (packet,) = b.drain_transmits()
    (abort,) = read(packet).chunks
    assert isinstance(abort, AbortChunk)
    assert [cause.code for cause in abort.causes] == [code]


def test_a_forged_cookie_is_dropped():
    pair = make_associations(up=False)
    pair.drop = lambda sender, packet: isinstance(read(packet).chunks[0], CookieEchoChunk)
    pair.a.start(pair.now)
    pair.run(0.5)
    cookie = next(c.cookie for c in chunks_sent(pair, 0) if isinstance(c, CookieEchoChunk))
    tag = next(c.initiate_tag for c in chunks_sent(pair, 1) if isinstance(c, InitAckChunk))
    forged = cookie[:4] + bytes((cookie[4] ^ 1,)) + cookie[5:]
    inject(pair, 1, CookieEchoChunk(forged), tag=tag)
    assert pair.b.state is AssociationState.CLOSED
    assert pair.b.counters["sctp.dropped_cookie_invalid"] == 1
    inject(pair, 1, CookieEchoChunk(cookie), tag=tag ^ 1)
    assert pair.b.counters["sctp.dropped_cookie_mismatch"] == 1
    inject(pair, 1, CookieEchoChunk(cookie), tag=tag)
    assert pair.b.state is AssociationState.ESTABLISHED


def test_a_stale_cookie_is_reported_and_set_up_begins_again():
    pair = make_associations(up=False)
    held = []

    def hold(sender, packet):
        echo = sender == 0 and not held and isinstance(read(packet).chunks[0], CookieEchoChunk)
        if echo:
            held.append(packet)
        return echo

    pair.drop = hold
    pair.a.start(pair.now)
    pair.run(0.1)
    pair.drop = lambda sender, packet: True
    pair.b.handle_datagram(held[0], pair.now + 3600)
    (packet,) = pair.b.drain_transmits()
    assert isinstance(read(packet).chunks[0], ErrorChunk)
    pair.drop = None
    pair.a.handle_datagram(packet, pair.now)
    assert pair.a.state is AssociationState.COOKIE_WAIT
    pair.run(5)
    assert pair.a.state is AssociationState.ESTABLISHED


def test_a_peer_that_begins_anew():
    pair = make_associations()
    pair.a.send(0, 51, b"one", pair.now)
    pair.run(1)
    pair.left.machine.tunnel = Association(CLIENT, entropy(77))
    pair.a.start(pair.now)
    pair.run(1)
    assert pair.of(1, AssociationRestarted) == [AssociationRestarted()]
    pair.a.send(0, 51, b"two", pair.now)
    pair.b.send(0, 51, b"three", pair.now)
    pair.run(1)
    assert pair.of(1, UserMessage) == [UserMessage(0, 51, b"one"), UserMessage(0, 51, b"two")]
    assert pair.of(0, UserMessage) == [UserMessage(0, 51, b"three")]


# --- rules of acceptance -----------------------------------------------------------------------------------


def test_wrong_tag_port_and_checksum_are_dropped():
    pair = make_associations()
    good = tag_towards(pair, 1)
    data = DataChunk(3, 1, 0, 0, 51, b"x").serialize()
    for packet, reason in (
        (build_packet(5000, 5000, good ^ 1, [data]), "sctp.dropped_packet_wrong_tag"),
        (build_packet(5000, 5001, good, [data]), "sctp.dropped_packet_wrong_port"),
        (build_packet(5001, 5000, good, [data]), "sctp.dropped_packet_wrong_port"),
        (build_packet(5000, 5000, good, [data])[:-1] + b"!", "sctp.dropped_packet_malformed"),
        (b"", "sctp.dropped_packet_malformed"),
    ):
        before = pair.b.counters[reason]
        pair.b.handle_datagram(packet, pair.now)
        assert pair.b.counters[reason] == before + 1
    assert not pair.of(1, UserMessage)


def test_unknown_chunks_do_what_their_highest_bits_say():
    pair = make_associations()
    heartbeat = HeartbeatChunk(b"alive?")
    for kind, reported, goes_on in (
        (0x20, False, False),
        (0x60, True, False),
        (0xA0, False, True),
        (0xE0, True, True),
    ):
        pair.wire.clear()
        tag = pair.b._tcb.local.tag
        inject(pair, 1, UnknownChunk(kind, 0, b"data"), heartbeat, tag=tag)
        sent = chunks_sent(pair, 1)
        assert (HeartbeatAckChunk(b"alive?") in sent) is goes_on
        assert any(isinstance(chunk, ErrorChunk) for chunk in sent) is reported


def test_data_without_payload_ends_the_association():
    pair = make_associations(interleaving=False)
    inject(pair, 1, DataChunk(3, 5, 0, 0, 51, b""))
    assert pair.of(1, AssociationClosed) == [AssociationClosed("no user data", True)]
    pair.run(1)
    assert pair.of(0, AssociationClosed) == [AssociationClosed("aborted: no user data", True)]


def test_data_for_a_stream_that_does_not_exist_is_acknowledged_and_reported():
    pair = make_associations(interleaving=False)
    tsn = next(c.initial_tsn for c in chunks_sent(pair, 0) if isinstance(c, InitChunk))
    inject(pair, 1, DataChunk(3, tsn, 65535, 0, 51, b"x"))
    sent = chunks_sent(pair, 1)
    assert any(isinstance(chunk, SackChunk) and chunk.cumulative_tsn_ack == tsn for chunk in sent)
    assert any(isinstance(chunk, ErrorChunk) and chunk.causes[0].code == 1 for chunk in sent)
    assert not pair.of(1, UserMessage)


def test_data_where_i_data_was_agreed_ends_the_association():
    pair = make_associations()
    inject(pair, 1, DataChunk(3, 5, 0, 0, 51, b"x"))
    assert pair.b.state is AssociationState.ENDED


def test_packets_after_the_end_are_answered_with_abort():
    pair = make_associations()
    tag = tag_towards(pair, 1)
    pair.drop = lambda sender, packet: True
    pair.b.abort(pair.now, "enough")
    pair.pump()
    pair.wire.clear()
    inject(pair, 1, HeartbeatChunk(b"x"), tag=tag)
    assert chunks_sent(pair, 1) == [AbortChunk(reflected=True)]
    pair.drop = None
    pair.a.handle_datagram(pair.wire[-1][1], pair.now)
    assert pair.a.state is AssociationState.ENDED, "a reflected tag is recognised"


# --- shutdown, abort, heartbeat ----------------------------------------------------------------------------


def test_abort_says_why():
    pair = make_associations()
    pair.a.abort(pair.now, "tired")
    pair.run(1)
    assert pair.of(0, AssociationClosed) == [AssociationClosed("tired", False)]
    assert pair.of(1, AssociationClosed) == [AssociationClosed("aborted: user initiated abort: tired", True)]
    assert pair.a.poll_timeout() is None
    assert pair.b.poll_timeout() is None


def test_an_abort_with_a_wrong_tag_does_nothing():
    pair = make_associations()
    inject(pair, 1, AbortChunk(), tag=12345)
    inject(pair, 1, AbortChunk(reflected=True), tag=tag_towards(pair, 1))
    assert pair.b.state is AssociationState.ESTABLISHED


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_shutdown_delivers_what_was_sent(loss, both):
    pair = make_associations(unordered(0.02, loss=loss), seed=3)
    pair.a.send(0, 51, bytes(20_000), pair.now)
    pair.b.send(0, 51, bytes(20_000), pair.now)
    pair.a.shutdown(pair.now)
    if both:
        pair.b.shutdown(pair.now)
    with pytest.raises(AssociationEndedError):
        pair.a.send(0, 51, b"late", pair.now)
    pair.run(30)
    assert len(pair.of(0, UserMessage)) == len(pair.of(1, UserMessage)) == 1
    assert pair.of(0, AssociationClosed)[0].reason == pair.of(1, AssociationClosed)[0].reason == ""
    assert pair.a.poll_timeout() is pair.b.poll_timeout() is None


def test_shutdown_of_a_silent_peer_ends_in_time():
    pair = make_associations()
    pair.drop = lambda sender, packet: True
    pair.a.shutdown(pair.now)
    pair.run(60)
    assert pair.of(0, AssociationClosed) == [AssociationClosed("shutdown takes too long", False)]


def test_lost_shutdown_complete_is_repeated():
    pair = make_associations()
    pair.drop = lambda sender, packet: isinstance(read(packet).chunks[0], ShutdownCompleteChunk)
    pair.a.shutdown(pair.now)
    pair.run(0.1)
    assert pair.b.state is AssociationState.SHUTDOWN_ACK_SENT
    pair.drop = None
    pair.run(5)
    assert pair.of(1, AssociationClosed) == [AssociationClosed("", True)]


def test_a_silent_peer_is_noticed_while_data_is_under_way():
    pair = make_associations()
    pair.drop = lambda sender, packet: True
    pair.a.send(0, 51, b"hello?", pair.now)
    pair.run(120)
    assert pair.of(0, AssociationClosed) == [AssociationClosed("too many retransmissions", False)]


def test_heartbeats_notice_a_silent_peer_when_idle():
    pair = make_associations()
    pair.run(100)
    assert pair.a.state is AssociationState.ESTABLISHED
    assert sum(isinstance(chunk, HeartbeatAckChunk) for chunk in chunks_sent(pair, 1)) == 3
    pair.drop = lambda sender, packet: True
    pair.run(200)
    assert pair.a.state is AssociationState.ENDED


@pytest.mark.parametrize("batch", [True, False])
def test_a_cookie_echo_has_its_checksum_whatever_came_before_it(batch):
    """Both ends begin at once, and one answers INIT and INIT ACK back to back."""
    pair = make_associations(up=False)
    a, b = pair.a, pair.b
    a.start(pair.now)
    b.start(pair.now)
    init_a, init_b = a.drain_transmits(), b.drain_transmits()
    b.handle_datagrams(init_a, pair.now)
    ack_b = b.drain_transmits()
    a.handle_datagrams(init_b, pair.now)
    ack_a = a.drain_transmits()
    b.handle_datagrams(ack_a, pair.now)
    echo_b = b.drain_transmits()
    a.send(0, 51, b"x", pair.now)
    if batch:  # the INIT ACK and the COOKIE ECHO arrive together
        a.handle_datagrams([*ack_b, *echo_b], pair.now)
        flight = a.drain_transmits()
    else:
        a.handle_datagrams(ack_b, pair.now)
        a.handle_datagrams(echo_b, pair.now)
        flight = a.drain_transmits()
    first = Packet.parse(flight[0])  # raises for a checksum that is not there
    assert any(isinstance(chunk, CookieEchoChunk) for chunk in first.chunks)
    b.handle_datagrams(flight, pair.now)
    pair.run(1)
    assert [event.data for event in pair.of(1, UserMessage)] == [b"x"]
    a.send(0, 51, b"y", pair.now)
    assert a.drain_transmits()[0][8:12] == bytes(4), "from then on without"


def test_zero_checksum_only_after_set_up_and_by_agreement():
    for zero in (True, False):
        pair = make_associations(zero_checksum=zero)
        handshake = len(pair.wire)
        pair.a.send(0, 51, b"x", pair.now)
        pair.run(1)
        assert all(packet[8:12] != bytes(4) for _, packet in pair.wire[: handshake - 1])
        assert all((packet[8:12] == bytes(4)) is zero for _, packet in pair.wire[handshake:])
        assert pair.of(1, UserMessage)


def test_a_cookie_waits_no_longer_because_an_init_was_lost() -> None:
    """The round trip is known from ICE: what backed off for the INIT does not hold for the COOKIE ECHO."""
    rto = RtoEstimator(0.1)
    first = rto.current
    for _ in range(3):
        rto.back_off()
    assert rto.current == 8 * first
    rto.answered()
    assert rto.current == first
    unknown = RtoEstimator()
    unknown.back_off()
    unknown.answered()
    assert unknown.current == 2.0  # Karn's rule: nothing says that a second is enough
