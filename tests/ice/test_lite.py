"""The lite agent: alone with hand-made checks, and facing a full agent in a simulated network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError
from stack.core.machine import Address, Path, Transmit
from stack.ice import (
    Candidate,
    ConsentExpired,
    ConsentLost,
    IceAgent,
    IceFailed,
    IceFailureReason,
    IceState,
    LiteAgent,
    LiteSettings,
    PathSelected,
    PathValidated,
)
from stack.ice.check_server import MAX_LOADED, MAX_REFUSED
from stack.ice.probe import MAX_ATTACHED, MAX_PROBES, POLICY
from stack.stun import (
    Attribute,
    ErrorCode,
    GoogNetworkInfo,
    IceControlled,
    IceControlling,
    Message,
    MessageClass,
    MessageIntegrity,
    Method,
    Priority,
    Software,
    UnknownAttribute,
    UnknownAttributes,
    UseCandidate,
    Username,
    XorMappedAddress,
    peek_username,
    short_term_key,
    verify_integrity,
)
from tests.sim.clock import START
from tests.sim.entropy import entropy
from tests.sim.ice import A6, B6, A, B, IceNetwork, Node, credentials, full, signal, start

SERVER = credentials("server")
CLIENT = credentials("client")
KEY = short_term_key(SERVER.password)
LOCAL = Address("203.0.113.1", 3478)
PATH = Path(LOCAL, Address("198.51.100.7", 40000))
ELSEWHERE = Path(LOCAL, Address("198.51.100.7", 41111))


def identifier(number: int) -> bytes:
    return number.to_bytes(12, "big")


def request(number: int, *extra: Attribute, username: str | None = None) -> Message:
    """A check as Chromium sends it."""
    attributes = (
        Username(username or f"{SERVER.ufrag}:{CLIENT.ufrag}"),
        GoogNetworkInfo(1, 50),
        *(extra if any(isinstance(a, IceControlled) for a in extra) else (IceControlling(7), *extra)),
        Priority(0x6E7F1EFF),
    )
    return Message(MessageClass.REQUEST, Method.BINDING, identifier(number), attributes)


def lite(*, known: bool = True) -> LiteAgent:
    agent = LiteAgent(SERVER)
    if known:
        agent.set_remote_credentials(CLIENT, 0.0)
    agent.start(0.0)
    return agent


def check(
    agent: LiteAgent, number: int, path: Path = PATH, now: float = 0.0, *, nominate: bool = False
) -> Transmit:
    extra = (UseCandidate(),) if nominate else ()
    agent.handle_datagram(request(number, *extra).sign(KEY), path, now)
    (answer,) = agent.drain_transmits()
    return answer


def test_a_check_is_answered_from_where_it_was_asked() -> None:
    agent = lite()
    answer = check(agent, 1)
    assert answer.path == PATH
    response = Message.parse(answer.data)
    assert response.message_class is MessageClass.SUCCESS_RESPONSE
    assert response.transaction_id == identifier(1)
    assert response.get(XorMappedAddress) == XorMappedAddress(PATH.remote)
    assert verify_integrity(answer.data, KEY)
    assert len(answer.data) < len(request(1).sign(KEY))


def test_the_first_check_makes_a_path_and_nomination_makes_it_final() -> None:
    agent = lite()
    assert agent.selected_path is None
    check(agent, 1)
    assert agent.selected_path == PATH
    assert agent.state is IceState.CONNECTED
    assert agent.drain_events() == [PathValidated(PATH), PathSelected(PATH, nominated=False)]
    check(agent, 2, nominate=True)
    assert agent.state is IceState.COMPLETED
    assert agent.drain_events() == [PathSelected(PATH, nominated=True)]
    check(agent, 3, nominate=True)
    assert agent.drain_events() == []


def test_before_nomination_the_path_validated_last_is_used() -> None:
    agent = lite()
    check(agent, 1, PATH)
    check(agent, 2, ELSEWHERE)
    assert agent.selected_path == ELSEWHERE
    check(agent, 3, PATH)
    assert agent.selected_path == ELSEWHERE
    check(agent, 4, PATH, nominate=True)
    assert agent.selected_path == PATH


def test_the_latest_nomination_wins() -> None:
    agent = lite()
    check(agent, 1, PATH, nominate=True)
    check(agent, 2, ELSEWHERE, nominate=True)
    assert agent.selected_path == ELSEWHERE
    check(agent, 3, PATH)
    assert agent.selected_path == ELSEWHERE


def test_a_check_without_nomination_moves_a_nominated_path_only_after_silence() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    check(agent, 2, ELSEWHERE, 1.0)
    check(agent, 3, PATH, 4.0)
    check(agent, 4, ELSEWHERE, 7.4)
    assert agent.selected_path == PATH
    check(agent, 5, ELSEWHERE, 7.5)
    assert agent.selected_path == ELSEWHERE
    assert agent.drain_events()[-1] == PathSelected(ELSEWHERE, nominated=False)


def test_a_peer_that_nominates_once_is_followed_with_its_first_check_from_a_new_address() -> None:
    # As Firefox does: one nomination, then checks every 4 to 6 s without the flag.
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    check(agent, 2, PATH, 4.9)
    check(agent, 3, ELSEWHERE, 9.2)
    assert agent.selected_path == ELSEWHERE


def test_a_repeated_check_gets_the_same_answer_and_does_nothing_else() -> None:
    agent = lite()
    first = check(agent, 1, PATH, 0.0, nominate=True)
    check(agent, 2, ELSEWHERE, 1.0, nominate=True)
    assert check(agent, 1, PATH, 2.0, nominate=True) == first
    assert agent.selected_path == ELSEWHERE
    assert agent.counters["ice.repeated_check"] == 1


def test_a_captured_check_sent_from_elsewhere_is_dropped() -> None:
    agent = lite()
    check(agent, 1, PATH, nominate=True)
    agent.handle_datagram(request(1, UseCandidate()).sign(KEY), ELSEWHERE, 1.0)
    assert agent.drain_transmits() == []
    assert agent.selected_path == PATH
    assert agent.counters["ice.dropped_replayed_elsewhere"] == 1


def refused(agent: LiteAgent, data: bytes) -> Message | None:
    agent.handle_datagram(data, PATH, 0.0)
    answers = agent.drain_transmits()
    assert agent.selected_path is None
    assert agent.drain_events() == []
    if not answers:
        return None
    assert len(answers[0].data) <= len(data)
    return Message.parse(answers[0].data)


def test_a_wrong_password_is_refused_without_a_signature() -> None:
    agent = lite()
    answer = refused(agent, request(1).sign(b"wrong"))
    assert answer is not None
    assert answer.get(ErrorCode) == ErrorCode(401)
    assert answer.get(MessageIntegrity) is None
    assert agent.counters["ice.dropped_wrong_integrity"] == 1


@pytest.mark.parametrize(
    "username", ["nobody:" + CLIENT.ufrag, SERVER.ufrag + ":nobody", SERVER.ufrag, ":", "a:b:c"]
)
def test_a_wrong_username_is_refused(username: str) -> None:
    agent = lite()
    answer = refused(agent, request(1, username=username).sign(KEY))
    assert answer is not None
    assert answer.get(ErrorCode) == ErrorCode(401)
    assert agent.counters["ice.dropped_wrong_username"] == 1


def test_a_check_without_credentials_is_a_bad_request() -> None:
    agent = lite()
    answer = refused(agent, request(1).serialize())
    assert answer is not None
    assert answer.get(ErrorCode) == ErrorCode(400)
    assert agent.counters["ice.dropped_no_credentials"] == 1


def test_nothing_is_amplified() -> None:
    agent = lite()
    assert refused(agent, Message(MessageClass.REQUEST, Method.BINDING, identifier(1)).serialize()) is None
    assert agent.counters["ice.dropped_no_credentials"] == 1


def test_unknown_attributes_are_named_in_a_signed_refusal() -> None:
    agent = lite()
    data = request(1, UnknownAttribute(0x7ABC, b"?"), UnknownAttribute(0xFABC, b"?")).sign(KEY)
    agent.handle_datagram(data, PATH, 0.0)
    (answer,) = agent.drain_transmits()
    response = Message.parse(answer.data)
    assert response.get(UnknownAttributes) == UnknownAttributes((0x7ABC,))
    assert response.get(ErrorCode) == ErrorCode(420, "Unknown Attribute")
    assert verify_integrity(answer.data, KEY)
    assert agent.selected_path is None


def test_a_peer_that_wants_to_be_controlled_is_told_to_control() -> None:
    agent = lite()
    agent.handle_datagram(request(1, IceControlled(2**64 - 1)).sign(KEY), PATH, 0.0)
    (answer,) = agent.drain_transmits()
    error = Message.parse(answer.data).get(ErrorCode)
    assert error is not None
    assert error.code == 487
    assert verify_integrity(answer.data, KEY)
    assert agent.selected_path is None


def test_two_roles_at_once_are_a_bad_request() -> None:
    agent = lite()
    agent.handle_datagram(request(1, IceControlled(1), IceControlling(1)).sign(KEY), PATH, 0.0)
    error = Message.parse(agent.drain_transmits()[0].data).get(ErrorCode)
    assert error is not None
    assert error.code == 400
    assert agent.selected_path is None


def test_what_is_no_request_is_counted() -> None:
    agent = lite()
    for message_class in (MessageClass.INDICATION, MessageClass.SUCCESS_RESPONSE, MessageClass.ERROR_RESPONSE):
        agent.handle_datagram(Message(message_class, Method.BINDING, identifier(1)).serialize(), PATH, 0.0)
    agent.handle_datagram(Message(MessageClass.REQUEST, 0x003, identifier(1)).serialize(), PATH, 0.0)
    agent.handle_datagram(b"\x16\xfe\xfd", PATH, 0.0)
    assert agent.drain_transmits() == []
    assert agent.counters.snapshot() == {
        "ice.dropped_malformed": 1,
        "ice.dropped_unexpected_response": 2,
        "ice.dropped_unknown_method": 1,
        "ice.indication": 1,
    }


def test_the_peers_fragment_is_learned_and_then_held_to() -> None:
    agent = lite(known=False)
    check(agent, 1)
    assert agent.remote_ufrag == CLIENT.ufrag
    agent.handle_datagram(request(2, username=f"{SERVER.ufrag}:another").sign(KEY), PATH, 0.0)
    assert agent.counters["ice.dropped_wrong_username"] == 1


def test_silence_for_thirty_seconds_ends_it() -> None:
    agent = lite()
    check(agent, 1, PATH, 10.0, nominate=True)
    assert agent.poll_timeout() == 40.0
    check(agent, 2, ELSEWHERE, 12.0)
    assert agent.poll_timeout() == 40.0
    agent.handle_timeout(39.9)
    assert agent.selected_path == PATH
    agent.handle_timeout(40.0)
    assert agent.poll_timeout() == 42.0
    agent.handle_timeout(41.9)
    agent.drain_events()
    assert agent.selected_path == ELSEWHERE, "the other path has been silent for less"
    agent.handle_timeout(42.0)
    assert agent.drain_events() == [ConsentExpired(ELSEWHERE)]
    assert agent.selected_path is None
    assert agent.poll_timeout() is None
    agent.handle_datagram(request(3).sign(KEY), PATH, 51.0)
    assert agent.drain_transmits() == []


def test_unauthenticated_traffic_is_no_sign_of_life() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0)
    for now in range(1, 30):
        agent.handle_datagram(request(2).sign(b"wrong"), PATH, float(now))
        agent.drain_transmits()
        check(agent, 1, PATH, float(now))  # A replay of what was authentic once.
    agent.handle_timeout(30.0)
    assert agent.drain_events()[-1] == ConsentExpired(PATH)


def test_a_peer_that_never_comes_is_a_failure() -> None:
    agent = lite()
    agent.handle_timeout(39.4)
    assert agent.drain_events() == []
    agent.handle_timeout(39.5)
    assert agent.drain_events() == [IceFailed(IceFailureReason.NO_CHECK_RECEIVED)]
    assert agent.state is IceState.FAILED


def test_the_paths_of_one_peer_are_bounded() -> None:
    agent = lite()
    check(agent, 0, PATH, 0.0, nominate=True)
    for port in range(1, 100):
        check(agent, port, Path(LOCAL, Address("198.51.100.8", port)), port / 100)
    assert len(agent.paths) == 16
    assert PATH in agent.paths
    assert agent.counters["ice.path_forgotten"] == 84


def test_floods_leave_nothing_behind() -> None:
    agent = lite()
    check(agent, 0, PATH, nominate=True)
    for number in range(1, 2000):
        source = Path(LOCAL, Address("192.0.2.66", number))
        agent.handle_datagram(request(number).sign(b"wrong"), source, 0.0)
        agent.handle_datagram(request(number, username=f"x{number}:y").sign(KEY), source, 0.0)
        agent.drain_transmits()
    assert agent.paths == (PATH,)
    assert set(agent.counters.snapshot()) == {
        "ice.check",
        "ice.dropped_flood",
        "ice.dropped_wrong_integrity",
        "ice.dropped_wrong_username",
    }


def test_a_restart_keeps_the_path_until_a_check_with_the_new_password_moves_it() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    agent.drain_events()
    fresh, peer = credentials("server again"), credentials("client again")
    agent.restart(fresh, 5.0)
    check(agent, 2, PATH, 6.0, nominate=True)  # The peer has not seen the answer yet.
    check(agent, 3, ELSEWHERE, 7.0, nominate=True)  # Answered, but an old password opens no new path.
    assert agent.selected_path == PATH
    assert agent.drain_events() == []
    agent.set_remote_credentials(peer, 8.0)
    message = request(4, UseCandidate(), username=f"{fresh.ufrag}:{peer.ufrag}")
    agent.handle_datagram(message.sign(short_term_key(fresh.password)), ELSEWHERE, 9.0)
    assert agent.selected_path == ELSEWHERE
    assert agent.drain_events() == [PathValidated(ELSEWHERE), PathSelected(ELSEWHERE, nominated=True)]
    agent.drain_transmits()
    agent.handle_datagram(request(5).sign(KEY), PATH, 10.0)
    assert agent.counters["ice.dropped_wrong_username"] == 1


def test_commands_out_of_order_are_the_callers_fault() -> None:
    agent = LiteAgent(SERVER)
    with pytest.raises(LocalError):
        agent.restart(CLIENT, 0.0)
    check(agent, 1)  # Answered before the start, too.
    agent.start(0.0)
    assert agent.selected_path == PATH
    with pytest.raises(LocalError):
        agent.start(0.0)
    agent.add_local_candidate(Candidate.host_candidate(LOCAL), 0.0)
    assert [candidate.address for candidate in agent.local_candidates] == [LOCAL]
    agent.close(1.0)
    assert agent.state is IceState.CLOSED
    assert agent.poll_timeout() is None
    with pytest.raises(LocalError):
        agent.restart(CLIENT, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=120)), max_size=20))
@settings(max_examples=150, deadline=None)
def test_hostile_bytes_never_raise_and_never_make_a_path(inputs: list[tuple[bool, bytes]]) -> None:
    agent = lite()
    valid = request(1, UseCandidate()).sign(KEY)
    for mutate, noise in inputs:
        data = bytearray(valid if mutate else noise)
        if mutate:
            for position, value in zip(noise[::2], noise[1::2], strict=False):
                data[position % (len(data) - 8)] ^= value
        if bytes(data) == valid:
            continue
        peek_username(bytes(data))
        agent.handle_datagram(bytes(data), ELSEWHERE, 0.0)
        assert agent.selected_path is None
        assert all(len(answer.data) <= len(data) for answer in agent.drain_transmits())


# --- facing a full agent --------------------------------------------------------------------------------------


def call(network: IceNetwork, *, controlling: bool = True) -> tuple[Node, Node]:
    client = network.join(full("client", controlling=controlling), A, A6)
    server = network.join(LiteAgent(SERVER), B, B6)
    signal(network, client, server, candidates=False)
    start(network)
    return client, server


def both_done(client: Node, server: Node) -> bool:
    return client.machine.state is server.machine.state is IceState.COMPLETED


def test_the_round_trip_is_what_follows_the_first_response() -> None:
    agent = lite()
    agent.note_follow_up(PATH, 1.0)
    assert agent.round_trip_time is None, "nothing was responded to"
    check(agent, 1, now=2.0)
    agent.note_follow_up(ELSEWHERE, 2.1)
    assert agent.round_trip_time is None
    check(agent, 2, now=2.1)
    agent.note_follow_up(PATH, 2.3)
    agent.note_follow_up(PATH, 5.0)
    assert agent.round_trip_time == pytest.approx(0.3), "the first response may be the one that was waited for"


def test_one_round_trip_to_a_path_and_nomination_at_the_next_chance() -> None:
    network = IceNetwork(delay=0.015)
    client, server = call(network)
    assert network.run(5.0, lambda: both_done(client, server))
    assert client.time_of(PathSelected) == pytest.approx(START + 0.03)
    assert server.time_of(PathSelected) == pytest.approx(START + 0.015)
    assert network.now - START == pytest.approx(0.08, abs=0.03)
    assert client.machine.round_trip_time == pytest.approx(0.03)
    assert client.machine.selected_path == Path(A, B)
    assert server.machine.selected_path == Path(B, A)


def test_a_full_agent_controls_a_lite_one_whatever_it_was_told() -> None:
    network = IceNetwork()
    client, server = call(network, controlling=False)
    assert network.run(5.0, lambda: both_done(client, server))
    assert isinstance(client.machine, IceAgent)
    assert client.machine.controlling
    assert server.machine.counters["ice.role_conflict"] == 0


def test_a_client_that_does_not_know_of_lite_is_corrected() -> None:
    network = IceNetwork()
    client = network.join(full("client", controlling=False), A)
    server = network.join(LiteAgent(SERVER), B)
    client.machine.set_remote_credentials(SERVER, network.now)
    client.machine.add_remote_candidate(Candidate.host_candidate(B), network.now)
    start(network)
    assert network.run(5.0, lambda: both_done(client, server))
    assert server.machine.counters["ice.role_conflict"] == 1


@given(
    seed=st.integers(0, 10_000),
    loss=st.floats(0, 0.3),
    delay=st.floats(0, 0.5),
    jitter=st.floats(0, 0.3),
    duplicate=st.floats(0, 0.3),
)
@settings(max_examples=40, deadline=None)
def test_every_network_gives_a_call(seed: int, loss: float, delay: float, jitter: float, duplicate: float) -> None:
    network = IceNetwork(seed, loss=loss, delay=delay, jitter=jitter, duplicate=duplicate)
    client, server = call(network)
    assert network.run(60.0, lambda: both_done(client, server)), (client.events, server.events)
    network.run(20.0)

    def agreed() -> bool:
        ours, theirs = client.machine.selected_path, server.machine.selected_path
        return ours is not None and theirs is not None and ours[:2] == theirs[1::-1]

    assert network.run(10.0, agreed)  # where many checks in a row are lost, the client may just be moving


def test_a_nat_that_forgets_is_followed_with_the_next_check() -> None:
    network = IceNetwork()
    network.rebind(A, Address("198.51.100.7", 40000))
    client, server = call(network)
    assert network.run(5.0, lambda: both_done(client, server))
    rebound = Address("198.51.100.7", 50000)
    network.rebind(A, rebound)
    assert network.run(7.0, lambda: server.machine.selected_path == Path(B, rebound))
    network.run(100.0)
    assert both_done(client, server)
    assert not server.seen(ConsentExpired)


def test_a_client_that_vanishes_is_noticed_and_so_is_a_server() -> None:
    network = IceNetwork()
    client, server = call(network)
    network.run(10.0)
    cut = network.now
    network.cut()
    network.run(40.0)
    assert len(client.seen(ConsentExpired)) == len(server.seen(ConsentExpired)) == 1
    assert max(client.times + server.times) - cut <= 30.1


def test_a_restart_on_both_sides_goes_on_without_a_gap() -> None:
    network = IceNetwork(delay=0.05)
    client, server = call(network)
    assert network.run(5.0, lambda: both_done(client, server))
    client.machine.restart(credentials("client again"), network.now)
    server.machine.restart(credentials("server again"), network.now)
    assert client.machine.selected_path == Path(A, B)
    signal(network, client, server, candidates=False)
    checks = server.machine.counters["ice.check"]
    assert network.run(5.0, lambda: both_done(client, server) and server.machine.counters["ice.check"] > checks)
    network.run(60.0)
    assert both_done(client, server)
    assert server.machine.counters["ice.dropped_wrong_username"] == 0


def indication(number: int, *attributes: Username) -> Message:
    return Message(MessageClass.INDICATION, Method.BINDING, identifier(number), attributes)


def test_what_only_the_peer_can_have_sent_keeps_the_selected_path() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    agent.note_received(PATH, 25.0)
    agent.handle_timeout(30.0)
    assert agent.poll_timeout() == 55.0
    agent.handle_datagrams([(indication(1).sign(KEY), PATH)], 50.0)
    agent.handle_timeout(55.0)
    named = indication(2, Username(f"{SERVER.ufrag}:{CLIENT.ufrag}")).sign(KEY)
    agent.handle_datagrams([(named, PATH)], 75.0)
    agent.handle_timeout(80.0)
    assert agent.selected_path == PATH
    agent.drain_events()
    agent.handle_timeout(105.0)
    assert agent.drain_events() == [ConsentExpired(PATH)]
    assert not agent.drain_transmits()[1:], "an indication is not answered"


def test_an_indication_that_proves_nothing_is_counted_only() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    signed = indication(1).sign(KEY)
    proofless = (
        indication(2).serialize(),
        indication(3).sign(b"wrong"),
        indication(4, Username("another:peer")).sign(KEY),
        Message(MessageClass.INDICATION, 0x003, identifier(5)).sign(KEY),
    )
    agent.handle_datagrams([(signed, PATH)], 1.0)
    for data in (signed, *proofless):
        agent.handle_datagrams([(data, PATH)], 20.0)
    agent.handle_datagrams([(indication(6).sign(KEY), ELSEWHERE)], 20.0)
    assert agent.counters["ice.indication"] == 7
    assert agent.counters["ice.repeated_indication"] == 1
    assert agent.counters["ice.dropped_indication_wrong_integrity"] == 2
    agent.handle_timeout(30.0)
    agent.handle_timeout(31.0)
    assert isinstance(agent.drain_events()[-1], ConsentExpired)


def test_nothing_but_a_check_makes_or_moves_a_path() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    agent.drain_events()
    for second in range(1, 30):
        agent.note_received(ELSEWHERE, float(second))
    assert agent.paths == (PATH,)
    agent.handle_timeout(30.0)
    assert agent.drain_events() == [ConsentExpired(PATH)]


def test_a_peer_that_is_heard_on_another_proven_path_is_followed_when_its_own_has_been_silent() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    check(agent, 2, ELSEWHERE, 1.0)
    agent.drain_events()
    agent.note_received(PATH, 29.0)
    agent.note_received(ELSEWHERE, 29.05)
    assert agent.selected_path == PATH  # it may have been overtaken on the way
    agent.handle_timeout(59.0)
    assert agent.drain_events() == [PathSelected(ELSEWHERE, nominated=False)]
    assert agent.poll_timeout() == 59.05


def test_media_on_a_valid_path_are_followed_at_once_when_the_selected_one_is_silent() -> None:
    agent = lite()
    check(agent, 1, PATH, 0.0, nominate=True)
    check(agent, 2, ELSEWHERE, 1.0)
    agent.note_received(PATH, 2.0)
    agent.drain_events()
    agent.note_received(ELSEWHERE, 2.02)
    agent.note_received(ELSEWHERE, 2.04)
    assert agent.drain_events() == []
    agent.note_received(ELSEWHERE, 2.06)
    assert agent.drain_events() == [PathSelected(ELSEWHERE, nominated=False)]
    assert agent.counters["ice.followed_media"] == 1
    check(agent, 3, PATH, 2.2, nominate=True)
    assert agent.selected_path == PATH


# --- the peer moves, or falls silent ---


def moving(resume_timeout: float = 0.0) -> LiteAgent:
    """An agent that may probe, with a peer that has nominated a path."""
    settings = LiteSettings(resume_timeout=resume_timeout)
    agent = LiteAgent(SERVER, settings=settings, entropy=entropy("probes"))
    agent.set_remote_credentials(CLIENT, 0.0)
    agent.start(0.0)
    check(agent, 1, PATH, 0.0, nominate=True)
    agent.drain_events()
    return agent


def answer_to(probe: Transmit, password: str = CLIENT.password) -> bytes:
    """What the peer answers to a check of ours."""
    request = Message.parse(probe.data)
    response = request.respond(MessageClass.SUCCESS_RESPONSE, XorMappedAddress(LOCAL))
    return response.sign(short_term_key(password))


def test_media_from_a_new_address_are_probed_and_the_answer_moves_the_path() -> None:
    agent = moving()
    agent.note_received(ELSEWHERE, 5.0)
    (probe,) = agent.drain_transmits()
    assert probe.path == ELSEWHERE
    request = Message.parse(probe.data)
    assert request.get(Username) == Username(f"{CLIENT.ufrag}:{SERVER.ufrag}")
    assert request.get(IceControlled) is not None
    assert verify_integrity(probe.data, short_term_key(CLIENT.password))
    assert agent.selected_path == PATH
    agent.note_received(ELSEWHERE, 5.02)  # one check for all of them
    assert agent.drain_transmits() == []
    agent.handle_datagram(answer_to(probe), ELSEWHERE, 5.03)
    assert agent.drain_events() == [PathValidated(ELSEWHERE), PathSelected(ELSEWHERE, nominated=False)]
    assert agent.counters["ice.probe_answered"] == 1


def test_what_does_not_prove_a_new_address_moves_nothing() -> None:
    agent = moving()
    agent.note_received(ELSEWHERE, 5.0)
    (probe,) = agent.drain_transmits()
    refusal = Message.parse(probe.data).respond(MessageClass.ERROR_RESPONSE, ErrorCode(401))
    agent.handle_datagram(answer_to(probe, "x" * 22), ELSEWHERE, 5.01)
    agent.handle_datagram(refusal.sign(short_term_key(CLIENT.password)), ELSEWHERE, 5.01)
    agent.handle_datagram(answer_to(probe), PATH._replace(remote=Address("192.0.2.9", 9)), 5.01)
    assert agent.selected_path == PATH
    assert agent.drain_events() == []
    assert agent.counters["ice.dropped_wrong_response_integrity"] == 1
    assert agent.counters["ice.dropped_unexpected_response"] == 1
    assert agent.counters["ice.dropped_asymmetric_response"] == 1


def test_a_path_that_is_not_silent_is_not_left_for_a_probed_one() -> None:
    agent = moving()
    agent.note_received(ELSEWHERE, 5.0)
    (probe,) = agent.drain_transmits()
    agent.note_received(PATH, 5.02)
    agent.handle_datagram(answer_to(probe), ELSEWHERE, 5.03)
    assert agent.selected_path == PATH
    assert agent.drain_events() == [PathValidated(ELSEWHERE)]


def test_probes_are_bounded() -> None:
    agent = moving()
    sent = 0
    now = 5.0
    while now < 8.0:
        for port in range(50_000, 50_010):
            agent.note_received(PATH._replace(remote=Address("198.51.100.7", port)), now)
        agent.handle_timeout(now)
        sent += len(agent.drain_transmits())
        now += 0.02
    assert sent <= 3 * MAX_PROBES * POLICY.rc  # of 1,500 packets
    assert agent.counters["ice.probed"] <= 3 * MAX_PROBES
    bare = lite()
    check(bare, 1, PATH, 0.0, nominate=True)
    bare.note_received(ELSEWHERE, 1.0)
    assert bare.drain_transmits() == []  # without randomness it sends no check


def test_a_peer_that_falls_silent_is_waited_for() -> None:
    agent = moving(resume_timeout=20.0)
    agent.handle_timeout(30.0)
    assert agent.drain_events() == [ConsentLost(PATH)]
    assert agent.state is IceState.DISCONNECTED
    assert agent.selected_path is None
    check(agent, 7, ELSEWHERE, 45.0)
    assert agent.drain_events() == [PathValidated(ELSEWHERE), PathSelected(ELSEWHERE, nominated=False)]
    assert agent.state is IceState.CONNECTED
    agent.handle_timeout(74.9)
    assert agent.drain_events() == []
    agent.handle_timeout(75.0)
    assert agent.drain_events() == [ConsentLost(ELSEWHERE)]
    agent.handle_timeout(95.0)
    assert agent.drain_events() == [ConsentExpired(ELSEWHERE)]
    assert agent.poll_timeout() is None


def test_a_restart_brings_back_a_peer_that_fell_silent() -> None:
    agent = moving(resume_timeout=20.0)
    agent.handle_timeout(30.0)
    agent.restart(credentials("fresh"), 40.0)
    agent.set_remote_credentials(CLIENT, 40.0)
    assert agent.state is IceState.CHECKING
    agent.handle_timeout(60.0)
    assert agent.drain_events() == [ConsentLost(PATH)]
    message = request(9, username=f"{agent.credentials.ufrag}:{CLIENT.ufrag}")
    agent.handle_datagram(message.sign(short_term_key(agent.credentials.password)), ELSEWHERE, 61.0)
    assert agent.drain_events()[-1] == PathSelected(ELSEWHERE, nominated=False)


def test_a_flood_is_refused_unread_and_the_peer_is_heard_through_it() -> None:
    agent = lite()
    answered = 0
    for number in range(200):
        agent.handle_datagram(request(number).sign(b"wrong"), ELSEWHERE, 0.5)
        answered += len(agent.drain_transmits())
    assert answered == MAX_REFUSED
    assert agent.counters["ice.dropped_wrong_integrity"] == MAX_REFUSED
    assert agent.counters["ice.dropped_flood"] == 200 - MAX_REFUSED
    agent.handle_datagram(request(300, username="another:peer").sign(KEY), ELSEWHERE, 0.6)
    assert agent.drain_transmits() == []
    check(agent, 301, PATH, 0.7)
    assert agent.selected_path == PATH
    agent.handle_datagram(request(302).sign(b"wrong"), ELSEWHERE, 1.6)
    assert len(agent.drain_transmits()) == 1  # in another second it is answered again


class Rider:
    """Attaches as much as a flight of DTLS has, where there is room."""

    def receive(self, message: Message, path: Path, now: float) -> bool:
        return False

    def attach(self, message: Message, max_size: int) -> tuple[Software, ...]:
        return (Software("x" * 700),) if max_size > 704 else ()


def riding() -> LiteAgent:
    agent = LiteAgent(SERVER, piggyback=Rider())
    agent.set_remote_credentials(CLIENT, 0.0)
    agent.start(0.0)
    return agent


def test_what_is_attached_does_not_amplify_on_other_paths() -> None:
    """A caller knows its own password, and sends checks as if from others."""
    agent = riding()
    assert len(check(agent, 1).data) > 700  # the round trip that it is for
    for number in range(200):
        victim = Path(LOCAL, Address(f"192.0.2.{number}", 9))
        asked = request(2 + number).sign(KEY)
        for _ in range(2):  # the same again gets the same
            agent.handle_datagram(asked, victim, 0.1)
            (answer,) = agent.drain_transmits()
            assert len(answer.data) <= len(asked)


@pytest.mark.parametrize("again", [False, True], ids=["new checks", "one check again and again"])
def test_what_is_attached_is_bounded_on_the_first_path(again: bool) -> None:
    agent = riding()
    sizes = [len(check(agent, 1 if again else number).data) for number in range(50)]
    assert sum(size > 700 for size in sizes) == MAX_LOADED
    assert all(size > 700 for size in sizes[:MAX_LOADED])  # against loss


class Waiting(Rider):
    """Has the agent wait, and attaches its owner's answer."""

    def __init__(self) -> None:
        self.answer = ""

    def receive(self, message: Message, path: Path, now: float) -> bool:
        return True

    def attach(self, message: Message, max_size: int) -> tuple[Software, ...]:
        return (Software(self.answer),)


