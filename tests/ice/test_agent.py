"""Two full agents in a simulated network."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError
from stack.core.machine import Address, Path
from stack.ice import (
    Candidate,
    ConsentExpired,
    ConsentLost,
    IceAgent,
    IceFailureReason,
    IceSettings,
    IceState,
    LiteAgent,
    PathSelected,
    PathValidated,
)
from stack.ice.candidate_lists import MAX_LOCAL_CANDIDATES
from stack.ice.check_server import MAX_REFUSED
from stack.ice.pair import PairState
from stack.stun import (
    ErrorCode,
    IceControlled,
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    Software,
    TransactionId,
    UseCandidate,
    Username,
    short_term_key,
)
from tests.sim.clock import START
from tests.sim.entropy import entropy
from tests.sim.ice import A6, B6, A, B, IceNetwork, Node, credentials, failure, full, signal, start
from tests.sim.pair import unordered


def pair(
    network: IceNetwork, a: list[Address], b: list[Address], *, roles: tuple[bool, bool] = (True, False)
) -> tuple[Node, Node]:
    one = network.join(full("one", controlling=roles[0]), *a)
    other = network.join(full("other", controlling=roles[1]), *b)
    return one, other


def completed(*nodes: Node) -> bool:
    return all(node.machine.state is IceState.COMPLETED for node in nodes)


def on_one_path(one: Node, other: Node) -> bool:
    ours, theirs = one.machine.selected_path, other.machine.selected_path
    assert ours is not None
    assert theirs is not None
    return (ours.local, ours.remote) == (theirs.remote, theirs.local)


def agree(one: Node, other: Node) -> None:
    """Both send on the same path, and exactly one of them controls."""
    assert on_one_path(one, other), (one.machine.selected_path, other.machine.selected_path)
    assert isinstance(one.machine, IceAgent)
    assert isinstance(other.machine, IceAgent)
    assert one.machine.controlling is not other.machine.controlling


def test_two_hosts_find_each_other_in_one_round_trip() -> None:
    network = IceNetwork(delay=0.01)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    assert network.run(1.0, lambda: completed(one, other))
    agree(one, other)
    # Checks leave at once, the answers are back after 20 ms, and that is a path; nomination comes one Ta later.
    for node in (one, other):
        assert node.time_of(PathSelected) - START == pytest.approx(0.02)
        assert node.machine.round_trip_time == pytest.approx(0.02)
        assert [type(event) for event in node.events] == [PathValidated, PathSelected, PathSelected]
    assert network.now - START < 0.1


def test_ipv6_is_preferred_if_the_caller_says_so() -> None:
    network = IceNetwork()
    one, other = pair(network, [A6, A], [B6, B])
    signal(network, one, other)
    start(network)
    assert network.run(2.0, lambda: completed(one, other))
    agree(one, other)
    assert one.machine.selected_path == Path(A6, B6)


def test_families_are_not_mixed() -> None:
    network = IceNetwork()
    one, other = pair(network, [A6], [B])
    signal(network, one, other)
    start(network)
    network.run(60.0)
    assert failure(one) == failure(other) == IceFailureReason.NO_CANDIDATE_PAIR.name
    assert one.sent == []


def test_the_second_best_path_does_if_the_best_is_blocked() -> None:
    network = IceNetwork()
    network.filter = lambda sender, data, path: None if path.local.is_ipv6 else data
    one, other = pair(network, [A6, A], [B6, B])
    signal(network, one, other)
    start(network)
    assert network.run(5.0, lambda: completed(one, other))
    agree(one, other)
    assert one.machine.selected_path == Path(A, B)
    assert network.now - START < 0.5


def test_a_flood_is_refused_unread_and_the_peer_is_heard_through_it() -> None:
    agent = full("one", controlling=False)
    agent.set_remote_credentials(credentials("other"), 0.0)
    agent.start(0.0)
    username = f"{agent.credentials.ufrag}:{credentials('other').ufrag}"

    def checked(number: int, key: bytes, now: float) -> int:
        """Return how many datagrams a check makes the agent send."""
        attributes = (Username(username), IceControlling(1), Priority(1))
        identifier = TransactionId(number.to_bytes(12, "big"))
        message = Message(MessageClass.REQUEST, Method.BINDING, identifier, attributes)
        agent.handle_datagram(message.sign(key), Path(A, B), now)
        return len(agent.drain_transmits())

    assert sum(checked(number, b"wrong", 0.5) for number in range(200)) == MAX_REFUSED
    assert agent.counters["ice.dropped_flood"] == 200 - MAX_REFUSED
    assert checked(300, short_term_key(agent.credentials.password), 0.6) == 1
    assert checked(301, b"wrong", 1.6) == 1  # in another second it is answered again


def test_candidates_may_trickle_in_late_and_on_one_side_only() -> None:
    network = IceNetwork()
    one, other = pair(network, [A], [B])
    signal(network, one, other, candidates=False)
    start(network)
    network.run(3.0)
    assert not one.sent
    assert not other.sent
    other.machine.add_remote_candidate(Candidate.host_candidate(A), network.now)
    assert network.run(1.0, lambda: completed(one, other))
    agree(one, other)
    assert one.machine.pairs[0].remote.type.value == "prflx"
    one.machine.add_remote_candidate(Candidate.host_candidate(B), network.now)
    assert one.machine.pairs[0].remote.type.value == "host"


def test_checks_that_come_before_the_answer_are_answered_and_remembered() -> None:
    network = IceNetwork()
    one, other = pair(network, [A], [B])
    one.machine.set_remote_credentials(other.machine.credentials, network.now)
    one.machine.add_remote_candidate(Candidate.host_candidate(B), network.now)
    start(network)
    assert network.run(1.0, lambda: one.machine.state is IceState.COMPLETED)
    assert other.machine.selected_path is None
    other.machine.set_remote_credentials(one.machine.credentials, network.now)
    assert network.run(1.0, lambda: completed(one, other))
    agree(one, other)


def test_the_mapped_address_shows_the_nat() -> None:
    network = IceNetwork()
    public = Address("198.51.100.7", 40000)
    one, other = pair(network, [A], [B])
    network.rebind(A, public)
    signal(network, one, other, candidates=False)
    one.machine.add_remote_candidate(Candidate.host_candidate(B), network.now)
    start(network)
    assert network.run(2.0, lambda: completed(one, other))
    assert other.machine.selected_path == Path(B, public)
    assert one.machine.selected_path == Path(A, B)
    assert one.machine.pairs[0].mapped_address == public


@pytest.mark.parametrize("roles", [(True, True), (False, False)])
@pytest.mark.parametrize("seed", range(4))
def test_a_role_conflict_is_settled(roles: tuple[bool, bool], seed: int) -> None:
    network = IceNetwork(seed, jitter=0.02)
    one = network.join(IceAgent(credentials("one"), entropy(f"1{seed}"), controlling=roles[0]), A)
    other = network.join(IceAgent(credentials("other"), entropy(f"2{seed}"), controlling=roles[1]), B)
    signal(network, one, other)
    start(network)
    assert network.run(5.0, lambda: completed(one, other))
    agree(one, other)
    assert one.machine.counters["ice.role_conflict"] + other.machine.counters["ice.role_conflict"] >= 1


@pytest.mark.parametrize("roles", [(True, True), (False, False)])
def test_a_role_conflict_is_settled_when_only_one_side_can_check_first(roles: tuple[bool, bool]) -> None:
    network = IceNetwork()
    one, other = pair(network, [A], [B], roles=roles)
    signal(network, one, other, candidates=False)
    one.machine.add_remote_candidate(Candidate.host_candidate(B), network.now)
    start(network)
    assert network.run(5.0, lambda: completed(one, other))
    agree(one, other)


@given(
    seed=st.integers(0, 10_000),
    loss=st.floats(0, 0.3),
    delay=st.floats(0, 0.5),
    jitter=st.floats(0, 0.3),
    duplicate=st.floats(0, 0.3),
    roles=st.tuples(st.booleans(), st.booleans()),
    both=st.booleans(),
)
@example(34, 0.25, 0.25, 0.03125, 0.0, (True, True), True)
@settings(max_examples=60, deadline=None)
def test_every_network_ends_in_one_path_for_both(
    seed: int, loss: float, delay: float, jitter: float, duplicate: float, roles: tuple[bool, bool], both: bool
) -> None:
    network = IceNetwork(seed, loss=loss, delay=delay, jitter=jitter, duplicate=duplicate)
    one, other = pair(network, [A6, A] if both else [A], [B, B6] if both else [B], roles=roles)
    signal(network, one, other)
    start(network)
    assert network.run(60.0, lambda: completed(one, other)), (one.events, other.events)
    # What the last nomination was is known to both once nothing is under way any more. Where a path loses so much
    # that it is taken for silent, they leave it one after the other.
    network.run(5.0)
    assert network.run(20.0, lambda: on_one_path(one, other))
    agree(one, other)


def test_nobody_there_fails_with_a_reason_and_not_too_early() -> None:
    network = IceNetwork(loss=1.0)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    network.run(39.0)
    assert one.machine.state is IceState.CHECKING
    network.run(1.0)
    assert failure(one) == IceFailureReason.ALL_CHECKS_FAILED.name
    assert one.machine.state is IceState.FAILED
    assert one.machine.poll_timeout() is None
    # Twenty early repetitions, then the schedule of RFC 8489 §6.2.1 until patience ends.
    times = [at - START for at, _, _ in one.sent]
    assert times[:21] == pytest.approx([0.2 * number for number in range(21)])
    assert times[21:] == pytest.approx([4.5, 5.5, 7.5, 11.5, 19.5, 35.5])


def test_an_answer_that_never_comes_fails_with_a_reason() -> None:
    network = IceNetwork()
    one, other = pair(network, [A], [B])
    start(network)
    network.run(60.0)
    assert failure(one) == failure(other) == IceFailureReason.NO_REMOTE_CREDENTIALS.name


def test_consent_keeps_the_path_and_its_loss_ends_it_after_thirty_seconds() -> None:
    network = IceNetwork(seed=3)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    network.run(120.0)
    assert completed(one, other)
    intervals = [later - sooner for sooner, later in itertools.pairwise(_requests(one)[2:])]
    assert len(intervals) > 15
    assert all(4.0 <= interval <= 6.0 + 0.1 for interval in intervals)
    assert len({round(interval, 3) for interval in intervals}) > 5
    cut = network.now
    network.cut()
    network.run(40.0)
    for node in (one, other):
        assert len(node.seen(ConsentExpired)) == 1
        assert 24.0 <= node.time_of(ConsentExpired) - cut <= 30.1
        assert node.machine.selected_path is None
        assert node.machine.poll_timeout() is None


def _refused(code: int, key: bytes | None = None) -> Node:
    """Return an agent that is up, and whose latest consent check was answered with a signed error."""
    network = IceNetwork(seed=3)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    network.run(8.0)
    assert completed(one, other)
    network.cut()
    network.run(8.0)
    asked, path = next(
        (Message.parse(data), path)
        for _, data, path in reversed(one.sent)
        if Message.parse(data).message_class is MessageClass.REQUEST
    )
    response = Message(MessageClass.ERROR_RESPONSE, Method.BINDING, asked.transaction_id, (ErrorCode(code),))
    signed = response.sign(key or short_term_key(other.machine.credentials.password))
    one.machine.handle_datagrams([(signed, path)], network.now)
    one.pump()
    return one


def test_a_peer_that_signs_that_it_has_no_session_ends_it_at_once() -> None:
    one = _refused(404)
    assert failure(one) == IceFailureReason.REFUSED.name
    assert one.machine.selected_path is None
    assert one.machine.poll_timeout() is None


@pytest.mark.parametrize(
    ("code", "key"), [(404, b"another's"), (500, None), (420, None), (401, None), (487, None)]
)
def test_other_errors_to_a_consent_check_end_nothing(code: int, key: bytes | None) -> None:
    one = _refused(code, key)
    assert failure(one) is None
    assert one.machine.selected_path is not None


def _requests(node: Node) -> list[float]:
    return [at for at, data, _ in node.sent if Message.parse(data).message_class is MessageClass.REQUEST]


def test_consent_survives_heavy_loss() -> None:
    network = IceNetwork(seed=5, loss=0.3)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    network.run(600.0)
    assert completed(one, other)


@pytest.mark.parametrize("controlling", [True, False])
def test_a_peer_behind_a_nat_that_forgets_is_found_again(controlling: bool) -> None:
    network = IceNetwork(seed=1)
    one, other = pair(network, [A], [B], roles=(controlling, not controlling))
    network.rebind(A, Address("198.51.100.7", 40000))
    signal(network, one, other, candidates=False)
    one.machine.add_remote_candidate(Candidate.host_candidate(B), network.now)
    start(network)
    assert network.run(10.0, lambda: completed(one, other))
    rebound = Address("198.51.100.7", 41111)
    network.rebind(A, rebound)
    assert network.run(25.0, lambda: other.machine.selected_path == Path(B, rebound))
    network.run(120.0)
    assert one.machine.selected_path == Path(A, B)
    assert other.machine.selected_path == Path(B, rebound)
    assert not one.seen(ConsentExpired)
    assert not other.seen(ConsentExpired)


def rebinding(path_silence_timeout: float) -> tuple[IceNetwork, Node, Node]:
    """We control and are at A; the peer is at B behind a NAT that shows it as 198.51.100.7:40000."""
    network = IceNetwork(seed=2)
    one = network.join(
        full("one", controlling=True, settings=IceSettings(path_silence_timeout=path_silence_timeout)), A
    )
    other = network.join(full("other", controlling=False), B)
    network.rebind(B, Address("198.51.100.7", 40000))
    signal(network, one, other, candidates=False)
    other.machine.add_remote_candidate(Candidate.host_candidate(A), network.now)
    start(network)
    assert network.run(10.0, lambda: completed(one, other))
    return network, one, other


def test_after_silence_the_first_check_from_a_new_address_is_enough() -> None:
    network, one, _ = rebinding(path_silence_timeout=3.5)
    network.filter = lambda sender, data, path: None
    network.run(6.5)
    rebound = Address("198.51.100.7", 41111)
    network.rebind(B, rebound)
    network.filter = None
    assert network.run(2.0, lambda: one.machine.selected_path == Path(A, rebound))
    assert one.machine.state is IceState.COMPLETED


def test_a_path_without_consent_gives_way_to_one_that_is_alive() -> None:
    network, one, other = rebinding(path_silence_timeout=1000.0)
    rebound = Address("198.51.100.7", 41111)
    network.rebind(B, rebound)
    network.run(20.0)
    assert one.machine.selected_path == Path(A, Address("198.51.100.7", 40000))
    network.run(15.0)
    assert one.machine.selected_path == Path(A, rebound)
    assert one.machine.state is IceState.COMPLETED
    network.run(100.0)
    assert completed(one, other)
    assert not one.seen(ConsentExpired)


def test_restart_keeps_the_old_path_until_the_new_one_is_nominated() -> None:
    network = IceNetwork(delay=0.05)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    assert network.run(5.0, lambda: completed(one, other))
    network.run(7.0)
    before = one.machine.selected_path
    one.machine.restart(credentials("one again"), network.now)
    network.run(12.0)
    # The offer is on its way: data and consent go on as before.
    assert one.machine.selected_path == before
    assert other.machine.state is IceState.COMPLETED
    other.machine.restart(credentials("other again"), network.now)
    signal(network, one, other)
    assert one.machine.state is IceState.CONNECTED
    assert network.run(5.0, lambda: completed(one, other))
    agree(one, other)
    assert one.machine.selected_path == before
    network.run(60.0)
    assert completed(one, other)


def test_restart_moves_to_another_path() -> None:
    network = IceNetwork()
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    assert network.run(5.0, lambda: completed(one, other))
    for node, address in ((one, A6), (other, B6)):
        node.machine.restart(credentials(f"again {address}"), network.now)
        network.add_address(node, address)
        node.machine.add_local_candidate(Candidate.host_candidate(address, 65535), network.now)
    network.filter = lambda sender, data, path: data if path.local.is_ipv6 else None
    signal(network, one, other)
    assert network.run(5.0, lambda: completed(one, other))
    assert one.machine.selected_path == Path(A6, B6)


def test_a_failed_agent_recovers_by_a_restart() -> None:
    network = IceNetwork(loss=1.0)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    network.run(60.0)
    assert failure(one)
    assert failure(other)
    network.set_default(unordered(0.005))
    for node, name in ((one, "c"), (other, "d")):
        node.machine.restart(credentials(name), network.now)
        node.ending.begin_anew()
    signal(network, one, other)
    assert network.run(5.0, lambda: completed(one, other))


def _restarting_when_consent_expires() -> tuple[IceNetwork, Node, Node]:
    """The old path died 28 s before both sides restart; its consent expires while the answer is on its way."""
    network = IceNetwork()
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    assert network.run(5.0, lambda: completed(one, other))
    network.cut()
    network.run(28.0)
    for node, name in ((one, "one again"), (other, "other again")):
        node.command(lambda machine, now, name=name: machine.restart(credentials(name), now))
    network.run(8.0)
    return network, one, other


def test_a_restart_goes_on_when_the_consent_of_the_old_path_expires() -> None:
    network, one, other = _restarting_when_consent_expires()
    for node in (one, other):
        assert node.machine.state is IceState.DISCONNECTED
        assert node.machine.selected_path is None
        assert node.seen(ConsentLost) == [ConsentLost(Path(A, B) if node is one else Path(B, A))]
    network.set_default(unordered(0.005))
    signal(network, one, other)
    for node in (one, other):
        node.pump()
    assert network.run(5.0, lambda: completed(one, other))
    agree(one, other)
    assert not one.seen(ConsentExpired)


def test_a_restart_that_finds_no_path_fails_with_a_reason() -> None:
    network, one, other = _restarting_when_consent_expires()
    signal(network, one, other)
    network.run(60.0)
    for node in (one, other):
        assert node.machine.state is IceState.FAILED
        assert failure(node) == IceFailureReason.ALL_CHECKS_FAILED.name
        assert not node.seen(ConsentExpired)


@pytest.mark.parametrize("lite", [True, False], ids=["lite", "full"])
def test_a_restart_whose_answer_is_lost_may_be_repeated(lite: bool) -> None:
    """The peer has heard of none of them: its checks have the credentials from before the first one."""
    network = IceNetwork()
    one = network.join(full("one", controlling=True), A)
    server = LiteAgent(credentials("other"), entropy=entropy("lite")) if lite else full("other", controlling=False)
    other = network.join(server, B)
    signal(network, one, other)
    start(network)
    assert network.run(5.0, lambda: one.machine.state is IceState.COMPLETED)
    for name in ("lost", "lost again"):
        other.command(lambda machine, now, name=name: machine.restart(credentials(name), now))
        network.run(40.0)
        assert one.machine.state is IceState.COMPLETED
        assert other.machine.selected_path == Path(B, A)
    assert other.machine.counters["ice.dropped_wrong_username"] == 0
    one.command(lambda machine, now: machine.restart(credentials("one again"), now))
    signal(network, one, other)
    assert network.run(5.0, lambda: completed(one, other))
    old = Username(f"{credentials('other').ufrag}:{credentials('one').ufrag}")
    check = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(b"x" * 12), (old, Priority(1)))
    other.machine.handle_datagram(
        check.sign(short_term_key(credentials("other").password)), Path(B, A), network.now
    )
    assert other.machine.counters["ice.dropped_wrong_username"] == 1  # they count no more


def test_the_latest_of_two_nominations_wins_whichever_answer_comes_first() -> None:
    network = IceNetwork(delay=0.02)
    one, other = pair(network, [A, A6], [B, B6])
    network.filter = lambda sender, data, path: data if path.local.is_ipv6 else None
    signal(network, one, other)
    start(network)
    assert network.run(5.0, lambda: completed(one, other))
    network.run(60.0)
    network.filter = None
    one.command(lambda machine, now: machine.note_failed(A6, B6, now))  # the other pair is checked again
    network.run(1.0)
    assert isinstance(one.machine, IceAgent)
    assert all(each.state is PairState.SUCCEEDED for each in one.machine.pairs)
    second = one.machine.selected_path
    (first,) = (each.path for each in one.machine.pairs if each.path != second)
    held = []

    def hold(sender: Node, data: bytes, path: Path) -> bytes | None:  # the response to the first nomination
        if sender is other and path.local == first.remote and not held and data[:1] == b"\x01":
            held.append((data, path))
            return None
        return data

    network.filter = hold
    one.command(lambda machine, now: machine.renominate(first, now))
    network.run(0.06)
    one.command(lambda machine, now: machine.renominate(second, now))
    network.run(0.08)
    assert other.machine.selected_path == Path(second.remote, second.local)
    network.carry(other, *held[0])
    network.run(0.1)
    assert one.machine.selected_path == second
    agree(one, other)


def test_more_local_candidates_than_are_kept_are_counted() -> None:
    agent = full("one", controlling=True)
    for number in range(MAX_LOCAL_CANDIDATES + 3):
        agent.add_local_candidate(Candidate.relayed(Address("192.0.2.1", 40_000 + number), A, B), 0.0)
    assert len(agent.local_candidates) == MAX_LOCAL_CANDIDATES
    assert agent.counters["ice.dropped_local_candidate_too_many"] == 3


@pytest.mark.parametrize(
    "host", ["255.255.255.255", "224.0.0.251", "0.0.0.0", "::", "ff02::fb", "::ffff:10.0.0.2", "::ffff:0:0"]
)
def test_no_check_goes_to_what_is_no_address_of_one_host(host: str) -> None:
    agent = full("one", controlling=True)
    for address in (A, A6):
        agent.add_local_candidate(Candidate.host_candidate(address), 0.0)
    agent.set_remote_credentials(credentials("other"), 0.0)
    agent.start(0.0)
    agent.add_remote_candidate(Candidate.parse(f"candidate:1 1 udp 1 {host} 5353 typ host"), 0.0)
    assert not agent.pairs
    assert agent.drain_transmits() == []
    assert agent.counters["ice.dropped_remote_candidate_not_unicast"] == 1


def test_checks_are_paced() -> None:
    network = IceNetwork(loss=1.0)
    one = network.join(full("one", controlling=True), A)
    one.machine.set_remote_credentials(credentials("other"), network.now)
    for port in range(6000, 6010):
        one.machine.add_remote_candidate(Candidate.host_candidate(Address("10.0.0.2", port)), network.now)
    one.machine.start(network.now)
    one.pump()
    assert len(one.sent) == 1
    network.run(0.449)
    first_ten = [at for at, _, _ in one.sent][:10]
    assert all(later - sooner >= 0.05 - 1e-9 for sooner, later in itertools.pairwise(first_ten))


def test_hundreds_of_candidates_and_sources_fill_nothing() -> None:
    network = IceNetwork()
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    for port in range(1, 1000):
        one.machine.add_remote_candidate(Candidate.host_candidate(Address("10.9.9.9", port)), network.now)
    assert one.machine.counters["ice.dropped_remote_candidate_too_many"] > 900
    network.run(0.3)
    # The peer knows the password and still must not make the list grow.
    for port in range(1000, 3000):
        message = Message(MessageClass.REQUEST, Method.BINDING, port.to_bytes(12, "big"), ())
        data = _signed_check(one, other, message)
        one.machine.handle_datagram(data, Path(A, Address("10.8.8.8", port)), network.now)
    assert len(one.machine.pairs) <= 100
    assert network.run(5.0, lambda: completed(one, other))


def _signed_check(receiver: Node, sender: Node, message: Message) -> bytes:
    ours, theirs = receiver.machine.credentials, sender.machine.credentials
    message = message.with_attributes(Username(f"{ours.ufrag}:{theirs.ufrag}"), Priority(1), IceControlled(0))
    return message.sign(short_term_key(ours.password))


def test_candidates_that_cannot_be_used_are_counted() -> None:
    agent = full("one", controlling=True)
    agent.add_local_candidate(Candidate.host_candidate(A), 0.0)
    for text in (
        "candidate:1 1 udp 2113937151 77e51b28-eed0-4e8f-9f87-69f2a9a3d9e3.local 42876 typ host",
        "candidate:2 1 tcp 1518280447 127.0.0.1 9 typ host",
        "candidate:2 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active",
        "candidate:0 2 UDP 2122187006 127.0.0.1 36992 typ host",
        "candidate:0 1 UDP 2122187006 127.0.0.1 0 typ host",
        "candidate:0 1 UDP 2122187006 127.0.0.1 1 typ host",
        "candidate:0 1 UDP 2122187006 127.0.0.1 1 typ host",
    ):
        agent.add_remote_candidate(Candidate.parse(text), 0.0)
    assert agent.counters.snapshot() == {
        "ice.dropped_remote_candidate_name": 1,
        "ice.dropped_remote_candidate_no_port": 1,
        "ice.dropped_remote_candidate_no_tcp_type": 1,
        "ice.dropped_remote_candidate_other_component": 1,
        "ice.dropped_remote_candidate_repeated": 1,
    }
    assert len(agent.pairs) == 1


def test_an_unsigned_error_makes_nothing_fail() -> None:
    network = IceNetwork(delay=0.02)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    request = Message.parse(one.sent[0][1])
    forged = request.respond(MessageClass.ERROR_RESPONSE, ErrorCode(400)).serialize_with_fingerprint()
    one.machine.handle_datagram(forged, Path(A, B), network.now)
    assert one.machine.counters["ice.dropped_wrong_response_integrity"] == 1
    assert network.run(1.0, lambda: completed(one, other))


def test_an_answer_from_elsewhere_does_not_count() -> None:
    network = IceNetwork(delay=0.02)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    other.machine.handle_datagram(one.sent[0][1], Path(B, A), network.now)
    answer = other.machine.drain_transmits()[0]
    one.machine.handle_datagram(answer.data, Path(A, Address("10.6.6.6", 6)), network.now)
    assert one.machine.counters["ice.dropped_asymmetric_response"] == 1
    assert not one.machine.selected_path


def test_commands_out_of_order_are_the_callers_fault() -> None:
    agent = full("one", controlling=True)
    with pytest.raises(LocalError):
        agent.restart(credentials("x"), 0.0)
    agent.start(0.0)
    with pytest.raises(LocalError):
        agent.start(0.0)
    agent.close(0.0)
    with pytest.raises(LocalError):
        agent.restart(credentials("x"), 0.0)
    with pytest.raises(LocalError):
        full("two", controlling=True).add_local_candidate(
            Candidate.parse("candidate:1 1 udp 1 x.local 1 typ host"), 0.0
        )
    agent.handle_datagram(b"", Path(A, B), 0.0)
    assert agent.counters["ice.dropped_closed"] == 1


@given(
    st.lists(st.tuples(st.sampled_from(["random", "mutated", "replayed"]), st.binary(max_size=80)), max_size=25)
)
@settings(max_examples=60, deadline=None)
def test_hostile_bytes_never_raise_and_never_hurt(inputs: list[tuple[str, bytes]]) -> None:
    network = IceNetwork(seed=9)
    one, other = pair(network, [A], [B])
    signal(network, one, other)
    start(network)
    network.run(0.2)
    pool = [data for node in (one, other) for _, data, _ in node.sent]
    for kind, noise in inputs:
        data = noise
        if kind != "random" and noise:
            valid = bytearray(pool[noise[0] % len(pool)])
            if kind == "mutated":
                for position, value in zip(noise[::2], noise[1::2], strict=False):
                    valid[position % len(valid)] ^= value
            data = bytes(valid)
        one.machine.handle_datagram(data, Path(A, Address("10.66.6.6", 666)), network.now)
        one.pump()
    assert one.machine.selected_path == Path(A, B)
    network.run(20.0)
    assert completed(one, other)
    agree(one, other)


def test_a_nomination_that_is_refused_goes_to_the_next_pair() -> None:
    network = IceNetwork()
    one, other = pair(network, [A6, A], [B6, B])
    signal(network, one, other)
    start(network)

    def eats_nominations(sender: Node, data: bytes, path: Path) -> bytes | None:
        return None if path.local == A6 and _nominating(data) else data

    network.filter = eats_nominations
    assert network.run(60.0, lambda: completed(one, other))
    assert one.machine.selected_path == Path(A, B)


def _nominating(data: bytes) -> bool:
    return Message.parse(data).get(UseCandidate) is not None


def test_what_is_attached_travels_and_what_is_too_long_does_not() -> None:
    class Rider:
        def __init__(self, size: int) -> None:
            self.size = size
            self.heard: list[MessageClass] = []

        def receive(self, message: Message, path: Path, now: float) -> bool:
            if message.get(Software):
                self.heard.append(message.message_class)
            return False

        def attach(self, message: Message, max_size: int) -> tuple[Software, ...]:
            assert 900 < max_size < 1200
            return (Software("x" * self.size),)

    for size, travels in ((700, True), (763, True), (1190, False)):
        riders = Rider(size), Rider(size)
        network = IceNetwork()
        one = network.join(IceAgent(credentials("a"), entropy(1), controlling=True, piggyback=riders[0]), A)
        other = network.join(IceAgent(credentials("b"), entropy(2), controlling=False, piggyback=riders[1]), B)
        signal(network, one, other)
        start(network)
        assert network.run(1.0, lambda one=one, other=other: completed(one, other))
        assert all(len(data) <= 1200 for _, data, _ in one.sent)
        for rider in riders:
            assert bool(rider.heard) is travels
        if travels:
            assert {MessageClass.REQUEST, MessageClass.SUCCESS_RESPONSE} == set(riders[0].heard)


def test_a_response_and_the_next_check_wait_for_the_owner_of_the_piggyback() -> None:
    class Rider:
        def __init__(self) -> None:
            self.said = "nothing"

        def receive(self, message: Message, path: Path, now: float) -> bool:
            return True

        def attach(self, message: Message, max_size: int) -> tuple[Software, ...]:
            return (Software(self.said),)

    riders = Rider(), Rider()
    made = [
        IceAgent(credentials(name), entropy(seed), controlling=name == "a", piggyback=rider)
        for name, seed, rider in (("a", 1, riders[0]), ("b", 2, riders[1]))
    ]
    for agent, base, peer, remote in ((made[0], A, "b", B), (made[1], B, "a", A)):
        agent.add_local_candidate(Candidate.host_candidate(base), 0.0)
        agent.set_remote_credentials(credentials(peer), 0.0)
        agent.add_remote_candidate(Candidate.host_candidate(remote), 0.0)
    made[0].start(0.0)
    (check,) = made[0].drain_transmits()
    made[1].handle_datagram(check.data, Path(B, A), 0.1)
    assert made[1].drain_transmits() == []
    riders[1].said = "answer"
    made[1].start(0.1)
    made[1].release(0.1)
    sent = [(Message.parse(each.data), each.data) for each in made[1].drain_transmits()]
    assert all(message.get(Software) == Software("answer") for message, _ in sent)
    (response,) = (data for message, data in sent if message.message_class is MessageClass.SUCCESS_RESPONSE)
    made[0].handle_datagram(response, Path(A, B), 0.2)
    assert [type(event) for event in made[0].drain_events()][:1] == [PathValidated]
    assert made[0].drain_transmits() == []
    riders[0].said = "last"
    made[0].release(0.3)
    (nominating,) = made[0].drain_transmits()
    assert Message.parse(nominating.data).get(Software) == Software("last")


def test_settings_are_taken() -> None:
    network = IceNetwork(loss=1.0)
    one = network.join(
        full("one", controlling=True, settings=IceSettings(pac_timeout=2.0, rto=0.1, repeat_interval=9.0)), A
    )
    one.machine.set_remote_credentials(credentials("other"), network.now)
    one.machine.add_remote_candidate(Candidate.host_candidate(B), network.now)
    start(network)
    network.run(3.0)
    assert [round(at - START, 3) for at, _, _ in one.sent] == [0.0, 0.1, 0.3, 0.7, 1.5]
    assert failure(one) == IceFailureReason.ALL_CHECKS_FAILED.name
