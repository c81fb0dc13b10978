"""The checklist: order, freezing, triggered checks, bounds."""

from __future__ import annotations

from stack.core.machine import Address, Path
from stack.ice import Candidate, CandidatePair, PairState, TcpType
from stack.ice.checklist import MAX_PAIRS, MAX_REPEATS, MAX_TRIGGERED_IN_A_ROW, Checklist, can_pair
from stack.ice.pair import compute_pair_priority

LOCAL = Candidate.host_candidate(Address("10.0.0.1", 1))


def remote(host: str, port: int = 9, preference: int = 65535) -> Candidate:
    return Candidate.host_candidate(Address(host, port), preference)


def add(checklist: Checklist, candidate: Candidate) -> CandidatePair:
    pair = checklist.add(LOCAL, candidate)
    assert pair is not None
    return pair


def test_the_pair_priority_of_the_specification() -> None:
    # RFC 8445 §6.1.2.3
    assert compute_pair_priority(10, 20) == 2**32 * 10 + 2 * 20
    assert compute_pair_priority(20, 10) == 2**32 * 10 + 2 * 20 + 1


def test_best_first_whatever_the_order_of_arrival() -> None:
    checklist = Checklist(controlling=True)
    low, high = add(checklist, remote("10.0.0.2", preference=1)), add(checklist, remote("10.0.0.3", preference=2))
    assert list(checklist.pairs) == [high, low]
    assert checklist.next_check() is high
    assert checklist.find(Path(LOCAL.address, Address("10.0.0.2", 9))) is low


def test_only_the_first_of_a_foundation_waits_until_it_has_succeeded() -> None:
    checklist = Checklist(controlling=True)
    first, second = add(checklist, remote("10.0.0.2", 1)), add(checklist, remote("10.0.0.2", 2))
    assert [first.state, second.state] == [PairState.WAITING, PairState.FROZEN]
    assert checklist.next_check() is first
    first.state = PairState.IN_PROGRESS
    third = add(checklist, remote("10.0.0.3", 1, preference=1))
    assert checklist.next_check() is third
    third.state = PairState.IN_PROGRESS
    assert checklist.next_check() is second  # Nothing better to do.
    checklist.succeeded(first)
    assert second.state is PairState.WAITING
    assert add(checklist, remote("10.0.0.2", 3)).state is PairState.WAITING


def test_a_failure_thaws_the_next_of_its_foundation() -> None:
    checklist = Checklist(controlling=True)
    first, second = add(checklist, remote("10.0.0.2", 1)), add(checklist, remote("10.0.0.2", 2))
    checklist.failed(first)
    assert checklist.next_check() is second


def test_an_unanswered_pair_is_repeated_in_turn_and_not_for_ever() -> None:
    checklist = Checklist(controlling=True)
    one, other = add(checklist, remote("10.0.0.2", preference=9)), add(checklist, remote("10.0.0.3", preference=1))
    assert checklist.next_repeat() is None
    one.state = other.state = PairState.IN_PROGRESS
    one.last_check_at, other.last_check_at = 2.0, 1.0
    assert checklist.next_repeat() is other
    other.last_check_at = 3.0
    assert checklist.next_repeat() is one
    one.repeats = other.repeats = MAX_REPEATS
    assert checklist.next_repeat() is None
    checklist.failed(one)
    checklist.trigger(one)
    one.state = PairState.IN_PROGRESS
    assert checklist.next_repeat() is one


def test_triggered_checks_come_first_and_once() -> None:
    checklist = Checklist(controlling=True)
    best, other = (
        add(checklist, remote("10.0.0.2", preference=9)),
        add(checklist, remote("10.0.0.3", preference=1)),
    )
    checklist.trigger(other)
    checklist.trigger(other)
    assert checklist.next_check() is other
    other.state = PairState.IN_PROGRESS
    assert checklist.next_check() is best


def test_pairs_are_made_of_what_fits_and_once() -> None:
    checklist = Checklist(controlling=True)
    assert checklist.add(LOCAL, remote("2001:db8::1")) is None
    add(checklist, remote("10.0.0.2"))
    assert checklist.add(LOCAL, remote("10.0.0.2")) is None
    assert len(checklist) == 1
    assert not can_pair(remote("fe80::1"), remote("2001:db8::1"))
    assert can_pair(remote("fe80::1"), remote("fe80::2"))


def test_a_full_list_lets_go_of_what_is_worth_least() -> None:
    checklist = Checklist(controlling=True)
    pairs = [add(checklist, remote("10.0.0.2", port)) for port in range(1, MAX_PAIRS + 1)]
    for number, pair in enumerate(pairs):
        checklist.succeeded(pair)
        pair.last_received = float(number)
    newest = checklist.add(LOCAL, remote("10.0.0.3"), keep=(pairs[0],))
    assert newest is not None
    assert len(checklist) == MAX_PAIRS
    assert pairs[0] in checklist.pairs
    assert pairs[1] not in checklist.pairs
    for pair in checklist.pairs:
        pair.state = PairState.IN_PROGRESS
    assert checklist.add(LOCAL, remote("10.0.0.4")) is None


def test_a_switch_of_roles_reorders() -> None:
    checklist = Checklist(controlling=True)
    pair = add(checklist, remote("10.0.0.2", preference=1))
    before = pair.priority
    checklist.set_role(False)
    assert pair.priority == before - 1


def test_the_freshest_is_the_one_heard_last() -> None:
    checklist = Checklist(controlling=True)
    one, other = add(checklist, remote("10.0.0.2", preference=9)), add(checklist, remote("10.0.0.3", preference=1))
    assert checklist.latest_valid() is None
    for pair, heard in ((one, 1.0), (other, 2.0)):
        checklist.succeeded(pair)
        pair.last_received = heard
    assert checklist.latest_valid() is other
    assert checklist.best_valid() is one
    assert not checklist.may_improve_on(one)


def test_endless_triggered_checks_leave_a_turn_to_others() -> None:
    checklist = Checklist(controlling=True)
    waiting = add(checklist, remote("10.0.0.2", preference=1))
    busy = add(checklist, remote("10.0.0.3", preference=9))
    taken = []
    for _ in range(MAX_TRIGGERED_IN_A_ROW + 2):
        busy.state = PairState.IN_PROGRESS
        checklist.trigger(busy)
        taken.append(checklist.next_check())
    assert taken.index(waiting) == MAX_TRIGGERED_IN_A_ROW
    assert taken.count(busy) == MAX_TRIGGERED_IN_A_ROW + 1


def test_tcp_pairs_are_of_one_side_that_connects_and_are_not_repeated_early() -> None:
    address = Address("10.0.0.1", 5000)
    active, passive = (Candidate.tcp_candidate(kind, address) for kind in (TcpType.ACTIVE, TcpType.PASSIVE))
    assert can_pair(active, passive)
    assert can_pair(passive, active)
    assert not can_pair(active, active)
    assert not can_pair(active, LOCAL)
    checklist = Checklist(controlling=True)
    pair = checklist.add(active, passive)
    assert pair is not None
    pair.state = PairState.IN_PROGRESS
    assert checklist.next_repeat() is None


def test_a_reflexive_candidate_makes_no_pair_beside_its_bases() -> None:
    checklist, peer = Checklist(controlling=True), remote("10.0.0.2")
    add(checklist, peer)
    reflexive = Candidate.server_reflexive(
        Address("203.0.113.1", 7), LOCAL.address, Address("192.0.2.1", 3478)
    )  # RFC 8445 §6.1.2.4
    assert checklist.add(reflexive, peer) is None