def test_a_response_waits_for_what_the_owner_of_the_piggyback_has_to_say() -> None:
    rider = Waiting()
    agent = LiteAgent(SERVER, piggyback=rider)
    agent.set_remote_credentials(CLIENT, 0.0)
    agent.start(0.0)
    agent.handle_datagram(request(1).sign(KEY), PATH, 0.1)
    assert [type(event) for event in agent.drain_events()] == [PathValidated, PathSelected], "the check counts"
    assert agent.drain_transmits() == []
    rider.answer = "the flight"
    agent.release(0.1)
    (response,) = agent.drain_transmits()
    assert Message.parse(response.data).get(Software) == Software("the flight")
    agent.release(0.1)
    assert agent.drain_transmits() == []
    agent.handle_datagram(request(2).sign(KEY), PATH, 0.2)
    agent.handle_datagram(b"no STUN", PATH, 0.3)
    assert len(agent.drain_transmits()) == 1, "an owner that forgot costs no response"
    agent.handle_datagram(request(3).sign(KEY), PATH, 0.4)
    agent.handle_timeout(0.5)
    assert len(agent.drain_transmits()) == 1


class Speaking(Rider):
    """Says in each message that it is there, and notes what has come."""

    def __init__(self) -> None:
        self.came: list[Message] = []

    def receive(self, message: Message, path: Path, now: float) -> bool:
        self.came.append(message)
        return False

    def attach(self, message: Message, max_size: int) -> tuple[Software, ...]:
        return (Software("x" * (max_size - 4)),)


def test_what_is_attached_is_in_checks_of_ours_and_taken_from_their_answers() -> None:
    """A peer that finds nothing in the first message of ours takes it that we have nothing to say."""
    rider = Speaking()
    agent = LiteAgent(SERVER, entropy=entropy("probes"), piggyback=rider)
    agent.set_remote_credentials(CLIENT, 0.0)
    agent.start(0.0)
    check(agent, 1, PATH, 0.0)
    assert agent.prove(PATH, 1.0)
    (probe,) = agent.drain_transmits()
    assert Message.parse(probe.data).get(Software) is not None
    bare = Message.parse(probe.data)
    plain = tuple(each for each in bare.attributes if isinstance(each, Username | IceControlled | Priority))
    bare_size = len(replace(bare, attributes=plain).sign(KEY))
    assert len(probe.data) == bare_size + MAX_ATTACHED, "where it goes no more may be sent than has come"
    agent.handle_datagram(answer_to(probe, "x" * 22), PATH, 1.02)
    agent.handle_datagram(answer_to(probe), PATH, 1.03)
    assert [message.message_class for message in rider.came] == [
        MessageClass.REQUEST,
        MessageClass.SUCCESS_RESPONSE,
    ]
    assert agent.is_proven(PATH)


def test_an_answered_check_of_ours_measures_the_round_trip() -> None:
    agent = moving()
    agent.note_follow_up(PATH, 2.0)
    assert agent.round_trip_time == 2.0  # the peer's first answer was lost
    agent.prove(PATH, 3.0)
    (probe,) = agent.drain_transmits()
    agent.handle_datagram(answer_to(probe), PATH, 3.08)
    assert agent.round_trip_time == pytest.approx(0.08)


def test_a_path_is_asked_again_at_once_where_the_owner_wants_it() -> None:
    agent = moving()
    agent.prove(PATH, 1.0)
    now = 1.0
    while (at := agent.poll_timeout()) is not None and at < 3.0:
        now = at
        agent.handle_timeout(now)
    assert len(agent.drain_transmits()) == POLICY.rc
    agent.prove(PATH, now)
    assert agent.drain_transmits() == []
    agent.prove(PATH, now, again=True)
    assert len(agent.drain_transmits()) == 1
